/* base/alloc.h - all memory from the heap comes from here.
 *
 * Blocks come from jemalloc, or from libc where PL_ALLOC_LIBC is defined (the
 * sanitizers want to see every block).  Every function may be called from any
 * thread.  Nothing here ends the process: no memory is NULL.
 *
 * Two things are counted for tests and figures: allocations of this thread,
 * and a countdown after which allocations fail, for the sweeps that make the
 * first, second, n-th one fail.
 */
#ifndef PL_BASE_ALLOC_H
#define PL_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A block of `bytes` (0 counts as 1), aligned to 16, not cleared; NULL when
 * there is no memory.  It is freed with pl__free. */
void *pl__alloc(size_t bytes);

/* The same, all zero. */
void *pl__alloc_zero(size_t bytes);

/* Makes the block `p` (NULL: a new one) `bytes` long (0 counts as 1); it may
 * move.  Returns NULL when there is no memory: `p` is then as it was. */
void *pl__realloc(void *p, size_t bytes);

/* Gives a block back; NULL is nothing. */
void pl__free(void *p);

/* A lua_Alloc without its first argument.  `old_bytes` is the exact size that
 * `p` was asked with; `new_bytes` 0 frees and returns NULL. */
void *pl__alloc_lua(void *p, size_t old_bytes, size_t new_bytes);

/* Gives pages back that nothing has used for some seconds.  jemalloc does so
 * beside calls of its own only: a process that falls idle after a burst would
 * keep them.  Costs a few microseconds; meant for once a second. */
void pl__alloc_trim(void);

/* Of this process's heap, in bytes. */
struct pl_alloc_totals {
  uint64_t allocated; /* asked for and not freed */
  uint64_t active;    /* in pages that hold any of that */
  uint64_t resident;  /* in memory */
  uint64_t mapped;    /* of addresses */
};

/* Asks the allocator.  False where it doesn't tell (libc).  Costs some
 * microseconds; meant for once a second. */
bool pl__alloc_totals(struct pl_alloc_totals *out);

/* Blocks made or moved so far by this thread, those of pl__alloc_lua aside. */
uint64_t pl__alloc_count(void);

/* Blocks made or resized so far by this thread through pl__alloc_lua. */
uint64_t pl__alloc_lua_count(void);

/* Test seam: the `n`-th allocation from now (1 is the next one), in whichever
 * thread of the process, fails, and with `for_good` all later ones too.
 * Growing and new blocks of Lua count as well; shrinking one never fails, as
 * Lua relies on that.  n = 0 switches it off.  For one thread to set. */
void pl__alloc_fail_after(uint64_t n, bool for_good);

/* How many allocations have failed through the seam since it was set. */
uint64_t pl__alloc_fail_count(void);

/* Where blocks come from, with its version if known: "jemalloc 5.3.0", "libc".
 * Constant. */
const char *pl__alloc_version(void);

#endif /* PL_BASE_ALLOC_H */
