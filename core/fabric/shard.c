/* fabric/shard.c - buckets at first use, examples, and reading them. */
#include "fabric/shard.h"

#include <stddef.h>

/* The owner may die between the two stores: then these buckets are lost. */
uint64_t pl__shard_extend(struct pl_shard *s, uint32_t cell) {
  uint32_t count =
      atomic_load_explicit(&s->buckets_count, memory_order_relaxed);
  uint64_t at = 1;

  count = count ? count : 1;
  if (cell != PL_SHARD_NOWHERE && count < PL_SHARD_BUCKETS_MAX) {
    atomic_store_explicit(&s->buckets_count, count + 1, memory_order_relaxed);
    at = (uint64_t)count + 1;
  }
  atomic_store_explicit(&s->cells[cell + PL_SHARD_BUCKETS], at,
                        memory_order_release);
  return at;
}

void pl__example_put(struct pl_example *e, double number,
                     const struct pl_origin *origin) {
  uint64_t serial = pl__shard_load(&e->serial) | 1;

  pl__shard_store(&e->serial, serial);
  atomic_thread_fence(memory_order_release);
  pl__shard_store(&e->number, pl__shard_bits(number));
  pl__shard_store(&e->now, pl__shard_bits(origin->now));
  pl__shard_store(&e->trace[0], origin->trace[0]);
  pl__shard_store(&e->trace[1], origin->trace[1]);
  pl__shard_store(&e->request_id, origin->request_id);
  atomic_store_explicit(&e->serial, serial + 1, memory_order_release);
}

bool pl__example_get(const struct pl_example *e, double *number,
                     struct pl_origin *out) {
  uint64_t serial = atomic_load_explicit(&e->serial, memory_order_acquire);

  *number = pl__shard_number(pl__shard_load(&e->number));
  out->now = pl__shard_number(pl__shard_load(&e->now));
  out->trace[0] = pl__shard_load(&e->trace[0]);
  out->trace[1] = pl__shard_load(&e->trace[1]);
  out->request_id = pl__shard_load(&e->request_id);
  atomic_thread_fence(memory_order_acquire);
  return serial != 0 && serial % 2 == 0 && pl__shard_load(&e->serial) == serial;
}

const struct pl_buckets *pl__shard_peek(const struct pl_shard *s,
                                        uint32_t cell) {
  uint64_t at = atomic_load_explicit(&s->cells[cell + PL_SHARD_BUCKETS],
                                     memory_order_acquire);

  return at > 1 && at <= PL_SHARD_BUCKETS_MAX ? &s->buckets[at - 1] : NULL;
}

void pl__shard_gather(const struct pl_shard *s, uint32_t cell,
                      struct pl_histogram *out) {
  const struct pl_buckets *b = pl__shard_peek(s, cell);
  uint64_t octaves = pl__shard_load(&s->cells[cell + PL_SHARD_OCTAVES]);

  if (!b)
    return;
  out->sum += pl__shard_get(s, cell + PL_SHARD_SUM);
  out->octaves |= octaves;
  for (; octaves; octaves &= octaves - 1) {
    uint32_t first = (uint32_t)__builtin_ctzll(octaves) * PL_HISTOGRAM_STEPS;
    for (uint32_t i = first; i < first + PL_HISTOGRAM_STEPS; i++)
      out->counts[i] += pl__shard_load(&b->counts[i]);
  }
}

void pl__shard_fold(struct pl_shard *to, const struct pl_shard *from,
                    uint32_t cell) {
  const struct pl_buckets *b = pl__shard_peek(from, cell);
  uint64_t octaves = pl__shard_load(&from->cells[cell + PL_SHARD_OCTAVES]);
  uint64_t before = pl__shard_load(&to->cells[cell + PL_SHARD_OCTAVES]);
  struct pl_buckets *own;

  if (!b)
    return;
  own = pl__shard_buckets(to, cell);
  pl__shard_store(&to->cells[cell + PL_SHARD_OCTAVES], before | octaves);
  pl__shard_add(to, cell + PL_SHARD_SUM,
                pl__shard_get(from, cell + PL_SHARD_SUM));
  for (; octaves; octaves &= octaves - 1) {
    uint32_t first = (uint32_t)__builtin_ctzll(octaves) * PL_HISTOGRAM_STEPS;
    for (uint32_t i = first; i < first + PL_HISTOGRAM_STEPS; i++)
      pl__shard_store(&own->counts[i], pl__shard_load(&own->counts[i]) +
                                           pl__shard_load(&b->counts[i]));
  }
}
