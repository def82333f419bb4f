/* fabric/heap_samples.h - which memory of a VM was sampled, for profiles.
 *
 * Two tables.  `live`: sampled blocks that were not freed yet, by address (open
 * addressing, entries move back when one before them goes).  `totals`: all that
 * was ever sampled, by stack.  A sample stands for more than itself: `objects`
 * says for how many blocks of its size.  Stacks are ids of whoever writes.
 *
 * Written by the VMs of one worker, which may run on two threads (one loads
 * while the other serves): they take `lock`, a word that nobody else waits for.
 * Read by any process, also when the writer is dead at any instruction: an
 * entry of `live` carries a version that is odd while it is written, and one
 * that was copied while the entry moved is found at its first place only.
 */
#ifndef PL_FABRIC_HEAP_SAMPLES_H
#define PL_FABRIC_HEAP_SAMPLES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_HEAP_SAMPLES_VERSION 1u
#define PL_HEAP_LIVE_SLOTS 16384u  /* a power of two */
#define PL_HEAP_LIVE_MAX 14336u    /* in use; more are not kept, but counted */
#define PL_HEAP_TOTALS_SLOTS 8192u /* a power of two */
#define PL_HEAP_TOTALS_MAX 7168u   /* stacks; others count as that of none */
#define PL_HEAP_STACK_NONE 0u      /* where nothing is known */
#define PL_HEAP_STACK_FREE                                                     \
  UINT32_MAX /* a place in `totals` that was forgotten */

/* A sampled block. */
struct pl_heap_live {
  uint64_t address; /* never 0 */
  uint64_t bytes;
  double objects; /* blocks that it stands for */
  uint32_t stack;
};

/* What was allocated by one stack, or sampled at least. */
struct pl_heap_total {
  double objects;
  double bytes;
  uint32_t stack;
};

struct pl_heap_live_slot {
  _Atomic uint64_t address; /* 0: free */
  _Atomic uint64_t bytes;
  _Atomic uint64_t objects; /* bits of a double */
  _Atomic uint32_t stack;
  _Atomic uint32_t version; /* odd: being written */
};

struct pl_heap_total_slot {
  _Atomic uint64_t objects; /* bits of doubles */
  _Atomic uint64_t bytes;
  _Atomic uint32_t stack;
  _Atomic uint32_t is_used; /* stored behind stack */
};

/* What a worker says of its memory beside, once a second; bytes. */
enum pl_heap_gauge {
  PL_HEAP_LUA,       /* of its VMs, exactly */
  PL_HEAP_CODE,      /* machine code of their traces */
  PL_HEAP_ALLOCATED, /* by all of the process's C and Lua, as asked for */
  PL_HEAP_ACTIVE,    /* in pages that hold any of that */
  PL_HEAP_RESIDENT,  /* of the allocator's in memory */
  PL_HEAP_MAPPED,    /* of the allocator's */
  PL_HEAP_GAUGES
};

struct pl_heap_samples {
  _Alignas(64) _Atomic uint32_t lock;
  _Atomic uint32_t mean_bytes; /* between two samples; 0: nothing is sampled */
  _Atomic uint32_t live_count;
  _Atomic uint32_t totals_count;
  _Atomic uint64_t lost; /* samples that found `live` full */
  _Atomic uint64_t gauges[PL_HEAP_GAUGES];
  /* Control asks for a full collection by raising `wanted`; the worker answers
   * by `done`, the number that it has seen and collected for. */
  _Alignas(64) _Atomic uint32_t wanted;
  _Atomic uint32_t done;
  _Alignas(64) struct pl_heap_total_slot totals[PL_HEAP_TOTALS_SLOTS];
  _Alignas(4096) struct pl_heap_live_slot live[PL_HEAP_LIVE_SLOTS];
};

/* By the master, before each start of the worker: nothing lives.  What was
 * allocated stays counted. */
void pl__heap_renew(struct pl_heap_samples *s);

/* Writers take it around all of the following that change anything. */
void pl__heap_lock(struct pl_heap_samples *s);
void pl__heap_unlock(struct pl_heap_samples *s);

/* Keeps a sampled block until it is taken.  False when the table is full: it is
 * counted in `lost`. */
bool pl__heap_live_put(struct pl_heap_samples *s,
                       const struct pl_heap_live *block);
/* Forgets the block at `address`; *out (may be NULL) tells what it was.  False
 * when it was not sampled, or not kept. */
bool pl__heap_live_take(struct pl_heap_samples *s, uint64_t address,
                        struct pl_heap_live *out);
/* Adds to what `stack` has allocated. */
void pl__heap_count(struct pl_heap_samples *s, uint32_t stack, double objects,
                    double bytes);

/* Stacks from `first` up to below `end` mean nothing any more: what was counted for
 * them counts for none, and their places are free. */
void pl__heap_forget(struct pl_heap_samples *s, uint32_t first, uint32_t end);

/* For readers: what lies in the slot `index`, below PL_HEAP_LIVE_SLOTS or
 * PL_HEAP_TOTALS_SLOTS.  False when that is nothing.  Numbers that no worker
 * could have meant (not finite, negative) count as nothing; `stack` is as it
 * was found. */
bool pl__heap_live_read(const struct pl_heap_samples *s, uint32_t index,
                        struct pl_heap_live *out);
bool pl__heap_total_read(const struct pl_heap_samples *s, uint32_t index,
                         struct pl_heap_total *out);

#endif /* PL_FABRIC_HEAP_SAMPLES_H */
