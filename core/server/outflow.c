/* server/outflow.c - one kind of data on its way: sending, and what follows from
 * the answer.  See outflow.h.
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
#include "server/outflow.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/pairs.h"
#include "log/gzip.h"
#include "perilune.h"
#include "server/config.h"

#define METRICS_BYTES_MAX                                                      \
  (PL_OTLP_PARTS_MAX * (PL_OTLP_PART_BYTES + (1u << 20)))
#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 32000u
#define RETRY_AFTER_MAX_MS 300000u /* as long as a collector may send us away */

/* --- sending -------------------------------------------------------------- */

static void arrived(struct pl_outflow *s,
                    const struct pl_response_parser *answer) {
  struct pl_slice message;
  uint64_t rejected;

  pl__otlp_partial(pl__response_body(answer), &rejected, &message);
  if (rejected > s->items)
    rejected = s->items;
  if (rejected) {
    pl__outflow_drop(s, PL_EXPORT_REJECTED, rejected);
    snprintf(s->why, sizeof s->why, "%.*s", (int)message.bytes, message.at);
  }
  pl__exports_add(&s->counts->exported, s->items - rejected);
  if (s->failing_ms)
    pl__complaints_say_recovered(s, uv_now(&s->e->uv));
  s->failing_ms = 0;
  pl__batch_leave(s);
}

/* How long until the next try: 1, 2, 4 .. 32 s, more by up to a half so that
 * many servers do not come at once; or as long as the collector says. */
