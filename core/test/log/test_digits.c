/* test/log/test_digits.c - numbers and texts, byte for byte. */
#include "log/digits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static char out[4096];

static void assert_text(char *end, const char *expected) {
  *end = 0;
  assert_string_equal(out, expected);
}

static void whole_numbers_are_those_of_printf(void **state) {
  (void)state;
  char expected[32];
  uint64_t n = 1;
  for (int i = 0; i < 64; i++, n = n * 2 + (uint64_t)(i % 3))
    for (uint64_t m = n - 1; m <= n + 1 && m >= n - 1; m++) {
      snprintf(expected, sizeof expected, "%" PRIu64, m);
      assert_text(pl__put_u64(out, m), expected);
      snprintf(expected, sizeof expected, "%016" PRIx64, m);
      assert_text(pl__put_hex(out, m), expected);
    }
  assert_text(pl__put_u64(out, UINT64_MAX), "18446744073709551615");
  for (unsigned i = 0; i < 1000; i++) {
    snprintf(expected, sizeof expected, "%u", i);
    assert_text(pl__put_u64(out, i), expected);
    snprintf(expected, sizeof expected, "%04u", i);
    assert_text(pl__put_padded(out, i, 4), expected);
  }
}

static void durations_have_three_decimals(void **state) {
  (void)state;
  assert_text(pl__put_ms(out, 0), "0.000");
  assert_text(pl__put_ms(out, 999), "0.000");
  assert_text(pl__put_ms(out, 1250000), "1.250");
  assert_text(pl__put_ms(out, 61001234567), "61001.234");
}

static void numbers_read_back_as_the_same(void **state) {
  (void)state;
  static const double cases[] = {
      0.1,  1.5,  -2.25,         1e300, 5e-324,  1 / 3.,
      1e21, 1e-7, 123456789.123, M_PI,  2.5e-10, 9007199254740993.0 * 4};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    *pl__put_double(out, cases[i]) = 0;
    assert_true(strtod(out, NULL) == cases[i]);
  }
  assert_text(pl__put_double(out, 0.1), "0.1");
  assert_text(pl__put_double(out, -7), "-7");
  assert_text(pl__put_double(out, 0), "0");
  assert_text(pl__put_double(out, 9007199254740992.0), "9007199254740992");
}

static void what_is_not_finite_is_null(void **state) {
  (void)state;
  assert_text(pl__put_double(out, NAN), "null");
  assert_text(pl__put_double(out, INFINITY), "null");
  assert_text(pl__put_double(out, -INFINITY), "null");
}

static void escapes_what_json_needs_escaped(void **state) {
  (void)state;
  assert_text(pl__put_json(out, PL_SLICE("a\"b\\c/d")), "a\\\"b\\\\c/d");
  assert_text(pl__put_json(out, PL_SLICE("\n\r\t\0\x1f\x7f")),
              "\\n\\r\\t\\u0000\\u001f\\u007f");
}

static void keeps_valid_utf8(void **state) {
  (void)state;
  static const char text[] = "\xc3\xa4 \xe2\x82\xac \xed\x9f\xbf \xee\x80\x80 "
                             "\xf0\x9f\x8c\x92 \xf4\x8f\xbf\xbf";
  assert_text(pl__put_json(out, PL_SLICE(text)), text);
  assert_text(pl__put_plain(out, PL_SLICE(text), 0), text);
}

#define BAD "\xef\xbf\xbd"

static void replaces_each_byte_that_is_no_utf8(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *expected;
  } cases[] = {{"\x80", BAD},
               {"a\xffz", "a" BAD "z"},
               {"\xc3", BAD},
               {"\xc0\xaf", BAD BAD},         /* longer than needed */
               {"\xe0\x80\x80", BAD BAD BAD}, /* likewise */
               {"\xed\xa0\x80", BAD BAD BAD}, /* a surrogate */
               {"\xf0\x80\x80\x80", BAD BAD BAD BAD},
               {"\xf4\x90\x80\x80", BAD BAD BAD BAD}, /* past U+10FFFF */
               {"\xf5\x80\x80\x80", BAD BAD BAD BAD},
               {"\xe2\x82", BAD BAD},
               {"\xe2\x82z", BAD BAD "z"},
               {"\xf0\x9f\x8c", BAD BAD BAD}};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct pl_slice text = pl__slice(cases[i].text, strlen(cases[i].text));
    assert_text(pl__put_json(out, text), cases[i].expected);
    assert_text(pl__put_plain(out, text, 0), cases[i].expected);
  }
}

static void no_byte_becomes_more_than_the_factor_says(void **state) {
  (void)state;
  for (int a = 0; a < 256; a++)
    for (int b = 0; b < 256; b++) {
      char text[2] = {(char)a, (char)b};
      char *end = pl__put_json(out, pl__slice(text, 2));
      assert_in_range(end - out, 2, 2 * PL_DIGITS_JSON_FACTOR);
      end = pl__put_plain(out, pl__slice(text, 2), 1);
      assert_in_range(end - out, 2, 2 * PL_DIGITS_JSON_FACTOR);
    }
}

static void terminals_get_no_control_characters(void **state) {
  (void)state;
  assert_text(pl__put_plain(out, PL_SLICE("a\x1b[31mb\x07"), 1),
              "a\\x1b[31mb\\x07");
  assert_text(pl__put_plain(out,
                            PL_SLICE("\xc2\x9b"
                                     "31m"),
                            1),
              "\\x9b31m");
  assert_text(pl__put_plain(out, PL_SLICE("a\nb\tc\r"), 1), "a\n  b\tc\\x0d");
  assert_text(pl__put_plain(out, PL_SLICE("a\nb\tc"), 0), "a\\x0ab\\x09c");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(whole_numbers_are_those_of_printf),
      cmocka_unit_test(durations_have_three_decimals),
      cmocka_unit_test(numbers_read_back_as_the_same),
      cmocka_unit_test(what_is_not_finite_is_null),
      cmocka_unit_test(escapes_what_json_needs_escaped),
      cmocka_unit_test(keeps_valid_utf8),
      cmocka_unit_test(replaces_each_byte_that_is_no_utf8),
      cmocka_unit_test(no_byte_becomes_more_than_the_factor_says),
      cmocka_unit_test(terminals_get_no_control_characters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
