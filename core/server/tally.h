/* server/tally.h - what the server itself counts: requests, connections, turns
 * of the loop, the VM; and in the master its processes and reloads.
 *
 * A worker counts each request when it ends, in cells of its shard that are
 * found by route, method and status without a look at any name; a cell is
 * asked for (fabric/metrics.h) when it is needed first.  What others count
 * anyway (net/conn.h, vm/vm.h) is added to the shard ten times a second.
 *
 * A tally without a shard counts nothing: tools.
 */
#ifndef PL_SERVER_TALLY_H
#define PL_SERVER_TALLY_H

#include "fabric/metrics.h"
#include "vm/vm.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_fabric;
struct pl_generation;
struct pl_net;
struct pl_reload_result;

/* What workers count, beside requests by route. */
enum pl_tally_worker {
  PL_TALLY_QUEUE,
  PL_TALLY_REQUEST_BYTES,
  PL_TALLY_RESPONSE_BYTES,
  PL_TALLY_OVERDUE,
  PL_TALLY_ABORTED,
  PL_TALLY_ACCEPTED,
  PL_TALLY_REFUSED,
  PL_TALLY_LAG,
  PL_TALLY_BUSY,
  PL_TALLY_HEAP,
  PL_TALLY_ALLOCATED,
  PL_TALLY_COLLECT_SECONDS, /* by phase: three of each */
  PL_TALLY_COLLECT_SLICES = PL_TALLY_COLLECT_SECONDS + 3,
  PL_TALLY_CYCLES = PL_TALLY_COLLECT_SLICES + 3,
  PL_TALLY_COROUTINES,
  PL_TALLY_TASKS,
  PL_TALLY_PREEMPTED,
  PL_TALLY_STOPPED,
  PL_TALLY_CONDEMNED,
  PL_TALLY_ABANDONED,
  PL_TALLY_LONG_RUNS,
  PL_TALLY_TRACES,
  PL_TALLY_TRACE_ABORTS,
  PL_TALLY_FLUSHES,
  PL_TALLY_CODE,
  PL_TALLY_KEPT, /* traces, by reason */
  PL_TALLY_CAPPED = PL_TALLY_KEPT + PL_KEPT_REASONS,
  PL_TALLY_UNHEARD,
  PL_TALLY_SPANS,
  PL_TALLY_SPANS_LEFT_OUT,
  PL_TALLY_WORKER_COUNT
};

/* What the master counts. */
enum pl_tally_master {
  PL_TALLY_STARTS,
  PL_TALLY_CRASHED,
  PL_TALLY_KILLED,
  PL_TALLY_STUCK,
  PL_TALLY_EXITED,
  PL_TALLY_CONTROL_DEATHS,
  PL_TALLY_COMMITTED,
  PL_TALLY_REJECTED,
  PL_TALLY_RELOAD_SECONDS,
  PL_TALLY_MASTER_COUNT
};

#define PL_TALLY_METHODS 10u
#define PL_TALLY_CLASSES 6u /* of status: none, 1xx .. 5xx */
#define PL_TALLY_SUCCESS 2u

/* The cells of one route and method; 0: not asked for yet. */
struct pl_tally_cells {
  uint32_t seconds;
  uint32_t requests[PL_TALLY_CLASSES];
  float slow_s; /* past it one is slow; 0: not known. Two of these fill a line
                   of the cache */
};

struct pl_tally {
  struct pl_metrics_table *table;
  struct pl_shard *shard; /* NULL: nothing is counted */
  uint64_t self;
  uint32_t requests, seconds; /* families */
  double now;                 /* monotonic seconds, as read last */
  double slow_factor; /* times the P99 of a route is slow; 0: nothing is */
  double slow_min_s;  /* what is shorter never is */
  uint64_t told_accepted, told_refused;
  struct pl_trace_counts told_traces;
  uint32_t cells[PL_TALLY_WORKER_COUNT];
};

/* Of a generation; zero at first. */
struct pl_tally_generation {
  struct pl_tally_cells *cells; /* by route and method; NULL: none yet */
  uint32_t route_count;
  uint32_t slow_next;       /* of the cells: whose P99 is looked at next */
  struct pl_vm_counts told; /* of those of its VM */
  uint64_t told_allocated;
};

/* Begins in the shard of a worker, or with PL_RECORD_MASTER the master's, and
 * makes all series that it has without knowing routes.  Returns 0 or what
 * pl__layout_metrics returns. */
int pl__tally_open(struct pl_tally *t, const struct pl_fabric *f, uint32_t who);

static inline void pl__tally_add(struct pl_tally *t, unsigned what, double n) {
  if (t->shard)
    pl__shard_add(t->shard, t->cells[what], n);
}

static inline void pl__tally_record(struct pl_tally *t, unsigned what,
                                    double n) {
  if (t->shard)
    pl__shard_record(t->shard, t->cells[what], n > 0 ? n : 0);
}

/* A handler begins: has the cells that its end will most likely count in fetched
 * into the cache meanwhile; with 200 routes they are not there any more.
 * Arguments as of pl__tally_request. */
void pl__tally_expect(const struct pl_tally *t, const struct pl_generation *g,
                      const struct pl_req *req, uint32_t route);

/* A request has ended.
 *
 *   g        whose router has seen it, or (refused before that) any
 *   route    as in the request; 0: none
 *   seconds  since its head was complete
 *
 * Returns whether it was slow, by what its route is used to. */
bool pl__tally_request(struct pl_tally *t, struct pl_generation *g,
                       const struct pl_req *req, uint32_t route,
                       double seconds);
/* Ten times a second: some routes' P99 of all that this worker has served. */
void pl__tally_slow(struct pl_tally *t, struct pl_generation *g);
/* Adds what was counted elsewhere since the last time, and sets gauges. */
void pl__tally_net(struct pl_tally *t, const struct pl_net *net);
void pl__tally_traces(struct pl_tally *t, const struct pl_tracer *tracer);
void pl__tally_vm(struct pl_tally *t, struct pl_generation *g);
void pl__tally_gauges(struct pl_tally *t, const struct pl_generation *now,
                      const struct pl_generation *old);
/* What a generation has for its tally is given back. */
void pl__tally_forget(struct pl_tally_generation *g);
/* A reload has ended. */
void pl__tally_reload(struct pl_tally *t, const struct pl_reload_result *r);

#endif /* PL_SERVER_TALLY_H */
