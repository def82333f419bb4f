/* fabric/shared.c - gives dictionaries their names and their memory. */
#include "fabric/shared.h"

#include "base/clock.h"
#include "base/err.h"
#include "fabric/dict.h"
#include "fabric/map.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static uint64_t page_up(uint64_t bytes) {
  uint64_t page = PL_FABRIC_PAGE_BYTES;

  return (bytes + page - 1) & ~(page - 1);
}

static char *memory_of(struct pl_shared *s) {
  return (char *)s + page_up(sizeof *s);
}

uint64_t pl__shared_bytes(uint64_t memory_bytes) {
  return page_up(sizeof(struct pl_shared)) + page_up(memory_bytes);
}

void pl__shared_init(struct pl_shared *s, uint64_t memory_bytes) {
  s->memory_bytes = page_up(memory_bytes);
  /* Early in a system's life there may be no randomness yet. */
  if (getrandom(&s->seed, sizeof s->seed, GRND_NONBLOCK) != sizeof s->seed) {
    s->seed.half[0] = (uint64_t)pl__clock_realtime_ns();
    s->seed.half[1] = (uint64_t)(uintptr_t)s ^ (uint64_t)getpid() << 32;
  }
}

static const struct pl_shared_name *
name_find(const struct pl_shared *s, const char *name, uint32_t bytes) {
  uint32_t count = atomic_load_explicit(&s->count, memory_order_acquire);

  for (uint32_t i = 0; i < count; i++)
    if (s->names[i].name_bytes == bytes &&
        memcmp(s->names[i].name, name, bytes) == 0)
      return &s->names[i];
  return NULL;
}

/* Where the next dictionary goes. */
static uint64_t memory_used(const struct pl_shared *s) {
  uint32_t count = atomic_load_explicit(&s->count, memory_order_acquire);

  return count ? s->names[count - 1].offset + s->names[count - 1].bytes : 0;
}

uint64_t pl__shared_left(const struct pl_shared *s) {
  return s->memory_bytes - memory_used(s);
}

static int dict_make(struct pl_shared *s, const char *name, uint32_t name_bytes,
                     uint64_t capacity) {
  uint32_t count = atomic_load_explicit(&s->count, memory_order_relaxed);
  uint64_t offset = memory_used(s);
  struct pl_shared_name *at = &s->names[count];
  int status;

  if (count == PL_LIMIT_DICT_COUNT || capacity > s->memory_bytes - offset)
    return PL_EFULL;
  status = pl__dict_init(memory_of(s) + offset, capacity, s->seed);
  if (status)
    return status;
  *at = (struct pl_shared_name){
      .offset = offset, .bytes = capacity, .name_bytes = name_bytes};
  memcpy(at->name, name, name_bytes);
  atomic_store_explicit(&s->count, count + 1, memory_order_release);
  return 0;
}

int pl__shared_dict(struct pl_shared *s, uint64_t self, const char *name,
                    uint32_t name_bytes, uint64_t capacity,
                    struct pl_dict **out) {
  const struct pl_shared_name *found;
  int status = 0;

  if (name_bytes == 0 || name_bytes >= PL_LIMIT_SHARED_NAME_BYTES ||
      capacity < PL_DICT_BYTES_MIN || capacity > PL_DICT_BYTES_MAX)
    return PL_EINVAL;
  found = name_find(s, name, name_bytes);
  if (!found) {
    if (pl__lock_take(&s->lock, self) == PL_LOCK_BUSY)
      return PL_ETIMEOUT;
    if (!name_find(s, name, name_bytes))
      status = dict_make(s, name, name_bytes, page_up(capacity));
    pl__lock_give(&s->lock);
    found = name_find(s, name, name_bytes);
  }
  if (found)
    *out = (struct pl_dict *)(memory_of(s) + found->offset);
  return status;
}
