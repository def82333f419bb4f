/* server/tally.c - see tally.h. */
#include "server/tally.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/record.h"
#include "http/request.h"
#include "net/conn.h"
#include "server/generation.h"
#include "server/layout.h"
#include "server/reload.h"

#define ROUTE_SERIES_MAX (PL_SHARD_SERIES_MAX / 4) /* of metrics by route */

/* P99s of routes: what is asked for at once, and numbers that make one. */
#define SLOW_CELLS_MAX 1024u
#define SLOW_LOOKS 8u
#define SLOW_COUNT_MIN 100u

/* --- series that are always there ------------------------------------------- */

/* One of them. */
struct row {
  const char *name;
  const char *help;
  enum pl_metric_kind kind;
  enum pl_metric_merge merge;
  const char *label; /* NULL: none */
  const char *value;
};

#define COUNTER(name, help)                                                    \
  { name, help, PL_METRIC_COUNTER, PL_MERGE_SUM, 0, 0 }
#define BY(name, label, value, help)                                           \
  { name, help, PL_METRIC_COUNTER, PL_MERGE_SUM, label, value }
#define EACH(name, help)                                                       \
  { name, help, PL_METRIC_GAUGE, PL_MERGE_EACH, 0, 0 }
#define HISTOGRAM(name, help)                                                  \
  { name, help, PL_METRIC_HISTOGRAM, PL_MERGE_SUM, 0, 0 }

#define COLLECT_SECONDS "perilune_vm_collect_seconds_total"
#define COLLECT_SLICES "perilune_vm_collect_slices_total"
#define DEATHS "perilune_process_deaths_total"
#define RELOADS "perilune_reloads_total"
#define KEPT "perilune_traces_kept_total"

