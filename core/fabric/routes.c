/* fabric/routes.c - claiming, filling and reading the table of patterns. */
#include "fabric/routes.h"

#include "base/err.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

#define EMPTY 0ull
#define PUBLISHED UINT64_MAX

_Static_assert(sizeof(struct pl_routes) == PL_LIMIT_ROUTES_BYTES,
               "the section is as large as its limit says");

/* FNV-1a over lengths and bytes: tells one table from another. */
static uint64_t hash_of(const struct pl_slice *patterns, uint32_t count) {
  uint64_t h = 14695981039346656037ull;
  for (uint32_t i = 0; i < count; i++) {
    h = (h ^ patterns[i].bytes) * 1099511628211ull;
    for (uint32_t j = 0; j < patterns[i].bytes; j++)
      h = (h ^ (unsigned char)patterns[i].at[j]) * 1099511628211ull;
  }
  return h;
}

/* Whether the process that claimed the table is there no more. */
static bool is_gone(uint64_t pid) {
  return pid <= INT32_MAX && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

/* How many patterns find room: an offset each, one more for the end, and
 * their bytes. */
static uint32_t count_fitting(const struct pl_slice *patterns, uint32_t count) {
  uint64_t bytes = sizeof(uint32_t);
  for (uint32_t i = 0; i < count; i++) {
    bytes += sizeof(uint32_t) + patterns[i].bytes;
    if (bytes > PL_ROUTES_DATA_BYTES)
      return i;
  }
  return count;
}

static void fill(struct pl_routes *r, const struct pl_slice *patterns,
                 uint32_t count, uint64_t hash) {
  uint32_t kept = count_fitting(patterns, count);
  uint32_t at = (kept + 1) * (uint32_t)sizeof(uint32_t);
  for (uint32_t i = 0; i <= kept; i++) {
    memcpy(r->data + i * sizeof at, &at, sizeof at);
    if (i == kept)
      break;
    if (patterns[i].bytes)
      memcpy(r->data + at, patterns[i].at, patterns[i].bytes);
    at += patterns[i].bytes;
  }
  r->count = count;
  r->kept = kept;
  r->hash = hash;
}

int pl__routes_publish(struct pl_routes *r, const struct pl_slice *patterns,
                       uint32_t count) {
  uint64_t hash = hash_of(patterns, count);
  uint64_t state = atomic_load_explicit(&r->state, memory_order_acquire);
  while (state != PUBLISHED) {
    if (state != EMPTY && !is_gone(state))
      return 0; /* another one is at it */
    if (!atomic_compare_exchange_strong(&r->state, &state, (uint64_t)getpid()))
      continue;
    fill(r, patterns, count, hash);
    atomic_store_explicit(&r->state, PUBLISHED, memory_order_release);
    return 0;
  }
  return r->count == count && r->hash == hash ? 0 : PL_ECONFLICT;
}

void pl__routes_begin(struct pl_routes *tables, uint32_t generation) {
  struct pl_routes *r = pl__routes_of(tables, generation);

  atomic_store_explicit(&r->state, EMPTY, memory_order_release);
  r->generation = generation;
}

struct pl_slice pl__routes_lookup(const struct pl_routes *tables,
                                  uint32_t generation, uint32_t route) {
  const struct pl_routes *r = &tables[generation % PL_ROUTES_TABLES];

  return r->generation == generation ? pl__routes_find(r, route)
                                     : pl__slice("", 0);
}

struct pl_slice pl__routes_find(const struct pl_routes *r, uint32_t route) {
  struct pl_slice none = {"", 0};
  uint32_t from, to;
  if (atomic_load_explicit(&r->state, memory_order_acquire) != PUBLISHED ||
      route >= r->kept)
    return none;
  memcpy(&from, r->data + (size_t)route * sizeof from, sizeof from);
  memcpy(&to, r->data + ((size_t)route + 1) * sizeof to, sizeof to);
  if (from > to || to > PL_ROUTES_DATA_BYTES)
    return none; /* somebody has written over it */
  return pl__slice(r->data + from, to - from);
}
