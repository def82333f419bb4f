/* test/base/test_buf.c - growing, the maximum, and the blocks of the pool. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

static struct pl_buf_pool pool;

static int make_pool(void **state) {
  (void)state;
  pl__buf_pool_init(&pool);
  return 0;
}

static int free_pool(void **state) {
  (void)state;
  pl__buf_pool_deinit(&pool);
  return 0;
}

static void holds_no_block_before_the_first_byte(void **state) {
  (void)state;
  struct pl_buf b;
  pl__buf_init(&b, &pool, 100000);
  assert_null(b.at);
  assert_int_equal(pl__buf_reserve(&b, 0), 0);
  pl__buf_release(&b);
  assert_null(b.at);
}

static void gives_its_block_to_the_next_buffer(void **state) {
  (void)state;
  struct pl_buf b;
  pl__buf_init(&b, &pool, 100000);
  assert_int_equal(pl__buf_append(&b, "abc", 3), 0);
  char *block = b.at;
  pl__buf_release(&b);
  assert_int_equal(pool.free_count, 1);
  uint64_t before = pl__alloc_count();
  assert_int_equal(pl__buf_append(&b, "abc", 3), 0);
  assert_ptr_equal(b.at, block);
  assert_int_equal(pl__alloc_count(), before);
  pl__buf_release(&b);
}

static void keeps_its_bytes_when_it_outgrows_the_block(void **state) {
  (void)state;
  struct pl_buf b;
  char piece[1000];
  pl__buf_init(&b, &pool, 100000);
  for (int i = 0; i < 100; i++) {
    memset(piece, 'a' + i % 26, sizeof piece);
    assert_int_equal(pl__buf_append(&b, piece, sizeof piece), 0);
  }
  assert_int_equal(b.bytes, 100000);
  for (int i = 0; i < 100000; i++)
    assert_int_equal(b.at[i], 'a' + i / 1000 % 26);
  assert_int_equal(pool.free_count, 1);
  pl__buf_release(&b);
  assert_int_equal(pool.free_count, 1);
}

static void takes_bytes_max_and_refuses_one_more(void **state) {
  (void)state;
  struct pl_buf b;
  char bytes[300] = {0};
  pl__buf_init(&b, NULL, 300);
  assert_int_equal(pl__buf_append(&b, bytes, 300), 0);
  assert_int_equal(pl__buf_append(&b, bytes, 1), PL_EFULL);
  assert_int_equal(pl__buf_reserve(&b, UINT32_MAX), PL_EFULL);
  assert_int_equal(b.bytes, 300);
  pl__buf_release(&b);
}

static void a_pool_block_respects_a_smaller_maximum(void **state) {
  (void)state;
  struct pl_buf b;
  char bytes[101] = {0};
  pl__buf_init(&b, &pool, 100);
  assert_int_equal(pl__buf_append(&b, bytes, 100), 0);
  assert_int_equal(pl__buf_append(&b, bytes, 1), PL_EFULL);
  pl__buf_release(&b);
}

static void stays_as_it_was_without_memory(void **state) {
  (void)state;
  struct pl_buf b;
  char bytes[PL_BUF_BLOCK_BYTES] = {0};
  pl__buf_init(&b, &pool, 100000);
  pl__alloc_fail_after(1, true);
  assert_int_equal(pl__buf_append(&b, "a", 1), PL_ENOMEM);
  assert_int_equal(pl__buf_append(&b, bytes, sizeof bytes), PL_ENOMEM);
  pl__alloc_fail_after(0, false);
  assert_int_equal(pl__buf_append(&b, "abc", 3), 0);
  pl__alloc_fail_after(1, true);
  assert_int_equal(pl__buf_append(&b, bytes, sizeof bytes), PL_ENOMEM);
  pl__alloc_fail_after(0, false);
  assert_int_equal(b.bytes, 3);
  assert_memory_equal(b.at, "abc", 3);
  pl__buf_release(&b);
}

static void drops_bytes_from_the_front(void **state) {
  (void)state;
  struct pl_buf b;
  pl__buf_init(&b, NULL, 100);
  pl__buf_append(&b, "abcdef", 6);
  pl__buf_drop(&b, 2);
  assert_int_equal(b.bytes, 4);
  assert_memory_equal(b.at, "cdef", 4);
  pl__buf_drop(&b, 4);
  assert_int_equal(b.bytes, 0);
  pl__buf_release(&b);
}

static int format(struct pl_buf *b, const char *text, ...) {
  va_list args;
  int status;

  va_start(args, text);
  status = pl__buf_format(b, text, args);
  va_end(args);
  return status;
}

static void formats_to_the_end_and_cuts_what_is_too_long(void **state) {
  static char longer[3 * PL_BUF_FORMAT_BYTES];
  struct pl_buf b;

  (void)state;
  memset(longer, 'x', sizeof longer - 1);
  pl__buf_init(&b, NULL, 1u << 20);
  assert_int_equal(format(&b, "%d and ", 7), 0);
  assert_int_equal(format(&b, "%s", "more"), 0);
  assert_int_equal(b.bytes, 10);
  assert_memory_equal(b.at, "7 and more", 10);
  assert_int_equal(format(&b, "%s", longer), 0);
  assert_int_equal(b.bytes, 10 + PL_BUF_FORMAT_BYTES - 1);
  pl__buf_release(&b);
}

static void a_pool_keeps_no_more_than_its_limit(void **state) {
  (void)state;
  static void *blocks[PL_BUF_POOL_KEEP + 10];
  for (unsigned i = 0; i < PL_BUF_POOL_KEEP + 10; i++)
    blocks[i] = pl__buf_pool_take(&pool);
  for (unsigned i = 0; i < PL_BUF_POOL_KEEP + 10; i++)
    pl__buf_pool_give(&pool, blocks[i]);
  assert_int_equal(pool.free_count, PL_BUF_POOL_KEEP);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_pool, free_pool)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(holds_no_block_before_the_first_byte),
      FACT(gives_its_block_to_the_next_buffer),
      FACT(keeps_its_bytes_when_it_outgrows_the_block),
      FACT(takes_bytes_max_and_refuses_one_more),
      FACT(a_pool_block_respects_a_smaller_maximum),
      FACT(stays_as_it_was_without_memory),
      FACT(drops_bytes_from_the_front),
      FACT(formats_to_the_end_and_cuts_what_is_too_long),
      FACT(a_pool_keeps_no_more_than_its_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
