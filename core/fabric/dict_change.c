/* fabric/dict_change.c - sets, adds to and deletes entries of a dictionary, with
 * the lock of the key's shard.
 *
 * All changes are one: the key is looked for without the lock, once more with it
 * if somebody was faster, and then one step is made.  A step that wants more
 * free blocks than the shard has is made again once there is room.
 */
#include "fabric/dict.h"

#include "base/limits.h"
#include "fabric/dict_room.h"
#include "fabric/dict_table.h"

/* Where a key is, or could be put. */
struct spot {
  _Atomic uint64_t *slot;      /* NULL: all are taken */
  uint64_t seen;               /* what it held */
  struct pl_block *entry;      /* NULL: the slot is empty, or there is none */
  struct pl_dict_cursor value; /* of the entry */
  _Atomic uint32_t *next;      /* of the last group */
};

/* Without the lock: what is found is so if the slot has not changed once the
 * lock is held.  False: there is no such key. */
static inline bool spot_find(const struct pl_dict *d,
                             const struct pl_dict_probe *p, struct spot *out) {
  struct pl_dict_group g = pl__dict_group(d, p->bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      uint64_t slot = atomic_load_explicit(&g.slots[i], memory_order_acquire);
      struct pl_block *entry;
      struct pl_dict_cursor c;

      if (pl__dict_slot_tag(slot) != p->tag)
        continue;
      entry = pl__block_at(&d->blocks, pl__dict_slot_chain(slot));
      c = (struct pl_dict_cursor){entry, PL_DICT_HEAD_WORDS};
      if (pl__dict_head(entry).key_bytes != p->bytes ||
          !pl__dict_key_is(&d->blocks, &c, p))
        continue;
      out->slot = &g.slots[i];
      out->seen = slot;
      out->entry = entry;
      out->value = c;
      return true;
    }
  } while (pl__dict_group_next(d, &g));
  out->entry = NULL;
  return false;
}

/* With the lock: where a key can be put that is not there. */
static void spot_find_room(const struct pl_dict *d, uint32_t bucket,
                           struct spot *out) {
  struct pl_dict_group g = pl__dict_group(d, bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      uint64_t slot = PL_DICT_GET(g.slots[i]);
      if (pl__dict_slot_chain(slot))
        continue;
      out->slot = &g.slots[i];
      out->seen = slot;
      return;
    }
    out->next = g.next;
  } while (pl__dict_group_next(d, &g));
  out->slot = NULL;
  out->seen = 0;
}

#define MORE_BLOCKS ((enum pl_dict_outcome) - 1) /* and then again */

/* What is the same in all changes is inlined into each of them. */
#define INLINED inline __attribute__((always_inline))

struct change {
  const struct pl_dict_user *user;
  struct pl_shard *shard;
  struct pl_dict_probe probe;
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

