/* server/spans.c - see spans.h.
 *
 * One span of each worker is at hand, the newest that was not shown; the newest
 * of those is shown, and the next one of that worker takes its place.
 */
#include "server/spans.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "fabric/metrics.h"
#include "fabric/record.h"
#include "fabric/routes.h"
#include "fabric/span.h"
#include "http/headers.h"
#include "log/digits.h"
#include "server/layout.h"

#define TRACE_ID_DIGITS 32u

/* What of a worker's is shown next. */
struct source {
  struct pl_spans *spans;
  uint64_t next; /* its number + 1; 0: there is none */
  struct pl_span_view view;
  _Alignas(8) char memory[PL_LIMIT_SPAN_BYTES];
};

struct look {
  struct pl_routes *routes;
  struct source *sources;
  uint32_t source_count;
  char trace[TRACE_ID_DIGITS + 1]; /* ""; of any trace */
  struct pl_buf *out;
  int failed;
};

/* --- finding ---------------------------------------------------------------- */

static void trace_id_put(const struct pl_span *s, char *out) {
  snprintf(out, TRACE_ID_DIGITS + 1, "%016" PRIx64 "%016" PRIx64,
           s->trace_id[0], s->trace_id[1]);
}

static bool is_wanted(const struct look *l, const struct pl_span *s) {
  char id[TRACE_ID_DIGITS + 1];

  if (!l->trace[0])
    return true;
  trace_id_put(s, id);
  return memcmp(id, l->trace, sizeof id) == 0;
}

/* Goes to the one before it, as far as the ring remembers. */
static void source_step(const struct look *l, struct source *s) {
  uint64_t count = pl__spans_count(s->spans);

  for (; s->next > 0 && count - s->next < PL_SPANS_RECENT; s->next--) {
    uint32_t bytes = pl__spans_recent(s->spans, s->next - 1, s->memory);
    if (!bytes)
      break;
    if (!pl__span_read(s->memory, bytes, &s->view) &&
        is_wanted(l, &s->view.span))
      return;
  }
  s->next = 0;
}

static struct source *source_newest(struct look *l) {
  struct source *newest = NULL;

  for (uint32_t i = 0; i < l->source_count; i++) {
    struct source *s = &l->sources[i];
    if (s->next && (!newest || s->view.span.end_ns > newest->view.span.end_ns))
      newest = s;
  }
  return newest;
}

static int look_open(struct look *l, const struct pl_fabric *f) {
  struct pl_metrics metrics;
  int failed = pl__layout_routes(f, &l->routes);

  failed = failed ? failed : pl__layout_metrics(f, &metrics);
  if (failed)
    return failed;
  l->sources = pl__alloc(metrics.worker_count * sizeof *l->sources);
  if (!l->sources)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < metrics.worker_count; i++) {
    struct source *s = &l->sources[l->source_count];
    if (pl__layout_spans(f, i, &s->spans))
      continue;
    s->next = pl__spans_count(s->spans);
    source_step(l, s);
    l->source_count++;
  }
  return 0;
}

/* --- showing ------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static void put(struct look *l,
                                                      const char *format, ...) {
  va_list args;

  va_start(args, format);
  if (!l->failed)
    l->failed = pl__buf_format(l->out, format, args);
  va_end(args);
}

static void put_quoted(struct look *l, struct pl_slice text) {
  char *at;

  put(l, "\"");
  if (!l->failed)
    l->failed = pl__buf_reserve(l->out, text.bytes * PL_DIGITS_JSON_FACTOR);
  if (l->failed)
    return;
  at = pl__put_json(l->out->at + l->out->bytes, text);
  l->out->bytes = (uint32_t)(at - l->out->at);
  put(l, "\"");
}

static void put_text(struct look *l, const char *key, struct pl_slice text) {
  if (!text.bytes)
    return;
  put(l, ",\"%s\":", key);
  put_quoted(l, text);
}

static void put_name(struct look *l, const struct pl_span_view *v) {
  struct pl_slice name = v->texts.name;

  if (!name.bytes && v->span.what == PL_SPAN_REQUEST)
    name = pl__routes_lookup(l->routes, v->span.generation, v->span.route);
  if (!name.bytes)
    name = pl__slice_text(pl__span_what_name(v->span.what));
  put_text(l, "name", name);
}

static void put_http(struct look *l, const struct pl_span_view *v) {
  if (v->span.what != PL_SPAN_REQUEST)
    return;
  put_text(l, "method", pl__method_name(v->span.method));
  put(l, ",\"http_status\":%u", v->span.http_status);
  put_text(l, "target", v->texts.target);
  put_text(l, "tenant", v->texts.tenant);
  put_text(l, "caller_id", v->texts.caller_id);
}

static void put_kept(struct look *l, unsigned kept) {
  static const char *const names[PL_KEPT_REASONS] = {"sampled", "error", "slow",
                                                     "shed", "anomaly"};
  const char *comma = "";

  put(l, ",\"kept\":[");
  for (unsigned i = 0; i < PL_KEPT_REASONS; i++) {
    if (!(kept >> i & 1))
      continue;
    put(l, "%s\"%s\"", comma, names[i]);
    comma = ",";
  }
  put(l, "]");
}

static void put_attributes(struct look *l, struct pl_span_view *v) {
  const char *comma = "";
  struct pl_attribute a;

  put(l, ",\"attributes\":{");
  for (; pl__span_attribute(v, &a) == 1; comma = ",") {
    put(l, "%s", comma);
    put_quoted(l, a.key);
    put(l, ":");
    if (a.type == PL_ATTRIBUTE_STRING)
      put_quoted(l, a.text);
    else if (a.type == PL_ATTRIBUTE_BOOL)
      put(l, a.number != 0 ? "true" : "false");
    else if (a.number - a.number == 0) /* JSON has no infinities and no NaN */
      put(l, "%.17g", a.number);
    else
      put(l, "null");
  }
  put(l, "}");
}

