/* http/chars.h - classes of bytes, as the grammars of HTTP and URI name them.
 *
 * One table, since the hot loops of several units test bytes.
 */
#ifndef PL_HTTP_CHARS_H
#define PL_HTTP_CHARS_H

#include <stdint.h>

enum {
  PL_CHAR_TOKEN = 1,      /* tchar (RFC 9110 5.6.2) */
  PL_CHAR_FIELD = 2,      /* of a field value: VCHAR, obs-text, SP, HTAB */
  PL_CHAR_TARGET = 4,     /* of a request target: 0x21-0x7e but "#" */
  PL_CHAR_PLAIN = 8,      /* of a path that needs no decoding: target but "%",
                           "?" and "/" */
  PL_CHAR_HOST = 16,      /* unreserved, sub-delims (RFC 3986 3.2.2) */
  PL_CHAR_COOKIE = 32,    /* cookie-octet (RFC 6265 4.1.1) */
  PL_CHAR_SLUG = 64,      /* letters, digits, "-", "_" */
  PL_CHAR_EXTENSION = 128 /* of a chunk extension: VCHAR, SP, HTAB */
};

extern const uint8_t pl__chars[256];

static inline int pl__char_is(char c, int class_bits) {
  return pl__chars[(unsigned char)c] & class_bits;
}

/* The value of a hex digit, or -1. */
static inline int pl__char_hex(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  c = (char)(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline int pl__char_is_digit(char c) { return c >= '0' && c <= '9'; }

#endif /* PL_HTTP_CHARS_H */
