/* server/overview.h - a running server at a glance: what GET /status of the
 * control socket and of the admin plane answers, as JSON or for people; and how a
 * reload went.
 */
#ifndef PL_SERVER_OVERVIEW_H
#define PL_SERVER_OVERVIEW_H

#include "base/buf.h"
#include "fabric/ring.h"
#include "server/reload.h"

#include <stdint.h>

struct pl_beat;
struct pl_fabric;
struct pl_trends;
struct pl_standing_facts;

/* All borrowed. */
struct pl_overview {
  const struct pl_standing_facts *facts;
  const struct pl_beat *beats; /* of all workers, by index; NULL: not known */
  int64_t now_ns;              /* monotonic */
  const struct pl_trends *trends; /* looked at now; NULL: could not be */
  uint64_t drops[PL_RING_LANES];  /* records of the log, by level */
};

/* Fills it in from the facts and from what lies in the fabric.  The look at
 * trends is one of their owner's. */
void pl__overview_take(struct pl_overview *o,
                       const struct pl_standing_facts *facts,
                       const struct pl_fabric *f, struct pl_trends *trends);
/* Append to `out`; 0 or what pl__buf_append returns. */
int pl__overview_json(const struct pl_overview *o, struct pl_buf *out);
int pl__overview_text(const struct pl_overview *o, struct pl_buf *out);
int pl__overview_reload_json(const struct pl_reload_result *r,
                             struct pl_buf *out);
/* Rejected: the reason alone, as the loader gave it. */
int pl__overview_reload_text(const struct pl_reload_result *r,
                             struct pl_buf *out);

#endif /* PL_SERVER_OVERVIEW_H */
