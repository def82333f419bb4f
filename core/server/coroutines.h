/* server/coroutines.h - what the coroutines of all workers do, for the admin
 * plane: lists, and a profile that pprof reads.  Where they waited is told by
 * block_profile.h, leaks by leaks.h.
 *
 * Reads the fabric only (fabric/waits.h), so a worker that stands still or is
 * dead is shown as it was left.  Believes nothing there that could lead it
 * astray.  At most PL_COROUTINES_MAX (reading.h) are shown.
 */
#ifndef PL_SERVER_COROUTINES_H
#define PL_SERVER_COROUTINES_H

#include "base/buf.h"

struct pl_fabric;

/* Each appends to `out`, and returns 0, or what pl__layout_* or pl__buf_append
 * return; PL_EINVAL: nothing such can be said.
 *
 *   list   said "0": profile.proto, compressed; "1": text, those alike together;
 *          "2": text, each of them
 *   waits  JSON: { coroutines, by_reason: { reason: n }, oldest: [{ id, reason,
 *          age_s, started_at, at, route, task, worker }], leaks: [{ kind, reason,
 *          started_at, at, count, age_s }], suspects: [{ level, reason,
 *          started_at, at, count, age_s }] }; the lists at most 50 long */
int pl__coroutines_list(const struct pl_fabric *f, struct pl_slice said,
                        struct pl_buf *out);
int pl__coroutines_waits(const struct pl_fabric *f, struct pl_slice said,
                         struct pl_buf *out);

#endif /* PL_SERVER_COROUTINES_H */
