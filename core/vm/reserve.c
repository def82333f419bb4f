/* vm/reserve.c - a bump allocator behind base/alloc. */
#include "vm/reserve.h"

#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#define ALIGN_BYTES 16

int pl__reserve_open(struct pl_reserve *r) {
  r->used = 0;
  r->open = true;
  r->at = pl__alloc(PL_RESERVE_BYTES);
  return r->at ? 0 : PL_ENOMEM;
}

void pl__reserve_shut(struct pl_reserve *r) {
  r->open = false;
  if (r->used == 0)
    pl__reserve_close(r);
}

void pl__reserve_close(struct pl_reserve *r) {
  pl__free(r->at);
  r->at = NULL;
  r->open = false;
}

static bool lies_in(const struct pl_reserve *r, const char *p) {
  return r->at && p >= r->at && p < r->at + PL_RESERVE_BYTES;
}

static void *reserve_take(struct pl_reserve *r, size_t bytes) {
  char *p = r->at + r->used;

  bytes = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
  if (!r->open || bytes > PL_RESERVE_BYTES - r->used)
    return NULL;
  r->used += bytes;
  return p;
}

static void *copy(void *to, const void *from, size_t old_bytes,
                  size_t new_bytes) {
  if (to && from)
    memcpy(to, from, old_bytes < new_bytes ? old_bytes : new_bytes);
  return to;
}

void *pl__reserve_alloc(struct pl_reserve *r, void *p, size_t old_bytes,
                        size_t new_bytes) {
  void *moved;

  if (p && lies_in(r, p)) {
    if (new_bytes <= old_bytes) /* shrinking must not fail */
      return new_bytes ? p : NULL;
    moved = pl__alloc_lua(NULL, 0, new_bytes);
    if (!moved)
      moved = reserve_take(r, new_bytes);
    return copy(moved, p, old_bytes, new_bytes);
  }
  moved = pl__alloc_lua(p, old_bytes, new_bytes);
  if (moved || new_bytes == 0)
    return moved;
  moved = copy(reserve_take(r, new_bytes), p, old_bytes, new_bytes);
  if (moved)
    pl__alloc_lua(p, old_bytes, 0);
  return moved;
}
