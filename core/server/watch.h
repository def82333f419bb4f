/* server/watch.h - the workers as the master sees them from outside: which of
 * them answer, and what becomes of those that don't.
 *
 * With each look it judges their beats (server/pulse.h), marks those whose
 * sockets the others are to accept from (server/adoption.h), and tells one that
 * stands still to abort, so that it reports where it is (server/crash.h), and
 * kills it if it does not even do that.  When a worker has died it tells what
 * it leaves (server/casualty.h) and whether a route is refused for it
 * (server/blame.h).  All of it is told in the log.
 *
 * Starts, reaps and counts no process: see master.c.  Of what lies in the
 * fabric, which workers can write over, nothing is believed that could end or
 * hold up the master.
 */
#ifndef PL_SERVER_WATCH_H
#define PL_SERVER_WATCH_H

#include "server/blame.h"
#include "server/pulse.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_beat;
struct pl_child;
struct pl_config;
struct pl_fabric;
struct pl_ring_writer;
struct pl_watch_shelf;

struct pl_watch {
  const struct pl_config *config; /* borrowed */
  struct pl_child *children;      /* borrowed; the workers come first */
  struct pl_ring_writer *log;     /* borrowed */
  struct pl_watch_shelf *shelves; /* what lies in the fabric, by worker */
  struct pl_routes *routes;
  uint32_t slot_count; /* of each worker's flights */
  uint32_t count;      /* of workers that there is room for */
  uint32_t generation; /* of the app, committed last; the master sets it */
  struct pl_pulse pulse;
  struct pl_blame blame;
  /* A worker is silent, or stuck and about to be ended; NULL: nobody asks. */
  void (*on_silence)(void *arg, uint32_t worker, bool is_stuck);
  void *arg;
};

/* Finds all that it looks at later: by then a worker may have written over the
 * table of sections.  Returns 0, PL_ENOMEM, or what pl__fabric_find returns. */
int pl__watch_init(struct pl_watch *w, const struct pl_config *config,
                   const struct pl_fabric *fabric, struct pl_child *children,
                   uint32_t count, struct pl_ring_writer *log);
void pl__watch_deinit(struct pl_watch *w);
/* A generation is committed, with that configuration, borrowed. */
void pl__watch_use(struct pl_watch *w, const struct pl_config *config,
                   uint32_t generation);

/* Judges and marks; as often as pl__watch_due says.
 *
 *   serves  there are requests to accept for one that does not answer */
void pl__watch_look(struct pl_watch *w, bool serves, int64_t now_ns);
/* Marks only: a worker has become ready, or has died. */
void pl__watch_mark(struct pl_watch *w, bool serves);
/* When to look next, at the latest. */
int64_t pl__watch_due(const struct pl_watch *w, int64_t now_ns);

/* A signal has ended a worker, and it was not because all are to end; its pid
 * is still that of its child. */
void pl__watch_death(struct pl_watch *w, uint32_t index, int signal);
/* The same for a worker that has exited although nobody told it to.  False: no
 * handler was running, and nothing has been told. */
bool pl__watch_exit(struct pl_watch *w, uint32_t index, int code);

/* Tells all workers that none comes after them. */
void pl__watch_end(struct pl_watch *w);
/* Requests that living workers have said are running. */
uint32_t pl__watch_requests(const struct pl_watch *w);

#endif /* PL_SERVER_WATCH_H */
