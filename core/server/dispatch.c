/* server/dispatch.c - see dispatch.h. */
#include "server/dispatch.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/record.h"
#include "server/config.h"
#include "server/inject.h"
#include "server/modules.h"
#include "server/values.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <sys/random.h>

/* How often a turn lets the log's reader run when it can't keep up: worker and
 * control may share one core. */
#define LOG_YIELD_MAX 8
/* Of vm.stuck_timeout: what cannot be parked for so long is ended with a 503,
 * before the worker is taken for stuck. */
#define HOLD_SHARE 2

static struct pl_dispatch *dispatch_of(void *arg) { return arg; }

/* --- from net ---------------------------------------------------------- */

static void on_head(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_dispatch *d = dispatch_of(arg);
  void *owner = pl__conn_owner(c);

  req->site = owner ? pl__inject_site(owner) : d->site;
  pl__vm_route(&d->vm, req);
}

static void on_request(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_dispatch *d = dispatch_of(arg);

  (void)c;
  /* One entry per slot at most: there is room. */
  if (PL_NEVER(d->queue_count == d->queue_cap))
    return;
  d->queue[(d->queue_head + d->queue_count++) % d->queue_cap] = req;
}

static void on_body(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)c;
  pl__vm_on_body(&dispatch_of(arg)->vm, req);
}

static void on_writable(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)c;
  pl__vm_on_writable(&dispatch_of(arg)->vm, req);
}

static void on_gone(void *arg, struct pl_conn *c, struct pl_req *req) {
  pl__vm_on_gone(&dispatch_of(arg)->vm, req, pl__conn_is_lost(c));
}

static void log_access(struct pl_dispatch *d, struct pl_conn *c,
                       const struct pl_req *req) {
  double seconds = pl__clock_monotonic_s() + d->time_offset - req->received;
  struct pl_access a = {
      .request_id = req->id,
      .duration_ns = seconds > 0 ? (uint64_t)(seconds * PL_NS_PER_S) : 0,
      .bytes_in = (uint64_t)req->body_received,
      .bytes_out = (uint64_t)req->sent_bytes,
      .route = pl__vm_route_in_log(&d->vm, req),
      .worker = (uint16_t)d->worker,
      .status = req->status,
      .method = req->method,
      .http_minor = req->http_minor,
      .aborted = (req->flags & PL_REQ_ABORTED) && !(req->flags & PL_REQ_DONE),
      .peer = *pl__conn_peer(c),
      .target = req->target,
  };

  pl__record_access(&d->log, &a);
}

static void on_end(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct pl_dispatch *d = dispatch_of(arg);

  d->request_count++;
  if (d->log_access)
    log_access(d, c, req);
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
    .on_end = on_end,
    .on_closed = on_closed,
};

/* --- from the VM ------------------------------------------------------- */

static bool host_has_next(void *arg) {
  return dispatch_of(arg)->queue_count > 0;
}

static struct pl_req *host_next(void *arg) {
  struct pl_dispatch *d = dispatch_of(arg);

  while (d->queue_count > 0) {
    struct pl_req *req = d->queue[d->queue_head];

    d->queue_head = (d->queue_head + 1) % d->queue_cap;
    d->queue_count--;
    if (pl__conn_is_lost(req->conn)) { /* nobody is there to be answered */
      pl__conn_end(req->conn);
      continue;
    }
    d->running++;
    return req;
  }
  return NULL;
}

static void host_end(void *arg, struct pl_req *req) {
  dispatch_of(arg)->running--;
  pl__conn_end(req->conn);
}

static void host_touch(void *arg, struct pl_req *req) {
  (void)arg;
  pl__conn_touch(req->conn);
}

static void host_send(void *arg) { pl__net_flush(&dispatch_of(arg)->net); }

static int host_flush(void *arg, struct pl_req *req) {
  (void)arg;
  return pl__conn_flush(req->conn);
}

static int host_pin(void *arg, struct pl_req *req, const char *at,
                    size_t bytes) {
  (void)arg;
  return pl__conn_pin(req->conn, at, bytes, NULL, 0);
}

static int host_send_file(void *arg, struct pl_req *req, int fd, off_t offset,
                          size_t bytes) {
  (void)arg;
  return pl__conn_send_file(req->conn, fd, offset, bytes);
}

static bool host_has_room(void *arg, struct pl_req *req) {
  (void)arg;
  return pl__conn_has_room(req->conn);
}

static void host_abort(void *arg, struct pl_req *req) {
  (void)arg;
  pl__conn_abort(req->conn);
}

