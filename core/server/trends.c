/* server/trends.c - see trends.h. */
#include "server/trends.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"

/* Names of server/tally.c. */
#define SECONDS PL_SLICE("perilune_http_request_duration_seconds")
#define REQUESTS PL_SLICE("perilune_http_requests_total")
#define LAG PL_SLICE("perilune_loop_lag_seconds")
#define BUSY PL_SLICE("perilune_loop_busy_seconds_total")
#define MEMORY PL_SLICE("perilune_vm_memory_bytes")

/* What comes behind the labels of durations. */
#define FAILED PL_SLICE(",status=\"5xx\"")
#define NONE UINT32_MAX

/* A look under way. */
struct look {
  struct pl_trends *t;
  const struct pl_metrics *m;
  struct pl_trends_snapshot *now;
  uint32_t seconds, requests, lag, busy, memory; /* families; NONE */
};

/* --- reading ---------------------------------------------------------------- */

static uint32_t family_find(const struct pl_metrics *m, struct pl_slice name,
                            enum pl_metric_kind kind) {
  struct pl_metric wanted = {.name = name, .kind = kind};
  uint32_t family;

  return pl__metrics_find_family(m->table, &wanted, &family) ? NONE : family;
}

static struct pl_slice labels_of(const struct look *l, uint32_t series) {
  const struct pl_metric_series *s = &l->m->table->series[series];

  return pl__slice(l->m->table->text + s->text_at, s->text_bytes);
}

/* Of a counter, all processes together. */
static double sum_cell(const struct look *l, uint32_t cell) {
  double sum = 0;

  for (uint32_t w = 0; w < l->m->worker_count; w++)
    sum += pl__shard_get(&l->m->shards[w], cell);
  return sum;
}

/* Of a histogram, all processes together. */
static void gather_cell(const struct look *l, uint32_t cell,
                        struct pl_histogram *out) {
  for (uint32_t w = 0; w < l->m->worker_count; w++)
    pl__shard_gather(&l->m->shards[w], cell, out);
}

static void routes_gather(struct look *l) {
  for (uint32_t i = 0; i < l->now->route_count; i++) {
    struct pl_trends_route *r = &l->now->routes[i];

    gather_cell(l, l->m->table->series[r->series].cell, &r->seconds);
  }
}

/* Puts a route in its place among those with most time; the last may go. */
static void route_offer(struct look *l, uint32_t series, double *spent,
                        double time) {
  uint32_t *count = &l->now->route_count, at = *count;

  if (at == PL_TRENDS_ROUTES_MAX && time <= spent[at - 1])
    return;
  if (at == PL_TRENDS_ROUTES_MAX)
    at--;
  else
    (*count)++;
  for (; at > 0 && spent[at - 1] < time; at--) {
    spent[at] = spent[at - 1];
    l->now->routes[at].series = l->now->routes[at - 1].series;
  }
  spent[at] = time;
  l->now->routes[at].series = series;
}

static void routes_choose(struct look *l, uint32_t count) {
  double spent[PL_TRENDS_ROUTES_MAX];

  for (uint32_t i = 0; i < count; i++) {
    const struct pl_metric_series *s = &l->m->table->series[i];
    if (s->family != l->seconds || !pl__metrics_is_sound(l->m->table, s))
      continue;
    route_offer(l, i, spent, sum_cell(l, s->cell + PL_SHARD_SUM));
    gather_cell(l, s->cell, &l->now->seconds);
  }
}

static bool ends(struct pl_slice s, struct pl_slice end) {
  return s.bytes >= end.bytes &&
         memcmp(s.at + s.bytes - end.bytes, end.at, end.bytes) == 0;
}

/* Whether the series counts what has failed of that route. */
static bool is_failures_of(struct pl_slice labels, struct pl_slice route) {
  return labels.bytes == route.bytes + FAILED.bytes &&
         memcmp(labels.at, route.at, route.bytes) == 0 && ends(labels, FAILED);
}

/* Requests of one status, which belong to a route or to none that is shown. */
static void requests_add(struct look *l, uint32_t series) {
  const struct pl_metric_series *s = &l->m->table->series[series];
  struct pl_slice labels = labels_of(l, series);
  bool failed = ends(labels, FAILED);

  for (uint32_t w = 0; w < l->m->worker_count; w++) {
    double n = pl__shard_get(&l->m->shards[w], s->cell);
    l->now->workers[w].requests += n;
    l->now->errors += failed ? n : 0;
  }
  for (uint32_t i = 0; failed && i < l->now->route_count; i++)
    if (is_failures_of(labels, labels_of(l, l->now->routes[i].series)))
      l->now->routes[i].errors += sum_cell(l, s->cell);
}

