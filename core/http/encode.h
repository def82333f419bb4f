/* http/encode.h - responses → bytes (RFC 9112), straight into the output.
 *
 * Framing is decided here and nowhere else: Content-Length, Transfer-Encoding
 * and Connection cannot be set by a handler.  Heads and whole replies go to
 * req->out; who sends it, and when, is net's affair.
 *
 * Functions that take a request want req->out and req->env; req->extra may be
 * NULL where nothing can have been set.
 */
#ifndef PL_HTTP_ENCODE_H
#define PL_HTTP_ENCODE_H

#include "base/buf.h"
#include "base/limits.h"
#include "http/request.h"

#define PL_ENV_FIELDS_BYTES 55u /* "Server: perilune\r\nDate: ...\r\n" */
#define PL_ENV_BYTES_MAX 128u   /* with what is set behind them */

/* What is the same in all responses of an app within one second. */
struct pl_http_env {
  char fields[PL_ENV_BYTES_MAX]; /* Server line, Date line, and others */
  uint32_t bytes;                /* of all of them */
  int64_t unix_seconds;          /* that the date stands for */
  struct pl_slice id_field; /* name of the field with the request id, unless
                               the handler has set it; empty: none */
};

/* Once at start. */
void pl__http_env_init(struct pl_http_env *env, int64_t unix_seconds);

/* Sets the lines behind those two: whole ones with their ends, at most
 * PL_ENV_BYTES_MAX less PL_ENV_FIELDS_BYTES; more is left out. */
void pl__http_env_set(struct pl_http_env *env, struct pl_slice lines);

/* Once per tick or timer: writes the date anew if the second has changed. */
void pl__http_env_tick(struct pl_http_env *env, int64_t unix_seconds);

/* The reason phrase of a status; "Unknown" for one without. */
struct pl_slice pl__reason(uint16_t status);

/* Whether a response with this status to this request has a body. */
int pl__reply_has_body(const struct pl_req *req, uint16_t status);

/* Writes a response's head; its body is the caller's to write.
 *
 *   status  200 to 999
 *   type    Content-Type unless the handler has set one; empty: none
 *   length  bytes of the body; -1 when unknown: chunked in HTTP/1.1, to the
 *           end of the connection (sets PL_REQ_CLOSE) in HTTP/1.0
 *
 * Then come Server and Date (unless set), the request id if the environment
 * has a name for it, Connection when there is something
 * to say, and the lines of req->extra.  204 and 304 get no framing field, 205
 * a length of 0; HEAD the same head as GET.
 * Sets req->status and PL_REQ_HEAD_SENT, and PL_REQ_OUT_CHUNKED if the body
 * is to be sent in chunks; never for HEAD, 204, 304.
 *
 * Returns 0, or with nothing written:
 *   PL_EINVAL    a status out of range, control characters in type
 *   PL_ECONFLICT a head has been written already
 *   PL_EFULL, PL_ENOMEM  from the output */
int pl__encode_head(struct pl_req *req, uint16_t status, struct pl_slice type,
                    int64_t length);

/* Head and body in one go: the hot path. The body is copied; left out where
 * there is none (HEAD, 204, 205, 304).  Sets PL_REQ_DONE and sent_bytes too.
 * Returns as pl__encode_head. */
int pl__encode_reply(struct pl_req *req, uint16_t status, struct pl_slice type,
                     struct pl_slice body);

/* One chunk (nothing for an empty one, which would end the body). */
int pl__encode_chunk(struct pl_buf *out, struct pl_slice bytes);
/* The end of a chunked body. */
int pl__encode_chunk_last(struct pl_buf *out);

/* "HTTP/1.1 100 Continue". */
int pl__encode_continue(struct pl_buf *out);

/* Sets a response field, or with `append` adds one more of that name.
 *
 * Lines lie in req->extra as "Name: value\r\n" in the order they were set;
 * setting removes earlier ones of the name in any case.  An empty value is
 * sent as such.  Connection: close sets PL_REQ_CLOSE instead of a line.
 *
 * Returns 0, or with nothing changed:
 *   PL_EINVAL    no token; CR, LF, NUL or another control in the value
 *   PL_ECONFLICT a framing field: Content-Length, Transfer-Encoding,
 *                Connection (but "close"), Keep-Alive, Upgrade, Trailer, TE
 *   PL_EFULL     past PL_LIMIT_EXTRA_BYTES
 *   PL_ENOMEM */
int pl__extra_set(struct pl_req *req, struct pl_slice name,
                  struct pl_slice value, int append);

/* Removes all of that name; none is no error. */
void pl__extra_remove(struct pl_req *req, struct pl_slice name);

/* The value of the first one; at NULL when there is none. Valid until the
 * next change. */
struct pl_slice pl__extra_get(const struct pl_req *req, struct pl_slice name);

/* Drops all of them, e.g. before an error is answered. */
void pl__extra_clear(struct pl_req *req);

/* Writes `n` in decimal; returns how many digits (at most 20). No NUL. */
uint32_t pl__decimal(char *out, uint64_t n);

#endif /* PL_HTTP_ENCODE_H */