static void host_take_body(void *arg, struct pl_req *req, uint32_t bytes) {
  (void)arg;
  pl__conn_take_body(req->conn, bytes);
}

static void host_await_body(void *arg, struct pl_req *req) {
  (void)arg;
  pl__conn_await_body(req->conn);
}

static const struct pl_peer *host_peer(void *arg, struct pl_req *req) {
  (void)arg;
  return pl__conn_peer(req->conn);
}

static void host_advance(void *arg, double seconds) {
  struct pl_dispatch *d = dispatch_of(arg);

  d->time_offset += seconds;
  pl__dispatch_tick(d);
}

static void host_quit(void *arg, int code) {
  struct pl_dispatch *d = dispatch_of(arg);

  d->quit_code = code;
  d->quit = true;
}

static void host_output(void *arg, bool message, const char *text,
                        size_t bytes) {
  struct pl_dispatch *d = dispatch_of(arg);

  d->on_output(d->output_arg, message, text, bytes);
}

static int host_inject_open(void *arg, uint32_t site) {
  return pl__inject_open(dispatch_of(arg)->inject, site);
}

static int host_inject_feed(void *arg, int conn, const char *at,
                            uint32_t bytes) {
  return pl__inject_feed(dispatch_of(arg)->inject, conn, at, bytes);
}

static struct pl_slice host_inject_peek(void *arg, int conn, bool *closed) {
  return pl__inject_peek(dispatch_of(arg)->inject, conn, closed);
}

static void host_inject_drop(void *arg, int conn, uint32_t bytes) {
  pl__inject_drop(dispatch_of(arg)->inject, conn, bytes);
}

static void host_inject_eof(void *arg, int conn) {
  pl__inject_eof(dispatch_of(arg)->inject, conn);
}

static void host_inject_stall(void *arg, int conn, bool stalled) {
  pl__inject_stall(dispatch_of(arg)->inject, conn, stalled);
}

static void host_inject_close(void *arg, int conn) {
  pl__inject_close(dispatch_of(arg)->inject, conn);
}

static struct pl_vm_host host_for(struct pl_dispatch *d) {
  struct pl_vm_host host = {
      .arg = d,
      .send = host_send,
      .has_next = host_has_next,
      .next = host_next,
      .end = host_end,
      .touch = host_touch,
      .flush = host_flush,
      .pin = host_pin,
      .send_file = host_send_file,
      .has_room = host_has_room,
      .abort = host_abort,
      .take_body = host_take_body,
      .await_body = host_await_body,
      .peer = host_peer,
  };

  if (!d->inject)
    return host;
  host.inject_open = host_inject_open;
  host.inject_feed = host_inject_feed;
  host.inject_peek = host_inject_peek;
  host.inject_drop = host_inject_drop;
  host.inject_eof = host_inject_eof;
  host.inject_stall = host_inject_stall;
  host.inject_close = host_inject_close;
  host.advance = host_advance;
  host.output = host_output;
  host.quit = host_quit;
  return host;
}

/* --- opening ----------------------------------------------------------- */

static int open_vm(struct pl_dispatch *d,
                   const struct pl_dispatch_options *wanted, char *err) {
  const struct pl_config *config = d->config;
  char folder[PL_CONFIG_PATH_BYTES];
  struct pl_vm_options options = {
      .host = host_for(d),
      .lua_folder = folder,
      .settings_json = config->settings_json,
      .values = d->values,
      .log = d->has_log ? &d->log : NULL,
      .worker = d->worker,
      .slot_count = d->slabs.count,
      .tasks_max = (uint32_t)config->limit_tasks_per_worker,
      .tasks_per_request_max = (uint32_t)config->limit_tasks,
      .timeout_s = config->timeout_handler_s,
      .body_max = (double)config->limit_body_bytes,
      /* A tool is one task, which holds everything: nobody else could be. */
      .memory_bytes_soft =
          d->worker == UINT32_MAX ? 0 : config->vm_memory_soft_bytes,
      .memory_bytes_max = config->vm_memory_hard_bytes,
      .slice_s =
          config->vm_preempt == PL_VM_PREEMPT_OFF ? 0 : config->vm_slice_s,
      .hold_s_max = config->vm_stuck_timeout_s / HOLD_SHARE,
      .flights = wanted->flights,
      .quarantine = wanted->quarantine,
      .long_runs = wanted->long_runs,
      .log_level_min = (int)config->log_level,
  };
  int failed;

  failed = pl__modules_folder(folder, sizeof folder);
  if (failed) {
    snprintf(err, PL_VM_ERROR_BYTES,
             "perilune's Lua modules are not where they belong: no %s", folder);
    return failed;
  }
  return pl__vm_open(&d->vm, &options, err);
}

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