static uint64_t retry_ms(struct pl_outflow *s,
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
static void try_later(struct pl_outflow *s,
                      const struct pl_response_parser *answer) {
  uint64_t now = uv_now(&s->e->uv);

  if (!s->failing_ms)
    s->failing_ms = now;
  pl__complaints_say_failing(s, now);
  if (s->e->is_ending) {
    pl__outflow_drop(s, PL_EXPORT_SHUTDOWN, s->items);
    pl__batch_leave(s);
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

/* What an operator has to look at, for a status that says that it is set wrong. */
static const char *advice_on(unsigned status, const char **key,
                             const struct pl_outflow *s) {
  *key = "";
  if (status == 401 || status == 403)
    *key = s->headers_key;
  else if (status < 400 || status == 404 || status == 405)
    *key = s->endpoint_key;
  if (status < 400)
    return ", and redirects are not followed: look at ";
  return **key ? ": look at " : "";
}

/* "http://collector:4318/v1/logs answers 404: look at otlp.endpoint"; a query
 * may have a secret in it and is left out. */
static void note_answer(struct pl_outflow *s, unsigned status) {
  const char *key, *advice = advice_on(status, &key, s);

  snprintf(s->why, sizeof s->why, "http://%s%.*s answers %u%s%s",
           s->to.authority, (int)strcspn(s->to.path, "?"), s->to.path, status,
           advice, key);
}

static void refused(struct pl_outflow *s, unsigned status) {
  note_answer(s, status);
  pl__outflow_drop(s, PL_EXPORT_REFUSED, s->items);
  pl__complaints_say_losses(s, uv_now(&s->e->uv));
  pl__batch_leave(s);
}

static bool is_for_later(unsigned status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

static void on_answer(void *arg, int failed,
                      const struct pl_response_parser *answer) {
  struct pl_outflow *s = arg;

  if (!failed && answer->status < 300) {
    arrived(s, answer);
  } else {
    pl__exports_add(&s->counts->failures, 1);
    if (failed) {
      snprintf(s->why, sizeof s->why, "%s", pl_strerror(failed));
      try_later(s, NULL);
    } else if (is_for_later(answer->status)) {
      note_answer(s, answer->status);
      try_later(s, answer);
    } else {
      refused(s, answer->status);
    }
  }
  pl__outflow_step(s);
}

static uint64_t timeout_ms(const struct pl_outflow *s) {
  const struct pl_config *c = pl__exporter_config(s->e);
  double of = c->otlp_timeout_of_s[s->what];
  double seconds = of > 0 ? of : c->otlp_timeout_s;

  if (s->what == PL_SIGNAL_TRACES && c->otlp_export_timeout_s < seconds)
    seconds = c->otlp_export_timeout_s;
  return pl__outflow_ms(seconds);
}

static bool is_packed(const struct pl_outflow *s) {
  const struct pl_config *c = pl__exporter_config(s->e);
  uint32_t of = c->otlp_compression_of[s->what];

  return (of ? of - 1 : c->otlp_compression) == PL_CONFIG_COMPRESS_GZIP;
}

static void send_request(struct pl_outflow *s) {
  struct pl_slice request = pl__batch_request(s);
  bool packs = is_packed(s);

  s->packed.bytes = 0;
  packs = packs && !pl__gzip(request, &s->packed);
  if (packs)
    request = pl__slice(s->packed.at, s->packed.bytes);
  pl__post_send(&s->post, request, packs, timeout_ms(s), on_answer, s);
}

bool pl__outflow_is_at_rest(const struct pl_outflow *s) {
  return !s->post.is_busy && !s->items;
}

void pl__outflow_step(struct pl_outflow *s) {
  if (s->post.is_busy)
    return;
  if (!s->items && pl__batch_is_due(s))
    pl__batch_fill(s);
  if (s->items &&
      (!s->tries || s->e->is_ending || uv_now(&s->e->uv) >= s->due_ms))
    send_request(s);
}

/* --- its beginning -------------------------------------------------------- */

/* Header fields of each request, as text. */
static void fields_make(struct pl_outflow *s) {
  const char *of = pl__exporter_config(s->e)->otlp_headers_of[s->what];
  static const char *const own_key[PL_SIGNALS] = {
      "otlp.traces_headers", "otlp.metrics_headers", "otlp.logs_headers"};
  struct pl_slice list =
      pl__slice_text(of[0] ? of : pl__exporter_config(s->e)->otlp_headers);
  struct pl_slice name, value;
  char room[PL_PAIRS_VALUE_BYTES];
  size_t used = 0;

  s->headers_key = of[0] ? own_key[s->what] : "otlp.headers";
  while (pl__pairs_take(&list, &name, &value, room) == 1) {
    size_t more = name.bytes + value.bytes + 4u;
    if (used + more >= sizeof s->fields)
      return;
    used += (size_t)snprintf(s->fields + used, sizeof s->fields - used,
                             "%.*s: %.*s\r\n", (int)name.bytes, name.at,
                             (int)value.bytes, value.at);
  }
}

/* Where a signal goes; false: nowhere. */
static bool find_endpoint(struct pl_outflow *s) {
  const struct pl_config *c = pl__exporter_config(s->e);
  const char *const own[PL_SIGNALS] = {
      c->otlp_traces_endpoint, c->otlp_metrics_endpoint, c->otlp_logs_endpoint};
  static const char *const paths[PL_SIGNALS] = {"/v1/traces", "/v1/metrics",
                                                "/v1/logs"};
  static const char *const own_key[PL_SIGNALS] = {
      "otlp.traces_endpoint", "otlp.metrics_endpoint", "otlp.logs_endpoint"};
  bool has_own = own[s->what][0] != '\0';

  s->endpoint_key = has_own ? own_key[s->what] : "otlp.endpoint";
  if (!c->otlp_on[s->what])
    return false;
  if (has_own)
    return !pl__endpoint_parse(own[s->what], "", &s->to);
  return c->otlp_endpoint[0] &&
         !pl__endpoint_parse(c->otlp_endpoint, paths[s->what], &s->to);
}

void pl__outflow_init(struct pl_exporter *e, enum pl_signal what) {
  struct pl_outflow *s = &e->signals[what];

  s->e = e;
  s->what = what;
  s->counts = &e->exports->of[what];
  s->is_on = find_endpoint(s);
  atomic_store_explicit(&s->counts->is_on, s->is_on, memory_order_relaxed);
  pl__buf_init(&s->body, NULL,
               what == PL_SIGNAL_METRICS ? METRICS_BYTES_MAX
                                         : PL_OTLP_REQUEST_BYTES);
  pl__buf_init(&s->packed, NULL, PL_OTLP_REQUEST_BYTES);
  pl__outflow_drop(s, PL_EXPORT_LOST, pl__exports_get(&s->counts->queued));
  pl__exports_set(&s->counts->queued, 0);
  /* Those of a control before this one were its to say. */
  pl__complaints_forget(s);
  if (!s->is_on)
    return;
  fields_make(s);
  pl__post_init(&s->post, &e->uv, &s->to, s->fields);
}
