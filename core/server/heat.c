/* server/heat.c - see heat.h. */
#include "server/heat.h"

#include <string.h>

#include "base/clock.h"
#include "server/json.h"

/* Names of server/tally.c. */
#define SECONDS PL_SLICE("perilune_http_request_duration_seconds")
#define REQUESTS PL_SLICE("perilune_http_requests_total")
#define STATUS PL_SLICE("status=\"") /* the last of their labels: "2xx" */
#define STATUS_BYTES 12u             /* of all of it, with the last quote */

#define ROW_BUCKETS (PL_HISTOGRAM_STEPS / 2)
#define FIRST_BUCKET                                                           \
  ((PL_HEAT_EXPONENT_MIN - PL_HISTOGRAM_EXPONENT_MIN) * PL_HISTOGRAM_STEPS)

/* --- reading ---------------------------------------------------------------- */

static bool family_find(const struct pl_metrics *m, struct pl_slice name,
                        enum pl_metric_kind kind, uint32_t *family) {
  struct pl_metric wanted = {.name = name, .kind = kind};

  return pl__metrics_find_family(m->table, &wanted, family) == 0;
}

/* 1 for "1xx" and so on; 0: something else. */
static uint32_t class_of(const struct pl_metrics *m,
                         const struct pl_metric_series *s) {
  const char *at = m->table->text + s->text_at + s->text_bytes;
  uint32_t class;

  if (s->text_bytes < STATUS_BYTES ||
      memcmp(at - STATUS_BYTES, STATUS.at, STATUS.bytes) != 0)
    return 0;
  class = (uint32_t)(at[(int)STATUS.bytes - (int)STATUS_BYTES] - '0');
  return class < PL_HEAT_CLASSES ? class : 0;
}

static void sum_take(struct pl_heat_sum *to, const struct pl_metrics *m) {
  uint32_t seconds = 0, requests = 0;
  bool has_seconds = family_find(m, SECONDS, PL_METRIC_HISTOGRAM, &seconds);
  bool has_requests = family_find(m, REQUESTS, PL_METRIC_COUNTER, &requests);

  memset(to, 0, sizeof *to);
  for (uint32_t i = 0, n = pl__metrics_series_count(m->table); i < n; i++) {
    const struct pl_metric_series *s = &m->table->series[i];
    if (!pl__metrics_is_sound(m->table, s))
      continue;
    for (uint32_t w = 0; w < m->worker_count; w++)
      if (has_seconds && s->family == seconds)
        pl__shard_gather(&m->shards[w], s->cell, &to->seconds);
      else if (has_requests && s->family == requests)
        to->classes[class_of(m, s)] += pl__shard_get(&m->shards[w], s->cell);
  }
}

/* --- comparing -------------------------------------------------------------- */

/* What has come since; counters that went back (a shard was spoilt) say 0. */
static void sum_subtract(struct pl_heat *h) {
  struct pl_heat_sum *since = &h->since;

  memset(since, 0, sizeof *since);
  for (uint32_t i = 0; i < PL_HEAT_CLASSES; i++) {
    double n = h->now.classes[i] - h->before.classes[i];
    since->classes[i] = n > 0 ? n : 0;
  }
  since->seconds.octaves = h->now.seconds.octaves;
  for (uint32_t i = 0; i < PL_HISTOGRAM_BUCKETS; i++) {
    uint64_t now = h->now.seconds.counts[i], then = h->before.seconds.counts[i];
    since->seconds.counts[i] = now > then ? now - then : 0;
  }
}

static uint32_t row_of(uint32_t bucket) {
  uint32_t row =
      bucket < FIRST_BUCKET ? 0 : (bucket - FIRST_BUCKET) / ROW_BUCKETS;

  return row < PL_HEAT_ROWS ? row : PL_HEAT_ROWS - 1;
}

static void column_fill(struct pl_heat_column *c,
                        const struct pl_heat_sum *since) {
  memcpy(c->classes, since->classes, sizeof c->classes);
  c->p50_s = pl__histogram_quantile(&since->seconds, 0.5);
  c->p99_s = pl__histogram_quantile(&since->seconds, 0.99);
  for (uint32_t i = 0; i < PL_HISTOGRAM_BUCKETS; i++) {
    uint64_t n = since->seconds.counts[i];
    uint32_t *row = &c->rows[row_of(i)];
    *row = n > UINT32_MAX - *row ? UINT32_MAX : *row + (uint32_t)n;
  }
}

void pl__heat_look(struct pl_heat *h, const struct pl_metrics *m,
                   int64_t now_ns) {
  const int64_t step_ns = PL_HEAT_STEP_S * (int64_t)PL_NS_PER_S;
  struct pl_heat_column *c = &h->columns[h->count % PL_HEAT_COLUMNS];

  if (h->looked_ns && now_ns - h->looked_ns < step_ns)
    return;
  sum_take(&h->now, m);
  if (h->looked_ns) {
    memset(c, 0, sizeof *c);
    c->ended_ns = pl__clock_realtime_ns();
    c->took_s = (double)(now_ns - h->looked_ns) / PL_NS_PER_S;
    sum_subtract(h);
    column_fill(c, &h->since);
    h->count++;
  }
  h->before = h->now;
  h->looked_ns = now_ns;
}

/* --- telling ---------------------------------------------------------------- */

static void put_cells(struct pl_json *j, const struct pl_heat_column *c) {
  bool first = true;

  pl__json_put(j, ",\"cells\":[");
  for (uint32_t i = 0; i < PL_HEAT_ROWS; i++) {
    if (!c->rows[i])
      continue;
    pl__json_put(j, "%s%u,%u", first ? "" : ",", i, c->rows[i]);
    first = false;
  }
  pl__json_put(j, "]}");
}

static void put_column(struct pl_json *j, uint64_t number,
                       const struct pl_heat_column *c) {
  pl__json_put(j, "{\"number\":%llu,\"ended_s\":%.3f,\"took_s\":%.3f",
               (unsigned long long)number, (double)c->ended_ns / PL_NS_PER_S,
               c->took_s);
  pl__json_put(j, ",\"classes\":[");
  for (uint32_t i = 0; i < PL_HEAT_CLASSES; i++)
    pl__json_put(j, "%s%.0f", i ? "," : "", c->classes[i]);
  pl__json_put(j, "],\"p50_ms\":%.4g,\"p99_ms\":%.4g", c->p50_s * 1000,
               c->p99_s * 1000);
  put_cells(j, c);
}

int pl__heat_json(const struct pl_heat *h, uint64_t from, struct pl_buf *out) {
  struct pl_json j = {.out = out};
  uint64_t first = h->count > PL_HEAT_COLUMNS ? h->count - PL_HEAT_COLUMNS : 0;

  if (from < first || from > h->count) /* or it is of another process */
    from = first;
  pl__json_put(&j, "{\"step_s\":%d,\"next\":%llu,\"ends_ms\":[", PL_HEAT_STEP_S,
               (unsigned long long)h->count);
  for (uint32_t i = 0; i + 1 < PL_HEAT_ROWS; i++)
    pl__json_put(
        &j, "%s%.6g", i ? "," : "",
        1000 * pl__histogram_end(FIRST_BUCKET + (i + 1) * ROW_BUCKETS - 1));
  pl__json_put(&j, "],\"columns\":[");
  for (uint64_t n = from; n < h->count; n++) {
    pl__json_put(&j, "%s", n > from ? "," : "");
    put_column(&j, n, &h->columns[n % PL_HEAT_COLUMNS]);
  }
  pl__json_put(&j, "]}");
  return j.failed;
}
