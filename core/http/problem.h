/* http/problem.h - problem documents (RFC 9457): how the server itself
 * answers errors.
 */
#ifndef PL_HTTP_PROBLEM_H
#define PL_HTTP_PROBLEM_H

#include "base/buf.h"
#include "http/request.h"

/* Of a detail in pl__encode_problem; it is cut past it. */
#define PL_LIMIT_PROBLEM_DETAIL_BYTES 2048u
#define PL_PROBLEM_TYPE "application/problem+json"

/* Appends {"type":"about:blank","title":T,"status":S,"detail":D,"instance":I}
 * to `b`.  Empty detail and instance are left out; both are bytes: what is no
 * UTF-8 becomes U+FFFD.  Returns 0, PL_EFULL, PL_ENOMEM; on failure nothing
 * was appended. */
int pl__problem_encode(struct pl_buf *b, uint16_t status,
                       struct pl_slice detail, struct pl_slice instance);

/* Appends `s` as a JSON string with its quotes (RFC 8259 7). */
int pl__problem_string(struct pl_buf *b, struct pl_slice s);

/* Answers with a problem document: head and body, as pl__encode_reply does.
 *
 * 405 gets an Allow field from req->allow.  Content-Type of the handler is
 * replaced; its other fields stay (pl__extra_clear drops them).  A request
 * whose body has not been read to its end (no PL_REQ_BODY_DONE) gets
 * Connection: close for 400 408 413 414 431, since the bytes that follow
 * cannot be told from a request. */
int pl__encode_problem(struct pl_req *req, uint16_t status,
                       struct pl_slice detail);

#endif /* PL_HTTP_PROBLEM_H */
