/* server/dispatch.c - see dispatch.h. */
#include "server/dispatch.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/flights.h"
#include "fabric/record.h"
#include "server/config.h"
#include "server/inject.h"
#include "vm/report.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <sys/random.h>

/* How often a turn lets the log's reader run when it can't keep up: worker and
 * control may share one core. */
#define LOG_YIELD_MAX 8 /* without anything taken meanwhile */
#define LOG_HOLD_NS (2 * (int64_t)PL_NS_PER_MS)
#define NOTED_WAIT_S 0.001 /* what is shorter explains nothing */
#define DEV_RETIRE_S 0.2

static struct pl_dispatch *dispatch_of(void *arg) { return arg; }

/* --- from net ---------------------------------------------------------- */

/* The generation of a request whose head was routed; NULL: it was refused
 * before that. */
static struct pl_generation *owner_of(const struct pl_dispatch *d,
                                      const struct pl_req *req) {
  return d->entries[req->slot].owner;
}

/* As the log and the recorder tell it. */
static uint32_t route_of(const struct pl_generation *g,
                         const struct pl_req *req) {
  return g ? pl__vm_route_in_log(&g->vm, req) : PL_RECORD_NO_ROUTE;
}

static void on_head(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_dispatch *d = dispatch_of(arg);
  struct pl_generation *g = d->now;
  void *owner = pl__conn_owner(c);

  d->entries[req->slot] = (struct pl_dispatch_entry){.owner = g, .req = req};
  g->request_count++;
  req->env = &g->env;
  pl__context_extract(req, &g->rules, pl__conn_peer(c), &g->vm.random);
  if (d->has_tracer)
    pl__tracer_mark_caller(&d->tracer, &req->context, d->net.now);
  req->site = owner ? pl__inject_site(owner) : g->site;
  pl__vm_route(&g->vm, req);
}

static void on_request(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_dispatch *d = dispatch_of(arg);

  (void)c;
  d->entries[req->slot].queued_at = d->net.now;
  pl__generation_queue(owner_of(d, req), req);
}

/* A body that lies in the slab is waited for here, and so is a handler's turn. */
static void note_waits(struct pl_dispatch *d, const struct pl_req *req) {
  const struct pl_dispatch_entry *e = &d->entries[req->slot];

  if (!d->has_tracer)
    return;
  if (e->queued_at - req->received > NOTED_WAIT_S)
    pl__trace_waited_before(&e->owner->vm, req, PL_SPAN_BODY, req->received,
                            e->queued_at);
  if (d->tally.now - e->queued_at > NOTED_WAIT_S)
    pl__trace_waited_before(&e->owner->vm, req, PL_SPAN_QUEUE, e->queued_at,
                            d->tally.now);
}

/* A trace that nobody else knows is told when it is kept: see record_end. */
static bool is_known_trace(const struct pl_context *c) {
  return c->parent_id || (c->trace_flags & PL_TRACE_SAMPLED);
}

static void record_trace(struct pl_dispatch *d, const struct pl_context *c) {
  pl__recorder_often(&d->recorder, d->tally.now, c->trace_id[0], c->trace_id[1],
                     pl__event_word(PL_EVENT_TRACE, 0, 0, 0, 0));
}

static void record_begin(struct pl_dispatch *d, const struct pl_req *req) {
  const struct pl_context *c = &req->context;
  const struct pl_vm *vm = &owner_of(d, req)->vm;

  if (is_known_trace(c))
    record_trace(d, c);
  pl__recorder_often(&d->recorder, d->tally.now, c->request_id, req->slot,
                     pl__event_word(PL_EVENT_BEGIN, 0, req->method,
                                    pl__vm_route_in_log(vm, req),
                                    vm->options.generation));
}

static void record_end(struct pl_dispatch *d, const struct pl_generation *g,
                       const struct pl_req *req, uint32_t route, bool is_kept) {
  uint32_t generation = g->vm.options.generation;

  if (PL_UNLIKELY(is_kept) && !is_known_trace(&req->context))
    record_trace(d, &req->context);
  if (req->flags & PL_REQ_OVERDUE)
    pl__recorder_deadline(&d->recorder, d->tally.now, req->context.request_id,
                          req->slot, route, generation);
  pl__recorder_often(
      &d->recorder, d->tally.now, req->context.request_id, req->slot,
      pl__event_word(PL_EVENT_END, 0, req->status, route, generation));
}

