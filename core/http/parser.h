/* http/parser.h - bytes of one connection → requests (RFC 9112).
 *
 * The head is read by llhttp and then checked against the grammar once more,
 * since strictness is what keeps a smuggled request out: see parser.c for
 * what is refused.  Bodies are framed here (chunked.h), so that their bytes
 * are moved at most once.
 *
 * One parser serves one connection, message after message:
 *
 *   init/reset --run--> HEAD --run--> DONE --reset--> ...
 *
 * The bytes handed to successive runs lie behind each other in memory: each
 * run begins where *used of the last one ended.  Bytes of the head stay where
 * they are until the reset, since the request's slices point at them.
 *
 * Knows no socket, no slab, no clock: who reads how much and when a client is
 * too slow is net's affair.
 */
#ifndef PL_HTTP_PARSER_H
#define PL_HTTP_PARSER_H

#include "http/request.h"

#define PL_PARSER_BYTES 320u /* room for a struct pl_parser; 8-byte aligned */
/* Empty lines that may precede a request line (RFC 9112 2.2). */
#define PL_LIMIT_LEADING_LINES 1u

struct pl_parser;

/* What a connection reserves for its parser. */
union pl_parser_room {
  uint64_t align;
  char bytes[PL_PARSER_BYTES];
};

struct pl_parser_limits {
  uint32_t target_bytes;  /* 414 past it */
  uint32_t headers_bytes; /* field lines with the empty line; 431 past it;
                             trailers are held to it as well */
  uint32_t header_count;  /* 431 past it; room in req->headers */
};

enum pl_parse_outcome {
  PL_PARSE_MORE, /* all bytes are used; the message is not at its end */
  PL_PARSE_HEAD, /* the head is complete; the body, if any, comes next */
  PL_PARSE_DONE, /* the message is complete; what follows is the next one */
  PL_PARSE_BAD   /* see pl__parser_error; the connection is to be closed */
};

/* `limits` are copied. */
void pl__parser_init(struct pl_parser *p,
                     const struct pl_parser_limits *limits);

/* Ready for the next message, which has a request of its own: one with flags,
 * body and body_received at zero. */
void pl__parser_reset(struct pl_parser *p);

/* Reads on.
 *
 *   req   headers: room for limits.header_count; body_max as it applies;
 *         the same from the first byte of a message to its last
 *   at    writable: decoded body bytes are moved within it
 *   used  out: bytes consumed; pipelined ones behind the message are not
 *
 * HEAD comes once.  req then has method, http_minor, target (raw), headers,
 * header_count, content_length, host (from Host) and the flags KEEP_ALIVE,
 * CHUNKED, EXPECT and, if there is no body, BODY_DONE.  path, query and the
 * host of an absolute target are set by pl__target_parse afterwards.
 * Run once more then, also when there is no body (at may be of 0 bytes): a
 * body's bytes appear in req->body, and DONE ends the message.
 *
 * Body: before the run that follows HEAD, and whenever it has consumed bytes
 * of it, the caller sets req->body to where the next ones are to lie (body.at
 * <= at, in the same memory).  They are moved down behind body.at +
 * body.bytes, not at all if they lie there already; body.bytes and
 * body_received grow.
 * More than body_max decoded bytes: BAD with 413, and the bytes past it are
 * not in req->body.
 *
 * Trailer fields are checked and dropped (RFC 9110 6.5.1 lets us). */
enum pl_parse_outcome pl__parser_run(struct pl_parser *p, struct pl_req *req,
                                     char *at, uint32_t bytes, uint32_t *used);

/* Whether the declared length is within req->body_max; asked after routing,
 * as a route may have a limit of its own.  Returns 0, or PL_EFULL: 413. */
int pl__parser_check_length(const struct pl_req *req);

/* After BAD: the status to answer with (400 413 414 431 501 505) and a
 * sentence for the problem document, constant and without client data. */
void pl__parser_error(const struct pl_parser *p, uint16_t *status,
                      const char **detail);

/* Whether any byte of a message has been used since the reset: tells an idle
 * connection from one with half a request (an empty line does not count). */
int pl__parser_begun(const struct pl_parser *p);

/* The version of llhttp: "8.1.0". Static. */
const char *pl__parser_version(void);

#endif /* PL_HTTP_PARSER_H */
