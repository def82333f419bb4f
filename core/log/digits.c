/* log/digits.c - hand-written, as snprintf would be most of a line's cost. */
#include "log/digits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hex.h"

static const char pairs[] = "00010203040506070809"
                            "10111213141516171819"
                            "20212223242526272829"
                            "30313233343536373839"
                            "40414243444546474849"
                            "50515253545556575859"
                            "60616263646566676869"
                            "70717273747576777879"
                            "80818283848586878889"
                            "90919293949596979899";

static const char hex[] = "0123456789abcdef";

char *pl__put_two(char *at, unsigned n) {
  memcpy(at, pairs + 2 * n, 2);
  return at + 2;
}

char *pl__put_padded(char *at, uint64_t n, unsigned count) {
  for (unsigned i = count; i-- > 0; n /= 10)
    at[i] = (char)('0' + n % 10);
  return at + count;
}

char *pl__put_u64(char *at, uint64_t n) {
  char digits[PL_DIGITS_U64_BYTES];
  char *first = digits + sizeof digits;
  while (n >= 100) {
    first -= 2;
    memcpy(first, pairs + 2 * (n % 100), 2);
    n /= 100;
  }
  if (n >= 10) {
    first -= 2;
    memcpy(first, pairs + 2 * n, 2);
  } else {
    *--first = (char)('0' + n);
  }
  size_t count = (size_t)(digits + sizeof digits - first);
  memcpy(at, first, count);
  return at + count;
}

char *pl__put_hex(char *at, uint64_t n) {
  pl__hex_put(at, n);
  return at + 16;
}

char *pl__put_ms(char *at, uint64_t ns) {
  uint64_t us = ns / 1000;
  at = pl__put_u64(at, us / 1000);
  *at++ = '.';
  return pl__put_padded(at, us % 1000, 3);
}

char *pl__put_double(char *at, double number) {
  if (!isfinite(number)) {
    memcpy(at, "null", 4);
    return at + 4;
  }
  if (number == floor(number) && fabs(number) <= 9007199254740992.0) {
    if (number < 0)
      *at++ = '-';
    return pl__put_u64(at, (uint64_t)fabs(number));
  }
  int n = 0;
  for (int digits = 15; digits <= 17; digits++) {
    n = snprintf(at, PL_DIGITS_DOUBLE_BYTES, "%.*g", digits, number);
    if (strtod(at, NULL) == number)
      break;
  }
  char *comma = memchr(at, ',', (size_t)n); /* a host's locale */
  if (comma)
    *comma = '.';
  return at + n;
}

/* What a byte is for the scanners below. */
enum { PLAIN, QUOTED, CONTROL, HIGH };

#define FOUR(kind) (kind), (kind), (kind), (kind)
#define SIXTEEN(kind) FOUR(kind), FOUR(kind), FOUR(kind), FOUR(kind)
#define HIGHS SIXTEEN(HIGH), SIXTEEN(HIGH), SIXTEEN(HIGH), SIXTEEN(HIGH)

/* What is not named is PLAIN. */
static const unsigned char kinds[256] = {
    SIXTEEN(CONTROL),
    SIXTEEN(CONTROL),
    ['"'] = QUOTED,
    ['\\'] = QUOTED,
    [127] = CONTROL,
    HIGHS,
    HIGHS,
};

static int is_tail(unsigned char c) { return (c & 0xc0) == 0x80; }

/* Bytes of the valid UTF-8 character at `s` (RFC 3629: no surrogates, no
 * longer form than needed, none past U+10FFFF), or 0. */
static uint32_t char_bytes(const unsigned char *s, size_t left) {
  unsigned char c = s[0];
  if (c < 0xc2)
    return 0;
  if (c < 0xe0)
    return left >= 2 && is_tail(s[1]) ? 2 : 0;
  if (c < 0xf0) {
    if (left < 3 || !is_tail(s[1]) || !is_tail(s[2]))
      return 0;
    return (c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) ? 0 : 3;
  }
  if (c > 0xf4 || left < 4 || !is_tail(s[1]) || !is_tail(s[2]) ||
      !is_tail(s[3]))
    return 0;
  return (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f) ? 0 : 4;
}

/* Copies the character at *s, or U+FFFD for its first byte. */
static char *put_high(char *at, const unsigned char **s,
                      const unsigned char *end) {
  uint32_t n = char_bytes(*s, (size_t)(end - *s));
  memcpy(at, n ? (const char *)*s : "\xef\xbf\xbd", n ? n : 3);
  *s += n ? n : 1;
  return at + (n ? n : 3);
}

/* \n, \t, \r, or \u00NN. */
static char *put_json_control(char *at, unsigned char c) {
  char letter = c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : 0;
  if (letter) {
    *at++ = '\\';
    *at++ = letter;
    return at;
  }
  memcpy(at, "\\u00", 4);
  at[4] = hex[c >> 4];
  at[5] = hex[c & 15];
  return at + 6;
}

char *pl__put_json(char *at, struct pl_slice text) {
  const unsigned char *s = (const unsigned char *)text.at;
  const unsigned char *end = s + text.bytes;
  while (s < end) {
    unsigned char c = *s;
    switch (kinds[c]) {
    case PLAIN:
      *at++ = (char)c;
      s++;
      break;
    case QUOTED:
      *at++ = '\\';
      *at++ = (char)c;
      s++;
      break;
    case CONTROL:
      at = put_json_control(at, c);
      s++;
      break;
    default:
      at = put_high(at, &s, end);
    }
  }
  return at;
}

static char *put_plain_control(char *at, unsigned char c, int lines) {
  if (lines && c == '\n') {
    memcpy(at, "\n  ", 3);
    return at + 3;
  }
  if (lines && c == '\t') {
    *at = '\t';
    return at + 1;
  }
  memcpy(at, "\\x", 2);
  at[2] = hex[c >> 4];
  at[3] = hex[c & 15];
  return at + 4;
}

char *pl__put_plain(char *at, struct pl_slice text, int lines) {
  const unsigned char *s = (const unsigned char *)text.at;
  const unsigned char *end = s + text.bytes;
  while (s < end) {
    unsigned char c = *s;
    /* U+0080 to U+009F are control characters too: some terminals obey. */
    if (c == 0xc2 && end - s > 1 && s[1] >= 0x80 && s[1] < 0xa0) {
      at = put_plain_control(at, s[1], 0);
      s += 2;
    } else if (kinds[c] == CONTROL) {
      at = put_plain_control(at, c, lines);
      s++;
    } else if (kinds[c] == HIGH) {
      at = put_high(at, &s, end);
    } else {
      *at++ = (char)c;
      s++;
    }
  }
  return at;
}
