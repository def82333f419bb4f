#include "http/date.h"

#include "base/err.h"
#include "http/chars.h"

#define DAY_SECONDS 86400
#define UNIX_SECONDS_MAX 253402300799 /* 9999-12-31T23:59:59Z */

static const char DAYS[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01: a Thursday */
static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* Days of the Gregorian calendar since 1970-01-01, counted in eras of 400
 * years that begin in March, so that the leap day is the last of its year. */
static int64_t days_from_civil(int64_t year, int64_t month, int64_t day) {
  year -= month <= 2;
  int64_t era = year / 400;
  int64_t of_era = year - era * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year -
         719468;
}

static void civil_from_days(int64_t days, int64_t *year, int64_t *month,
                            int64_t *day) {
  days += 719468;
  int64_t era = days / 146097;
  int64_t n = days - era * 146097;
  int64_t of_era = (n - n / 1460 + n / 36524 - n / 146096) / 365;
  int64_t of_year = n - (365 * of_era + of_era / 4 - of_era / 100);
  int64_t m = (5 * of_year + 2) / 153;
  *day = of_year - (153 * m + 2) / 5 + 1;
  *month = m < 10 ? m + 3 : m - 9;
  *year = of_era + era * 400 + (*month <= 2);
}

static void put_two(char *out, int64_t n) {
  out[0] = (char)('0' + n / 10);
  out[1] = (char)('0' + n % 10);
}

void pl__date_format(int64_t unix_seconds, char out[PL_DATE_BYTES]) {
  int64_t year, month, day;

  if (unix_seconds < 0)
    unix_seconds = 0;
  if (unix_seconds > UNIX_SECONDS_MAX)
    unix_seconds = UNIX_SECONDS_MAX;
  int64_t days = unix_seconds / DAY_SECONDS;
  int64_t seconds = unix_seconds % DAY_SECONDS;
  civil_from_days(days, &year, &month, &day);

  memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", PL_DATE_BYTES);
  memcpy(out, DAYS + days % 7 * 3, 3);
  put_two(out + 5, day);
  memcpy(out + 8, MONTHS + (month - 1) * 3, 3);
  put_two(out + 12, year / 100);
  put_two(out + 14, year % 100);
  put_two(out + 17, seconds / 3600);
  put_two(out + 20, seconds / 60 % 60);
  put_two(out + 23, seconds % 60);
}

/* The number of the digits at `at`, or -1. */
static int64_t take_number(const char *at, int digits) {
  int64_t n = 0;
  for (int i = 0; i < digits; i++) {
    if (!pl__char_is_digit(at[i]))
      return -1;
    n = n * 10 + (at[i] - '0');
  }
  return n;
}

int pl__date_parse(struct pl_slice s, int64_t *unix_seconds) {
  char again[PL_DATE_BYTES];
  int64_t month = 0;

  if (s.bytes != PL_DATE_BYTES)
    return PL_EBAD;
  while (month < 12 && memcmp(MONTHS + month * 3, s.at + 8, 3) != 0)
    month++;
  int64_t day = take_number(s.at + 5, 2), year = take_number(s.at + 12, 4);
  int64_t hour = take_number(s.at + 17, 2), minute = take_number(s.at + 20, 2);
  int64_t second = take_number(s.at + 23, 2);
  if (month == 12 || day < 1 || year < 1970 || hour < 0 || minute < 0 ||
      second < 0)
    return PL_EBAD;
  int64_t t = days_from_civil(year, month + 1, day) * DAY_SECONDS +
              hour * 3600 + minute * 60 + second;
  /* Whatever is out of range or out of place comes out differently. */
  pl__date_format(t, again);
  if (memcmp(again, s.at, PL_DATE_BYTES) != 0)
    return PL_EBAD;
  *unix_seconds = t;
  return 0;
}
