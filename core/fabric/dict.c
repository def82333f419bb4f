/* fabric/dict.c - finds, reads, replaces and evicts entries.
 *
 * An entry is a chain of blocks: in the first one its time and its sizes, then
 * the key and the value as words of 8 bytes, each padded with zeros, through
 * all blocks.  Words are loaded and stored one at a time and atomically, as
 * readers look at blocks that somebody may be writing to: what they get may be
 * nonsense, which they find out before they believe it, but no undefined
 * behaviour.  Every index is bounded when it is followed.
 *
 * Blocks of slots are never taken away from a bucket: readers walk them.
 */
#include "fabric/dict.h"

#include "base/alloc.h"
#include "base/err.h"
#include "base/limits.h"

#include <string.h>

#define BUCKET_SLOTS 7u
#define BUCKET_BYTES 64u
#define BLOCKS_PER_BUCKET 8u /* at most; buckets are a power of two */
#define HEAD_WORDS 2u        /* of an entry, before its key */
#define HASH_ROUNDS 1
#define HASH_FINAL 3
#define LOOKS_MAX 512u     /* read entries that are spared by one eviction */
#define KEYS_BUCKETS 4096u /* looked at by one pl__dict_keys */
#define CLEAR_BUCKETS 256u

/* Hits and misses of one worker, on a cache line of their own. */
struct lane {
  _Alignas(64) _Atomic uint64_t hits;
  _Atomic uint64_t misses;
};

/* What begins like a block, so that both are walked alike. */
struct bucket {
  _Alignas(BUCKET_BYTES) _Atomic uint32_t next;
  uint32_t zero;
  _Atomic uint64_t slots[BUCKET_SLOTS];
};

struct pl_dict {
  uint64_t bytes;
  struct pl_siphash_seed seed;
  uint32_t bucket_count;  /* a power of two */
  uint32_t bucket_offset; /* of the first, in buckets from here */
  struct lane lanes[PL_DICT_LANES];
  struct pl_blocks blocks;
};

/* A key that is looked for. */
struct probe {
  const char *at;
  uint32_t bytes;
  uint64_t tail;   /* its last word, if that is not a whole one */
  uint32_t bucket; /* where it has to be */
  uint32_t tag;    /* of its slot; not 0 */
};

/* Some slots, and where more of them are. */
struct group {
  _Atomic uint32_t *next;
  _Atomic uint64_t *slots;
  uint32_t count;
};

#define GET(at) atomic_load_explicit(&(at), memory_order_relaxed)
#define PUT(at, value)                                                         \
  atomic_store_explicit(&(at), (value), memory_order_relaxed)

/* --- where things are --------------------------------------------------- */

static struct bucket *bucket_at(const struct pl_dict *d, uint32_t index) {
  return (struct bucket *)d + d->bucket_offset + index;
}

static struct group group_of(const struct pl_dict *d, uint32_t bucket) {
  struct bucket *at = bucket_at(d, bucket);

  return (struct group){&at->next, at->slots, BUCKET_SLOTS};
}

/* The slots that follow; false: there are no more. */
static inline bool group_next(const struct pl_dict *d, struct group *g) {
  uint32_t next = atomic_load_explicit(g->next, memory_order_acquire);
  struct pl_block *block;

  if (PL_LIKELY(next == 0))
    return false;
  block = pl__block_at(&d->blocks, next);
  *g = (struct group){&block->next, block->words, PL_BLOCK_WORDS};
  return true;
}

static uint32_t slot_chain(uint64_t slot) { return (uint32_t)slot; }
static uint32_t slot_tag(uint64_t slot) { return slot >> 32 & 0xff; }

/* What a slot is changed to: the version goes up. */
static uint64_t slot_after(uint64_t before, uint32_t chain, uint32_t tag) {
  return ((before >> 40) + 1) << 40 | (uint64_t)tag << 32 | chain;
}

static struct pl_shard *shard_of(const struct pl_dict *d, uint32_t bucket) {
  struct pl_blocks *b = (struct pl_blocks *)&d->blocks;

  return &b->shards[bucket & (b->shard_count - 1)];
}

static inline __attribute__((always_inline)) struct probe
probe_for(const struct pl_dict *d, struct pl_dict_key key) {
  uint64_t hash =
      pl__siphash(&d->seed, key.at, key.bytes, HASH_ROUNDS, HASH_FINAL);
  uint32_t tag = (uint32_t)(hash >> 56);

  return (struct probe){
      .at = key.at,
      .bytes = key.bytes,
      .tail = pl__siphash_tail(key.at, key.bytes),
      .bucket = (uint32_t)hash & (d->bucket_count - 1),
      .tag = tag ? tag : 1,
  };
}

/* --- entries ------------------------------------------------------------ */

/*   word 0   expires, ms (48 bits) | bytes of the key (12) | kind (4)
 *   word 1   bytes of the value (32) | last block of the chain (32)      */
