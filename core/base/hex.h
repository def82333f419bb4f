/* base/hex.h - numbers as lower-case hex digits, eight at a time.
 *
 * A digit per byte of a word, without a loop or a table: trace ids are read and
 * written with each request.  Knows no upper case: W3C Trace Context has none.
 */
#ifndef PL_BASE_HEX_H
#define PL_BASE_HEX_H

#include <stdint.h>
#include <string.h>

/* The digits of `n` as the bytes of a word, the first one highest. */
static inline uint64_t pl__hex_spread(uint32_t n) {
  const uint64_t ones = 0x0101010101010101u;
  uint64_t w = n, letters;

  w = (w | w << 16) & 0x0000ffff0000ffffu;
  w = (w | w << 8) & 0x00ff00ff00ff00ffu;
  w = (w | w << 4) & 0x0f0f0f0f0f0f0f0fu;
  letters = ((w + 6 * ones) >> 4) & ones;
  return w + '0' * ones + letters * ('a' - '0' - 10);
}

static inline uint64_t pl__hex_word(uint64_t highest_first) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return __builtin_bswap64(highest_first);
#else
  return highest_first;
#endif
}

/* Writes 8 digits. */
static inline void pl__hex_put32(char *out, uint32_t n) {
  uint64_t w = pl__hex_word(pl__hex_spread(n));

  memcpy(out, &w, sizeof w);
}

/* Writes 16 digits. */
static inline void pl__hex_put(char *out, uint64_t n) {
  pl__hex_put32(out, (uint32_t)(n >> 32));
  pl__hex_put32(out + 8, (uint32_t)n);
}

/* Reads 8 digits.  1; 0: something else is among them, *n is set all the same:
 * what was read is written again and compared. */
static inline int pl__hex_get32(const char *at, uint32_t *n) {
  const uint64_t ones = 0x0101010101010101u;
  uint64_t text, w;

  memcpy(&text, at, sizeof text);
  text = pl__hex_word(text);
  w = (text & 15 * ones) + 9 * ((text >> 6) & ones);
  w &= 15 * ones;
  w = (w | w >> 4) & 0x00ff00ff00ff00ffu;
  w = (w | w >> 8) & 0x0000ffff0000ffffu;
  w = w | w >> 16;
  *n = (uint32_t)w;
  return pl__hex_spread(*n) == text;
}

/* Reads 16 digits, as pl__hex_get32. */
static inline int pl__hex_get(const char *at, uint64_t *n) {
  uint32_t high, low;
  int ok = pl__hex_get32(at, &high) & pl__hex_get32(at + 8, &low);

  *n = (uint64_t)high << 32 | low;
  return ok;
}

#endif /* PL_BASE_HEX_H */
