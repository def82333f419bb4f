/* test/base/test_text.c - durations and sizes, and what is neither. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <math.h>

static struct pl_slice slice(const char *text) {
  return pl__slice(text, strlen(text));
}

static void reads_durations(void **state) {
  (void)state;
  static const struct {
    const char *text;
    double seconds;
  } cases[] = {{"250ms", 0.25}, {"5s", 5},       {"1m", 60}, {"2h", 7200},
               {"30", 30},      {"1.5s", 1.5},   {"0", 0},   {"0.001", 0.001},
               {"1d", 86400},   {"0.5ms", 5e-4}, {"007", 7}, {"1.25m", 75}};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    double seconds = -1;
    assert_int_equal(pl__text_seconds(slice(cases[i].text), &seconds), 0);
    assert_true(fabs(seconds - cases[i].seconds) < 1e-12);
  }
}

static void reads_shares(void **state) {
  (void)state;
  static const struct {
    const char *text;
    double share;
  } cases[] = {{"0", 0},       {"1", 1},         {"0.01", 0.01}, {"1%", 0.01},
               {"0.5%", 5e-3}, {"100.0%", 1.00}, {"1.0", 1}};
  static const char *const bad[] = {"",   "%",    "1.1", "101%", "-0.1",
                                    ".5", "1e-3", "1 %", "1%%",  "half"};
  double share = -1;
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(pl__text_share(slice(cases[i].text), &share), 0);
    assert_true(fabs(share - cases[i].share) < 1e-12);
  }
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(pl__text_share(slice(bad[i]), &share), PL_EINVAL);
}

static void refuses_what_is_no_duration(void **state) {
  (void)state;
  static const char *const cases[] = {
      "",
      "s",
      "-1",
      "+1s",
      "1 s",
      " 1",
      "1s ",
      "1.",
      ".5s",
      "1,5",
      "1e3",
      "0x10",
      "1S",
      "1sec",
      "nan",
      "inf",
      "1..2",
      "1m2",
      "ms",
      "5ss",
      "1.s",
      "101000d",
      "99999999999999999999999999999999999999999999999"};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    double seconds = -1;
    assert_int_equal(pl__text_seconds(slice(cases[i]), &seconds), PL_EINVAL);
    assert_true(seconds == -1);
  }
}

static void reads_sizes(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint64_t bytes;
  } cases[] = {{"64K", 65536},
               {"10M", 10485760},
               {"1G", 1u << 30},
               {"1k", 1024},
               {"0", 0},
               {"123", 123},
               {"8388608G", 1ull << 53},
               {"9007199254740992", 1ull << 53}};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint64_t bytes = 1;
    assert_int_equal(pl__text_bytes(slice(cases[i].text), &bytes), 0);
    assert_true(bytes == cases[i].bytes);
  }
}

static void refuses_what_is_no_size(void **state) {
  (void)state;
  static const char *const cases[] = {"",
                                      "K",
                                      "-1",
                                      "+1",
                                      "1.5M",
                                      "1 K",
                                      "1KB",
                                      "64T",
                                      "0x10",
                                      "1K ",
                                      "KK",
                                      "8388609G",
                                      "9007199254740993",
                                      "18446744073709551616",
                                      "99999999999999999999999K"};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint64_t bytes = 1;
    assert_int_equal(pl__text_bytes(slice(cases[i]), &bytes), PL_EINVAL);
    assert_int_equal(bytes, 1);
  }
}

static void a_number_ends_at_its_maximum(void **state) {
  (void)state;
  uint64_t n = 1;
  assert_int_equal(pl__text_number(slice("65535"), 65535, &n), 0);
  assert_int_equal(n, 65535);
  assert_int_equal(pl__text_number(slice("65536"), 65535, &n), PL_EINVAL);
  assert_int_equal(
      pl__text_number(slice("18446744073709551615"), UINT64_MAX, &n), 0);
  assert_true(n == UINT64_MAX);
  assert_int_equal(
      pl__text_number(slice("18446744073709551616"), UINT64_MAX, &n),
      PL_EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_durations),
      cmocka_unit_test(reads_shares),
      cmocka_unit_test(refuses_what_is_no_duration),
      cmocka_unit_test(reads_sizes),
      cmocka_unit_test(refuses_what_is_no_size),
      cmocka_unit_test(a_number_ends_at_its_maximum),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
