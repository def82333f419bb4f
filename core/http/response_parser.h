/* http/response_parser.h - bytes of one connection → the answer to one request
 * (RFC 9112), for clients of ours.
 *
 * llhttp reads head and framing: Content-Length, chunked, or until the end of
 * the connection.  Interim answers (1xx) are passed over.  Of an answer there
 * is kept what such a client needs: status, Retry-After, and the first bytes of
 * the body.
 *
 * Knows no socket and no clock.
 */
#ifndef PL_HTTP_RESPONSE_PARSER_H
#define PL_HTTP_RESPONSE_PARSER_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define PL_RESPONSE_PARSER_BYTES 256u
#define PL_RESPONSE_HEAD_BYTES_MAX 16384u  /* with interim ones; BAD past it */
#define PL_RESPONSE_BYTES_MAX (1u << 20)   /* of all of it; BAD past it */
#define PL_RESPONSE_BODY_BYTES 4096u       /* that are kept */
#define PL_RESPONSE_RETRY_NONE INT64_C(-1) /* there was no Retry-After */

enum pl_response_outcome {
  PL_RESPONSE_MORE, /* it is not at its end */
  PL_RESPONSE_DONE, /* it is complete */
  PL_RESPONSE_BAD   /* it is no answer; the connection is to be closed */
};

struct pl_response_parser {
  union {
    uint64_t align;
    char bytes[PL_RESPONSE_PARSER_BYTES];
  } room;           /* llhttp's */
  uint16_t status;  /* 200 .. 999 once the head is complete */
  bool keep_alive;  /* the connection can be used again */
  bool has_head;    /* the head is complete */
  bool is_done;     /* the answer is */
  bool is_interim;  /* what is being read is a 1xx */
  bool retry_is_at; /* retry is a date, not a wait */
  int64_t retry;    /* Retry-After: seconds, or seconds since the epoch; or
                       PL_RESPONSE_RETRY_NONE */
  uint32_t bytes;   /* read so far */
  uint32_t body_bytes;
  uint32_t name_bytes, value_bytes; /* of the field that is being read */
  char name[16], value[40];         /* cut */
  char body[PL_RESPONSE_BODY_BYTES];
};

/* Ready for the answer to a request that is not a HEAD. */
void pl__response_parser_init(struct pl_response_parser *p);
/* Reads on; after DONE or BAD not again. */
enum pl_response_outcome pl__response_parser_run(struct pl_response_parser *p,
                                                 struct pl_slice bytes);
/* The peer has closed: DONE if that is how the answer ends, else BAD. */
enum pl_response_outcome
pl__response_parser_finish(struct pl_response_parser *p);

/* The body, as far as it is kept; valid until the next init. */
static inline struct pl_slice
pl__response_body(const struct pl_response_parser *p) {
  return pl__slice(p->body, p->body_bytes);
}

#endif /* PL_HTTP_RESPONSE_PARSER_H */