/* The clock was read when the request before it ended, or for this turn. */
void pl__dispatch_on_begin(struct pl_dispatch *d, const struct pl_req *req) {
  if (PL_UNLIKELY(d->tally.now - req->received > NOTED_WAIT_S))
    note_waits(d, req);
  d->entries[req->slot].has_begun = true;
  if (pl__recorder_is_on(&d->recorder))
    record_begin(d, req);
  pl__tally_record(&d->tally, PL_TALLY_QUEUE,
                   d->tally.now - d->entries[req->slot].queued_at);
  if (d->tally.shard)
    pl__tally_expect(&d->tally, owner_of(d, req), req, req->route);
}

static void on_body(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)c;
  pl__vm_on_body(&owner_of(dispatch_of(arg), req)->vm, req);
}

static void on_writable(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)c;
  pl__vm_on_writable(&owner_of(dispatch_of(arg), req)->vm, req);
}

static void on_gone(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_generation *g = owner_of(dispatch_of(arg), req);

  pl__vm_on_gone(&g->vm, req, pl__conn_is_lost(c));
}

static bool is_aborted(const struct pl_req *req) {
  return (req->flags & PL_REQ_ABORTED) && !(req->flags & PL_REQ_DONE);
}

/* By the request's id, so that all who know it choose the same requests. */
static bool is_sampled(const struct pl_dispatch *d, const struct pl_req *req) {
  return req->context.request_id * 0x9e3779b97f4a7c15u <= d->access_below ||
         req->status >= 500 || is_aborted(req);
}

static void log_access(struct pl_dispatch *d, const struct pl_generation *g,
                       struct pl_conn *c, const struct pl_req *req,
                       uint32_t route, double seconds) {
  struct pl_access a = {
      .request_id = req->context.request_id,
      .trace_id = {req->context.trace_id[0], req->context.trace_id[1]},
      .span_id = req->context.span_id,
      .labels = pl__report_labels(&req->context),
      .duration_ns = (uint64_t)(seconds * PL_NS_PER_S),
      .bytes_in = (uint64_t)req->body_received,
      .bytes_out = (uint64_t)req->sent_bytes,
      .route = route,
      .generation = g ? g->number : 0,
      .worker = (uint16_t)d->worker,
      .status = req->status,
      .method = req->method,
      .http_minor = req->http_minor,
      .aborted = is_aborted(req),
      .peer = *pl__conn_peer(c),
      .target = req->target,
  };

  pl__record_access(&d->log, &a);
}

/* Whether it is kept. */
static bool end_trace(struct pl_dispatch *d, struct pl_generation *g,
                      const struct pl_req *req, uint32_t route, bool is_slow) {
  struct pl_trace_end e = {.req = req,
                           .end = d->tally.now,
                           .route = route,
                           .generation = g ? g->number : 0,
                           .is_slow = is_slow};

  return pl__trace_end_request(&d->tracer, g ? &g->vm : NULL, &e);
}

/* Whether the request's trace is kept. */
static bool tell_end(struct pl_dispatch *d, struct pl_generation *g,
                     struct pl_conn *c, const struct pl_req *req,
                     uint32_t route) {
  bool is_slow = false, is_kept = false;
  uint32_t before = pl__phase_enter(d->net.phase, PL_PHASE_LOG);
  double seconds;

  d->tally.now = pl__stopwatch_read(&d->watch) + d->time_offset;
  seconds = d->tally.now - req->received;
  seconds = seconds > 0 ? seconds : 0;
  if (d->log_access && !(req->flags & PL_REQ_TOLD) && is_sampled(d, req))
    log_access(d, g, c, req, route, seconds);
  if (d->tally.shard)
    is_slow = pl__tally_request(&d->tally, g ? g : d->now, req,
                                g ? req->route : 0, seconds);
  if (d->has_tracer)
    is_kept = end_trace(d, g, req, route, is_slow);
  pl__phase_leave(d->net.phase, before);
  return is_kept;
}

/* The record has to be there before the client has its answer: a worker that
 * is killed in between would leave none. */
static void on_answer(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_dispatch *d = dispatch_of(arg);
  const struct pl_generation *g = owner_of(d, req);
  uint32_t before;
  double seconds;

  if (!d->log_access || !is_sampled(d, req))
    return;
  before = pl__phase_enter(d->net.phase, PL_PHASE_LOG);
  seconds = pl__stopwatch_read(&d->watch) + d->time_offset - req->received;
  log_access(d, g, c, req, route_of(g, req), seconds > 0 ? seconds : 0);
  pl__phase_leave(d->net.phase, before);
}

