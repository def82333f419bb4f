/* server/heap_watch.c - see heap_watch.h. */
#include "server/heap_watch.h"

#include "base/alloc.h"
#include "fabric/heap_samples.h"
#include "server/dispatch.h"
#include "server/generation.h"

#define SLICE_EVERY_MS 2 /* while it collects */

static struct pl_vm *vm_of(const struct pl_heap_watch *w) {
  return &w->dispatch->now->vm;
}

/* Each turn of the loop runs a slice; a cycle that was under way when control
 * asked doesn't count, as it may have passed by what is garbage now. */
static void on_timer(uv_timer_t *timer) {
  struct pl_heap_watch *w = timer->data;

  if (w->of == w->dispatch->now && vm_of(w)->counts.cycles < w->cycles_until) {
    pl__vm_begin_cycle(vm_of(w));
    return;
  }
  uv_timer_stop(timer);
  pl__heap_watch_tell(w);
  atomic_store_explicit(&w->heap->done, w->seen, memory_order_release);
}

int pl__heap_watch_open(struct pl_heap_watch *w, struct pl_heap_samples *heap,
                        struct pl_dispatch *dispatch, uv_loop_t *loop) {
  w->heap = heap;
  w->dispatch = dispatch;
  w->timer.data = w;
  w->seen = atomic_load_explicit(&heap->wanted, memory_order_relaxed);
  return uv_timer_init(loop, &w->timer);
}

void pl__heap_watch_look(struct pl_heap_watch *w) {
  uint32_t wanted =
      atomic_load_explicit(&w->heap->wanted, memory_order_acquire);

  if (wanted == w->seen || uv_is_active((uv_handle_t *)&w->timer))
    return;
  w->seen = wanted;
  w->of = w->dispatch->now;
  w->cycles_until = vm_of(w)->counts.cycles + (vm_of(w)->collecting ? 2 : 1);
  pl__vm_begin_cycle(vm_of(w));
  uv_timer_start(&w->timer, on_timer, 0, SLICE_EVERY_MS);
}

static void put(struct pl_heap_watch *w, enum pl_heap_gauge gauge,
                uint64_t bytes) {
  atomic_store_explicit(&w->heap->gauges[gauge], bytes, memory_order_relaxed);
}

void pl__heap_watch_tell(struct pl_heap_watch *w) {
  const struct pl_generation *old = w->dispatch->old;
  const struct pl_vm *now = vm_of(w);
  struct pl_alloc_totals t;

  put(w, PL_HEAP_LUA, now->heap_bytes + (old ? old->vm.heap_bytes : 0));
  put(w, PL_HEAP_CODE,
      (uint64_t)(now->counts.jit.code_bytes +
                 (old ? old->vm.counts.jit.code_bytes : 0)));
  if (!pl__alloc_totals(&t))
    return;
  put(w, PL_HEAP_ALLOCATED, t.allocated);
  put(w, PL_HEAP_ACTIVE, t.active);
  put(w, PL_HEAP_RESIDENT, t.resident);
  put(w, PL_HEAP_MAPPED, t.mapped);
}

void pl__heap_watch_close(struct pl_heap_watch *w) {
  uv_close((uv_handle_t *)&w->timer, NULL);
}
