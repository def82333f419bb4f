/* server/exporter.c - see exporter.h.
 *
 *             enough is there, or it is time
 *   RESTING ----------------------------------> SENDING
 *      ^                                         |   ^
 *      |       taken, refused, given up          |   | it is due
 *      +-----------------------------------------+   |
 *                                 try again later|   |
 *                                                v   |
 *                                               WAITING
 */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "server/exporter.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/pairs.h"
#include "base/random.h"
#include "fabric/exports.h"
#include "fabric/map.h"
#include "fabric/record.h"
#include "fabric/routes.h"
#include "fabric/span.h"
#include "log/drain.h"
#include "log/gzip.h"
#include "log/otlp_logs.h"
#include "log/otlp_metrics.h"
#include "log/otlp_spans.h"
#include "perilune.h"
#include "server/backlog.h"
#include "server/config.h"
#include "server/figures.h"
#include "server/layout.h"
#include "server/post.h"

#define SAY_LOOKS 10u           /* between looks at what was dropped */
#define LOOK_MS 100u            /* at the rings */
#define LOGS_EAGER_BYTES 65536u /* of records: these wait no longer */
#define METRICS_BYTES_MAX                                                      \
  (PL_OTLP_PARTS_MAX * (PL_OTLP_PART_BYTES + (1u << 20)))
#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 32000u
#define RETRY_AFTER_MAX_MS 300000u /* as long as a collector may send us away */
#define SAY_EVERY_MS 60000u        /* what is lost, and that nothing arrives */
#define WHY_BYTES 160u
#define CLOSE_TURNS 100 /* of the loop, for handles to close */

/* What one kind of data goes by. */
struct outflow {
  struct pl_exporter *e;
  enum pl_signal what;
  bool is_on;
  struct pl_endpoint to;
  struct pl_post post;
  char fields[PL_POST_FIELDS_BYTES];
  struct pl_exports_of *counts;
  struct pl_buf body;   /* of the batch; metrics: all parts */
  struct pl_buf packed; /* compressed */
  uint32_t items;       /* of the request that is to be sent; 0: RESTING */
  uint32_t tries;       /* that have failed */
  uint64_t due_ms;      /* WAITING: until then */
  uint64_t since_ms;    /* something waits for others since then; 0: nothing */
  uint64_t failing_ms;  /* nothing arrives since then; 0: it does */
  uint64_t said_ms;     /* when that, or a loss, was said; 0: never */
  uint64_t drops_said;
  char why[WHY_BYTES]; /* the last failure */
};

struct pl_exporter {
  struct pl_exporter_args args;
  struct pl_exports *exports;
  const struct pl_routes *routes;
  struct outflow signals[PL_SIGNALS];
  /* spans */
  struct pl_backlog backlog;
  struct pl_ring_reader *spans; /* by worker */
  /* logs */
  struct pl_ring_reader logs;
  struct pl_ring_writer logs_writer; /* the drain's thread's */
  /* metrics */
  struct pl_otlp_metrics metrics;
  uint32_t part;       /* that is to be sent */
  uint64_t metrics_ms; /* when they are due */
  bool has_last;       /* the last ones were taken, at the end */
  struct pl_buf resource;
  struct pl_ring_writer log; /* of its own records */
  struct pl_random random;
  uv_loop_t uv;
  uv_timer_t look_timer;
  uint32_t look_count;
  uv_async_t end;
  uv_timer_t end_timer;
  bool is_ending;
  uint32_t wait_ms; /* for the end; set before `end` is sent */
  pthread_t thread;
};

static void step(struct outflow *s);

static uint64_t ms_of(double seconds) {
  return seconds * 1000 < 1 ? 1 : (uint64_t)(seconds * 1000);
}

static const struct pl_config *config_of(const struct pl_exporter *e) {
  return e->args.config;
}

static void drop(struct outflow *s, enum pl_export_drop why, uint64_t count) {
  pl__exports_add(&s->counts->drops[why], count);
}

/* --- saying -------------------------------------------------------------------- */

static void draft_begin(struct pl_record_draft *draft, void *memory,
                        uint32_t bytes, enum pl_level level,
                        const struct outflow *s, const char *message) {
  struct pl_record head = {.level = (uint8_t)level,
                           .worker = PL_RECORD_CONTROL,
                           .route = PL_RECORD_NO_ROUTE};

  pl__record_begin(draft, memory, bytes, &head, pl__slice_text(message));
  pl__record_str(draft, PL_SLICE("signal"),
                 pl__slice_text(pl__signal_name(s->what)));
}

