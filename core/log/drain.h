/* log/drain.h - takes records out of all rings, writes them out as lines.
 *
 * Runs in control.  Records of all rings are merged by their time, formatted
 * into one batch, which is laid down in the ledger and written; only when it is
 * written whole are the rings released.  So:
 *
 *  (1) at most one batch is held here: what does not get out stays in the
 *      rings, and when these are full their writers count what they drop;
 *  (2) when control is killed, the one after it goes on with the same batch
 *      where it was: no line is lost, and none comes twice where that can be
 *      told (log/outlet.h says where it can);
 *  (3) nothing is lost because the output fails (disk full, pipe closed): the
 *      batch is tried again, and a record tells how long it was so.
 *
 * Drops that writers counted are told by a record of level warn.
 *
 * Control sleeps like this: after a run that says PL_DRAIN_IDLE, call
 * pl__drain_sleep(d, 1) and wait for the eventfd; once woken, run, and linger
 * for some milliseconds before the next run, with pl__drain_sleep(d, a
 * quarter of a ring).  Then a busy worker makes no system call per tick.
 */
#ifndef PL_LOG_DRAIN_H
#define PL_LOG_DRAIN_H

#include "log/format.h"
#include "log/outlet.h"
#include "log/syslog.h"
#include "log/tail.h"

#define PL_DRAIN_RINGS_MAX PL_LEDGER_RINGS_MAX

/* A record that is shown was taken up, for good: it comes once, and again only in
 * the process after one that died at the wrong moment. `record` is valid during
 * the call, which must not wait. */
typedef void (*pl__drain_record_fn)(void *arg, const void *record,
                                    uint32_t bytes);

enum pl_drain_outcome {
  PL_DRAIN_IDLE,   /* the rings are empty */
  PL_DRAIN_MORE,   /* there is more: run again */
  PL_DRAIN_BLOCKED /* the output takes nothing now: try again later */
};

struct pl_drain_ring {
  struct pl_ring_reader reader;
  const void *record; /* the next one, or NULL */
  int64_t time_ns;    /* of it */
  uint32_t bytes;     /* of it */
  uint16_t worker;
  bool drops_pending; /* the batch tells `drops` */
  uint64_t drops[PL_RING_LANES];
  uint64_t broken_told; /* of the ring's broken_count */
};

struct pl_drain {
  struct pl_outlet outlet;
  struct pl_formatter formatter;
  struct pl_syslog *syslog; /* NULL: lines; borrowed */
  struct pl_tail *tail;     /* gets a copy of each record; NULL; borrowed */
  unsigned level;           /* records below it are not shown */
  pl__drain_record_fn on_record; /* NULL: nobody else wants them */
  void *on_record_arg;
  uint64_t rotate_bytes; /* largest file; 0: any size */
  uint32_t rotate_keep;  /* old ones */
  struct pl_buf out;     /* the next batch */
  uint32_t ring_count;
  int failing;         /* negated errno the sink fails with, or 0 */
  int64_t failing_ns;  /* monotonic, since when */
  int64_t blocked_ns;  /* monotonic, since when it takes nothing, or 0 */
  int failed;          /* an error that is over and not told yet, or 0 */
  int64_t failed_ns;   /* how long it went on */
  int rotation;        /* the error that the last rotation ended with, or 0 */
  int rotation_told;   /* the one that was told */
  int64_t rotation_ns; /* monotonic, when it was tried */
  int reopening;       /* the error of a reopening that is not told yet, or 0 */
  uint64_t refused_told; /* of the sink's refused_count */
  int64_t drops_ns;      /* monotonic, when drops were last looked for */
  bool more;             /* the last batch did not take all there was */
  uint32_t batch_lines;
  uint64_t line_count; /* written so far */
  uint64_t bad_count;  /* records that could not be read */
  struct pl_drain_ring rings[PL_DRAIN_RINGS_MAX];
};

/* Prepares a drain without rings.  Takes no memory before the first record.
 *
 *   sink     open, and so until pl__drain_deinit
 *   ledger   all zero, or what the drain before this one has left
 *   transit  see struct pl_outlet; NULL: there is none
 */
void pl__drain_init(struct pl_drain *d, struct pl_sink *sink,
                    struct pl_ledger *ledger, const int *transit,
                    enum pl_log_format format, bool colour, unsigned level,
                    const struct pl_routes *routes);
/* Frees the batch; what it holds stays in the rings. */
void pl__drain_deinit(struct pl_drain *d);

/* Adds the ring of a worker (or PL_RECORD_MASTER, ...).  Returns 0 or
 * PL_EFULL. */
int pl__drain_add(struct pl_drain *d, struct pl_ring *ring, uint16_t worker);

/* Takes over from the drain before this one, once all rings are there, in the
 * same order as then.  A ledger that makes no sense is begun anew. */
void pl__drain_resume(struct pl_drain *d);

/* Writes out at most one batch.  *outcome tells what to do next.  Returns how
 * many records were taken up; a failing output is no error here. */
uint32_t pl__drain_run(struct pl_drain *d, enum pl_drain_outcome *outcome);

/* Why nothing gets out: "No space left on device", "it takes nothing" for a
 * second; or NULL. */
const char *pl__drain_blocked(const struct pl_drain *d);

/* Tells all rings that their reader is about to sleep; see pl__ring_sleep.
 * Returns false when one has so much already: run instead of waiting. */
bool pl__drain_sleep(struct pl_drain *d, uint32_t bytes);

/* Tells all rings that their reader is awake. */
void pl__drain_awake(struct pl_drain *d);

/* Runs until the rings are empty, waiting for the output at most `wait_ms`
 * altogether: for the end.  Returns 0, or with records left PL_ETIMEOUT, or
 * PL_EGONE when nobody reads the output any more (EPIPE). */
int pl__drain_finish(struct pl_drain *d, int wait_ms);

/* For the very end, after a pl__drain_finish that failed: how many records never
 * got out, those that were dropped and could not be told of included.  Lines of a
 * batch that has left in part are counted all. */
uint64_t pl__drain_left(const struct pl_drain *d);

/* Opens the sink's file again; see pl__outlet_reopen.  After an error the file
 * that was open goes on, and a record says so. */
int pl__drain_reopen(struct pl_drain *d);

#endif /* PL_LOG_DRAIN_H */
