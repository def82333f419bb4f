/* base/buf.h - a growing run of bytes with a maximum.
 *
 * The owner keeps the struct; the bytes come from base/alloc, or from a pool
 * of blocks of PL_BUF_BLOCK_BYTES that a buffer takes its first block from and
 * gives it back to.  A buffer that is empty may hold no block at all.
 * Not thread-safe: a buffer and its pool belong to one worker.
 */
#ifndef PL_BASE_BUF_H
#define PL_BASE_BUF_H

#include "base/slice.h"

#include <stdarg.h>
#include <stddef.h>

#define PL_BUF_BLOCK_BYTES                                                     \
  20480u                      /* a pool's block; no power of two, so that
                                     blocks don't share the same cache sets */
#define PL_BUF_POOL_KEEP 256u /* free blocks a pool keeps; others go back */

struct pl_buf_pool {
  void *free;          /* blocks, linked through their first word */
  uint32_t free_count; /* how many of them */
};

struct pl_buf {
  char *at;                 /* NULL while no block is held */
  uint32_t bytes;           /* filled */
  uint32_t cap;             /* room altogether */
  uint32_t bytes_max;       /* never grows past it */
  struct pl_buf_pool *pool; /* borrowed; NULL: alloc and free only */
};

void pl__buf_pool_init(struct pl_buf_pool *pool);
/* Frees the free blocks. Buffers still held keep theirs. */
void pl__buf_pool_deinit(struct pl_buf_pool *pool);

/* A block of PL_BUF_BLOCK_BYTES, aligned to 16, not cleared: a free one, else
 * a new one; NULL when there is no memory. */
void *pl__buf_pool_take(struct pl_buf_pool *pool);
/* Gives such a block back. */
void pl__buf_pool_give(struct pl_buf_pool *pool, void *block);

/* An empty buffer that holds no block. */
void pl__buf_init(struct pl_buf *b, struct pl_buf_pool *pool,
                  uint32_t bytes_max);
/* Gives the block back; the buffer is empty and can be used again. */
void pl__buf_release(struct pl_buf *b);

/* Makes room for `more` bytes behind those filled (slow path: see below).
 * Returns 0, PL_EFULL past bytes_max, PL_ENOMEM; on failure nothing changed. */
int pl__buf_grow(struct pl_buf *b, uint32_t more);

/* The same, cheap when the room is there. */
static inline int pl__buf_reserve(struct pl_buf *b, uint32_t more) {
  return b->cap - b->bytes >= more && b->at ? 0 : pl__buf_grow(b, more);
}

/* Copies `n` bytes to the end. Returns as pl__buf_reserve. */
static inline int pl__buf_append(struct pl_buf *b, const void *at, uint32_t n) {
  int status = pl__buf_reserve(b, n);
  if (status)
    return status;
  memcpy(b->at + b->bytes, at, n);
  b->bytes += n;
  return 0;
}

/* An empty slice may have no bytes at all. */
static inline int pl__buf_append_slice(struct pl_buf *b, struct pl_slice s) {
  return s.bytes ? pl__buf_append(b, s.at, s.bytes) : 0;
}

#define PL_BUF_FORMAT_BYTES 2048u

/* As vprintf, without the NUL; what is longer than PL_BUF_FORMAT_BYTES is cut.
 * Returns as pl__buf_reserve. */
__attribute__((format(printf, 2, 0))) int
pl__buf_format(struct pl_buf *b, const char *format, va_list args);

/* Drops the first `n` bytes (n <= bytes), moving the rest down. */
void pl__buf_drop(struct pl_buf *b, uint32_t n);

#endif /* PL_BASE_BUF_H */
