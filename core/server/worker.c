/* server/worker.c - see worker.h.
 *
 * A life: open -> load -> listen -> ready -> serve -> drain -> close.  TERM
 * begins the drain: what is queued at the sockets is still accepted, idle
 * connections close, running requests end with Connection: close, and when the
 * last one is gone, or timeouts.drain is over, the worker ends.
 *
 * When the whole server ends, a worker shuts its sockets before it closes them:
 * every other worker has copies, and one that stands still would keep clients
 * waiting at all of them.
 */
#include "server/worker.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/map.h"
#include "fabric/record.h"
#include "fabric/routes.h"
#include "net/listener.h"
#include "server/adoption.h"
#include "server/config.h"
#include "server/crash.h"
#include "server/layout.h"
#include "server/listeners.h"
#include "server/loop.h"
#include "server/status.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORKER_BEAT_MS 100
#define WORKER_SLABS_KEEP 64       /* warm ones that stay when nothing is on */
#define WORKER_SLABS_PUNCH_MAX 256 /* given back in one beat */
#define WORKER_BEATS_PER_TRIM 10

struct worker {
  const struct pl_worker_args *args;
  struct pl_dispatch dispatch;
  struct pl_loop loop;
  struct pl_listener listeners[PL_CONFIG_LISTEN_MAX];
  struct pl_adoption adoption;
  uv_signal_t term;
  uv_timer_t beat_timer;
  struct pl_beat *beat;
  uint32_t beats;
  bool draining;
  bool cut;         /* the drain took too long: connections were closed */
  double drain_end; /* monotonic seconds */
};

static struct worker *worker_of(void *arg) { return arg; }

/* --- draining ---------------------------------------------------------- */

/* Accepts what is queued at the sockets, and nothing more. */
static void worker_leave_sockets(struct worker *w) {
  const struct pl_worker_args *args = w->args;
  bool is_last = atomic_load_explicit(&w->beat->is_last, memory_order_relaxed);

  for (uint32_t i = 0; i < args->listen_count; i++) {
    pl__listener_close(&w->listeners[i]);
    if (is_last)
      shutdown(args->listen_fds[i], SHUT_RDWR);
  }
  pl__adoption_stop(&w->adoption, is_last);
  if (args->listeners)
    pl__listeners_forget(args->listeners);
  for (uint32_t i = 0; i < args->listen_count && !args->listeners; i++)
    close(args->listen_fds[i]);
}

static void worker_drain(struct worker *w) {
  if (w->draining)
    return;
  w->draining = true;
  w->drain_end = pl__clock_monotonic_s() + w->args->config->timeout_drain_s;
  atomic_store_explicit(&w->beat->is_leaving, 1, memory_order_relaxed);
  worker_leave_sockets(w);
  pl__net_drain(&w->dispatch.net);
  pl__vm_cancel_detached(&w->dispatch.vm);
}

static void worker_end_if_drained(struct worker *w) {
  double now;

  if (!w->draining)
    return;
  if (w->dispatch.net.conn_count == 0) {
    pl__loop_stop(&w->loop);
    return;
  }
  now = pl__clock_monotonic_s();
  if (now < w->drain_end)
    return;
  if (w->cut) { /* handlers that don't end although their client is gone */
    pl__loop_stop(&w->loop);
    return;
  }
  w->cut = true;
  w->drain_end = now + 0.5;
  pl__net_close_all(&w->dispatch.net);
}

static void on_term(uv_signal_t *handle, int number) {
  (void)number;
  worker_drain(handle->data);
}

/* --- news -------------------------------------------------------------- */

static void on_conn_closed(void *arg) {
  struct worker *w = worker_of(arg);

  if (w->draining)
    return;
  for (uint32_t i = 0; i < w->args->listen_count; i++)
    if (!w->listeners[i].watching)
      pl__listener_resume(&w->listeners[i]);
  pl__adoption_resume(&w->adoption);
}

static void after_turn(void *arg) { worker_end_if_drained(worker_of(arg)); }

