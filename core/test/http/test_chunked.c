/* test/http/test_chunked.c - chunked framing, whole and split at every byte.
 *
 * What a client can see of chunked bodies is in test_parser.c; this is about
 * the pieces that the decoder hands out.
 */
#include "http/chunked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void hands_out_data_without_copying_it(void **state) {
  const char *body = "5\r\nhello\r\n0\r\n\r\nrest";
  struct pl_chunked c;
  struct pl_slice data;
  uint32_t used;
  (void)state;
  pl__chunked_init(&c, 100, 10);
  assert_int_equal(pl__chunked_run(&c, body, 19, &used, &data),
                   PL_CHUNKED_DATA);
  assert_ptr_equal(data.at, body + 3);
  assert_int_equal(data.bytes, 5);
  assert_int_equal(used, 8);
  assert_int_equal(pl__chunked_run(&c, body + 8, 11, &used, &data),
                   PL_CHUNKED_DONE);
  assert_int_equal(used, 7);
}

static void hands_out_what_is_there_of_a_chunk(void **state) {
  const char *body = "6\r\nhel";
  struct pl_chunked c;
  struct pl_slice data;
  uint32_t used;
  (void)state;
  pl__chunked_init(&c, 100, 10);
  assert_int_equal(pl__chunked_run(&c, body, 6, &used, &data), PL_CHUNKED_DATA);
  assert_int_equal(data.bytes, 3);
  assert_int_equal(used, 6);
  assert_int_equal(c.left, 3);
  assert_int_equal(pl__chunked_run(&c, body, 0, &used, &data), PL_CHUNKED_MORE);
  assert_int_equal(used, 0);
}

static void counts_extensions_over_all_chunks(void **state) {
  char chunk[255] = "1;";
  struct pl_chunked c;
  struct pl_slice data;
  uint32_t used, extension_bytes = 0;
  enum pl_chunked_outcome outcome = PL_CHUNKED_DONE;
  (void)state;
  memset(chunk + 2, 'e', 248);
  memcpy(chunk + 250, "\r\nx\r\n", 5);
  pl__chunked_init(&c, 100, 10);
  while (extension_bytes <= PL_LIMIT_CHUNK_EXTENSIONS_BYTES) {
    uint32_t i = 0;
    do {
      outcome = pl__chunked_run(&c, chunk + i, 255 - i, &used, &data);
      i += used;
    } while (outcome == PL_CHUNKED_DATA);
    if (outcome == PL_CHUNKED_BAD)
      break;
    assert_int_equal(outcome, PL_CHUNKED_MORE);
    extension_bytes += 248;
  }
  assert_int_equal(outcome, PL_CHUNKED_BAD);
  assert_int_equal(c.status, 400);
  assert_in_range(extension_bytes, PL_LIMIT_CHUNK_EXTENSIONS_BYTES - 248,
                  PL_LIMIT_CHUNK_EXTENSIONS_BYTES);
}

static void takes_sizes_up_to_the_limit(void **state) {
  struct pl_chunked c;
  struct pl_slice data;
  uint32_t used;
  (void)state;
  pl__chunked_init(&c, 100, 10);
  assert_int_equal(pl__chunked_run(&c, "1fffffffffffff\r\n", 16, &used, &data),
                   PL_CHUNKED_MORE);
  assert_true(c.left == ((uint64_t)1 << 53) - 1);
  pl__chunked_init(&c, 100, 10);
  assert_int_equal(pl__chunked_run(&c, "fffffffffffffff\r\n", 17, &used, &data),
                   PL_CHUNKED_BAD);
}

static void stays_done_and_stays_refused(void **state) {
  struct pl_chunked c;
  struct pl_slice data;
  uint32_t used;
  (void)state;
  pl__chunked_init(&c, 100, 10);
  assert_int_equal(pl__chunked_run(&c, "0\r\n\r\n", 5, &used, &data),
                   PL_CHUNKED_DONE);
  assert_int_equal(pl__chunked_run(&c, "x", 1, &used, &data), PL_CHUNKED_DONE);
  assert_int_equal(used, 0);
  pl__chunked_init(&c, 100, 10);
  assert_int_equal(pl__chunked_run(&c, "x", 1, &used, &data), PL_CHUNKED_BAD);
  assert_int_equal(pl__chunked_run(&c, "0", 1, &used, &data), PL_CHUNKED_BAD);
  assert_int_equal(used, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(hands_out_data_without_copying_it),
      cmocka_unit_test(hands_out_what_is_there_of_a_chunk),
      cmocka_unit_test(counts_extensions_over_all_chunks),
      cmocka_unit_test(takes_sizes_up_to_the_limit),
      cmocka_unit_test(stays_done_and_stays_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
