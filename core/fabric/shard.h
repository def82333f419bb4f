/* fabric/shard.h - the numbers that one process counts, for others to read.
 *
 * Each process has a shard of its own and is the only one that writes to it, so
 * counting is a load, an addition and a store: no atomic operation, no line
 * that another processor wants.  Whoever shows the numbers reads all shards and
 * puts them together; it asks nobody.  A process that takes the place of one
 * that died goes on in the same shard: counters never go back.
 *
 *     cells     a counter or a gauge is one, a double; the head of a histogram
 *               is four: sum, octaves that were counted in, buckets + 1
 *     buckets   those of a histogram, handed out when it counts first: what a
 *               process does not use takes no memory
 *
 * Which cell is whose is the table's matter (fabric/metrics.h), and the same in
 * all shards.  The first four cells belong to nobody: what finds no room in the
 * table is counted there, and not shown.
 *
 * A histogram also keeps a few examples: the trace, or else the request, that
 * one of its numbers came from, one of each eighth octave.
 */
#ifndef PL_FABRIC_SHARD_H
#define PL_FABRIC_SHARD_H

#include "base/check.h"
#include "base/histogram.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_SHARD_VERSION 1u
#define PL_SHARD_SERIES_MAX 16384u
#define PL_SHARD_HISTOGRAMS_MAX 4096u /* of the series */
#define PL_SHARD_HEAD_CELLS 4u        /* of a histogram */
#define PL_SHARD_NOWHERE 0u           /* the cells that are nobody's */
#define PL_SHARD_CELLS                                                         \
  (PL_SHARD_HEAD_CELLS + PL_SHARD_SERIES_MAX +                                 \
   2 * PL_SHARD_HEAD_CELLS * PL_SHARD_HISTOGRAMS_MAX)
/* Some are lost when a process dies just as it takes one. */
#define PL_SHARD_BUCKETS_MAX (PL_SHARD_HISTOGRAMS_MAX + 64u)
#define PL_SHARD_EXAMPLES 8u

/* Where a number came from. */
struct pl_origin {
  double now;        /* seconds since the epoch, as of this tick */
  uint64_t trace[2]; /* the trace id; zero: none */
  uint64_t request_id;
};

struct pl_example {
  _Alignas(64) _Atomic uint64_t serial; /* odd while it is being written */
  _Atomic uint64_t number;              /* the bits of a double, as `now` */
  _Atomic uint64_t now;
  _Atomic uint64_t trace[2];
  _Atomic uint64_t request_id;
};

struct pl_buckets {
  struct pl_example examples[PL_SHARD_EXAMPLES]; /* by octave % 8 */
  _Atomic uint64_t counts[PL_HISTOGRAM_BUCKETS];
};

/* Whether its process lives: else its gauges mean nothing. */
enum pl_shard_life { PL_SHARD_UNUSED, PL_SHARD_LIVE, PL_SHARD_LEFT };

/* All zero at first. */
struct pl_shard {
  _Alignas(64) _Atomic uint32_t life; /* enum pl_shard_life */
  _Atomic uint32_t buckets_count;     /* handed out; the first is nobody's */
  _Alignas(64) _Atomic uint64_t cells[PL_SHARD_CELLS];
  struct pl_buckets buckets[PL_SHARD_BUCKETS_MAX];
};

/* Of the head of a histogram. */
enum {
  PL_SHARD_SUM,
  PL_SHARD_OCTAVES,
  PL_SHARD_BUCKETS,
  PL_SHARD_LATEST /* second and octave of the example that was wanted last */
};

static inline uint64_t pl__shard_bits(double number) {
  union {
    double number;
    uint64_t bits;
  } of = {number};
  return of.bits;
}

static inline double pl__shard_number(uint64_t bits) {
  union {
    uint64_t bits;
    double number;
  } of = {bits};
  return of.number;
}

static inline uint64_t pl__shard_load(const _Atomic uint64_t *cell) {
  return atomic_load_explicit(cell, memory_order_relaxed);
}

static inline void pl__shard_store(_Atomic uint64_t *cell, uint64_t bits) {
  atomic_store_explicit(cell, bits, memory_order_relaxed);
}

/* --- the owner ------------------------------------------------------------ */

