/* test/vm/test_decimal.c - decimal text against the C library's, which is slow
 * and right.
 */
#include "vm/decimal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 100000

/* xorshift64*: the same numbers in every run, so a failure can be seen again */
static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void) {
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return seed * 2685821657736338717u;
}

static double from_bits(uint64_t bits) {
  double number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

/* A finite double: of any bits, a power of two, a short decimal or a
 * fraction in [0, 1). */
static double random_double(unsigned kind) {
  uint64_t bits = next_random();

  switch (kind % 4) {
  case 0:
    return isfinite(from_bits(bits)) ? from_bits(bits) : 0;
  case 1:
    return ldexp(1, (int)(bits % 2098) - 1074);
  case 2:
    return (double)(bits % 1000000007) / 1000;
  default:
    return (double)(bits >> 11) / 9007199254740992.0;
  }
}

static const char *encode(double number) {
  static char text[PL_DECIMAL_BYTES_MAX + 1];
  uint32_t bytes = pl__decimal_encode(number, text);

  assert_in_range(bytes, 1, PL_DECIMAL_BYTES_MAX);
  text[bytes] = '\0';
  return text;
}

/* How many digits from the first to the last that is not 0. */
static int count_digits(const char *text) {
  int count = 0, zeros = 0;

  for (; *text && *text != 'e'; text++) {
    if (*text < '0' || *text > '9' || (*text == '0' && count == 0))
      continue;
    count++;
    zeros = *text == '0' ? zeros + 1 : 0;
  }
  return count - zeros;
}

static int fewest_digits(double number) {
  char text[64];

  for (int digits = 1; digits < 17; digits++) {
    snprintf(text, sizeof text, "%.*e", digits - 1, number);
    if (strtod(text, NULL) == number)
      return digits;
  }
  return 17;
}

static void writes_integers_of_64_bits(void **state) {
  (void)state;
  char text[PL_DECIMAL_BYTES_MAX], expected[32];

  for (int i = 0; i < 64; i++) {
    for (int off = -1; off <= 1; off++) {
      uint64_t n = (UINT64_C(1) << i) + (uint64_t)(int64_t)off;
      int bytes =
          snprintf(expected, sizeof expected, "%llu", (unsigned long long)n);
      assert_int_equal(pl__decimal_encode_u64(n, text), bytes);
      assert_memory_equal(text, expected, (size_t)bytes);
      bytes = snprintf(expected, sizeof expected, "%lld", (long long)n);
      assert_int_equal(pl__decimal_encode_i64((int64_t)n, text), bytes);
      assert_memory_equal(text, expected, (size_t)bytes);
    }
  }
}

static void writes_the_forms_of_ecmascript(void **state) {
  (void)state;
  assert_string_equal(encode(0), "0");
  assert_string_equal(encode(-0.0), "-0");
  assert_string_equal(encode(1e20), "100000000000000000000");
  assert_string_equal(encode(1e21), "1e+21");
  assert_string_equal(encode(1e-6), "0.000001");
  assert_string_equal(encode(1e-7), "1e-7");
  assert_string_equal(encode(-1.2345678901234567e-6),
                      "-0.0000012345678901234567");
  assert_string_equal(encode(1.5e300), "1.5e+300");
  assert_string_equal(encode(299792.458), "299792.458");
  assert_string_equal(encode(5e-324), "5e-324");
  assert_string_equal(encode(1.7976931348623157e308),
                      "1.7976931348623157e+308");
}

static void writes_the_fewest_digits_that_read_back_the_same(void **state) {
  (void)state;
  for (unsigned i = 0; i < ROUNDS; i++) {
    double number = random_double(i);
    const char *text = encode(number);
    assert_true(strtod(text, NULL) == number);
    assert_in_range(count_digits(text), 0, fewest_digits(number));
  }
}

static void finds_what_strtod_finds(void **state) {
  (void)state;
  char text[64];
  unsigned found = 0;

  for (unsigned i = 0; i < ROUNDS; i++) {
    uint64_t digits = next_random() >> next_random() % 64;
    int exponent = (int)(next_random() % 660) - 345;
    double number;
    if (digits == UINT64_MAX ||
        !pl__decimal_find(digits, exponent, false, &number))
      continue;
    snprintf(text, sizeof text, "%llue%d", (unsigned long long)digits,
             exponent);
    assert_true(strtod(text, NULL) == number);
    found++;
  }
  assert_in_range(found, ROUNDS / 2, ROUNDS);
}

/* Odd 54-bit integers lie in the middle between two doubles; times 5^k they
 * still do when 10^-k is the exponent. */
static void takes_ties_to_the_even_neighbour(void **state) {
  (void)state;
  char text[64];

  for (unsigned i = 0; i < ROUNDS; i++) {
    uint64_t digits = (next_random() >> 10 | UINT64_C(1) << 53) | 1;
    int exponent = -(int)(i % 5);
    for (int k = exponent; k < 0; k++)
      digits *= 5;
    double number;
    if (!pl__decimal_find(digits, exponent, false, &number))
      continue;
    snprintf(text, sizeof text, "%llue%d", (unsigned long long)digits,
             exponent);
    assert_true(strtod(text, NULL) == number);
  }
}

static void does_not_guess_when_digits_are_missing(void **state) {
  (void)state;
  char text[64];
  double number;

  /* 2^53 + 1 is a tie: what follows decides. */
  assert_false(pl__decimal_find(9007199254740993u, 0, true, &number));
  for (unsigned i = 0; i < ROUNDS; i++) {
    uint64_t digits =
        UINT64_C(1000000000000000000) + next_random() % 1000000007;
    int exponent = (int)(next_random() % 500) - 250;
    if (!pl__decimal_find(digits, exponent, true, &number))
      continue;
    snprintf(text, sizeof text, "%llu%ue%d", (unsigned long long)digits, i % 10,
             exponent - 1);
    assert_true(strtod(text, NULL) == number);
  }
}

static void leaves_subnormals_and_infinities_to_the_caller(void **state) {
  (void)state;
  double number = 7;

  assert_false(pl__decimal_find(5, -324, false, &number));
  assert_false(pl__decimal_find(1, 309, false, &number));
  assert_false(pl__decimal_find(18, 307, false, &number));
  assert_false(pl__decimal_find(1, -1000, false, &number));
  assert_true(number == 7);
  assert_true(pl__decimal_find(0, 1000, false, &number));
  assert_true(number == 0);
}

static int set_up(void **state) {
  (void)state;
  pl__decimal_init();
  pl__decimal_init();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(writes_integers_of_64_bits),
      cmocka_unit_test(writes_the_forms_of_ecmascript),
      cmocka_unit_test(writes_the_fewest_digits_that_read_back_the_same),
      cmocka_unit_test(finds_what_strtod_finds),
      cmocka_unit_test(takes_ties_to_the_even_neighbour),
      cmocka_unit_test(does_not_guess_when_digits_are_missing),
      cmocka_unit_test(leaves_subnormals_and_infinities_to_the_caller),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