static void workers_read(struct look *l, uint32_t series) {
  const struct pl_metric_series *s = &l->m->table->series[series];

  for (uint32_t w = 0; w < l->m->worker_count; w++) {
    const struct pl_shard *shard = &l->m->shards[w];
    if (s->family == l->busy)
      l->now->workers[w].busy_s += pl__shard_get(shard, s->cell);
    else if (s->family == l->lag)
      pl__shard_gather(shard, s->cell, &l->now->workers[w].lag_s);
    else if (pl__shard_life(shard) == PL_SHARD_LIVE)
      l->t->workers[w].memory_bytes = pl__shard_get(shard, s->cell);
  }
}

static void read_all(struct look *l) {
  uint32_t count = pl__metrics_series_count(l->m->table);

  routes_choose(l, count);
  routes_gather(l);
  for (uint32_t i = 0; i < count; i++) {
    const struct pl_metric_series *s = &l->m->table->series[i];
    if (!pl__metrics_is_sound(l->m->table, s))
      continue;
    if (s->family == l->requests)
      requests_add(l, i);
    else if (s->family == l->busy || s->family == l->lag ||
             s->family == l->memory)
      workers_read(l, i);
  }
}

/* --- comparing ---------------------------------------------------------------- */

/* What has come since `before`; NULL: all. */
static void histogram_since(const struct pl_histogram *now,
                            const struct pl_histogram *before,
                            struct pl_histogram *out) {
  memset(out, 0, sizeof *out);
  out->octaves = now->octaves;
  for (uint64_t left = now->octaves; left; left &= left - 1) {
    uint32_t first = (uint32_t)__builtin_ctzll(left) * PL_HISTOGRAM_STEPS;
    for (uint32_t i = first; i < first + PL_HISTOGRAM_STEPS; i++) {
      uint64_t old = before ? before->counts[i] : 0;
      out->counts[i] = now->counts[i] > old ? now->counts[i] - old : 0;
    }
  }
}

static void trend_of(const struct pl_histogram *since, double errors,
                     double window_s, struct pl_trend *out) {
  *out = (struct pl_trend){.requests_per_s =
                               (double)pl__histogram_count(since) / window_s,
                           .errors_per_s = errors / window_s,
                           .p50_s = pl__histogram_quantile(since, 0.5),
                           .p99_s = pl__histogram_quantile(since, 0.99)};
}

static const struct pl_trends_route *
route_find(const struct pl_trends_snapshot *in, uint32_t series) {
  for (uint32_t i = 0; in && i < in->route_count; i++)
    if (in->routes[i].series == series)
      return &in->routes[i];
  return NULL;
}

/* One that was not among so many then has a history that nobody kept. */
static bool is_comparable(const struct pl_trends_snapshot *before,
                          const struct pl_trends_route *then) {
  return then || !before || before->route_count < PL_TRENDS_ROUTES_MAX;
}

static void routes_compare(struct look *l,
                           const struct pl_trends_snapshot *before,
                           struct pl_histogram *since) {
  struct pl_trends *t = l->t;

  for (uint32_t i = 0; i < l->now->route_count; i++) {
    const struct pl_trends_route *r = &l->now->routes[i];
    const struct pl_trends_route *then = route_find(before, r->series);
    struct pl_trends_route_now *out = &t->routes[i];
    double failed = r->errors - (then ? then->errors : 0);

    *out = (struct pl_trends_route_now){.labels = labels_of(l, r->series),
                                        .requests =
                                            pl__histogram_count(&r->seconds)};
    if (!is_comparable(before, then))
      continue;
    histogram_since(&r->seconds, then ? &then->seconds : NULL, since);
    trend_of(since, failed, t->window_s, &out->trend);
  }
  t->route_count = l->now->route_count;
}

static void all_compare(struct look *l, const struct pl_trends_snapshot *before,
                        struct pl_histogram *since) {
  struct pl_trends *t = l->t;

  histogram_since(&l->now->seconds, before ? &before->seconds : NULL, since);
  trend_of(since, l->now->errors - (before ? before->errors : 0), t->window_s,
           &t->all);
}

static void workers_compare(struct look *l,
                            const struct pl_trends_snapshot *before,
                            struct pl_histogram *since) {
  struct pl_trends *t = l->t;

  for (uint32_t w = 0; w < t->worker_count; w++) {
    const struct pl_trends_worker *now = &l->now->workers[w];
    const struct pl_trends_worker *then = before ? &before->workers[w] : NULL;

    histogram_since(&now->lag_s, then ? &then->lag_s : NULL, since);
    t->workers[w].lag_p99_s = pl__histogram_quantile(since, 0.99);
    t->workers[w].requests_per_s =
        (now->requests - (then ? then->requests : 0)) / t->window_s;
    t->workers[w].busy =
        (now->busy_s - (then ? then->busy_s : 0)) / t->window_s;
  }
}