static void on_beat(uv_timer_t *timer) {
  struct worker *w = timer->data;

  atomic_store_explicit(&w->beat->request_count, w->dispatch.running,
                        memory_order_relaxed);
  atomic_store_explicit(&w->beat->connection_count, w->dispatch.net.conn_count,
                        memory_order_relaxed);
  atomic_store_explicit(&w->beat->at_ns, pl__clock_monotonic_ns(),
                        memory_order_relaxed);
  if (++w->beats % WORKER_BEATS_PER_TRIM == 0) {
    pl__slabs_tick(&w->dispatch.slabs);
    pl__alloc_trim();
    if (w->dispatch.running == 0)
      pl__vm_rest(&w->dispatch.vm);
  }
  pl__slabs_trim(&w->dispatch.slabs, WORKER_SLABS_KEEP, WORKER_SLABS_PUNCH_MAX);
  if (!w->draining)
    pl__adoption_look(&w->adoption);
  on_conn_closed(w); /* descriptors may be there again */
  worker_end_if_drained(w);
}

/* --- a life ------------------------------------------------------------ */

static size_t write_traceback(void *arg, char *out, size_t bytes) {
  return pl__vm_traceback_unsafe(arg, out, bytes);
}

/* From here on it is seen that we live, and told how we die. */
static int open_records(struct worker *w, char *err) {
  const struct pl_worker_args *args = w->args;
  struct pl_crash *crash;
  int failed = pl__layout_beat(args->fabric, args->index, &w->beat);

  if (!failed)
    failed = pl__layout_crash(args->fabric, args->index, &crash);
  if (!failed)
    failed = pl__crash_install(crash, write_traceback, &w->dispatch.vm);
  if (failed)
    snprintf(err, PL_VM_ERROR_BYTES, "cannot prepare for crashes: %s",
             uv_strerror(failed));
  return failed;
}

static int open_dispatch(struct worker *w, char *err) {
  const struct pl_worker_args *args = w->args;
  struct pl_dispatch_options options = {
      .config = args->config,
      .slab_bytes = pl__dispatch_slab_bytes(args->config),
      .log_wake_fd = args->log_wake_fd,
      .worker = args->index,
  };
  int failed = pl__layout_slabs(args->fabric, args->config, args->index,
                                &options.slabs, &options.slab_count);

  if (!failed)
    failed = pl__layout_ring(args->fabric, args->index, &options.log);
  if (!failed)
    failed = pl__layout_flights(args->fabric, args->index, &options.flights);
  if (!failed)
    failed = pl__layout_quarantine(args->fabric, &options.quarantine);
  if (!failed)
    failed = pl__layout_long_runs(args->fabric, &options.long_runs);
  if (failed) {
    snprintf(err, PL_VM_ERROR_BYTES, "the fabric has no room for worker %u",
             args->index);
    return failed;
  }
  return pl__dispatch_open(&w->dispatch, &options, err);
}

/* An app whose routes depend on chance: names in the log may be others'. */
static void tell_conflict(struct worker *w) {
  struct pl_record head = {.level = PL_LEVEL_WARN,
                           .worker = (uint16_t)w->args->index,
                           .route = PL_RECORD_NO_ROUTE};
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;

  pl__record_begin(
      &draft, memory, sizeof memory, &head,
      PL_SLICE("the routes of this worker are not those of the others: the "
               "log and quarantine may name wrong ones"));
  pl__record_end(&draft, &w->dispatch.log);
}

/* Tells the log which pattern stands behind a route's number. */
static void publish_routes(struct worker *w) {
  struct pl_routes *routes;
  uint32_t count = w->dispatch.vm.route_count;
  struct pl_slice *patterns;

  if (pl__layout_routes(w->args->fabric, &routes))
    return;
  patterns = pl__alloc(count * sizeof *patterns);
  if (!patterns)
    return; /* the log shows numbers then */
  for (uint32_t i = 0; i < count; i++)
    patterns[i] = pl__vm_route_pattern(&w->dispatch.vm, i);
  if (pl__routes_publish(routes, patterns, count))
    tell_conflict(w);
  pl__free(patterns);
}

