/* vm/json_number.c - see json_number.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strtod_l */
#endif

#include "vm/json_number.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool pl__json_number_find(const unsigned char *begin, const unsigned char *end,
                          double *out) {
  char text[PL_JSON_NUMBER_BYTES_MAX + 1];
  size_t bytes = (size_t)(end - begin);
  /* Not the locale in force: that one may have a decimal comma.  glibc gives
   * out "C" without allocating. */
  static locale_t c_locale;

  if (!c_locale)
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (!c_locale)
    return false;
  memcpy(text, begin, bytes);
  text[bytes] = '\0';
  *out = fabs(strtod_l(text, NULL, c_locale));
  return isfinite(*out);
}
