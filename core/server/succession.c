/* server/succession.c - see succession.h. */
#include "server/succession.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "fabric/heap_samples.h"
#include "fabric/metrics.h"
#include "fabric/names.h"
#include "fabric/quarantine.h"
#include "fabric/record.h"
#include "fabric/routes.h"
#include "fabric/waits.h"
#include "server/channel.h"
#include "server/edition.h"
#include "server/layout.h"
#include "vm/frames.h"

#include <stdio.h>

#define KEPT_BYTES_MAX (1u << 20) /* P.keep, all values together */
#define KEEP_SECONDS 1.0          /* to write them, or to read them */

/* --- telling ----------------------------------------------------------- */

static void say(struct pl_succession *s, enum pl_message_kind kind,
                uint32_t generation, int code, const char *text) {
  pl__channel_say(s->channel_fd, kind, generation, code, text);
}

static void warn(struct pl_dispatch *d, const struct pl_generation *g,
                 const char *message, const char *why) {
  struct pl_record head = {.level = PL_LEVEL_WARN,
                           .worker = (uint16_t)d->worker,
                           .route = PL_RECORD_NO_ROUTE,
                           .generation = g->number};

  pl__record_with(&d->log, &head, message, "reason", why);
}

void pl__succession_publish(const struct pl_fabric *fabric,
                            struct pl_dispatch *d,
                            const struct pl_generation *g) {
  struct pl_routes *tables;
  uint32_t count = g->vm.route_count;
  struct pl_slice *patterns;

  if (pl__layout_routes(fabric, &tables))
    return;
  patterns = pl__alloc(count * sizeof *patterns);
  if (!patterns)
    return; /* the log shows numbers then */
  for (uint32_t i = 0; i < count; i++)
    patterns[i] = pl__vm_route_pattern(&g->vm, i);
  if (pl__routes_publish(pl__routes_of(tables, g->number), patterns, count))
    warn(d, g,
         "the routes of this worker are not those of the others: the log and "
         "quarantine may name wrong ones",
         NULL);
  pl__free(patterns);
}

void pl__succession_renew_names(const struct pl_fabric *fabric, uint32_t worker,
                                struct pl_frames *frames) {
  uint64_t now_ms = (uint64_t)(pl__clock_monotonic_ns() / PL_NS_PER_MS);
  uint32_t bank = pl__frames_bank_due(frames, now_ms), entries;
  struct pl_heap_samples *heap;
  struct pl_waits *waits;

  if (bank == PL_FRAMES_NO_BANK || pl__layout_heap(fabric, worker, &heap) ||
      pl__layout_waits(fabric, worker, &waits, &entries))
    return;
  pl__heap_lock(heap);
  pl__heap_forget(heap, pl__names_first(bank), pl__names_first(bank + 1));
  pl__heap_unlock(heap);
  pl__waits_forget(waits, pl__names_first(bank), pl__names_first(bank + 1));
  pl__frames_renew(frames, bank, now_ms); /* else the one in use stays */
}

/* --- loading ------------------------------------------------------------ */

int pl__succession_options(const struct pl_fabric *fabric, uint32_t worker,
                           uint32_t generation,
                           struct pl_generation_options *out) {
  struct pl_quarantine *quarantines = NULL;
  struct pl_metrics metrics;
  uint32_t entries;
  int failed = pl__layout_quarantines(fabric, &quarantines);

  *out = (struct pl_generation_options){.number = generation};
  failed = failed ? failed : pl__layout_flights(fabric, worker, &out->flights);
  failed = failed ? failed : pl__layout_aborts(fabric, worker, &out->aborts);
  failed = failed ? failed
                  : pl__layout_long_runs(fabric, generation, &out->long_runs);
  failed =
      failed ? failed : pl__layout_bundle(fabric, generation, &out->bundle);
  failed =
      failed ? failed : pl__layout_waits(fabric, worker, &out->waits, &entries);
  failed = failed ? failed : pl__layout_shared(fabric, &out->shared);
  failed = failed ? failed : pl__layout_metrics(fabric, &metrics);
  if (failed)
    return failed;
  failed = pl__layout_heap(fabric, worker, &out->heap);
  if (failed)
    return failed;
  out->quarantine = pl__quarantine_of(quarantines, generation);
  failed = pl__layout_samples(fabric, worker, &out->samples);
  out->metrics = metrics.table;
  out->shard = &metrics.shards[worker];
  return failed;
}

