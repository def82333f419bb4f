/* fabric/ring.h - a byte ring between two processes: one writes, one reads.
 *
 * Records of any length, 8-byte aligned, each behind a prefix that tells its
 * length.  A record never wraps: what is left at the end is skipped by a
 * marker.  Positions count bytes since the start and are masked when used.
 *
 *            head (reader's)                 tail (writer's)
 *             |                               |
 *     ........[len|record][len|record][len|rec]..........
 *
 * Invariants:
 *  (1) only the writer stores tail, only the reader stores head, both with
 *      release; 0 <= tail - head <= bytes;
 *  (2) all between head and tail are whole records: a writer that is killed
 *      between any two instructions leaves what it had published, no more;
 *  (3) a reader that is killed goes on from the last release: records are
 *      seen at least once, and once only up to there;
 *  (4) neither side waits for the other, but a writer that asks for it
 *      (pl__ring_reserve_patiently), and then no longer than the reader reads.
 *
 * The struct lies in a fabric section and is followed by its bytes.  Each side
 * has a handle in its own memory.  A process that takes over a side makes a
 * new handle; there may be one of a side at a time.
 *
 * Waking: the reader says with how many unread bytes it wants to be woken, and
 * the writer asks once per batch (pl__ring_wake) whether that is so; then it
 * writes to an eventfd.  A writer that is killed right after publishing wakes
 * nobody: so a reader also looks by itself from time to time, and whenever a
 * writer has died.
 */
#ifndef PL_FABRIC_RING_H
#define PL_FABRIC_RING_H

#include "base/check.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_RING_VERSION 2u
#define PL_RING_LANES 4 /* drop counters: one per log level */
#define PL_RING_BYTES_MIN 4096u
#define PL_RING_BYTES_MAX (1u << 30)

#define PL_RING_PATIENCE_MS 60 /* with a reader that does not read */

#define PL_RING_RECORD 0x52u /* prefix marks */
#define PL_RING_SKIP 0x57u

/* What stands before each record. */
struct pl_ring_prefix {
  uint32_t bytes; /* of the record, without this prefix and its padding */
  uint32_t mark;  /* PL_RING_RECORD, or PL_RING_SKIP: go on at the start */
};

struct pl_ring {
  /* set once */
  _Alignas(128) uint64_t bytes; /* of data[], a power of two */
  /* the writer's */
  _Alignas(128) _Atomic uint64_t tail;   /* published up to here */
  _Atomic uint64_t drops[PL_RING_LANES]; /* records that found no room */
  /* the reader's */
  _Alignas(128) _Atomic uint64_t head; /* read up to here */
  _Atomic uint64_t sleep;              /* see pl__ring_sleep; 0: awake */
  uint64_t drops_told[PL_RING_LANES];  /* of drops, those reported */
  uint64_t broken_count;               /* times the contents made no sense */
  _Alignas(128) char data[];
};

/* Takes what the ring had no room for; 0: it is written elsewhere. */
typedef int (*pl__ring_overflow_fn)(void *arg, const void *record,
                                    uint32_t bytes);

struct pl_ring_writer {
  struct pl_ring *ring;
  uint64_t mask;
  uint64_t tail;                 /* pushed up to here, perhaps not published */
  uint64_t head;                 /* the reader's, as last seen */
  uint64_t next;                 /* where the reserved record's prefix lies */
  uint64_t woken;                /* the sleep that has been answered */
  int wake_fd;                   /* an eventfd, borrowed; -1: nobody is woken */
  bool is_stuck;                 /* the reader was waited for, in vain */
  uint64_t stuck_head;           /* its position then */
  pl__ring_overflow_fn overflow; /* NULL: there is no elsewhere */
  void *overflow_arg;
};

struct pl_ring_reader {
  struct pl_ring *ring;
  uint64_t mask;
  uint64_t head;   /* read up to here, perhaps not released */
  uint64_t tail;   /* the writer's, as last seen */
  uint64_t sleeps; /* how often it has slept; tells sleeps apart */
};

/* Section bytes for a ring of `bytes` data. */
static inline uint64_t pl__ring_section_bytes(uint64_t bytes) {
  return sizeof(struct pl_ring) + bytes;
}

/* Makes an empty ring of `bytes`, a power of two from PL_RING_BYTES_MIN to
 * PL_RING_BYTES_MAX, in a section of pl__ring_section_bytes.  Before the fork.
 * Returns 0 or PL_EINVAL. */
int pl__ring_init(struct pl_ring *r, uint64_t bytes);

/* --- the writer ------------------------------------------------------- */

/* Begins to write, where the writer before it (if any) had published. */
void pl__ring_writer_init(struct pl_ring_writer *w, struct pl_ring *r,
                          int wake_fd);

