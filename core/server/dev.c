/* server/dev.c - see dev.h. */
#define _GNU_SOURCE /* memmem */
#include "server/dev.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "log/digits.h"
#include "server/modules.h"

#define AROUND 3 /* lines shown before and behind the one at fault */
#define LINE_BYTES_MAX 200u
#define TEXT_BYTES_MAX 32768u

/* --- the parts of a failure ----------------------------------------------------- */

/* "file:line: message", then a traceback. Parts point into the text. */
struct report {
  struct pl_slice file; /* 0 bytes: no place is known */
  uint32_t line;
  struct pl_slice message;
  struct pl_slice traceback;
  struct pl_slice source; /* of the file, as it was loaded; or 0 bytes */
};

static struct pl_slice first_line(struct pl_slice *rest) {
  const char *end = memchr(rest->at, '\n', rest->bytes);
  struct pl_slice line =
      pl__slice(rest->at, end ? (size_t)(end - rest->at) : rest->bytes);

  *rest =
      end ? pl__slice(end + 1, rest->bytes - line.bytes - 1) : pl__slice("", 0);
  return line;
}

/* "/app.lua:12: what" */
static void place_take(struct report *r) {
  const char *at = r->message.at, *end = at + r->message.bytes;
  const char *colon = memchr(at, ':', r->message.bytes), *digit;
  uint32_t line = 0;

  if (!colon)
    return;
  for (digit = colon + 1; digit < end && *digit >= '0' && *digit <= '9';
       digit++)
    line = line * 10 + (uint32_t)(*digit - '0');
  if (digit == colon + 1 || digit + 1 >= end || *digit != ':')
    return;
  r->file = pl__slice(at, (size_t)(colon - at));
  r->line = line;
  r->message = pl__slice(digit + 2, (size_t)(end - digit - 2));
}

static bool is_trace_line(struct pl_slice line) {
  while (line.bytes && (*line.at == '\t' || *line.at == ' '))
    line = pl__slice(line.at + 1, line.bytes - 1);
  return (line.bytes > 4 && memcmp(line.at, "[C]:", 4) == 0) ||
         (line.bytes > 4 && memmem(line.at, line.bytes, ": in ", 5));
}

/* A message may have lines of its own; the traceback begins where they do. */
static struct report report_of(const char *text,
                               const struct pl_bundle *tried) {
  struct pl_slice rest = pl__slice_text(text), line;
  struct report r = {.message = rest};

  while (rest.bytes) {
    struct pl_slice before = rest;
    line = first_line(&rest);
    if (before.at != text && is_trace_line(line)) {
      r.traceback = before;
      r.message = pl__slice(text, (size_t)(before.at - text) - 1);
      break;
    }
  }
  place_take(&r);
  if (tried && r.file.bytes)
    pl__bundle_find(tried, r.file, &r.source);
  return r;
}

/* --- writing ------------------------------------------------------------------------ */

struct text {
  struct pl_buf out;
  bool colour;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t,
                                                      const char *format, ...) {
  char line[1024];
  va_list args;
  int n;

  va_start(args, format);
  n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  pl__buf_append(&t->out, line,
                 n < (int)sizeof line ? (uint32_t)n : sizeof line - 1);
}

static void put_colour(struct text *t, const char *code) {
  if (t->colour)
    put(t, "\033[%sm", code);
}

/* As it is, but for what would steer the terminal. */
static void put_plain(struct text *t, struct pl_slice s) {
  char *at;

  if (pl__buf_reserve(&t->out, s.bytes * 4 + 16))
    return;
  at = pl__put_plain(t->out.at + t->out.bytes, s, 1);
  t->out.bytes = (uint32_t)(at - t->out.at);
}

static void put_json(struct text *t, const char *key, struct pl_slice s) {
  char *at;

  put(t, "\"%s\":\"", key);
  if (pl__buf_reserve(&t->out, s.bytes * PL_DIGITS_JSON_FACTOR + 16))
    return;
  at = pl__put_json(t->out.at + t->out.bytes, s);
  t->out.bytes = (uint32_t)(at - t->out.at);
  put(t, "\"");
}

/* The path from the app's folder on, if it lies there. */
static struct pl_slice shown(const struct pl_dev *d, struct pl_slice path) {
  size_t bytes = strlen(d->app_folder);

  if (path.bytes > bytes + 1 && memcmp(path.at, d->app_folder, bytes) == 0 &&
      path.at[bytes] == '/')
    return pl__slice(path.at + bytes + 1, path.bytes - bytes - 1);
  return path;
}