static int open_next(struct pl_succession *s, struct pl_config *config) {
  struct pl_generation_options options;
  struct pl_vm_arg kept = {.text = s->kept.at, .text_bytes = s->kept.bytes};
  struct pl_buf none;
  uint32_t lines;
  int failed =
      pl__succession_options(s->fabric, s->worker, s->wanted, &options);

  if (failed)
    return failed;
  options.dispatch = s->dispatch;
  options.config = config;
  options.frames = s->frames;
  options.is_aside = true;
  failed = pl__generation_open(&s->next, &options, s->err);
  if (failed)
    return failed;
  s->next->vm.options.is_muted = true;
  pl__buf_init(&none, NULL, 1);
  failed = pl__vm_call_tool(&s->next->vm, "keep_offer", &kept, 1, KEEP_SECONDS,
                            &none, &lines, s->err);
  pl__buf_release(&none);
  failed = failed ? failed : pl__generation_load(s->next, s->err);
  return failed ? failed : pl__generation_warm(s->next, s->err);
}

/* On a helper thread. */
static void load(uv_work_t *work) {
  struct pl_succession *s = work->data;
  struct pl_bundle *bundle;
  struct pl_config config;

  snprintf(s->err, sizeof s->err, "the generation is not there any more");
  s->failed = pl__layout_bundle(s->fabric, s->wanted, &bundle);
  if (!s->failed)
    s->failed = pl__edition_read(bundle, s->wanted, &config);
  if (s->failed)
    return;
  s->failed = open_next(s, &config);
  pl__config_deinit(&config);
}

static void record(struct pl_succession *s, uint32_t generation,
                   enum pl_event_reload step) {
  struct pl_recorder *r = &s->dispatch->recorder;

  if (pl__recorder_is_on(r))
    pl__recorder_seldom(r, pl__recorder_now(r), 0, generation,
                        pl__event_word(PL_EVENT_RELOAD, step, 0, 0, 0));
}

/* On a helper thread. */
static void close_gone(uv_work_t *work) {
  struct pl_succession *s = work->data;

  pl__generation_close(s->gone);
}

static void after_close(uv_work_t *work, int status) {
  struct pl_succession *s = work->data;

  (void)status;
  s->gone = NULL;
  pl__alloc_trim();
  if (s->is_retired)
    record(s, s->dispatch->now->number, PL_EVENT_RELOAD_RETIRED);
  if (s->is_retired)
    say(s, PL_NEWS_RETIRED, s->dispatch->now->number, 0, NULL);
  s->is_retired = false;
}

static void begin_closing(struct pl_succession *s, struct pl_generation *g,
                          bool is_retired) {
  s->gone = g;
  s->is_retired = is_retired;
  uv_queue_work(s->orders.loop, &s->closing, close_gone, after_close);
}

/* What was loaded, or half of it, is not wanted. */
static void forget_next(struct pl_succession *s) {
  struct pl_generation *g = s->next;

  s->next = NULL;
  s->wanted = 0;
  if (!g)
    return;
  if (s->gone) /* a second one: seldom, and better late than never told */
    pl__generation_close(g);
  else
    begin_closing(s, g, false);
}

static void after_load(uv_work_t *work, int status) {
  struct pl_succession *s = work->data;

  (void)status;
  s->is_loading = false;
  pl__buf_release(&s->kept);
  record(s, s->wanted,
         s->failed ? PL_EVENT_RELOAD_FAILED : PL_EVENT_RELOAD_PREPARED);
  if (!s->is_aborted)
    say(s, PL_NEWS_PREPARED, s->wanted, s->failed, s->failed ? s->err : NULL);
  if (s->failed || s->is_aborted)
    forget_next(s);
}

/* --- orders ------------------------------------------------------------- */

/* What the app that serves keeps, appended to `out`. */
static int save_kept(struct pl_succession *s, struct pl_buf *out) {
  struct pl_vm_arg none = {0};
  uint32_t lines;

  return pl__vm_call_tool(&s->dispatch->now->vm, "keep_save", &none, 0,
                          KEEP_SECONDS, out, &lines, s->err);
}

static void on_prepare(struct pl_succession *s, uint32_t generation) {
  int failed;

  record(s, generation, PL_EVENT_RELOAD_PREPARE);
  if (s->is_loading || s->dispatch->old) {
    say(s, PL_NEWS_PREPARED, generation, PL_ECONFLICT,
        "a worker still loads or ends another generation");
    return;
  }
  if (s->wanted)
    forget_next(s);
  pl__buf_init(&s->kept, NULL, KEPT_BYTES_MAX);
  failed = save_kept(s, &s->kept);
  if (failed) {
    pl__buf_release(&s->kept);
    say(s, PL_NEWS_PREPARED, generation, failed, s->err);
    return;
  }
  s->wanted = generation;
  s->is_loading = true;
  s->is_aborted = false;
  uv_queue_work(s->orders.loop, &s->loading, load, after_load);
}

