/* test/net/test_deadlines.c - one queue per kind, in order by itself. */
#include "net/deadlines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static struct pl_deadlines all;
static struct pl_deadline one, two, three;
static struct pl_deadline *due[8];
static int due_count;
static bool again; /* on_due arms its deadline anew */

static int set_up(void **state) {
  double seconds[PL_DEADLINE_COUNT] = {
      [PL_DEADLINE_HEADER] = 10, [PL_DEADLINE_IDLE] = 60};

  (void)state;
  pl__deadlines_init(&all, seconds);
  memset(&one, 0, sizeof one);
  memset(&two, 0, sizeof two);
  memset(&three, 0, sizeof three);
  due_count = 0;
  again = false;
  return 0;
}

static void on_due(struct pl_deadline *d, enum pl_deadline_kind kind) {
  assert_false(d->armed);
  assert_int_equal(d->kind, kind);
  due[due_count++] = d;
  if (again)
    pl__deadline_arm(&all, d, kind, d->due);
}

static void runs_what_is_over_and_nothing_else(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  pl__deadline_arm(&all, &two, PL_DEADLINE_HEADER, 101);
  pl__deadline_arm(&all, &three, PL_DEADLINE_IDLE, 50);
  pl__deadlines_expire(&all, 109.9, on_due);
  assert_int_equal(due_count, 0);
  pl__deadlines_expire(&all, 110, on_due);
  assert_int_equal(due_count, 2);
  assert_ptr_equal(due[0], &one); /* by kind */
  assert_ptr_equal(due[1], &three);
  assert_false(pl__deadlines_empty(&all));
  pl__deadlines_expire(&all, 111, on_due);
  assert_ptr_equal(due[2], &two);
  assert_true(pl__deadlines_empty(&all));
}

static void counts_anew_when_armed_again(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  pl__deadline_arm(&all, &two, PL_DEADLINE_HEADER, 101);
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 105);
  pl__deadlines_expire(&all, 114.9, on_due);
  assert_int_equal(due_count, 1);
  assert_ptr_equal(due[0], &two);
  pl__deadline_arm(&all, &one, PL_DEADLINE_IDLE, 114.9); /* of another kind */
  pl__deadlines_expire(&all, 120, on_due);
  assert_int_equal(due_count, 1);
}

static void hurries_what_was_armed_long_enough_ago(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_IDLE, 100);
  pl__deadline_arm(&all, &two, PL_DEADLINE_IDLE, 103);
  pl__deadline_arm(&all, &three, PL_DEADLINE_HEADER, 100);
  again = true; /* it is not run for once more */
  pl__deadlines_hurry(&all, PL_DEADLINE_IDLE, 104, 2, on_due);
  assert_int_equal(due_count, 1);
  assert_ptr_equal(due[0], &one);
  pl__deadlines_hurry(&all, PL_DEADLINE_LINGER, 104, 2, on_due); /* endless */
  pl__deadlines_hurry(&all, PL_DEADLINE_HEADER, 104, 20, on_due);
  assert_int_equal(due_count, 1);
}

static void forgets_what_is_disarmed(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  pl__deadline_disarm(&one);
  pl__deadline_disarm(&one);
  assert_true(pl__deadlines_empty(&all));
  pl__deadlines_expire(&all, 1000, on_due);
  assert_int_equal(due_count, 0);
}

static void never_expires_a_kind_without_seconds(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_BODY, 100);
  assert_false(one.armed);
  assert_true(pl__deadlines_empty(&all));
}

static void may_be_armed_anew_when_it_is_over(void **state) {
  (void)state;
  again = true;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  pl__deadlines_expire(&all, 115, on_due);
  assert_int_equal(due_count, 1);
  assert_true(one.armed);
  pl__deadlines_expire(&all, 120, on_due);
  assert_int_equal(due_count, 2);
}

/* --- other durations ----------------------------------------------------- */