static void on_end(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_dispatch *d = dispatch_of(arg);
  struct pl_generation *g = owner_of(d, req);
  uint32_t route = route_of(g, req);
  bool is_kept = false;

  d->request_count++;
  if (d->log_access || d->tally.shard)
    is_kept = tell_end(d, g, c, req, route);
  if (d->entries[req->slot].has_begun && pl__recorder_is_on(&d->recorder))
    record_end(d, g, req, route, is_kept);
  d->entries[req->slot] = (struct pl_dispatch_entry){0};
  if (g)
    g->request_count--;
}

static void on_closed(void *arg, struct pl_conn *c) {
  struct pl_dispatch *d = dispatch_of(arg);
  void *owner = pl__conn_owner(c);

  if (owner)
    pl__inject_on_closed(owner);
  if (d->on_conn_closed)
    d->on_conn_closed(d->arg);
}

static const struct pl_conn_events conn_events = {
    .on_head = on_head,
    .on_request = on_request,
    .on_body = on_body,
    .on_writable = on_writable,
    .on_gone = on_gone,
    .on_answer = on_answer,
    .on_end = on_end,
    .on_closed = on_closed,
};

/* --- opening ----------------------------------------------------------- */

static void net_limits(const struct pl_config *config,
                       struct pl_net_limits *out) {
  *out = (struct pl_net_limits){
      .seconds =
          {
              [PL_DEADLINE_HEADER] = config->timeout_header_s,
              [PL_DEADLINE_BODY] = config->timeout_body_s,
              [PL_DEADLINE_IDLE] = config->timeout_idle_s,
              [PL_DEADLINE_WRITE] = config->timeout_write_s,
              [PL_DEADLINE_LINGER] = PL_NET_LINGER_S,
          },
      .output_bytes = (uint32_t)config->limit_output_bytes,
      .parser = {(uint32_t)config->limit_target_bytes,
                 (uint32_t)config->limit_headers_bytes,
                 (uint32_t)config->limit_header_count},
      .body_bytes = (double)config->limit_body_bytes,
      .requests_max = (uint32_t)config->limit_requests_per_connection,
      .connections_max = (uint32_t)config->limit_connections,
  };
}

static uint64_t random_seed(const struct pl_dispatch *d) {
  uint64_t seed = 0;

  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
    seed = (uint64_t)pl__clock_realtime_ns() ^ ((uint64_t)d->worker << 48);
  return seed;
}

uint32_t pl__dispatch_slab_bytes(const struct pl_config *config) {
  struct pl_net_limits limits;

  net_limits(config, &limits);
  return pl__net_slab_bytes(&limits);
}

/* The greatest id of those that make up that share of all; 0: hardly any. */
static uint64_t id_below(double share) {
  return share >= 1 ? UINT64_MAX : (uint64_t)(share * 0x1p64);
}

/* What of the configuration can change while connections are open. */
static void use_config(struct pl_dispatch *d, const struct pl_config *config) {
  struct pl_net_limits limits;

  d->config = config;
  d->log_access =
      d->has_log && config->log_access && config->log_level <= PL_CONFIG_INFO;
  d->access_below = id_below(config->log_access_sample);
  if (d->has_tracer) {
    pl__tracer_sample(&d->tracer, config->trace_sample);
    pl__tracer_limit_wishes(
        &d->tracer, (double)config->trace_wished_per_second / config->workers);
  }
  d->tally.slow_factor = (double)config->trace_slow_factor;
  d->tally.slow_min_s = config->trace_slow_min_s;
  if (d->has_log) /* without memory nothing is left out */
    pl__sampler_set(&d->sampler, config->log_sample_first,
                    config->log_sample_then);
  net_limits(config, &limits);
  pl__net_set_limits(&d->net, &limits);
}

static int open_generation(struct pl_dispatch *d,
                           const struct pl_dispatch_options *options,
                           char *err) {
  struct pl_generation_options wanted = options->generation;
  int failed;

  wanted.dispatch = d;
  wanted.config = options->config;
  failed = pl__generation_open(&d->now, &wanted, err);
  if (!failed)
    use_config(d, &d->now->config);
  return failed;
}

static uint64_t count_drops(const struct pl_dispatch *d) {
  uint64_t count = 0;

  for (unsigned lane = 0; lane < PL_RING_LANES; lane++)
    count +=
        atomic_load_explicit(&d->log.ring->drops[lane], memory_order_relaxed);
  return count;
}