int pl__dispatch_open(struct pl_dispatch *d,
                      const struct pl_dispatch_options *options, char *err) {
  struct pl_net_limits limits;
  int failed;

  memset(d, 0, sizeof *d);
  d->config = options->config;
  d->worker = options->worker;
  d->inject = options->inject;
  d->on_output = options->on_output;
  d->output_arg = options->output_arg;
  d->has_log = options->log != NULL;
  d->log_access = d->has_log && d->config->log_access &&
                  d->config->log_level <= PL_CONFIG_INFO;
  if (d->has_log)
    pl__ring_writer_init(&d->log, options->log, options->log_wake_fd);
  pl__values_fill(d->config, d->values, PL_DISPATCH_VALUES_MAX);
  pl__buf_pool_init(&d->buffers);
  snprintf(err, PL_VM_ERROR_BYTES, "out of memory");
  failed = pl__slabs_init(&d->slabs, options->slabs, options->slab_bytes,
                          options->slab_count);
  if (failed)
    return failed;
  d->queue_cap = options->slab_count;
  d->queue = pl__alloc(d->queue_cap * sizeof(*d->queue));
  if (!d->queue) {
    failed = PL_ENOMEM;
    goto fail_queue;
  }
  net_limits(d->config, &limits);
  failed = pl__net_init(&d->net, &limits, &conn_events, d, &d->slabs,
                        &d->buffers, random_seed(d));
  if (failed)
    goto fail_net;
  pl__http_env_init(&d->net.env,
                    pl__clock_realtime_ns() / (int64_t)PL_NS_PER_S);
  failed = open_vm(d, options, err);
  if (failed)
    goto fail_vm;
  pl__dispatch_tick(d);
  return 0;

fail_vm:
  pl__net_deinit(&d->net);
fail_net:
  pl__free(d->queue);
fail_queue:
  pl__slabs_deinit(&d->slabs);
  return failed;
}

void pl__dispatch_close(struct pl_dispatch *d) {
  pl__vm_close(&d->vm);
  pl__net_deinit(&d->net);
  pl__free(d->queue);
  pl__slabs_deinit(&d->slabs);
  pl__buf_pool_deinit(&d->buffers);
}

/* --- turns ------------------------------------------------------------- */

void pl__dispatch_tick(struct pl_dispatch *d) {
  double now = (double)pl__clock_realtime_coarse_ns() / PL_NS_PER_S;

  now += d->time_offset;
  d->net.now = pl__clock_monotonic_s() + d->time_offset;
  pl__http_env_tick(&d->net.env, (int64_t)now);
  pl__vm_tick(&d->vm, now, d->net.now);
}

/* Records are dropped once the ring is three quarters full: before that, a
 * reader that shares our core gets to run. One that takes nothing (a full
 * disk) doesn't hold us up again until it does. */
static void log_turn(struct pl_dispatch *d) {
  uint64_t half = d->log.ring->bytes / 2, fill = pl__ring_fill(d->log.ring);

  pl__ring_wake(&d->log);
  if (fill <= half) {
    d->log_stalled = false;
    return;
  }
  for (int i = 0; i < LOG_YIELD_MAX && !d->log_stalled && fill > half; i++) {
    sched_yield();
    fill = pl__ring_fill(d->log.ring);
  }
  d->log_stalled = fill > half;
}

bool pl__dispatch_turn(struct pl_dispatch *d, bool idle) {
  bool more;

  pl__net_expire(&d->net);
  more = pl__vm_dispatch(&d->vm);
  pl__net_flush(&d->net);
  more = more || pl__vm_is_ready(&d->vm) || d->queue_count > 0;
  pl__vm_collect(&d->vm, idle && !more);
  if (d->has_log)
    log_turn(d);
  return more;
}

double pl__dispatch_wait(const struct pl_dispatch *d) {
  double due = pl__vm_due(&d->vm);

  if (!pl__deadlines_empty(&d->net.deadlines) &&
      d->net.now + PL_DEADLINES_TICK_S < due)
    due = d->net.now + PL_DEADLINES_TICK_S;
  if (due >= HUGE_VAL)
    return HUGE_VAL;
  due -= pl__clock_monotonic_s() + d->time_offset;
  return due > 0 ? due : 0;
}