struct head {
  int64_t expires_ms;
  uint32_t key_bytes;
  uint32_t kind;
  uint32_t value_bytes;
  uint32_t last;
};

static inline struct head head_of(const struct pl_block *entry) {
  uint64_t zero = GET(entry->words[0]), one = GET(entry->words[1]);

  return (struct head){.expires_ms = (int64_t)(zero & PL_DICT_NEVER),
                       .key_bytes = zero >> 48 & 0xfff,
                       .kind = (uint32_t)(zero >> 60),
                       .value_bytes = (uint32_t)one,
                       .last = (uint32_t)(one >> 32)};
}

static inline void head_put(struct pl_block *entry, struct head h) {
  PUT(entry->words[0], (uint64_t)h.expires_ms | (uint64_t)h.key_bytes << 48 |
                           (uint64_t)h.kind << 60);
  PUT(entry->words[1], (uint64_t)h.last << 32 | h.value_bytes);
}

static inline bool is_text(uint32_t kind) { return kind >= PL_DICT_STRING; }

static inline uint32_t value_words(uint32_t kind, uint32_t bytes) {
  return is_text(kind) ? (bytes + 7) / 8 : 1;
}

/* Blocks of an entry with so many words of key and value. */
static inline uint32_t blocks_for(uint32_t words) {
  uint32_t first = PL_BLOCK_WORDS - HEAD_WORDS;

  return words <= first
             ? 1
             : 1 + (words - first + PL_BLOCK_WORDS - 1) / PL_BLOCK_WORDS;
}

/* The blocks of an entry. */
static inline struct pl_chain entry_chain(const struct pl_block *entry,
                                          uint32_t first) {
  struct head h = head_of(entry);

  return (struct pl_chain){
      first, h.last,
      blocks_for((h.key_bytes + 7) / 8 + value_words(h.kind, h.value_bytes))};
}

static inline bool is_over(const struct pl_block *entry, int64_t now_ms) {
  return now_ms >= head_of(entry).expires_ms;
}

/* A word of a chain. */
struct cursor {
  struct pl_block *block;
  uint32_t at;
};

/* Long chains are mostly made of neighbours: what is probably next but one is on
 * its way while this one is copied. */
#define AHEAD 4

static inline void block_prefetch(const struct pl_block *block) {
  __builtin_prefetch(block);
  __builtin_prefetch((const char *)block + PL_BLOCK_BYTES / 2);
}

static inline void cursor_hop(const struct pl_dict *d, struct cursor *c) {
  if (PL_LIKELY(c->at < PL_BLOCK_WORDS))
    return;
  c->block = pl__block_at(&d->blocks, GET(c->block->next));
  c->at -= PL_BLOCK_WORDS;
  block_prefetch(c->block + AHEAD);
}

/* How many of `words` lie in the cursor's block, which it may hop to. */
static inline uint32_t cursor_here(const struct pl_dict *d, struct cursor *c,
                                   uint32_t words) {
  uint32_t here;

  cursor_hop(d, c);
  here = PL_BLOCK_WORDS - c->at;
  return words < here ? words : here;
}

static inline void words_out(const struct pl_dict *d, struct cursor *c,
                             char *out, uint32_t words) {
  while (words) {
    uint32_t here = cursor_here(d, c, words);
    _Atomic uint64_t *from = &c->block->words[c->at];

    for (uint32_t i = 0; i < here; i++) {
      uint64_t word = GET(from[i]);
      memcpy(out + (size_t)i * 8, &word, 8);
    }
    out += (size_t)here * 8;
    c->at += here;
    words -= here;
  }
}

/* Whole words, then `tail` if the bytes do not end with one. */
static inline void words_in(const struct pl_dict *d, struct cursor *c,
                            const char *at, uint32_t bytes, uint64_t tail) {
  uint32_t words = bytes / 8;

  while (words) {
    uint32_t here = cursor_here(d, c, words);
    _Atomic uint64_t *to = &c->block->words[c->at];

    for (uint32_t i = 0; i < here; i++) {
      uint64_t word;
      memcpy(&word, at + (size_t)i * 8, 8);
      PUT(to[i], word);
    }
    at += (size_t)here * 8;
    c->at += here;
    words -= here;
  }
  if (bytes % 8) {
    cursor_hop(d, c);
    PUT(c->block->words[c->at++], tail);
  }
}

/* Whether the entry has that key; the cursor is behind it then. */
static inline bool key_is(const struct pl_dict *d, struct cursor *c,
                          const struct probe *p) {
  const char *at = p->at;
  uint32_t words = p->bytes / 8;

  while (words) {
    uint32_t here = cursor_here(d, c, words);
    _Atomic uint64_t *from = &c->block->words[c->at];

    for (uint32_t i = 0; i < here; i++) {
      uint64_t word;
      memcpy(&word, at + (size_t)i * 8, 8);
      if (GET(from[i]) != word)
        return false;
    }
    at += (size_t)here * 8;
    c->at += here;
    words -= here;
  }
  if (p->bytes % 8 == 0)
    return true;
  cursor_hop(d, c);
  return GET(c->block->words[c->at++]) == p->tail;
}

