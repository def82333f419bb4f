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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(runs_what_is_over_and_nothing_else, set_up),
      cmocka_unit_test_setup(counts_anew_when_armed_again, set_up),
      cmocka_unit_test_setup(forgets_what_is_disarmed, set_up),
      cmocka_unit_test_setup(never_expires_a_kind_without_seconds, set_up),
      cmocka_unit_test_setup(may_be_armed_anew_when_it_is_over, set_up),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
