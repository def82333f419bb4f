/* test/http/test_date.c - dates of HTTP. */
#include "http/date.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"

static void assert_date(int64_t t, const char *wanted) {
  char out[PL_DATE_BYTES];
  pl__date_format(t, out);
  assert_memory_equal(out, wanted, PL_DATE_BYTES);
}

static void formats_dates(void **state) {
  (void)state;
  assert_date(0, "Thu, 01 Jan 1970 00:00:00 GMT");
  assert_date(784111777, "Sun, 06 Nov 1994 08:49:37 GMT");
  assert_date(951782400, "Tue, 29 Feb 2000 00:00:00 GMT");
  assert_date(4107542399, "Sun, 28 Feb 2100 23:59:59 GMT");
  assert_date(4107542400, "Mon, 01 Mar 2100 00:00:00 GMT");
}

static void brings_dates_out_of_range_to_the_nearer_end(void **state) {
  (void)state;
  assert_date(-1, "Thu, 01 Jan 1970 00:00:00 GMT");
  assert_date(INT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
}

static void agrees_with_the_c_library(void **state) {
  (void)state;
  for (int64_t t = 1; t < 253402300799; t = t * 2 + 86399) {
    char text[64];
    struct tm tm;
    time_t when = (time_t)t;
    gmtime_r(&when, &tm);
    strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    assert_date(t, text);
  }
}

static void reads_what_it_writes(void **state) {
  (void)state;
  for (int64_t t = 0; t < 253402300799; t = t * 3 + 12345) {
    char text[PL_DATE_BYTES];
    int64_t again = -1;
    pl__date_format(t, text);
    assert_int_equal(pl__date_parse(pl__slice(text, PL_DATE_BYTES), &again), 0);
    assert_true(again == t);
  }
}

static void refuses_what_is_no_date(void **state) {
  static const char *const bad[] = {
      "",
      "Sun, 06 Nov 1994 08:49:37 GMT ",
      "Mon, 06 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 08:49:37 UTC",
      "Sun, 31 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 24:49:37 GMT",
      "Sun, 06 Nov 1994 08:60:37 GMT",
      "Sun, 06 Nov 1994 08:49:61 GMT",
      "Sun, 06 nov 1994 08:49:37 GMT",
      "Sun, 6  Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1969 08:49:37 GMT",
      "Sun, 00 Nov 1994 08:49:37 GMT",
      "Sunday, 06-Nov-94 08:49:37 GMT",
      "Sun Nov  6 08:49:37 1994",
  };
  (void)state;
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    int64_t t = 5;
    if (pl__date_parse(pl__slice(bad[i], strlen(bad[i])), &t) != PL_EBAD)
      fail_msg("taken: %s", bad[i]);
    assert_true(t == 5);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(formats_dates),
      cmocka_unit_test(brings_dates_out_of_range_to_the_nearer_end),
      cmocka_unit_test(agrees_with_the_c_library),
      cmocka_unit_test(reads_what_it_writes),
      cmocka_unit_test(refuses_what_is_no_date),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
