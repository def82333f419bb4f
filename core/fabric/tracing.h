/* fabric/tracing.h - how much is traced now: what control says, and the bucket
 * that limits it.
 *
 * Control watches the error rate and the latencies of the server.  While they
 * are out of bounds it sets `share` to 1, then lets it fall by half until it is
 * 0 again: so many of all traces are kept, beside those that are kept anyway.
 * Workers read that word at the end of each request.
 *
 * The bucket is one for all workers (GCRA: one word, the time at which the next
 * trace would be due if all kept to the rate): `per_second` traces, and what
 * was not used of a tenth of a second.  Time only grows, so a compare-and-swap is all it takes; a
 * process that dies leaves nothing half done.
 */
#ifndef PL_FABRIC_TRACING_H
#define PL_FABRIC_TRACING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_TRACING_VERSION 1u

/* The lower 56 bits of a trace id, which are random (W3C Trace Context 2). */
#define PL_TRACE_ID_MASK ((UINT64_C(1) << 56) - 1)

/* All zero at first. */
struct pl_tracing {
  /* Control's. */
  _Alignas(64) _Atomic uint64_t below; /* ids below it are kept; 0: the usual */
  _Atomic uint32_t per_second;         /* traces that are kept so, at most */
  /* The admin plane's, for control: what an action keeps at least, until then
   * (monotonic). */
  _Atomic uint64_t boost_below;
  _Atomic int64_t boost_until_ns;
  /* Of all workers. */
  _Alignas(64) _Atomic int64_t due_ns; /* monotonic */
};

/* The least of the ids that are not kept, of a share from 0 to 1. */
static inline uint64_t pl__tracing_below(double share) {
  return share >= 1  ? PL_TRACE_ID_MASK + 1
         : share > 0 ? (uint64_t)(share * 0x1p56)
                     : 0;
}

/* The share that it stands for. */
static inline double pl__tracing_share(uint64_t below) {
  return (double)below * 0x1p-56;
}

/* Takes a trace out of the bucket, at the time `now_ns`; false: it is empty. */
bool pl__tracing_take(struct pl_tracing *t, int64_t now_ns);

#endif /* PL_FABRIC_TRACING_H */
