/* base/utf8.h - where a character ends, and whether it is one.
 *
 * Knows no code points: nobody here asks which character it is.
 */
#ifndef PL_BASE_UTF8_H
#define PL_BASE_UTF8_H

#include "base/slice.h"

/* What stands in the place of a byte that belongs to no character. */
#define PL_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes of the UTF-8 sequence at `i` (RFC 3629), or 0 if it is none. */
static inline uint32_t pl__utf8_bytes(struct pl_slice s, uint32_t i) {
  const unsigned char *at = (const unsigned char *)s.at + i;
  uint32_t left = s.bytes - i, bytes;
  unsigned char low = 0x80, high = 0xbf; /* of the second byte */

  if (at[0] < 0x80)
    return 1;
  if (at[0] >= 0xc2 && at[0] <= 0xdf)
    bytes = 2;
  else if (at[0] >= 0xe0 && at[0] <= 0xef)
    bytes = 3;
  else if (at[0] >= 0xf0 && at[0] <= 0xf4)
    bytes = 4;
  else
    return 0;
  if (at[0] == 0xe0)
    low = 0xa0;
  else if (at[0] == 0xed)
    high = 0x9f;
  else if (at[0] == 0xf0)
    low = 0x90;
  else if (at[0] == 0xf4)
    high = 0x8f;
  if (left < bytes || at[1] < low || at[1] > high)
    return 0;
  for (uint32_t k = 2; k < bytes; k++)
    if ((at[k] & 0xc0) != 0x80)
      return 0;
  return bytes;
}

#endif /* PL_BASE_UTF8_H */