static int load(struct worker *w, char *err) {
  int failed =
      pl__vm_load(&w->dispatch.vm, w->args->app_path,
                  w->args->config->vm_load_timeout_s, &w->dispatch.site, err);

  if (!failed)
    failed = pl__vm_start(&w->dispatch.vm, w->dispatch.site, err);
  if (!failed)
    publish_routes(w);
  return failed;
}

static int listen_all(struct worker *w, char *err) {
  for (uint32_t i = 0; i < w->args->listen_count; i++) {
    int failed =
        pl__listener_open(&w->listeners[i], &w->dispatch.net, &w->loop.uv,
                          w->args->listen_fds[i], (uint8_t)i);
    if (failed) {
      snprintf(err, PL_VM_ERROR_BYTES, "cannot watch a listening socket: %s",
               uv_strerror(failed));
      return failed;
    }
  }
  return 0;
}

static int open_loop(struct worker *w, char *err) {
  int failed = pl__loop_open(&w->loop, &w->dispatch);

  if (failed) {
    snprintf(err, PL_VM_ERROR_BYTES, "cannot make an event loop: %s",
             uv_strerror(failed));
    return failed;
  }
  failed = uv_signal_init(&w->loop.uv, &w->term);
  if (failed) { /* it takes descriptors */
    snprintf(err, PL_VM_ERROR_BYTES, "cannot watch for signals: %s",
             uv_strerror(failed));
    pl__loop_close(&w->loop);
    return failed;
  }
  pl__adoption_init(&w->adoption, w->args->listeners, w->beat - w->args->index,
                    w->args->index, &w->dispatch.net, &w->loop.uv);
  w->loop.after_turn = after_turn;
  w->loop.arg = w;
  uv_timer_init(&w->loop.uv, &w->beat_timer);
  w->term.data = w->beat_timer.data = w;
  uv_signal_start(&w->term, on_term, SIGTERM);
  uv_timer_start(&w->beat_timer, on_beat, 0, WORKER_BEAT_MS);
  w->dispatch.on_conn_closed = on_conn_closed;
  w->dispatch.arg = w;
  return 0;
}

static void close_all(struct worker *w) {
  w->dispatch.on_conn_closed = NULL;
  for (uint32_t i = 0; i < w->args->listen_count; i++)
    pl__listener_close(&w->listeners[i]);
  pl__adoption_stop(&w->adoption, false);
  pl__net_close_all(&w->dispatch.net); /* what a start that failed accepted */
  uv_close((uv_handle_t *)&w->term, NULL);
  uv_close((uv_handle_t *)&w->beat_timer, NULL);
  pl__loop_close(&w->loop);
  pl__adoption_deinit(&w->adoption);
}

int pl__worker_main(const struct pl_worker_args *args) {
  struct worker *w = pl__alloc_zero(sizeof *w);
  char err[PL_VM_ERROR_BYTES] = "out of memory";
  int failed;

  if (!w) {
    pl__status_send(args->status_fd, PL_ENOMEM, err);
    return 1;
  }
  w->args = args;
  failed = open_records(w, err);
  if (!failed)
    failed = open_dispatch(w, err);
  if (failed)
    goto fail_dispatch;
  failed = load(w, err);
  if (failed)
    goto fail_load;
  failed = open_loop(w, err);
  if (failed)
    goto fail_load;
  failed = listen_all(w, err);
  if (failed)
    goto fail_listen;
  pl__status_send(args->status_fd, 0, NULL);
  pl__loop_run(&w->loop);
  pl__vm_tell_counts(&w->dispatch.vm);
  if (w->dispatch.net.conn_count) /* cut: handlers still hold some */
    _exit(0);
  close_all(w);
  pl__dispatch_close(&w->dispatch);
  pl__free(w);
  return 0;

fail_listen:
  close_all(w);
fail_load:
  pl__dispatch_close(&w->dispatch);
fail_dispatch:
  pl__status_send(args->status_fd, failed, err);
  pl__free(w);
  return 1;
}
