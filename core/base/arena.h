/* base/arena.h - memory that is taken piece by piece and given back at once.
 *
 * Pieces come from blocks of a buffer pool; one that is too large for a block
 * gets an allocation of its own.  Made for what one request makes: the first
 * block can stay for the next request.  Belongs to one worker, as its pool.
 */
#ifndef PL_BASE_ARENA_H
#define PL_BASE_ARENA_H

#include "base/buf.h"

#include <stdbool.h>

struct pl_arena_block;

struct pl_arena {
  char *at;                     /* next free byte of the newest block */
  char *end;                    /* behind its last byte */
  struct pl_arena_block *first; /* newest block; NULL when none is held */
  struct pl_arena_block *large; /* pieces with an allocation of their own */
  uint32_t bytes;               /* held altogether, heads included */
  uint32_t bytes_max;           /* never holds more */
  struct pl_buf_pool *pool;     /* borrowed; NULL: blocks from base/alloc */
};

/* An arena that holds nothing.  With bytes_max < PL_BUF_BLOCK_BYTES, pieces
 * come from allocations of their own only. */
void pl__arena_init(struct pl_arena *a, struct pl_buf_pool *pool,
                    uint32_t bytes_max);

/* A piece of `bytes`, aligned to `align` (a power of two, at most 16), not
 * cleared.  It is valid until the arena is reset.  Returns NULL past bytes_max
 * or when there is no memory; the arena is then as it was. */
void *pl__arena_take(struct pl_arena *a, uint32_t bytes, uint32_t align);

/* Gives back all pieces, and all blocks but, with `keep_block`, one of the
 * pool's size.  The arena can be used again. */
void pl__arena_reset(struct pl_arena *a, bool keep_block);

#endif /* PL_BASE_ARENA_H */
