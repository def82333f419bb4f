/* server/desk.c - see desk.h. */
#include "server/desk.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "server/admin.h"
#include "server/figures.h"
#include "server/profiles.h"

#define JSON "application/json"
#define TEXT "text/plain; charset=utf-8"

static bool is(struct pl_slice s, const char *text) {
  return s.bytes == strlen(text) && memcmp(s.at, text, s.bytes) == 0;
}

/* Whether the query has that pair, as it stands. */
static bool asks(struct pl_slice query, const char *pair) {
  size_t bytes = strlen(pair);

  for (const char *at = query.at, *end = query.at + query.bytes; at < end;) {
    const char *stop = memchr(at, '&', (size_t)(end - at));
    size_t n = (size_t)((stop ? stop : end) - at);
    if (n == bytes && memcmp(at, pair, n) == 0)
      return true;
    at += n + 1;
  }
  return false;
}

/* --- answers --------------------------------------------------------------- */

static void say(struct pl_desk *d, uint64_t client, unsigned status,
                const char *json) {
  pl__ops_answer(&d->ops, client, status, JSON, pl__slice_text(json));
}

static void say_failed(struct pl_desk *d, uint64_t client, unsigned status,
                       const char *detail) {
  char json[512];

  snprintf(json, sizeof json, "{\"status\":%u,\"detail\":\"%s\"}\n", status,
           detail);
  pl__ops_answer(&d->ops, client, status, "application/problem+json",
                 pl__slice_text(json));
}

/* `failed` is of the writing. */
static void say_buffer(struct pl_desk *d, uint64_t client, unsigned status,
                       bool as_text, struct pl_buf *body, int failed) {
  if (failed)
    say_failed(d, client, 500, "out of memory");
  else
    pl__ops_answer(&d->ops, client, status, as_text ? TEXT : JSON,
                   pl__slice(body->at, body->bytes));
  pl__buf_release(body);
}

static void say_ending(struct pl_desk *d, uint64_t client) {
  say_failed(d, client, 409, "the server does not serve: it starts, or ends");
}

/* --- requests ---------------------------------------------------------------- */

static void on_status(struct pl_desk *d, const struct pl_ops_request *r) {
  bool as_text = asks(r->query, "format=text");
  struct pl_overview overview = {0};
  struct pl_buf body;
  int failed;

  d->host.look(d->host.arg, &overview);
  pl__buf_init(&body, NULL, PL_OPS_ANSWER_BYTES_MAX - 1024);
  failed = as_text ? pl__overview_text(&overview, &body)
                   : pl__overview_json(&overview, &body);
  say_buffer(d, r->client, 200, as_text, &body, failed);
}

static void on_metrics(struct pl_desk *d, const struct pl_ops_request *r) {
  enum pl_exposition_format format = asks(r->query, "format=openmetrics")
                                         ? PL_EXPOSITION_OPENMETRICS
                                         : PL_EXPOSITION_PROMETHEUS;
  struct pl_buf body;

  pl__buf_init(&body, NULL, PL_FIGURES_BYTES_MAX);
  if (pl__figures_expose(d->host.fabric, format, &body))
    say_failed(d, r->client, 500, "there are too many, or no memory");
  else
    pl__ops_answer(&d->ops, r->client, 200, pl__exposition_type(format),
                   pl__slice(body.at, body.bytes));
  pl__buf_release(&body);
}

#define PROFILES "/debug/pprof/"

/* At once: who wants one of the time that begins now asks when it is over. */
static void on_profile(struct pl_desk *d, const struct pl_ops_request *r) {
  uint32_t skip = sizeof PROFILES - 1;
  struct pl_slice name = pl__slice(r->path.at + skip, r->path.bytes - skip);
  struct pl_buf body;
  int failed;

  pl__buf_init(&body, NULL, PL_OPS_ANSWER_BYTES_MAX - 1024);
  failed = pl__profiles_answer(d->host.fabric, name, r->query, &body);
  if (failed)
    say_failed(d, r->client,
               failed == PL_EINVAL ? 404
               : failed == PL_EBAD ? 400
                                   : 500,
               failed == PL_EINVAL ? "there is no such profile"
               : failed == PL_EBAD ? "seconds and ago are numbers up to 900; "
                                     "format is pprof, folded, svg or text"
                                   : "it cannot be made");
  else
    pl__ops_answer(&d->ops, r->client, 200, pl__profiles_type(r->query),
                   pl__slice(body.at, body.bytes));
  pl__buf_release(&body);
}

