/* test/fabric/test_ring.c - laps, waking, sudden death. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, eventfd */
#include "fabric/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RING_BYTES 4096u
#define RECORD_BYTES_MAX 700u

static struct pl_ring *ring;

static int make_ring(void **state) {
  (void)state;
  ring = mmap(NULL, pl__ring_section_bytes(RING_BYTES), PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return ring == MAP_FAILED ? -1 : pl__ring_init(ring, RING_BYTES);
}

static int free_ring(void **state) {
  (void)state;
  return munmap(ring, pl__ring_section_bytes(RING_BYTES));
}

/* Pushes a record whose length and bytes all follow from its number. */
static bool push_number(struct pl_ring_writer *w, uint64_t number) {
  uint32_t bytes = (uint32_t)(8 + number * 37 % (RECORD_BYTES_MAX - 8));
  char *at = pl__ring_reserve(w, bytes, RING_BYTES);
  if (!at)
    return false;
  memcpy(at, &number, 8);
  memset(at + 8, (int)(number & 255), bytes - 8);
  pl__ring_push(w, bytes);
  return true;
}

/* The number of the record, or UINT64_MAX when a byte of it is wrong. */
static uint64_t number_of(const char *at, uint32_t bytes) {
  uint64_t number;
  memcpy(&number, at, 8);
  if (bytes != 8 + number * 37 % (RECORD_BYTES_MAX - 8))
    return UINT64_MAX;
  for (uint32_t i = 8; i < bytes; i++)
    if ((unsigned char)at[i] != (number & 255))
      return UINT64_MAX;
  return number;
}

/* The number of the next record. */
static uint64_t peek_number(struct pl_ring_reader *r) {
  uint32_t bytes;
  const void *at = pl__ring_peek(r, &bytes);
  assert_non_null(at);
  return number_of(at, bytes);
}

static void gives_records_in_order_over_many_laps(void **state) {
  (void)state;
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  uint64_t pushed = 0, read = 0;
  uint32_t bytes;
  const void *at;
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  while (read < 10000) {
    while (pushed < 10000 && push_number(&w, pushed))
      pushed++;
    pl__ring_publish(&w);
    for (int i = 0; i < 3 && (at = pl__ring_peek(&r, &bytes)); i++) {
      assert_int_equal((uintptr_t)at % 8, 0);
      assert_int_equal(number_of(at, bytes), read);
      read++;
      pl__ring_next(&r);
    }
    pl__ring_release(&r);
  }
  assert_null(pl__ring_peek(&r, &bytes));
  assert_int_equal(pl__ring_fill(ring), 0);
  assert_int_equal(ring->broken_count, 0);
}

static void shows_nothing_before_it_is_published(void **state) {
  (void)state;
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  uint32_t bytes;
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  assert_true(push_number(&w, 1));
  assert_true(push_number(&w, 2));
  assert_null(pl__ring_peek(&r, &bytes));
  pl__ring_publish(&w);
  assert_int_equal(peek_number(&r), 1);
  pl__ring_next(&r);
  assert_int_equal(peek_number(&r), 2);
}

static void a_reserved_record_may_become_shorter(void **state) {
  (void)state;
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  uint32_t bytes;
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  for (int i = 0; i < 100; i++) {
    memcpy(pl__ring_reserve(&w, 1000, RING_BYTES), "abcdefghij", 10);
    pl__ring_push(&w, (uint32_t)i % 11);
    pl__ring_publish(&w);
    const char *at = pl__ring_peek(&r, &bytes);
    assert_non_null(at);
    assert_int_equal(bytes, i % 11);
    assert_memory_equal(at, "abcdefghij", bytes);
    pl__ring_next(&r);
    pl__ring_release(&r);
  }
}

static void has_no_room_past_the_given_fill(void **state) {
  (void)state;
  struct pl_ring_writer w;
  pl__ring_writer_init(&w, ring, -1);
  int count = 0;
  while (pl__ring_reserve(&w, 56, RING_BYTES / 2)) {
    pl__ring_push(&w, 56);
    count++;
  }
  assert_int_equal(count, RING_BYTES / 2 / 64);
  while (pl__ring_reserve(&w, 56, RING_BYTES)) {
    pl__ring_push(&w, 56);
    count++;
  }
  assert_int_equal(count, RING_BYTES / 64);
  assert_null(pl__ring_reserve(&w, 0, RING_BYTES));
  assert_null(pl__ring_reserve(&w, UINT32_MAX, UINT64_MAX));
}

static void
a_full_ring_publishes_so_that_the_reader_can_make_room(void **state) {
  (void)state;
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  uint32_t bytes;
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  uint64_t pushed = 0;
  while (push_number(&w, pushed))
    pushed++;
  assert_non_null(pl__ring_peek(&r, &bytes)); /* though nobody published */
}

static void unreleased_records_come_again_for_the_next_reader(void **state) {
  (void)state;
  struct pl_ring_writer w;
  struct pl_ring_reader r, next;
  uint32_t bytes;
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  for (uint64_t i = 0; i < 4; i++)
    assert_true(push_number(&w, i));
  pl__ring_publish(&w);
  pl__ring_peek(&r, &bytes);
  pl__ring_next(&r);
  pl__ring_release(&r);
  pl__ring_peek(&r, &bytes);
  pl__ring_next(&r);
  pl__ring_reader_init(&next, ring);
  assert_int_equal(peek_number(&next), 1);
  pl__ring_rewind(&r);
  assert_int_equal(peek_number(&r), 1);
}

static void a_new_writer_forgets_what_was_not_published(void **state) {
  (void)state;
  struct pl_ring_writer w, next;
  struct pl_ring_reader r;
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  push_number(&w, 1);
  pl__ring_publish(&w);
  push_number(&w, 2);
  pl__ring_writer_init(&next, ring, -1);
  push_number(&next, 3);
  pl__ring_publish(&next);
  assert_int_equal(peek_number(&r), 1);
  pl__ring_next(&r);
  assert_int_equal(peek_number(&r), 3);
}

static void counts_drops_and_tells_them_once(void **state) {
  (void)state;
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  for (int i = 0; i < 5; i++)
    pl__ring_drop(&w, 1);
  pl__ring_drop(&w, 3);
  assert_int_equal(pl__ring_drops(&r, 0), 0);
  assert_int_equal(pl__ring_drops(&r, 1), 5);
  assert_int_equal(pl__ring_drops(&r, 3), 1);
  pl__ring_drops_tell(&r, 1, 5);
  pl__ring_drop(&w, 1);
  pl__ring_reader_init(&r, ring);
  assert_int_equal(pl__ring_drops(&r, 1), 1);
}

static void skips_contents_that_make_no_sense(void **state) {
  (void)state;
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  uint32_t bytes, seed = 1;
  for (int i = 0; i < 2000; i++) {
    pl__ring_writer_init(&w, ring, -1);
    pl__ring_reader_init(&r, ring);
    for (uint32_t j = 0; j < RING_BYTES; j += 4) {
      seed = seed * 1664525u + 1013904223u;
      uint32_t word = seed >> 8 & (i % 2 ? 0x1ff : 0xffffff);
      memcpy(ring->data + j, &word, 4);
    }
    uint64_t head = atomic_load(&ring->head);
    atomic_store(&ring->tail, head + (seed >> 4) % (2 * RING_BYTES));
    while (pl__ring_peek(&r, &bytes)) {
      assert_true(bytes <= RING_BYTES);
      pl__ring_next(&r);
    }
    assert_true(r.head == ((atomic_load(&ring->tail) + 7) & ~7ull));
    pl__ring_release(&r);
  }
  assert_true(ring->broken_count > 1000);
  /* and it is as good as new */
  pl__ring_writer_init(&w, ring, -1);
  pl__ring_reader_init(&r, ring);
  assert_true(push_number(&w, 9));
  pl__ring_publish(&w);
  assert_int_equal(peek_number(&r), 9);
}

static bool is_woken(int fd) {
  uint64_t value;
  return read(fd, &value, sizeof value) == (ssize_t)sizeof value;
}

static void wakes_a_sleeping_reader_once_and_only_when_it_wants(void **state) {
  (void)state;
  int fd = eventfd(0, EFD_NONBLOCK);
  struct pl_ring_writer w;
  struct pl_ring_reader r;
  pl__ring_writer_init(&w, ring, fd);
  pl__ring_reader_init(&r, ring);
  push_number(&w, 1);
  pl__ring_publish(&w);
  pl__ring_wake(&w);
  assert_false(is_woken(fd));          /* it is awake */
  assert_false(pl__ring_sleep(&r, 1)); /* there is something */
  assert_true(pl__ring_sleep(&r, 100));
  pl__ring_wake(&w);
  assert_false(is_woken(fd)); /* not enough for it */
  for (uint64_t i = 2; i < 6; i++)
    push_number(&w, i);
  pl__ring_publish(&w);
  pl__ring_wake(&w);
  assert_true(is_woken(fd));
  pl__ring_wake(&w);
  assert_false(is_woken(fd)); /* one system call a sleep */
  pl__ring_awake(&r);
  pl__ring_wake(&w);
  assert_false(is_woken(fd));
  assert_true(pl__ring_sleep(&r, RING_BYTES));
  pl__ring_reader_init(&r, ring); /* another process reads on */
  uint32_t bytes;
  while (pl__ring_peek(&r, &bytes))
    pl__ring_next(&r);
  pl__ring_release(&r);
  assert_true(pl__ring_sleep(&r, 1));
  push_number(&w, 7);
  pl__ring_publish(&w);
  pl__ring_wake(&w);
  assert_true(is_woken(fd));
  close(fd);
}

static void refuses_a_size_that_is_no_power_of_two(void **state) {
  (void)state;
  assert_int_equal(pl__ring_init(ring, 4095), PL_EINVAL);
  assert_int_equal(pl__ring_init(ring, 2048), PL_EINVAL);
  assert_int_equal(pl__ring_init(ring, 1ull << 31), PL_EINVAL);
}

#define THREAD_RECORDS 200000u

static void *write_all(void *arg) {
  struct pl_ring_writer w;
  pl__ring_writer_init(&w, ring, *(int *)arg);
  for (uint64_t i = 0; i < THREAD_RECORDS;) {
    if (push_number(&w, i))
      i++;
    else
      sched_yield();
    if (i % 4 == 0) {
      pl__ring_publish(&w);
      pl__ring_wake(&w);
    }
  }
  pl__ring_publish(&w);
  pl__ring_wake(&w);
  return NULL;
}

/* The reader never waits but for the eventfd: a wake-up that is lost ends this
 * test by its time limit. */
static void two_threads_see_every_record_once_and_in_order(void **state) {
  (void)state;
  int fd = eventfd(0, EFD_NONBLOCK);
  pthread_t writer;
  struct pl_ring_reader r;
  uint64_t read_count = 0;
  uint32_t bytes;
  const void *at;
  pl__ring_reader_init(&r, ring);
  assert_int_equal(pthread_create(&writer, NULL, write_all, &fd), 0);
  while (read_count < THREAD_RECORDS) {
    while ((at = pl__ring_peek(&r, &bytes))) {
      assert_int_equal(number_of(at, bytes), read_count);
      read_count++;
      pl__ring_next(&r);
      pl__ring_release(&r);
    }
    if (read_count < THREAD_RECORDS && pl__ring_sleep(&r, 1)) {
      struct pollfd p = {.fd = fd, .events = POLLIN};
      assert_int_equal(poll(&p, 1, 20000), 1);
      is_woken(fd);
    }
  }
  pthread_join(writer, NULL);
  assert_null(pl__ring_peek(&r, &bytes));
  close(fd);
}

/* Reads all there is; the numbers must go on from *next. */
static void read_on(struct pl_ring_reader *r, uint64_t *next) {
  uint32_t bytes;
  const void *at;
  while ((at = pl__ring_peek(r, &bytes))) {
    assert_int_equal(number_of(at, bytes), *next);
    ++*next;
    pl__ring_next(r);
  }
  pl__ring_release(r);
}

/* What a writer of that kind does until it is killed. */
static void write_for_ever(uint64_t number) {
  struct pl_ring_writer w;
  pl__ring_writer_init(&w, ring, -1);
  for (;;)
    if (push_number(&w, number)) {
      number++;
      if (number % 3 == 0)
        pl__ring_publish(&w);
    }
}

static void a_writer_killed_at_any_point_leaves_whole_records(void **state) {
  (void)state;
  struct pl_ring_reader r;
  uint64_t next = 0;
  pl__ring_reader_init(&r, ring);
  for (int round = 0; round < 100; round++) {
    pid_t child = fork();
    if (child == 0)
      write_for_ever(next);
    struct timespec until, now;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 1000 * (200 + round * 97 % 1500);
    do {
      read_on(&r, &next);
      clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - until.tv_sec) * 1000000000 + now.tv_nsec <
             until.tv_nsec);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    read_on(&r, &next);
    assert_int_equal(pl__ring_fill(ring), 0);
  }
  assert_int_equal(ring->broken_count, 0);
  assert_true(next > 100);
}

