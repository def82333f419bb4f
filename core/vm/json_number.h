/* vm/json_number.h - reads numbers as JSON has them.
 *
 * Inline, as a call costs as much as a short number.  Knows no Lua, and no
 * locale.
 */
#ifndef PL_VM_JSON_NUMBER_H
#define PL_VM_JSON_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/bind_json.h"
#include "vm/decimal.h"

static inline bool pl__json_is_digit(const unsigned char *at,
                                     const unsigned char *end) {
  return at < end && *at >= '0' && *at <= '9';
}

/* The digits of a number, without sign. */
struct pl_json_digits {
  uint64_t value;   /* the first 19 that count */
  uint32_t count;   /* how many, leading zeros aside */
  int64_t exponent; /* of ten, to multiply `value` with */
  bool more;        /* digits other than 0 follow behind the 19 */
};

/* Takes in the run of digits at `at`; returns its end. */
static inline const unsigned char *
pl__json_take_digits(struct pl_json_digits *d, const unsigned char *at,
                     const unsigned char *end, bool fraction) {
  const unsigned char *begin = at;
  uint64_t value = d->value;
  uint32_t count = d->count;

  for (; pl__json_is_digit(at, end) && count < PL_DECIMAL_DIGITS_MAX; at++) {
    value = value * 10 + (uint64_t)(*at - '0');
    count += value != 0;
  }
  d->value = value;
  d->count = count;
  if (fraction)
    d->exponent -= at - begin;
  for (; pl__json_is_digit(at, end); at++) {
    d->more |= *at != '0';
    d->exponent += !fraction;
  }
  return at;
}

/* The C library's word on [begin, end), a number as JSON has it, of at most
 * PL_JSON_NUMBER_BYTES_MAX, without its sign.  False: too large for a double, or
 * no memory. */
bool pl__json_number_find(const unsigned char *begin, const unsigned char *end,
                          double *out);

static inline const char *pl__json_number_fail(const unsigned char **at,
                                               const unsigned char *where,
                                               const char *fault) {
  *at = where;
  return fault;
}

/* Reads the number at *from (RFC 8259, section 6), as far as it goes before
 * `end`, and moves *from behind it.  Needs pl__decimal_init before.
 *
 * Returns NULL with the nearest double in *out; or what is wrong with it, a
 * constant, with *from where that is and *out untouched. */
static inline const char *pl__json_number_read(const unsigned char **from,
                                               const unsigned char *end,
                                               double *out) {
  const unsigned char *begin = *from, *at = begin;
  struct pl_json_digits d = {0};
  bool minus = *at == '-', whole = true;
  double number;

  at += minus;
  if (!pl__json_is_digit(at, end))
    return pl__json_number_fail(from, at, "digit expected");
  if (*at == '0' && pl__json_is_digit(at + 1, end))
    return pl__json_number_fail(from, at, "leading zero");
  at = pl__json_take_digits(&d, at, end, false);
  if (at < end && *at == '.') {
    whole = false;
    if (!pl__json_is_digit(++at, end))
      return pl__json_number_fail(from, at, "digit expected");
    at = pl__json_take_digits(&d, at, end, true);
  }
  if (at < end && (*at | 0x20) == 'e') {
    whole = false;
    at++;
    bool below = at < end && *at == '-';
    int64_t exponent = 0;
    at += at < end && (*at == '-' || *at == '+');
    if (!pl__json_is_digit(at, end))
      return pl__json_number_fail(from, at, "digit expected");
    for (; pl__json_is_digit(at, end); at++)
      if (exponent < PL_JSON_TEXT_BYTES_MAX)
        exponent = exponent * 10 + (*at - '0');
    d.exponent += below ? -exponent : exponent;
  }
  if (whole && d.count < 16) {
    number = (double)(int64_t)d.value;
  } else {
    if (at - begin > PL_JSON_NUMBER_BYTES_MAX)
      return pl__json_number_fail(from, begin, "number too long");
    int exponent = d.exponent > 1000    ? 1000
                   : d.exponent < -1000 ? -1000
                                        : (int)d.exponent;
    if (!pl__decimal_find(d.value, exponent, d.more, &number) &&
        !pl__json_number_find(begin, at, &number))
      return pl__json_number_fail(from, begin, "number too large");
  }
  *out = minus ? -number : number;
  *from = at;
  return NULL;
}

#endif /* PL_VM_JSON_NUMBER_H */
