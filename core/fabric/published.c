/* fabric/published.c - copies in and out, word by word: readers may look at a
 * slot that is being written, and find out afterwards. */
#include "fabric/published.h"

#include "base/err.h"

#include <string.h>

#define GET(at) atomic_load_explicit(&(at), memory_order_relaxed)
#define PUT(at, value)                                                         \
  atomic_store_explicit(&(at), (value), memory_order_relaxed)

static void words_in(struct pl_published_slot *slot, const char *text,
                     uint32_t bytes) {
  for (uint32_t at = 0; at < bytes; at += 8) {
    uint64_t word = 0;

    memcpy(&word, text + at, bytes - at < 8 ? bytes - at : 8);
    PUT(slot->words[at / 8], word);
  }
  PUT(slot->bytes, bytes);
}

int pl__published_set(struct pl_published *p, uint64_t self, const char *text,
                      uint32_t bytes, uint32_t *version) {
  uint32_t next;

  if (bytes > PL_LIMIT_PUBLISHED_BYTES)
    return PL_EFULL;
  if (pl__lock_take(&p->lock, self) == PL_LOCK_BUSY)
    return PL_ETIMEOUT;
  next = GET(p->version) + 1;
  next = next ? next : 1;
  words_in(&p->slots[next % PL_PUBLISHED_SLOTS], text, bytes);
  atomic_store_explicit(&p->version, next, memory_order_release);
  pl__lock_give(&p->lock);
  *version = next;
  return 0;
}

static uint32_t words_out(const struct pl_published_slot *slot, char *out) {
  uint32_t bytes = (uint32_t)GET(slot->bytes);

  if (bytes > PL_LIMIT_PUBLISHED_BYTES)
    bytes = PL_LIMIT_PUBLISHED_BYTES;
  for (uint32_t at = 0; at < bytes; at += 8) {
    uint64_t word = GET(slot->words[at / 8]);

    memcpy(out + at, &word, bytes - at < 8 ? bytes - at : 8);
  }
  return bytes;
}

uint32_t pl__published_get(const struct pl_published *p, char *out,
                           uint32_t *version) {
  for (;;) {
    uint32_t before = atomic_load_explicit(&p->version, memory_order_acquire);
    uint32_t bytes = 0;

    if (before)
      bytes = words_out(&p->slots[before % PL_PUBLISHED_SLOTS], out);
    atomic_thread_fence(memory_order_acquire);
    /* The slot is written again by who goes on from before + SLOTS - 1. */
    if (GET(p->version) - before < PL_PUBLISHED_SLOTS - 1) {
      *version = before;
      return bytes;
    }
  }
}
