/* test/http/test_chars.c - which bytes belong to which class. */
#include "http/chars.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int is_in(int c, const char *set) { return c && strchr(set, c); }

static int is_alpha(int c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_digit(int c) { return c >= '0' && c <= '9'; }

static int wanted(int c) {
  int bits = 0, alnum = is_alpha(c) || is_digit(c);
  if (alnum || is_in(c, "!#$%&'*+-.^_`|~"))
    bits |= PL_CHAR_TOKEN;
  if (c == '\t' || (c >= 0x20 && c != 0x7f))
    bits |= PL_CHAR_FIELD;
  if (c >= 0x21 && c <= 0x7e && c != '#')
    bits |= PL_CHAR_TARGET;
  if ((bits & PL_CHAR_TARGET) && !is_in(c, "%?/"))
    bits |= PL_CHAR_PLAIN;
  if (alnum || is_in(c, "-._~!$&'()*+,;="))
    bits |= PL_CHAR_HOST;
  if (c == 0x21 || (c >= 0x23 && c <= 0x2b) || (c >= 0x2d && c <= 0x3a) ||
      (c >= 0x3c && c <= 0x5b) || (c >= 0x5d && c <= 0x7e))
    bits |= PL_CHAR_COOKIE;
  if (alnum || c == '-' || c == '_')
    bits |= PL_CHAR_SLUG;
  if (c == '\t' || (c >= 0x20 && c <= 0x7e))
    bits |= PL_CHAR_EXTENSION;
  return bits;
}

static void classes_are_those_of_the_grammars(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++)
    assert_int_equal(pl__chars[c], wanted(c));
}

static void hex_digits_have_values_and_others_none(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++) {
    const char *digits = "0123456789abcdef";
    int lower = c >= 'A' && c <= 'F' ? c + 32 : c;
    const char *at = is_in(lower, digits) ? strchr(digits, lower) : NULL;
    assert_int_equal(pl__char_hex((char)c), at ? (int)(at - digits) : -1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(classes_are_those_of_the_grammars),
      cmocka_unit_test(hex_digits_have_values_and_others_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
