/* vm/json_bytes.h - the bytes of strings in JSON: those that stand for
 * themselves, and characters in UTF-8.
 *
 * Decoder and encoder look at every byte through these, 16 at a time.  Knows no
 * Lua.
 */
#ifndef PL_VM_JSON_BYTES_H
#define PL_VM_JSON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline bool pl__json_is_plain(unsigned char byte) {
  return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

#ifdef __SSE2__
/* A bit for each of 16 bytes that is not plain.  The comparison is signed,
 * so it finds bytes from 0x80 on as well as control characters. */
static inline unsigned pl__json_special_bits(__m128i bytes) {
  __m128i control = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
  __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
  __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));

  return (unsigned)_mm_movemask_epi8(
      _mm_or_si128(control, _mm_or_si128(quote, slash)));
}
#endif

/* The first byte of [at, end) that a string cannot take over as it is. */
static inline const unsigned char *
pl__json_skip_plain(const unsigned char *at, const unsigned char *end) {
#ifdef __SSE2__
  for (; end - at >= 16; at += 16) {
    unsigned bits = pl__json_special_bits(
        _mm_loadu_si128((const __m128i *)(const void *)at));
    if (bits)
      return at + __builtin_ctz(bits);
  }
#endif
  while (at < end && pl__json_is_plain(*at))
    at++;
  return at;
}

/* Bytes of the UTF-8 sequence at `at`, whose first byte is 0x80 or more;
 * 0 when it is none (RFC 3629, section 4). */
static inline unsigned pl__json_sequence_bytes(const unsigned char *at,
                                               const unsigned char *end) {
  size_t room = (size_t)(end - at);
  unsigned char first = at[0];

  if (first < 0xE0)
    return first >= 0xC2 && room >= 2 && at[1] >> 6 == 2 ? 2 : 0;
  if (first < 0xF0) {
    unsigned char low = first == 0xE0 ? 0xA0 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : 0xBF; /* no surrogates */
    return room >= 3 && at[1] >= low && at[1] <= high && at[2] >> 6 == 2 ? 3
                                                                         : 0;
  }
  unsigned char low = first == 0xF0 ? 0x90 : 0x80;
  unsigned char high = first == 0xF4 ? 0x8F : 0xBF; /* up to U+10FFFF */
  return first <= 0xF4 && room >= 4 && at[1] >= low && at[1] <= high &&
                 at[2] >> 6 == 2 && at[3] >> 6 == 2
             ? 4
             : 0;
}

#endif /* PL_VM_JSON_BYTES_H */
