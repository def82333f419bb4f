/* fabric/counters.h - 64-bit counters by name, which all workers share.
 *
 * A counter is one atomic word: adding to it is one instruction, so whoever is
 * killed has added or not.  Names are never forgotten; they are made under a
 * lock, and shown by the count of them, last.
 */
#ifndef PL_FABRIC_COUNTERS_H
#define PL_FABRIC_COUNTERS_H

#include "base/limits.h"
#include "fabric/lock.h"

#include <stdatomic.h>
#include <stdint.h>

/* On cache lines of its own: what one worker counts holds up no other. */
struct pl_counter {
  _Alignas(128) _Atomic int64_t value;
  uint32_t name_bytes;
  char name[PL_LIMIT_SHARED_NAME_BYTES];
};

/* All zero at first: there are none. */
struct pl_counters {
  _Alignas(128) struct pl_lock lock;
  _Atomic uint32_t count;
  struct pl_counter at[PL_LIMIT_COUNTER_COUNT];
};

/* The counter of that name; at 0 when there was none.  Returns 0; PL_EINVAL (a
 * name that is empty or too long), PL_EFULL (too many names), PL_ETIMEOUT. */
int pl__counters_find(struct pl_counters *c, uint64_t self, const char *name,
                      uint32_t bytes, struct pl_counter **out);

/* Adds and returns the sum. */
static inline int64_t pl__counter_add(struct pl_counter *c, int64_t n) {
  return atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed) + n;
}

static inline int64_t pl__counter_get(const struct pl_counter *c) {
  return atomic_load_explicit(&c->value, memory_order_relaxed);
}

static inline void pl__counter_set(struct pl_counter *c, int64_t n) {
  atomic_store_explicit(&c->value, n, memory_order_relaxed);
}

#endif /* PL_FABRIC_COUNTERS_H */