static void put_span(struct look *l, struct pl_span_view *v) {
  static const char *const kinds[] = {"?", "internal", "server", "client"};
  static const char *const states[] = {"unset", "ok", "error"};
  const struct pl_span *s = &v->span;
  char id[TRACE_ID_DIGITS + 1];

  trace_id_put(s, id);
  put(l, "{\"trace_id\":\"%s\",\"span_id\":\"%016" PRIx64 "\"", id, s->span_id);
  if (s->parent_id)
    put(l, ",\"parent_id\":\"%016" PRIx64 "\"", s->parent_id);
  put_name(l, v);
  put(l, ",\"what\":\"%s\",\"kind\":\"%s\",\"status\":\"%s\"",
      pl__span_what_name(s->what), kinds[s->kind], states[s->status]);
  put_text(l, "message", v->texts.message);
  put(l, ",\"start\":%.6f,\"duration_ms\":%.6f",
      (double)s->start_ns / PL_NS_PER_S,
      (double)(s->end_ns - s->start_ns) / PL_NS_PER_MS);
  put_http(l, v);
  put(l, ",\"worker\":%u,\"generation\":%u,\"adjusted\":%.17g", s->worker,
      s->generation, s->adjusted);
  if (s->left_out)
    put(l, ",\"left_out\":%u", s->left_out);
  put_kept(l, s->kept);
  put_attributes(l, v);
  put(l, "}");
}

/* "LIMIT" or "LIMIT TRACEID". */
static int parse(struct pl_slice said, uint64_t *limit, char *trace) {
  const char *space = said.bytes ? memchr(said.at, ' ', said.bytes) : NULL;
  size_t digits = space ? (size_t)(space - said.at) : said.bytes;

  if (pl__text_number(pl__slice(said.at, digits), PL_SPANS_SHOWN_MAX, limit) ||
      (space && said.bytes - digits - 1 != TRACE_ID_DIGITS))
    return PL_EINVAL;
  if (space)
    memcpy(trace, space + 1, TRACE_ID_DIGITS);
  return 0;
}

int pl__spans_answer(const struct pl_fabric *f, struct pl_slice said,
                     struct pl_buf *out) {
  struct look l = {.out = out};
  struct source *s;
  uint64_t limit;
  int failed = parse(said, &limit, l.trace);

  failed = failed ? failed : look_open(&l, f);
  if (failed)
    return failed;
  put(&l, "{\"spans\":[");
  for (uint64_t i = 0; i < limit && !l.failed && (s = source_newest(&l)); i++) {
    put(&l, i ? ",\n" : "\n");
    put_span(&l, &s->view);
    s->next--;
    source_step(&l, s);
  }
  put(&l, "\n]}\n");
  pl__free(l.sources);
  return l.failed;
}

/* --- drops --------------------------------------------------------------------- */

void pl__spans_drops(const struct pl_fabric *f, uint32_t worker_count,
                     uint64_t drops[PL_RING_LANES]) {
  struct pl_spans *spans;

  memset(drops, 0, PL_RING_LANES * sizeof *drops);
  for (uint32_t i = 0; i < worker_count; i++) {
    if (pl__layout_spans(f, i, &spans))
      continue;
    for (unsigned lane = 0; lane < PL_RING_LANES; lane++)
      drops[lane] += atomic_load_explicit(&pl__spans_ring(spans)->drops[lane],
                                          memory_order_relaxed);
  }
}
