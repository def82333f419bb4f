/* test/server/test_backlog.c - who waits, who gives way, in which order. */
#include "server/backlog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct pl_backlog b;

static int set_up(void **state) {
  (void)state;
  pl__backlog_init(&b, 3);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__backlog_deinit(&b);
  return 0;
}

static uint32_t push(const char *text, bool must_arrive) {
  return pl__backlog_push(&b, pl__slice_text(text), must_arrive);
}

static void assert_next(const char *text) {
  struct pl_backlog_item *item = pl__backlog_take(&b);

  assert_non_null(item);
  assert_true(
      pl__slice_equal(pl__slice_text(text), pl__slice(item->at, item->bytes)));
  pl__backlog_free(item);
}

static void what_has_to_arrive_goes_first(void **state) {
  (void)state;
  push("a", false);
  push("B", true);
  push("c", false);
  assert_int_equal(3, pl__backlog_count(&b));
  assert_next("B");
  assert_next("a");
  assert_next("c");
  assert_null(pl__backlog_take(&b));
}

static void a_sample_that_comes_when_all_is_full_is_dropped(void **state) {
  (void)state;
  push("a", false);
  push("b", false);
  push("c", false);
  assert_int_equal(1, push("d", false));
  assert_next("a");
  assert_next("b");
  assert_next("c");
  assert_null(pl__backlog_take(&b));
}

static void the_oldest_sample_makes_room_for_what_has_to_arrive(void **state) {
  (void)state;
  push("a", false);
  push("b", false);
  push("C", true);
  assert_int_equal(1, push("D", true));
  assert_int_equal(1, push("E", true));
  assert_true(pl__backlog_is_stuffed(&b));
  assert_int_equal(1, push("F", true));
  assert_int_equal(1, push("g", false));
  assert_next("C");
  assert_next("D");
  assert_next("E");
  assert_null(pl__backlog_take(&b));
}

static void what_is_returned_is_taken_next(void **state) {
  struct pl_backlog_item *first, *second;

  (void)state;
  push("a", false);
  push("b", false);
  push("c", false);
  first = pl__backlog_take(&b);
  second = pl__backlog_take(&b);
  pl__backlog_return(&b, second);
  pl__backlog_return(&b, first);
  assert_int_equal(3, pl__backlog_count(&b));
  assert_next("a");
  assert_next("b");
  assert_next("c");
  push("d", false);
  pl__backlog_return(&b, pl__backlog_take(&b));
  push("e", false);
  assert_next("d");
  assert_next("e");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(what_has_to_arrive_goes_first, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(
          a_sample_that_comes_when_all_is_full_is_dropped, set_up, tear_down),
      cmocka_unit_test_setup_teardown(
          the_oldest_sample_makes_room_for_what_has_to_arrive, set_up,
          tear_down),
      cmocka_unit_test_setup_teardown(what_is_returned_is_taken_next, set_up,
                                      tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