static void set_header(double seconds, double now) {
  double all_seconds[PL_DEADLINE_COUNT] = {
      [PL_DEADLINE_HEADER] = seconds, [PL_DEADLINE_IDLE] = 60};

  pl__deadlines_set(&all, all_seconds, now);
}

static void ends_what_is_armed_by_a_shorter_time(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  set_header(2, 101);
  pl__deadlines_expire(&all, 102.9, on_due);
  assert_int_equal(due_count, 0);
  pl__deadlines_expire(&all, 103, on_due);
  assert_int_equal(due_count, 1);
}

static void does_not_put_off_what_is_due_sooner(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  set_header(2, 109);
  pl__deadlines_expire(&all, 110, on_due);
  assert_int_equal(due_count, 1);
}

static void leaves_what_is_armed_when_times_get_longer(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  set_header(50, 101);
  pl__deadline_arm(&all, &two, PL_DEADLINE_HEADER, 101);
  pl__deadlines_expire(&all, 110, on_due);
  assert_int_equal(due_count, 1);
  assert_ptr_equal(due[0], &one);
  pl__deadlines_expire(&all, 150.9, on_due);
  assert_int_equal(due_count, 1);
  pl__deadlines_expire(&all, 151, on_due);
  assert_int_equal(due_count, 2);
}

static void keeps_the_order_when_times_get_shorter(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  pl__deadline_arm(&all, &two, PL_DEADLINE_HEADER, 104);
  set_header(7, 104);
  pl__deadline_arm(&all, &three, PL_DEADLINE_HEADER, 104);
  pl__deadlines_expire(&all, 110, on_due);
  assert_int_equal(due_count, 1);
  pl__deadlines_expire(&all, 111, on_due);
  assert_int_equal(due_count, 3);
  assert_ptr_equal(due[0], &one);
  assert_ptr_equal(due[1], &two);
  assert_ptr_equal(due[2], &three);
}

static void leaves_other_kinds_as_they_are(void **state) {
  (void)state;
  pl__deadline_arm(&all, &one, PL_DEADLINE_IDLE, 100);
  set_header(2, 101);
  pl__deadlines_expire(&all, 159, on_due);
  assert_int_equal(due_count, 0);
  pl__deadlines_expire(&all, 160, on_due);
  assert_int_equal(due_count, 1);
}

static void ends_nothing_at_once_when_a_kind_is_to_expire_no_more(void **s) {
  (void)s;
  pl__deadline_arm(&all, &one, PL_DEADLINE_HEADER, 100);
  set_header(0, 101);
  pl__deadlines_expire(&all, 109, on_due);
  assert_int_equal(due_count, 0);
  pl__deadline_arm(&all, &two, PL_DEADLINE_HEADER, 101);
  assert_false(two.armed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(runs_what_is_over_and_nothing_else, set_up),
      cmocka_unit_test_setup(counts_anew_when_armed_again, set_up),
      cmocka_unit_test_setup(hurries_what_was_armed_long_enough_ago, set_up),
      cmocka_unit_test_setup(forgets_what_is_disarmed, set_up),
      cmocka_unit_test_setup(never_expires_a_kind_without_seconds, set_up),
      cmocka_unit_test_setup(may_be_armed_anew_when_it_is_over, set_up),
      cmocka_unit_test_setup(ends_what_is_armed_by_a_shorter_time, set_up),
      cmocka_unit_test_setup(does_not_put_off_what_is_due_sooner, set_up),
      cmocka_unit_test_setup(leaves_what_is_armed_when_times_get_longer,
                             set_up),
      cmocka_unit_test_setup(keeps_the_order_when_times_get_shorter, set_up),
      cmocka_unit_test_setup(leaves_other_kinds_as_they_are, set_up),
      cmocka_unit_test_setup(
          ends_nothing_at_once_when_a_kind_is_to_expire_no_more, set_up),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
