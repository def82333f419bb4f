/* fabric/stacks.c - see stacks.h. */
#include "fabric/stacks.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/err.h"
#include "fabric/symbols.h"

#include <string.h>

#define INDEX_SLOTS 65536u

_Static_assert(sizeof(struct pl_stacks) <= 1u << 20, "about 1 MiB a worker");
_Static_assert(PL_STACKS_MAX < INDEX_SLOTS, "the index has free slots");

static uint32_t hash_of(const uint32_t *symbols, uint32_t depth) {
  uint64_t h = depth;

  for (uint32_t i = 0; i < depth; i++) {
    h = (h ^ symbols[i]) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
  }
  return (uint32_t)h;
}

static void index_put(struct pl_stacks_writer *w, uint32_t hash, uint32_t id) {
  while (w->index[hash % INDEX_SLOTS])
    hash++;
  w->index[hash % INDEX_SLOTS] = id;
  w->index_count++;
}

/* False: what is there makes no sense. */
static bool index_all(struct pl_stacks_writer *w) {
  const struct pl_stacks *t = w->table;
  uint32_t count = atomic_load_explicit(&t->count, memory_order_relaxed);

  if (count < 2 || count > PL_STACKS_WORDS || t->words[0] != 1)
    return false;
  for (uint32_t at = 2; at < count; at += 1 + t->words[at]) {
    uint32_t depth = t->words[at];
    if (depth == 0 || depth > PL_STACKS_DEPTH_MAX || depth >= count - at ||
        w->index_count == PL_STACKS_MAX)
      return false;
    index_put(w, hash_of(&t->words[at + 1], depth), at);
  }
  return true;
}

int pl__stacks_writer_open(struct pl_stacks_writer *w,
                           struct pl_stacks *table) {
  size_t bytes = INDEX_SLOTS * sizeof *w->index;

  *w =
      (struct pl_stacks_writer){.table = table, .index = pl__alloc_zero(bytes)};
  if (!w->index)
    return PL_ENOMEM;
  if (index_all(w))
    return 0;
  memset(w->index, 0, bytes);
  w->index_count = 0;
  atomic_store_explicit(&table->count, 0, memory_order_release);
  table->words[0] = 1;
  table->words[1] = PL_SYMBOL_OTHER;
  atomic_store_explicit(&table->count, 2, memory_order_release);
  return 0;
}

void pl__stacks_writer_close(struct pl_stacks_writer *w) {
  pl__free(w->index);
  w->index = NULL;
}

void pl__stacks_clear(struct pl_stacks *table) {
  atomic_store_explicit(&table->count, 0, memory_order_release);
}

bool pl__stacks_is_half_full(const struct pl_stacks_writer *w) {
  return atomic_load_explicit(&w->table->count, memory_order_relaxed) >
             PL_STACKS_WORDS / 2 ||
         w->index_count > PL_STACKS_MAX / 2;
}

static uint32_t find(const struct pl_stacks_writer *w, uint32_t hash,
                     const uint32_t *symbols, uint32_t depth) {
  const struct pl_stacks *t = w->table;
  uint32_t id;

  for (; (id = w->index[hash % INDEX_SLOTS]); hash++)
    if (t->words[id] == depth &&
        !memcmp(&t->words[id + 1], symbols, depth * sizeof *symbols))
      return id;
  return PL_STACK_OTHER;
}

static uint32_t add(struct pl_stacks_writer *w, uint32_t hash,
                    const uint32_t *symbols, uint32_t depth) {
  struct pl_stacks *t = w->table;
  uint32_t id = atomic_load_explicit(&t->count, memory_order_relaxed);

  if (depth >= PL_STACKS_WORDS - id || w->index_count == PL_STACKS_MAX) {
    atomic_fetch_add_explicit(&t->refused, 1, memory_order_relaxed);
    return PL_STACK_OTHER;
  }
  t->words[id] = depth;
  memcpy(&t->words[id + 1], symbols, depth * sizeof *symbols);
  index_put(w, hash, id);
  atomic_store_explicit(&t->count, id + 1 + depth, memory_order_release);
  return id;
}

static bool is_nearly_full(const struct pl_stacks_writer *w) {
  return atomic_load_explicit(&w->table->count, memory_order_relaxed) >
             PL_STACKS_WORDS_WHOLE ||
         w->index_count > PL_STACKS_MAX / 4 * 3;
}

uint32_t pl__stacks_add(struct pl_stacks_writer *w, const uint32_t *symbols,
                        uint32_t depth) {
  uint32_t hash, id;

  PL_ASSERT(depth >= 1 && depth <= PL_STACKS_DEPTH_MAX);
  hash = hash_of(symbols, depth);
  id = find(w, hash, symbols, depth);
  if (id != PL_STACK_OTHER)
    return id;
  if (depth > PL_STACKS_DEPTH_WHEN_NEARLY_FULL && is_nearly_full(w))
    return pl__stacks_add(w, symbols, PL_STACKS_DEPTH_WHEN_NEARLY_FULL);
  return add(w, hash, symbols, depth);
}

uint32_t pl__stacks_find(const struct pl_stacks *table, uint32_t id,
                         uint32_t *out) {
  uint32_t count = atomic_load_explicit(&table->count, memory_order_acquire);
  uint32_t depth;

  out[0] = PL_SYMBOL_OTHER;
  if (count > PL_STACKS_WORDS || id >= count)
    return 1;
  depth = table->words[id];
  if (depth == 0 || depth > PL_STACKS_DEPTH_MAX || depth >= count - id)
    return 1;
  memcpy(out, &table->words[id + 1], depth * sizeof *out);
  return depth;
}
