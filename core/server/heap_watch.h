/* server/heap_watch.h - a worker's half of heap profiles, beside samples.
 *
 * Says in the fabric what the process's heap takes, and collects all garbage
 * when control asks (fabric/heap_samples.h), in slices between requests: a
 * timer wakes the loop until a whole cycle has gone by.  On the worker's loop.
 */
#ifndef PL_SERVER_HEAP_WATCH_H
#define PL_SERVER_HEAP_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct pl_dispatch;
struct pl_generation;
struct pl_heap_samples;

struct pl_heap_watch {
  struct pl_heap_samples *heap;
  struct pl_dispatch *dispatch; /* borrowed */
  uv_timer_t timer;             /* runs while it collects */
  uint32_t seen;                /* what control wanted last */
  uint64_t cycles_until;
  const struct pl_generation *of; /* whose cycles these are */
};

/* 0 or a UV_E*. */
int pl__heap_watch_open(struct pl_heap_watch *w, struct pl_heap_samples *heap,
                        struct pl_dispatch *dispatch, uv_loop_t *loop);
/* With each beat: looks whether control wants anything. */
void pl__heap_watch_look(struct pl_heap_watch *w);
/* For once a second: says what the heap takes. */
void pl__heap_watch_tell(struct pl_heap_watch *w);
/* Before the loop is closed. */
void pl__heap_watch_close(struct pl_heap_watch *w);

#endif /* PL_SERVER_HEAP_WATCH_H */
