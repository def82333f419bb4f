/* server/batch.c - what makes up the next request of each signal, and when it is
 * time for it.  See outflow.h.
 */
#include "base/clock.h"
#include "base/err.h"
#include "log/otlp_logs.h"
#include "log/otlp_spans.h"
#include "perilune.h"
#include "server/figures.h"
#include "server/outflow.h"

#define LOGS_EAGER_BYTES 65536u /* of records: these wait no longer */

/* --- filling -------------------------------------------------------------- */

static struct pl_slice version(void) { return pl__slice_text(pl_version()); }

static struct pl_slice resource_of(const struct pl_exporter *e) {
  return pl__slice(e->resource.at, e->resource.bytes);
}

static void envelope_begin(struct pl_outflow *s, struct pl_otlp *o) {
  s->body.bytes = 0;
  pl__otlp_begin(o, &s->body, resource_of(s->e), version());
}

/* Without memory there is no request. */
static void envelope_end(struct pl_outflow *s, struct pl_otlp *o,
                         uint32_t items) {
  s->items = pl__otlp_end(o) ? 0 : items;
}

void pl__batch_count_queued(struct pl_exporter *e) {
  struct pl_outflow *s = &e->signals[PL_SIGNAL_TRACES];

  pl__exports_set(&s->counts->queued,
                  pl__backlog_count(&e->backlog) + s->items);
}

/* Whether what could not be added is for the next request: there is no memory, or
 * no room beside the others. */
static bool waits(int failed, uint32_t items) {
  return failed == PL_ENOMEM || (failed == PL_EFULL && items > 0);
}

static void fill_traces(struct pl_outflow *s) {
  struct pl_backlog *b = &s->e->backlog;
  struct pl_backlog_item *item;
  struct pl_otlp o;
  uint32_t items = 0;

  envelope_begin(s, &o);
  while (items < pl__exporter_config(s->e)->otlp_batch &&
         (item = pl__backlog_take(b))) {
    int failed = pl__otlp_span(&o, s->e->routes, item->at, item->bytes);
    if (waits(failed, items)) {
      pl__backlog_return(b, item);
      break;
    }
    if (failed)
      pl__outflow_drop(s, PL_EXPORT_UNFIT, 1);
    else
      items++;
    pl__backlog_free(item);
  }
  envelope_end(s, &o, items);
  if (items && !s->items)
    pl__outflow_drop(s, PL_EXPORT_UNFIT, items);
  pl__batch_count_queued(s->e);
}

static void fill_logs(struct pl_outflow *s) {
  struct pl_ring_reader *r = &s->e->logs;
  struct pl_otlp o;
  const void *record;
  uint32_t bytes, items = 0;

  envelope_begin(s, &o);
  while (items < pl__exporter_config(s->e)->otlp_batch &&
         (record = pl__ring_peek(r, &bytes))) {
    int failed = pl__otlp_log(&o, s->e->routes, record, bytes);
    if (waits(failed, items))
      break;
    if (failed)
      pl__outflow_drop(s, PL_EXPORT_UNFIT, 1);
    else
      items++;
    pl__ring_next(r);
  }
  envelope_end(s, &o, items);
  if (!s->items && items)
    pl__ring_rewind(r);
  else if (!items)
    pl__ring_release(r);
}

/* The requests that the metrics have become, one after the other. */
static bool metrics_next(struct pl_outflow *s) {
  struct pl_otlp_metrics *m = &s->e->metrics;

  s->items = s->e->part < m->part_count ? m->parts[s->e->part].points : 0;
  return s->items != 0;
}

static void fill_metrics(struct pl_outflow *s) {
  struct pl_exporter *e = s->e;

  s->body.bytes = 0;
  e->part = 0;
  e->metrics_ms =
      uv_now(&e->uv) +
      pl__outflow_ms(pl__exporter_config(e)->otlp_metrics_interval_s);
  e->has_last = e->is_ending;
  pl__otlp_metrics_begin(&e->metrics, &s->body, resource_of(e), version(),
                         e->exports->start_ns, pl__clock_realtime_ns());
  if (pl__figures_export(e->args.fabric, &e->metrics) ||
      pl__otlp_metrics_end(&e->metrics))
    pl__outflow_drop(s, PL_EXPORT_UNFIT, 1);
  metrics_next(s);
}

/* --- when ----------------------------------------------------------------- */

/* Whether what waits has waited for others long enough. */
static bool has_waited(struct pl_outflow *s, bool is_something) {
  uint64_t now = uv_now(&s->e->uv);

  if (!is_something)
    s->since_ms = 0;
  else if (!s->since_ms)
    s->since_ms = now;
  return is_something &&
         (s->e->is_ending ||
          now - s->since_ms >=
              pl__outflow_ms(pl__exporter_config(s->e)->otlp_delay_s));
}

static bool traces_due(struct pl_outflow *s) {
  uint32_t count = pl__backlog_count(&s->e->backlog);

  return has_waited(s, count > 0) ||
         count >= pl__exporter_config(s->e)->otlp_batch;
}

static bool logs_due(struct pl_outflow *s) {
  uint64_t bytes = pl__ring_fill(s->e->logs.ring);

  return has_waited(s, bytes > 0) || bytes >= LOGS_EAGER_BYTES;
}

static bool metrics_due(struct pl_outflow *s) {
  return s->e->is_ending ? !s->e->has_last
                         : uv_now(&s->e->uv) >= s->e->metrics_ms;
}

static const struct {
  bool (*is_due)(struct pl_outflow *s);
  void (*fill)(struct pl_outflow *s);
} ways[PL_SIGNALS] = {
    {traces_due, fill_traces},
    {metrics_due, fill_metrics},
    {logs_due, fill_logs},
};

bool pl__batch_is_due(struct pl_outflow *s) { return ways[s->what].is_due(s); }

void pl__batch_fill(struct pl_outflow *s) {
  ways[s->what].fill(s);
  s->since_ms = 0;
}

/* --- its way --------------------------------------------------------------- */

struct pl_slice pl__batch_request(const struct pl_outflow *s) {
  const struct pl_otlp_metrics *m = &s->e->metrics;
  uint32_t from = 0, end = s->body.bytes;

  if (s->what == PL_SIGNAL_METRICS) {
    from = s->e->part ? m->parts[s->e->part - 1].end : 0;
    end = m->parts[s->e->part].end;
  }
  return pl__slice(s->body.at + from, end - from);
}

void pl__batch_leave(struct pl_outflow *s) {
  s->items = s->tries = 0;
  if (s->what == PL_SIGNAL_LOGS) {
    pl__ring_release(&s->e->logs);
  } else if (s->what == PL_SIGNAL_METRICS) {
    s->e->part++;
    metrics_next(s);
  } else {
    pl__batch_count_queued(s->e);
  }
}
