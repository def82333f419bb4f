/* server/figures.c - see figures.h. */
#include "server/figures.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "fabric/exports.h"
#include "fabric/heap_samples.h"
#include "fabric/map.h"
#include "fabric/names.h"
#include "fabric/record.h"
#include "fabric/ring.h"
#include "fabric/span.h"
#include "fabric/tracing.h"
#include "perilune.h"
#include "server/layout.h"
#include "server/leaks.h"
#include "server/spans.h"

#define LABELS_BYTES 128

struct figures {
  const struct pl_fabric *fabric;
  struct pl_exposition exposition;
  struct pl_metrics metrics;
  uint32_t worker_count;
};

/* --- workers ---------------------------------------------------------------- */

enum of_beat { CONNECTIONS, IN_FLIGHT };

static double of_beat(const struct pl_beat *b, enum of_beat what) {
  return what == CONNECTIONS
             ? atomic_load_explicit(&b->connection_count, memory_order_relaxed)
             : atomic_load_explicit(&b->request_count, memory_order_relaxed);
}

static bool is_alive(const struct figures *f, uint32_t worker) {
  return pl__shard_life(&f->metrics.shards[worker]) == PL_SHARD_LIVE;
}

static void put_beats(struct figures *f, const char *name, const char *help,
                      enum of_beat what) {
  char labels[LABELS_BYTES];
  struct pl_beat *b;

  pl__exposition_head(&f->exposition, name, help, PL_METRIC_GAUGE);
  for (uint32_t i = 0; i < f->worker_count; i++) {
    if (!is_alive(f, i) || pl__layout_beat(f->fabric, i, &b))
      continue;
    snprintf(labels, sizeof labels, "worker=\"%u\"", i);
    pl__exposition_sample(&f->exposition, labels, of_beat(b, what));
  }
}

static void put_workers(struct figures *f) {
  uint32_t count = 0;

  for (uint32_t i = 0; i < f->worker_count; i++)
    count += is_alive(f, i);
  pl__exposition_head(&f->exposition, "perilune_workers",
                      "Workers that are running.", PL_METRIC_GAUGE);
  pl__exposition_sample(&f->exposition, "", count);
}

/* --- the log ------------------------------------------------------------------ */

void pl__figures_drops(const struct pl_fabric *f, uint32_t worker_count,
                       uint64_t drops[PL_RING_LANES]) {
  struct pl_ring *ring;

  memset(drops, 0, PL_RING_LANES * sizeof *drops);
  for (uint32_t i = 0; i < worker_count + PL_LAYOUT_OTHERS; i++) {
    uint32_t who = i < worker_count ? i : pl__layout_others[i - worker_count];
    if (pl__layout_ring(f, who, &ring))
      continue;
    for (unsigned lane = 0; lane < PL_RING_LANES; lane++)
      drops[lane] +=
          atomic_load_explicit(&ring->drops[lane], memory_order_relaxed);
  }
}

static void put_drops(struct figures *f) {
  uint64_t drops[PL_RING_LANES];
  char labels[LABELS_BYTES];

  pl__figures_drops(f->fabric, f->worker_count, drops);
  pl__exposition_head(&f->exposition, "perilune_log_records_dropped_total",
                      "Records that found no room in a log ring.",
                      PL_METRIC_COUNTER);
  for (unsigned lane = 0; lane < PL_RING_LANES; lane++) {
    snprintf(labels, sizeof labels, "level=\"%s\"", pl__level_name(lane));
    pl__exposition_sample(&f->exposition, labels, (double)drops[lane]);
  }
}

/* --- traces ------------------------------------------------------------------- */

static void put_traces(struct figures *f) {
  static const char *const lanes[] = {[PL_SPAN_LANE_ANOMALY] = "anomaly",
                                      [PL_SPAN_LANE_SAMPLED] = "sampled",
                                      [PL_SPAN_LANE_FAILED] = "failed"};
  uint64_t drops[PL_RING_LANES];
  struct pl_tracing *tracing;
  char labels[LABELS_BYTES];

  pl__spans_drops(f->fabric, f->worker_count, drops);
  pl__exposition_head(&f->exposition, "perilune_spans_dropped_total",
                      "Spans that found no room in their ring, by why they "
                      "were kept.",
                      PL_METRIC_COUNTER);
  for (unsigned i = 0; i < sizeof lanes / sizeof *lanes; i++) {
    snprintf(labels, sizeof labels, "kept=\"%s\"", lanes[i]);
    pl__exposition_sample(&f->exposition, labels, (double)drops[i]);
  }
  if (pl__layout_tracing(f->fabric, &tracing))
    return;
  pl__exposition_head(&f->exposition, "perilune_trace_anomaly_share",
                      "Share of traces that are kept since the server does "
                      "badly; 0: no more than usual.",
                      PL_METRIC_GAUGE);
  pl__exposition_sample(&f->exposition, "",
                        pl__tracing_share(atomic_load_explicit(
                            &tracing->below, memory_order_relaxed)));
}