static double number_of(uint64_t word) {
  double number;

  memcpy(&number, &word, sizeof number);
  return number;
}

static uint64_t number_word(double number) {
  uint64_t word;

  memcpy(&word, &number, sizeof word);
  return word;
}

/* --- reading ------------------------------------------------------------ */

static inline void entry_read(const struct pl_dict *d, struct cursor c,
                              struct head h, struct pl_dict_found *out) {
  out->kind = h.kind;
  if (is_text(h.kind)) {
    uint32_t words = (h.value_bytes + 7) / 8;
    out->bytes = h.value_bytes;
    if (h.value_bytes <= out->room)
      words_out(d, &c, out->at, words);
    return;
  }
  cursor_hop(d, &c);
  out->number = number_of(GET(c.block->words[c.at]));
}

/* Whether the slot holds the key; what it leads to is in `out` then.  Begins
 * anew while somebody changes the slot. */
static inline bool slot_read(const struct pl_dict *d, _Atomic uint64_t *slot,
                             const struct probe *p, int64_t now_ms,
                             struct pl_dict_found *out) {
  uint64_t before = atomic_load_explicit(slot, memory_order_acquire);

  while (slot_tag(before) == p->tag) {
    struct pl_block *entry = pl__block_at(&d->blocks, slot_chain(before));
    struct cursor c = {entry, HEAD_WORDS};
    struct head h = head_of(entry);
    bool found = h.key_bytes == p->bytes && key_is(d, &c, p);
    uint64_t after;

    if (found)
      entry_read(d, c, h, out);
    atomic_thread_fence(memory_order_acquire);
    after = atomic_load_explicit(slot, memory_order_acquire);
    if (PL_UNLIKELY(after != before)) {
      before = after;
      continue;
    }
    if (!found)
      return false;
    if (now_ms >= h.expires_ms)
      out->kind = PL_DICT_NONE;
    else if (GET(entry->used) == 0)
      PUT(entry->used, 1);
    return true;
  }
  return false;
}

static void count_look(const struct pl_dict_user *u, bool hit) {
  struct lane *lane = &u->dict->lanes[u->lane % PL_DICT_LANES];
  _Atomic uint64_t *count = hit ? &lane->hits : &lane->misses;

  PUT(*count, GET(*count) + 1); /* no atomic addition: the lane is mine */
}

void pl__dict_get(const struct pl_dict_user *u, struct pl_dict_key key,
                  int64_t now_ms, struct pl_dict_found *out) {
  const struct pl_dict *d = u->dict;
  struct probe p = probe_for(d, key);
  struct group g = group_of(d, p.bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      if (slot_read(d, &g.slots[i], &p, now_ms, out)) {
        count_look(u, out->kind != PL_DICT_NONE);
        return;
      }
    }
  } while (group_next(d, &g));
  out->kind = PL_DICT_NONE;
  count_look(u, false);
}

/* --- with a shard's lock ------------------------------------------------ */

/* Where a key is, or could be put. */
struct spot {
  _Atomic uint64_t *slot; /* NULL: all are taken */
  uint64_t seen;          /* what it held */
  struct pl_block *entry; /* NULL: the slot is empty, or there is none */
  struct cursor value;    /* of the entry */
  _Atomic uint32_t *next; /* of the last group */
};

/* Without the lock: what is found is so if the slot has not changed once the
 * lock is held.  False: there is no such key. */
static inline bool spot_find(const struct pl_dict *d, const struct probe *p,
                             struct spot *out) {
  struct group g = group_of(d, p->bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      uint64_t slot = atomic_load_explicit(&g.slots[i], memory_order_acquire);
      struct pl_block *entry;
      struct cursor c;

      if (slot_tag(slot) != p->tag)
        continue;
      entry = pl__block_at(&d->blocks, slot_chain(slot));
      c = (struct cursor){entry, HEAD_WORDS};
      if (head_of(entry).key_bytes != p->bytes || !key_is(d, &c, p))
        continue;
      out->slot = &g.slots[i];
      out->seen = slot;
      out->entry = entry;
      out->value = c;
      return true;
    }
  } while (group_next(d, &g));
  out->entry = NULL;
  return false;
}

/* With the lock: where a key can be put that is not there. */
static void spot_find_room(const struct pl_dict *d, uint32_t bucket,
                           struct spot *out) {
  struct group g = group_of(d, bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      uint64_t slot = GET(g.slots[i]);
      if (slot_chain(slot))
        continue;
      out->slot = &g.slots[i];
      out->seen = slot;
      return;
    }
    out->next = g.next;
  } while (group_next(d, &g));
  out->slot = NULL;
  out->seen = 0;
}

static void count_entries(struct pl_shard *s, int64_t more) {
  PUT(s->entries, GET(s->entries) + (uint64_t)more);
}

