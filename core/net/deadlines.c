/* net/deadlines.c - see deadlines.h. */
#include "net/deadlines.h"

void pl__deadlines_init(struct pl_deadlines *all,
                        const double seconds[PL_DEADLINE_COUNT]) {
  for (int kind = 0; kind < PL_DEADLINE_COUNT; kind++) {
    pl__list_init(&all->queue[kind]);
    all->seconds[kind] = seconds[kind];
  }
}

void pl__deadlines_set(struct pl_deadlines *all,
                       const double seconds[PL_DEADLINE_COUNT], double now) {
  for (int kind = 0; kind < PL_DEADLINE_COUNT; kind++) {
    double last = now + seconds[kind];
    struct pl_list *link, *after;

    all->seconds[kind] = seconds[kind];
    if (seconds[kind] <= 0)
      continue;
    PL_LIST_EACH(link, after, &all->queue[kind]) {
      struct pl_deadline *d = PL_LIST_ENTRY(link, struct pl_deadline, link);
      if (d->due > last)
        d->due = last; /* the queue stays in order */
    }
  }
}

void pl__deadline_arm(struct pl_deadlines *all, struct pl_deadline *d,
                      enum pl_deadline_kind kind, double now) {
  pl__deadline_disarm(d);
  if (all->seconds[kind] <= 0)
    return;
  d->kind = kind;
  d->due = now + all->seconds[kind];
  d->armed = true;
  pl__list_push_back(&all->queue[kind], &d->link);
}

void pl__deadline_disarm(struct pl_deadline *d) {
  if (!d->armed)
    return;
  d->armed = false;
  pl__list_remove(&d->link);
}

/* Runs for those of a kind that are due until `last`. */
static void expire(struct pl_list *queue, double last, pl__deadline_fn on_due) {
  while (!pl__list_is_empty(queue)) {
    struct pl_deadline *d =
        PL_LIST_ENTRY(queue->next, struct pl_deadline, link);
    if (d->due > last)
      return;
    pl__deadline_disarm(d);
    on_due(d, (enum pl_deadline_kind)d->kind);
  }
}

void pl__deadlines_expire(struct pl_deadlines *all, double now,
                          pl__deadline_fn on_due) {
  for (int kind = 0; kind < PL_DEADLINE_COUNT; kind++)
    expire(&all->queue[kind], now, on_due);
}

void pl__deadlines_hurry(struct pl_deadlines *all, enum pl_deadline_kind kind,
                         double now, double after, pl__deadline_fn on_due) {
  if (after < all->seconds[kind])
    expire(&all->queue[kind], now + all->seconds[kind] - after, on_due);
}

bool pl__deadlines_empty(const struct pl_deadlines *all) {
  for (int kind = 0; kind < PL_DEADLINE_COUNT; kind++)
    if (!pl__list_is_empty(&all->queue[kind]))
      return false;
  return true;
}
