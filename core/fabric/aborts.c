/* fabric/aborts.c - see aborts.h. */
#include "fabric/aborts.h"

#include <string.h>

static uint64_t hash_add(uint64_t hash, struct pl_slice s) {
  for (uint32_t i = 0; i < s.bytes; i++) /* FNV-1a */
    hash = (hash ^ (unsigned char)s.at[i]) * UINT64_C(0x100000001b3);
  return (hash ^ 0xff) * UINT64_C(0x100000001b3);
}

static uint64_t hash_of(const struct pl_abort_note *n) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);

  hash = hash_add(hash, n->reason);
  hash = hash_add(hash, n->at);
  hash = hash_add(hash, n->from);
  return hash ? hash : 1;
}

static struct pl_slice beginning(struct pl_slice s, uint32_t most) {
  return s.bytes <= most ? s : pl__slice(s.at, most);
}

static struct pl_slice ending(struct pl_slice s, uint32_t most) {
  return s.bytes <= most ? s : pl__slice(s.at + s.bytes - most, most);
}

static void text_set(char *to, size_t room, struct pl_slice text) {
  memset(to, 0, room);
  memcpy(to, text.at, text.bytes);
}

static void entry_make(struct pl_abort *e, const struct pl_abort_note *n,
                       uint64_t hash) {
  text_set(e->reason, sizeof e->reason, n->reason);
  text_set(e->at, sizeof e->at, n->at);
  text_set(e->from, sizeof e->from, n->from);
  e->route = n->route;
  e->generation = n->generation;
  atomic_store_explicit(&e->blacklisted, n->blacklisted, memory_order_relaxed);
  atomic_store_explicit(&e->count, 1, memory_order_relaxed);
  atomic_store_explicit(&e->hash, hash, memory_order_release);
}

static void entry_count(struct pl_abort *e, const struct pl_abort_note *n) {
  uint32_t count = atomic_load_explicit(&e->count, memory_order_relaxed);

  if (count < UINT32_MAX)
    atomic_store_explicit(&e->count, count + 1, memory_order_relaxed);
  if (n->blacklisted)
    atomic_store_explicit(&e->blacklisted, n->blacklisted,
                          memory_order_relaxed);
}

void pl__aborts_clear(struct pl_aborts *a) {
  for (uint32_t i = 0; i < PL_ABORTS_COUNT; i++)
    if (atomic_load_explicit(&a->at[i].hash, memory_order_relaxed))
      atomic_store_explicit(&a->at[i].hash, 0, memory_order_relaxed);
  atomic_store_explicit(&a->lost, 0, memory_order_relaxed);
}

void pl__aborts_note(struct pl_aborts *a, const struct pl_abort_note *note) {
  struct pl_abort_note n = *note;
  uint64_t hash;

  n.reason = beginning(n.reason, PL_ABORT_REASON_BYTES);
  n.at = ending(n.at, PL_ABORT_PLACE_BYTES);
  n.from = ending(n.from, PL_ABORT_PLACE_BYTES);
  hash = hash_of(&n);
  for (uint32_t i = 0; i < PL_ABORTS_PROBES; i++) {
    struct pl_abort *e = &a->at[(hash + i) % PL_ABORTS_COUNT];
    uint64_t there = atomic_load_explicit(&e->hash, memory_order_relaxed);
    if (there == hash) {
      entry_count(e, &n);
      return;
    }
    if (there == 0) {
      entry_make(e, &n, hash);
      return;
    }
  }
  atomic_store_explicit(
      &a->lost, atomic_load_explicit(&a->lost, memory_order_relaxed) + 1,
      memory_order_relaxed);
}

bool pl__aborts_get(const struct pl_aborts *a, uint32_t index,
                    struct pl_abort_note *out, uint32_t *count) {
  const struct pl_abort *e = &a->at[index];

  if (!atomic_load_explicit(&e->hash, memory_order_acquire))
    return false;
  *count = atomic_load_explicit(&e->count, memory_order_relaxed);
  *out = (struct pl_abort_note){
      .reason = pl__slice(e->reason, strnlen(e->reason, sizeof e->reason)),
      .at = pl__slice(e->at, strnlen(e->at, sizeof e->at)),
      .from = pl__slice(e->from, strnlen(e->from, sizeof e->from)),
      .route = e->route,
      .generation = e->generation,
      .blacklisted =
          atomic_load_explicit(&e->blacklisted, memory_order_relaxed)};
  return true;
}
