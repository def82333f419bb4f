/* http/trace_context.h - from which trace, caller and tenant a request is, and
 * what of that is told to those who are asked on its behalf.
 *
 * W3C Trace Context, level 2 (traceparent, tracestate), beside the request id,
 * the tenant and the tier, which are no standard.  Broken or hostile fields
 * never fail a request: what cannot be read is as if it weren't there.
 *
 * What comes in is read once, into the fixed struct of the request; tracestate
 * and baggage (baggage.h) are only noticed, and read when somebody passes them
 * on.  Functions that write them take fields, not requests: a task that
 * outlives its request keeps copies of the two.
 *
 * Pure, but for the random numbers that are handed in.  Knows no configuration
 * file and no log.
 */
#ifndef PL_HTTP_TRACE_CONTEXT_H
#define PL_HTTP_TRACE_CONTEXT_H

#include "base/limits.h"
#include "base/networks.h"
#include "base/random.h"
#include "http/request.h"

#define PL_TRACEPARENT_BYTES 55u

/* Which of a request's fields count. */
struct pl_context_rules {
  struct pl_networks trusted; /* peers whose word counts for the three below */
  int trace_trusted_only;     /* 1: and for traceparent, tracestate, baggage */
  struct pl_slice request_id; /* names of fields; empty: none is looked for */
  struct pl_slice tenant;
  struct pl_slice tier;
};

/* Reads a traceparent into trace_id, parent_id and trace_flags (of which the
 * two that are known are kept).  Higher versions are read by the same layout,
 * ff is none.  Returns 0, or PL_EBAD with *c unchanged: malformed, an id of
 * zeros. */
int pl__traceparent_parse(struct pl_slice text, struct pl_context *c);

/* Writes the traceparent of those who are asked on its behalf: version 00, with
 * span_id as their parent.  PL_TRACEPARENT_BYTES, no NUL. */
void pl__traceparent_put(const struct pl_context *c, char *out);

/* Writes the request id: the caller's, else 16 hex digits.  Returns how many
 * bytes, at most PL_LIMIT_REQUEST_ID_BYTES; no NUL. */
uint32_t pl__request_id_put(const struct pl_context *c, char *out);

/* Makes a context of its own: a new trace, not sampled. request_id and the texts
 * stay. */
void pl__context_begin(struct pl_context *c, struct pl_random *random);

/* Fills in the request's context from its fields; req->context.request_id is
 * set, all else in it zero.
 *
 *   peer  who has sent it
 *
 * Afterwards there are a trace id and a span id in any case.  More than one
 * traceparent is none (RFC 9110 5.3 would join them), and so are more than one
 * of the other three: a proxy that adds its own must not be outvoted by what
 * came before. */
void pl__context_extract(struct pl_req *req,
                         const struct pl_context_rules *rules,
                         const struct pl_peer *peer, struct pl_random *random);

/* Writes the tracestate of all fields of that name as one, as it is to be
 * passed on: in its order, members as they are.  One that is malformed, or has
 * more than PL_LIMIT_TRACESTATE_MEMBERS members, is dropped as a whole.  Past
 * PL_LIMIT_TRACESTATE_BYTES members go, first those of more than 128 bytes,
 * then the last ones (3.3.1.5).  Returns how many bytes were written to `out`,
 * which has room for PL_LIMIT_TRACESTATE_BYTES; 0: none. */
uint32_t pl__tracestate_put(const struct pl_header *headers, uint32_t count,
                            char *out);

/* Whether a text can be a tenant: 1 to PL_LIMIT_TENANT_BYTES bytes, no control
 * characters. */
int pl__tenant_is_valid(struct pl_slice text);

#endif /* PL_HTTP_TRACE_CONTEXT_H */
