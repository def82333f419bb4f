/* fabric/dict_table.c - makes a dictionary, and mends what a shard counts. */
#include "fabric/dict_table.h"

#include "base/err.h"

#define BLOCKS_PER_BUCKET 8u /* at most; buckets are a power of two */

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
  d->bucket_offset = (uint32_t)(sizeof *d / PL_DICT_BUCKET_BYTES);
  offset = sizeof *d + (uint64_t)buckets * PL_DICT_BUCKET_BYTES;
  offset = (offset + PL_BLOCK_BYTES - 1) / PL_BLOCK_BYTES;
  offset -= offsetof(struct pl_dict, blocks) / PL_BLOCK_BYTES;
  pl__blocks_init(&d->blocks,
                  (uint32_t)(blocks - offset -
                             offsetof(struct pl_dict, blocks) / PL_BLOCK_BYTES),
                  shards, (uint32_t)offset);
  return 0;
}

_Static_assert(sizeof(struct pl_dict_bucket) == PL_DICT_BUCKET_BYTES,
               "a bucket is a line");
_Static_assert(sizeof(struct pl_block) == PL_BLOCK_BYTES, "a block is two");
_Static_assert(sizeof(struct pl_dict) % PL_BLOCK_BYTES == 0, "blocks align");
_Static_assert(offsetof(struct pl_dict, blocks) % PL_BLOCK_BYTES == 0,
               "blocks are counted from here");

void pl__dict_shard_count(struct pl_dict *d, struct pl_shard *s) {
  struct pl_blocks *b = &d->blocks;
  uint64_t entries = 0;

  for (uint32_t i = (uint32_t)(s - b->shards); i < d->bucket_count;
       i += b->shard_count) {
    struct pl_dict_group g = pl__dict_group(d, i);
    do {
      for (uint32_t j = 0; j < g.count; j++)
        entries += pl__dict_slot_chain(PL_DICT_GET(g.slots[j])) != 0;
    } while (pl__dict_group_next(d, &g));
  }
  PL_DICT_PUT(s->entries, entries);
  atomic_store_explicit(&s->torn, 0, memory_order_release);
}
