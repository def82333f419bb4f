/* server/generation.c - see generation.h. */
#include "server/generation.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "server/dispatch.h"
#include "server/inject.h"
#include "server/modules.h"
#include "server/values.h"

#include <stdio.h>

/* Of vm.stuck_timeout: what cannot be parked for so long is ended with a 503,
 * before the worker is taken for stuck. */
#define HOLD_SHARE 2
/* Between the end of all deadlines and the cut, for what tidies up. */
#define CUT_GRACE_S 2.0
#define HURRY_GRACE_S 0.1

static struct pl_generation *generation_of(void *arg) { return arg; }

static struct pl_dispatch *dispatch_of(void *arg) {
  return generation_of(arg)->dispatch;
}

/* --- requests ---------------------------------------------------------- */

void pl__generation_queue(struct pl_generation *g, struct pl_req *req) {
  /* One entry per slot at most: there is room. */
  if (PL_NEVER(g->queue_count == g->queue_cap))
    return;
  g->queue[(g->queue_head + g->queue_count++) % g->queue_cap] = req;
}

static bool host_has_next(void *arg) {
  return generation_of(arg)->queue_count > 0;
}

static struct pl_req *host_next(void *arg) {
  struct pl_generation *g = generation_of(arg);

  while (g->queue_count > 0) {
    struct pl_req *req = g->queue[g->queue_head];

    g->queue_head = (g->queue_head + 1) % g->queue_cap;
    g->queue_count--;
    if (pl__conn_is_lost(req->conn)) { /* nobody is there to be answered */
      pl__conn_end(req->conn);
      continue;
    }
    g->dispatch->running++;
    pl__dispatch_on_begin(g->dispatch, req);
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

/* --- tools -------------------------------------------------------------- */

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

static int host_read_line(void *arg, const char *prompt, struct pl_slice *out) {
  struct pl_dispatch *d = dispatch_of(arg);

  return d->on_read_line(d->output_arg, prompt, out);
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

static int host_report(void *arg, struct pl_slice topic,
                       struct pl_slice argument, struct pl_buf *out) {
  struct pl_dispatch *d = dispatch_of(arg);

  return d->on_report(d->report_arg, topic, argument, out);
}

static struct pl_vm_host host_for(struct pl_generation *g) {
  struct pl_vm_host host = {
      .arg = g,
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

  if (g->dispatch->on_report)
    host.report = host_report;
  if (!g->dispatch->inject)
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
  host.read_line = host_read_line;
  host.quit = host_quit;
  return host;
}

/* --- a life ------------------------------------------------------------ */

static int open_vm(struct pl_generation *g,
                   const struct pl_generation_options *wanted, char *err) {
  const struct pl_config *config = &g->config;
  struct pl_dispatch *d = g->dispatch;
  char folder[PL_CONFIG_PATH_BYTES];
  struct pl_vm_options options = {
      .host = host_for(g),
      .lua_folder = folder,
      .settings_json = config->settings_json,
      .values = g->values,
      .sources = {.bundle = wanted->bundle,
                  .generation = wanted->records ? 0 : wanted->number,
                  .folder = config->app_folder},
      .generation = wanted->number,
      .log = d->has_log ? &d->log : NULL,
      .tracer = d->has_tracer ? &d->tracer : NULL,
      .sampler = d->has_log ? &d->sampler : NULL,
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
      .frames = wanted->frames,
      .samples = wanted->samples,
      .heap = wanted->heap,
      .heap_sample_bytes = config->vm_heap_sample_bytes,
      .is_aside = wanted->is_aside,
      .recorder = pl__recorder_is_on(&d->recorder) ? &d->recorder : NULL,
      .quarantine = wanted->quarantine,
      .aborts = wanted->aborts,
      .long_runs = wanted->long_runs,
      .waits = wanted->waits,
      .leaks_collect_s = config->leaks_collect_s,
      .leaks_after_s = config->leaks_after_s,
      .leaks_window_s = config->leaks_window_s,
      .shared = wanted->shared,
      .metrics = wanted->metrics,
      .shard = wanted->shard,
      .log_level_min = (int)config->log_level,
      .page_script = g->script[0] ? g->script : NULL,
  };
  int failed;

  failed = pl__modules_folder(folder, sizeof folder);
  if (failed) {
    snprintf(err, PL_VM_ERROR_BYTES,
             "perilune's Lua modules are not where they belong: no %s", folder);
    return failed;
  }
  return pl__vm_open(&g->vm, &options, err);
}

/* By its configuration, whose texts they go on pointing to. */
static void set_rules(struct pl_generation *g) {
  const struct pl_config *c = &g->config;

  if (PL_NEVER(pl__networks_parse(&g->rules.trusted, c->context_trusted)))
    g->rules.trusted.count = 0;
  g->rules.trace_trusted_only =
      c->context_trace_from == PL_CONFIG_TRACE_TRUSTED;
  g->rules.request_id = pl__slice_text(c->context_request_id_header);
  g->rules.tenant = pl__slice_text(c->context_tenant_header);
  g->rules.tier = pl__slice_text(c->context_tier_header);
  if (c->context_reply_request_id)
    g->env.id_field = g->rules.request_id;
}

int pl__generation_open(struct pl_generation **out,
                        const struct pl_generation_options *options,
                        char *err) {
  struct pl_generation *g = pl__alloc_zero(sizeof *g);
  int failed = PL_ENOMEM;

  snprintf(err, PL_VM_ERROR_BYTES, "out of memory");
  if (!g)
    return PL_ENOMEM;
  g->dispatch = options->dispatch;
  g->number = options->number;
  if (pl__config_copy(&g->config, options->config))
    goto fail_config;
  g->queue_cap = g->dispatch->slabs.count;
  g->queue = pl__alloc(g->queue_cap * sizeof *g->queue);
  if (!g->queue)
    goto fail_queue;
  if (g->config.dev && g->config.dev_port)
    snprintf(g->script, sizeof g->script,
             "<script async src=\"http://127.0.0.1:%u/dev/client.js\" "
             "data-generation=\"%u\"></script>\n",
             g->config.dev_port, g->number);
  pl__values_fill(&g->config, g->values, PL_GENERATION_VALUES_MAX);
  pl__http_env_init(&g->env, pl__clock_realtime_ns() / (int64_t)PL_NS_PER_S);
  set_rules(g);
  failed = open_vm(g, options, err);
  if (failed)
    goto fail_vm;
  *out = g;
  return 0;

fail_vm:
  pl__free(g->queue);
fail_queue:
  pl__config_deinit(&g->config);
fail_config:
  pl__free(g);
  return failed;
}

int pl__generation_load(struct pl_generation *g, char *err) {
  const struct pl_bundle *bundle = g->vm.options.sources.bundle;
  int failed = pl__vm_load(&g->vm, g->config.app_file,
                           g->config.vm_load_timeout_s, &g->site, err);

  if (!failed && bundle)
    g->hash = bundle->hash;
  if (!failed)
    pl__generation_say(g, false);
  return failed;
}

int pl__generation_warm(struct pl_generation *g, char *err) {
  return pl__vm_warm(&g->vm, g->config.vm_load_timeout_s, err);
}

void pl__generation_close(struct pl_generation *g) {
  pl__tally_forget(&g->tally);
  pl__vm_close(&g->vm);
  pl__free(g->queue);
  pl__config_deinit(&g->config);
  pl__free(g);
}

void pl__generation_say(struct pl_generation *g, bool reload_failed) {
  char lines[PL_ENV_BYTES_MAX];
  int bytes = 0;

  if (g->number && g->config.generation_header)
    bytes = snprintf(lines, sizeof lines, "Perilune-Generation: %u-%08x\r\n",
                     g->number, (unsigned)(g->hash >> 32));
  if (reload_failed && g->config.dev)
    bytes += snprintf(lines + bytes, sizeof lines - (size_t)bytes,
                      "Perilune-Reload: failed\r\n");
  pl__http_env_set(&g->env, pl__slice(lines, (size_t)bytes));
}

/* --- its end ----------------------------------------------------------- */

void pl__generation_retire(struct pl_generation *g, double seconds) {
  g->cut_at = g->dispatch->net.now + seconds;
  pl__vm_retire(&g->vm);
}

void pl__generation_hurry(struct pl_generation *g) {
  double latest = g->dispatch->net.now + HURRY_GRACE_S;

  g->is_hurried = true;
  if (!g->is_expired)
    g->cut_at = 0;
  else if (g->cut_at > latest)
    g->cut_at = latest;
}

void pl__generation_expire(struct pl_generation *g, double now) {
  if (now < g->cut_at)
    return;
  if (!g->is_expired) {
    g->is_expired = true;
    g->cut_at = now + (g->is_hurried ? HURRY_GRACE_S : CUT_GRACE_S);
    pl__vm_expire(&g->vm);
    return;
  }
  pl__vm_cut(&g->vm);
  pl__dispatch_drop(g->dispatch, g); /* whose bodies are still on their way */
}

bool pl__generation_is_over(const struct pl_generation *g) {
  return g->request_count == 0 && g->vm.task_count == 0;
}