static void entry_delete(struct pl_dict *d, struct pl_shard *s,
                         _Atomic uint64_t *slot, struct pl_block *entry) {
  uint64_t before = GET(*slot);
  struct pl_chain none = {0, 0, 0};

  pl__shard_show(&d->blocks, s, slot, slot_after(before, 0, 0), none,
                 entry_chain(entry, slot_chain(before)));
  count_entries(s, -1);
}

/* The shard that somebody died in has other entries than it says. */
static void shard_count(struct pl_dict *d, struct pl_shard *s) {
  struct pl_blocks *b = &d->blocks;
  uint64_t entries = 0;

  for (uint32_t i = (uint32_t)(s - b->shards); i < d->bucket_count;
       i += b->shard_count) {
    struct group g = group_of(d, i);
    do {
      for (uint32_t j = 0; j < g.count; j++)
        entries += slot_chain(GET(g.slots[j])) != 0;
    } while (group_next(d, &g));
  }
  PUT(s->entries, entries);
  atomic_store_explicit(&s->torn, 0, memory_order_release);
}

static inline bool shard_enter(const struct pl_dict_user *u,
                               struct pl_shard *s) {
  bool mended;

  if (pl__shard_enter(&u->dict->blocks, s, u->self, &mended))
    return false;
  if (mended)
    shard_count(u->dict, s);
  return true;
}

/* --- making room -------------------------------------------------------- */

/* Looks at one entry; `looks` counts those that were spared. */
static void evict_slot(struct pl_dict *d, struct pl_shard *s,
                       _Atomic uint64_t *slot, int64_t now_ms,
                       uint32_t *looks) {
  struct pl_block *entry = pl__block_at(&d->blocks, slot_chain(GET(*slot)));
  bool over = is_over(entry, now_ms);

  if (!over && GET(entry->used) && ++*looks < LOOKS_MAX) {
    PUT(entry->used, 0);
    return;
  }
  if (over)
    PUT(s->expired, GET(s->expired) + 1);
  else
    PUT(s->evictions, GET(s->evictions) + 1);
  entry_delete(d, s, slot, entry);
}

/* Goes on in the bucket that the hand is at; true: it is through with it. */
static bool evict_bucket(struct pl_dict *d, struct pl_shard *s, uint32_t bucket,
                         uint32_t want, int64_t now_ms, uint32_t *looks) {
  struct group g = group_of(d, bucket);
  uint32_t slot = 0;

  do {
    for (uint32_t i = 0; i < g.count; i++, slot++) {
      if (slot < s->hand_slot || slot_chain(GET(g.slots[i])) == 0)
        continue;
      if (pl__shard_free(s) >= want)
        return false;
      s->hand_slot = slot + 1;
      evict_slot(d, s, &g.slots[i], now_ms, looks);
    }
  } while (group_next(d, &g));
  return true;
}

/* Sees to it that the shard has `want` free blocks, from the pool or by letting
 * the hand go round, twice at most. */
static bool room_make(const struct pl_dict_user *u, struct pl_shard *s,
                      uint32_t want, int64_t now_ms) {
  struct pl_dict *d = u->dict;
  struct pl_blocks *b = &d->blocks;
  uint32_t index = (uint32_t)(s - b->shards), looks = 0;
  uint32_t buckets = d->bucket_count / b->shard_count;

  if (pl__shard_reserve(b, s, u->self, want))
    return true;
  for (uint32_t i = 0; i <= 2 * buckets; i++) {
    uint32_t bucket = s->hand * b->shard_count + index;
    if (!evict_bucket(d, s, bucket, want, now_ms, &looks))
      break;
    s->hand = (s->hand + 1) % buckets;
    s->hand_slot = 0;
  }
  return pl__shard_free(s) >= want;
}

/* Evicts entries of another shard and leaves their blocks to the pool. */
static void room_elsewhere(const struct pl_dict_user *u, struct pl_shard *mine,
                           struct pl_shard *other, uint32_t want,
                           int64_t now_ms) {
  struct pl_blocks *b = &u->dict->blocks;
  uint32_t have = pl__shard_free(mine) + pl__pool_free(b);

  if (have >= want || !shard_enter(u, other))
    return;
  room_make(u, other, pl__pool_free(b) + want - have, now_ms);
  pl__shard_give(b, other, u->self, 0);
  pl__shard_leave(other);
}

/* --- changes ------------------------------------------------------------ */

#define MORE_BLOCKS ((enum pl_dict_outcome) - 1) /* and then again */

/* What is the same in all changes is inlined into each of them. */
#define INLINED inline __attribute__((always_inline))

struct change {
  const struct pl_dict_user *user;
  struct pl_shard *shard;
  struct probe probe;
  struct spot spot; /* of the key */
  int64_t now_ms, expires_ms;
  const struct pl_dict_value *value; /* of the new entry */
  uint32_t blocks;                   /* of it */
  /* pl__dict_set */
  enum pl_dict_mode mode;
  const struct pl_dict_value *expected;
  /* pl__dict_incr */
  double by;
  bool has_init;
  double *result;
};