static const struct row worker_rows[PL_TALLY_WORKER_COUNT] = {
    [PL_TALLY_QUEUE] =
        HISTOGRAM("perilune_http_queue_seconds",
                  "Time that requests waited for a handler to begin."),
    [PL_TALLY_REQUEST_BYTES] =
        HISTOGRAM("perilune_http_request_body_bytes",
                  "Sizes of request bodies, of requests that had one."),
    [PL_TALLY_RESPONSE_BYTES] =
        HISTOGRAM("perilune_http_response_body_bytes",
                  "Sizes of response bodies, of responses that had one."),
    [PL_TALLY_OVERDUE] =
        COUNTER("perilune_http_deadlines_total",
                "Requests whose deadline came before their handler's end."),
    [PL_TALLY_ABORTED] =
        COUNTER("perilune_http_aborted_total",
                "Requests whose client had gone, or sent no more, before "
                "their handler's end."),
    [PL_TALLY_ACCEPTED] = COUNTER("perilune_connections_accepted_total",
                                  "Connections that were accepted."),
    [PL_TALLY_REFUSED] =
        COUNTER("perilune_connections_refused_total",
                "Connections that were closed for lack of memory or slabs."),
    [PL_TALLY_LAG] =
        HISTOGRAM("perilune_loop_lag_seconds",
                  "Lengths of the event loop's turns: what becomes ready "
                  "meanwhile waits for so long."),
    [PL_TALLY_BUSY] = {"perilune_loop_busy_seconds_total",
                       "Time that the event loop worked instead of waiting.",
                       PL_METRIC_COUNTER, PL_MERGE_EACH, 0, 0},
    [PL_TALLY_HEAP] =
        EACH("perilune_vm_memory_bytes", "Memory that Lua holds."),
    [PL_TALLY_ALLOCATED] = {"perilune_vm_allocated_bytes_total",
                            "Bytes that Lua has allocated.", PL_METRIC_COUNTER,
                            PL_MERGE_EACH, 0, 0},
    [PL_TALLY_COLLECT_SECONDS + PL_COLLECT_BUSY] =
        BY(COLLECT_SECONDS, "phase", "busy",
           "Time of the garbage collector: after requests (busy), when the "
           "loop would wait (idle), or in one go for memory's sake (whole)."),
    [PL_TALLY_COLLECT_SECONDS + PL_COLLECT_IDLE] =
        BY(COLLECT_SECONDS, "phase", "idle", ""),
    [PL_TALLY_COLLECT_SECONDS + PL_COLLECT_WHOLE] =
        BY(COLLECT_SECONDS, "phase", "whole", ""),
    [PL_TALLY_COLLECT_SLICES + PL_COLLECT_BUSY] =
        BY(COLLECT_SLICES, "phase", "busy",
           "Slices that the garbage collector ran in."),
    [PL_TALLY_COLLECT_SLICES + PL_COLLECT_IDLE] =
        BY(COLLECT_SLICES, "phase", "idle", ""),
    [PL_TALLY_COLLECT_SLICES + PL_COLLECT_WHOLE] =
        BY(COLLECT_SLICES, "phase", "whole", ""),
    [PL_TALLY_CYCLES] = COUNTER("perilune_vm_collect_cycles_total",
                                "Garbage collections that were completed."),
    [PL_TALLY_COROUTINES] =
        EACH("perilune_coroutines",
             "Coroutines of handlers and tasks that have begun."),
    [PL_TALLY_TASKS] = EACH("perilune_tasks", "Tasks that have not ended."),
    [PL_TALLY_PREEMPTED] =
        COUNTER("perilune_handler_preemptions_total",
                "Slices of handlers and tasks that were used up."),
    [PL_TALLY_STOPPED] =
        COUNTER("perilune_handler_stops_total",
                "Handlers that were stopped at their deadline while they "
                "computed."),
    [PL_TALLY_CONDEMNED] =
        COUNTER("perilune_handler_sheds_total",
                "Handlers and tasks that were failed for memory's sake."),
    [PL_TALLY_ABANDONED] =
        COUNTER("perilune_handler_abandons_total",
                "Handlers and tasks that would not end, and were given up."),
    [PL_TALLY_LONG_RUNS] =
        COUNTER("perilune_handler_long_runs_total",
                "Requests and tasks that computed for a second in one go."),
    [PL_TALLY_TRACES] = COUNTER("perilune_jit_traces_total",
                                "Traces that LuaJIT has compiled."),
    [PL_TALLY_TRACE_ABORTS] =
        COUNTER("perilune_jit_aborts_total",
                "Traces that LuaJIT has begun and given up."),
    [PL_TALLY_FLUSHES] = COUNTER("perilune_jit_flushes_total",
                                 "Times that all traces were thrown away."),
    [PL_TALLY_CODE] =
        EACH("perilune_jit_code_bytes", "Machine code of the traces."),
    [PL_TALLY_KEPT + 0] = BY(KEPT, "reason", "sampled",
                             "Traces of requests and tasks that were kept, by "
                             "each of the reasons for it."),
    [PL_TALLY_KEPT + 1] = BY(KEPT, "reason", "error", ""),
    [PL_TALLY_KEPT + 2] = BY(KEPT, "reason", "slow", ""),
    [PL_TALLY_KEPT + 3] = BY(KEPT, "reason", "shed", ""),
    [PL_TALLY_KEPT + 4] = BY(KEPT, "reason", "anomaly", ""),
    [PL_TALLY_CAPPED] =
        COUNTER("perilune_traces_capped_total",
                "Traces that an anomaly would have kept, but for the cap."),
    [PL_TALLY_UNHEARD] =
        COUNTER("perilune_traces_unheard_total",
                "Traces that callers wanted sampled, past the cap."),
    [PL_TALLY_SPANS] =
        COUNTER("perilune_spans_kept_total", "Spans of traces that were kept."),
    [PL_TALLY_SPANS_LEFT_OUT] =
        COUNTER("perilune_spans_left_out_total",
                "Spans of kept traces that had too many."),
};

static const struct row master_rows[PL_TALLY_MASTER_COUNT] = {
    [PL_TALLY_STARTS] =
        COUNTER("perilune_worker_starts_total", "Workers that were started."),
    [PL_TALLY_CRASHED] = {DEATHS, "Processes that ended and should not have.",
                          PL_METRIC_COUNTER, PL_MERGE_SUM, "reason", "crashed"},
    [PL_TALLY_KILLED] = BY(DEATHS, "reason", "killed", ""),
    [PL_TALLY_STUCK] = BY(DEATHS, "reason", "stuck", ""),
    [PL_TALLY_EXITED] = BY(DEATHS, "reason", "exited", ""),
    [PL_TALLY_CONTROL_DEATHS] = BY(DEATHS, "reason", "control", ""),
    [PL_TALLY_COMMITTED] = BY(RELOADS, "result", "committed",
                              "Reloads of the app or its configuration."),
    [PL_TALLY_REJECTED] = BY(RELOADS, "result", "rejected", ""),
    [PL_TALLY_RELOAD_SECONDS] = HISTOGRAM(
        "perilune_reload_seconds",
        "Time from the start of a reload to its end, whatever that was."),
};

