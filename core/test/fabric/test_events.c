/* test/fabric/test_events.c - laps, readers beside the writer, sudden death. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "fabric/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct pl_event_rings *rings;
static struct pl_stopwatch watch;

static int make_rings(void **state) {
  (void)state;
  rings = mmap(NULL, sizeof *rings, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return rings == MAP_FAILED ? -1 : 0;
}

static int free_rings(void **state) {
  (void)state;
  return munmap(rings, sizeof *rings);
}

/* All words follow from the number. */
static void put_number(struct pl_recorder *r, uint64_t n) {
  pl__recorder_often(r, (double)n, n, ~n,
                     pl__event_word(PL_EVENT_BEGIN, (unsigned)n & 0xff,
                                    (unsigned)(n >> 8) & 0xffff, n & 0xffffff,
                                    (uint32_t)n & 0xff));
}

static bool is_whole(const struct pl_event_said *e) {
  uint64_t n = e->id;

  return e->at == (double)n && e->value == ~n && e->kind == PL_EVENT_BEGIN &&
         e->detail == (n & 0xff) && e->code == ((n >> 8) & 0xffff) &&
         e->route == (n & 0xffffff) && e->generation == (n & 0xff);
}

static struct pl_event_said read_often(uint64_t position) {
  struct pl_event_said e;

  assert_true(pl__event_read(rings, PL_EVENTS_LANE_OFTEN, position, &e));
  return e;
}

static void lays_an_event_out_in_32_bytes(void **state) {
  (void)state;
  assert_int_equal(sizeof(struct pl_event), 32);
}

static void reads_what_was_written(void **state) {
  struct pl_recorder r;
  struct pl_event_said e;

  (void)state;
  pl__recorder_open(&r, rings, &watch);
  pl__recorder_often(&r, 1.5, 7, 8, pl__event_word(PL_EVENT_END, 3, 503, 9, 5));
  e = read_often(0);
  assert_true(e.at == 1.5);
  assert_int_equal(e.id, 7);
  assert_int_equal(e.value, 8);
  assert_int_equal(e.kind, PL_EVENT_END);
  assert_int_equal(e.detail, 3);
  assert_int_equal(e.code, 503);
  assert_int_equal(e.route, 9);
  assert_int_equal(e.generation, 5);
}

static void lets_time_never_go_back(void **state) {
  struct pl_recorder r;

  (void)state;
  pl__recorder_open(&r, rings, &watch);
  put_number(&r, 9);
  put_number(&r, 4);
  assert_true(read_often(1).at == 9);
}

static void keeps_the_newest_and_not_the_one_that_is_written_next(void **s) {
  uint64_t count = PL_EVENTS_OFTEN + 1000, head, first;
  struct pl_recorder r;
  struct pl_event_said e;

  (void)s;
  pl__recorder_open(&r, rings, &watch);
  for (uint64_t n = 0; n < count; n++)
    put_number(&r, n);
  head = pl__event_head(rings, PL_EVENTS_LANE_OFTEN);
  first = pl__event_first(PL_EVENTS_LANE_OFTEN, head);
  assert_int_equal(head, count);
  assert_int_equal(first, 1001);
  assert_false(pl__event_read(rings, PL_EVENTS_LANE_OFTEN, 1000, &e));
  for (uint64_t n = first; n < head; n++)
    assert_int_equal(read_often(n).id, n);
}

static void keeps_what_is_seldom_from_a_flood(void **state) {
  struct pl_recorder r;
  struct pl_event_said e;

  (void)state;
  pl__recorder_open(&r, rings, &watch);
  pl__recorder_deadline(&r, 1, 42, 3, 4, 5);
  for (uint64_t n = 0; n < 2 * PL_EVENTS_OFTEN; n++)
    put_number(&r, n + 2);
  assert_true(pl__event_read(rings, PL_EVENTS_LANE_SELDOM, 0, &e));
  assert_int_equal(e.kind, PL_EVENT_DEADLINE);
  assert_int_equal(e.id, 42);
  assert_int_equal(atomic_load(&rings->deadlines), 1);
}

static void goes_on_behind_a_process_before(void **state) {
  struct pl_recorder r;

  (void)state;
  pl__recorder_open(&r, rings, &watch);
  put_number(&r, 1);
  pl__recorder_open(&r, rings, &watch);
  put_number(&r, 2);
  assert_int_equal(read_often(0).id, 1);
  assert_int_equal(read_often(1).id, 2);
}

