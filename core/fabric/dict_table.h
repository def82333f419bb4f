/* fabric/dict_table.h - where the keys of a dictionary are: buckets of slots,
 * and the shards whose locks are for them.
 *
 * Blocks of slots are never taken away from a bucket: readers walk them.  A slot
 * is changed with the lock of its bucket's shard held, by one store.
 *
 * Only the dictionary's own files include it.  What all of them do at every call
 * is inline.
 */
#ifndef PL_FABRIC_DICT_TABLE_H
#define PL_FABRIC_DICT_TABLE_H

#include "fabric/dict_entry.h"

#define PL_DICT_BUCKET_SLOTS 7u
#define PL_DICT_BUCKET_BYTES 64u
#define PL_DICT_HASH_ROUNDS 1
#define PL_DICT_HASH_FINAL 3

/* Hits and misses of one worker, on a cache line of their own. */
struct pl_dict_lane {
  _Alignas(64) _Atomic uint64_t hits;
  _Atomic uint64_t misses;
};

/* What begins like a block, so that both are walked alike. */
struct pl_dict_bucket {
  _Alignas(PL_DICT_BUCKET_BYTES) _Atomic uint32_t next;
  uint32_t zero;
  _Atomic uint64_t slots[PL_DICT_BUCKET_SLOTS];
};

struct pl_dict {
  uint64_t bytes;
  struct pl_siphash_seed seed;
  uint32_t bucket_count;  /* a power of two */
  uint32_t bucket_offset; /* of the first, in buckets from here */
  struct pl_dict_lane lanes[PL_DICT_LANES];
  struct pl_blocks blocks;
};

/* Some slots, and where more of them are. */
struct pl_dict_group {
  _Atomic uint32_t *next;
  _Atomic uint64_t *slots;
  uint32_t count;
};

static inline struct pl_dict_bucket *pl__dict_bucket_at(const struct pl_dict *d,
                                                        uint32_t index) {
  return (struct pl_dict_bucket *)d + d->bucket_offset + index;
}

static inline struct pl_dict_group pl__dict_group(const struct pl_dict *d,
                                                  uint32_t bucket) {
  struct pl_dict_bucket *at = pl__dict_bucket_at(d, bucket);

  return (struct pl_dict_group){&at->next, at->slots, PL_DICT_BUCKET_SLOTS};
}

/* The slots that follow; false: there are no more. */
static inline bool pl__dict_group_next(const struct pl_dict *d,
                                       struct pl_dict_group *g) {
  uint32_t next = atomic_load_explicit(g->next, memory_order_acquire);
  struct pl_block *block;

  if (PL_LIKELY(next == 0))
    return false;
  block = pl__block_at(&d->blocks, next);
  *g = (struct pl_dict_group){&block->next, block->words, PL_BLOCK_WORDS};
  return true;
}

static inline uint32_t pl__dict_slot_chain(uint64_t slot) {
  return (uint32_t)slot;
}
static inline uint32_t pl__dict_slot_tag(uint64_t slot) {
  return slot >> 32 & 0xff;
}

/* What a slot is changed to: the version goes up. */
static inline uint64_t pl__dict_slot_after(uint64_t before, uint32_t chain,
                                           uint32_t tag) {
  return ((before >> 40) + 1) << 40 | (uint64_t)tag << 32 | chain;
}

static inline struct pl_shard *pl__dict_shard(const struct pl_dict *d,
                                              uint32_t bucket) {
  struct pl_blocks *b = (struct pl_blocks *)&d->blocks;

  return &b->shards[bucket & (b->shard_count - 1)];
}

static inline __attribute__((always_inline)) struct pl_dict_probe
pl__dict_probe(const struct pl_dict *d, struct pl_dict_key key) {
  uint64_t hash = pl__siphash(&d->seed, key.at, key.bytes, PL_DICT_HASH_ROUNDS,
                              PL_DICT_HASH_FINAL);
  uint32_t tag = (uint32_t)(hash >> 56);

  return (struct pl_dict_probe){
      .at = key.at,
      .bytes = key.bytes,
      .tail = pl__siphash_tail(key.at, key.bytes),
      .bucket = (uint32_t)hash & (d->bucket_count - 1),
      .tag = tag ? tag : 1,
  };
}

/* --- with a shard's lock -------------------------------------------------- */

/* Counts the entries of a shard that somebody died in: it has others than it
 * says. */
void pl__dict_shard_count(struct pl_dict *d, struct pl_shard *s);

/* Takes the lock; false: its owner lives and does not let go. */
static inline bool pl__dict_shard_enter(const struct pl_dict_user *u,
                                        struct pl_shard *s) {
  bool mended;

  if (pl__shard_enter(&u->dict->blocks, s, u->self, &mended))
    return false;
  if (mended)
    pl__dict_shard_count(u->dict, s);
  return true;
}

static inline void pl__dict_count_entries(struct pl_shard *s, int64_t more) {
  PL_DICT_PUT(s->entries, PL_DICT_GET(s->entries) + (uint64_t)more);
}

/* Empties the slot, which leads to `entry`. */
static inline void pl__dict_entry_delete(struct pl_dict *d, struct pl_shard *s,
                                         _Atomic uint64_t *slot,
                                         struct pl_block *entry) {
  uint64_t before = PL_DICT_GET(*slot);
  struct pl_chain none = {0, 0, 0};

  pl__shard_show(&d->blocks, s, slot, pl__dict_slot_after(before, 0, 0), none,
                 pl__dict_entry_chain(entry, pl__dict_slot_chain(before)));
  pl__dict_count_entries(s, -1);
}

#endif /* PL_FABRIC_DICT_TABLE_H */