int pl__dispatch_open(struct pl_dispatch *d,
                      const struct pl_dispatch_options *options, char *err) {
  struct pl_net_limits limits;
  int failed;

  memset(d, 0, sizeof *d);
  d->worker = options->worker;
  d->inject = options->inject;
  d->on_output = options->on_output;
  d->on_read_line = options->on_read_line;
  d->output_arg = options->output_arg;
  d->on_report = options->on_report;
  d->report_arg = options->report_arg;
  d->has_log = options->log != NULL;
  if (d->has_log)
    pl__ring_writer_init(&d->log, options->log, options->log_wake_fd);
  d->has_tracer = options->spans != NULL;
  if (d->has_tracer)
    pl__tracer_init(&d->tracer, options->spans, options->tracing, &d->watch,
                    d->worker);
  d->told_drops = d->has_log ? count_drops(d) : 0;
  pl__recorder_open(&d->recorder, options->events, &d->watch);
  pl__sampler_init(&d->sampler, random_seed(d));
  pl__buf_pool_init(&d->buffers);
  snprintf(err, PL_VM_ERROR_BYTES, "out of memory");
  failed = pl__slabs_init(&d->slabs, options->slabs, options->slab_bytes,
                          options->slab_count);
  if (failed)
    return failed;
  d->entries = pl__alloc_zero(options->slab_count * sizeof(*d->entries));
  if (!d->entries) {
    failed = PL_ENOMEM;
    goto fail_entries;
  }
  net_limits(options->config, &limits);
  failed = pl__net_init(&d->net, &limits, &conn_events, d, &d->slabs,
                        &d->buffers, random_seed(d));
  if (failed)
    goto fail_net;
  if (options->generation.flights)
    d->net.phase = &options->generation.flights->phase;
  pl__http_env_init(&d->net.env,
                    pl__clock_realtime_ns() / (int64_t)PL_NS_PER_S);
  failed = open_generation(d, options, err);
  if (failed)
    goto fail_generation;
  pl__dispatch_tick(d);
  return 0;

fail_generation:
  pl__net_deinit(&d->net);
fail_net:
  pl__free(d->entries);
fail_entries:
  pl__slabs_deinit(&d->slabs);
  return failed;
}

void pl__dispatch_close(struct pl_dispatch *d) {
  if (d->old)
    pl__generation_close(d->old);
  pl__generation_close(d->now);
  pl__net_deinit(&d->net);
  pl__free(d->entries);
  pl__slabs_deinit(&d->slabs);
  pl__sampler_deinit(&d->sampler);
  pl__buf_pool_deinit(&d->buffers);
}

/* A stream that stays open must not hold up the next change in development. */
static double retire_seconds(const struct pl_config *config) {
  return config->dev && config->timeout_drain_s > DEV_RETIRE_S
             ? DEV_RETIRE_S
             : config->timeout_drain_s;
}

void pl__dispatch_succeed(struct pl_dispatch *d, struct pl_generation *g) {
  d->old = d->now;
  d->now = g;
  pl__generation_retire(d->old, retire_seconds(&g->config));
  use_config(d, &g->config);
  pl__dispatch_tick(d);
}

void pl__dispatch_set_level(struct pl_dispatch *d, uint32_t level) {
  d->log_access =
      d->has_log && d->config->log_access && level <= PL_CONFIG_INFO;
  d->now->vm.options.log_level_min = (int)level;
  if (d->old)
    d->old->vm.options.log_level_min = (int)level;
}

void pl__dispatch_tally(struct pl_dispatch *d) {
  if (!d->tally.shard)
    return;
  if (d->has_tracer) {
    pl__tracer_tick(&d->tracer);
    pl__tally_traces(&d->tally, &d->tracer);
  }
  pl__tally_slow(&d->tally, d->now);
  pl__tally_net(&d->tally, &d->net);
  pl__tally_vm(&d->tally, d->now);
  if (d->old)
    pl__tally_vm(&d->tally, d->old);
  pl__tally_gauges(&d->tally, d->now, d->old);
}

void pl__dispatch_drop(struct pl_dispatch *d, const struct pl_generation *g) {
  for (uint32_t i = 0; i < d->slabs.count; i++)
    if (d->entries[i].owner == g)
      pl__conn_close(d->entries[i].req->conn);
}

struct pl_generation *pl__dispatch_take_old(struct pl_dispatch *d) {
  struct pl_generation *g = d->old;

  if (!g || !pl__generation_is_over(g))
    return NULL;
  pl__dispatch_tally(d);
  d->old = NULL;
  return g;
}

/* --- turns ------------------------------------------------------------- */

