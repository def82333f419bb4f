/* fabric/quarantine.h - routes that are refused because they kill workers.
 *
 *            pl__quarantine_add (master)
 *   (free) ------------------------------> REFUSED until a time
 *     ^                                      |   ^
 *     |                  time over: the next |   | its worker died of it:
 *     |     request, and only that one, is   |   | pl__quarantine_add again
 *     |                        let through   v   |
 *     |   pl__quarantine_take              PROBING
 *     |        (master)                      |   |
 *     |                         it ended:    |   +--> REFUSED, time over:
 *     +-------- LIFTED <---------------------+        pl__quarantine_retry: its
 *                         pl__quarantine_lift         worker died of something
 *                                                     else
 *
 * The master adds, retries and takes what is lifted; workers admit and lift.
 * Only the master makes entries and frees them, so a worker that dies between
 * two steps leaves none half made.  A worker that dies while it probes leaves
 * the entry PROBING: the master sees it among the flights of that worker
 * (fabric/flights.h) and adds or retries.  Should it have died before it could
 * note that, the next request is let through when the time for probing is over.
 */
#ifndef PL_FABRIC_QUARANTINE_H
#define PL_FABRIC_QUARANTINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_QUARANTINE_VERSION 2u
#define PL_QUARANTINE_ROUTES_MAX 64u /* at once; further ones are let through */
#define PL_QUARANTINE_PROBE_S 60     /* then another request may try */

enum pl_quarantine_outcome {
  PL_QUARANTINE_FREE,    /* not in quarantine */
  PL_QUARANTINE_REFUSED, /* answer 503 */
  PL_QUARANTINE_PROBE /* let through, as the only one: lift it when it ends */
};

struct pl_quarantine_entry {
  _Atomic uint32_t route;   /* id + 1; 0: free; the master's */
  _Atomic uint32_t state;   /* REFUSED (0), PROBING or LIFTED */
  _Atomic int64_t until_ns; /* monotonic, of that state */
};

/* Lies in the section "quarantine", all zero at first. There are two, since at
 * most two generations of the app live, and route ids are of one. */
struct pl_quarantine {
  _Alignas(64) _Atomic uint32_t count; /* entries in use: 0 is the usual case */
  struct pl_quarantine_entry at[PL_QUARANTINE_ROUTES_MAX];
};

/* The one of a generation. */
static inline struct pl_quarantine *
pl__quarantine_of(struct pl_quarantine *both, uint32_t generation) {
  return &both[generation % 2];
}

/* Frees all entries: the routes of a new generation have done nothing yet.
 * Master only. */
void pl__quarantine_clear(struct pl_quarantine *q);
/* Refuses the route until then.  False: there is no room.  Master only. */
bool pl__quarantine_add(struct pl_quarantine *q, uint32_t route,
                        int64_t until_ns);
/* The next request is let through as a probe.  Master only. */
void pl__quarantine_retry(struct pl_quarantine *q, uint32_t route);
/* Frees one entry that was lifted; *route is its route.  False: there is none.
 * Master only, from time to time, until false. */
bool pl__quarantine_take(struct pl_quarantine *q, uint32_t *route);

/* Whether a request of this route may run now.  Any worker. */
enum pl_quarantine_outcome pl__quarantine_admit(struct pl_quarantine *q,
                                                uint32_t route, int64_t now_ns);
/* The probe has ended well: the route is free again.  Does nothing when the
 * route was added again meanwhile. */
void pl__quarantine_lift(struct pl_quarantine *q, uint32_t route);
/* Whole seconds until a request may be tried, at least 1: for Retry-After. */
uint32_t pl__quarantine_left_s(struct pl_quarantine *q, uint32_t route,
                               int64_t now_ns);

/* Whether any route is in quarantine: one load, for every request. */
static inline bool pl__quarantine_is_empty(const struct pl_quarantine *q) {
  return atomic_load_explicit(&q->count, memory_order_acquire) == 0;
}

#endif /* PL_FABRIC_QUARANTINE_H */
