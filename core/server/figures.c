/* server/figures.c - see figures.h. */
#include "server/figures.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "fabric/map.h"
#include "fabric/record.h"
#include "fabric/ring.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"
#include "perilune.h"
#include "server/coroutines.h"
#include "server/layout.h"

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

/* What samples could not say, as a table of names is full. */
static void put_unnamed(struct figures *f) {
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;
  uint64_t places = 0, rows = 0;

  for (uint32_t i = 0; i < f->worker_count; i++) {
    if (pl__layout_symbols(f->fabric, i, &symbols, &stacks))
      continue;
    places += atomic_load_explicit(&symbols->refused, memory_order_relaxed);
    rows += atomic_load_explicit(&stacks->refused, memory_order_relaxed);
  }
  pl__exposition_head(&f->exposition, "perilune_profile_unnamed_total",
                      "What a full table had no room for: it is (other) in "
                      "profiles.",
                      PL_METRIC_COUNTER);
  pl__exposition_sample(&f->exposition, "what=\"symbol\"", (double)places);
  pl__exposition_sample(&f->exposition, "what=\"stack\"", (double)rows);
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

int pl__figures_expose(const struct pl_fabric *fabric,
                       enum pl_exposition_format format, struct pl_buf *out) {
  struct figures f = {.fabric = fabric};
  int failed = pl__layout_metrics(fabric, &f.metrics);

  if (failed)
    return failed;
  f.worker_count = f.metrics.worker_count;
  pl__exposition_begin(&f.exposition, format, out);
  put_server(&f);
  put_workers(&f);
  put_beats(&f, "perilune_connections", "Connections that are open.",
            CONNECTIONS);
  put_beats(&f, "perilune_http_requests_in_flight",
            "Requests whose handlers have begun and not ended.", IN_FLIGHT);
  put_drops(&f);
  put_unnamed(&f);
  pl__coroutines_figures(fabric, f.worker_count, &f.exposition);
  pl__exposition_metrics(&f.exposition, &f.metrics);
  return pl__exposition_end(&f.exposition);
}

int pl__figures_answer(const struct pl_fabric *f, struct pl_slice said,
                       struct pl_buf *out) {
  return pl__figures_expose(
      f, said.bytes ? PL_EXPOSITION_OPENMETRICS : PL_EXPOSITION_PROMETHEUS,
      out);
}
