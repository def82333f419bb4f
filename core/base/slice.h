/* base/slice.h - a borrowed run of bytes.
 *
 * A slice owns nothing: whoever hands one out says how long it stays valid.
 * Not NUL-terminated.  Lua sees the struct: what lies between the cdef marks
 * is handed to ffi.cdef as it is, so no preprocessor lines go in there.
 */
#ifndef PL_BASE_SLICE_H
#define PL_BASE_SLICE_H

#include <stdint.h>
#include <string.h>

/* cdef: begin */
struct pl_slice {
  const char *at; /* first byte; any value when bytes is 0 */
  uint32_t bytes; /* how many */
};
/* cdef: end */

/* A slice of a string literal. */
#define PL_SLICE(literal)                                                      \
  ((struct pl_slice){(literal), (uint32_t)(sizeof(literal) - 1)})

static inline struct pl_slice pl__slice(const char *at, size_t bytes) {
  return (struct pl_slice){at, (uint32_t)bytes};
}

/* All of a NUL-terminated text. */
static inline struct pl_slice pl__slice_text(const char *text) {
  return pl__slice(text, strlen(text));
}

static inline int pl__slice_equal(struct pl_slice a, struct pl_slice b) {
  return a.bytes == b.bytes &&
         (a.bytes == 0 || memcmp(a.at, b.at, a.bytes) == 0);
}

/* ASCII only, as field names and tokens are compared (RFC 9110 5.1). */
static inline int pl__slice_equal_nocase(struct pl_slice a, struct pl_slice b) {
  if (a.bytes != b.bytes)
    return 0;
  for (uint32_t i = 0; i < a.bytes; i++) {
    unsigned char x = (unsigned char)a.at[i], y = (unsigned char)b.at[i];
    if (x != y) {
      x |= 0x20;
      if (x != (y | 0x20) || x < 'a' || x > 'z')
        return 0;
    }
  }
  return 1;
}

#endif /* PL_BASE_SLICE_H */
