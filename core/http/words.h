/* http/words.h - eight bytes at a time, for scanners of fields.
 *
 * A mask has the top bit set of each byte that is looked for; it may have that
 * of more, but only behind one that is true, so the first is always right.
 * Little endian, as http/encode.c is.
 */
#ifndef PL_HTTP_WORDS_H
#define PL_HTTP_WORDS_H

#include <stdint.h>
#include <string.h>

#define PL_WORD_ONES 0x0101010101010101u
#define PL_WORD_TOPS (PL_WORD_ONES << 7)

static inline uint64_t pl__word(const char *at) {
  uint64_t w;

  memcpy(&w, at, sizeof w);
  return w;
}

/* Bytes that are `c`: (b - 1) & ~b tells a zero by its sign. */
static inline uint64_t pl__word_find(uint64_t w, char c) {
  w ^= PL_WORD_ONES * (unsigned char)c;
  return (w - PL_WORD_ONES) & ~w & PL_WORD_TOPS;
}

/* Bytes that are not from `least` to 0x7e. */
static inline uint64_t pl__word_outside(uint64_t w, char least) {
  return (((w - PL_WORD_ONES * (unsigned char)least) | w) & PL_WORD_TOPS) |
         pl__word_find(w, 0x7f);
}

/* How many bytes are before the first of a mask that is not 0. */
static inline uint32_t pl__word_first(uint64_t mask) {
  return (uint32_t)__builtin_ctzll(mask) / 8;
}

#endif /* PL_HTTP_WORDS_H */
