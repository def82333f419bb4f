/* server/overview.c - see overview.h. */
#define _GNU_SOURCE /* memmem */
#include "server/overview.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "fabric/record.h"
#include "log/digits.h"
#include "perilune.h"
#include "server/figures.h"
#include "server/layout.h"
#include "server/standing.h"
#include "server/trends.h"

/* --- writing; what fails once stays failed ------------------------------- */

struct writer {
  struct pl_buf *out;
  int failed;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w,
                                                      const char *format, ...) {
  va_list args;

  va_start(args, format);
  if (!w->failed)
    w->failed = pl__buf_format(w->out, format, args);
  va_end(args);
}

/* `"key":"text"`, with a comma before it unless it is the first. */
static void put_text(struct writer *w, bool first, const char *key,
                     const char *text) {
  size_t bytes = strlen(text);
  char *at;

  put(w, "%s\"%s\":\"", first ? "" : ",", key);
  if (w->failed)
    return;
  w->failed = pl__buf_reserve(w->out, (uint32_t)bytes * PL_DIGITS_JSON_FACTOR);
  if (w->failed)
    return;
  at = pl__put_json(w->out->at + w->out->bytes, pl__slice(text, bytes));
  w->out->bytes = (uint32_t)(at - w->out->at);
  put(w, "\"");
}

/* --- facts ----------------------------------------------------------------- */

static double since_ms(int64_t at_ns, int64_t now_ns) {
  return at_ns > 0 && at_ns < now_ns ? (double)(now_ns - at_ns) / PL_NS_PER_MS
                                     : 0;
}

struct signs {
  uint32_t in_flight, connections;
  double beat_ms; /* since the last heartbeat */
};

static struct signs signs_of(const struct pl_overview *o, uint32_t index) {
  const struct pl_beat *b = &o->beats[index];

  if (!o->beats)
    return (struct signs){0};
  return (struct signs){
      .in_flight =
          atomic_load_explicit(&b->request_count, memory_order_relaxed),
      .connections =
          atomic_load_explicit(&b->connection_count, memory_order_relaxed),
      .beat_ms = since_ms(atomic_load_explicit(&b->at_ns, memory_order_relaxed),
                          o->now_ns)};
}

/* "script", "configuration" or "server": whose fault it was. */
static const char *kind_of(int code) {
  return code == PL_ESCRIPT   ? "script"
         : code == PL_ECONFIG ? "configuration"
                              : "server";
}

static void hash_text(uint64_t hash, char out[17]) {
  snprintf(out, 17, "%016llx", (unsigned long long)hash);
}

static double uptime_s(const struct pl_overview *o) {
  return (double)(pl__clock_realtime_ns() - o->facts->started_ns) / PL_NS_PER_S;
}

/* --- taking ---------------------------------------------------------------- */

void pl__overview_take(struct pl_overview *o,
                       const struct pl_standing_facts *facts,
                       const struct pl_fabric *f, struct pl_trends *trends) {
  struct pl_metrics metrics;
  struct pl_beat *beats;
  int64_t up_ns = pl__clock_realtime_ns() - facts->started_ns;

  *o = (struct pl_overview){.facts = facts, .now_ns = pl__clock_monotonic_ns()};
  if (pl__layout_beat(f, 0, &beats) == 0)
    o->beats = beats;
  if (pl__layout_metrics(f, &metrics) == 0 &&
      pl__trends_look(trends, &metrics, o->now_ns - up_ns, o->now_ns) == 0)
    o->trends = trends;
  pl__figures_drops(f, facts->worker_count, o->drops);
}

/* --- JSON ------------------------------------------------------------------ */

static void put_reload(struct writer *w, const struct pl_reload_result *r) {
  char hash[17], name[128];
  const char *at = r->fixed;

  hash_text(r->hash, hash);
  put(w,
      "{\"result\":\"%s\",\"generation\":%u,\"hash\":\"%s\","
      "\"duration_ms\":%.1f",
      r->code ? "rejected" : "committed", r->generation, hash,
      (double)r->took_ns / PL_NS_PER_MS);
  if (r->code) {
    put_text(w, false, "kind", kind_of(r->code));
    put_text(w, false, "error", r->text);
  }
  put(w, ",\"not_changed\":[");
  while (*at) {
    size_t bytes = strcspn(at, ",");
    snprintf(name, sizeof name, "%.*s", (int)bytes, at);
    put(w, "%s\"%s\"", at == r->fixed ? "" : ",", name);
    at += bytes;
    at += strspn(at, ", ");
  }
  put(w, "]}");
}

