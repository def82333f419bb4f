/* server/anomaly.h - whether the server does so badly that all traces are kept.
 *
 * Control looks at what the shards tell, about once a second: the share of
 * requests that failed, and the P99 of all, of the last seconds (server/trends.h).
 * While one of them is out of its bounds, and for `hold` after that, the share of
 * traces that are kept is 1; then it falls by half, six times in each further
 * `hold`, until it is too small to matter.  Workers read the share from the
 * fabric (fabric/tracing.h), which also outlives control.
 */
#ifndef PL_SERVER_ANOMALY_H
#define PL_SERVER_ANOMALY_H

#include "server/trends.h"

#include <stdint.h>

struct pl_fabric;
struct pl_server_state;
struct pl_tracing;

#define PL_ANOMALY_REQUESTS_MIN 20.0 /* fewer in a look say nothing */

struct pl_anomaly {
  struct pl_trends trends;
  struct pl_metrics metrics;
  struct pl_tracing *tracing;
  const struct pl_server_state *state; /* the bounds */
  int64_t began_ns;                    /* monotonic */
  int64_t looked_ns;
  int64_t bad_ns; /* when it was out of bounds last; 0: never, or long ago */
};

/* Returns 0 or what pl__layout_* return. */
int pl__anomaly_open(struct pl_anomaly *a, const struct pl_fabric *f,
                     int64_t now_ns);
void pl__anomaly_close(struct pl_anomaly *a);
/* Looks, if it is time to. */
void pl__anomaly_look(struct pl_anomaly *a, int64_t now_ns);

/* What is kept so long after it was out of bounds; 0: nothing more than usual. */
double pl__anomaly_share(int64_t since_ns, int64_t hold_ns);

#endif /* PL_SERVER_ANOMALY_H */