/* Adds to a counter or a gauge. */
static inline void pl__shard_add(struct pl_shard *s, uint32_t cell,
                                 double number) {
  _Atomic uint64_t *at = &s->cells[cell];

  pl__shard_store(
      at, pl__shard_bits(pl__shard_number(pl__shard_load(at)) + number));
}

/* Sets a gauge. */
static inline void pl__shard_set(struct pl_shard *s, uint32_t cell,
                                 double number) {
  pl__shard_store(&s->cells[cell], pl__shard_bits(number));
}

/* Hands buckets to the histogram at `cell`; returns what its head then says. */
uint64_t pl__shard_extend(struct pl_shard *s, uint32_t cell);

/* The buckets of a histogram, made at first use. */
static inline struct pl_buckets *pl__shard_buckets(struct pl_shard *s,
                                                   uint32_t cell) {
  uint64_t at = pl__shard_load(&s->cells[cell + PL_SHARD_BUCKETS]);

  if (PL_UNLIKELY(at == 0))
    at = pl__shard_extend(s, cell);
  return &s->buckets[at - 1];
}

/* Counts a number (not NaN) in a histogram; returns the example for such ones.
 */
static inline struct pl_example *
pl__shard_record(struct pl_shard *s, uint32_t cell, double number) {
  struct pl_buckets *b = pl__shard_buckets(s, cell);
  uint32_t index = pl__histogram_index(number);
  uint32_t octave = index / PL_HISTOGRAM_STEPS;
  uint64_t octaves = pl__shard_load(&s->cells[cell + PL_SHARD_OCTAVES]);

  pl__shard_store(&b->counts[index], pl__shard_load(&b->counts[index]) + 1);
  if (PL_UNLIKELY(!(octaves >> octave & 1)))
    pl__shard_store(&s->cells[cell + PL_SHARD_OCTAVES],
                    octaves | UINT64_C(1) << octave);
  pl__shard_add(s, cell + PL_SHARD_SUM, number);
  return &b->examples[octave % PL_SHARD_EXAMPLES];
}

/* Writes down where `number` came from. */
void pl__example_put(struct pl_example *e, double number,
                     const struct pl_origin *origin);

/* Whether a number that was recorded may be an example: one a second will do
 * while they are much alike.  Answered by the head, which is at hand, and not
 * by the example, which is not; `true` is said once. */
static inline bool pl__shard_wants_example(struct pl_shard *s, uint32_t cell,
                                           double number, double now) {
  uint64_t octave = pl__histogram_index(number) / PL_HISTOGRAM_STEPS;
  uint64_t latest = (uint64_t)now << 8 | octave;

  if (PL_LIKELY(pl__shard_load(&s->cells[cell + PL_SHARD_LATEST]) == latest))
    return false;
  pl__shard_store(&s->cells[cell + PL_SHARD_LATEST], latest);
  return true;
}

/* Adds to `to` what `from` has counted in a histogram. The owner of `to`. */
void pl__shard_fold(struct pl_shard *to, const struct pl_shard *from,
                    uint32_t cell);

/* The process has ended. By whoever has seen that. */
static inline void pl__shard_leave(struct pl_shard *s) {
  if (atomic_load_explicit(&s->life, memory_order_relaxed) == PL_SHARD_LIVE)
    atomic_store_explicit(&s->life, PL_SHARD_LEFT, memory_order_relaxed);
}

/* --- readers ---------------------------------------------------------------- */

static inline enum pl_shard_life pl__shard_life(const struct pl_shard *s) {
  return (enum pl_shard_life)atomic_load_explicit(&s->life,
                                                  memory_order_relaxed);
}

static inline double pl__shard_get(const struct pl_shard *s, uint32_t cell) {
  return pl__shard_number(pl__shard_load(&s->cells[cell]));
}

/* The buckets of a histogram; NULL: it has not counted. */
const struct pl_buckets *pl__shard_peek(const struct pl_shard *s,
                                        uint32_t cell);
/* Adds the histogram of this shard to `out`. */
void pl__shard_gather(const struct pl_shard *s, uint32_t cell,
                      struct pl_histogram *out);
/* False: there is none, or it is just being written. */
bool pl__example_get(const struct pl_example *e, double *number,
                     struct pl_origin *out);

#endif /* PL_FABRIC_SHARD_H */
