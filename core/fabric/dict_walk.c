/* fabric/dict_walk.c - goes through all of a dictionary, some buckets at a call.
 */
#include "fabric/dict.h"

#include "base/limits.h"
#include "fabric/dict_table.h"

#define KEYS_BUCKETS 4096u /* looked at by one pl__dict_keys */
#define CLEAR_BUCKETS 256u

/* The key that a slot leads to, into `out`; its bytes, or -1: there is none. */
static int32_t slot_key(const struct pl_dict *d, _Atomic uint64_t *slot,
                        int64_t now_ms, char *out) {
  uint64_t before = atomic_load_explicit(slot, memory_order_acquire);

  while (pl__dict_slot_chain(before)) {
    struct pl_block *entry =
        pl__block_at(&d->blocks, pl__dict_slot_chain(before));
    struct pl_dict_cursor c = {entry, PL_DICT_HEAD_WORDS};
    struct pl_dict_head h = pl__dict_head(entry);
    uint32_t bytes = h.key_bytes;
    uint64_t after;

    if (bytes <= PL_LIMIT_DICT_KEY_BYTES)
      pl__dict_words_out(&d->blocks, &c, out, (bytes + 7) / 8);
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
  struct pl_dict_group g = pl__dict_group(d, bucket);
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
  } while (pl__dict_group_next(d, &g));
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
  struct pl_dict_group g = pl__dict_group(d, bucket);

  do {
    for (uint32_t i = 0; i < g.count; i++) {
      uint32_t chain = pl__dict_slot_chain(PL_DICT_GET(g.slots[i]));
      if (chain)
        pl__dict_entry_delete(d, s, &g.slots[i],
                              pl__block_at(&d->blocks, chain));
    }
  } while (pl__dict_group_next(d, &g));
}

enum pl_dict_outcome pl__dict_clear(const struct pl_dict_user *u,
                                    uint32_t *cursor) {
  struct pl_dict *d = u->dict;
  struct pl_blocks *b = &d->blocks;
  uint32_t bucket = *cursor;

  for (uint32_t i = 0; i < CLEAR_BUCKETS && bucket < d->bucket_count; i++) {
    struct pl_shard *s = pl__dict_shard(d, bucket);
    if (!pl__dict_shard_enter(u, s))
      return PL_DICT_BUSY;
    bucket_clear(d, s, bucket++);
    pl__shard_give(b, s, u->self, 2 * b->batch);
    pl__shard_leave(s);
  }
  *cursor = bucket < d->bucket_count ? bucket : 0;
  return PL_DICT_DONE;
}