typedef enum pl_dict_outcome (*step_fn)(struct change *c);

/* With the lock: the key was looked for before that, and mostly what was found
 * still holds. */
static INLINED void spot_check(struct change *c) {
  struct spot *spot = &c->spot;

  if (PL_UNLIKELY(!spot->entry || GET(*spot->slot) != spot->seen))
    if (!spot_find(c->user->dict, &c->probe, spot))
      spot_find_room(c->user->dict, c->probe.bucket, spot);
}

/* Other shards make room, one after the other, with no lock held.  By value,
 * here alone: the change can be in registers otherwise. */
static __attribute__((noinline)) enum pl_dict_outcome
change_elsewhere(struct change c, step_fn step) {
  struct pl_blocks *b = &c.user->dict->blocks;
  uint32_t index = (uint32_t)(c.shard - b->shards);
  enum pl_dict_outcome outcome = MORE_BLOCKS;

  for (uint32_t i = 1; i <= b->shard_count && outcome == MORE_BLOCKS; i++) {
    room_elsewhere(c.user, c.shard,
                   &b->shards[(index + i) & (b->shard_count - 1)], c.blocks + 1,
                   c.now_ms);
    if (!shard_enter(c.user, c.shard))
      return PL_DICT_BUSY;
    if (room_make(c.user, c.shard, c.blocks + 1, c.now_ms)) {
      spot_check(&c);
      outcome = step(&c);
    }
    pl__shard_leave(c.shard);
  }
  return outcome == MORE_BLOCKS ? PL_DICT_FULL : outcome;
}

/* Runs a step with the lock of the key's shard held, and again with more blocks
 * if it wants them. */
static INLINED enum pl_dict_outcome change_run(struct change *c, step_fn step) {
  const struct pl_dict_user *u = c->user;
  struct pl_blocks *b = &u->dict->blocks;
  struct pl_shard *s = shard_of(u->dict, c->probe.bucket);
  enum pl_dict_outcome outcome;

  c->shard = s;
  spot_find(u->dict, &c->probe, &c->spot);
  if (PL_UNLIKELY(!shard_enter(u, s)))
    return PL_DICT_BUSY;
  spot_check(c);
  outcome = step(c);
  if (PL_UNLIKELY(outcome == MORE_BLOCKS) &&
      room_make(u, s, c->blocks + 1, c->now_ms)) {
    spot_check(c);
    outcome = step(c);
  }
  if (PL_UNLIKELY(pl__shard_free(s) > 2 * b->batch))
    pl__shard_give(b, s, u->self, b->batch);
  pl__shard_leave(s);
  if (PL_UNLIKELY(outcome == MORE_BLOCKS))
    return change_elsewhere(*c, step);
  return outcome;
}

/* One more block of slots for a bucket; its first one. */
static _Atomic uint64_t *slots_add(struct pl_dict *d, struct pl_shard *s,
                                   _Atomic uint32_t *next) {
  struct pl_chain made = pl__shard_make(&d->blocks, s, 1);
  struct pl_block *block = pl__block_at(&d->blocks, made.first);

  for (uint32_t i = 0; i < PL_BLOCK_WORDS; i++)
    PUT(block->words[i], 0);
  pl__shard_link(&d->blocks, s, next, made);
  return block->words;
}

static INLINED void entry_fill(struct pl_chain made, const struct change *c) {
  struct pl_dict *d = c->user->dict;
  const struct pl_dict_value *v = c->value;
  struct pl_block *entry = pl__block_at(&d->blocks, made.first);
  struct cursor at = {entry, HEAD_WORDS};

  PUT(entry->used, 0);
  head_put(entry, (struct head){.expires_ms = c->expires_ms,
                                .key_bytes = c->probe.bytes,
                                .kind = v->kind,
                                .value_bytes = is_text(v->kind) ? v->bytes : 8,
                                .last = made.last});
  words_in(d, &at, c->probe.at, c->probe.bytes, c->probe.tail);
  if (is_text(v->kind)) {
    words_in(d, &at, v->at, v->bytes, pl__siphash_tail(v->at, v->bytes));
    return;
  }
  cursor_hop(d, &at);
  PUT(at.block->words[at.at], number_word(v->number));
}

/* Puts the value where the key is, or could be. */
static INLINED enum pl_dict_outcome spot_put(struct change *c) {
  struct pl_dict *d = c->user->dict;
  struct pl_shard *s = c->shard;
  struct spot *spot = &c->spot;
  struct pl_chain dropping = {0, 0, 0}, made;

  if (PL_UNLIKELY(pl__shard_free(s) < c->blocks + 1))
    return MORE_BLOCKS; /* one may be for slots */
  if (PL_UNLIKELY(!spot->slot))
    spot->slot = slots_add(d, s, spot->next);
  if (spot->entry)
    dropping = entry_chain(spot->entry, slot_chain(spot->seen));
  made = pl__shard_make(&d->blocks, s, c->blocks);
  entry_fill(made, c);
  pl__shard_show(&d->blocks, s, spot->slot,
                 slot_after(spot->seen, made.first, c->probe.tag), made,
                 dropping);
  if (!spot->entry)
    count_entries(s, 1);
  return PL_DICT_DONE;
}