/* What samples could not say, as a table of names is full. */
static void put_unnamed(struct figures *f) {
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;
  uint64_t places = 0, rows = 0;

  for (uint32_t i = 0; i < f->worker_count; i++) {
    if (pl__layout_symbols(f->fabric, i, &symbols, &stacks))
      continue;
    for (uint32_t bank = 0; bank < PL_NAMES_BANKS; bank++) {
      places +=
          atomic_load_explicit(&symbols[bank].refused, memory_order_relaxed);
      rows += atomic_load_explicit(&stacks[bank].refused, memory_order_relaxed);
    }
  }
  pl__exposition_head(&f->exposition, "perilune_profile_unnamed_total",
                      "What a full table had no room for: it is (other) in "
                      "profiles.",
                      PL_METRIC_COUNTER);
  pl__exposition_sample(&f->exposition, "what=\"symbol\"", (double)places);
  pl__exposition_sample(&f->exposition, "what=\"stack\"", (double)rows);
}

/* --- profiles ------------------------------------------------------------------ */

static void put_heap(struct figures *f) {
  struct pl_heap_samples *s;
  uint64_t lost = 0;

  for (uint32_t i = 0; i < f->worker_count; i++)
    if (!pl__layout_heap(f->fabric, i, &s))
      lost += atomic_load_explicit(&s->lost, memory_order_relaxed);
  pl__exposition_head(
      &f->exposition, "perilune_heap_samples_lost_total",
      "Sampled allocations that heap profiles have no room for.",
      PL_METRIC_COUNTER);
  pl__exposition_sample(&f->exposition, "", (double)lost);
}

/* --- the server ---------------------------------------------------------------- */

static void put_server(struct figures *f) {
  struct pl_exposition *e = &f->exposition;
  char labels[LABELS_BYTES];
  struct pl_server_state *state;
  uint64_t bytes;

  snprintf(labels, sizeof labels, "version=\"%s\"", pl_version());
  pl__exposition_head(e, "perilune_build", "Always 1; which version serves.",
                      PL_METRIC_GAUGE);
  pl__exposition_sample(e, labels, 1);
  if (!pl__layout_state(f->fabric, &state)) {
    pl__exposition_head(e, "perilune_generation",
                        "Number of the app's generation that serves.",
                        PL_METRIC_GAUGE);
    pl__exposition_sample(
        e, "", atomic_load_explicit(&state->generation, memory_order_relaxed));
  }
  if (!pl__fabric_resident(f->fabric, &bytes)) {
    pl__exposition_head(e, "perilune_shared_memory_bytes",
                        "Memory that all processes of the server share.",
                        PL_METRIC_GAUGE);
    pl__exposition_sample(e, "", (double)bytes);
  }
}

static void put_records(struct figures *f) {
  struct pl_exposition *e = &f->exposition;
  struct pl_server_state *s;

  if (pl__layout_state(f->fabric, &s))
    return;
  pl__exposition_head(e, "perilune_records_total",
                      "Flight records and profiles of actions, by what became "
                      "of them.",
                      PL_METRIC_COUNTER);
  pl__exposition_sample(
      e, "result=\"written\"",
      (double)atomic_load_explicit(&s->records_written, memory_order_relaxed));
  pl__exposition_sample(
      e, "result=\"failed\"",
      (double)atomic_load_explicit(&s->records_failed, memory_order_relaxed));
  pl__exposition_sample(
      e, "result=\"dropped\"",
      (double)atomic_load_explicit(&s->records_dropped, memory_order_relaxed));
}

/* --- what goes to a collector -------------------------------------------------- */

static const char *const reasons[PL_EXPORT_DROPS] = {
    "full", "refused", "rejected", "unfit", "shutdown", "lost"};

/* Those that found no room in the rings before the exporter. */
static uint64_t drops_of_rings(const struct pl_fabric *f,
                               enum pl_signal signal) {
  uint64_t drops[PL_RING_LANES] = {0}, sum = 0;
  struct pl_metrics m;
  struct pl_ring *logs;

  if (signal == PL_SIGNAL_TRACES && !pl__layout_metrics(f, &m))
    pl__spans_drops(f, m.worker_count, drops);
  for (unsigned lane = 0; lane < PL_RING_LANES; lane++)
    sum += drops[lane];
  if (signal == PL_SIGNAL_LOGS && !pl__layout_otlp_logs(f, &logs))
    for (unsigned lane = 0; lane < PL_RING_LANES; lane++)
      sum += atomic_load_explicit(&logs->drops[lane], memory_order_relaxed);
  return sum;
}

