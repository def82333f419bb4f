/* http/chunked.h - decodes a chunked body (RFC 9112 7.1), strictly.
 *
 * A pure state machine: it takes bytes however they are split, copies nothing
 * and says which of them are data.  Knows no request and no buffer.
 */
#ifndef PL_HTTP_CHUNKED_H
#define PL_HTTP_CHUNKED_H

#include "base/slice.h"

/* A chunk's line: size, extensions, CRLF. */
#define PL_LIMIT_CHUNK_LINE_BYTES 256u
/* Extensions of all chunks of a message: nobody needs them, and one could
 * otherwise send 200 bytes of them with each byte of data for ever. */
#define PL_LIMIT_CHUNK_EXTENSIONS_BYTES 16384u
#define PL_LIMIT_CHUNK_BYTES ((uint64_t)1 << 53) /* exact as a double */

struct pl_chunked {
  uint64_t left;            /* data bytes of the chunk still to come */
  uint32_t line_bytes;      /* of the chunk line or trailer line so far */
  uint32_t extension_bytes; /* of the message so far */
  uint32_t trailer_bytes;   /* of the trailer section so far */
  uint32_t trailer_count;   /* field lines of it */
  uint32_t trailer_bytes_max;
  uint32_t trailer_count_max;
  uint16_t status;    /* after BAD: 400 or 431 */
  uint8_t state;      /* enum in chunked.c */
  uint8_t digits;     /* of the size so far */
  const char *detail; /* after BAD: a constant sentence */
};

enum pl_chunked_outcome {
  PL_CHUNKED_MORE, /* all bytes used, no data at their end */
  PL_CHUNKED_DATA, /* *data is body; call again with the rest */
  PL_CHUNKED_DONE, /* the last byte of the trailer section is used */
  PL_CHUNKED_BAD   /* status and detail say why */
};

void pl__chunked_init(struct pl_chunked *c, uint32_t trailer_bytes_max,
                      uint32_t trailer_count_max);

/* Reads on. `used` counts the bytes of `at` that are done with, data among
 * them; `data` is set with DATA only and points into `at`. */
enum pl_chunked_outcome pl__chunked_run(struct pl_chunked *c, const char *at,
                                        uint32_t bytes, uint32_t *used,
                                        struct pl_slice *data);

#endif /* PL_HTTP_CHUNKED_H */
