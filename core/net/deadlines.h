/* net/deadlines.h - the time limits of connections, without a timer each.
 *
 * Every kind has one duration, so a queue per kind is in order of time by
 * itself: arming appends, expiring looks at the front.  One coarse timer of
 * the worker calls pl__deadlines_expire; nothing here reads a clock.
 */
#ifndef PL_NET_DEADLINES_H
#define PL_NET_DEADLINES_H

#include "base/list.h"

#include <stdbool.h>

/* How often the worker looks, seconds: a deadline may be late by that. */
#define PL_DEADLINES_TICK_S 0.1
/* How long a peer may go on sending after our last byte. */
#define PL_NET_LINGER_S 2.0
/* How long a chunked body may gather before its handler starts without it. */
#define PL_NET_GATHER_S 0.1

enum pl_deadline_kind {
  PL_DEADLINE_HEADER, /* the head of a request, from its first byte */
  PL_DEADLINE_BODY,   /* a body being received */
  PL_DEADLINE_IDLE,   /* keep-alive without a request */
  PL_DEADLINE_WRITE,  /* output that doesn't move */
  PL_DEADLINE_LINGER, /* the peer may still send after our last byte */
  PL_DEADLINE_GATHER, /* a chunked body before its handler starts */
  PL_DEADLINE_COUNT
};

/* Lies in the connection; all zero is "not armed". */
struct pl_deadline {
  struct pl_list link;
  double due; /* monotonic seconds */
  int kind;   /* enum pl_deadline_kind */
  bool armed;
};

struct pl_deadlines {
  struct pl_list queue[PL_DEADLINE_COUNT];
  double seconds[PL_DEADLINE_COUNT]; /* of each kind; 0: never expires */
};

/* Runs for a deadline that is over; it is no longer armed. May arm again. */
typedef void (*pl__deadline_fn)(struct pl_deadline *d,
                                enum pl_deadline_kind kind);

void pl__deadlines_init(struct pl_deadlines *all,
                        const double seconds[PL_DEADLINE_COUNT]);
/* Other durations from now on. What is armed is due by them at the latest, or as
 * it was, if it would never be. */
void pl__deadlines_set(struct pl_deadlines *all,
                       const double seconds[PL_DEADLINE_COUNT], double now);
/* Arms, or arms anew. */
void pl__deadline_arm(struct pl_deadlines *all, struct pl_deadline *d,
                      enum pl_deadline_kind kind, double now);
void pl__deadline_disarm(struct pl_deadline *d);
void pl__deadlines_expire(struct pl_deadlines *all, double now,
                          pl__deadline_fn on_due);
/* As if the time of what has been armed as `kind` for at least `after` seconds
 * were over; the oldest first. */
void pl__deadlines_hurry(struct pl_deadlines *all, enum pl_deadline_kind kind,
                         double now, double after, pl__deadline_fn on_due);
/* True when nothing is armed: the worker's timer may rest. */
bool pl__deadlines_empty(const struct pl_deadlines *all);

#endif /* PL_NET_DEADLINES_H */
