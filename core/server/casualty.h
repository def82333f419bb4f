/* server/casualty.h - what a dead worker leaves: who was to blame, what was
 * lost, and the records that tell it.
 *
 * Reads what the worker wrote into the fabric while it lived (fabric/flights.h)
 * and while it died (server/crash.h).  A worker that went wild may have written
 * anything there: nothing of it is trusted but for what it says.  Used by the
 * master, once the worker was reaped and before its sections are used again.
 */
#ifndef PL_SERVER_CASUALTY_H
#define PL_SERVER_CASUALTY_H

#include "fabric/record.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_crash;
struct pl_flight;
struct pl_flights;
struct pl_routes;

#define PL_CASUALTY_LOST_MAX 32 /* requests named, one by one */

enum pl_casualty_cause {
  PL_CASUALTY_CRASHED, /* by a signal of its own doing */
  PL_CASUALTY_EXITED,  /* what it ran has called exit */
  PL_CASUALTY_STUCK,   /* by the master, since it stood still */
  PL_CASUALTY_KILLED   /* by somebody else: no fault of what it ran */
};

struct pl_casualty {
  uint32_t worker;
  int32_t pid;
  int32_t signal;                   /* that waitpid told; 0: it has exited */
  int32_t exit_code;                /* then */
  bool stuck;                       /* the master has ended it */
  int64_t now_ns;                   /* monotonic; ages are counted to it */
  const struct pl_flights *flights; /* what it had in hand */
  uint32_t slot_count;              /* of them */
  const struct pl_crash *crash;
  const struct pl_routes *routes; /* for the name of the last one */
};

enum pl_casualty_cause pl__casualty_cause(const struct pl_casualty *c);
/* The request whose Lua was being run; NULL: none was. */
const struct pl_flight *pl__casualty_running(const struct pl_casualty *c);
/* The route whose handler is to blame; PL_RECORD_NO_ROUTE: nobody's. */
uint32_t pl__casualty_blamed(const struct pl_casualty *c);
/* The next request in flight at `*slot` or after it; NULL: there is none. Moves
 * *slot behind it; begin with 0. */
const struct pl_flight *pl__casualty_next(const struct pl_casualty *c,
                                          uint32_t *slot);

/* One error record about the worker, and a warning for each other request that
 * was in flight, as far as level_min lets them through. */
void pl__casualty_log(const struct pl_casualty *c, struct pl_ring_writer *log,
                      uint32_t level_min);

/* Begins a record, as pl__record_begin, about a request: with its route, its id
 * and its trace; and adds its age.  e NULL: about none. For records about
 * workers that still live, too. */
void pl__casualty_begin(struct pl_record_draft *d, void *memory, uint32_t bytes,
                        const struct pl_record *head, const struct pl_flight *e,
                        struct pl_slice message);
void pl__casualty_age(struct pl_record_draft *d, const struct pl_flight *e,
                      int64_t now_ns);

#endif /* PL_SERVER_CASUALTY_H */