static void put_number(struct writer *w, const char *key, double n) {
  put(w, ",\"%s\":%.6g", key, n);
}

static void put_trend(struct writer *w, const struct pl_trend *t) {
  put_number(w, "requests_per_s", t->requests_per_s);
  put_number(w, "errors_per_s", t->errors_per_s);
  put_number(w, "p50_ms", t->p50_s * 1000);
  put_number(w, "p99_ms", t->p99_s * 1000);
}

/* Of route="/x",method="GET" the text between the quotes behind `key`, as it
 * stands there: escaped as in JSON. */
static struct pl_slice label_of(struct pl_slice labels, const char *key) {
  const char *at = memmem(labels.at, labels.bytes, key, strlen(key)), *end;
  const char *stop = labels.at + labels.bytes;

  if (!at)
    return pl__slice("", 0);
  at += strlen(key);
  for (end = at; end < stop && *end != '"'; end++)
    end += *end == '\\' && end + 1 < stop;
  return pl__slice(at, (size_t)(end - at));
}

static void put_route(struct writer *w, const struct pl_trends_route_now *r,
                      bool first) {
  struct pl_slice route = label_of(r->labels, "route=\"");
  struct pl_slice method = label_of(r->labels, "method=\"");

  put(w, "%s{\"route\":\"%.*s\",\"method\":\"%.*s\",\"requests\":%llu",
      first ? "" : ",", (int)route.bytes, route.at, (int)method.bytes,
      method.at, (unsigned long long)r->requests);
  put_trend(w, &r->trend);
  put(w, "}");
}

static void put_routes(struct writer *w, const struct pl_trends *t) {
  put_number(w, "window_s", t->window_s);
  put_trend(w, &t->all);
  put(w, ",\"routes\":[");
  for (uint32_t i = 0; i < t->route_count; i++)
    put_route(w, &t->routes[i], i == 0);
  put(w, "]");
}

static void put_log(struct writer *w, const struct pl_overview *o) {
  put(w, ",\"log\":{\"dropped\":{");
  for (unsigned i = 0; i < PL_RING_LANES; i++)
    put(w, "%s\"%s\":%llu", i ? "," : "", pl__level_name(i),
        (unsigned long long)o->drops[i]);
  put(w, "}}");
}

static void put_worker_trend(struct writer *w,
                             const struct pl_trends_worker_now *t) {
  put_number(w, "requests_per_s", t->requests_per_s);
  put_number(w, "busy", t->busy);
  put_number(w, "lag_ms", t->lag_p99_s * 1000);
  if (t->memory_bytes > 0)
    put(w, ",\"memory_bytes\":%.0f", t->memory_bytes);
}

static void put_worker(struct writer *w, const struct pl_overview *o,
                       uint32_t index, bool first) {
  const struct pl_standing_worker *c = &o->facts->workers[index];
  struct signs now = signs_of(o, index);

  put(w,
      "%s{\"index\":%u,\"pid\":%d,\"state\":\"%s\",\"generation\":%u,"
      "\"connections\":%u,\"in_flight\":%u,\"heartbeat_ms\":%.0f,"
      "\"restarts\":%u,\"uptime_s\":%.1f",
      first ? "" : ",", index, c->pid, c->state, c->generation, now.connections,
      now.in_flight, now.beat_ms, c->restarts,
      since_ms(c->ready_ns, o->now_ns) / 1000);
  if (o->trends && index < o->trends->worker_count)
    put_worker_trend(w, &o->trends->workers[index]);
  put(w, "}");
}

static void put_workers(struct writer *w, const struct pl_overview *o) {
  bool first = true;

  put(w, ",\"workers\":[");
  for (uint32_t i = 0; i < o->facts->worker_count; i++) {
    if (!o->facts->workers[i].is_shown)
      continue;
    put_worker(w, o, i, first);
    first = false;
  }
  put(w, "]");
}

static void put_addresses(struct writer *w, const struct pl_overview *o,
                          const char *before, const char *quote) {
  for (uint32_t i = 0; i < o->facts->address_count; i++)
    put(w, "%s%s%s%s", i ? before : "", quote, o->facts->addresses[i], quote);
}

