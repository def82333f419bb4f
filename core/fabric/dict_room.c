/* fabric/dict_room.c - see dict_room.h. */
#include "fabric/dict_room.h"

#include "fabric/dict_table.h"

#define LOOKS_MAX 512u /* read entries that are spared by one eviction */

/* Looks at one entry; `looks` counts those that were spared. */
static void evict_slot(struct pl_dict *d, struct pl_shard *s,
                       _Atomic uint64_t *slot, int64_t now_ms,
                       uint32_t *looks) {
  struct pl_block *entry =
      pl__block_at(&d->blocks, pl__dict_slot_chain(PL_DICT_GET(*slot)));
  bool over = pl__dict_entry_is_over(entry, now_ms);

  if (!over && PL_DICT_GET(entry->used) && ++*looks < LOOKS_MAX) {
    PL_DICT_PUT(entry->used, 0);
    return;
  }
  if (over)
    PL_DICT_PUT(s->expired, PL_DICT_GET(s->expired) + 1);
  else
    PL_DICT_PUT(s->evictions, PL_DICT_GET(s->evictions) + 1);
  pl__dict_entry_delete(d, s, slot, entry);
}

/* Goes on in the bucket that the hand is at; true: it is through with it. */
static bool evict_bucket(struct pl_dict *d, struct pl_shard *s, uint32_t bucket,
                         uint32_t want, int64_t now_ms, uint32_t *looks) {
  struct pl_dict_group g = pl__dict_group(d, bucket);
  uint32_t slot = 0;

  do {
    for (uint32_t i = 0; i < g.count; i++, slot++) {
      if (slot < s->hand_slot ||
          pl__dict_slot_chain(PL_DICT_GET(g.slots[i])) == 0)
        continue;
      if (pl__shard_free(s) >= want)
        return false;
      s->hand_slot = slot + 1;
      evict_slot(d, s, &g.slots[i], now_ms, looks);
    }
  } while (pl__dict_group_next(d, &g));
  return true;
}

bool pl__dict_room_make(const struct pl_dict_user *u, struct pl_shard *s,
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

void pl__dict_room_elsewhere(const struct pl_dict_user *u,
                             struct pl_shard *mine, struct pl_shard *other,
                             uint32_t want, int64_t now_ms) {
  struct pl_blocks *b = &u->dict->blocks;
  uint32_t have = pl__shard_free(mine) + pl__pool_free(b);

  if (have >= want || !pl__dict_shard_enter(u, other))
    return;
  pl__dict_room_make(u, other, pl__pool_free(b) + want - have, now_ms);
  pl__shard_give(b, other, u->self, 0);
  pl__shard_leave(other);
}
