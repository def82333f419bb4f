/* log/otlp_spans.c - see otlp_spans.h. */
#include "log/otlp_spans.h"

#include <stdio.h>

#include "base/err.h"
#include "http/headers.h"
#include "http/request.h"
#include "log/otlp_request.h"

/* Fields of a Span, and its own in a scope. */
enum {
  ITEM = 2,
  TRACE_ID = 1,
  SPAN_ID = 2,
  TRACE_STATE = 3,
  PARENT_ID = 4,
  NAME = 5,
  KIND = 6,
  START = 7,
  END = 8,
  ATTRIBUTE = 9,
  STATUS = 15,
  FLAGS = 16
};
enum { STATUS_MESSAGE = 2, STATUS_CODE = 3 };

/* Of the flags: what W3C's has in its byte, and where the parent is. */
#define FLAG_KNOWS_REMOTE 0x100u
#define FLAG_IS_REMOTE 0x200u

static void put_name(struct pl_pb *p, const struct pl_routes *routes,
                     const struct pl_span_view *v) {
  const struct pl_span *s = &v->span;
  struct pl_slice path, pattern, method = pl__method_name(s->method);

  pattern = pl__otlp_pattern(routes, s->generation, s->route, &path);
  if (v->texts.name.bytes)
    pl__otlp_text(p, NAME, v->texts.name, 0);
  else if (s->what != PL_SPAN_REQUEST)
    pl__pb_text(p, NAME, pl__span_what_name(s->what));
  else if (pattern.bytes)
    pl__otlp_text(p, NAME, pattern, 0);
  else /* as the conventions have it for methods that nobody knows */
    pl__otlp_text(p, NAME, method.bytes ? method : PL_SLICE("HTTP"), 0);
}

static void put_head(struct pl_pb *p, const struct pl_routes *routes,
                     const struct pl_span_view *v) {
  const struct pl_span *s = &v->span;
  uint32_t flags = s->trace_flags | FLAG_KNOWS_REMOTE;

  pl__otlp_trace_id(p, TRACE_ID, s->trace_id);
  pl__otlp_id(p, SPAN_ID, s->span_id);
  if (v->texts.state.bytes)
    pl__otlp_text(p, TRACE_STATE, v->texts.state, 0);
  if (s->parent_id) {
    pl__otlp_id(p, PARENT_ID, s->parent_id);
    flags |= s->is_local ? 0 : FLAG_IS_REMOTE;
  }
  put_name(p, routes, v);
  pl__pb_uint(p, KIND, s->kind);
  pl__pb_fixed64(p, START, (uint64_t)s->start_ns);
  pl__pb_fixed64(p, END, (uint64_t)s->end_ns);
  pl__pb_fixed32(p, FLAGS, flags);
}

static void put_status(struct pl_pb *p, const struct pl_span_view *v) {
  struct pl_pb_mark mark;

  if (v->span.status == PL_SPAN_UNSET)
    return;
  mark = pl__pb_begin(p, STATUS);
  if (v->texts.message.bytes)
    pl__otlp_text(p, STATUS_MESSAGE, v->texts.message, 0);
  pl__pb_uint(p, STATUS_CODE, v->span.status);
  pl__pb_end(p, mark);
}

static void put_http(struct pl_pb *p, const struct pl_span_view *v) {
  char digits[8];

  pl__otlp_method(p, ATTRIBUTE, v->span.method);
  pl__otlp_str(p, ATTRIBUTE, "url.scheme", PL_SLICE("http"));
  pl__otlp_target(p, ATTRIBUTE, v->texts.target, 0);
  if (v->span.http_status)
    pl__otlp_int(p, ATTRIBUTE, "http.response.status_code",
                 v->span.http_status);
  if (v->span.http_status >= 500)
    pl__otlp_str(p, ATTRIBUTE, "error.type",
                 pl__slice(digits, (size_t)snprintf(digits, sizeof digits, "%u",
                                                    v->span.http_status)));
}

/* Why the trace is kept, "error,slow". */
static void put_kept(struct pl_pb *p, unsigned kept) {
  static const char *const names[] = {"sampled", "error", "slow", "shed",
                                      "anomaly"};
  char text[64] = "";
  size_t used = 0;

  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (kept >> i & 1)
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s",
                               used ? "," : "", names[i]);
  if (used)
    pl__otlp_str(p, ATTRIBUTE, "perilune.kept", pl__slice(text, used));
}

static void put_tier(struct pl_pb *p, unsigned tier) {
  if (tier == PL_TIER_HIGH || tier == PL_TIER_LOW)
    pl__otlp_str(p, ATTRIBUTE, "perilune.tier",
                 tier == PL_TIER_HIGH ? PL_SLICE("high") : PL_SLICE("low"));
}

/* Whose it is, and for the first of a trace how it was chosen. */
static void put_origin(struct pl_pb *p, const struct pl_routes *routes,
                       const struct pl_span_view *v) {
  const struct pl_span *s = &v->span;

  if (s->what == PL_SPAN_REQUEST)
    pl__otlp_route(p, ATTRIBUTE, routes, s->generation, s->route);
  pl__otlp_request_id(p, ATTRIBUTE, s->request_id, v->texts.caller_id);
  pl__otlp_tenant(p, ATTRIBUTE, v->texts.tenant);
  put_tier(p, s->tier);
  pl__otlp_process(p, ATTRIBUTE, s->worker, s->generation);
  if (s->is_local)
    return;
  put_kept(p, s->kept);
  pl__otlp_double(p, ATTRIBUTE, "perilune.adjusted_count", s->adjusted);
  if (s->left_out)
    pl__otlp_int(p, ATTRIBUTE, "perilune.spans_left_out", s->left_out);
}

static int put_attributes(struct pl_pb *p, struct pl_span_view *v) {
  struct pl_attribute a;
  int more;

  while ((more = pl__span_attribute(v, &a)) == 1) {
    if (a.type == PL_ATTRIBUTE_NUMBER)
      pl__otlp_pair_num(p, ATTRIBUTE, a.key, a.number);
    else if (a.type == PL_ATTRIBUTE_BOOL)
      pl__otlp_pair_bool(p, ATTRIBUTE, a.key, a.number != 0);
    else
      pl__otlp_pair_str(p, ATTRIBUTE, a.key, a.text, 0);
  }
  return more;
}

int pl__otlp_span(struct pl_otlp *o, const struct pl_routes *routes,
                  const void *record, uint32_t bytes) {
  uint32_t before = o->pb.out->bytes;
  struct pl_span_view v;
  struct pl_pb_mark item;
  int failed = pl__span_read(record, bytes, &v), full;

  if (failed)
    return failed;
  item = pl__pb_begin(&o->pb, ITEM);
  put_head(&o->pb, routes, &v);
  put_status(&o->pb, &v);
  if (v.span.what == PL_SPAN_REQUEST)
    put_http(&o->pb, &v);
  put_origin(&o->pb, routes, &v);
  failed = put_attributes(&o->pb, &v);
  pl__pb_end(&o->pb, item);
  full = pl__pb_status(&o->pb);
  if (!pl__otlp_keep(o, before))
    return full;
  if (failed)
    o->pb.out->bytes = before;
  return failed;
}
