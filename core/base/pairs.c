/* base/pairs.c - see pairs.h. */
#include "base/pairs.h"

#include "base/err.h"

static struct pl_slice trim(struct pl_slice s) {
  while (s.bytes && *s.at == ' ') {
    s.at++;
    s.bytes--;
  }
  while (s.bytes && s.at[s.bytes - 1] == ' ')
    s.bytes--;
  return s;
}

/* The value of a hex digit, or -1. */
static int digit_of(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes %XX, in `to` with room for PL_PAIRS_VALUE_BYTES. */
static int unescape(struct pl_slice s, char *to, struct pl_slice *out) {
  uint32_t used = 0;

  for (uint32_t i = 0; i < s.bytes; i++) {
    char c = s.at[i];
    if (used == PL_PAIRS_VALUE_BYTES)
      return PL_EBAD;
    if (c == '%') {
      int high = i + 2 < s.bytes ? digit_of(s.at[i + 1]) : -1;
      int low = high < 0 ? -1 : digit_of(s.at[i + 2]);
      if (low < 0)
        return PL_EBAD;
      c = (char)(high << 4 | low);
      i += 2;
    }
    to[used++] = c;
  }
  *out = pl__slice(to, used);
  return 0;
}

int pl__pairs_take(struct pl_slice *list, struct pl_slice *name,
                   struct pl_slice *value, char *room) {
  const char *comma, *equals;
  struct pl_slice one;

  do {
    if (!list->bytes)
      return 0;
    comma = memchr(list->at, ',', list->bytes);
    one = pl__slice(list->at, comma ? (size_t)(comma - list->at) : list->bytes);
    list->bytes -= one.bytes + (comma != NULL);
    list->at += one.bytes + (comma != NULL);
    one = trim(one);
  } while (!one.bytes);
  equals = memchr(one.at, '=', one.bytes);
  if (!equals || equals == one.at)
    return PL_EBAD;
  *name = trim(pl__slice(one.at, (size_t)(equals - one.at)));
  *value =
      trim(pl__slice(equals + 1, one.bytes - (uint32_t)(equals + 1 - one.at)));
  return unescape(*value, room, value) ? PL_EBAD : 1;
}
