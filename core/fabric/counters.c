/* fabric/counters.c - finds counters by name, and makes them. */
#include "fabric/counters.h"

#include "base/err.h"

#include <string.h>

static struct pl_counter *find(struct pl_counters *c, const char *name,
                               uint32_t bytes) {
  uint32_t count = atomic_load_explicit(&c->count, memory_order_acquire);

  for (uint32_t i = 0; i < count; i++)
    if (c->at[i].name_bytes == bytes && memcmp(c->at[i].name, name, bytes) == 0)
      return &c->at[i];
  return NULL;
}

/* One that was being made when somebody died is made anew. */
static int make(struct pl_counters *c, const char *name, uint32_t bytes,
                struct pl_counter **out) {
  uint32_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
  struct pl_counter *at = &c->at[count];

  if (count == PL_LIMIT_COUNTER_COUNT)
    return PL_EFULL;
  memcpy(at->name, name, bytes);
  at->name_bytes = bytes;
  pl__counter_set(at, 0);
  atomic_store_explicit(&c->count, count + 1, memory_order_release);
  *out = at;
  return 0;
}

int pl__counters_find(struct pl_counters *c, uint64_t self, const char *name,
                      uint32_t bytes, struct pl_counter **out) {
  int status = 0;

  if (bytes == 0 || bytes >= PL_LIMIT_SHARED_NAME_BYTES)
    return PL_EINVAL;
  *out = find(c, name, bytes);
  if (*out)
    return 0;
  if (pl__lock_take(&c->lock, self) == PL_LOCK_BUSY)
    return PL_ETIMEOUT;
  *out = find(c, name, bytes);
  if (!*out)
    status = make(c, name, bytes, out);
  pl__lock_give(&c->lock);
  return status;
}