int pl__overview_json(const struct pl_overview *o, struct pl_buf *out) {
  const struct pl_standing_facts *f = o->facts;
  struct writer w = {.out = out};
  char hash[17];

  hash_text(f->last.hash, hash);
  put(&w, "{");
  put_text(&w, true, "name", f->name);
  put_text(&w, false, "version", pl_version());
  put_text(&w, false, "state", f->state);
  put(&w, ",\"pid\":%d,\"uptime_s\":%.1f,\"generation\":%u,\"hash\":\"%s\"",
      f->pid, uptime_s(o), f->generation, hash);
  put_text(&w, false, "app", f->app);
  put(&w, ",\"upgrading\":%s,\"reloading\":%s,\"addresses\":[",
      f->is_upgrading ? "true" : "false", f->is_reloading ? "true" : "false");
  put_addresses(&w, o, ",", "\"");
  put(&w, "]");
  if (f->admin[0])
    put_text(&w, false, "admin", f->admin);
  put(&w, ",\"reloads\":{\"committed\":%u,\"rejected\":%u},\"crashes\":%u",
      f->committed, f->rejected, f->crashes);
  put_workers(&w, o);
  if (o->trends)
    put_routes(&w, o->trends);
  put_log(&w, o);
  if (f->last.ended_ns) {
    put(&w, ",\"last_reload\":");
    put_reload(&w, &f->last);
  }
  put(&w, "}\n");
  return w.failed;
}

int pl__overview_reload_json(const struct pl_reload_result *r,
                             struct pl_buf *out) {
  struct writer w = {.out = out};

  put_reload(&w, r);
  put(&w, "\n");
  return w.failed;
}

/* --- for people ------------------------------------------------------------ */

int pl__overview_reload_text(const struct pl_reload_result *r,
                             struct pl_buf *out) {
  struct writer w = {.out = out};
  char hash[17];

  hash_text(r->hash, hash);
  if (r->code) {
    w.failed = pl__buf_append(out, r->text, (uint32_t)strlen(r->text));
    put(&w, "\n");
    return w.failed;
  }
  put(&w, "generation %u (%.8s) serves, after %.0f ms\n", r->generation, hash,
      (double)r->took_ns / PL_NS_PER_MS);
  if (r->fixed[0])
    put(&w, "not changed before a restart: %s\n", r->fixed);
  return w.failed;
}

static void put_duration(struct writer *w, double seconds) {
  unsigned long s = (unsigned long)seconds;

  if (s >= 86400)
    put(w, "%lud %luh", s / 86400, s % 86400 / 3600);
  else if (s >= 3600)
    put(w, "%luh %lum", s / 3600, s % 3600 / 60);
  else if (s >= 60)
    put(w, "%lum %lus", s / 60, s % 60);
  else
    put(w, "%lus", s);
}

static void put_last_reload(struct writer *w,
                            const struct pl_reload_result *r) {
  if (!r->code)
    return;
  put(w,
      "last reload  REJECTED (%s), generation %u serves on:\n             %s\n",
      kind_of(r->code), r->generation, r->text);
}

int pl__overview_text(const struct pl_overview *o, struct pl_buf *out) {
  const struct pl_standing_facts *f = o->facts;
  struct writer w = {.out = out};
  char hash[17];

  hash_text(f->last.hash, hash);
  put(&w, "%s       %s, pid %d, up ", f->name, f->state, f->pid);
  put_duration(&w, uptime_s(o));
  put(&w, ", perilune %s\naddresses    ", pl_version());
  put_addresses(&w, o, ", ", "");
  if (f->admin[0])
    put(&w, "\nadmin plane  %s", f->admin);
  put(&w, "\ngeneration   %u (%.8s)\n", f->generation, hash);
  put_last_reload(&w, &f->last);
  put(&w, "\nWORKER  PID      STATE      GENERATION  CONNECTIONS  RUNNING   "
          "HEARTBEAT  RESTARTS\n");
  for (uint32_t i = 0; i < f->worker_count; i++) {
    const struct pl_standing_worker *c = &f->workers[i];
    struct signs now = signs_of(o, i);
    if (c->is_shown)
      put(&w, "%-7u %-8d %-10s %-11u %-12u %-9u %4.0f ms    %u\n", i, c->pid,
          c->state, c->generation, now.connections, now.in_flight, now.beat_ms,
          c->restarts);
  }
  return w.failed;
}