uint64_t pl__figures_export_drops(const struct pl_fabric *f,
                                  enum pl_signal signal,
                                  enum pl_export_drop why) {
  struct pl_exports *x;
  uint64_t rings = why == PL_EXPORT_FULL ? drops_of_rings(f, signal) : 0;

  if (pl__layout_exports(f, &x))
    return rings;
  return rings + pl__exports_get(&x->of[signal].drops[why]);
}

static void put_export_drops(struct figures *f, const struct pl_exports *x) {
  char labels[LABELS_BYTES];

  pl__exposition_head(&f->exposition, "perilune_otlp_dropped_total",
                      "Spans and log records that the collector did not get.",
                      PL_METRIC_COUNTER);
  for (unsigned i = 0; i < PL_SIGNALS; i++)
    for (unsigned why = 0; why < PL_EXPORT_DROPS; why++) {
      if (!pl__exports_is_on(&x->of[i]))
        continue;
      snprintf(labels, sizeof labels, "signal=\"%s\",reason=\"%s\"",
               pl__signal_name((enum pl_signal)i), reasons[why]);
      pl__exposition_sample(
          &f->exposition, labels,
          (double)pl__figures_export_drops(f->fabric, (enum pl_signal)i,
                                           (enum pl_export_drop)why));
    }
}

static void put_export_counts(struct figures *f, const struct pl_exports *x,
                              const char *name, const char *help,
                              bool are_failures) {
  char labels[LABELS_BYTES];

  pl__exposition_head(&f->exposition, name, help, PL_METRIC_COUNTER);
  for (unsigned i = 0; i < PL_SIGNALS; i++) {
    const struct pl_exports_of *of = &x->of[i];
    if (!pl__exports_is_on(of))
      continue;
    snprintf(labels, sizeof labels, "signal=\"%s\"",
             pl__signal_name((enum pl_signal)i));
    pl__exposition_sample(
        &f->exposition, labels,
        (double)pl__exports_get(are_failures ? &of->failures : &of->exported));
  }
}

static void put_exports(struct figures *f) {
  struct pl_exports *x;

  if (pl__layout_exports(f->fabric, &x))
    return;
  put_export_counts(f, x, "perilune_otlp_exported_total",
                    "Spans, metric points and log records that the collector "
                    "has taken.",
                    false);
  put_export_counts(f, x, "perilune_otlp_failures_total",
                    "Requests to the collector that were not answered, or not "
                    "well.",
                    true);
  put_export_drops(f, x);
}

/* --- all of it -------------------------------------------------------------------- */

static void put_all(struct figures *f) {
  f->worker_count = f->metrics.worker_count;
  put_server(f);
  put_records(f);
  put_workers(f);
  put_beats(f, "perilune_connections", "Connections that are open.",
            CONNECTIONS);
  put_beats(f, "perilune_http_requests_in_flight",
            "Requests whose handlers have begun and not ended.", IN_FLIGHT);
  put_drops(f);
  put_traces(f);
  put_unnamed(f);
  put_heap(f);
  pl__leaks_figures(f->fabric, f->worker_count, &f->exposition);
  put_exports(f);
  pl__exposition_metrics(&f->exposition, &f->metrics);
}

int pl__figures_expose(const struct pl_fabric *fabric,
                       enum pl_exposition_format format, struct pl_buf *out) {
  struct figures f = {.fabric = fabric};
  int failed = pl__layout_metrics(fabric, &f.metrics);

  if (failed)
    return failed;
  pl__exposition_begin(&f.exposition, format, out);
  put_all(&f);
  return pl__exposition_end(&f.exposition);
}

int pl__figures_export(const struct pl_fabric *fabric,
                       struct pl_otlp_metrics *otlp) {
  struct figures f = {.fabric = fabric};
  int failed = pl__layout_metrics(fabric, &f.metrics);

  if (failed)
    return failed;
  pl__exposition_begin_otlp(&f.exposition, otlp);
  put_all(&f);
  return 0;
}

int pl__figures_answer(const struct pl_fabric *f, struct pl_slice said,
                       struct pl_buf *out) {
  return pl__figures_expose(
      f, said.bytes ? PL_EXPOSITION_OPENMETRICS : PL_EXPOSITION_PROMETHEUS,
      out);
}
