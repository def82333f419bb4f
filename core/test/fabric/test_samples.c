/* test/fabric/test_samples.c - samples: what goes in comes out, the newest first,
 * also of a writer that goes on writing, or was killed. */
#include "fabric/samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fabric/record.h"

static struct pl_samples *table;

static int begin(void **state) {
  (void)state;
  table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return table == MAP_FAILED;
}

static int end(void **state) {
  (void)state;
  return munmap(table, sizeof *table);
}

static struct pl_sample sample(uint64_t n) {
  return (struct pl_sample){.time_ms = n,
                            .weight_us = (uint32_t)n % 100000,
                            .stack = (uint32_t)n % 200000,
                            .route = (uint32_t)n % 1000,
                            .generation = (uint32_t)n % 7,
                            .phase = (enum pl_phase)(n % PL_PHASES),
                            .state =
                                (enum pl_sample_state)(n % PL_SAMPLE_STATES)};
}

static void assert_same(const struct pl_sample *a, const struct pl_sample *b) {
  assert_int_equal(a->time_ms, b->time_ms);
  assert_int_equal(a->weight_us, b->weight_us);
  assert_int_equal(a->stack, b->stack);
  assert_int_equal(a->route, b->route);
  assert_int_equal(a->generation, b->generation);
  assert_int_equal(a->phase, b->phase);
  assert_int_equal(a->state, b->state);
}

static void gives_the_newest_first(void **state) {
  struct pl_samples_reader r;
  struct pl_sample s;

  (void)state;
  pl__samples_reader_init(&r, table);
  assert_false(pl__samples_next(&r, &s));
  for (uint64_t i = 1; i <= 3; i++) {
    struct pl_sample one = sample(i * 12345);
    pl__samples_add(table, &one);
  }
  pl__samples_reader_init(&r, table);
  for (uint64_t i = 3; i >= 1; i--) {
    struct pl_sample one = sample(i * 12345);
    assert_true(pl__samples_next(&r, &s));
    assert_same(&one, &s);
  }
  assert_false(pl__samples_next(&r, &s));
}

static void extremes_are_more_or_none(void **state) {
  struct pl_sample s = {.time_ms = 42,
                        .weight_us = UINT32_MAX,
                        .route = PL_RECORD_NO_ROUTE,
                        .phase = PL_PHASE_LOG,
                        .state = PL_SAMPLE_COMPILER};
  struct pl_samples_reader r;
  uint64_t sum = 0;

  (void)state;
  pl__samples_add(table, &s);
  pl__samples_reader_init(&r, table);
  for (; pl__samples_next(&r, &s); sum += s.weight_us) {
    assert_int_equal(42, s.time_ms);
    assert_int_equal(PL_RECORD_NO_ROUTE, s.route);
    assert_int_equal(PL_PHASE_LOG, s.phase);
    assert_int_equal(PL_SAMPLE_COMPILER, s.state);
  }
  assert_int_equal(UINT32_MAX, sum);
}

static void keeps_the_last_of_more_than_it_holds(void **state) {
  struct pl_samples_reader r;
  struct pl_sample s;
  uint64_t count = 0, all = PL_SAMPLES_MAX + 1000;

  (void)state;
  for (uint64_t i = 0; i < all; i++) {
    struct pl_sample one = sample(i);
    pl__samples_add(table, &one);
  }
  pl__samples_reader_init(&r, table);
  for (; pl__samples_next(&r, &s); count++)
    assert_int_equal(all - 1 - count, s.time_ms);
  assert_true(count >= PL_SAMPLES_MAX - 1);
}

/* Each sample that is read is whole: all its parts follow from its time. */
static uint64_t read_all(void) {
  struct pl_samples_reader r;
  struct pl_sample s, wanted;
  uint64_t seen = 0;

  pl__samples_reader_init(&r, table);
  for (; pl__samples_next(&r, &s); seen++) {
    wanted = sample(s.time_ms);
    assert_same(&wanted, &s);
  }
  return seen;
}

static void is_read_whole_while_it_is_written(void **state) {
  int64_t due = pl__clock_monotonic_ns() + 20 * (int64_t)PL_NS_PER_S;
  pid_t pid = fork();
  uint64_t seen = 0;

  (void)state;
  assert_true(pid >= 0);
  for (uint64_t i = 1; pid == 0; i++) {
    struct pl_sample one = sample(i);
    pl__samples_add(table, &one);
  }
  while (seen < 1000000 && pl__clock_monotonic_ns() < due)
    seen += read_all();
  kill(pid, SIGKILL);
  assert_int_equal(pid, waitpid(pid, NULL, 0));
  assert_true(seen > 0);
  assert_true(read_all() > 0);
}

static void readers_stay_inside_whatever_is_written(void **state) {
  struct pl_samples_reader r;
  struct pl_sample s;

  (void)state;
  memset(table, 0xff, sizeof *table);
  pl__samples_reader_init(&r, table);
  while (pl__samples_next(&r, &s)) {
    assert_true(s.phase < PL_PHASES);
    assert_true(s.state < PL_SAMPLE_STATES);
  }
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(gives_the_newest_first),
      test(extremes_are_more_or_none),
      test(keeps_the_last_of_more_than_it_holds),
      test(is_read_whole_while_it_is_written),
      test(readers_stay_inside_whatever_is_written),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
