/* base/text.c - digits, a fraction perhaps, and a unit. */
#include "base/text.h"

#include "base/err.h"

#define SECONDS_MAX (100.0 * 366 * 86400)
#define BYTES_MAX (1ull << 53)

static int is_digit(char c) { return c >= '0' && c <= '9'; }

int pl__text_number(struct pl_slice text, uint64_t max, uint64_t *number) {
  uint64_t n = 0;
  if (text.bytes == 0)
    return PL_EINVAL;
  for (uint32_t i = 0; i < text.bytes; i++) {
    if (!is_digit(text.at[i]))
      return PL_EINVAL;
    uint64_t digit = (uint64_t)(text.at[i] - '0');
    if (n > (UINT64_MAX - digit) / 10)
      return PL_EINVAL;
    n = n * 10 + digit;
  }
  if (n > max)
    return PL_EINVAL;
  *number = n;
  return 0;
}

/* Seconds of the unit `unit`, or 0 when there is no such unit. */
static double unit_seconds(struct pl_slice unit) {
  static const struct {
    struct pl_slice name;
    double seconds;
  } units[] = {{{"", 0}, 1},   {{"ms", 2}, 0.001}, {{"s", 1}, 1},
               {{"m", 1}, 60}, {{"h", 1}, 3600},   {{"d", 1}, 86400}};
  for (unsigned i = 0; i < sizeof units / sizeof *units; i++)
    if (pl__slice_equal(unit, units[i].name))
      return units[i].seconds;
  return 0;
}

/* Reads digits with an optional fraction; *rest is what comes behind them.
 * The digits are bounded, or their scale would become infinite. */
static int decimal(struct pl_slice text, double *value, struct pl_slice *rest) {
  double whole = 0, fraction = 0, scale = 1;
  uint32_t i = 0, digits;

  for (; i < text.bytes && is_digit(text.at[i]); i++)
    whole = whole * 10 + (text.at[i] - '0');
  digits = i;
  if (i > 0 && i + 1 < text.bytes && text.at[i] == '.' &&
      is_digit(text.at[i + 1]))
    for (i++; i < text.bytes && is_digit(text.at[i]); i++) {
      fraction = fraction * 10 + (text.at[i] - '0');
      scale *= 10;
    }
  *value = whole + fraction / scale;
  *rest = pl__slice(text.at + i, text.bytes - i);
  return digits == 0 || text.bytes > 40 ? PL_EINVAL : 0;
}

int pl__text_seconds(struct pl_slice text, double *seconds) {
  struct pl_slice rest;
  double value, unit;

  if (decimal(text, &value, &rest) || (unit = unit_seconds(rest)) == 0 ||
      value * unit > SECONDS_MAX)
    return PL_EINVAL;
  *seconds = value * unit;
  return 0;
}

int pl__text_share(struct pl_slice text, double *share) {
  struct pl_slice rest;
  double value;

  if (decimal(text, &value, &rest))
    return PL_EINVAL;
  if (pl__slice_equal(rest, PL_SLICE("%")))
    value /= 100;
  else if (rest.bytes)
    return PL_EINVAL;
  if (value > 1)
    return PL_EINVAL;
  *share = value;
  return 0;
}

/* The power of two that a size's last letter stands for; 0 for none. */
static unsigned size_shift(char c) {
  switch (c) {
  case 'k':
  case 'K':
    return 10;
  case 'm':
  case 'M':
    return 20;
  case 'g':
  case 'G':
    return 30;
  default:
    return 0;
  }
}

int pl__text_bytes(struct pl_slice text, uint64_t *bytes) {
  unsigned shift = text.bytes ? size_shift(text.at[text.bytes - 1]) : 0;
  uint64_t n;
  if (shift)
    text.bytes--;
  int status = pl__text_number(text, BYTES_MAX >> shift, &n);
  if (status)
    return status;
  *bytes = n << shift;
  return 0;
}