/* The reader notes in shared memory what it released last.  It may be killed
 * between the release and the note, so one record's difference is allowed
 * there, none in the records themselves. */
static void a_reader_killed_at_any_point_loses_no_record(void **state) {
  (void)state;
  uint64_t *seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct pl_ring_writer w;
  uint64_t number = 0;
  assert_true(seen != MAP_FAILED);
  pl__ring_writer_init(&w, ring, -1);
  for (int round = 0; round < 100; round++) {
    pid_t child = fork();
    if (child == 0) {
      struct pl_ring_reader r;
      uint32_t bytes;
      pl__ring_reader_init(&r, ring);
      for (;;) {
        const void *at = pl__ring_peek(&r, &bytes);
        if (!at)
          continue;
        uint64_t n = number_of(at, bytes);
        if (n != seen[0] && n != seen[0] + 1) {
          seen[1] = 1;
          _exit(1);
        }
        seen[0] = n;
        pl__ring_next(&r);
        pl__ring_release(&r);
      }
    }
    for (int i = 0; i < 200 + round * 37 % 300; i++) {
      while (!push_number(&w, number))
        sched_yield();
      number++;
      pl__ring_publish(&w);
    }
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(seen[1], 0);
  }
  assert_true(seen[0] > 100);
  munmap(seen, 4096);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_ring, free_ring)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(gives_records_in_order_over_many_laps),
      FACT(shows_nothing_before_it_is_published),
      FACT(a_reserved_record_may_become_shorter),
      FACT(has_no_room_past_the_given_fill),
      FACT(a_full_ring_publishes_so_that_the_reader_can_make_room),
      FACT(unreleased_records_come_again_for_the_next_reader),
      FACT(a_new_writer_forgets_what_was_not_published),
      FACT(counts_drops_and_tells_them_once),
      FACT(skips_contents_that_make_no_sense),
      FACT(wakes_a_sleeping_reader_once_and_only_when_it_wants),
      FACT(refuses_a_size_that_is_no_power_of_two),
      FACT(two_threads_see_every_record_once_and_in_order),
      FACT(a_writer_killed_at_any_point_leaves_whole_records),
      FACT(a_reader_killed_at_any_point_loses_no_record),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
