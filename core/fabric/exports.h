/* fabric/exports.h - what became of that which goes to a collector, counted.
 *
 * Lies in the fabric, so that the numbers of a control that has died go on in
 * the one after it, and whoever shows metrics sees them.  One writer: the
 * exporter's thread of control.  Relaxed.
 *
 * A span or a record is counted once, as exported or as dropped; a metric's
 * point each time it is sent.
 */
#ifndef PL_FABRIC_EXPORTS_H
#define PL_FABRIC_EXPORTS_H

#include <stdatomic.h>
#include <stdint.h>

#define PL_EXPORTS_VERSION 1u

enum pl_signal { PL_SIGNAL_TRACES, PL_SIGNAL_METRICS, PL_SIGNAL_LOGS };
#define PL_SIGNALS 3u

enum pl_export_drop {
  PL_EXPORT_FULL,     /* found no room in the queue */
  PL_EXPORT_REFUSED,  /* the collector has refused the request */
  PL_EXPORT_REJECTED, /* it has taken the request, and some of it not */
  PL_EXPORT_UNFIT,    /* could not be encoded, or fit into no request */
  PL_EXPORT_SHUTDOWN, /* were left when the server ended */
  PL_EXPORT_LOST,     /* were in the queue when control died */
  PL_EXPORT_DROPS
};

struct pl_exports_of {
  _Alignas(64) _Atomic uint64_t exported; /* spans, points, records */
  _Atomic uint64_t failures; /* requests that got no answer, or no good one */
  _Atomic uint64_t drops[PL_EXPORT_DROPS];
  _Atomic uint64_t queued; /* of traces: in control's memory, lost if it dies */
  _Atomic uint32_t is_on;  /* the signal is exported */
};

/* Zero at first but for start_ns. */
struct pl_exports {
  int64_t start_ns; /* since the epoch: when counting began */
  struct pl_exports_of of[PL_SIGNALS];
};

static inline uint64_t pl__exports_get(const _Atomic uint64_t *n) {
  return atomic_load_explicit(n, memory_order_relaxed);
}

/* "traces", "metrics", "logs". */
static inline const char *pl__signal_name(enum pl_signal signal) {
  static const char *const names[PL_SIGNALS] = {"traces", "metrics", "logs"};
  return names[signal];
}

static inline int pl__exports_is_on(const struct pl_exports_of *of) {
  return atomic_load_explicit(&of->is_on, memory_order_relaxed) != 0;
}

static inline void pl__exports_set(_Atomic uint64_t *n, uint64_t to) {
  atomic_store_explicit(n, to, memory_order_relaxed);
}

/* By the exporter alone. */
static inline void pl__exports_add(_Atomic uint64_t *n, uint64_t more) {
  atomic_store_explicit(n, pl__exports_get(n) + more, memory_order_relaxed);
}

#endif /* PL_FABRIC_EXPORTS_H */
