/* base/arena.c - the blocks behind the pieces. */
#include "base/arena.h"

#include "base/alloc.h"
#include "base/check.h"

/* The head of a block; 16 bytes, so that what follows is aligned. */
struct pl_arena_block {
  struct pl_arena_block *next;
  uint32_t bytes; /* with this head */
  uint32_t zero;
};

_Static_assert(sizeof(struct pl_arena_block) == 16, "pieces are aligned to 16");

#define HEAD_BYTES ((uint32_t)sizeof(struct pl_arena_block))

void pl__arena_init(struct pl_arena *a, struct pl_buf_pool *pool,
                    uint32_t bytes_max) {
  *a = (struct pl_arena){.pool = pool, .bytes_max = bytes_max};
}

/* A block of `bytes` whose head is filled in, counted; NULL past the limit. */
static struct pl_arena_block *take_block(struct pl_arena *a, uint32_t bytes,
                                         bool from_pool) {
  if (bytes > a->bytes_max - a->bytes)
    return NULL;
  struct pl_arena_block *b =
      from_pool && a->pool ? pl__buf_pool_take(a->pool) : pl__alloc(bytes);
  if (!b)
    return NULL;
  *b = (struct pl_arena_block){.bytes = bytes};
  a->bytes += bytes;
  return b;
}

/* A piece that has an allocation to itself. */
static void *take_large(struct pl_arena *a, uint32_t bytes) {
  if (bytes > UINT32_MAX - HEAD_BYTES)
    return NULL;
  struct pl_arena_block *b = take_block(a, HEAD_BYTES + bytes, false);
  if (!b)
    return NULL;
  b->next = a->large;
  a->large = b;
  return (char *)b + HEAD_BYTES;
}

void *pl__arena_take(struct pl_arena *a, uint32_t bytes, uint32_t align) {
  PL_ASSERT(align && align <= 16 && (align & (align - 1)) == 0);
  uintptr_t at = ((uintptr_t)a->at + align - 1) & ~(uintptr_t)(align - 1);
  if (a->at && at <= (uintptr_t)a->end && bytes <= (uintptr_t)a->end - at) {
    char *piece = a->at + (at - (uintptr_t)a->at);
    a->at = piece + bytes;
    return piece;
  }
  /* A quarter of a block: what is left in the current one is then still worth
   * keeping for the small pieces to come. */
  if (bytes > PL_BUF_BLOCK_BYTES / 4)
    return take_large(a, bytes);
  struct pl_arena_block *b = take_block(a, PL_BUF_BLOCK_BYTES, true);
  if (!b)
    return take_large(a, bytes); /* a little may still fit */
  b->next = a->first;
  a->first = b;
  char *piece = (char *)b + HEAD_BYTES;
  a->at = piece + bytes;
  a->end = (char *)b + PL_BUF_BLOCK_BYTES;
  return piece;
}

static void give_block(struct pl_arena *a, struct pl_arena_block *b) {
  if (a->pool)
    pl__buf_pool_give(a->pool, b);
  else
    pl__free(b);
}

void pl__arena_reset(struct pl_arena *a, bool keep_block) {
  while (a->large) {
    struct pl_arena_block *b = a->large;
    a->large = b->next;
    pl__free(b);
  }
  struct pl_arena_block *kept = keep_block ? a->first : NULL;
  struct pl_arena_block *b = kept ? kept->next : a->first;
  while (b) {
    struct pl_arena_block *next = b->next;
    give_block(a, b);
    b = next;
  }
  a->first = kept;
  a->at = a->end = NULL;
  a->bytes = 0;
  if (kept) {
    kept->next = NULL;
    a->bytes = PL_BUF_BLOCK_BYTES;
    a->at = (char *)kept + HEAD_BYTES;
    a->end = (char *)kept + PL_BUF_BLOCK_BYTES;
  }
}
