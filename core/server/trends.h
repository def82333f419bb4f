/* server/trends.h - what the last few seconds were like: rates, latencies and
 * loads, from what processes count in their shards (fabric/metrics.h).
 *
 * A look reads the numbers as they are and compares them with those of a look
 * some seconds ago, which it has kept: whoever looks again and again gets a
 * window of PL_TRENDS_LEAST_S to twice that or what lies between two looks; the
 * first one gets all since the start.  Nobody counts for it, and without looks
 * it costs nothing.
 *
 * Of many routes it has those in which most time was spent; what it tells of all
 * together counts the others, too.
 */
#ifndef PL_SERVER_TRENDS_H
#define PL_SERVER_TRENDS_H

#include "base/histogram.h"
#include "fabric/metrics.h"

#include <stdint.h>

#define PL_TRENDS_ROUTES_MAX 64u
#define PL_TRENDS_LEAST_S 2
#define PL_TRENDS_MOST_S 60 /* what is older is not compared with */

/* Counted up to some time. */
struct pl_trends_route {
  uint32_t series; /* of the durations */
  double errors;   /* answered with 5xx */
  struct pl_histogram seconds;
};

struct pl_trends_worker {
  double requests;
  double busy_s;
  struct pl_histogram lag_s;
};

struct pl_trends_snapshot {
  int64_t at_ns;               /* monotonic; 0: none */
  double errors;               /* of all routes, answered with 5xx */
  struct pl_histogram seconds; /* of all routes */
  uint32_t route_count;
  struct pl_trends_route routes[PL_TRENDS_ROUTES_MAX];
  struct pl_trends_worker workers[]; /* worker_count */
};

/* What a look tells. */
struct pl_trend {
  double requests_per_s;
  double errors_per_s;
  double p50_s, p99_s; /* 0: nothing was counted */
};

struct pl_trends_route_now {
  struct pl_slice labels; /* route="/",method="GET"; in the table */
  uint64_t requests;      /* since the start */
  struct pl_trend trend;
};

struct pl_trends_worker_now {
  double requests_per_s;
  double busy;         /* share of the time, 0 to 1 */
  double lag_p99_s;    /* of the loop's turns */
  double memory_bytes; /* of Lua; 0: it does not live */
};

struct pl_trends {
  uint32_t worker_count;
  struct pl_trends_snapshot *older, *newer, *now; /* NULL: no look yet */
  double window_s;
  struct pl_trend all; /* of all routes, also of those that are not shown */
  uint32_t route_count;
  struct pl_trends_route_now routes[PL_TRENDS_ROUTES_MAX]; /* busiest first */
  struct pl_trends_worker_now *workers;                    /* worker_count */
};

/* All zero is a fine beginning. */
void pl__trends_deinit(struct pl_trends *t);
/* Reads, compares, and fills in what the struct tells.  `started_ns`: when the
 * server was (monotonic).  Returns 0 or PL_ENOMEM. */
int pl__trends_look(struct pl_trends *t, const struct pl_metrics *m,
                    int64_t started_ns, int64_t now_ns);

#endif /* PL_SERVER_TRENDS_H */
