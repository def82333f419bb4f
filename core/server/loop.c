/* server/loop.c - see loop.h. */
#include "server/loop.h"
#include "base/clock.h"
#include "fabric/flights.h"

#include <math.h>
#include <signal.h>

/* A poll that took longer had nothing to do: there is time to collect. */
#define LOOP_IDLE_S 0.0005
#define LOOP_LAG_S 0.02 /* turns as long as that are recorded */
/* The longest that the timer sleeps; libuv counts in milliseconds. */
#define LOOP_WAIT_MS_MAX 3600000.0

static void on_idle(uv_idle_t *handle) { (void)handle; }

static void on_timer(uv_timer_t *handle);

/* What comes next: at once, at a time, or only with a socket. */
static void loop_schedule(struct pl_loop *l, bool more) {
  double wait_ms = pl__dispatch_wait(l->dispatch) * 1000;

  if (more) {
    uv_idle_start(&l->idle, on_idle);
    return;
  }
  uv_idle_stop(&l->idle);
  if (wait_ms >= HUGE_VAL) {
    uv_timer_stop(&l->timer);
    return;
  }
  if (wait_ms > LOOP_WAIT_MS_MAX)
    wait_ms = LOOP_WAIT_MS_MAX;
  uv_update_time(&l->uv);
  uv_timer_start(&l->timer, on_timer, (uint64_t)ceil(wait_ms), 0);
}

static void loop_turn(struct pl_loop *l) {
  bool more = false;

  pl__dispatch_tick(l->dispatch);
  if (l->before_turn)
    more = l->before_turn(l->arg);
  more = pl__dispatch_turn(l->dispatch, l->was_idle) || more;
  if (l->before_turn)
    more = l->before_turn(l->arg) || more ||
           pl__vm_is_ready(&l->dispatch->now->vm);
  if (l->after_turn)
    l->after_turn(l->arg);
  loop_schedule(l, more);
}

static void on_check(uv_check_t *handle) {
  struct pl_loop *l = handle->data;
  struct pl_net *net = &l->dispatch->net;
  double now;

  pl__phase_set(net->phase, PL_PHASE_CORE);
  now = pl__clock_monotonic_s();
  l->was_idle = now - l->polled_at > LOOP_IDLE_S;
  l->began_at = net->is_quiet ? now : net->woken_at;
  net->is_quiet = false;
  loop_turn(l);
}

static void on_timer(uv_timer_t *handle) { loop_turn(handle->data); }

static void record_lag(struct pl_loop *l, double seconds) {
  struct pl_recorder *r = &l->dispatch->recorder;

  if (seconds >= LOOP_LAG_S && pl__recorder_is_on(r))
    pl__recorder_seldom(r, l->polled_at, 0, (uint64_t)(seconds * PL_NS_PER_S),
                        pl__event_word(PL_EVENT_LAG, 0, 0, 0, 0));
}

static void on_prepare(uv_prepare_t *handle) {
  struct pl_loop *l = handle->data;

  l->polled_at = pl__clock_monotonic_s();
  if (l->began_at > 0) {
    pl__tally_record(&l->dispatch->tally, PL_TALLY_LAG,
                     l->polled_at - l->began_at);
    pl__tally_add(&l->dispatch->tally, PL_TALLY_BUSY,
                  l->polled_at - l->began_at);
    record_lag(l, l->polled_at - l->began_at);
  }
  l->dispatch->net.is_quiet = true;
  pl__phase_set(l->dispatch->net.phase, PL_PHASE_POLL);
}

int pl__loop_open(struct pl_loop *l, struct pl_dispatch *d) {
  int failed = uv_loop_init(&l->uv);

  if (failed)
    return failed;
  l->dispatch = d;
  l->was_idle = false;
  l->before_turn = NULL;
  l->after_turn = NULL;
  uv_prepare_init(&l->uv, &l->prepare);
  uv_check_init(&l->uv, &l->check);
  uv_idle_init(&l->uv, &l->idle);
  uv_timer_init(&l->uv, &l->timer);
  l->prepare.data = l->check.data = l->idle.data = l->timer.data = l;
  uv_prepare_start(&l->prepare, on_prepare);
  uv_check_start(&l->check, on_check);
  uv_idle_start(&l->idle, on_idle); /* the first turn comes at once */
  return 0;
}

void pl__loop_block_ticks(struct pl_loop *l) {
  uv_loop_configure(&l->uv, UV_LOOP_BLOCK_SIGNAL, SIGPROF);
}

void pl__loop_run(struct pl_loop *l) { uv_run(&l->uv, UV_RUN_DEFAULT); }

void pl__loop_stop(struct pl_loop *l) { uv_stop(&l->uv); }

void pl__loop_close(struct pl_loop *l) {
  uv_close((uv_handle_t *)&l->prepare, NULL);
  uv_close((uv_handle_t *)&l->check, NULL);
  uv_close((uv_handle_t *)&l->idle, NULL);
  uv_close((uv_handle_t *)&l->timer, NULL);
  uv_run(&l->uv, UV_RUN_DEFAULT);
  uv_loop_close(&l->uv);
}
