/* fabric/tracing.c - see tracing.h. */
#include "fabric/tracing.h"

#include "base/clock.h"

#define BURST_NS (100 * (int64_t)PL_NS_PER_MS)

bool pl__tracing_take(struct pl_tracing *t, int64_t now_ns) {
  uint32_t rate = atomic_load_explicit(&t->per_second, memory_order_relaxed);
  int64_t due = atomic_load_explicit(&t->due_ns, memory_order_relaxed), next;

  if (rate == 0)
    return false;
  if (due > now_ns + 2 * (int64_t)PL_NS_PER_S) /* a process has gone wild */
    atomic_store_explicit(&t->due_ns, due = now_ns, memory_order_relaxed);
  do {
    if (due > now_ns + BURST_NS)
      return false;
    next = (due > now_ns ? due : now_ns) + (int64_t)PL_NS_PER_S / rate;
  } while (!atomic_compare_exchange_weak_explicit(
      &t->due_ns, &due, next, memory_order_relaxed, memory_order_relaxed));
  return true;
}