static void draft_end(struct pl_exporter *e, struct pl_record_draft *draft) {
  pl__record_end(draft, &e->log);
  pl__ring_wake(&e->log);
}

/* All that was dropped and not said yet. */
static uint64_t drops_new(struct outflow *s) {
  uint64_t sum = 0, last = s->drops_said;

  for (unsigned i = 0; i < PL_EXPORT_DROPS; i++)
    sum += pl__figures_export_drops(s->e->args.fabric, s->what,
                                    (enum pl_export_drop)i);
  s->drops_said = sum;
  return sum - last;
}

static void say_failing(struct outflow *s, uint64_t now) {
  _Alignas(8) char memory[1024];
  struct pl_record_draft draft;
  uint64_t drops;

  if (s->said_ms && now - s->said_ms < SAY_EVERY_MS)
    return;
  s->said_ms = now;
  drops = drops_new(s);
  draft_begin(&draft, memory, sizeof memory, PL_LEVEL_WARN, s,
              "the collector does not take what is sent");
  pl__record_str(&draft, PL_SLICE("reason"), pl__slice_text(s->why));
  pl__record_str(&draft, PL_SLICE("host"), pl__slice_text(s->to.authority));
  if (drops)
    pl__record_num(&draft, PL_SLICE("dropped"), (double)drops);
  draft_end(s->e, &draft);
}

static void say_recovered(struct outflow *s, uint64_t now) {
  _Alignas(8) char memory[1024];
  struct pl_record_draft draft;

  draft_begin(&draft, memory, sizeof memory, PL_LEVEL_INFO, s,
              "the collector takes what is sent again");
  pl__record_num(&draft, PL_SLICE("seconds"),
                 (double)(now - s->failing_ms) / 1000);
  pl__record_num(&draft, PL_SLICE("dropped"), (double)drops_new(s));
  draft_end(s->e, &draft);
}

/* Losses that no failure goes with: a queue that is too short, what was refused. */
static void say_drops(struct outflow *s, uint64_t now) {
  _Alignas(8) char memory[1024];
  struct pl_record_draft draft;
  uint64_t drops;

  if (s->said_ms && now - s->said_ms < SAY_EVERY_MS)
    return;
  drops = drops_new(s);
  if (!drops)
    return;
  s->said_ms = now;
  draft_begin(&draft, memory, sizeof memory, PL_LEVEL_WARN, s,
              "some of what was to be exported is lost");
  pl__record_num(&draft, PL_SLICE("dropped"), (double)drops);
  if (s->why[0])
    pl__record_str(&draft, PL_SLICE("reason"), pl__slice_text(s->why));
  draft_end(s->e, &draft);
  s->why[0] = '\0';
}

/* --- filling a request ----------------------------------------------------------- */

static struct pl_slice version(void) { return pl__slice_text(pl_version()); }

static struct pl_slice resource_of(const struct pl_exporter *e) {
  return pl__slice(e->resource.at, e->resource.bytes);
}

static void envelope_begin(struct outflow *s, struct pl_otlp *o) {
  s->body.bytes = 0;
  pl__otlp_begin(o, &s->body, resource_of(s->e), version());
}

/* Without memory there is no request. */
static void envelope_end(struct outflow *s, struct pl_otlp *o, uint32_t items) {
  s->items = pl__otlp_end(o) ? 0 : items;
}

static void count_queued(struct pl_exporter *e) {
  struct outflow *s = &e->signals[PL_SIGNAL_TRACES];

  pl__exports_set(&s->counts->queued,
                  pl__backlog_count(&e->backlog) + s->items);
}

/* Whether what could not be added is for the next request: there is no memory, or
 * no room beside the others. */
static bool waits(int failed, uint32_t items) {
  return failed == PL_ENOMEM || (failed == PL_EFULL && items > 0);
}

