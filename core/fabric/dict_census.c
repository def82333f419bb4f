/* fabric/dict_census.c - counts every block of a dictionary, for tests. */
#include "fabric/dict.h"

#include "base/alloc.h"
#include "fabric/dict_table.h"

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
    i = PL_DICT_GET(pl__block_at(c->b, i)->next);
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

  census_list(c, PL_DICT_GET(s->free));
  for (uint32_t i = index; i < d->bucket_count; i += d->blocks.shard_count) {
    struct pl_dict_group g = pl__dict_group(d, i);
    census_chain(c, (struct pl_chain){PL_DICT_GET(*g.next), ANY, ANY});
    do {
      for (uint32_t j = 0; j < g.count; j++) {
        uint32_t chain = pl__dict_slot_chain(PL_DICT_GET(g.slots[j]));
        if (chain == 0)
          continue;
        entries++;
        census_chain(c, pl__dict_entry_chain(pl__block_at(c->b, chain), chain));
      }
    } while (c->good && pl__dict_group_next(d, &g));
  }
  if (entries != PL_DICT_GET(s->entries))
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
    if (!pl__dict_shard_enter(u, s)) {
      c.good = false;
      break;
    }
    /* Goes to the pool and back, so that its lock is mended as well. */
    pl__shard_give(&d->blocks, s, u->self, 0);
    pl__shard_leave(s);
    census_shard(&c, d, i);
  }
  census_list(&c, PL_DICT_GET(d->blocks.pool.free));
  pl__free(c.seen);
  return c.good && c.count + 1 == PL_DICT_GET(d->blocks.pool.fresh);
}
