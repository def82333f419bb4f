/* server/intake.c - spans out of the rings of the workers, into the queue or into
 * nothing.  See outflow.h.
 */
#include "fabric/span.h"
#include "server/outflow.h"

static bool must_arrive(const struct pl_span *s) {
  return (s->kept & (PL_KEPT_ERROR | PL_KEPT_SLOW | PL_KEPT_SHED)) != 0;
}

/* False: it stays in the ring, there is no room for it. */
static bool span_take(struct pl_exporter *e, const void *record,
                      uint32_t bytes) {
  struct pl_outflow *s = &e->signals[PL_SIGNAL_TRACES];
  struct pl_span_view v;

  if (pl__span_read(record, bytes, &v)) {
    pl__outflow_drop(s, PL_EXPORT_UNFIT, 1);
    return true;
  }
  if (must_arrive(&v.span) && pl__backlog_is_stuffed(&e->backlog))
    return false;
  pl__outflow_drop(s, PL_EXPORT_FULL,
                   pl__backlog_push(&e->backlog, pl__slice(record, bytes),
                                    must_arrive(&v.span)));
  return true;
}

/* Nobody wants them: the rings are given free. */
static void spans_skip(struct pl_exporter *e) {
  for (uint32_t i = 0; i < e->args.worker_count; i++) {
    struct pl_ring_reader *r = &e->spans[i];
    pl__ring_reader_init(r, r->ring);
    r->head = r->tail;
    pl__ring_release(r);
  }
}

void pl__intake_take(struct pl_exporter *e) {
  const void *record;
  uint32_t bytes;

  if (!e->signals[PL_SIGNAL_TRACES].is_on) {
    spans_skip(e);
    return;
  }
  for (uint32_t i = 0; i < e->args.worker_count; i++) {
    struct pl_ring_reader *r = &e->spans[i];
    while ((record = pl__ring_peek(r, &bytes)) && span_take(e, record, bytes))
      pl__ring_next(r);
    pl__ring_release(r);
  }
  pl__batch_count_queued(e);
}
