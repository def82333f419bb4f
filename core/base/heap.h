/* base/heap.h - a priority queue by time: who is due first.
 *
 * A 4-ary heap of pointers to nodes that lie in their owners' structs.  Each
 * node knows its place, so one that is no longer wanted is removed in
 * O(log n).  Nodes with the same time come out in no given order.  Knows no
 * clock: `due` is whatever number the owner counts in.  One worker's own.
 */
#ifndef PL_BASE_HEAP_H
#define PL_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PL_HEAP_OUT UINT32_MAX /* index of a node that is in no heap */

struct pl_heap_node {
  double due;     /* set by push and move; not a NaN */
  uint32_t index; /* place in the heap, or PL_HEAP_OUT */
};

struct pl_heap {
  struct pl_heap_node **nodes; /* from base/alloc; NULL at first */
  uint32_t count;
  uint32_t cap;
  uint32_t count_max; /* never holds more */
};

/* An empty heap; nothing is allocated before the first push. */
void pl__heap_init(struct pl_heap *h, uint32_t count_max);
/* Frees the array.  The nodes are their owners', and now in no heap. */
void pl__heap_deinit(struct pl_heap *h);

/* Makes `n` a node that is in no heap. */
static inline void pl__heap_node_init(struct pl_heap_node *n) {
  n->due = 0;
  n->index = PL_HEAP_OUT;
}

static inline bool pl__heap_node_is_in(const struct pl_heap_node *n) {
  return n->index != PL_HEAP_OUT;
}

/* Makes room for `count` nodes, so that pushing that many cannot fail.
 * Returns 0, PL_EFULL past count_max, PL_ENOMEM. */
int pl__heap_reserve(struct pl_heap *h, uint32_t count);

/* Puts `n`, which is in no heap (asserted), in.  It must stay where it is
 * until it is out.  Returns 0, PL_EFULL past count_max, PL_ENOMEM; on failure
 * nothing changed. */
int pl__heap_push(struct pl_heap *h, struct pl_heap_node *n, double due);

/* Takes `n` out; nothing happens when it is in no heap. */
void pl__heap_remove(struct pl_heap *h, struct pl_heap_node *n);

/* The node that is due first, still in; NULL when there is none. */
static inline struct pl_heap_node *pl__heap_first(const struct pl_heap *h) {
  return h->count ? h->nodes[0] : NULL;
}

/* Takes out the first node if it is due at `now` or before; else NULL. */
struct pl_heap_node *pl__heap_take_due(struct pl_heap *h, double now);

#endif /* PL_BASE_HEAP_H */