static bool text_is(const struct pl_dict *d, struct cursor c, const char *at,
                    uint32_t bytes) {
  struct probe p = {
      .at = at, .bytes = bytes, .tail = pl__siphash_tail(at, bytes)};

  return key_is(d, &c, &p);
}

static bool value_is(const struct pl_dict *d, const struct spot *spot,
                     const struct pl_dict_value *v) {
  struct head h = head_of(spot->entry);
  struct cursor c = spot->value;

  if (h.kind != v->kind)
    return false;
  if (is_text(v->kind))
    return h.value_bytes == v->bytes && text_is(d, c, v->at, v->bytes);
  cursor_hop(d, &c);
  return number_of(GET(c.block->words[c.at])) == v->number;
}

static bool mode_allows(const struct change *c) {
  const struct spot *spot = &c->spot;
  bool is_there = spot->entry && !is_over(spot->entry, c->now_ms);

  if (c->mode == PL_DICT_ADD)
    return !is_there;
  return is_there ? value_is(c->user->dict, spot, c->expected)
                  : c->expected->kind == PL_DICT_NONE;
}

static INLINED enum pl_dict_outcome set_step(struct change *c) {
  if (c->mode != PL_DICT_SET && !mode_allows(c))
    return c->mode == PL_DICT_ADD ? PL_DICT_EXISTS : PL_DICT_DIFFERS;
  return spot_put(c);
}

static INLINED enum pl_dict_outcome change_begin(struct change *c,
                                                 struct pl_dict_key key) {
  const struct pl_dict *d = c->user->dict;
  const struct pl_dict_value *v = c->value;

  if (PL_UNLIKELY(key.bytes > PL_LIMIT_DICT_KEY_BYTES))
    return PL_DICT_LONG_KEY;
  c->probe = probe_for(d, key);
  if (!v)
    return PL_DICT_DONE;
  if (is_text(v->kind) && v->bytes > PL_LIMIT_DICT_VALUE_BYTES)
    return PL_DICT_TOO_LARGE;
  c->blocks = blocks_for((key.bytes + 7) / 8 + value_words(v->kind, v->bytes));
  return c->blocks > d->blocks.count / 4 ? PL_DICT_TOO_LARGE : PL_DICT_DONE;
}

enum pl_dict_outcome pl__dict_set(const struct pl_dict_user *u,
                                  struct pl_dict_key key,
                                  enum pl_dict_mode mode,
                                  const struct pl_dict_value *value,
                                  const struct pl_dict_value *expected,
                                  int64_t now_ms, int64_t expires_ms) {
  struct change c;
  enum pl_dict_outcome outcome;

  c.user = u;
  c.mode = mode;
  c.value = value;
  c.expected = expected;
  c.now_ms = now_ms;
  c.expires_ms = expires_ms;
  outcome = change_begin(&c, key);
  return outcome ? outcome : change_run(&c, set_step);
}

/* The sum is one store into the entry: whoever reads sees the one or the other
 * number, and who is killed has added it or not. */
static INLINED enum pl_dict_outcome incr_step(struct change *c) {
  struct pl_dict *d = c->user->dict;
  struct pl_block *entry = c->spot.entry;
  struct cursor at = c->spot.value;
  double sum;

  if (!entry || is_over(entry, c->now_ms))
    return c->has_init ? spot_put(c) : PL_DICT_ABSENT;
  if (head_of(entry).kind != PL_DICT_NUMBER)
    return PL_DICT_NO_NUMBER;
  cursor_hop(d, &at);
  sum = number_of(GET(at.block->words[at.at])) + c->by;
  PUT(at.block->words[at.at], number_word(sum));
  if (GET(entry->used) == 0)
    PUT(entry->used, 1);
  *c->result = sum;
  return PL_DICT_DONE;
}

enum pl_dict_outcome pl__dict_incr(const struct pl_dict_user *u,
                                   struct pl_dict_key key, double by,
                                   const double *init, int64_t now_ms,
                                   int64_t expires_ms, double *result) {
  struct pl_dict_value first = {.kind = PL_DICT_NUMBER,
                                .number = init ? *init + by : 0};
  struct change c;
  enum pl_dict_outcome outcome;

  c.user = u;
  c.value = &first;
  c.now_ms = now_ms;
  c.expires_ms = expires_ms;
  c.by = by;
  c.has_init = init != NULL;
  c.result = result;
  outcome = change_begin(&c, key);
  if (outcome)
    return outcome;
  *result = first.number; /* unless there is one */
  return change_run(&c, incr_step);
}

