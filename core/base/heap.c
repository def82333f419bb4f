/* base/heap.c - sifting a 4-ary heap whose nodes know their places. */
#include "base/heap.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/err.h"

/* Four children a node: half the levels of a binary heap, and the children of
 * one node share a cache line of pointers. */
#define CHILD_COUNT 4u
#define CAP_FIRST 64u

void pl__heap_init(struct pl_heap *h, uint32_t count_max) {
  *h = (struct pl_heap){.count_max = count_max};
}

void pl__heap_deinit(struct pl_heap *h) {
  for (uint32_t i = 0; i < h->count; i++)
    h->nodes[i]->index = PL_HEAP_OUT;
  pl__free(h->nodes);
  h->nodes = NULL;
  h->count = h->cap = 0;
}

int pl__heap_reserve(struct pl_heap *h, uint32_t count) {
  if (count > h->count_max)
    return PL_EFULL;
  if (count <= h->cap)
    return 0;
  uint64_t cap = h->cap ? h->cap : CAP_FIRST;
  while (cap < count)
    cap *= 2;
  if (cap > h->count_max)
    cap = h->count_max;
  void *nodes = pl__realloc(h->nodes, (size_t)cap * sizeof *h->nodes);
  if (!nodes)
    return PL_ENOMEM;
  h->nodes = nodes;
  h->cap = (uint32_t)cap;
  return 0;
}

static void put(struct pl_heap *h, uint32_t i, struct pl_heap_node *n) {
  h->nodes[i] = n;
  n->index = i;
}

/* Moves `n` from place `i` towards the root until its parent is due before. */
static void sift_up(struct pl_heap *h, uint32_t i, struct pl_heap_node *n) {
  while (i > 0) {
    uint32_t parent = (i - 1) / CHILD_COUNT;
    if (h->nodes[parent]->due <= n->due)
      break;
    put(h, i, h->nodes[parent]);
    i = parent;
  }
  put(h, i, n);
}

/* The child of `i` that is due first, or `count` when there is none. */
static uint32_t first_child(const struct pl_heap *h, uint32_t i) {
  uint64_t child = (uint64_t)i * CHILD_COUNT + 1;
  if (child >= h->count)
    return h->count;
  uint32_t best = (uint32_t)child;
  uint64_t end =
      child + CHILD_COUNT < h->count ? child + CHILD_COUNT : h->count;
  for (uint32_t c = best + 1; c < end; c++)
    if (h->nodes[c]->due < h->nodes[best]->due)
      best = c;
  return best;
}

static void sift_down(struct pl_heap *h, uint32_t i, struct pl_heap_node *n) {
  for (;;) {
    uint32_t child = first_child(h, i);
    if (child == h->count || n->due <= h->nodes[child]->due)
      break;
    put(h, i, h->nodes[child]);
    i = child;
  }
  put(h, i, n);
}

int pl__heap_push(struct pl_heap *h, struct pl_heap_node *n, double due) {
  PL_ASSERT(n->index == PL_HEAP_OUT);
  PL_ASSERT(due == due);
  if (h->count == h->cap || h->count >= h->count_max) {
    int status =
        h->count >= h->count_max ? PL_EFULL : pl__heap_reserve(h, h->count + 1);
    if (status)
      return status;
  }
  n->due = due;
  sift_up(h, h->count++, n);
  return 0;
}

/* Puts `n` in at place `i`, wherever its time belongs from there. */
static void place(struct pl_heap *h, uint32_t i, struct pl_heap_node *n) {
  if (i > 0 && n->due < h->nodes[(i - 1) / CHILD_COUNT]->due)
    sift_up(h, i, n);
  else
    sift_down(h, i, n);
}

void pl__heap_remove(struct pl_heap *h, struct pl_heap_node *n) {
  uint32_t i = n->index;
  if (i == PL_HEAP_OUT)
    return;
  PL_ASSERT(i < h->count && h->nodes[i] == n);
  n->index = PL_HEAP_OUT;
  struct pl_heap_node *last = h->nodes[--h->count];
  if (last != n)
    place(h, i, last);
}

struct pl_heap_node *pl__heap_take_due(struct pl_heap *h, double now) {
  struct pl_heap_node *n = pl__heap_first(h);
  if (!n || n->due > now)
    return NULL;
  pl__heap_remove(h, n);
  return n;
}