/* pl__ring_reserve when the reader's position must be looked at again. */
void *pl__ring_reserve_slow(struct pl_ring_writer *w, uint32_t bytes,
                            uint64_t fill_max);

/* Room for a record of `bytes`, contiguous, aligned to 8, if the ring would
 * not be filled past `fill_max` bytes by it (at most the ring's size).  Not
 * visible to the reader.  Reserving again without pushing forgets the first.
 * Returns NULL when there is no room; a record larger than half the ring may
 * never find any. */
static inline void *pl__ring_reserve(struct pl_ring_writer *w, uint32_t bytes,
                                     uint64_t fill_max) {
  uint64_t size = w->mask + 1;
  uint64_t need =
      sizeof(struct pl_ring_prefix) + (((uint64_t)bytes + 7) & ~7ull);
  uint64_t at = w->tail & w->mask;
  if (PL_UNLIKELY(at + need > size || w->tail + need - w->head > fill_max))
    return pl__ring_reserve_slow(w, bytes, fill_max);
  w->next = w->tail;
  return w->ring->data + at + sizeof(struct pl_ring_prefix);
}

/* As pl__ring_reserve up to the ring's size, but waits for the reader while it
 * reads, and for PL_RING_PATIENCE_MS when it does not: only once, until it has
 * read again.  NULL: no room. */
void *pl__ring_reserve_patiently(struct pl_ring_writer *w, uint32_t bytes);

#define PL_RING_AHEAD 256u /* bytes, fetched into the cache before their turn */

/* Ends the reserved record, which may have become shorter.  The reader sees it
 * after the next publish. */
static inline void pl__ring_push(struct pl_ring_writer *w, uint32_t bytes) {
  struct pl_ring_prefix *prefix = (void *)(w->ring->data + (w->next & w->mask));
  prefix->bytes = bytes;
  prefix->mark = PL_RING_RECORD;
  w->tail = w->next + sizeof *prefix + (((uint64_t)bytes + 7) & ~7ull);
  for (uint32_t ahead = 64; ahead <= PL_RING_AHEAD; ahead += 64)
    __builtin_prefetch(w->ring->data + ((w->tail + ahead) & w->mask), 1);
}

/* Shows the reader all that was pushed.  From here on it survives us. */
static inline void pl__ring_publish(struct pl_ring_writer *w) {
  atomic_store_explicit(&w->ring->tail, w->tail, memory_order_release);
}

/* Wakes the reader if it sleeps and wants to be woken by now.  Once per batch:
 * it costs a fence, and a system call when the reader sleeps. */
void pl__ring_wake(struct pl_ring_writer *w);

/* Counts a record that found no room. */
static inline void pl__ring_drop(struct pl_ring_writer *w, unsigned lane) {
  _Atomic uint64_t *d = &w->ring->drops[lane % PL_RING_LANES];
  uint64_t n = atomic_load_explicit(d, memory_order_relaxed);
  atomic_store_explicit(d, n + 1, memory_order_relaxed);
}

/* --- the reader ------------------------------------------------------- */

/* Begins to read at the last release. */
void pl__ring_reader_init(struct pl_ring_reader *r, struct pl_ring *ring);

/* The next unread record and its length, or NULL.  It stays readable until it
 * is released.  Contents that make no sense (a writer that went wild) are
 * skipped up to the tail and counted in broken_count. */
const void *pl__ring_peek(struct pl_ring_reader *r, uint32_t *bytes);

/* Steps over the record that peek gave. */
void pl__ring_next(struct pl_ring_reader *r);

/* Gives the writer the room of all records stepped over. */
static inline void pl__ring_release(struct pl_ring_reader *r) {
  atomic_store_explicit(&r->ring->head, r->head, memory_order_release);
}

/* Goes back to the last release: those records will be seen again. */
static inline void pl__ring_rewind(struct pl_ring_reader *r) {
  r->head = atomic_load_explicit(&r->ring->head, memory_order_relaxed);
}

/* Says that the reader is about to wait for its eventfd, and wants to be woken
 * when `bytes` (1 or more) are unread.  Returns false when there are as many
 * already: do not wait then; the reader counts as awake. */
bool pl__ring_sleep(struct pl_ring_reader *r, uint32_t bytes);

/* Says that it is awake, so that writers save their system calls. */
void pl__ring_awake(struct pl_ring_reader *r);

/* Drops of a lane that have not been told, and the note that `count` of them
 * now have.  The note lies in the ring: whoever reads next knows it. */
uint64_t pl__ring_drops(const struct pl_ring_reader *r, unsigned lane);
void pl__ring_drops_tell(struct pl_ring_reader *r, unsigned lane,
                         uint64_t count);

/* --- either side ------------------------------------------------------ */

/* Bytes published and not released. */
static inline uint64_t pl__ring_fill(const struct pl_ring *r) {
  uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
  return tail - head;
}

#endif /* PL_FABRIC_RING_H */