static INLINED enum pl_dict_outcome delete_step(struct change *c) {
  struct spot *spot = &c->spot;
  bool over;

  if (!spot->entry)
    return PL_DICT_ABSENT;
  over = is_over(spot->entry, c->now_ms);
  entry_delete(c->user->dict, c->shard, spot->slot, spot->entry);
  return over ? PL_DICT_ABSENT : PL_DICT_DONE;
}

enum pl_dict_outcome pl__dict_delete(const struct pl_dict_user *u,
                                     struct pl_dict_key key, int64_t now_ms) {
  struct change c;
  enum pl_dict_outcome outcome;

  c.user = u;
  c.value = NULL;
  c.now_ms = now_ms;
  c.blocks = 0;
  outcome = change_begin(&c, key);
  return outcome ? outcome : change_run(&c, delete_step);
}

/* --- all of it ---------------------------------------------------------- */

/* The key that a slot leads to, into `out`; its bytes, or -1: there is none. */
static int32_t slot_key(const struct pl_dict *d, _Atomic uint64_t *slot,
                        int64_t now_ms, char *out) {
  uint64_t before = atomic_load_explicit(slot, memory_order_acquire);

  while (slot_chain(before)) {
    struct pl_block *entry = pl__block_at(&d->blocks, slot_chain(before));
    struct cursor c = {entry, HEAD_WORDS};
    struct head h = head_of(entry);
    uint32_t bytes = h.key_bytes;
    uint64_t after;

    if (bytes <= PL_LIMIT_DICT_KEY_BYTES)
      words_out(d, &c, out, (bytes + 7) / 8);
    atomic_thread_fence(memory_order_acquire);
    after = atomic_load_explicit(slot, memory_order_acquire);
    if (after == before)
      return now_ms >= h.expires_ms ? -1 : (int32_t)bytes;
    before = after;
  }
  return -1;
}

/* Bytes of the keys of one bucket; *whole: there was room for all. */
static uint32_t bucket_keys(const struct pl_dict *d, uint32_t bucket,
                            int64_t now_ms, char *out, uint32_t room,
                            bool *whole) {
  char key[PL_LIMIT_DICT_KEY_BYTES];
  struct group g = group_of(d, bucket);
  uint32_t used = 0;

  *whole = true;
  do {
    for (uint32_t i = 0; i < g.count; i++) {
      int32_t found = slot_key(d, &g.slots[i], now_ms, key);
      uint32_t bytes = (uint32_t)found;

      if (found < 0)
        continue;
      if (used + 2 + bytes > room) {
        *whole = false;
        return used;
      }
      out[used++] = (char)(bytes & 0xff);
      out[used++] = (char)(bytes >> 8);
      memcpy(out + used, key, bytes);
      used += bytes;
    }
  } while (group_next(d, &g));
  return used;
}

uint32_t pl__dict_keys(const struct pl_dict_user *u, uint32_t *cursor,
                       int64_t now_ms, char *out, uint32_t room) {
  const struct pl_dict *d = u->dict;
  uint32_t used = 0, bucket = *cursor, seen = 0;

  for (; bucket < d->bucket_count && seen < KEYS_BUCKETS; bucket++, seen++) {
    bool whole;
    uint32_t more =
        bucket_keys(d, bucket, now_ms, out + used, room - used, &whole);
    if (!whole && used > 0) /* this bucket again, next time */
      break;
    used += more; /* one bucket that no room would do for is cut */
  }
  *cursor = bucket < d->bucket_count ? bucket : 0;
  return used;
}

static void bucket_clear(struct pl_dict *d, struct pl_shard *s,
                         uint32_t bucket) {
  struct group g = group_of(d, bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      uint32_t chain = slot_chain(GET(g.slots[i]));
      if (chain)
        entry_delete(d, s, &g.slots[i], pl__block_at(&d->blocks, chain));
    }
  } while (group_next(d, &g));
}

enum pl_dict_outcome pl__dict_clear(const struct pl_dict_user *u,
                                    uint32_t *cursor) {
  struct pl_dict *d = u->dict;
  struct pl_blocks *b = &d->blocks;
  uint32_t bucket = *cursor;

  for (uint32_t i = 0; i < CLEAR_BUCKETS && bucket < d->bucket_count; i++) {
    struct pl_shard *s = shard_of(d, bucket);
    if (!shard_enter(u, s))
      return PL_DICT_BUSY;
    bucket_clear(d, s, bucket++);
    pl__shard_give(b, s, u->self, 2 * b->batch);
    pl__shard_leave(s);
  }
  *cursor = bucket < d->bucket_count ? bucket : 0;
  return PL_DICT_DONE;
}

void pl__dict_stats(const struct pl_dict *d, struct pl_dict_stats *out) {
  *out = (struct pl_dict_stats){.capacity = d->bytes};
  out->bytes = pl__blocks_in_use(&d->blocks) * PL_BLOCK_BYTES;
  for (uint32_t i = 0; i < PL_DICT_LANES; i++) {
    out->hits += GET(d->lanes[i].hits);
    out->misses += GET(d->lanes[i].misses);
  }
  for (uint32_t i = 0; i < d->blocks.shard_count; i++) {
    const struct pl_shard *s = &d->blocks.shards[i];
    out->entries += GET(s->entries);
    out->evictions += GET(s->evictions);
    out->expired += GET(s->expired);
  }
}

