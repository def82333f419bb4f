/* server/spans.h - the spans that workers have kept, for those who look.
 *
 * Reads the rings of all workers beside the one that takes spans out of them,
 * so that what was exported long ago, or by nobody, can still be seen, also of
 * workers that are dead.
 */
#ifndef PL_SERVER_SPANS_H
#define PL_SERVER_SPANS_H

#include "base/buf.h"
#include "base/slice.h"
#include "fabric/ring.h"

struct pl_fabric;

#define PL_SPANS_SHOWN_MAX 1000u

/* Appends the last spans, newest first, as JSON: { "spans": [...] }; for the
 * admin plane's Lua.
 *
 *   said  "LIMIT", or "LIMIT TRACEID": of that trace alone
 *
 * Returns 0; PL_EINVAL; PL_ENOMEM; or what pl__layout_* or pl__buf_append
 * return. */
int pl__spans_answer(const struct pl_fabric *f, struct pl_slice said,
                     struct pl_buf *out);

/* Spans that found no room in the rings, by lane. */
void pl__spans_drops(const struct pl_fabric *f, uint32_t worker_count,
                     uint64_t drops[PL_RING_LANES]);

#endif /* PL_SERVER_SPANS_H */
