/* server/blame.c - see blame.h. */
#include "server/blame.h"

#include <string.h>

#include "base/clock.h"
#include "fabric/flights.h"
#include "fabric/quarantine.h"

#define WINDOW_NS ((int64_t)PL_BLAME_WINDOW_S * PL_NS_PER_S)

void pl__blame_init(struct pl_blame *b, struct pl_quarantine *quarantines,
                    double quarantine_s) {
  memset(b, 0, sizeof *b);
  b->quarantines = quarantines;
  b->quarantine_ns = (int64_t)(quarantine_s * PL_NS_PER_S);
}

/* When it killed last; a row without kills comes before all others. */
static int64_t latest_ns(const struct pl_blame_row *row) {
  return row->count ? row->at_ns[row->count - 1] : INT64_MIN;
}

static struct pl_quarantine *quarantine_of(struct pl_blame *b,
                                           const struct pl_flight *e) {
  return pl__quarantine_of(
      b->quarantines,
      atomic_load_explicit(&e->generation, memory_order_relaxed));
}

/* The row of a route, or the one that can best be forgotten, emptied. */
static struct pl_blame_row *row_for(struct pl_blame *b, uint32_t generation,
                                    uint32_t route) {
  struct pl_blame_row *oldest = &b->rows[0];

  for (uint32_t i = 0; i < PL_BLAME_ROUTES_MAX; i++) {
    struct pl_blame_row *row = &b->rows[i];
    if (row->count && row->route == route && row->generation == generation)
      return row;
    if (latest_ns(row) < latest_ns(oldest))
      oldest = row;
  }
  *oldest = (struct pl_blame_row){.generation = generation, .route = route};
  return oldest;
}

/* True: that was one too many; the count begins anew. */
static bool note_kill(struct pl_blame *b, uint32_t generation, uint32_t route,
                      int64_t now_ns) {
  struct pl_blame_row *row = row_for(b, generation, route);

  if (row->count == PL_BLAME_KILLS) {
    row->count--;
    memmove(&row->at_ns[0], &row->at_ns[1], row->count * sizeof row->at_ns[0]);
  }
  row->at_ns[row->count++] = now_ns;
  if (row->count < PL_BLAME_KILLS || now_ns - row->at_ns[0] > WINDOW_NS)
    return false;
  row->count = 0;
  return true;
}

static bool is_probe(const struct pl_flight *e) {
  return e && atomic_load_explicit(&e->is_probe, memory_order_relaxed);
}

/* Probes that went down with the worker for no fault of theirs. */
static void retry_others(struct pl_blame *b, const struct pl_casualty *c,
                         uint32_t blamed) {
  const struct pl_flight *e;
  uint32_t slot = 0;

  while ((e = pl__casualty_next(c, &slot))) {
    uint32_t route = atomic_load_explicit(&e->route, memory_order_relaxed);
    if (is_probe(e) && route != blamed)
      pl__quarantine_retry(quarantine_of(b, e), route);
  }
}

uint32_t pl__blame_death(struct pl_blame *b, const struct pl_casualty *c) {
  const struct pl_flight *e = pl__casualty_running(c);
  uint32_t blamed = pl__casualty_blamed(c), generation;

  if (b->quarantine_ns <= 0)
    return PL_RECORD_NO_ROUTE;
  retry_others(b, c, blamed);
  if (blamed == PL_RECORD_NO_ROUTE)
    return PL_RECORD_NO_ROUTE;
  generation = atomic_load_explicit(&e->generation, memory_order_relaxed);
  if (!(note_kill(b, generation, blamed, c->now_ns) || is_probe(e)) ||
      !pl__quarantine_add(quarantine_of(b, e), blamed,
                          c->now_ns + b->quarantine_ns))
    return PL_RECORD_NO_ROUTE;
  return blamed;
}
