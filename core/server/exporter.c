/* server/exporter.c - see exporter.h. */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "server/exporter.h"

#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/map.h"
#include "fabric/record.h"
#include "fabric/span.h"
#include "log/drain.h"
#include "perilune.h"
#include "server/layout.h"
#include "server/outflow.h"

#define SAY_LOOKS 10u   /* between looks at what was dropped */
#define LOOK_MS 100u    /* at the rings */
#define CLOSE_TURNS 100 /* of the loop, for handles to close */

/* --- the thread ----------------------------------------------------------- */

static void on_look(uv_timer_t *timer) {
  struct pl_exporter *e = timer->data;
  bool rests = true, says = ++e->look_count % SAY_LOOKS == 0;

  pl__intake_take(e);
  for (unsigned i = 0; i < PL_SIGNALS; i++) {
    struct pl_outflow *s = &e->signals[i];
    if (!s->is_on)
      continue;
    pl__outflow_step(s);
    if (says)
      pl__complaints_say_losses(s, uv_now(&e->uv));
    rests = rests && pl__outflow_is_at_rest(s);
  }
  if (e->is_ending && rests)
    uv_stop(&e->uv);
}

static void on_end_timer(uv_timer_t *timer) { uv_stop(timer->loop); }

static void on_end(uv_async_t *async) {
  struct pl_exporter *e = async->data;

  e->is_ending = true;
  uv_timer_start(&e->end_timer, on_end_timer, e->wait_ms, 0);
  uv_timer_start(&e->look_timer, on_look, 0, LOOK_MS / 10);
}

/* What is left counts as lost; records in the ring, too, as nobody comes after. */
static void count_left(struct pl_exporter *e) {
  struct pl_outflow *traces = &e->signals[PL_SIGNAL_TRACES];
  struct pl_outflow *logs = &e->signals[PL_SIGNAL_LOGS];
  uint64_t count = 0;
  uint32_t bytes;

  if (traces->is_on)
    pl__outflow_drop(traces, PL_EXPORT_SHUTDOWN,
                     traces->items + pl__backlog_count(&e->backlog));
  pl__exports_set(&traces->counts->queued, 0);
  pl__ring_rewind(&e->logs);
  while (pl__ring_peek(&e->logs, &bytes)) {
    pl__ring_next(&e->logs);
    count++;
  }
  if (logs->is_on)
    pl__outflow_drop(logs, PL_EXPORT_SHUTDOWN, count);
  pl__ring_release(&e->logs);
}

static void *thread_main(void *arg) {
  struct pl_exporter *e = arg;

  prctl(PR_SET_NAME, "perilune-otlp");
  uv_run(&e->uv, UV_RUN_DEFAULT);
  count_left(e);
  for (unsigned i = 0; i < PL_SIGNALS; i++)
    if (e->signals[i].is_on)
      pl__complaints_say_losses(&e->signals[i],
                                uv_now(&e->uv) + PL_COMPLAINTS_EVERY_MS);
  return NULL;
}

/* --- a life --------------------------------------------------------------- */

static int resource_make(struct pl_exporter *e) {
  const struct pl_config *c = pl__exporter_config(e);
  char host[256] = "";
  struct pl_otlp_identity who = {.service = pl__slice_text(c->otlp_service),
                                 .name = pl__slice_text(c->name),
                                 .attributes = pl__slice_text(c->otlp_resource),
                                 .version = pl__slice_text(pl_version()),
                                 .pid = (uint64_t)getppid()};

  gethostname(host, sizeof host - 1);
  who.host = pl__slice_text(host);
  return pl__otlp_resource(&who, &e->resource);
}

static int find_all(struct pl_exporter *e) {
  const struct pl_fabric *f = e->args.fabric;
  struct pl_routes *routes;
  struct pl_spans *spans;
  struct pl_ring *ring;
  int failed = pl__layout_exports(f, &e->exports);

  failed = failed ? failed : pl__layout_routes(f, &routes);
  failed = failed ? failed : pl__layout_otlp_logs(f, &ring);
  if (failed)
    return failed;
  e->routes = routes;
  pl__ring_reader_init(&e->logs, ring);
  pl__ring_writer_init(&e->logs_writer, ring, -1);
  failed = pl__layout_ring(f, PL_RECORD_EXPORTER, &ring);
  if (failed)
    return failed;
  pl__ring_writer_init(&e->log, ring, e->args.wake_fd);
  for (uint32_t i = 0; i < e->args.worker_count && !failed; i++) {
    failed = pl__layout_spans(f, i, &spans);
    if (!failed)
      pl__ring_reader_init(&e->spans[i], pl__spans_ring(spans));
  }
  return failed;
}