/* The app's last state goes over; should that fail, what was kept when the
 * generation was prepared stays. */
static void hand_kept_over(struct pl_succession *s, struct pl_generation *to) {
  struct pl_buf kept, none;
  struct pl_vm_arg arg;
  uint32_t lines;
  int failed;

  pl__buf_init(&kept, NULL, KEPT_BYTES_MAX);
  pl__buf_init(&none, NULL, 1);
  failed = save_kept(s, &kept);
  arg = (struct pl_vm_arg){.text = kept.at, .text_bytes = kept.bytes};
  if (!failed && kept.bytes)
    failed = pl__vm_call_tool(&to->vm, "keep_adopt", &arg, 1, KEEP_SECONDS,
                              &none, &lines, s->err);
  if (failed)
    warn(s->dispatch, to,
         "what is kept is that of a moment ago: the last changes are lost",
         s->err);
  pl__buf_release(&kept);
  pl__buf_release(&none);
}

static void on_commit(struct pl_succession *s, uint32_t generation) {
  struct pl_generation *g = s->next;
  int failed;

  if (s->wanted != generation || s->is_loading || !g) {
    say(s, PL_NEWS_COMMITTED, generation, PL_ECONFLICT,
        "a worker has not loaded the generation that it is to serve");
    return;
  }
  s->next = NULL;
  s->wanted = 0;
  g->vm.options.is_muted = false;
  hand_kept_over(s, g);
  pl__succession_publish(s->fabric, s->dispatch, g);
  pl__succession_renew_names(s->fabric, s->worker, s->frames);
  pl__dispatch_succeed(s->dispatch, g);
  failed = pl__vm_start(&g->vm, g->site, s->err);
  record(s, generation, PL_EVENT_RELOAD_SERVES);
  say(s, PL_NEWS_COMMITTED, generation, failed, failed ? s->err : NULL);
}

static void on_abort(struct pl_succession *s, uint32_t generation) {
  if (s->wanted != generation)
    return;
  s->is_aborted = true;
  if (!s->is_loading)
    forget_next(s);
}

static void on_hurry(struct pl_succession *s) {
  if (s->dispatch->old)
    pl__generation_hurry(s->dispatch->old);
}

static void on_look(struct pl_succession *s) {
  bool failed =
      atomic_load_explicit(&s->state->reload_failed, memory_order_relaxed);

  pl__generation_say(s->dispatch->now, failed);
  pl__dispatch_set_level(
      s->dispatch,
      atomic_load_explicit(&s->state->log_level, memory_order_relaxed));
}

static void obey(struct pl_succession *s, const struct pl_message *m) {
  switch (m->kind) {
  case PL_ORDER_PREPARE:
    on_prepare(s, m->generation);
    break;
  case PL_ORDER_COMMIT:
    on_commit(s, m->generation);
    break;
  case PL_ORDER_ABORT:
    on_abort(s, m->generation);
    break;
  case PL_ORDER_LOOK:
    on_look(s);
    break;
  case PL_ORDER_COLLECT:
    pl__vm_begin_cycle(&s->dispatch->now->vm);
    break;
  case PL_ORDER_HURRY:
    on_hurry(s);
    break;
  default:
    break;
  }
}

static void on_orders(uv_poll_t *handle, int status, int events) {
  struct pl_succession *s = handle->data;
  struct pl_message m;
  int failed = 0;

  (void)events;
  if (status == 0)
    failed = pl__channel_read(s->channel_fd, &m);
  if (status == 0 && failed == -EAGAIN)
    return;
  if (status || failed)
    uv_poll_stop(handle); /* the kernel ends us when the master is gone */
  else
    obey(s, &m);
}

/* --- a life ------------------------------------------------------------- */

int pl__succession_open(struct pl_succession *s, uv_loop_t *uv) {
  int failed = uv_poll_init(uv, &s->orders, s->channel_fd);

  if (failed)
    return failed;
  s->orders.data = s->loading.data = s->closing.data = s;
  uv_poll_start(&s->orders, UV_READABLE, on_orders);
  return 0;
}

void pl__succession_turn(struct pl_succession *s) {
  struct pl_generation *g;

  if (!s->dispatch->old || s->gone)
    return;
  g = pl__dispatch_take_old(s->dispatch);
  if (!g)
    return;
  pl__vm_tell_counts(&g->vm);
  begin_closing(s, g, true);
}

bool pl__succession_is_busy(const struct pl_succession *s) {
  return s->is_loading || s->gone;
}

void pl__succession_close(struct pl_succession *s) {
  uv_close((uv_handle_t *)&s->orders, NULL);
  if (s->next)
    pl__generation_close(s->next);
  s->next = NULL;
}
