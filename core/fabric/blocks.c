/* fabric/blocks.c - the journal, and how the one that comes after a dead process
 * goes on.
 *
 * Each step is one store.  Notes are written before the step that they are
 * about (all stores are releases, so nobody sees them in another order), and
 * whether that step was taken can be told from what it changes: a chain is
 * shown if its place holds it; a batch is where a list begins with it.  A list
 * and its count are one word, so they cannot differ.
 */
#include "fabric/blocks.h"

#include "base/err.h"

#define IS_NEXT 1u /* of a place */

static uint64_t list_of(uint32_t first, uint32_t count) {
  return count ? (uint64_t)count << 32 | first : 0;
}

static uint32_t list_first(uint64_t list) { return (uint32_t)list; }
static uint32_t list_count(uint64_t list) { return (uint32_t)(list >> 32); }

#define GET(at) atomic_load_explicit(&(at), memory_order_relaxed)
#define PUT(at, value)                                                         \
  atomic_store_explicit(&(at), (value), memory_order_release)

void pl__blocks_init(struct pl_blocks *b, uint32_t count, uint32_t shard_count,
                     uint32_t first_offset) {
  uint32_t batch = count / (shard_count * 16);

  b->count = count;
  b->shard_count = shard_count;
  b->first_offset = first_offset;
  b->batch = batch > PL_BLOCKS_BATCH ? PL_BLOCKS_BATCH : batch ? batch : 1;
  PUT(b->pool.fresh, 1);
}

/* The last of `count` blocks of a chain. */
static uint32_t chain_last(const struct pl_blocks *b, uint32_t first,
                           uint32_t count) {
  while (--count)
    first = GET(pl__block_at(b, first)->next);
  return first;
}

static struct pl_chain chain_of(const struct pl_blocks *b, uint32_t first,
                                uint32_t count) {
  uint32_t last = first && count ? chain_last(b, first, count) : 0;

  return (struct pl_chain){first, last, count};
}

/* Puts a chain, if there is one, at the front of a list, unless it is there
 * already. */
static inline void list_put(const struct pl_blocks *b, _Atomic uint64_t *list,
                            struct pl_chain chain) {
  uint64_t before = GET(*list);

  if (chain.count == 0 || list_first(before) == chain.first)
    return;
  PUT(pl__block_at(b, chain.last)->next, list_first(before));
  PUT(*list, list_of(chain.first, list_count(before) + chain.count));
}

/* Takes a chain out of the front of a list; it stays chained, and its last
 * block to what is left. */
static inline void list_cut(const struct pl_blocks *b, _Atomic uint64_t *list,
                            struct pl_chain chain) {
  uint32_t rest = GET(pl__block_at(b, chain.last)->next);

  PUT(*list, list_of(rest, list_count(GET(*list)) - chain.count));
}

/* --- the pool ----------------------------------------------------------- */

/* A batch that was on its way when somebody died is where it was, where it was
 * to go, or in neither: then the pool gets it.  The shard is still locked by
 * the dead one, or torn: nobody has used its free blocks since. */
static void pool_mend(struct pl_blocks *b) {
  struct pl_pool *p = &b->pool;
  uint64_t moving = GET(p->moving);
  uint32_t first = list_first(moving);
  const struct pl_shard *s = &b->shards[GET(p->moving_shard) % PL_SHARDS_MAX];

  if (moving && list_first(GET(s->free)) != first && GET(p->fresh) != first)
    list_put(b, &p->free, chain_of(b, first, list_count(moving)));
  PUT(p->moving, 0);
}

static bool pool_enter(struct pl_blocks *b, uint64_t self) {
  enum pl_lock_taken taken = pl__lock_take(&b->pool.lock, self);

  if (taken == PL_LOCK_BUSY)
    return false;
  if (taken == PL_LOCK_INHERITED)
    pool_mend(b);
  return true;
}

static void moving_begin(struct pl_blocks *b, struct pl_shard *s,
                         struct pl_chain chain) {
  PUT(b->pool.moving_shard, (uint32_t)(s - b->shards));
  PUT(b->pool.moving, list_of(chain.first, chain.count));
  s->dropped.count = 0;
}

static void move_freed(struct pl_blocks *b, struct pl_shard *s, uint32_t want) {
  struct pl_pool *p = &b->pool;
  uint64_t list = GET(p->free);
  uint32_t count = list_count(list) < want ? list_count(list) : want;
  struct pl_chain chain;

  if (count == 0)
    return;
  chain = chain_of(b, list_first(list), count);
  moving_begin(b, s, chain);
  list_cut(b, &p->free, chain);
  list_put(b, &s->free, chain);
  PUT(p->moving, 0);
}

static void move_fresh(struct pl_blocks *b, struct pl_shard *s, uint32_t want) {
  struct pl_pool *p = &b->pool;
  uint32_t first = GET(p->fresh), left = b->count - first;
  uint32_t count = left < want ? left : want;
  struct pl_chain chain = {first, first + count - 1, count};

  if (count == 0)
    return;
  for (uint32_t i = 0; i < count; i++)
    PUT(pl__block_at(b, first + i)->next, first + i + 1);
  moving_begin(b, s, chain);
  PUT(p->fresh, first + count);
  list_put(b, &s->free, chain);
  PUT(p->moving, 0);
}

