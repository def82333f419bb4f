/* fabric/blocks.h - the memory of one dictionary: equal blocks, chained.
 *
 *     pool ----- a batch at a time -----> shard ------ show -------> in use
 *      ^  (its lock)                   (its lock)                      |
 *      +------------- what a shard has too many of <---- dropped ------+
 *
 * Shards are what is locked: each has a list of free blocks and a journal of
 * the one change it is making.  A new chain is the first blocks of that list:
 * it is filled while it is still in there, where nobody looks.  Then one store
 * shows it, and one more makes a list without it, and with the chain that was
 * shown before.  Who is killed between any two instructions leaves a journal
 * from which the next one that takes the lock tells whether the first of those
 * stores was done, and does the second.
 *
 * Invariants, whenever a shard's lock is free and not torn:
 *  (1) each block is in one place: free in the pool, free in one shard, in one
 *      chain that a place shows, or not used yet (from pool.fresh on);
 *  (2) block 0 is in none of them: it stands for no block;
 *  (3) the lock of the pool is taken only by who holds one shard's lock, and
 *      nobody waits for a second shard's.
 *
 * Chains and lists have a length: what the last block of them leads to means
 * nothing.  A list without blocks is 0.
 *
 * Readers take no lock and may follow a chain that is dropped meanwhile: the
 * links in it always lead to blocks.  That what they have read was there when
 * they read it is theirs to check, see fabric/dict.c.  All is indices and
 * offsets.  Knows nothing of keys and values.
 */
#ifndef PL_FABRIC_BLOCKS_H
#define PL_FABRIC_BLOCKS_H

#include "fabric/lock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_BLOCK_WORDS 15u  /* of a block, for its owner */
#define PL_BLOCK_BYTES 128u /* of a whole block */
#define PL_SHARDS_MAX 64u   /* of one dictionary */
#define PL_BLOCKS_BATCH 16u /* moved between pool and shard at once, at most */

struct pl_block {
  _Atomic uint32_t next; /* in its chain */
  _Atomic uint32_t used; /* not 0: read since somebody looked; any block */
  _Atomic uint64_t words[PL_BLOCK_WORDS];
};

/* Some blocks, each leading to the next; first 0: none. */
struct pl_chain {
  uint32_t first, last, count;
};

struct pl_shard {
  _Alignas(128) struct pl_lock lock;
  _Atomic uint32_t torn;       /* its owner has died: to be mended */
  _Atomic uint32_t made;       /* the journal: first block of the new chain */
  _Atomic uint64_t free;       /* first block | count << 32 */
  _Atomic uint64_t free_after; /* the journal: what `free` is to be */
  _Atomic uint64_t place;  /* the journal: 0: no change is being made; else the
                             offset of what shows the chain; | 1: a `next` */
  struct pl_chain dropped; /* at the front of `free`: its end is known */
  /* What follows is the dictionary's, under the same lock. */
  uint32_t hand, hand_slot; /* where eviction looks next */
  _Atomic uint64_t entries;
  _Atomic uint64_t evictions; /* entries that had to make room */
  _Atomic uint64_t expired;   /* entries whose time was over */
};

struct pl_pool {
  _Alignas(128) struct pl_lock lock;
  _Atomic uint64_t free;         /* first block | count << 32 */
  _Atomic uint32_t fresh;        /* first block that was never used */
  _Atomic uint64_t moving;       /* the batch on its way: first | count << 32 */
  _Atomic uint32_t moving_shard; /* from or to */
};

struct pl_blocks {
  uint32_t count;        /* all of them, block 0 included */
  uint32_t shard_count;  /* a power of two */
  uint32_t batch;        /* that a shard takes from the pool */
  uint32_t first_offset; /* of block 0, from here; in blocks */
  struct pl_pool pool;
  struct pl_shard shards[PL_SHARDS_MAX];
};

/* Makes `count` free blocks, which lie `first_offset` blocks behind `b`.  Bytes
 * there are zero or do not matter; none is touched. */
void pl__blocks_init(struct pl_blocks *b, uint32_t count, uint32_t shard_count,
                     uint32_t first_offset);

static inline struct pl_block *pl__block_at(const struct pl_blocks *b,
                                            uint32_t index) {
  struct pl_block *first = (struct pl_block *)b + b->first_offset;

  return first + (index < b->count ? index : 0);
}

/* Takes a shard's lock.  0; PL_ETIMEOUT: its owner lives and does not let go.
 * *mended: somebody had died there, and the owner's counts are to be counted
 * anew. */
int pl__shard_enter_slow(struct pl_blocks *b, struct pl_shard *s, uint64_t self,
                         enum pl_lock_taken taken, bool *mended);
static inline int pl__shard_enter(struct pl_blocks *b, struct pl_shard *s,
                                  uint64_t self, bool *mended) {
  enum pl_lock_taken taken = pl__lock_take(&s->lock, self);

  if (PL_UNLIKELY(taken != PL_LOCK_TAKEN ||
                  atomic_load_explicit(&s->torn, memory_order_relaxed)))
    return pl__shard_enter_slow(b, s, self, taken, mended);
  *mended = false;
  return 0;
}
static inline void pl__shard_leave(struct pl_shard *s) {
  pl__lock_give(&s->lock);
}

/* Free blocks of the shard itself. */
static inline uint32_t pl__shard_free(const struct pl_shard *s) {
  return (uint32_t)(atomic_load_explicit(&s->free, memory_order_relaxed) >> 32);
}

/* The following are for who holds the shard's lock. */

/* Sees to it that the shard has `want` free blocks, from the pool.  False: the
 * pool has not so many, or is busy; those it has are the shard's now. */
bool pl__shard_reserve(struct pl_blocks *b, struct pl_shard *s, uint64_t self,
                       uint32_t want);
/* Gives the pool the free blocks of the shard, all but `keep`. */
void pl__shard_give(struct pl_blocks *b, struct pl_shard *s, uint64_t self,
                    uint32_t keep);
/* What the pool could give now, free or never used; others may take it. */
uint32_t pl__pool_free(const struct pl_blocks *b);

/* `count` (1 or more) of its free blocks, to be filled and shown; they stay in
 * its list until then.  Nobody else reads or writes them. */
struct pl_chain pl__shard_make(const struct pl_blocks *b,
                               const struct pl_shard *s, uint32_t count);
/* Stores `word` in *place, with release: its lower half is made.first.  The
 * blocks made are no longer free then, and those of `dropping`, which was shown
 * there before, are.  Both may be no blocks at all. */
void pl__shard_show(struct pl_blocks *b, struct pl_shard *s,
                    _Atomic uint64_t *place, uint64_t word,
                    struct pl_chain made, struct pl_chain dropping);
/* Likewise: the block that was made follows the one whose `next` this is, and
 * leads to none itself. */
void pl__shard_link(struct pl_blocks *b, struct pl_shard *s,
                    _Atomic uint32_t *next, struct pl_chain made);

/* Blocks that are in use now; other shards may change it meanwhile. */
uint64_t pl__blocks_in_use(const struct pl_blocks *b);

#endif /* PL_FABRIC_BLOCKS_H */
