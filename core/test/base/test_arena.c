/* test/base/test_arena.c - pieces, limits, and the block that stays. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"

static void gives_pieces_that_do_not_overlap(void **state) {
  (void)state;
  struct pl_buf_pool pool;
  struct pl_arena a;
  static char *pieces[2000];
  pl__buf_pool_init(&pool);
  pl__arena_init(&a, &pool, 10000000);
  for (uint32_t i = 0; i < 2000; i++) {
    pieces[i] = pl__arena_take(&a, i, 1);
    assert_non_null(pieces[i]);
    memset(pieces[i], (int)i, i);
  }
  for (uint32_t i = 0; i < 2000; i++)
    for (uint32_t j = 0; j < i; j++)
      assert_int_equal((unsigned char)pieces[i][j], i & 255);
  pl__arena_reset(&a, false);
  assert_int_equal(a.bytes, 0);
  pl__buf_pool_deinit(&pool);
}

static void aligns_as_asked(void **state) {
  (void)state;
  struct pl_arena a;
  pl__arena_init(&a, NULL, 100000);
  for (uint32_t align = 1; align <= 16; align *= 2)
    for (uint32_t bytes = 1; bytes < 6000; bytes = bytes * 3 + 1) {
      char *p = pl__arena_take(&a, bytes, align);
      assert_non_null(p);
      assert_int_equal((uintptr_t)p % align, 0);
    }
  pl__arena_reset(&a, false);
}

static void takes_no_more_than_bytes_max(void **state) {
  (void)state;
  struct pl_arena a;
  uint32_t count = 0;
  pl__arena_init(&a, NULL, 100000);
  while (pl__arena_take(&a, 100, 8))
    count++;
  assert_true(a.bytes <= 100000);
  assert_in_range(count, 900, 1000);
  assert_null(pl__arena_take(&a, UINT32_MAX, 1));
  pl__arena_reset(&a, false);
  assert_non_null(pl__arena_take(&a, 50000, 1));
  assert_null(pl__arena_take(&a, 50001, 1));
  pl__arena_reset(&a, false);
}

static void serves_a_small_maximum_without_a_block(void **state) {
  (void)state;
  struct pl_arena a;
  pl__arena_init(&a, NULL, 1000);
  assert_non_null(pl__arena_take(&a, 100, 8));
  assert_null(pl__arena_take(&a, 1000, 8));
  pl__arena_reset(&a, true);
  assert_int_equal(a.bytes, 0);
}

static void allocates_nothing_for_the_next_request(void **state) {
  (void)state;
  struct pl_buf_pool pool;
  struct pl_arena a;
  pl__buf_pool_init(&pool);
  pl__arena_init(&a, &pool, 100000);
  char *first = pl__arena_take(&a, 100, 8);
  pl__arena_take(&a, 50000, 8);
  pl__arena_reset(&a, true);
  uint64_t before = pl__alloc_count();
  assert_ptr_equal(pl__arena_take(&a, 100, 8), first);
  assert_non_null(pl__arena_take(&a, 3000, 8));
  assert_int_equal(pl__alloc_count(), before);
  pl__arena_reset(&a, false);
  assert_int_equal(pool.free_count, 1);
  pl__buf_pool_deinit(&pool);
}

static void stays_as_it_was_without_memory(void **state) {
  (void)state;
  struct pl_arena a;
  pl__arena_init(&a, NULL, 100000);
  char *copy = pl__arena_take(&a, 3, 1);
  memcpy(copy, "abc", 3);
  uint32_t bytes = a.bytes;
  pl__alloc_fail_after(1, true);
  assert_null(pl__arena_take(&a, PL_BUF_BLOCK_BYTES, 1));
  while (pl__arena_take(&a, 1000, 1))
    ;
  pl__alloc_fail_after(0, false);
  assert_int_equal(a.bytes, bytes);
  assert_memory_equal(copy, "abc", 3);
  pl__arena_reset(&a, false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_pieces_that_do_not_overlap),
      cmocka_unit_test(aligns_as_asked),
      cmocka_unit_test(takes_no_more_than_bytes_max),
      cmocka_unit_test(serves_a_small_maximum_without_a_block),
      cmocka_unit_test(allocates_nothing_for_the_next_request),
      cmocka_unit_test(stays_as_it_was_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