static bool is_profile(const struct pl_ops_request *r) {
  return is(r->method, "GET") && r->path.bytes > sizeof PROFILES - 1 &&
         memcmp(r->path.at, PROFILES, sizeof PROFILES - 1) == 0;
}

static void wait_for(struct pl_desk_waiter *list, uint32_t *count,
                     const struct pl_ops_request *r) {
  if (*count < PL_OPS_CLIENTS_MAX)
    list[(*count)++] = (struct pl_desk_waiter){
        .client = r->client, .as_text = asks(r->query, "format=text")};
}

/* What the fabric alone answers, or null where nobody knows that. */
static int put_topic(struct pl_desk *d, struct pl_slice topic,
                     struct pl_buf *out) {
  int failed = pl__admin_answer(d->host.fabric, topic, PL_SLICE(""), out);

  return failed == PL_EINVAL ? pl__buf_append_slice(out, PL_SLICE("null"))
                             : failed;
}

static void on_jit(struct pl_desk *d, const struct pl_ops_request *r) {
  struct pl_buf body;
  int failed;

  pl__buf_init(&body, NULL, PL_OPS_ANSWER_BYTES_MAX - 1024);
  failed = pl__buf_append_slice(&body, PL_SLICE("{\"compilation\":"));
  failed = failed ? failed : put_topic(d, PL_SLICE("compilation"), &body);
  failed =
      failed ? failed : pl__buf_append_slice(&body, PL_SLICE(",\"shares\":"));
  failed = failed ? failed : put_topic(d, PL_SLICE("shares"), &body);
  failed = failed ? failed : pl__buf_append_slice(&body, PL_SLICE("}\n"));
  say_buffer(d, r->client, 200, false, &body, failed);
}

static void on_reload(struct pl_desk *d, const struct pl_ops_request *r) {
  bool waits = !asks(r->query, "wait=false");

  if (waits) { /* first: it may be over at once */
    wait_for(d->reloads, &d->reload_count, r);
    d->reloads[d->reload_count - 1].is_next = d->host.is_reloading(d->host.arg);
  }
  if (d->host.reload(d->host.arg)) {
    if (!waits)
      say(d, r->client, 202, "{\"result\":\"begun\"}\n");
    return;
  }
  d->reload_count -= waits;
  say_ending(d, r->client);
}

static void on_drain(struct pl_desk *d, const struct pl_ops_request *r) {
  bool waits = !asks(r->query, "wait=false");

  if (waits)
    wait_for(d->drains, &d->drain_count, r);
  if (d->host.drain(d->host.arg)) {
    if (!waits)
      say(d, r->client, 202, "{\"result\":\"draining\"}\n");
    return;
  }
  d->drain_count -= waits;
  say_ending(d, r->client);
}

static void on_stop(struct pl_desk *d, const struct pl_ops_request *r) {
  if (d->host.stop(d->host.arg, asks(r->query, "now=true")))
    say(d, r->client, 202, "{\"result\":\"stopping\"}\n");
  else
    say(d, r->client, 202, "{\"result\":\"ending\"}\n");
}

/* The number behind `key` in a query; 0: there is none. */
static int number_of(struct pl_slice query, const char *key) {
  size_t bytes = strlen(key);
  int n = 0;

  for (const char *at = query.at, *end = at + query.bytes; at + bytes < end;
       at++)
    if ((at == query.at || at[-1] == '&') && memcmp(at, key, bytes) == 0)
      for (at += bytes; at < end && *at >= '0' && *at <= '9' && n < 100000;)
        n = 10 * n + (*at++ - '0');
  return n;
}