static void tick_generation(struct pl_dispatch *d, struct pl_generation *g,
                            double now) {
  pl__http_env_tick(&g->env, (int64_t)now);
  pl__vm_tick(&g->vm, now, d->net.now);
}

void pl__dispatch_tick(struct pl_dispatch *d) {
  double now = (double)pl__clock_realtime_coarse_ns() / PL_NS_PER_S;

  now += d->time_offset;
  d->net.now = d->tally.now = pl__stopwatch_look(&d->watch) + d->time_offset;
  pl__http_env_tick(&d->net.env, (int64_t)now);
  tick_generation(d, d->now, now);
  if (d->old)
    tick_generation(d, d->old, now);
}

/* Lets a reader that shares our core run, for as long as it gets on.  Returns
 * what is left in the ring. */
static uint64_t log_yield(struct pl_dispatch *d, uint64_t fill, uint64_t to) {
  int64_t due_ns = pl__clock_monotonic_ns() + LOG_HOLD_NS;
  uint64_t before = fill;

  for (int idle = 0; idle < LOG_YIELD_MAX && fill > to; before = fill) {
    sched_yield();
    fill = pl__ring_fill(d->log.ring);
    idle = fill < before ? 0 : idle + 1;
    if (pl__clock_monotonic_ns() > due_ns)
      break;
  }
  return fill;
}

/* Records are dropped once the ring is three quarters full: before that, a
 * reader that shares our core gets to run. One that takes nothing (a full
 * disk) doesn't hold us up again until it does. */
static void log_turn(struct pl_dispatch *d) {
  uint32_t before = pl__phase_enter(d->net.phase, PL_PHASE_LOG);
  uint64_t half = d->log.ring->bytes / 2, fill = pl__ring_fill(d->log.ring);
  uint64_t left = fill;

  pl__ring_wake(&d->log);
  if (fill > half && !d->log_stalled)
    left = log_yield(d, fill, half);
  d->log_stalled = left > half && (d->log_stalled || left >= fill);
  pl__phase_leave(d->net.phase, before);
}

/* What found no room in the ring since the last turn. */
static void record_drops(struct pl_dispatch *d) {
  uint64_t count = count_drops(d), since = count - d->told_drops;

  d->told_drops = count;
  if (since && pl__recorder_is_on(&d->recorder))
    pl__recorder_seldom(&d->recorder, d->net.now, 0, since,
                        pl__event_word(PL_EVENT_DROP, 0, 0, 0, 0));
}

/* What the sampler has left out: at the end, or once a second. */
static void tell_sampled(struct pl_dispatch *d, bool now) {
  struct pl_record head = {.worker = (uint16_t)d->worker,
                           .route = PL_RECORD_NO_ROUTE};

  if (d->has_log)
    pl__sampler_tell(&d->sampler, &d->log, &head,
                     pl__clock_monotonic_coarse_ns(), now);
}

void pl__dispatch_tell(struct pl_dispatch *d) { tell_sampled(d, true); }

/* Of the generation that was replaced. True: there is more to do. */
static bool turn_old(struct pl_dispatch *d, struct pl_generation *g) {
  bool more = pl__vm_dispatch(&g->vm);

  pl__vm_collect(&g->vm, false);
  pl__generation_expire(g, d->net.now);
  return more || pl__vm_is_ready(&g->vm) || g->queue_count > 0;
}

bool pl__dispatch_turn(struct pl_dispatch *d, bool idle) {
  bool more;

  pl__net_expire(&d->net);
  more = pl__vm_dispatch(&d->now->vm);
  if (d->old)
    more = turn_old(d, d->old) || more;
  pl__net_flush(&d->net);
  more = more || pl__vm_is_ready(&d->now->vm) || d->now->queue_count > 0;
  pl__vm_collect(&d->now->vm, idle && !more);
  tell_sampled(d, false);
  if (d->has_log) {
    log_turn(d);
    record_drops(d);
  }
  return more;
}

double pl__dispatch_wait(const struct pl_dispatch *d) {
  double due = pl__vm_due(&d->now->vm);

  if (d->old && pl__vm_due(&d->old->vm) < due)
    due = pl__vm_due(&d->old->vm);
  if (d->old && d->old->cut_at < due)
    due = d->old->cut_at;
  if (!pl__deadlines_empty(&d->net.deadlines) &&
      d->net.now + PL_DEADLINES_TICK_S < due)
    due = d->net.now + PL_DEADLINES_TICK_S;
  if (due >= HUGE_VAL)
    return HUGE_VAL;
  due -= pl__clock_monotonic_s() + d->time_offset;
  return due > 0 ? due : 0;
}
