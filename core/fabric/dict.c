/* fabric/dict.c - finds and reads entries, without a lock, and says how much
 * there is.
 *
 *     dict_entry.h   an entry in its blocks
 *     dict_table.*   buckets, slots and shards
 *     dict_change.c  set, add to, delete
 *     dict_room.*    eviction
 *     dict_walk.c    all keys; clear
 *     dict_census.c  whether every block is in one place
 */
#include "fabric/dict.h"

#include "fabric/dict_table.h"

static inline void entry_read(const struct pl_dict *d, struct pl_dict_cursor c,
                              struct pl_dict_head h,
                              struct pl_dict_found *out) {
  out->kind = h.kind;
  if (pl__dict_is_text(h.kind)) {
    uint32_t words = (h.value_bytes + 7) / 8;
    out->bytes = h.value_bytes;
    if (h.value_bytes <= out->room)
      pl__dict_words_out(&d->blocks, &c, out->at, words);
    return;
  }
  pl__dict_hop(&d->blocks, &c);
  out->number = pl__dict_number(PL_DICT_GET(c.block->words[c.at]));
}

/* Whether the slot holds the key; what it leads to is in `out` then.  Begins
 * anew while somebody changes the slot. */
static inline bool slot_read(const struct pl_dict *d, _Atomic uint64_t *slot,
                             const struct pl_dict_probe *p, int64_t now_ms,
                             struct pl_dict_found *out) {
  uint64_t before = atomic_load_explicit(slot, memory_order_acquire);

  while (pl__dict_slot_tag(before) == p->tag) {
    struct pl_block *entry =
        pl__block_at(&d->blocks, pl__dict_slot_chain(before));
    struct pl_dict_cursor c = {entry, PL_DICT_HEAD_WORDS};
    struct pl_dict_head h = pl__dict_head(entry);
    bool found = h.key_bytes == p->bytes && pl__dict_key_is(&d->blocks, &c, p);
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
    else if (PL_DICT_GET(entry->used) == 0)
      PL_DICT_PUT(entry->used, 1);
    return true;
  }
  return false;
}

static void count_look(const struct pl_dict_user *u, bool hit) {
  struct pl_dict_lane *lane = &u->dict->lanes[u->lane % PL_DICT_LANES];
  _Atomic uint64_t *count = hit ? &lane->hits : &lane->misses;

  PL_DICT_PUT(*count, PL_DICT_GET(*count) +
                          1); /* no atomic addition: the lane is mine */
}

void pl__dict_get(const struct pl_dict_user *u, struct pl_dict_key key,
                  int64_t now_ms, struct pl_dict_found *out) {
  const struct pl_dict *d = u->dict;
  struct pl_dict_probe p = pl__dict_probe(d, key);
  struct pl_dict_group g = pl__dict_group(d, p.bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      if (slot_read(d, &g.slots[i], &p, now_ms, out)) {
        count_look(u, out->kind != PL_DICT_NONE);
        return;
      }
    }
  } while (pl__dict_group_next(d, &g));
  out->kind = PL_DICT_NONE;
  count_look(u, false);
}

void pl__dict_stats(const struct pl_dict *d, struct pl_dict_stats *out) {
  *out = (struct pl_dict_stats){.capacity = d->bytes};
  out->bytes = pl__blocks_in_use(&d->blocks) * PL_BLOCK_BYTES;
  for (uint32_t i = 0; i < PL_DICT_LANES; i++) {
    out->hits += PL_DICT_GET(d->lanes[i].hits);
    out->misses += PL_DICT_GET(d->lanes[i].misses);
  }
  for (uint32_t i = 0; i < d->blocks.shard_count; i++) {
    const struct pl_shard *s = &d->blocks.shards[i];
    out->entries += PL_DICT_GET(s->entries);
    out->evictions += PL_DICT_GET(s->evictions);
    out->expired += PL_DICT_GET(s->expired);
  }
}