static int loop_open(struct pl_exporter *e) {
  int failed = uv_loop_init(&e->uv);

  if (failed)
    return failed;
  failed = uv_async_init(&e->uv, &e->end, on_end);
  if (failed) {
    uv_loop_close(&e->uv);
    return failed;
  }
  uv_timer_init(&e->uv, &e->look_timer);
  uv_timer_init(&e->uv, &e->end_timer);
  e->end.data = e->look_timer.data = e;
  for (unsigned i = 0; i < PL_SIGNALS; i++)
    pl__outflow_init(e, (enum pl_signal)i);
  e->metrics_ms =
      uv_now(&e->uv) +
      pl__outflow_ms(pl__exporter_config(e)->otlp_metrics_interval_s);
  uv_timer_start(&e->look_timer, on_look, LOOK_MS, LOOK_MS);
  return 0;
}

/* Signals are control's matter. */
static int thread_start(struct pl_exporter *e) {
  sigset_t all, before;
  int failed;

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  failed = pthread_create(&e->thread, NULL, thread_main, e);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return -failed;
}

/* Whatever was begun and does not close in time (the resolver may take long)
 * keeps its memory. */
static void loop_close(struct pl_exporter *e) {
  for (unsigned i = 0; i < PL_SIGNALS; i++)
    if (e->signals[i].is_on)
      pl__post_close(&e->signals[i].post);
  uv_close((uv_handle_t *)&e->end, NULL);
  uv_close((uv_handle_t *)&e->look_timer, NULL);
  uv_close((uv_handle_t *)&e->end_timer, NULL);
  for (int i = 0; i < CLOSE_TURNS; i++)
    if (!uv_run(&e->uv, UV_RUN_NOWAIT))
      break;
  if (uv_loop_close(&e->uv))
    return;
  for (unsigned i = 0; i < PL_SIGNALS; i++) {
    pl__buf_release(&e->signals[i].body);
    pl__buf_release(&e->signals[i].packed);
  }
  pl__backlog_deinit(&e->backlog);
  pl__buf_release(&e->resource);
  pl__free(e->spans);
  pl__free(e);
}

int pl__exporter_start(struct pl_exporter **out,
                       const struct pl_exporter_args *args) {
  struct pl_exporter *e = pl__alloc_zero(sizeof *e);
  int failed = PL_ENOMEM;

  if (!e)
    return failed;
  e->args = *args;
  e->spans = pl__alloc_zero(args->worker_count * sizeof *e->spans);
  pl__buf_init(&e->resource, NULL, PL_OTLP_RESOURCE_BYTES);
  pl__backlog_init(&e->backlog, (uint32_t)pl__exporter_config(e)->otlp_queue);
  pl__random_seed(&e->random);
  if (!e->spans)
    goto fail;
  failed = resource_make(e);
  failed = failed ? failed : find_all(e);
  failed = failed ? failed : loop_open(e);
  if (failed)
    goto fail;
  failed = thread_start(e);
  if (failed) {
    loop_close(e);
    return failed;
  }
  *out = e;
  return 0;

fail:
  pl__buf_release(&e->resource);
  pl__free(e->spans);
  pl__free(e);
  return failed;
}

static void on_record(void *arg, const void *record, uint32_t bytes) {
  struct pl_exporter *e = arg;

  pl__record_copy(&e->logs_writer, record, bytes);
}

void pl__exporter_attach(struct pl_exporter *e, struct pl_drain *d) {
  if (!e->signals[PL_SIGNAL_LOGS].is_on)
    return;
  d->on_record = on_record;
  d->on_record_arg = e;
}

void pl__exporter_stop(struct pl_exporter *e, uint32_t wait_ms) {
  struct timespec due;

  e->wait_ms = wait_ms;
  uv_async_send(&e->end);
  clock_gettime(CLOCK_REALTIME, &due);
  due.tv_sec += wait_ms / 1000 + 1;
  if (!pthread_timedjoin_np(e->thread, NULL, &due))
    loop_close(e);
}
