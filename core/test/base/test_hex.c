/* test/base/test_hex.c - digits compared with those of printf. */
#include "base/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>

static const uint64_t numbers[] = {0,
                                   1,
                                   9,
                                   10,
                                   15,
                                   16,
                                   0x00f067aa0ba902b7,
                                   0x123456789abcdef0,
                                   0xfedcba9876543210,
                                   0x9a9a9a9a9a9a9a9a,
                                   0x8000000000000000,
                                   UINT64_MAX};

static void writes_the_digits_that_printf_writes(void **state) {
  (void)state;
  for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    char expected[17], digits[17] = {0};
    snprintf(expected, sizeof expected, "%016" PRIx64, numbers[i]);
    pl__hex_put(digits, numbers[i]);
    assert_string_equal(digits, expected);
  }
}

static void reads_back_what_it_wrote(void **state) {
  (void)state;
  for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    char digits[16];
    uint64_t n;
    pl__hex_put(digits, numbers[i]);
    assert_true(pl__hex_get(digits, &n));
    assert_true(n == numbers[i]);
  }
}

static void takes_the_sixteen_digits_and_no_other_byte_at_any_place(void **s) {
  (void)s;
  for (int place = 0; place < 16; place++)
    for (int byte = 0; byte < 256; byte++) {
      char digits[] = "0123456789abcdef";
      uint64_t n;
      digits[place] = (char)byte;
      assert_int_equal(pl__hex_get(digits, &n),
                       byte && strchr("0123456789abcdef", byte) != NULL);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(writes_the_digits_that_printf_writes),
      cmocka_unit_test(reads_back_what_it_wrote),
      cmocka_unit_test(takes_the_sixteen_digits_and_no_other_byte_at_any_place),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