bool pl__shard_reserve(struct pl_blocks *b, struct pl_shard *s, uint64_t self,
                       uint32_t want) {
  uint32_t have = pl__shard_free(s);
  uint32_t batch = want > b->batch ? want : b->batch;

  if (have >= want)
    return true;
  if (!pool_enter(b, self))
    return false;
  move_freed(b, s, batch - have);
  have = pl__shard_free(s);
  if (have < batch)
    move_fresh(b, s, batch - have);
  pl__lock_give(&b->pool.lock);
  return pl__shard_free(s) >= want;
}

void pl__shard_give(struct pl_blocks *b, struct pl_shard *s, uint64_t self,
                    uint32_t keep) {
  uint64_t list = GET(s->free);
  uint32_t count = list_count(list);
  struct pl_chain chain;

  if (count <= keep || !pool_enter(b, self))
    return;
  chain = chain_of(b, list_first(list), count - keep);
  moving_begin(b, s, chain);
  list_cut(b, &s->free, chain);
  list_put(b, &b->pool.free, chain);
  PUT(b->pool.moving, 0);
  pl__lock_give(&b->pool.lock);
}

uint32_t pl__pool_free(const struct pl_blocks *b) {
  return list_count(GET(b->pool.free)) + b->count - GET(b->pool.fresh);
}

/* --- a shard ------------------------------------------------------------ */

static uint32_t shown_at(const struct pl_blocks *b, uint64_t place) {
  const char *at = (const char *)b + (place & ~(uint64_t)IS_NEXT);

  return place & IS_NEXT ? GET(*(const _Atomic uint32_t *)at)
                         : (uint32_t)GET(*(const _Atomic uint64_t *)at);
}

/* Ends the change that a dead one had begun, if it was shown; else it has not
 * happened, but that a new block of slots may have lost its place in the list.
 * The pool comes first: a batch may have been on its way here. */
static bool shard_mend(struct pl_blocks *b, struct pl_shard *s, uint64_t self) {
  uint64_t place = GET(s->place);
  uint32_t made = GET(s->made);

  if (!pool_enter(b, self))
    return false;
  pl__lock_give(&b->pool.lock);
  s->dropped.count = 0;
  if (place && shown_at(b, place) == made)
    PUT(s->free, GET(s->free_after));
  else if (place & IS_NEXT)
    PUT(pl__block_at(b, made)->next, list_first(GET(s->free_after)));
  PUT(s->place, 0);
  return true;
}

int pl__shard_enter_slow(struct pl_blocks *b, struct pl_shard *s, uint64_t self,
                         enum pl_lock_taken taken, bool *mended) {
  *mended = false;
  if (taken == PL_LOCK_BUSY)
    return PL_ETIMEOUT;
  PUT(s->torn, 1);
  if (!shard_mend(b, s, self)) {
    pl__shard_leave(s);
    return PL_ETIMEOUT;
  }
  *mended = true;
  return 0;
}

struct pl_chain pl__shard_make(const struct pl_blocks *b,
                               const struct pl_shard *s, uint32_t count) {
  uint32_t first = list_first(GET(s->free));

  PL_ASSERT(pl__shard_free(s) >= count && count > 0);
  if (count == s->dropped.count && first == s->dropped.first)
    return s->dropped;
  return chain_of(b, first, count);
}

static uint64_t offset_of(const struct pl_blocks *b, const void *at) {
  return (uint64_t)((const char *)at - (const char *)b);
}

/* What is free once `made` is not and `dropping` is: its last block, which
 * nobody follows, leads there already. */
static inline uint64_t free_after(struct pl_blocks *b, struct pl_shard *s,
                                  struct pl_chain made,
                                  struct pl_chain dropping) {
  uint64_t before = GET(s->free);
  uint32_t rest =
      made.count ? GET(pl__block_at(b, made.last)->next) : list_first(before);
  uint32_t count = list_count(before) - made.count + dropping.count;

  if (dropping.count == 0)
    return list_of(rest, count);
  PUT(pl__block_at(b, dropping.last)->next, rest);
  return list_of(dropping.first, count);
}

void pl__shard_show(struct pl_blocks *b, struct pl_shard *s,
                    _Atomic uint64_t *place, uint64_t word,
                    struct pl_chain made, struct pl_chain dropping) {
  uint64_t after = free_after(b, s, made, dropping);

  PUT(s->made, made.first);
  PUT(s->free_after, after);
  PUT(s->place, offset_of(b, (const void *)place));
  PUT(*place, word);
  PUT(s->free, after);
  PUT(s->place, 0);
  s->dropped = dropping;
}

void pl__shard_link(struct pl_blocks *b, struct pl_shard *s,
                    _Atomic uint32_t *next, struct pl_chain made) {
  struct pl_chain none = {0, 0, 0};
  uint64_t after = free_after(b, s, made, none);

  PUT(s->made, made.first);
  PUT(s->free_after, after);
  PUT(s->place, offset_of(b, (const void *)next) | IS_NEXT);
  PUT(pl__block_at(b, made.last)->next, 0);
  PUT(*next, made.first);
  PUT(s->free, after);
  PUT(s->place, 0);
  s->dropped.count = 0;
}

uint64_t pl__blocks_in_use(const struct pl_blocks *b) {
  uint64_t free = list_count(GET(b->pool.free));
  uint64_t taken = GET(b->pool.fresh) - 1;

  for (uint32_t i = 0; i < b->shard_count; i++)
    free += pl__shard_free(&b->shards[i]);
  return taken > free ? taken - free : 0;
}
