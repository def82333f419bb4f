/* fabric/slabs.h - a pool of equal pieces of a fabric section.
 *
 * One process uses it.  What is free lies on a stack of indices in that
 * process's own memory: when a worker dies, the one that replaces it begins
 * anew with the same section (pl__slabs_init gives the old pages back).
 *
 *     stack   [ clean ........ | dirty ........ ]   in use
 *             0          clean_count        free_count
 *
 * Invariants:
 *  (1) below clean_count lie slabs without pages, above it slabs that may have
 *      some.  Slabs are taken from the top, so warm ones go first;
 *  (2) free_count + in_use == count;
 *  (3) in_use never passes peak_now.
 *
 * Memory goes back by pl__slabs_tick, once a second, and pl__slabs_trim: what
 * is dirty beyond the high-water mark of the last two ticks is punched, the
 * coldest first.
 */
#ifndef PL_FABRIC_SLABS_H
#define PL_FABRIC_SLABS_H

#include <stdint.h>

#define PL_SLABS_VERSION 1u /* of the section: raw bytes */

struct pl_slabs {
  char *base;           /* the section */
  uint32_t *stack;      /* free slabs; from base/alloc */
  uint32_t slab_bytes;  /* a multiple of the page */
  uint32_t count;       /* all slabs */
  uint32_t free_count;  /* on the stack */
  uint32_t clean_count; /* of those, at the bottom, without pages */
  uint32_t in_use;      /* taken now */
  uint32_t peak_now;    /* most in use since the last tick */
  uint32_t peak_before; /* most in use between the two ticks before */
  uint64_t take_count;  /* slabs taken since the start */
  uint64_t full_count;  /* how often there was none */
};

/* Takes the section over.
 *
 *   base        page-aligned, count * slab_bytes long, in the fabric
 *   slab_bytes  a multiple of PL_FABRIC_PAGE_BYTES (asserted)
 *
 * Pages that a former process left are given back.  Returns 0 or PL_ENOMEM. */
int pl__slabs_init(struct pl_slabs *s, void *base, uint32_t slab_bytes,
                   uint32_t count);
/* Frees the stack; the section stays as it is. */
void pl__slabs_deinit(struct pl_slabs *s);

/* Takes a slab, aligned to the page.  Its bytes are undefined.  Sets *index
 * (may be NULL).  Returns NULL when all are in use. */
void *pl__slabs_take(struct pl_slabs *s, uint32_t *index);

/* Gives slab `index` back, which is in use. */
void pl__slabs_give(struct pl_slabs *s, uint32_t index);

/* The slab at `index`. */
static inline void *pl__slabs_at(const struct pl_slabs *s, uint32_t index) {
  return s->base + (uint64_t)index * s->slab_bytes;
}

/* Ends one period of the high-water mark.  Costs nothing; once a second. */
void pl__slabs_tick(struct pl_slabs *s);

/* Gives back the pages of dirty free slabs that the last two periods did not
 * need, at most `punch_max` slabs (some ten microseconds each), and never below
 * `keep` dirty slabs.  Costs nothing when there is nothing to do.  Returns how
 * many were punched: when it equals punch_max, call again soon. */
uint32_t pl__slabs_trim(struct pl_slabs *s, uint32_t keep, uint32_t punch_max);

/* Slabs that may have pages, in use or free. */
static inline uint32_t pl__slabs_dirty(const struct pl_slabs *s) {
  return s->count - s->clean_count;
}

#endif /* PL_FABRIC_SLABS_H */
