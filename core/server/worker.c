/* server/worker.c - see worker.h.
 *
 * A life: open -> load -> listen -> ready -> serve -> drain -> close.  What it
 * loads is the generation that is committed when it starts; how it gets to the
 * next one is server/succession.h's matter.  TERM begins the drain: what is queued at the sockets is still accepted, idle
 * connections close, running requests end with Connection: close, and when the
 * last one is gone, or timeouts.drain is over, the worker ends.
 *
 * When others go on (the program is replaced, a worker is taken away), idle
 * connections stay for a moment: a client may be about to use one, and closing
 * it would lose that request.  They close with the answer to it.
 *
 * When the whole server ends, a worker shuts its sockets before it closes them:
 * every other worker has copies, and one that stands still would keep clients
 * waiting at all of them.
 */
#include "server/worker.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "fabric/map.h"
#include "fabric/names.h"
#include "fabric/record.h"
#include "net/listener.h"
#include "server/adoption.h"
#include "server/channel.h"
#include "server/config.h"
#include "server/crash.h"
#include "server/edition.h"
#include "server/heap_watch.h"
#include "server/layout.h"
#include "server/listeners.h"
#include "server/loop.h"
#include "server/modules.h"
#include "server/overflow.h"
#include "server/succession.h"
#include "vm/frames.h"

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
#define WORKER_GENTLE_S 5.0 /* of idle connections, when others go on */

struct worker {
  const struct pl_worker_args *args;
  struct pl_dispatch dispatch;
  struct pl_overflow overflow;
  struct pl_loop loop;
  struct pl_listener listeners[PL_CONFIG_LISTEN_MAX];
  struct pl_adoption adoption;
  struct pl_succession succession;
  struct pl_heap_watch heap;
  struct pl_config config; /* of the generation that it starts with */
  uv_signal_t term;
  uv_timer_t beat_timer;
  struct pl_beat *beat;
  uint32_t beats;
  bool draining;
  bool cut;         /* the drain took too long: connections were closed */
  double drain_end; /* monotonic seconds */
  double idle_end;  /* when idle connections are closed; 0: they were */
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
  w->drain_end = pl__clock_monotonic_s() + w->dispatch.config->timeout_drain_s;
  atomic_store_explicit(&w->beat->is_leaving, 1, memory_order_relaxed);
  worker_leave_sockets(w);
  if (atomic_load_explicit(&w->beat->is_last, memory_order_relaxed)) {
    pl__net_drain(&w->dispatch.net);
  } else {
    pl__net_drain_gently(&w->dispatch.net);
    w->idle_end = pl__clock_monotonic_s() + WORKER_GENTLE_S;
  }
  pl__vm_cancel_detached(&w->dispatch.now->vm);
}