static uint32_t family_open(struct pl_tally *t, const struct row *r,
                            uint32_t series_max) {
  struct pl_metric m = {.name = pl__slice_text(r->name),
                        .help = pl__slice_text(r->help),
                        .kind = r->kind,
                        .merge = r->merge,
                        .series_max = series_max};
  uint32_t family;

  return pl__metrics_family(t->table, t->self, &m, &family) ? UINT32_MAX
                                                            : family;
}

/* What cannot be made is counted nowhere. */
static void rows_open(struct pl_tally *t, const struct row *rows,
                      uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t family = family_open(t, &rows[i], 0);
    struct pl_slice label = pl__slice_text(rows[i].label ? rows[i].label : "");
    struct pl_slice value = pl__slice_text(rows[i].value ? rows[i].value : "");
    t->cells[i] = PL_SHARD_NOWHERE;
    if (family != UINT32_MAX)
      t->cells[i] = pl__metrics_series(t->table, t->self, family, &label,
                                       &value, rows[i].label != NULL, NULL);
  }
}

static const struct row requests_row =
    COUNTER("perilune_http_requests_total",
            "Requests that have ended, by route, method and class of status.");
static const struct row seconds_row =
    HISTOGRAM("perilune_http_request_duration_seconds",
              "Time from a request's head to the end of its handler.");

int pl__tally_open(struct pl_tally *t, const struct pl_fabric *f,
                   uint32_t who) {
  struct pl_metrics m;
  int failed = pl__layout_metrics(f, &m);

  failed = failed ? failed : pl__layout_shard(f, who, &t->shard);
  if (failed)
    return failed;
  t->table = m.table;
  t->self = pl__lock_self();
  pl__metrics_begin(t->table, t->shard);
  if (who == PL_RECORD_MASTER) {
    rows_open(t, master_rows, PL_TALLY_MASTER_COUNT);
    return 0;
  }
  t->requests = family_open(t, &requests_row, ROUTE_SERIES_MAX);
  t->seconds = family_open(t, &seconds_row, ROUTE_SERIES_MAX);
  rows_open(t, worker_rows, PL_TALLY_WORKER_COUNT);
  return 0;
}

/* --- requests ------------------------------------------------------------------ */

static const char *const methods[PL_TALLY_METHODS] = {
    "DELETE",  "GET",     "HEAD",  "POST",  "PUT",
    "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"};

static unsigned method_of(const struct pl_req *req) {
  return req->method <= PL_METHOD_TRACE   ? req->method
         : req->method == PL_METHOD_PATCH ? PL_TALLY_METHODS - 2
                                          : PL_TALLY_METHODS - 1;
}

/* "/notes/:id" of "GET /notes/:id". Those that answer what no route matches have
 * none. */
static struct pl_slice pattern_of(const struct pl_generation *g,
                                  uint32_t route) {
  struct pl_slice all =
      route ? pl__vm_route_pattern(&g->vm, route) : PL_SLICE("");
  const char *space = all.bytes ? memchr(all.at, ' ', all.bytes) : NULL;

  if (all.bytes == 0)
    return PL_SLICE("none");
  return space
             ? pl__slice(space + 1, (size_t)(all.at + all.bytes - (space + 1)))
             : all;
}

static uint32_t cell_make(struct pl_tally *t, uint32_t family,
                          const struct pl_slice *values, uint32_t count) {
  static const struct pl_slice names[] = {
      {"route", 5}, {"method", 6}, {"status", 6}};

  return family == UINT32_MAX ? PL_SHARD_NOWHERE
                              : pl__metrics_series(t->table, t->self, family,
                                                   names, values, count, NULL);
}

/* The counter and the histogram of a request; asks for them if need be. */
static void cells_make(struct pl_tally *t, struct pl_tally_cells *c,
                       const struct pl_generation *g, uint32_t route,
                       unsigned method, unsigned class) {
  static const char *const classes[PL_TALLY_CLASSES] = {"none", "1xx", "2xx",
                                                        "3xx",  "4xx", "5xx"};
  struct pl_slice values[] = {pattern_of(g, route),
                              pl__slice_text(methods[method]),
                              pl__slice_text(classes[class])};

  if (!c->seconds)
    c->seconds = cell_make(t, t->seconds, values, 2);
  c->requests[class] = cell_make(t, t->requests, values, 3);
}

