/* test/base/test_stopwatch.c - time by the processor's counter, beside the
 * clock. */
#include "base/stopwatch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

static void pass(long ns) {
  struct timespec t = {.tv_nsec = ns};

  nanosleep(&t, NULL);
}

/* Between two questions to the clock, but for its own error. */
static void assert_right(const struct pl_stopwatch *w) {
  double before = pl__clock_monotonic_s(), told = pl__stopwatch_read(w);
  double after = pl__clock_monotonic_s();

  assert_true(told >= before - 2e-3 && told <= after + 2e-3);
}

static void tells_what_the_clock_tells(void **state) {
  struct pl_stopwatch w = {0};

  (void)state;
  assert_right(&w);
  for (int i = 0; i < 60; i++) {
    pl__stopwatch_look(&w);
    assert_right(&w);
    pass(1000000);
    assert_right(&w);
  }
}

static void asks_the_clock_when_its_last_look_is_long_ago(void **state) {
  struct pl_stopwatch w = {0};

  (void)state;
  for (int i = 0; i < 5; i++) {
    pl__stopwatch_look(&w);
    pass(10000000);
  }
  pass(200000000);
  assert_right(&w);
}

/* As a counter that stands still, or runs at another speed than before. */
static void is_not_misled_by_a_counter_that_is_wrong(void **state) {
  struct pl_stopwatch w = {0};

  (void)state;
  for (int i = 0; i < 5; i++) {
    pl__stopwatch_look(&w);
    pass(10000000);
  }
  w.per_tick *= 1.5;
  for (int i = 0; i < 20; i++) {
    pl__stopwatch_look(&w);
    pass(2000000);
  }
  assert_right(&w);
  w.ticks += UINT64_C(1) << 40; /* it has gone back */
  assert_right(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tells_what_the_clock_tells),
      cmocka_unit_test(asks_the_clock_when_its_last_look_is_long_ago),
      cmocka_unit_test(is_not_misled_by_a_counter_that_is_wrong),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