static int by_rate(const void *a, const void *b) {
  const struct pl_trends_route_now *x = a, *y = b;
  double difference = y->trend.requests_per_s - x->trend.requests_per_s;

  return difference > 0 ? 1 : difference < 0 ? -1 : 0;
}

static int compare(struct look *l, int64_t started_ns) {
  struct pl_trends *t = l->t;
  const struct pl_trends_snapshot *before = t->older->at_ns ? t->older : NULL;
  struct pl_histogram *since = pl__alloc_zero(sizeof *since);
  int64_t from_ns = before ? before->at_ns : started_ns;

  if (!since)
    return PL_ENOMEM;
  t->window_s = (double)(l->now->at_ns - from_ns) / PL_NS_PER_S;
  if (t->window_s < 1e-3)
    t->window_s = 1e-3;
  routes_compare(l, before, since);
  all_compare(l, before, since);
  workers_compare(l, before, since);
  qsort(t->routes, t->route_count, sizeof *t->routes, by_rate);
  pl__free(since);
  return 0;
}

/* --- a life ------------------------------------------------------------------- */

static size_t snapshot_bytes(uint32_t workers) {
  return sizeof(struct pl_trends_snapshot) +
         workers * sizeof(struct pl_trends_worker);
}

void pl__trends_deinit(struct pl_trends *t) {
  pl__free(t->older);
  pl__free(t->newer);
  pl__free(t->now);
  pl__free(t->workers);
  *t = (struct pl_trends){0};
}

static int make(struct pl_trends *t, uint32_t workers) {
  size_t bytes = snapshot_bytes(workers);

  if (t->now)
    return 0;
  t->older = pl__alloc_zero(bytes);
  t->newer = pl__alloc_zero(bytes);
  t->now = pl__alloc_zero(bytes);
  t->workers = pl__alloc_zero(workers * sizeof *t->workers);
  t->worker_count = workers;
  if (t->older && t->newer && t->now && t->workers)
    return 0;
  pl__trends_deinit(t);
  return PL_ENOMEM;
}

static void swap(struct pl_trends_snapshot **a, struct pl_trends_snapshot **b) {
  struct pl_trends_snapshot *spare = *a;

  *a = *b;
  *b = spare;
}

/* The look is over: what it has read may be what later ones compare with. */
static void keep(struct pl_trends *t) {
  const int64_t least = PL_TRENDS_LEAST_S * (int64_t)PL_NS_PER_S;

  if (t->newer->at_ns && t->now->at_ns - t->newer->at_ns < least)
    return;
  if (t->newer->at_ns)
    swap(&t->older, &t->newer);
  swap(&t->newer, &t->now);
}

/* What is too old is none; the newer one is better than none. */
static void forget_old(struct pl_trends *t, int64_t now_ns) {
  const int64_t most = PL_TRENDS_MOST_S * (int64_t)PL_NS_PER_S;

  if (t->newer->at_ns && now_ns - t->newer->at_ns > most)
    t->newer->at_ns = 0;
  if (t->older->at_ns && now_ns - t->older->at_ns > most)
    t->older->at_ns = 0;
  if (!t->older->at_ns)
    swap(&t->older, &t->newer);
}

int pl__trends_look(struct pl_trends *t, const struct pl_metrics *m,
                    int64_t started_ns, int64_t now_ns) {
  struct look l = {.t = t,
                   .m = m,
                   .seconds = family_find(m, SECONDS, PL_METRIC_HISTOGRAM),
                   .requests = family_find(m, REQUESTS, PL_METRIC_COUNTER),
                   .lag = family_find(m, LAG, PL_METRIC_HISTOGRAM),
                   .busy = family_find(m, BUSY, PL_METRIC_COUNTER),
                   .memory = family_find(m, MEMORY, PL_METRIC_GAUGE)};

  if (make(t, m->worker_count))
    return PL_ENOMEM;
  memset(t->now, 0, snapshot_bytes(t->worker_count));
  memset(t->workers, 0, t->worker_count * sizeof *t->workers);
  l.now = t->now;
  l.now->at_ns = now_ns;
  read_all(&l);
  forget_old(t, now_ns);
  if (compare(&l, started_ns))
    return PL_ENOMEM;
  keep(t);
  return 0;
}
