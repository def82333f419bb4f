/* test/base/test_histogram.c - buckets, their ends, and quantiles. */
#include "base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

static struct pl_histogram h;

static int clear(void **state) {
  (void)state;
  pl__histogram_clear(&h);
  return 0;
}

static void count(double number) {
  uint32_t index = pl__histogram_index(number);

  h.counts[index]++;
  h.octaves |= UINT64_C(1) << (index / PL_HISTOGRAM_STEPS);
  h.sum += number;
}

static void holds_the_upper_end_of_each_bucket_and_not_the_lower(void **state) {
  (void)state;
  for (uint32_t i = 0; i + 1 < PL_HISTOGRAM_BUCKETS; i++) {
    double end = pl__histogram_end(i);
    assert_int_equal(pl__histogram_index(end), i);
    assert_int_equal(pl__histogram_index(nextafter(end, INFINITY)), i + 1);
    assert_int_equal(pl__histogram_index(nextafter(end, 0)), i);
  }
}

static void ends_at_powers_of_two(void **state) {
  (void)state;
  for (uint32_t octave = 0; octave < PL_HISTOGRAM_OCTAVES; octave++) {
    uint32_t last = (octave + 1) * PL_HISTOGRAM_STEPS - 1;
    int exponent = PL_HISTOGRAM_EXPONENT_MIN + (int)octave + 1;
    assert_true(pl__histogram_end(last) == ldexp(1, exponent));
  }
}

static void puts_what_is_too_small_or_too_large_at_its_ends(void **state) {
  static const double small[] = {0, -0.0, -1, 1e-300, 5e-324, -INFINITY, NAN};
  static const double large[] = {0x1p40, 0x1.8p40, 1e300, INFINITY};

  (void)state;
  for (size_t i = 0; i < sizeof small / sizeof *small; i++)
    assert_int_equal(pl__histogram_index(small[i]), 0);
  for (size_t i = 0; i < sizeof large / sizeof *large; i++)
    assert_int_equal(pl__histogram_index(large[i]), PL_HISTOGRAM_BUCKETS - 1);
}

/* 1/32 of the bucket's lower end, at most. */
static void is_off_by_three_percent_at_most(void **state) {
  (void)state;
  srand(1);
  for (int i = 0; i < 100000; i++) {
    double number = ldexp(1 + rand() / (double)RAND_MAX, rand() % 60 - 22);
    double found;
    count(number);
    found = pl__histogram_quantile(&h, 1);
    assert_true(fabs(found - number) <= number / 32);
    pl__histogram_clear(&h);
  }
}

static void tells_quantiles_of_many(void **state) {
  (void)state;
  for (int i = 1; i <= 10000; i++)
    count(i / 1000.0);
  assert_int_equal(pl__histogram_count(&h), 10000);
  for (double share = 0.01; share < 1; share += 0.01) {
    double found = pl__histogram_quantile(&h, share);
    assert_true(fabs(found - 10 * share) <= 10 * share / 30);
  }
  assert_true(pl__histogram_quantile(&h, 0) <= 0.0011);
}

static void is_empty_at_first_and_when_cleared(void **state) {
  (void)state;
  assert_true(pl__histogram_quantile(&h, 0.5) == 0);
  count(1), count(1000);
  pl__histogram_clear(&h);
  assert_int_equal(pl__histogram_count(&h), 0);
  for (uint32_t i = 0; i < PL_HISTOGRAM_BUCKETS; i++)
    assert_int_equal(h.counts[i], 0);
}

#define FACT(name) cmocka_unit_test_setup(name, clear)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(holds_the_upper_end_of_each_bucket_and_not_the_lower),
      FACT(ends_at_powers_of_two),
      FACT(puts_what_is_too_small_or_too_large_at_its_ends),
      FACT(is_off_by_three_percent_at_most),
      FACT(tells_quantiles_of_many),
      FACT(is_empty_at_first_and_when_cleared),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