static void fill_traces(struct outflow *s) {
  struct pl_backlog *b = &s->e->backlog;
  struct pl_backlog_item *item;
  struct pl_otlp o;
  uint32_t items = 0;

  envelope_begin(s, &o);
  while (items < config_of(s->e)->otlp_batch && (item = pl__backlog_take(b))) {
    int failed = pl__otlp_span(&o, s->e->routes, item->at, item->bytes);
    if (waits(failed, items)) {
      pl__backlog_return(b, item);
      break;
    }
    if (failed)
      drop(s, PL_EXPORT_UNFIT, 1);
    else
      items++;
    pl__backlog_free(item);
  }
  envelope_end(s, &o, items);
  if (items && !s->items)
    drop(s, PL_EXPORT_UNFIT, items);
  count_queued(s->e);
}

static void fill_logs(struct outflow *s) {
  struct pl_ring_reader *r = &s->e->logs;
  struct pl_otlp o;
  const void *record;
  uint32_t bytes, items = 0;

  envelope_begin(s, &o);
  while (items < config_of(s->e)->otlp_batch &&
         (record = pl__ring_peek(r, &bytes))) {
    int failed = pl__otlp_log(&o, s->e->routes, record, bytes);
    if (waits(failed, items))
      break;
    if (failed)
      drop(s, PL_EXPORT_UNFIT, 1);
    else
      items++;
    pl__ring_next(r);
  }
  envelope_end(s, &o, items);
  if (!s->items && items)
    pl__ring_rewind(r);
  else if (!items)
    pl__ring_release(r);
}

/* The requests that the metrics have become, one after the other. */
static bool metrics_next(struct outflow *s) {
  struct pl_otlp_metrics *m = &s->e->metrics;

  s->items = s->e->part < m->part_count ? m->parts[s->e->part].points : 0;
  return s->items != 0;
}

static void fill_metrics(struct outflow *s) {
  struct pl_exporter *e = s->e;

  s->body.bytes = 0;
  e->part = 0;
  e->metrics_ms = uv_now(&e->uv) + ms_of(config_of(e)->otlp_metrics_interval_s);
  e->has_last = e->is_ending;
  pl__otlp_metrics_begin(&e->metrics, &s->body, resource_of(e), version(),
                         e->exports->start_ns, pl__clock_realtime_ns());
  if (pl__figures_export(e->args.fabric, &e->metrics) ||
      pl__otlp_metrics_end(&e->metrics))
    drop(s, PL_EXPORT_UNFIT, 1);
  metrics_next(s);
}

/* --- spans of the workers ------------------------------------------------------------ */

static bool must_arrive(const struct pl_span *s) {
  return (s->kept & (PL_KEPT_ERROR | PL_KEPT_SLOW | PL_KEPT_SHED)) != 0;
}

/* False: it stays in the ring, there is no room for it. */
static bool span_take(struct pl_exporter *e, const void *record,
                      uint32_t bytes) {
  struct outflow *s = &e->signals[PL_SIGNAL_TRACES];
  struct pl_span_view v;

  if (pl__span_read(record, bytes, &v)) {
    drop(s, PL_EXPORT_UNFIT, 1);
    return true;
  }
  if (must_arrive(&v.span) && pl__backlog_is_stuffed(&e->backlog))
    return false;
  drop(s, PL_EXPORT_FULL,
       pl__backlog_push(&e->backlog, pl__slice(record, bytes),
                        must_arrive(&v.span)));
  return true;
}

/* Nobody wants them: the rings are given free. */
static void spans_skip(struct pl_exporter *e) {
  for (uint32_t i = 0; i < e->args.worker_count; i++) {
    struct pl_ring_reader *r = &e->spans[i];
    pl__ring_reader_init(r, r->ring);
    r->head = r->tail;
    pl__ring_release(r);
  }
}

static void spans_take(struct pl_exporter *e) {
  const void *record;
  uint32_t bytes;

  if (!e->signals[PL_SIGNAL_TRACES].is_on) {
    spans_skip(e);
    return;
  }
  for (uint32_t i = 0; i < e->args.worker_count; i++) {
    struct pl_ring_reader *r = &e->spans[i];
    while ((record = pl__ring_peek(r, &bytes)) && span_take(e, record, bytes))
      pl__ring_next(r);
    pl__ring_release(r);
  }
  count_queued(e);
}

/* --- sending --------------------------------------------------------------------------- */

static struct pl_slice request_of(const struct outflow *s) {
  const struct pl_otlp_metrics *m = &s->e->metrics;
  uint32_t from = 0, end = s->body.bytes;