/* --- made, and checked -------------------------------------------------- */

static uint32_t round_up(uint32_t value) {
  uint32_t power = 1;

  while (power < value)
    power *= 2;
  return power;
}

int pl__dict_init(void *at, uint64_t bytes, struct pl_siphash_seed seed) {
  struct pl_dict *d = at;
  uint64_t blocks = bytes / PL_BLOCK_BYTES, offset;
  uint32_t buckets, shards;

  if (bytes < PL_DICT_BYTES_MIN || bytes > PL_DICT_BYTES_MAX)
    return PL_EINVAL;
  buckets = round_up((uint32_t)(blocks / BLOCKS_PER_BUCKET));
  shards = buckets / 8 < PL_SHARDS_MAX ? buckets / 8 : PL_SHARDS_MAX;
  d->bytes = bytes;
  d->seed = seed;
  d->bucket_count = buckets;
  d->bucket_offset = (uint32_t)(sizeof *d / BUCKET_BYTES);
  offset = sizeof *d + (uint64_t)buckets * BUCKET_BYTES;
  offset = (offset + PL_BLOCK_BYTES - 1) / PL_BLOCK_BYTES;
  offset -= offsetof(struct pl_dict, blocks) / PL_BLOCK_BYTES;
  pl__blocks_init(&d->blocks,
                  (uint32_t)(blocks - offset -
                             offsetof(struct pl_dict, blocks) / PL_BLOCK_BYTES),
                  shards, (uint32_t)offset);
  return 0;
}

_Static_assert(sizeof(struct bucket) == BUCKET_BYTES, "a bucket is a line");
_Static_assert(sizeof(struct pl_block) == PL_BLOCK_BYTES, "a block is two");
_Static_assert(sizeof(struct pl_dict) % PL_BLOCK_BYTES == 0, "blocks align");
_Static_assert(offsetof(struct pl_dict, blocks) % PL_BLOCK_BYTES == 0,
               "blocks are counted from here");

struct census {
  const struct pl_blocks *b;
  uint8_t *seen; /* by block */
  uint64_t count;
  bool good;
};

#define ANY UINT32_MAX /* however long it is, wherever it ends */

static void census_chain(struct census *c, struct pl_chain chain) {
  uint32_t i = chain.first, last = 0;

  for (uint32_t n = 0; i && n < chain.count; n++) {
    if (i >= c->b->count || c->seen[i]) {
      c->good = false;
      return;
    }
    c->seen[i] = 1;
    c->count++;
    last = i;
    i = GET(pl__block_at(c->b, i)->next);
    if (chain.count != ANY && n + 1 < chain.count && i == 0)
      c->good = false; /* too short */
  }
  if (chain.last != ANY && last != chain.last)
    c->good = false;
}

static void census_list(struct census *c, uint64_t list) {
  census_chain(c,
               (struct pl_chain){(uint32_t)list, ANY, (uint32_t)(list >> 32)});
}

static void census_shard(struct census *c, const struct pl_dict *d,
                         uint32_t index) {
  const struct pl_shard *s = &d->blocks.shards[index];
  uint64_t entries = 0;

  census_list(c, GET(s->free));
  for (uint32_t i = index; i < d->bucket_count; i += d->blocks.shard_count) {
    struct group g = group_of(d, i);
    census_chain(c, (struct pl_chain){GET(*g.next), ANY, ANY});
    do {
      for (uint32_t j = 0; j < g.count; j++) {
        uint32_t chain = slot_chain(GET(g.slots[j]));
        if (chain == 0)
          continue;
        entries++;
        census_chain(c, entry_chain(pl__block_at(c->b, chain), chain));
      }
    } while (c->good && group_next(d, &g));
  }
  if (entries != GET(s->entries))
    c->good = false;
}

bool pl__dict_check(const struct pl_dict_user *u) {
  struct pl_dict *d = u->dict;
  struct census c = {
      .b = &d->blocks, .seen = pl__alloc_zero(d->blocks.count), .good = true};

  if (!c.seen)
    return false;
  for (uint32_t i = 0; i < d->blocks.shard_count && c.good; i++) {
    struct pl_shard *s = &d->blocks.shards[i];
    if (!shard_enter(u, s)) {
      c.good = false;
      break;
    }
    /* Goes to the pool and back, so that its lock is mended as well. */
    pl__shard_give(&d->blocks, s, u->self, 0);
    pl__shard_leave(s);
    census_shard(&c, d, i);
  }
  census_list(&c, GET(d->blocks.pool.free));
  pl__free(c.seen);
  return c.good && c.count + 1 == GET(d->blocks.pool.fresh);
}
