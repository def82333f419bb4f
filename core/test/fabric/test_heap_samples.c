/* test/fabric/test_heap_samples.c - the tables of sampled memory. */
#include "fabric/heap_samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct pl_heap_samples *s;

static int make_samples(void **state) {
  (void)state;
  s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
           -1, 0);
  return s == MAP_FAILED;
}

static int free_samples(void **state) {
  (void)state;
  return munmap(s, sizeof *s);
}

static uint32_t live_count(double *bytes) {
  uint32_t count = 0;

  *bytes = 0;
  for (uint32_t i = 0; i < PL_HEAP_LIVE_SLOTS; i++) {
    struct pl_heap_live b;
    if (!pl__heap_live_read(s, i, &b))
      continue;
    count++;
    *bytes += b.objects * (double)b.bytes;
  }
  return count;
}

static void keeps_a_block_until_it_is_taken(void **state) {
  struct pl_heap_live b = {0x1000, 64, 2.5, 7}, out;
  double bytes;

  (void)state;
  assert_true(pl__heap_live_put(s, &b));
  assert_int_equal(live_count(&bytes), 1);
  assert_true(bytes == 160);
  assert_false(pl__heap_live_take(s, 0x1010, &out));
  assert_true(pl__heap_live_take(s, 0x1000, &out));
  assert_memory_equal(&out.bytes, &b.bytes, sizeof b.bytes);
  assert_true(out.objects == 2.5);
  assert_int_equal(out.stack, 7);
  assert_false(pl__heap_live_take(s, 0x1000, NULL));
  assert_int_equal(live_count(&bytes), 0);
}

/* Against an array that does the same slowly. */
static void agrees_with_a_list_through_many_changes(void **state) {
  enum { BLOCKS = 4000, ROUNDS = 200000 };
  static bool is_in[BLOCKS];
  struct pl_random random = {{1, 2, 3, 4}};
  uint32_t count = 0;
  double bytes;

  (void)state;
  for (uint32_t i = 0; i < ROUNDS; i++) {
    uint32_t n = (uint32_t)(pl__random_next(&random) % BLOCKS);
    struct pl_heap_live b = {(n + 1) * 16u, 16, 1, n};

    if (is_in[n])
      assert_true(pl__heap_live_take(s, b.address, NULL));
    else
      assert_true(pl__heap_live_put(s, &b));
    is_in[n] = !is_in[n];
    count = is_in[n] ? count + 1 : count - 1;
  }
  assert_int_equal(live_count(&bytes), count);
  for (uint32_t i = 0; i < BLOCKS; i++)
    assert_int_equal(pl__heap_live_take(s, (i + 1) * 16u, NULL), is_in[i]);
  assert_int_equal(live_count(&bytes), 0);
}

static void counts_what_finds_it_full(void **state) {
  double bytes;

  (void)state;
  for (uint32_t i = 0; i < PL_HEAP_LIVE_MAX + 10; i++) {
    struct pl_heap_live b = {(i + 1) * 16u, 16, 1, 1};
    assert_int_equal(pl__heap_live_put(s, &b), i < PL_HEAP_LIVE_MAX);
  }
  assert_int_equal(s->lost, 10);
  assert_int_equal(live_count(&bytes), PL_HEAP_LIVE_MAX);
}

static void adds_up_by_stack(void **state) {
  struct pl_heap_total t;
  uint32_t found = 0;

  (void)state;
  for (uint32_t i = 0; i < 3000; i++)
    pl__heap_count(s, i % 1000, 1, 32);
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    if (!pl__heap_total_read(s, i, &t))
      continue;
    found++;
    assert_in_range(t.stack, 0, 999);
    assert_true(t.objects == 3 && t.bytes == 96);
  }
  assert_int_equal(found, 1000);
}

static void counts_stacks_past_the_limit_as_none(void **state) {
  struct pl_heap_total t;
  double all = 0, none = 0;

  (void)state;
  for (uint32_t i = 1; i <= PL_HEAP_TOTALS_MAX + 100; i++)
    pl__heap_count(s, i, 1, 16);
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    if (!pl__heap_total_read(s, i, &t))
      continue;
    all += t.objects;
    if (t.stack == PL_HEAP_STACK_NONE)
      none = t.objects;
  }
  assert_true(all == PL_HEAP_TOTALS_MAX + 100);
  assert_true(none == 100);
}