static struct pl_tally_cells *cells_of(struct pl_generation *g, uint32_t route,
                                       unsigned method) {
  struct pl_tally_generation *own = &g->tally;

  if (PL_UNLIKELY(!own->cells)) {
    own->route_count = g->vm.route_count + 1;
    own->cells = pl__alloc_zero((size_t)own->route_count * PL_TALLY_METHODS *
                                sizeof *own->cells);
    if (!own->cells)
      return NULL;
  }
  if (route >= own->route_count)
    route = 0;
  return &own->cells[route * PL_TALLY_METHODS + method];
}

void pl__tally_expect(const struct pl_tally *t, const struct pl_generation *g,
                      const struct pl_req *req, uint32_t route) {
  const struct pl_tally_generation *own = &g->tally;
  const struct pl_tally_cells *c;

  if (!own->cells || route >= own->route_count)
    return;
  c = &own->cells[route * PL_TALLY_METHODS + method_of(req)];
  __builtin_prefetch(&t->shard->cells[c->seconds], 1);
  __builtin_prefetch(&t->shard->cells[c->requests[PL_TALLY_SUCCESS]], 1);
}

static void put_example(struct pl_example *e, double seconds, double now,
                        const struct pl_context *context) {
  struct pl_origin origin = {
      .now = now,
      .trace = {context->trace_id[0], context->trace_id[1]},
      .request_id = context->request_id};

  pl__example_put(e, seconds, &origin);
}

static void record_seconds(struct pl_tally *t, uint32_t cell, double seconds,
                           const struct pl_generation *g,
                           const struct pl_req *req) {
  struct pl_example *e = pl__shard_record(t->shard, cell, seconds);

  if (pl__shard_wants_example(t->shard, cell, seconds, g->vm.clock.now))
    put_example(e, seconds, g->vm.clock.now, &req->context);
}

static void count_rare(struct pl_tally *t, const struct pl_req *req) {
  if (req->flags & PL_REQ_OVERDUE)
    pl__tally_add(t, PL_TALLY_OVERDUE, 1);
  if (req->flags & PL_REQ_ABORTED)
    pl__tally_add(t, PL_TALLY_ABORTED, 1);
}

bool pl__tally_request(struct pl_tally *t, struct pl_generation *g,
                       const struct pl_req *req, uint32_t route,
                       double seconds) {
  unsigned method = method_of(req), class = req->status / 100u;
  struct pl_tally_cells *c;

  class = class < PL_TALLY_CLASSES ? class : 0;
  c = cells_of(g, route, method);
  if (!c)
    return false;
  if (PL_UNLIKELY(!c->requests[class]))
    cells_make(t, c, g, route, method, class);
  pl__shard_add(t->shard, c->requests[class], 1);
  record_seconds(t, c->seconds, seconds, g, req);
  if (req->body_received > 0)
    pl__shard_record(t->shard, t->cells[PL_TALLY_REQUEST_BYTES],
                     req->body_received);
  if (req->sent_bytes > 0)
    pl__shard_record(t->shard, t->cells[PL_TALLY_RESPONSE_BYTES],
                     req->sent_bytes);
  if (PL_UNLIKELY(req->flags & (PL_REQ_OVERDUE | PL_REQ_ABORTED)))
    count_rare(t, req);
  return c->slow_s > 0 && seconds > (double)c->slow_s;
}

/* --- what is slow -------------------------------------------------------------- */

static double slow_of(const struct pl_tally *t, uint32_t cell) {
  struct pl_histogram h = {0};
  double seconds;

  pl__shard_gather(t->shard, cell, &h);
  if (pl__histogram_count(&h) < SLOW_COUNT_MIN)
    return 0;
  seconds = t->slow_factor * pl__histogram_quantile(&h, 0.99);
  return seconds > t->slow_min_s ? seconds : t->slow_min_s;
}

void pl__tally_slow(struct pl_tally *t, struct pl_generation *g) {
  struct pl_tally_generation *own = &g->tally;
  uint32_t count = own->route_count * PL_TALLY_METHODS, looked = 0;

  if (!own->cells)
    return;
  for (uint32_t i = 0; i < count && i < SLOW_CELLS_MAX && looked < SLOW_LOOKS;
       i++) {
    struct pl_tally_cells *c = &own->cells[own->slow_next++ % count];
    if (!c->seconds)
      continue;
    looked++;
    c->slow_s = t->slow_factor > 0 ? (float)slow_of(t, c->seconds) : 0;
  }
}

/* --- what others count ---------------------------------------------------------- */