/* Those that nobody has used meanwhile, or all when the server ends after all. */
static void worker_close_idle(struct worker *w) {
  if (w->idle_end == 0 ||
      (pl__clock_monotonic_s() < w->idle_end &&
       !atomic_load_explicit(&w->beat->is_last, memory_order_relaxed)))
    return;
  w->idle_end = 0;
  pl__net_drain(&w->dispatch.net);
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

static void after_turn(void *arg) {
  struct worker *w = worker_of(arg);

  pl__succession_turn(&w->succession);
  worker_end_if_drained(w);
}

static void on_beat(uv_timer_t *timer) {
  struct worker *w = timer->data;

  atomic_store_explicit(&w->beat->request_count, w->dispatch.running,
                        memory_order_relaxed);
  atomic_store_explicit(&w->beat->connection_count, w->dispatch.net.conn_count,
                        memory_order_relaxed);
  atomic_store_explicit(&w->beat->at_ns, pl__clock_monotonic_ns(),
                        memory_order_relaxed);
  pl__dispatch_tally(&w->dispatch);
  if (++w->beats % WORKER_BEATS_PER_TRIM == 0) {
    pl__slabs_tick(&w->dispatch.slabs);
    pl__alloc_trim();
    pl__heap_watch_tell(&w->heap);
    if (w->dispatch.running == 0)
      pl__vm_rest(&w->dispatch.now->vm);
  }
  pl__heap_watch_look(&w->heap);
  pl__overflow_tell(&w->overflow, &w->dispatch.log, (uint16_t)w->args->index);
  pl__slabs_trim(&w->dispatch.slabs, WORKER_SLABS_KEEP, WORKER_SLABS_PUNCH_MAX);
  if (!w->draining)
    pl__adoption_look(&w->adoption);
  on_conn_closed(w); /* descriptors may be there again */
  worker_close_idle(w);
  worker_end_if_drained(w);
}

/* --- a life ------------------------------------------------------------ */

/* Of the VM whose Lua runs, or has run last, on the thread that crashes. */
static size_t write_traceback(void *arg, char *out, size_t bytes) {
  struct worker *w = arg;
  struct pl_generation *old = w->dispatch.old, *g = w->dispatch.now;

  if (old && old->vm.current)
    g = old;
  return g ? pl__vm_traceback_unsafe(&g->vm, out, bytes) : 0;
}

/* From here on it is seen that we live, and told how we die. */
static int open_records(struct worker *w, char *err) {
  const struct pl_worker_args *args = w->args;
  struct pl_crash *crash;
  int failed = pl__layout_beat(args->fabric, args->index, &w->beat);

  if (!failed)
    failed = pl__layout_protect(args->fabric);
  if (!failed)
    failed = pl__layout_crash(args->fabric, args->index, &crash);
  if (!failed)
    failed = pl__crash_install(crash, write_traceback, w);
  if (failed)
    snprintf(err, PL_VM_ERROR_BYTES, "cannot prepare for crashes: %s",
             uv_strerror(failed));
  return failed;
}

/* What the server serves now: its configuration, and which generation it is. */
static int find_generation(struct worker *w, uint32_t *number, char *err) {
  struct pl_server_state *state;
  struct pl_bundle *bundle;
  int failed = pl__layout_state(w->args->fabric, &state);

  *number =
      failed ? 0
             : atomic_load_explicit(&state->generation, memory_order_acquire);
  w->succession.state = failed ? NULL : state;
  failed =
      failed ? failed : pl__layout_bundle(w->args->fabric, *number, &bundle);
  failed = failed ? failed : pl__edition_read(bundle, *number, &w->config);
  if (failed)
    snprintf(err, PL_VM_ERROR_BYTES, "generation %u cannot be found: error %d",
             *number, failed);
  return failed;
}

/* What samples are told by; see vm/frames.h. */
static int open_frames(struct worker *w) {
  char folder[PL_CONFIG_PATH_BYTES];
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;
  int failed =
      pl__layout_symbols(w->args->fabric, w->args->index, &symbols, &stacks);

  failed = failed ? failed : pl__modules_folder(folder, sizeof folder);
  failed = failed ? failed
                  : pl__frames_open(&w->succession.frames, symbols, stacks,
                                    PL_NAMES_BANKS, folder);
  if (!failed)
    pl__succession_renew_names(w->args->fabric, w->args->index,
                               w->succession.frames);
  return failed;
}

static void record_start(struct pl_recorder *r) {
  if (pl__recorder_is_on(r))
    pl__recorder_often(r, pl__clock_monotonic_s(), 0, (uint64_t)getpid(),
                       pl__event_word(PL_EVENT_START, 0, 0, 0, 0));
}

static int open_dispatch(struct worker *w, char *err) {
  const struct pl_worker_args *args = w->args;
  struct pl_dispatch_options options = {
      .config = &w->config,
      .slab_bytes = pl__dispatch_slab_bytes(args->config),
      .log_wake_fd = args->log_wake_fd,
      .worker = args->index,
  };
  struct pl_routes *routes;
  uint32_t number;
  int failed = find_generation(w, &number, err);

  if (failed)
    return failed;
  failed = pl__layout_slabs(args->fabric, args->config, args->index,
                            &options.slabs, &options.slab_count);
  failed = failed ? failed
                  : pl__layout_ring(args->fabric, args->index, &options.log);
  failed = failed ? failed
                  : pl__layout_spans(args->fabric, args->index, &options.spans);
  failed = failed ? failed : pl__layout_tracing(args->fabric, &options.tracing);
  failed = failed ? failed : pl__layout_routes(args->fabric, &routes);
  if (!failed && w->config.recorder_on)
    failed = pl__layout_events(args->fabric, args->index, &options.events);
  failed = failed ? failed
                  : pl__succession_options(args->fabric, args->index, number,
                                           &options.generation);
  failed = failed ? failed : open_frames(w);
  if (failed) {
    snprintf(err, PL_VM_ERROR_BYTES, "the fabric has no room for worker %u",
             args->index);
    return failed;
  }
  options.generation.frames = w->succession.frames;
  failed = pl__dispatch_open(&w->dispatch, &options, err);
  if (failed)
    return failed;
  record_start(&w->dispatch.recorder);
  pl__overflow_attach(&w->overflow, &w->dispatch.log, STDERR_FILENO, &w->config,
                      routes);
  failed = pl__tally_open(&w->dispatch.tally, args->fabric, args->index);
  if (failed)
    pl__dispatch_close(&w->dispatch);
  return failed;
}

static int load(struct worker *w, char *err) {
  struct pl_generation *g = w->dispatch.now;
  int failed = pl__generation_load(g, err);

  failed = failed ? failed : pl__generation_warm(g, err);
  if (!failed)
    failed = pl__vm_start(&g->vm, g->site, err);
  if (!failed)
    pl__succession_publish(w->args->fabric, &w->dispatch, g);
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
  struct pl_heap_samples *heap;
  int failed = pl__layout_heap(w->args->fabric, w->args->index, &heap);

  failed = failed ? failed : pl__loop_open(&w->loop, &w->dispatch);

  if (failed) {
    snprintf(err, PL_VM_ERROR_BYTES, "cannot make an event loop: %s",
             uv_strerror(failed));
    return failed;
  }
  pl__loop_block_ticks(&w->loop);
  failed = uv_signal_init(&w->loop.uv, &w->term);
  if (failed) { /* it takes descriptors */
    snprintf(err, PL_VM_ERROR_BYTES, "cannot watch for signals: %s",
             uv_strerror(failed));
    pl__loop_close(&w->loop);
    return failed;
  }
  w->succession.dispatch = &w->dispatch;
  w->succession.fabric = w->args->fabric;
  w->succession.worker = w->args->index;
  w->succession.channel_fd = w->args->channel_fd;
  failed = pl__succession_open(&w->succession, &w->loop.uv);
  if (failed) {
    snprintf(err, PL_VM_ERROR_BYTES, "cannot watch the channel: %s",
             uv_strerror(failed));
    uv_close((uv_handle_t *)&w->term, NULL);
    pl__loop_close(&w->loop);
    return failed;
  }
  pl__adoption_init(&w->adoption, w->args->listeners, w->beat - w->args->index,
                    w->args->index, &w->dispatch.net, &w->loop.uv);
  w->loop.after_turn = after_turn;
  w->loop.arg = w;
  uv_timer_init(&w->loop.uv, &w->beat_timer);
  pl__heap_watch_open(&w->heap, heap, &w->dispatch, &w->loop.uv);
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
  pl__succession_close(&w->succession);
  uv_close((uv_handle_t *)&w->term, NULL);
  uv_close((uv_handle_t *)&w->beat_timer, NULL);
  pl__heap_watch_close(&w->heap);
  pl__loop_close(&w->loop);
  pl__adoption_deinit(&w->adoption);
}

static void say_started(struct worker *w, int failed, const char *err) {
  uint32_t number = failed ? 0 : w->dispatch.now->number;

  pl__channel_say(w->args->channel_fd, PL_NEWS_STARTED, number, failed, err);
}

/* Serves until it is told to end. */
static void serve(struct worker *w) {
  say_started(w, 0, NULL);
  pl__loop_run(&w->loop);
  pl__vm_tell_counts(&w->dispatch.now->vm);
  pl__dispatch_tell(&w->dispatch);
  pl__dispatch_tally(&w->dispatch);
  pl__overflow_tell(&w->overflow, &w->dispatch.log, (uint16_t)w->args->index);
  /* Cut, and handlers still hold some; or a helper thread is at work. */
  if (w->dispatch.net.conn_count || pl__succession_is_busy(&w->succession))
    _exit(0);
  close_all(w);
  pl__dispatch_close(&w->dispatch);
}

int pl__worker_main(const struct pl_worker_args *args) {
  struct worker *w = pl__alloc_zero(sizeof *w);
  char err[PL_VM_ERROR_BYTES] = "out of memory";
  int failed;

  if (!w) {
    pl__channel_say(args->channel_fd, PL_NEWS_STARTED, 0, PL_ENOMEM, err);
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
  serve(w);
  pl__overflow_detach(&w->overflow, &w->dispatch.log);
  pl__frames_close(w->succession.frames);
  pl__config_deinit(&w->config);
  pl__free(w);
  return 0;

fail_listen:
  close_all(w);
fail_load:
  pl__dispatch_close(&w->dispatch);
fail_dispatch:
  say_started(w, failed, err);
  pl__overflow_detach(&w->overflow, &w->dispatch.log);
  pl__frames_close(w->succession.frames);
  pl__config_deinit(&w->config);
  pl__free(w);
  return 1;
}