static void on_record(struct pl_desk *d, const struct pl_ops_request *r) {
  if (d->record_count == PL_OPS_CLIENTS_MAX) /* of some that have gone */
    d->record_count--;
  d->asker = d->asker + 1 ? d->asker + 1 : 1;
  wait_for(d->records, &d->record_count, r);
  d->records[d->record_count - 1].asker = d->asker;
  if (d->host.record(d->host.arg, number_of(r->query, "seconds="), d->asker))
    return;
  d->record_count--;
  say_failed(d, r->client, 409,
             "nothing is recorded: recorder.on is false, or the process that "
             "writes it is just being started");
}

static const struct {
  const char *method;
  const char *path;
  void (*run)(struct pl_desk *d, const struct pl_ops_request *r);
} routes[] = {
    {"GET", "/status", on_status},  {"GET", "/metrics", on_metrics},
    {"POST", "/reload", on_reload}, {"POST", "/drain", on_drain},
    {"POST", "/stop", on_stop},     {"POST", "/record", on_record},
    {"GET", "/jit", on_jit},
};

static void on_request(void *arg, const struct pl_ops_request *r) {
  struct pl_desk *d = arg;
  bool found = false;

  if (is_profile(r)) {
    on_profile(d, r);
    return;
  }
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    if (!is(r->path, routes[i].path))
      continue;
    found = true;
    if (is(r->method, routes[i].method)) {
      routes[i].run(d, r);
      return;
    }
  }
  say_failed(d, r->client, found ? 405 : 404,
             "there are GET /status, /metrics, /jit and "
             "/debug/pprof/profile, heap, allocs, coroutine, coroutineleak and "
             "block, POST /reload, /drain, /stop and /record");
}

/* --- news -------------------------------------------------------------------- */

static unsigned status_of(int code) {
  return code == 0            ? 200
         : code == PL_ESCRIPT ? 422
         : code == PL_ECONFIG ? 400
                              : 500;
}

void pl__desk_on_reload(struct pl_desk *d, const struct pl_reload_result *r) {
  uint32_t count = d->reload_count;

  d->reload_count = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (d->reloads[i].is_next) {
      d->reloads[i].is_next = false;
      d->reloads[d->reload_count++] = d->reloads[i];
      continue;
    }
    bool as_text = d->reloads[i].as_text;
    struct pl_buf body;
    int failed;
    pl__buf_init(&body, NULL, PL_OPS_ANSWER_BYTES_MAX - 1024);
    failed = as_text ? pl__overview_reload_text(r, &body)
                     : pl__overview_reload_json(r, &body);
    say_buffer(d, d->reloads[i].client, status_of(r->code), as_text, &body,
               failed);
  }
}

void pl__desk_on_recorded(struct pl_desk *d, uint32_t asker, int code,
                          const char *text) {
  struct pl_buf body;

  for (uint32_t i = 0; i < d->record_count; i++) {
    struct pl_desk_waiter w = d->records[i];
    if (w.asker != asker)
      continue;
    d->records[i] = d->records[--d->record_count];
    pl__buf_init(&body, NULL, 65536);
    say_buffer(d, w.client, code ? 500 : 200, true, &body,
               pl__buf_append(&body, text, (uint32_t)strlen(text)));
    return;
  }
}

void pl__desk_on_recorder_gone(struct pl_desk *d) {
  for (uint32_t i = 0; i < d->record_count; i++)
    say_failed(d, d->records[i].client, 500,
               "the process that writes records has ended before it was done");
  d->record_count = 0;
}

void pl__desk_on_drained(struct pl_desk *d, unsigned cut_requests) {
  char json[64];

  snprintf(json, sizeof json, "{\"result\":\"drained\",\"cut_requests\":%u}\n",
           cut_requests);
  for (uint32_t i = 0; i < d->drain_count; i++)
    say(d, d->drains[i].client, 200, json);
  d->drain_count = 0;
}

/* --- a life ------------------------------------------------------------------ */

int pl__desk_open(struct pl_desk *d, const char *path,
                  const struct pl_desk_host *host, char *error) {
  memset(d, 0, sizeof *d);
  d->host = *host;
  return pl__ops_open(&d->ops, path, on_request, d, error);
}

void pl__desk_close(struct pl_desk *d, bool remove) {
  pl__ops_finish(&d->ops, 100);
  pl__ops_close(&d->ops, remove);
}