static double bytes_of(uint32_t stack, uint32_t *rows) {
  double bytes = 0;

  *rows = 0;
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    struct pl_heap_total t;
    if (!pl__heap_total_read(s, i, &t))
      continue;
    ++*rows;
    bytes += t.stack == stack ? t.bytes : 0;
  }
  return bytes;
}

static void forgets_stacks_and_has_room_for_others(void **state) {
  struct pl_heap_live b = {0x1000, 64, 1, 1500}, out;
  uint32_t rows;

  (void)state;
  pl__heap_live_put(s, &b);
  for (int round = 0; round < 5; round++) {
    for (uint32_t i = 0; i < PL_HEAP_TOTALS_MAX - 2; i++)
      pl__heap_count(s, 1000 + i, 1, 8);
    pl__heap_count(s, 17, 1, 3);
    assert_true(bytes_of(1000, &rows) == 8); /* it had a row of its own */
    assert_true(rows <= PL_HEAP_TOTALS_MAX);
    pl__heap_forget(s, 1000, 1000 + PL_HEAP_TOTALS_MAX);
    assert_true(bytes_of(1000, &rows) == 0);
    assert_int_equal(rows, 2);
    assert_true(bytes_of(PL_HEAP_STACK_NONE, &rows) ==
                8.0 * (round + 1) * (PL_HEAP_TOTALS_MAX - 2));
    assert_true(bytes_of(17, &rows) == 3.0 * (round + 1));
  }
  assert_true(pl__heap_live_take(s, 0x1000, &out));
  assert_int_equal(out.stack, PL_HEAP_STACK_NONE);
}

static void reads_no_numbers_that_cannot_be(void **state) {
  struct pl_heap_live b = {0x1000, 64, NAN, 7};
  double bytes;

  (void)state;
  assert_true(pl__heap_live_put(s, &b));
  assert_int_equal(live_count(&bytes), 0);
  pl__heap_count(s, 1, INFINITY, 16);
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    struct pl_heap_total t;
    assert_false(pl__heap_total_read(s, i, &t));
  }
}

static void ends_its_search_where_all_is_overwritten(void **state) {
  double bytes;

  (void)state;
  memset(s->live, 0x5a, sizeof s->live);
  assert_in_range(live_count(&bytes), 0, 1);
}

/* The writer is killed again and again in the midst of changes; what it leaves
 * is read: each block once, and off by one change at most. */
static void is_readable_after_its_writer_was_killed(void **state) {
  enum { BLOCKS = 64, KILLS = 40 };

  (void)state;
  for (int k = 0; k < KILLS; k++) {
    double bytes;
    uint32_t count;
    pid_t writer;

    memset(s, 0, sizeof *s);
    for (uint32_t i = 0; i < BLOCKS; i++) {
      struct pl_heap_live b = {(i + 1) * 4096u, 16, 1, 1};
      pl__heap_live_put(s, &b);
    }
    writer = fork();
    if (writer == 0)
      for (uint32_t i = 0;; i++) {
        struct pl_heap_live b = {(i % BLOCKS + 1) * 4096u, 16, 1, 1};
        pl__heap_live_take(s, b.address, NULL);
        pl__heap_live_put(s, &b);
      }
    usleep(1000);
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    count = live_count(&bytes);
    assert_in_range(count, BLOCKS - 2, BLOCKS);
    assert_true(bytes == 16.0 * count);
  }
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_samples, free_samples)
  const struct CMUnitTest tests[] = {
      CASE(keeps_a_block_until_it_is_taken),
      CASE(agrees_with_a_list_through_many_changes),
      CASE(counts_what_finds_it_full),
      CASE(adds_up_by_stack),
      CASE(counts_stacks_past_the_limit_as_none),
      CASE(forgets_stacks_and_has_room_for_others),
      CASE(reads_no_numbers_that_cannot_be),
      CASE(ends_its_search_where_all_is_overwritten),
      CASE(is_readable_after_its_writer_was_killed),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
