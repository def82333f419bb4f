/* base/buf.c - the slow paths: taking, growing and giving back a block. */
#include "base/buf.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/err.h"

#include <stdio.h>

void pl__buf_pool_init(struct pl_buf_pool *pool) {
  *pool = (struct pl_buf_pool){0};
}

void pl__buf_pool_deinit(struct pl_buf_pool *pool) {
  while (pool->free) {
    void *block = pool->free;
    memcpy(&pool->free, block, sizeof pool->free);
    pl__free(block);
  }
  pool->free_count = 0;
}

void *pl__buf_pool_take(struct pl_buf_pool *pool) {
  void *block = pool->free;
  if (!block)
    return pl__alloc(PL_BUF_BLOCK_BYTES);
  memcpy(&pool->free, block, sizeof pool->free);
  pool->free_count--;
  return block;
}

void pl__buf_pool_give(struct pl_buf_pool *pool, void *block) {
  if (pool->free_count >= PL_BUF_POOL_KEEP) {
    pl__free(block);
    return;
  }
  memcpy(block, &pool->free, sizeof pool->free);
  pool->free = block;
  pool->free_count++;
}

void pl__buf_init(struct pl_buf *b, struct pl_buf_pool *pool,
                  uint32_t bytes_max) {
  *b = (struct pl_buf){.pool = pool, .bytes_max = bytes_max};
}

/* A block of the pool is told by its size: a buffer with a pool has no other
 * that is as small. */
static int holds_pool_block(const struct pl_buf *b) {
  return b->at && b->pool && b->cap <= PL_BUF_BLOCK_BYTES;
}

void pl__buf_release(struct pl_buf *b) {
  if (b->at) {
    if (holds_pool_block(b))
      pl__buf_pool_give(b->pool, b->at);
    else
      pl__free(b->at);
  }
  b->at = NULL;
  b->bytes = b->cap = 0;
}

/* The capacity for `need` bytes: doubled from one block on, so that appending
 * stays linear, and never past the maximum. */
static uint32_t cap_for(const struct pl_buf *b, uint32_t need) {
  uint64_t cap = b->pool ? PL_BUF_BLOCK_BYTES : 256;
  while (cap < need)
    cap *= 2;
  return cap < b->bytes_max ? (uint32_t)cap : b->bytes_max;
}

int pl__buf_grow(struct pl_buf *b, uint32_t more) {
  if (more > b->bytes_max - b->bytes)
    return PL_EFULL;
  uint32_t need = b->bytes + more;
  if (b->at && need <= b->cap)
    return 0;
  if (b->pool && !b->at && need <= PL_BUF_BLOCK_BYTES) {
    b->at = pl__buf_pool_take(b->pool);
    if (!b->at)
      return PL_ENOMEM;
    b->cap =
        PL_BUF_BLOCK_BYTES < b->bytes_max ? PL_BUF_BLOCK_BYTES : b->bytes_max;
    return 0;
  }
  uint32_t cap = cap_for(b, need);
  char *at;
  if (holds_pool_block(b)) {
    at = pl__alloc(cap);
    if (!at)
      return PL_ENOMEM;
    memcpy(at, b->at, b->bytes);
    pl__buf_pool_give(b->pool, b->at);
  } else {
    at = pl__realloc(b->at, cap);
    if (!at)
      return PL_ENOMEM;
  }
  b->at = at;
  b->cap = cap;
  return 0;
}

int pl__buf_format(struct pl_buf *b, const char *format, va_list args) {
  char text[PL_BUF_FORMAT_BYTES];
  int n = vsnprintf(text, sizeof text, format, args);

  if (n < 0)
    return PL_EINVAL;
  return pl__buf_append(b, text,
                        (uint32_t)n < sizeof text ? (uint32_t)n
                                                  : (uint32_t)sizeof text - 1);
}

void pl__buf_drop(struct pl_buf *b, uint32_t n) {
  PL_ASSERT(n <= b->bytes);
  b->bytes -= n;
  if (n && b->bytes)
    memmove(b->at, b->at + n, b->bytes);
}
