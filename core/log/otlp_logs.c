/* log/otlp_logs.c - see otlp_logs.h. */
#include "log/otlp_logs.h"

#include "base/err.h"
#include "log/digits.h"
#include "log/otlp_request.h"

/* Fields of a LogRecord, and its own in a scope. */
enum {
  ITEM = 2,
  TIME = 1,
  SEVERITY = 2,
  SEVERITY_TEXT = 3,
  BODY = 5,
  ATTRIBUTE = 6,
  TRACE_ID = 9,
  SPAN_ID = 10,
  OBSERVED_TIME = 11,
  EVENT_NAME = 12
};
enum { ANY_STRING = 1 };

static void put_head(struct pl_pb *p, const struct pl_record *head) {
  static const uint32_t severities[] = {5, 9, 13, 17};

  pl__pb_fixed64(p, TIME, (uint64_t)head->time_ns);
  pl__pb_fixed64(p, OBSERVED_TIME, (uint64_t)head->time_ns);
  pl__pb_uint(p, SEVERITY, severities[head->level & 3]);
  pl__pb_text(p, SEVERITY_TEXT, pl__level_name(head->level));
  if (head->trace_id[0] | head->trace_id[1])
    pl__otlp_trace_id(p, TRACE_ID, head->trace_id);
  if (head->span_id)
    pl__otlp_id(p, SPAN_ID, head->span_id);
}

static void put_body(struct pl_pb *p, struct pl_slice text, uint32_t cut) {
  struct pl_pb_mark mark = pl__pb_begin(p, BODY);

  pl__otlp_text(p, ANY_STRING, text, cut);
  pl__pb_end(p, mark);
}

/* Whose record it is. */
static void put_origin(struct pl_pb *p, const struct pl_routes *routes,
                       const struct pl_record *head,
                       const struct pl_record_labels *labels) {
  pl__otlp_request_id(p, ATTRIBUTE, head->request_id, labels->caller_id);
  pl__otlp_tenant(p, ATTRIBUTE, labels->tenant);
  pl__otlp_route(p, ATTRIBUTE, routes, head->generation, head->route);
  pl__otlp_process(p, ATTRIBUTE, head->worker, head->generation);
}

static int put_access(struct pl_pb *p, const struct pl_routes *routes,
                      const void *record, uint32_t bytes,
                      const struct pl_record *head) {
  struct pl_record_access_view view;
  const struct pl_access *a = &view.access;
  char peer[PL_PEER_TEXT_BYTES], version[] = "1.0";
  int failed = pl__record_read_access(record, bytes, &view);

  if (failed)
    return failed;
  put_head(p, head);
  pl__pb_text(p, EVENT_NAME, "http.server.request");
  put_body(p, PL_SLICE("request"), 0);
  pl__otlp_method(p, ATTRIBUTE, a->method);
  pl__otlp_target(p, ATTRIBUTE, a->target, view.target_cut_bytes);
  pl__otlp_int(p, ATTRIBUTE, "http.response.status_code", a->status);
  pl__otlp_double(p, ATTRIBUTE, "perilune.duration_ms",
                  (double)a->duration_ns / 1e6);
  pl__otlp_int(p, ATTRIBUTE, "http.request.body.size", (int64_t)a->bytes_in);
  pl__otlp_int(p, ATTRIBUTE, "http.response.body.size", (int64_t)a->bytes_out);
  if (a->peer.family != PL_PEER_NONE)
    pl__otlp_str(p, ATTRIBUTE, "client.address",
                 pl__slice(peer, pl__peer_text(&a->peer, peer)));
  version[2] = (char)('0' + (a->http_minor & 1));
  pl__otlp_str(p, ATTRIBUTE, "network.protocol.version",
               pl__slice_text(version));
  if (a->aborted)
    pl__otlp_bool(p, ATTRIBUTE, "perilune.aborted", true);
  put_origin(p, routes, head, &a->labels);
  return 0;
}

static int put_fields(struct pl_pb *p, struct pl_record_log_view *view) {
  struct pl_field field;
  int more;

  while ((more = pl__record_field(view, &field)) == 1) {
    if (field.type == PL_FIELD_NUMBER)
      pl__otlp_pair_num(p, ATTRIBUTE, field.key, field.number);
    else if (field.type == PL_FIELD_BOOL)
      pl__otlp_pair_bool(p, ATTRIBUTE, field.key, field.number != 0);
    else
      pl__otlp_pair_str(p, ATTRIBUTE, field.key, field.text, field.cut_bytes);
  }
  if (view->fields_left_out)
    pl__otlp_int(p, ATTRIBUTE, "perilune.fields_left_out",
                 view->fields_left_out);
  return more;
}

static int put_log(struct pl_pb *p, const struct pl_routes *routes,
                   const void *record, uint32_t bytes,
                   const struct pl_record *head) {
  struct pl_record_labels labels = pl__record_labels(record, head);
  struct pl_record_log_view view;
  int failed = pl__record_read_log(record, bytes, &view);

  if (failed)
    return failed;
  put_head(p, head);
  put_body(p, view.message, view.message_cut_bytes);
  failed = put_fields(p, &view);
  put_origin(p, routes, head, &labels);
  return failed;
}

int pl__otlp_log(struct pl_otlp *o, const struct pl_routes *routes,
                 const void *record, uint32_t bytes) {
  uint32_t before = o->pb.out->bytes;
  struct pl_pb_mark item;
  struct pl_record head;
  int failed = pl__record_read(record, bytes, &head), full;

  if (failed)
    return failed;
  item = pl__pb_begin(&o->pb, ITEM);
  failed = head.kind == PL_RECORD_ACCESS
               ? put_access(&o->pb, routes, record, bytes, &head)
               : put_log(&o->pb, routes, record, bytes, &head);
  pl__pb_end(&o->pb, item);
  full = pl__pb_status(&o->pb);
  if (!pl__otlp_keep(o, before))
    return full;
  if (failed)
    o->pb.out->bytes = before;
  return failed;
}