  if (s->what == PL_SIGNAL_METRICS) {
    from = s->e->part ? m->parts[s->e->part - 1].end : 0;
    end = m->parts[s->e->part].end;
  }
  return pl__slice(s->body.at + from, end - from);
}

/* The request is over, one way or the other. */
static void leave(struct outflow *s) {
  s->items = s->tries = 0;
  if (s->what == PL_SIGNAL_LOGS) {
    pl__ring_release(&s->e->logs);
  } else if (s->what == PL_SIGNAL_METRICS) {
    s->e->part++;
    metrics_next(s);
  } else {
    count_queued(s->e);
  }
}

static void arrived(struct outflow *s,
                    const struct pl_response_parser *answer) {
  struct pl_slice message;
  uint64_t rejected;

  pl__otlp_partial(pl__response_body(answer), &rejected, &message);
  if (rejected > s->items)
    rejected = s->items;
  if (rejected) {
    drop(s, PL_EXPORT_REJECTED, rejected);
    snprintf(s->why, sizeof s->why, "%.*s", (int)message.bytes, message.at);
  }
  pl__exports_add(&s->counts->exported, s->items - rejected);
  if (s->failing_ms)
    say_recovered(s, uv_now(&s->e->uv));
  s->failing_ms = 0;
  leave(s);
}

/* How long until the next try: 1, 2, 4 .. 32 s, more by up to a half so that
 * many servers do not come at once; or as long as the collector says. */
static uint64_t retry_ms(struct outflow *s,
                         const struct pl_response_parser *answer) {
  uint64_t most = s->tries > 5 ? RETRY_MAX_MS : RETRY_MIN_MS << (s->tries - 1);
  uint64_t wait = most + pl__random_next(&s->e->random) % (most / 2 + 1);
  int64_t asked = 0;

  if (wait > RETRY_MAX_MS)
    wait = RETRY_MAX_MS - pl__random_next(&s->e->random) % (RETRY_MAX_MS / 4);
  if (answer && answer->retry != PL_RESPONSE_RETRY_NONE)
    asked = answer->retry_is_at
                ? answer->retry - pl__clock_realtime_ns() / PL_NS_PER_S
                : answer->retry;
  if (asked > 0 && (uint64_t)asked * 1000 > wait)
    wait = (uint64_t)asked * 1000;
  return wait < RETRY_AFTER_MAX_MS ? wait : RETRY_AFTER_MAX_MS;
}

/* The answer, if there is one, says that it may be taken later. */
static void try_later(struct outflow *s,
                      const struct pl_response_parser *answer) {
  uint64_t now = uv_now(&s->e->uv);

  if (!s->failing_ms)
    s->failing_ms = now;
  say_failing(s, now);
  if (s->e->is_ending) {
    drop(s, PL_EXPORT_SHUTDOWN, s->items);
    leave(s);
    return;
  }
  s->tries++;
  s->due_ms = now + retry_ms(s, answer);
  if (s->what == PL_SIGNAL_METRICS && s->due_ms >= s->e->metrics_ms) {
    s->e->part = s->e->metrics.part_count; /* the next ones say it all */
    s->items = 0;
    s->e->metrics_ms = s->due_ms;
  }
}

static void refused(struct outflow *s, unsigned status) {
  snprintf(s->why, sizeof s->why, "it answers %u", status);
  drop(s, PL_EXPORT_REFUSED, s->items);
  say_drops(s, uv_now(&s->e->uv));
  leave(s);
}

