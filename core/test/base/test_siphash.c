/* test/base/test_siphash.c - SipHash-2-4 against the published values. */
#include "base/siphash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The key 00 01 .. 0f and the input 00 01 .., as the paper's appendix has it. */
static const struct pl_siphash_seed counting = {
    {0x0706050403020100u, 0x0f0e0d0c0b0a0908u}};

static uint64_t of_counting(size_t bytes) {
  unsigned char input[64];

  for (size_t i = 0; i < sizeof input; i++)
    input[i] = (unsigned char)i;
  return pl__siphash(&counting, input, bytes, 2, 4);
}

static void gives_the_published_values(void **state) {
  (void)state;
  assert_true(of_counting(15) == 0xa129ca6149be45e5u);
  assert_true(of_counting(0) == 0x726fdb47dd0e0e31u);
  assert_true(of_counting(8) == 0x93f5f5799a932462u);
}

static void depends_on_each_byte_and_on_the_seed(void **state) {
  const struct pl_siphash_seed other = {{1, 2}};
  uint64_t plain;
  char text[20] = {0};

  (void)state;
  plain = pl__siphash(&counting, text, sizeof text, 1, 3);
  assert_true(plain != pl__siphash(&other, text, sizeof text, 1, 3));
  for (size_t i = 0; i < sizeof text; i++) {
    text[i] = 1;
    assert_true(plain != pl__siphash(&counting, text, sizeof text, 1, 3));
    text[i] = 0;
  }
  assert_true(plain != pl__siphash(&counting, text, sizeof text - 1, 1, 3));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_the_published_values),
      cmocka_unit_test(depends_on_each_byte_and_on_the_seed),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
