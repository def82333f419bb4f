/* test/base/test_clock.c - the clocks agree with each other. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

static void monotonic_time_never_goes_back(void **state) {
  (void)state;
  int64_t last = pl__clock_monotonic_ns();
  for (int i = 0; i < 100000; i++) {
    int64_t now = pl__clock_monotonic_ns();
    assert_true(now >= last);
    last = now;
  }
}

static void coarse_clocks_stay_close_to_the_exact_ones(void **state) {
  (void)state;
  int64_t before = pl__clock_realtime_coarse_ns();
  int64_t exact = pl__clock_realtime_ns();
  assert_true(before <= exact && exact - before < PL_NS_PER_S);
  before = pl__clock_monotonic_coarse_ns();
  exact = pl__clock_monotonic_ns();
  assert_true(before <= exact && exact - before < PL_NS_PER_S);
}

static void realtime_counts_from_1970(void **state) {
  (void)state;
  int64_t seconds = pl__clock_realtime_ns() / PL_NS_PER_S;
  assert_in_range(time(NULL) - seconds, 0, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(monotonic_time_never_goes_back),
      cmocka_unit_test(coarse_clocks_stay_close_to_the_exact_ones),
      cmocka_unit_test(realtime_counts_from_1970),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