static bool is_for_later(unsigned status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

static void on_answer(void *arg, int failed,
                      const struct pl_response_parser *answer) {
  struct outflow *s = arg;

  if (!failed && answer->status < 300) {
    arrived(s, answer);
  } else {
    pl__exports_add(&s->counts->failures, 1);
    if (failed) {
      snprintf(s->why, sizeof s->why, "%s", pl_strerror(failed));
      try_later(s, NULL);
    } else if (is_for_later(answer->status)) {
      snprintf(s->why, sizeof s->why, "it answers %u", answer->status);
      try_later(s, answer);
    } else {
      refused(s, answer->status);
    }
  }
  step(s);
}

static uint64_t timeout_ms(const struct outflow *s) {
  const struct pl_config *c = config_of(s->e);
  double of = c->otlp_timeout_of_s[s->what];
  double seconds = of > 0 ? of : c->otlp_timeout_s;

  if (s->what == PL_SIGNAL_TRACES && c->otlp_export_timeout_s < seconds)
    seconds = c->otlp_export_timeout_s;
  return ms_of(seconds);
}

static bool is_packed(const struct outflow *s) {
  const struct pl_config *c = config_of(s->e);
  uint32_t of = c->otlp_compression_of[s->what];

  return (of ? of - 1 : c->otlp_compression) == PL_CONFIG_COMPRESS_GZIP;
}

static void send_request(struct outflow *s) {
  struct pl_slice request = request_of(s);
  bool packs = is_packed(s);

  s->packed.bytes = 0;
  packs = packs && !pl__gzip(request, &s->packed);
  if (packs)
    request = pl__slice(s->packed.at, s->packed.bytes);
  pl__post_send(&s->post, request, packs, timeout_ms(s), on_answer, s);
}

/* --- when --------------------------------------------------------------------------------- */

/* Whether what waits has waited for others long enough. */
static bool has_waited(struct outflow *s, bool is_something) {
  uint64_t now = uv_now(&s->e->uv);

  if (!is_something)
    s->since_ms = 0;
  else if (!s->since_ms)
    s->since_ms = now;
  return is_something &&
         (s->e->is_ending ||
          now - s->since_ms >= ms_of(config_of(s->e)->otlp_delay_s));
}

static bool traces_due(struct outflow *s) {
  uint32_t count = pl__backlog_count(&s->e->backlog);

  return has_waited(s, count > 0) || count >= config_of(s->e)->otlp_batch;
}

static bool logs_due(struct outflow *s) {
  uint64_t bytes = pl__ring_fill(s->e->logs.ring);

  return has_waited(s, bytes > 0) || bytes >= LOGS_EAGER_BYTES;
}

static bool metrics_due(struct outflow *s) {
  return s->e->is_ending ? !s->e->has_last
                         : uv_now(&s->e->uv) >= s->e->metrics_ms;
}

static const struct {
  bool (*is_due)(struct outflow *s);
  void (*fill)(struct outflow *s);
} ways[PL_SIGNALS] = {
    {traces_due, fill_traces},
    {metrics_due, fill_metrics},
    {logs_due, fill_logs},
};

static bool is_at_rest(const struct outflow *s) {
  return !s->post.is_busy && !s->items;
}

static void step(struct outflow *s) {
  if (s->post.is_busy)
    return;
  if (!s->items && ways[s->what].is_due(s)) {
    ways[s->what].fill(s);
    s->since_ms = 0;
  }
  if (s->items &&
      (!s->tries || s->e->is_ending || uv_now(&s->e->uv) >= s->due_ms))
    send_request(s);
}

static void on_look(uv_timer_t *timer) {
  struct pl_exporter *e = timer->data;
  bool rests = true, says = ++e->look_count % SAY_LOOKS == 0;

  spans_take(e);
  for (unsigned i = 0; i < PL_SIGNALS; i++) {
    struct outflow *s = &e->signals[i];
    if (!s->is_on)
      continue;
    step(s);
    if (says)
      say_drops(s, uv_now(&e->uv));
    rests = rests && is_at_rest(s);
  }
  if (e->is_ending && rests)
    uv_stop(&e->uv);
}

/* --- the end ------------------------------------------------------------------------------- */

static void on_end_timer(uv_timer_t *timer) { uv_stop(timer->loop); }

static void on_end(uv_async_t *async) {
  struct pl_exporter *e = async->data;

  e->is_ending = true;
  uv_timer_start(&e->end_timer, on_end_timer, e->wait_ms, 0);
  uv_timer_start(&e->look_timer, on_look, 0, LOOK_MS / 10);
}

/* What is left counts as lost; records in the ring, too, as nobody comes after. */
static void count_left(struct pl_exporter *e) {
  struct outflow *traces = &e->signals[PL_SIGNAL_TRACES];
  struct outflow *logs = &e->signals[PL_SIGNAL_LOGS];
  uint64_t count = 0;
  uint32_t bytes;

  if (traces->is_on)
    drop(traces, PL_EXPORT_SHUTDOWN,
         traces->items + pl__backlog_count(&e->backlog));
  pl__exports_set(&traces->counts->queued, 0);
  pl__ring_rewind(&e->logs);
  while (pl__ring_peek(&e->logs, &bytes)) {
    pl__ring_next(&e->logs);
    count++;
  }
  if (logs->is_on)
    drop(logs, PL_EXPORT_SHUTDOWN, count);
  pl__ring_release(&e->logs);
}

static void *thread_main(void *arg) {
  struct pl_exporter *e = arg;

  prctl(PR_SET_NAME, "perilune-otlp");
  uv_run(&e->uv, UV_RUN_DEFAULT);
  count_left(e);
  for (unsigned i = 0; i < PL_SIGNALS; i++)
    if (e->signals[i].is_on)
      say_drops(&e->signals[i], uv_now(&e->uv) + SAY_EVERY_MS);
  return NULL;
}

/* --- a life --------------------------------------------------------------------------------- */

/* Header fields of each request, as text. */
static void fields_make(struct outflow *s) {
  const char *of = config_of(s->e)->otlp_headers_of[s->what];
  struct pl_slice list =
      pl__slice_text(of[0] ? of : config_of(s->e)->otlp_headers);
  struct pl_slice name, value;
  char room[PL_PAIRS_VALUE_BYTES];
  size_t used = 0;

  while (pl__pairs_take(&list, &name, &value, room) == 1) {
    size_t more = name.bytes + value.bytes + 4u;
    if (used + more >= sizeof s->fields)
      return;
    used += (size_t)snprintf(s->fields + used, sizeof s->fields - used,
                             "%.*s: %.*s\r\n", (int)name.bytes, name.at,
                             (int)value.bytes, value.at);
  }
}

static int resource_make(struct pl_exporter *e) {
  const struct pl_config *c = config_of(e);
  char host[256] = "";
  struct pl_otlp_identity who = {.service = pl__slice_text(c->otlp_service),
                                 .name = pl__slice_text(c->name),
                                 .attributes = pl__slice_text(c->otlp_resource),
                                 .version = version(),
                                 .pid = (uint64_t)getppid()};

  gethostname(host, sizeof host - 1);
  who.host = pl__slice_text(host);
  return pl__otlp_resource(&who, &e->resource);
}

/* Where a signal goes; false: nowhere. */
static bool signal_endpoint(const struct pl_config *c, enum pl_signal what,
                            struct pl_endpoint *out) {
  const char *const own[PL_SIGNALS] = {
      c->otlp_traces_endpoint, c->otlp_metrics_endpoint, c->otlp_logs_endpoint};
  static const char *const paths[PL_SIGNALS] = {"/v1/traces", "/v1/metrics",
                                                "/v1/logs"};

  if (!c->otlp_on[what])
    return false;
  if (own[what][0])
    return !pl__endpoint_parse(own[what], "", out);
  return c->otlp_endpoint[0] &&
         !pl__endpoint_parse(c->otlp_endpoint, paths[what], out);
}

static void signal_init(struct pl_exporter *e, enum pl_signal what) {
  struct outflow *s = &e->signals[what];

  s->e = e;
  s->what = what;
  s->counts = &e->exports->of[what];
  s->is_on = signal_endpoint(config_of(e), what, &s->to);
  atomic_store_explicit(&s->counts->is_on, s->is_on, memory_order_relaxed);
  pl__buf_init(&s->body, NULL,
               what == PL_SIGNAL_METRICS ? METRICS_BYTES_MAX
                                         : PL_OTLP_REQUEST_BYTES);
  pl__buf_init(&s->packed, NULL, PL_OTLP_REQUEST_BYTES);
  drop(s, PL_EXPORT_LOST, pl__exports_get(&s->counts->queued));
  pl__exports_set(&s->counts->queued, 0);
  drops_new(s); /* those of a control before this one were its to say */
  if (!s->is_on)
    return;
  fields_make(s);
  pl__post_init(&s->post, &e->uv, &s->to, s->fields);
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
    signal_init(e, (enum pl_signal)i);
  e->metrics_ms = uv_now(&e->uv) + ms_of(config_of(e)->otlp_metrics_interval_s);
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
  pl__backlog_init(&e->backlog, (uint32_t)config_of(e)->otlp_queue);
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