/* Calls for each line around the one at fault. */
static void each_line(struct text *t, const struct report *r,
                      void (*fn)(struct text *t, uint32_t number,
                                 struct pl_slice line, bool is_it)) {
  struct pl_slice rest = r->source;

  for (uint32_t n = 1; rest.bytes && n <= r->line + AROUND; n++) {
    struct pl_slice line = first_line(&rest);
    if (line.bytes > LINE_BYTES_MAX)
      line.bytes = LINE_BYTES_MAX;
    if (n + AROUND >= r->line)
      fn(t, n, line, n == r->line);
  }
}

/* --- the terminal ------------------------------------------------------------------- */

static bool wants_colour(void) {
  const char *no = getenv("NO_COLOR"), *force = getenv("FORCE_COLOR");
  const char *term = getenv("TERM");

  if (no && *no)
    return false;
  if (force && *force)
    return true;
  return isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

static void text_begin(struct text *t) {
  pl__buf_init(&t->out, NULL, 1u << 20);
  t->colour = wants_colour();
}

static void text_say(struct pl_dev *d, struct text *t) {
  if (t->out.bytes)
    d->say(d->arg, t->out.at, t->out.bytes);
  pl__buf_release(&t->out);
}

static void put_source_line(struct text *t, uint32_t number,
                            struct pl_slice line, bool is_it) {
  put_colour(t, is_it ? "1;31" : "2");
  put(t, "  %s %4u | ", is_it ? ">" : " ", number);
  if (!is_it)
    put_colour(t, "0");
  put_plain(t, line);
  put_colour(t, "0");
  put(t, "\n");
}

static void show_failure(struct pl_dev *d, const struct report *r) {
  struct text t;

  text_begin(&t);
  put(&t, "\n");
  put_colour(&t, "1;31");
  if (r->file.bytes) {
    put_plain(&t, shown(d, r->file));
    put(&t, ":%u", r->line);
  } else {
    put(&t, "the app does not load");
  }
  put_colour(&t, "0");
  put(&t, "\n  ");
  put_colour(&t, "1");
  put_plain(&t, r->message);
  put_colour(&t, "0");
  put(&t, "\n\n");
  if (r->source.bytes) {
    each_line(&t, r, put_source_line);
    put(&t, "\n");
  }
  if (r->traceback.bytes) {
    put_colour(&t, "2");
    put(&t, "  ");
    put_plain(&t, r->traceback);
    put_colour(&t, "0");
    put(&t, "\n\n");
  }
  put(&t, "perilune: %s; waiting for a change\n",
      d->has_started ? "the last good version serves on"
                     : "nothing is served but this error");
  text_say(d, &t);
}

static void show_served(struct pl_dev *d, const struct pl_reload_result *r) {
  struct text t;

  text_begin(&t);
  put_colour(&t, "32");
  put(&t, "perilune: reloaded in %.0f ms",
      (double)(d->saved_ns ? pl__clock_monotonic_ns() - d->saved_ns
                           : r->took_ns) /
          PL_NS_PER_MS);
  put_colour(&t, "0");
  put(&t, " (generation %u)\n", r->generation);
  if (r->fixed[0])
    put(&t, "perilune: a restart is needed for: %s\n", r->fixed);
  text_say(d, &t);
}

/* --- browsers ----------------------------------------------------------------------- */

static void put_json_line(struct text *t, uint32_t number, struct pl_slice line,
                          bool is_it) {
  (void)is_it;
  put(t, "%s{\"number\":%u,", t->out.at[t->out.bytes - 1] == '[' ? "" : ",",
      number);
  put_json(t, "text", line);
  put(t, "}");
}

/* What a page compares with what it was made by, also when it comes back: a run
 * of ours, and a generation in it. */
static void put_version(const struct pl_dev *d, struct text *t,
                        uint32_t generation) {
  put(t, "{\"run\":\"%llx\",\"generation\":%u", (unsigned long long)d->run_ns,
      generation);
}

/* To those who listen, and those who will. Frees the text. */
static void push_state(struct pl_dev *d, const char *event, struct text *t) {
  struct pl_slice data = pl__slice(t->out.at, t->out.bytes);

  pl__events_push(&d->events, event, data);
  pl__events_keep(&d->events, PL_EVENTS_STATE, event, data);
  pl__buf_release(&t->out);
}

static void push_failure(struct pl_dev *d, const struct report *r,
                         uint32_t generation) {
  struct text t;

  text_begin(&t);
  put_version(d, &t, generation);
  put(&t, ",\"serves\":%s,\"line\":%u,", d->has_started ? "true" : "false",
      r->line);
  put_json(&t, "file", shown(d, r->file));
  put(&t, ",");
  put_json(&t, "message", r->message);
  put(&t, ",");
  put_json(&t, "traceback", r->traceback);
  put(&t, ",\"lines\":[");
  if (r->source.bytes)
    each_line(&t, r, put_json_line);
  put(&t, "]}");
  push_state(d, "failed", &t);
}

static void push_served(struct pl_dev *d, uint32_t generation) {
  struct text t;

  text_begin(&t);
  put_version(d, &t, generation);
  put(&t, "}");
  push_state(d, "served", &t);
}

/* Files that browsers load themselves. */
static void push_assets(struct pl_dev *d, const char *event) {
  char data[32];
  int n = snprintf(data, sizeof data, "{\"assets\":%u}", ++d->asset_changes);

  pl__events_push(&d->events, event, pl__slice(data, (size_t)n));
  pl__events_keep(&d->events, PL_EVENTS_ASSETS, "assets",
                  pl__slice(data, (size_t)n));
}

/* --- a life --------------------------------------------------------------------------- */

void pl__dev_open(struct pl_dev *d, const struct pl_config *config,
                  const struct pl_address *events,
                  void (*say)(void *arg, const char *text, size_t bytes),
                  void *arg) {
  const char *poll = getenv("PERILUNE_DEV_POLL");

  memset(d, 0, sizeof *d);
  d->is_on = true;
  d->say = say;
  d->arg = arg;
  d->events.fd = -1;
  if (pl__modules_folder(d->own_folder, sizeof d->own_folder))
    d->own_folder[0] = '\0';
  snprintf(d->app_folder, sizeof d->app_folder, "%s", config->app_folder);
  d->run_ns = pl__clock_realtime_ns();
  pl__watcher_open(&d->watcher, config->app_folder, d->own_folder,
                   poll && *poll && *poll != '0');
  if (events)
    pl__events_open(&d->events, events);
}

void pl__dev_close(struct pl_dev *d) {
  if (!d->is_on)
    return;
  pl__watcher_close(&d->watcher);
  pl__events_close(&d->events);
  d->is_on = false;
}

void pl__dev_set_port(struct pl_dev *d, uint16_t port) {
  d->events.app_port = port;
}

bool pl__dev_turn(struct pl_dev *d, const struct pl_bundle *tried,
                  int64_t now_ns) {
  uint32_t changes;

  if (!d->is_on)
    return false;
  pl__events_turn(&d->events, now_ns);
  changes = pl__watcher_turn(&d->watcher, tried, now_ns);
  if (changes & PL_CHANGE_CODE) {
    d->saved_ns = d->watcher.first_ns;
    d->is_wanted = true;
  } else if (changes & PL_CHANGE_PAGE) {
    push_assets(d, "page");
  } else if (changes & PL_CHANGE_STYLE) {
    push_assets(d, "style");
  }
  return d->is_wanted;
}

void pl__dev_begin(struct pl_dev *d) { d->is_wanted = false; }

int64_t pl__dev_due(const struct pl_dev *d) {
  int64_t a = d->is_on ? pl__watcher_due(&d->watcher) : 0;
  int64_t b = d->is_on ? pl__events_due(&d->events) : 0;

  return !a || (b && b < a) ? b : a;
}

bool pl__dev_on_end(struct pl_dev *d, const struct pl_reload_result *result,
                    const struct pl_bundle *tried) {
  struct report r;
  uint64_t difference, before = d->difference;

  if (!d->is_on)
    return false;
  pl__watcher_add(&d->watcher, tried);
  if (result->code) {
    bool is_news = !d->is_failing || strcmp(d->failure, result->text) != 0;
    r = report_of(result->text, tried);
    if (is_news)
      show_failure(d, &r);
    snprintf(d->failure, sizeof d->failure, "%s", result->text);
    push_failure(d, &r, result->generation);
  } else {
    if (d->has_started || d->is_failing)
      show_served(d, result);
    push_served(d, result->generation);
    d->has_started = true;
  }
  d->is_failing = result->code != 0;
  d->saved_ns = 0;
  difference = pl__watcher_difference(&d->watcher, tried);
  d->difference = difference;
  return difference && difference != before;
}