/* Adds what a count has grown by since it was told last. */
static void catch_up(struct pl_tally *t, unsigned what, uint64_t now,
                     uint64_t *told, double unit) {
  if (now == *told)
    return;
  pl__tally_add(t, what, (double)(now - *told) * unit);
  *told = now;
}

void pl__tally_net(struct pl_tally *t, const struct pl_net *net) {
  catch_up(t, PL_TALLY_ACCEPTED, net->accepted_count, &t->told_accepted, 1);
  catch_up(t, PL_TALLY_REFUSED, net->refused_count, &t->told_refused, 1);
}

void pl__tally_traces(struct pl_tally *t, const struct pl_tracer *tracer) {
  const struct pl_trace_counts *n = &tracer->counts;
  struct pl_trace_counts *told = &t->told_traces;

  for (unsigned i = 0; i < PL_KEPT_REASONS; i++)
    catch_up(t, PL_TALLY_KEPT + i, n->traces[i], &told->traces[i], 1);
  catch_up(t, PL_TALLY_CAPPED, n->capped, &told->capped, 1);
  catch_up(t, PL_TALLY_UNHEARD, n->unheard, &told->unheard, 1);
  catch_up(t, PL_TALLY_SPANS, n->spans, &told->spans, 1);
  catch_up(t, PL_TALLY_SPANS_LEFT_OUT, n->left_out, &told->left_out, 1);
}

static void tell_jit(struct pl_tally *t, const struct pl_jit_counts *now,
                     struct pl_jit_counts *told) {
  pl__tally_add(t, PL_TALLY_TRACES, now->traces - told->traces);
  pl__tally_add(t, PL_TALLY_TRACE_ABORTS, now->aborts - told->aborts);
  pl__tally_add(t, PL_TALLY_FLUSHES, now->flushes - told->flushes);
  *told = *now;
}

void pl__tally_vm(struct pl_tally *t, struct pl_generation *g) {
  const struct pl_vm_counts *n = &g->vm.counts;
  struct pl_vm_counts *told = &g->tally.told;
  uint64_t allocated = pl__allocations_bytes(&g->vm.allocations);

  catch_up(t, PL_TALLY_ALLOCATED, allocated, &g->tally.told_allocated, 1);
  catch_up(t, PL_TALLY_PREEMPTED, n->preempted, &told->preempted, 1);
  catch_up(t, PL_TALLY_STOPPED, n->overdue, &told->overdue, 1);
  catch_up(t, PL_TALLY_CONDEMNED, n->condemned, &told->condemned, 1);
  catch_up(t, PL_TALLY_ABANDONED, n->abandoned, &told->abandoned, 1);
  catch_up(t, PL_TALLY_LONG_RUNS, n->long_runs, &told->long_runs, 1);
  catch_up(t, PL_TALLY_CYCLES, n->cycles, &told->cycles, 1);
  for (unsigned i = 0; i < PL_COLLECT_PHASES; i++) {
    catch_up(t, PL_TALLY_COLLECT_SLICES + i, n->collect_slices[i],
             &told->collect_slices[i], 1);
    catch_up(t, PL_TALLY_COLLECT_SECONDS + i, n->collect_ns[i],
             &told->collect_ns[i], 1.0 / PL_NS_PER_S);
  }
  tell_jit(t, &n->jit, &told->jit);
}

void pl__tally_gauges(struct pl_tally *t, const struct pl_generation *now,
                      const struct pl_generation *old) {
  const struct pl_vm *a = &now->vm, *b = old ? &old->vm : NULL;

  pl__shard_set(t->shard, t->cells[PL_TALLY_HEAP],
                (double)(a->heap_bytes + (b ? b->heap_bytes : 0)));
  pl__shard_set(t->shard, t->cells[PL_TALLY_COROUTINES],
                a->live_count + (b ? b->live_count : 0));
  pl__shard_set(t->shard, t->cells[PL_TALLY_TASKS],
                a->task_count + (b ? b->task_count : 0));
  pl__shard_set(t->shard, t->cells[PL_TALLY_CODE],
                a->counts.jit.code_bytes + (b ? b->counts.jit.code_bytes : 0));
}

void pl__tally_forget(struct pl_tally_generation *g) {
  pl__free(g->cells);
  g->cells = NULL;
}

void pl__tally_reload(struct pl_tally *t, const struct pl_reload_result *r) {
  pl__tally_add(t, r->code ? PL_TALLY_REJECTED : PL_TALLY_COMMITTED, 1);
  pl__tally_record(t, PL_TALLY_RELOAD_SECONDS,
                   (double)r->took_ns / PL_NS_PER_S);
}