  if (PL_UNLIKELY(!spot->entry || PL_DICT_GET(*spot->slot) != spot->seen))
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
    pl__dict_room_elsewhere(c.user, c.shard,
                            &b->shards[(index + i) & (b->shard_count - 1)],
                            c.blocks + 1, c.now_ms);
    if (!pl__dict_shard_enter(c.user, c.shard))
      return PL_DICT_BUSY;
    if (pl__dict_room_make(c.user, c.shard, c.blocks + 1, c.now_ms)) {
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
  struct pl_shard *s = pl__dict_shard(u->dict, c->probe.bucket);
  enum pl_dict_outcome outcome;

  c->shard = s;
  spot_find(u->dict, &c->probe, &c->spot);
  if (PL_UNLIKELY(!pl__dict_shard_enter(u, s)))
    return PL_DICT_BUSY;
  spot_check(c);
  outcome = step(c);
  if (PL_UNLIKELY(outcome == MORE_BLOCKS) &&
      pl__dict_room_make(u, s, c->blocks + 1, c->now_ms)) {
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
    PL_DICT_PUT(block->words[i], 0);
  pl__shard_link(&d->blocks, s, next, made);
  return block->words;
}

static INLINED void entry_fill(struct pl_chain made, const struct change *c) {
  struct pl_dict *d = c->user->dict;
  const struct pl_dict_value *v = c->value;
  struct pl_block *entry = pl__block_at(&d->blocks, made.first);
  struct pl_dict_cursor at = {entry, PL_DICT_HEAD_WORDS};

  PL_DICT_PUT(entry->used, 0);
  pl__dict_head_put(entry,
                    (struct pl_dict_head){
                        .expires_ms = c->expires_ms,
                        .key_bytes = c->probe.bytes,
                        .kind = v->kind,
                        .value_bytes = pl__dict_is_text(v->kind) ? v->bytes : 8,
                        .last = made.last});
  pl__dict_words_in(&d->blocks, &at, c->probe.at, c->probe.bytes,
                    c->probe.tail);
  if (pl__dict_is_text(v->kind)) {
    pl__dict_words_in(&d->blocks, &at, v->at, v->bytes,
                      pl__siphash_tail(v->at, v->bytes));
    return;
  }
  pl__dict_hop(&d->blocks, &at);
  PL_DICT_PUT(at.block->words[at.at], pl__dict_number_word(v->number));
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
    dropping =
        pl__dict_entry_chain(spot->entry, pl__dict_slot_chain(spot->seen));
  made = pl__shard_make(&d->blocks, s, c->blocks);
  entry_fill(made, c);
  pl__shard_show(&d->blocks, s, spot->slot,
                 pl__dict_slot_after(spot->seen, made.first, c->probe.tag),
                 made, dropping);
  if (!spot->entry)
    pl__dict_count_entries(s, 1);
  return PL_DICT_DONE;
}

static bool text_is(const struct pl_dict *d, struct pl_dict_cursor c,
                    const char *at, uint32_t bytes) {
  struct pl_dict_probe p = {
      .at = at, .bytes = bytes, .tail = pl__siphash_tail(at, bytes)};

  return pl__dict_key_is(&d->blocks, &c, &p);
}

static bool value_is(const struct pl_dict *d, const struct spot *spot,
                     const struct pl_dict_value *v) {
  struct pl_dict_head h = pl__dict_head(spot->entry);
  struct pl_dict_cursor c = spot->value;

  if (h.kind != v->kind)
    return false;
  if (pl__dict_is_text(v->kind))
    return h.value_bytes == v->bytes && text_is(d, c, v->at, v->bytes);
  pl__dict_hop(&d->blocks, &c);
  return pl__dict_number(PL_DICT_GET(c.block->words[c.at])) == v->number;
}

static bool mode_allows(const struct change *c) {
  const struct spot *spot = &c->spot;
  bool is_there =
      spot->entry && !pl__dict_entry_is_over(spot->entry, c->now_ms);

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
  c->probe = pl__dict_probe(d, key);
  if (!v)
    return PL_DICT_DONE;
  if (pl__dict_is_text(v->kind) && v->bytes > PL_LIMIT_DICT_VALUE_BYTES)
    return PL_DICT_TOO_LARGE;
  c->blocks = pl__dict_entry_blocks((key.bytes + 7) / 8 +
                                    pl__dict_value_words(v->kind, v->bytes));
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
  struct pl_dict_cursor at = c->spot.value;
  double sum;

  if (!entry || pl__dict_entry_is_over(entry, c->now_ms))
    return c->has_init ? spot_put(c) : PL_DICT_ABSENT;
  if (pl__dict_head(entry).kind != PL_DICT_NUMBER)
    return PL_DICT_NO_NUMBER;
  pl__dict_hop(&d->blocks, &at);
  sum = pl__dict_number(PL_DICT_GET(at.block->words[at.at])) + c->by;
  PL_DICT_PUT(at.block->words[at.at], pl__dict_number_word(sum));
  if (PL_DICT_GET(entry->used) == 0)
    PL_DICT_PUT(entry->used, 1);
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
  over = pl__dict_entry_is_over(spot->entry, c->now_ms);
  pl__dict_entry_delete(c->user->dict, c->shard, spot->slot, spot->entry);
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