static void refuses_what_makes_no_sense(void **state) {
  struct pl_recorder r;
  struct pl_event_said e;

  (void)state;
  pl__recorder_open(&r, rings, &watch);
  put_number(&r, 1);
  put_number(&r, 2);
  put_number(&r, 3);
  atomic_store(&rings->often[0].words[3], 255); /* a kind that there is not */
  atomic_store(&rings->often[1].words[0], UINT64_MAX); /* no number */
  assert_false(pl__event_read(rings, PL_EVENTS_LANE_OFTEN, 0, &e));
  assert_false(pl__event_read(rings, PL_EVENTS_LANE_OFTEN, 1, &e));
  assert_true(pl__event_read(rings, PL_EVENTS_LANE_OFTEN, 2, &e));
}

static void cuts_a_mark_into_events(void **state) {
  struct pl_recorder r;
  char text[3 * PL_EVENT_MARK_BYTES + 1];

  (void)state;
  pl__recorder_open(&r, rings, &watch);
  pl__recorder_mark(&r, pl__slice("hello", 5));
  assert_int_equal(read_often(0).code, 5);
  assert_memory_equal(&(uint64_t){read_often(0).id}, "hello\0\0\0", 8);
  memset(text, 'x', sizeof text);
  pl__recorder_mark(&r, pl__slice(text, sizeof text));
  assert_int_equal(read_often(1).code, 48);
  assert_int_equal(read_often(2).code, 32);
  assert_int_equal(read_often(3).code, 16);
  assert_int_equal(pl__event_head(rings, PL_EVENTS_LANE_OFTEN), 4);
}

static _Atomic bool is_over;

static void *write_on(void *arg) {
  struct pl_recorder *r = arg;

  for (uint64_t n = 0; !atomic_load(&is_over); n++)
    put_number(r, n);
  return NULL;
}

/* The oldest ones are those that are written over now. */
static void gives_a_reader_beside_the_writer_whole_events_only(void **state) {
  struct pl_recorder r;
  pthread_t thread;
  uint64_t seen = 0;

  (void)state;
  pl__recorder_open(&r, rings, &watch);
  atomic_store(&is_over, false);
  assert_int_equal(pthread_create(&thread, NULL, write_on, &r), 0);
  while (pl__event_head(rings, PL_EVENTS_LANE_OFTEN) < 20 * PL_EVENTS_OFTEN) {
    struct pl_event_said e;
    uint64_t head = pl__event_head(rings, PL_EVENTS_LANE_OFTEN);
    uint64_t first = pl__event_first(PL_EVENTS_LANE_OFTEN, head);
    for (uint64_t n = first; n < head && n < first + 500; n++)
      if (pl__event_read(rings, PL_EVENTS_LANE_OFTEN, n, &e)) {
        assert_true(is_whole(&e));
        assert_int_equal(e.id, n);
        seen++;
      }
  }
  atomic_store(&is_over, true);
  pthread_join(thread, NULL);
  assert_true(seen > 0);
}

/* Whichever instruction is the last. */
static void leaves_whole_events_when_it_is_killed(void **state) {
  struct timespec pause = {0};
  struct pl_recorder r;

  (void)state;
  srand(1);
  for (int i = 0; i < 50; i++) {
    pid_t pid = fork();
    uint64_t head, first;
    if (pid == 0) {
      pl__recorder_open(&r, rings, &watch);
      for (uint64_t n = r.often_head;; n++)
        put_number(&r, n);
    }
    pause.tv_nsec = rand() % 4000000;
    nanosleep(&pause, NULL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    head = pl__event_head(rings, PL_EVENTS_LANE_OFTEN);
    first = pl__event_first(PL_EVENTS_LANE_OFTEN, head);
    for (uint64_t n = first; n < head; n += n + 100 < head ? 97 : 1) {
      struct pl_event_said e = read_often(n);
      assert_true(is_whole(&e));
      assert_int_equal(e.id, n);
    }
  }
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, make_rings, free_rings)

int main(void) {
  const struct CMUnitTest tests[] = {
      EACH(lays_an_event_out_in_32_bytes),
      EACH(reads_what_was_written),
      EACH(lets_time_never_go_back),
      EACH(keeps_the_newest_and_not_the_one_that_is_written_next),
      EACH(keeps_what_is_seldom_from_a_flood),
      EACH(goes_on_behind_a_process_before),
      EACH(refuses_what_makes_no_sense),
      EACH(cuts_a_mark_into_events),
      EACH(gives_a_reader_beside_the_writer_whole_events_only),
      EACH(leaves_whole_events_when_it_is_killed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
