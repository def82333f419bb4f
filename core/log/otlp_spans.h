/* log/otlp_spans.h - spans of the fabric as OTLP's Span.
 *
 * A request is a server span, named by method and route as semantic conventions
 * want it; everything else is internal.  What these do not know begins with
 * `perilune.`: why the trace is kept, for how many requests it stands.
 */
#ifndef PL_LOG_OTLP_SPANS_H
#define PL_LOG_OTLP_SPANS_H

#include "fabric/routes.h"
#include "fabric/span.h"
#include "log/otlp.h"

/* Adds the span of `bytes` at `record`.  routes: all tables, may be NULL.
 *
 * Returns 0; PL_EBAD: it is no span; PL_EFULL or PL_ENOMEM: it does not fit into
 * the request.  After a failure the request is as it was. */
int pl__otlp_span(struct pl_otlp *o, const struct pl_routes *routes,
                  const void *record, uint32_t bytes);

#endif /* PL_LOG_OTLP_SPANS_H */
