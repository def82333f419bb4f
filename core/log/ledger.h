/* log/ledger.h - the batch that is on its way out, and how far it has come.
 *
 * Lies in the fabric, so it outlives the process that writes the log: whoever
 * does that next goes on with the very same bytes, and with what stands here
 * and in the output finds out where (log/outlet.c).  The rings are released
 * only when the batch is out, and as often as it takes: their positions behind
 * the batch stand here, too.
 *
 * What holds is one of two notes, and one store makes the other one hold: a
 * process that is killed between any two instructions leaves either.
 *
 *          staged               tried, in one of four ways
 *   EMPTY -------> HELD ------> FILE | LOADING, MOVING | SENDING
 *     ^             ^                       |
 *     |             +-- some is out --------+
 *     |                                     |
 *     +---- rings released ---- DONE <------+ all of it is out
 *
 *  phase    means                                    the next process
 *  EMPTY    no batch                                 formats one
 *  HELD     `from` bytes are out, for certain        goes on there
 *  FILE     the rest was being appended to a file    looks into the file
 *           that was `size` bytes long
 *  LOADING  `bytes` were being put into the transit  counts what lies in it
 *           pipe, out of which nothing has gone
 *  MOVING   `bytes` lay in the transit pipe, and     counts what still does
 *           were being moved on
 *  SENDING  some were being written to what keeps    begins the line again:
 *           no record of it                          it may come twice
 *  DONE     all are out                              releases the rings
 *
 * Does not know files and pipes: log/outlet.h does.
 */
#ifndef PL_LOG_LEDGER_H
#define PL_LOG_LEDGER_H

#include "base/limits.h"
#include "fabric/ring.h"

#define PL_LEDGER_VERSION 1u
#define PL_LEDGER_RINGS_MAX (PL_LIMIT_WORKER_COUNT + 4u) /* and others */

/* A batch grows past its limit by one line at most, and the longest text that
 * a record can hold may become six times as long. */
#define PL_LEDGER_BYTES                                                        \
  (PL_LIMIT_LOG_BATCH_BYTES + 8u * PL_LIMIT_LOG_RECORD_BYTES +                 \
   8u * PL_LIMIT_ROUTES_BYTES)

enum pl_ledger_phase {
  PL_LEDGER_EMPTY,
  PL_LEDGER_HELD,
  PL_LEDGER_FILE,
  PL_LEDGER_LOADING,
  PL_LEDGER_MOVING,
  PL_LEDGER_SENDING,
  PL_LEDGER_DONE
};

struct pl_ledger_note {
  uint32_t phase;    /* enum pl_ledger_phase */
  uint32_t batch;    /* bytes of it */
  uint32_t from;     /* so many are out */
  uint32_t bytes;    /* LOADING, MOVING: of the batch, behind `from` */
  uint64_t device;   /* FILE: which one ... */
  uint64_t inode;    /* ... it is, */
  uint64_t size;     /* and where the rest was to begin in it */
  uint64_t sequence; /* number of the last syslog message */
};

/* Where a ring is behind the batch. */
struct pl_ledger_ring {
  uint64_t head;
  uint64_t drops_told[PL_RING_LANES];
};

struct pl_ledger {
  _Atomic uint32_t turn; /* its lowest bit: which note holds */
  uint32_t ring_count;
  struct pl_ledger_note notes[2];
  struct pl_ledger_ring rings[PL_LEDGER_RINGS_MAX];
  char data[PL_LEDGER_BYTES];
};

/* The note that holds. */
static inline struct pl_ledger_note pl__ledger_note(const struct pl_ledger *l) {
  return l->notes[atomic_load_explicit(&l->turn, memory_order_acquire) & 1];
}

/* From here on, this one does. */
static inline void pl__ledger_put(struct pl_ledger *l,
                                  const struct pl_ledger_note *note) {
  uint32_t turn = atomic_load_explicit(&l->turn, memory_order_relaxed) + 1;
  l->notes[turn & 1] = *note;
  atomic_store_explicit(&l->turn, turn, memory_order_release);
}

/* The same, with another phase and the bytes that are out; none lie in the
 * transit. */
static inline void pl__ledger_turn(struct pl_ledger *l,
                                   enum pl_ledger_phase phase, uint32_t from) {
  struct pl_ledger_note note = pl__ledger_note(l);
  note.phase = phase;
  note.from = from;
  note.bytes = 0;
  pl__ledger_put(l, &note);
}

#endif /* PL_LOG_LEDGER_H */
