/* test/base/test_alloc.c - blocks, their count, failing allocations. */
#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void gives_zeroed_blocks_when_asked(void **state) {
  (void)state;
  char *p = pl__alloc_zero(4096), zeros[4096] = {0};
  assert_non_null(p);
  assert_memory_equal(p, zeros, sizeof zeros);
  pl__free(p);
}

static void gives_a_block_for_zero_bytes(void **state) {
  (void)state;
  void *p = pl__alloc(0);
  assert_non_null(p);
  p = pl__realloc(p, 0);
  assert_non_null(p);
  pl__free(p);
  pl__free(NULL);
}

static void keeps_the_bytes_when_a_block_moves(void **state) {
  (void)state;
  char *p = pl__realloc(NULL, 16);
  memcpy(p, "fifteen letters", 16);
  p = pl__realloc(p, 1 << 20);
  assert_string_equal(p, "fifteen letters");
  pl__free(p);
}

static void counts_each_allocation_of_the_thread(void **state) {
  (void)state;
  uint64_t before = pl__alloc_count(), lua = pl__alloc_lua_count();
  void *p = pl__alloc(1);
  p = pl__realloc(p, 1000);
  pl__free(p);
  assert_int_equal(pl__alloc_count() - before, 2);
  p = pl__alloc_lua(NULL, 0, 10);
  pl__alloc_lua(p, 10, 0);
  assert_int_equal(pl__alloc_count() - before, 2);
  assert_int_equal(pl__alloc_lua_count() - lua, 1);
}

static void fails_the_nth_allocation_and_no_other(void **state) {
  (void)state;
  pl__alloc_fail_after(2, false);
  void *first = pl__alloc(1), *second = pl__alloc(1), *third = pl__alloc(1);
  assert_int_equal(pl__alloc_fail_count(), 1);
  pl__alloc_fail_after(0, false);
  assert_non_null(first);
  assert_null(second);
  assert_non_null(third);
  pl__free(first);
  pl__free(third);
}

static void fails_all_from_the_nth_on_when_for_good(void **state) {
  (void)state;
  pl__alloc_fail_after(1, true);
  for (int i = 0; i < 5; i++)
    assert_null(pl__alloc_zero(8));
  assert_int_equal(pl__alloc_fail_count(), 5);
  pl__alloc_fail_after(0, false);
  void *p = pl__alloc(8);
  assert_non_null(p);
  pl__free(p);
}

static void leaves_the_block_when_growing_fails(void **state) {
  (void)state;
  char *p = pl__alloc(16);
  memcpy(p, "fifteen letters", 16);
  pl__alloc_fail_after(1, false);
  assert_null(pl__realloc(p, 1 << 20));
  assert_string_equal(p, "fifteen letters");
  pl__free(p);
}

static void shrinks_for_lua_while_allocations_fail(void **state) {
  (void)state;
  char *p = pl__alloc_lua(NULL, 0, 1000);
  assert_non_null(p);
  memcpy(p, "abc", 4);
  pl__alloc_fail_after(1, true);
  assert_null(pl__alloc_lua(p, 1000, 2000));
  p = pl__alloc_lua(p, 1000, 100);
  assert_non_null(p);
  assert_string_equal(p, "abc");
  assert_null(pl__alloc_lua(p, 100, 0));
  pl__alloc_fail_after(0, false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_zeroed_blocks_when_asked),
      cmocka_unit_test(gives_a_block_for_zero_bytes),
      cmocka_unit_test(keeps_the_bytes_when_a_block_moves),
      cmocka_unit_test(counts_each_allocation_of_the_thread),
      cmocka_unit_test(fails_the_nth_allocation_and_no_other),
      cmocka_unit_test(fails_all_from_the_nth_on_when_for_good),
      cmocka_unit_test(leaves_the_block_when_growing_fails),
      cmocka_unit_test(shrinks_for_lua_while_allocations_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
