/* test/server/test_anomaly.c - how long more traces are kept. */
#include "server/anomaly.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#define HOLD_NS (60 * (int64_t)PL_NS_PER_S)
#define SECONDS(n) ((n) * (int64_t)PL_NS_PER_S)

static void keeps_all_for_the_time_of_hold(void **state) {
  (void)state;
  assert_true(pl__anomaly_share(0, HOLD_NS) == 1);
  assert_true(pl__anomaly_share(SECONDS(59), HOLD_NS) == 1);
}

static void keeps_half_as_many_six_times_in_each_further_hold(void **state) {
  (void)state;
  assert_true(pl__anomaly_share(SECONDS(61), HOLD_NS) == 0.5);
  assert_true(pl__anomaly_share(SECONDS(69), HOLD_NS) == 0.5);
  assert_true(pl__anomaly_share(SECONDS(71), HOLD_NS) == 0.25);
  assert_true(pl__anomaly_share(SECONDS(121), HOLD_NS) == 1.0 / 128);
}

static void ends_when_no_more_than_usual_would_be_kept(void **state) {
  (void)state;
  assert_true(pl__anomaly_share(SECONDS(131), HOLD_NS) == 0);
  assert_true(pl__anomaly_share(INT64_MAX / 8, HOLD_NS) == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keeps_all_for_the_time_of_hold),
      cmocka_unit_test(keeps_half_as_many_six_times_in_each_further_hold),
      cmocka_unit_test(ends_when_no_more_than_usual_would_be_kept),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
