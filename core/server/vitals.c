/* server/vitals.c - see vitals.h. */
#include "server/vitals.h"

#include <string.h>

#include "fabric/metrics.h"
#include "server/layout.h"

/* Series of server/tally.c: name, labels, and what they are called here. */
static const struct vital {
  const char *name;
  const char *labels;
  const char *key;
  enum pl_metric_kind kind;
} vitals[] = {
    {"perilune_vm_memory_bytes", "", "memory_bytes", PL_METRIC_GAUGE},
    {"perilune_vm_allocated_bytes_total", "", "allocated_bytes",
     PL_METRIC_COUNTER},
    {"perilune_vm_collect_seconds_total", "phase=\"busy\"", "collect_busy_s",
     PL_METRIC_COUNTER},
    {"perilune_vm_collect_seconds_total", "phase=\"idle\"", "collect_idle_s",
     PL_METRIC_COUNTER},
    {"perilune_vm_collect_seconds_total", "phase=\"whole\"", "collect_whole_s",
     PL_METRIC_COUNTER},
    {"perilune_vm_collect_cycles_total", "", "collect_cycles",
     PL_METRIC_COUNTER},
    {"perilune_coroutines", "", "coroutines", PL_METRIC_GAUGE},
    {"perilune_tasks", "", "tasks", PL_METRIC_GAUGE},
    {"perilune_handler_preemptions_total", "", "preemptions",
     PL_METRIC_COUNTER},
    {"perilune_http_deadlines_total", "", "deadlines", PL_METRIC_COUNTER},
    {"perilune_jit_traces_total", "", "traces", PL_METRIC_COUNTER},
    {"perilune_jit_aborts_total", "", "aborts", PL_METRIC_COUNTER},
    {"perilune_jit_flushes_total", "", "flushes", PL_METRIC_COUNTER},
    {"perilune_jit_code_bytes", "", "code_bytes", PL_METRIC_GAUGE},
};

#define VITAL_COUNT (sizeof vitals / sizeof *vitals)

static bool is_of(const struct pl_metrics *m, const struct pl_metric_series *s,
                  const struct vital *v) {
  const char *labels = m->table->text + s->text_at;

  return s->text_bytes == strlen(v->labels) &&
         memcmp(labels, v->labels, s->text_bytes) == 0;
}

/* The cell; PL_SHARD_NOWHERE: nobody has counted that. */
static uint32_t cell_find(const struct pl_metrics *m, const struct vital *v) {
  struct pl_metric wanted = {.name = pl__slice_text(v->name), .kind = v->kind};
  uint32_t family;

  if (pl__metrics_find_family(m->table, &wanted, &family))
    return PL_SHARD_NOWHERE;
  for (uint32_t i = 0, n = pl__metrics_series_count(m->table); i < n; i++) {
    const struct pl_metric_series *s = &m->table->series[i];
    if (s->family == family && pl__metrics_is_sound(m->table, s) &&
        is_of(m, s, v))
      return s->cell;
  }
  return PL_SHARD_NOWHERE;
}

/* Gauges of the dead mean nothing. */
static double number_of(const struct pl_metrics *m, const struct vital *v,
                        uint32_t cell, uint32_t worker) {
  const struct pl_shard *shard = &m->shards[worker];

  if (v->kind == PL_METRIC_GAUGE && pl__shard_life(shard) != PL_SHARD_LIVE)
    return 0;
  return pl__shard_get(shard, cell);
}

void pl__vitals_sum(struct pl_json *j, const struct pl_metrics *m,
                    const char *prefix) {
  for (size_t i = 0; i < VITAL_COUNT; i++) {
    uint32_t cell;
    double n = 0;
    if (strncmp(vitals[i].name, prefix, strlen(prefix)) != 0)
      continue;
    cell = cell_find(m, &vitals[i]);
    for (uint32_t w = 0; w < m->worker_count && cell; w++)
      n += number_of(m, &vitals[i], cell, w);
    pl__json_put(j, "\"%s\":%.15g,", vitals[i].key, n);
  }
}

static void put_worker(struct pl_json *j, const struct pl_metrics *m,
                       const uint32_t *cells, uint32_t worker) {
  bool is_live = pl__shard_life(&m->shards[worker]) == PL_SHARD_LIVE;

  pl__json_put(j, "%s{\"is_live\":%s", worker ? "," : "",
               is_live ? "true" : "false");
  for (size_t i = 0; i < VITAL_COUNT; i++)
    pl__json_put(j, ",\"%s\":%.15g", vitals[i].key,
                 cells[i] ? number_of(m, &vitals[i], cells[i], worker) : 0);
  pl__json_put(j, "}");
}

int pl__vitals_json(const struct pl_fabric *f, uint64_t soft_bytes,
                    uint64_t hard_bytes, struct pl_buf *out) {
  struct pl_json j = {.out = out};
  uint32_t cells[VITAL_COUNT];
  struct pl_metrics m;
  int failed = pl__layout_metrics(f, &m);

  if (failed)
    return failed;
  pl__json_put(&j,
               "{\"memory_soft_bytes\":%llu,\"memory_hard_bytes\":%llu,"
               "\"workers\":[",
               (unsigned long long)soft_bytes, (unsigned long long)hard_bytes);
  for (size_t i = 0; i < VITAL_COUNT; i++)
    cells[i] = cell_find(&m, &vitals[i]);
  for (uint32_t w = 0; w < m.worker_count; w++)
    put_worker(&j, &m, cells, w);
  pl__json_put(&j, "]}");
  return j.failed;
}
