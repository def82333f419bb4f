/* fabric/quarantine.c - a short list in shared memory: few routes are in it,
 * mostly none, so it is searched from end to end.
 *
 * Who moves the time of an entry that is over is the probe: one
 * compare-and-swap elects it, be it the first one or the successor of one that
 * has not come back.
 * A worker may look at an entry while the master frees it and uses it for
 * another route: the request that is refused then could as well have come a
 * moment earlier.
 */
#include "fabric/quarantine.h"

#include "base/clock.h"

#include <stddef.h>

#define PROBE_NS ((int64_t)PL_QUARANTINE_PROBE_S * PL_NS_PER_S)

enum state { REFUSED, PROBING, LIFTED };

static struct pl_quarantine_entry *find(struct pl_quarantine *q,
                                        uint32_t route) {
  if (route == UINT32_MAX) /* no route */
    return NULL;
  for (uint32_t i = 0; i < PL_QUARANTINE_ROUTES_MAX; i++)
    if (atomic_load_explicit(&q->at[i].route, memory_order_acquire) ==
        route + 1)
      return &q->at[i];
  return NULL;
}

static void entry_free(struct pl_quarantine *q, struct pl_quarantine_entry *e) {
  atomic_store_explicit(&e->route, 0, memory_order_release);
  atomic_fetch_sub_explicit(&q->count, 1, memory_order_release);
}

static struct pl_quarantine_entry *find_room(struct pl_quarantine *q) {
  for (uint32_t i = 0; i < PL_QUARANTINE_ROUTES_MAX; i++)
    if (atomic_load_explicit(&q->at[i].route, memory_order_relaxed) == 0)
      return &q->at[i];
  return NULL;
}

void pl__quarantine_clear(struct pl_quarantine *q) {
  for (uint32_t i = 0; i < PL_QUARANTINE_ROUTES_MAX; i++)
    if (atomic_load_explicit(&q->at[i].route, memory_order_relaxed))
      entry_free(q, &q->at[i]);
}

bool pl__quarantine_add(struct pl_quarantine *q, uint32_t route,
                        int64_t until_ns) {
  struct pl_quarantine_entry *e = find(q, route);
  bool is_new = e == NULL;

  if (is_new)
    e = find_room(q);
  if (!e || route == UINT32_MAX)
    return false;
  /* The time first: who sees REFUSED also sees how long. */
  atomic_store(&e->until_ns, until_ns);
  atomic_store(&e->state, REFUSED);
  if (is_new) {
    atomic_store_explicit(&e->route, route + 1, memory_order_release);
    atomic_fetch_add_explicit(&q->count, 1, memory_order_release);
  }
  return true;
}

void pl__quarantine_retry(struct pl_quarantine *q, uint32_t route) {
  struct pl_quarantine_entry *e = find(q, route);
  uint32_t state = PROBING;

  if (e && atomic_compare_exchange_strong(&e->state, &state, REFUSED))
    atomic_store(&e->until_ns, 0);
}

bool pl__quarantine_take(struct pl_quarantine *q, uint32_t *route) {
  for (uint32_t i = 0; i < PL_QUARANTINE_ROUTES_MAX; i++) {
    struct pl_quarantine_entry *e = &q->at[i];
    uint32_t held = atomic_load_explicit(&e->route, memory_order_relaxed);

    if (held == 0 || atomic_load(&e->state) != LIFTED)
      continue;
    *route = held - 1;
    entry_free(q, e);
    return true;
  }
  return false;
}

enum pl_quarantine_outcome
pl__quarantine_admit(struct pl_quarantine *q, uint32_t route, int64_t now_ns) {
  struct pl_quarantine_entry *e = find(q, route);
  uint32_t state = REFUSED;
  int64_t until_ns;

  if (!e || atomic_load(&e->state) == LIFTED)
    return PL_QUARANTINE_FREE;
  until_ns = atomic_load(&e->until_ns);
  if (now_ns < until_ns || !atomic_compare_exchange_strong(
                               &e->until_ns, &until_ns, now_ns + PROBE_NS))
    return PL_QUARANTINE_REFUSED;
  atomic_compare_exchange_strong(&e->state, &state, PROBING);
  return PL_QUARANTINE_PROBE;
}

void pl__quarantine_lift(struct pl_quarantine *q, uint32_t route) {
  struct pl_quarantine_entry *e = find(q, route);
  uint32_t state = PROBING;

  if (e)
    atomic_compare_exchange_strong(&e->state, &state, LIFTED);
}

uint32_t pl__quarantine_left_s(struct pl_quarantine *q, uint32_t route,
                               int64_t now_ns) {
  struct pl_quarantine_entry *e = find(q, route);
  int64_t left_ns;

  if (!e || atomic_load(&e->state) != REFUSED) /* a probe takes a moment */
    return 1;
  left_ns = atomic_load(&e->until_ns) - now_ns;
  return left_ns <= PL_NS_PER_S
             ? 1
             : (uint32_t)((left_ns + PL_NS_PER_S - 1) / PL_NS_PER_S);
}
