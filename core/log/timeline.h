/* log/timeline.h - what processes have recorded (fabric/events.h), as a trace
 * that chrome://tracing and Perfetto open: JSON, the array form.
 *
 *   one process per server, one thread per worker, and one for the master;
 *   B and E      a stretch of a handler or a task, from when it runs until it
 *                waits, is preempted, or ends
 *   b and e      a request, from the beginning of its handler to its end; these
 *                overlap, so they are asynchronous, with the request's id
 *   X            a slice of the garbage collector
 *   i            what has happened: deadlines, drops, reloads, deaths, ...
 *
 * Written piece by piece: of what there is now, or of what comes, as it comes.
 * Each piece ends between two events, and a trace that has no end still opens.
 * Per thread, time never goes back, and each B has its E.
 *
 * The processes may be dead, or have gone wild: what makes no sense is left
 * out.  Knows no fabric but the rings that it is given.
 */
#ifndef PL_LOG_TIMELINE_H
#define PL_LOG_TIMELINE_H

#include "base/buf.h"
#include "fabric/events.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_routes;
struct pl_timeline;

#define PL_TIMELINE_SOURCES_MAX 513u /* workers, and the master */
#define PL_TIMELINE_SLOTS_MAX 65536u /* requests of a worker at once */
#define PL_TIMELINE_PIECE_BYTES 65536u
/* What is appended past what was asked for, at most. */
#define PL_TIMELINE_OVER_BYTES 16384u

struct pl_timeline_source {
  const struct pl_event_rings *events;
  uint32_t tid;
  char name[32]; /* "worker 0" */
};

struct pl_timeline_options {
  const struct pl_timeline_source *sources; /* copied */
  uint32_t source_count;
  const struct pl_routes *routes; /* tables of all generations; borrowed */
  const char *name;               /* of the server; copied */
  int pid;                        /* of the master */
  double from_s;                  /* monotonic; what is older is left out */
};

/* Makes one that knows what there is now.  Returns 0 or PL_ENOMEM. */
int pl__timeline_open(struct pl_timeline **out,
                      const struct pl_timeline_options *options);
void pl__timeline_close(struct pl_timeline *t);

/* From here on it also knows what has come since. */
void pl__timeline_look(struct pl_timeline *t);

/* Appends events, oldest of a process first, until all are told or `most` bytes
 * have been appended (PL_TIMELINE_OVER_BYTES more at most).  Returns 1 when
 * there are more, 0 when there are none, or what pl__buf_reserve returns. */
int pl__timeline_write(struct pl_timeline *t, uint32_t most,
                       struct pl_buf *out);

/* Appends ends for all that has none, a piece as above, and behind the last
 * one the bracket.  Returns likewise. */
int pl__timeline_end(struct pl_timeline *t, uint32_t most, struct pl_buf *out);

#endif /* PL_LOG_TIMELINE_H */
