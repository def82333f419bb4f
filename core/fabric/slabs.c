/* fabric/slabs.c - the stack of free slabs, and how its cold end is cleaned. */
#include "fabric/slabs.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/err.h"
#include "fabric/map.h"

#include <stddef.h>

static void slabs_check(const struct pl_slabs *s) {
  PL_ASSERT(s->clean_count <= s->free_count);       /* (1) */
  PL_ASSERT(s->free_count + s->in_use == s->count); /* (2) */
  PL_ASSERT(s->in_use <= s->peak_now);              /* (3) */
  (void)s;
}

int pl__slabs_init(struct pl_slabs *s, void *base, uint32_t slab_bytes,
                   uint32_t count) {
  PL_ASSERT(slab_bytes && slab_bytes % PL_FABRIC_PAGE_BYTES == 0);
  uint32_t *stack = pl__alloc((size_t)count * sizeof *stack);
  if (!stack)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < count; i++)
    stack[i] = count - 1 - i;
  *s = (struct pl_slabs){.base = base,
                         .stack = stack,
                         .slab_bytes = slab_bytes,
                         .count = count,
                         .free_count = count,
                         .clean_count = count};
  /* Should this fail, the slabs are merely dirty without being counted so. */
  pl__fabric_punch(base, (size_t)slab_bytes * count);
  return 0;
}

void pl__slabs_deinit(struct pl_slabs *s) {
  pl__free(s->stack);
  *s = (struct pl_slabs){0};
}

void *pl__slabs_take(struct pl_slabs *s, uint32_t *index) {
  if (s->free_count == 0) {
    s->full_count++;
    return NULL;
  }
  uint32_t i = s->stack[--s->free_count];
  if (s->clean_count > s->free_count)
    s->clean_count = s->free_count;
  if (++s->in_use > s->peak_now)
    s->peak_now = s->in_use;
  s->take_count++;
  slabs_check(s);
  if (index)
    *index = i;
  return pl__slabs_at(s, i);
}

void pl__slabs_give(struct pl_slabs *s, uint32_t index) {
  PL_ASSERT(index < s->count && s->in_use > 0);
  if (PL_NEVER(s->free_count == s->count))
    return;
  s->stack[s->free_count++] = index;
  s->in_use--;
  slabs_check(s);
}

void pl__slabs_tick(struct pl_slabs *s) {
  s->peak_before = s->peak_now;
  s->peak_now = s->in_use;
}

/* How many dirty slabs are to stay: what was in use at once, lately. */
static uint32_t wanted(const struct pl_slabs *s, uint32_t keep) {
  uint32_t peak = s->peak_now > s->peak_before ? s->peak_now : s->peak_before;
  return peak > keep ? peak : keep;
}

uint32_t pl__slabs_trim(struct pl_slabs *s, uint32_t keep, uint32_t punch_max) {
  uint32_t dirty = pl__slabs_dirty(s), stay = wanted(s, keep), done = 0;
  while (done < punch_max && dirty - done > stay &&
         s->clean_count < s->free_count) {
    uint32_t i = s->stack[s->clean_count];
    if (pl__fabric_punch(pl__slabs_at(s, i), s->slab_bytes))
      break;
    s->clean_count++;
    done++;
  }
  slabs_check(s);
  return done;
}
