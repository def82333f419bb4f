/* log/format.c - lines are laid down behind one pointer.
 *
 * Room for the longest line that a record can become is made once, before the
 * first byte: no check is needed after that, and a line is there whole or not
 * at all.
 */
#include "log/format.h"

#include "base/clock.h"
#include "base/err.h"
#include "http/request.h"
#include "log/digits.h"

#include <time.h>

/* Keys, punctuation, numbers and colours of a line, its texts aside. */
#define LINE_BYTES 896u
#define FIELD_BYTES 96u /* the same of a field */

#define PUT(at, literal)                                                       \
  (memcpy((at), (literal), sizeof(literal) - 1), (at) + sizeof(literal) - 1)

void pl__formatter_init(struct pl_formatter *f, enum pl_log_format format,
                        bool colour, const struct pl_routes *routes) {
  *f = (struct pl_formatter){.routes = routes,
                             .second = INT64_MIN,
                             .format = format,
                             .colour = colour,
                             .access_fields = UINT32_MAX};
}

/* --- pieces that both formats have -------------------------------------- */

static char *put_bytes(char *at, const char *from, size_t bytes) {
  memcpy(at, from, bytes);
  return at + bytes;
}

static char *put_text(char *at, const char *text) {
  return put_bytes(at, text, strlen(text));
}

/* How long a text was before it was cut. */
static char *put_cut(char *at, uint32_t cut_bytes) {
  if (cut_bytes == 0)
    return at;
  at = PUT(at, "...(+");
  at = pl__put_u64(at, cut_bytes);
  return PUT(at, " bytes)");
}

static struct pl_slice method_name(unsigned method) {
  switch (method) {
#define METHOD_CASE(number, name)                                              \
  case number:                                                                 \
    return PL_SLICE(#name);
    PL_METHODS(METHOD_CASE)
#undef METHOD_CASE
  default:
    return PL_SLICE("?");
  }
}

/* The pattern of a route, or 0 bytes. */
static struct pl_slice route_of(const struct pl_formatter *f,
                                const struct pl_record *head) {
  return f->routes ? pl__routes_lookup(f->routes, head->generation, head->route)
                   : (struct pl_slice){"", 0};
}

/* Splits at the second, rounding down also before 1970. */
static int64_t split_second(int64_t time_ns, unsigned *ms) {
  int64_t second = time_ns / PL_NS_PER_S, rest = time_ns % PL_NS_PER_S;
  if (rest < 0) {
    rest += PL_NS_PER_S;
    second--;
  }
  *ms = (unsigned)(rest / PL_NS_PER_MS);
  return second;
}

/* "2025-03-09T12:00:00." in UTC, or "12:00:00." where the machine is. */
static void make_stamp(struct pl_formatter *f, int64_t second) {
  struct tm t = {0};
  time_t when = (time_t)second;
  char *at = f->stamp;
  if (f->format == PL_LOG_JSON) {
    gmtime_r(&when, &t);
    at = pl__put_padded(at, (uint64_t)(t.tm_year + 1900), 4);
    *at++ = '-';
    at = pl__put_two(at, (unsigned)t.tm_mon + 1);
    *at++ = '-';
    at = pl__put_two(at, (unsigned)t.tm_mday);
    *at++ = 'T';
  } else {
    localtime_r(&when, &t);
  }
  at = pl__put_two(at, (unsigned)t.tm_hour);
  *at++ = ':';
  at = pl__put_two(at, (unsigned)t.tm_min);
  *at++ = ':';
  at = pl__put_two(at, (unsigned)t.tm_sec);
  *at++ = '.';
  f->stamp_bytes = (uint32_t)(at - f->stamp);
  f->second = second;
}

static char *put_time(struct pl_formatter *f, char *at, int64_t time_ns) {
  unsigned ms;
  int64_t second = split_second(time_ns, &ms);
  if (second != f->second)
    make_stamp(f, second);
  at = put_bytes(at, f->stamp, f->stamp_bytes);
  return pl__put_padded(at, ms, 3);
}

char *pl__format_time(struct pl_formatter *f, char *at, int64_t time_ns) {
  at = put_time(f, at, time_ns);
  *at++ = 'Z';
  return at;
}

/* --- JSON --------------------------------------------------------------- */

/* The names that a record's own field cannot have as they are. */
static bool is_fixed_key(struct pl_slice key) {
  static const char *const keys[] = {
      "time",           "level",       "msg",      "req_id",    "trace_id",
      "span_id",        "tenant",      "route",    "method",    "target",
      "status",         "duration_ms", "bytes_in", "bytes_out", "remote",
      "http",           "aborted",     "worker",   "process",   "generation",
      "fields_left_out"};
  for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++)
    if (strlen(keys[i]) == key.bytes && !memcmp(keys[i], key.at, key.bytes))
      return true;
  return false;
}

static char *put_json_head(struct pl_formatter *f, char *at,
                           const struct pl_record *head) {
  at = PUT(at, "{\"time\":\"");
  at = put_time(f, at, head->time_ns);
  at = PUT(at, "Z\",\"level\":\"");
  at = put_text(at, pl__level_name(head->level));
  return PUT(at, "\",\"msg\":\"");
}

static char *put_json_req_id(char *at, const struct pl_record *head,
                             const struct pl_record_labels *labels) {
  if (!head->request_id && !labels->caller_id.bytes)
    return at;
  at = PUT(at, ",\"req_id\":\"");
  at = labels->caller_id.bytes ? pl__put_json(at, labels->caller_id)
                               : pl__put_hex(at, head->request_id);
  *at++ = '"';
  return at;
}

static char *put_json_trace_id(char *at, const struct pl_record *head) {
  if (!(head->trace_id[0] | head->trace_id[1]))
    return at;
  at = PUT(at, ",\"trace_id\":\"");
  at = pl__put_hex(at, head->trace_id[0]);
  at = pl__put_hex(at, head->trace_id[1]);
  *at++ = '"';
  return at;
}

static char *put_json_span_id(char *at, const struct pl_record *head) {
  if (!head->span_id)
    return at;
  at = PUT(at, ",\"span_id\":\"");
  at = pl__put_hex(at, head->span_id);
  *at++ = '"';
  return at;
}

static char *put_json_tenant(char *at, const struct pl_record_labels *labels) {
  if (!labels->tenant.bytes)
    return at;
  at = PUT(at, ",\"tenant\":\"");
  at = pl__put_json(at, labels->tenant);
  *at++ = '"';
  return at;
}

static char *put_json_route(const struct pl_formatter *f, char *at,
                            const struct pl_record *head) {
  if (head->route == PL_RECORD_NO_ROUTE)
    return at;
  struct pl_slice route = route_of(f, head);
  at = PUT(at, ",\"route\":\"");
  if (route.bytes) {
    at = pl__put_json(at, route);
  } else {
    *at++ = '#';
    at = pl__put_u64(at, head->route);
  }
  *at++ = '"';
  return at;
}

static char *put_json_process(char *at, unsigned worker) {
  if (worker == PL_RECORD_MASTER)
    return PUT(at, ",\"process\":\"master\"");
  if (worker == PL_RECORD_CONTROL)
    return PUT(at, ",\"process\":\"control\"");
  if (worker == PL_RECORD_TRIAL)
    return PUT(at, ",\"process\":\"trial\"");
  at = PUT(at, ",\"worker\":");
  return pl__put_u64(at, worker);
}

static char *put_json_generation(char *at, const struct pl_record *head) {
  if (!head->generation)
    return at;
  at = PUT(at, ",\"generation\":");
  return pl__put_u64(at, head->generation);
}

static bool shows(const struct pl_formatter *f, enum pl_access_field field) {
  return f->access_fields >> field & 1;
}

/* What was asked. */
static char *put_json_asked(struct pl_formatter *f, char *at,
                            const struct pl_record *head,
                            const struct pl_record_access_view *view) {
  struct pl_slice method = method_name(view->access.method);
  const struct pl_record_labels *labels = &view->access.labels;
  if (shows(f, PL_ACCESS_REQ_ID))
    at = put_json_req_id(at, head, labels);
  if (shows(f, PL_ACCESS_TRACE_ID))
    at = put_json_trace_id(at, head);
  if (shows(f, PL_ACCESS_SPAN_ID))
    at = put_json_span_id(at, head);
  if (shows(f, PL_ACCESS_TENANT))
    at = put_json_tenant(at, labels);
  if (shows(f, PL_ACCESS_ROUTE))
    at = put_json_route(f, at, head);
  if (shows(f, PL_ACCESS_METHOD)) {
    at = PUT(at, ",\"method\":\"");
    at = put_bytes(at, method.at, method.bytes);
    *at++ = '"';
  }
  if (shows(f, PL_ACCESS_TARGET)) {
    at = PUT(at, ",\"target\":\"");
    at = pl__put_json(at, view->access.target);
    at = put_cut(at, view->target_cut_bytes);
    *at++ = '"';
  }
  return at;
}

/* What came of it. */
static char *put_json_answered(struct pl_formatter *f, char *at,
                               const struct pl_access *a) {
  if (shows(f, PL_ACCESS_STATUS)) {
    at = PUT(at, ",\"status\":");
    at = pl__put_u64(at, a->status);
  }
  if (shows(f, PL_ACCESS_DURATION)) {
    at = PUT(at, ",\"duration_ms\":");
    at = pl__put_ms(at, a->duration_ns);
  }
  if (shows(f, PL_ACCESS_BYTES_IN)) {
    at = PUT(at, ",\"bytes_in\":");
    at = pl__put_u64(at, a->bytes_in);
  }
  if (shows(f, PL_ACCESS_BYTES_OUT)) {
    at = PUT(at, ",\"bytes_out\":");
    at = pl__put_u64(at, a->bytes_out);
  }
  return at;
}

/* Who has asked, and how. */
static char *put_json_client(struct pl_formatter *f, char *at,
                             const struct pl_access *a) {
  if (shows(f, PL_ACCESS_REMOTE) && a->peer.family != PL_PEER_NONE) {
    at = PUT(at, ",\"remote\":\"");
    at += pl__peer_text(&a->peer, at);
    *at++ = '"';
  }
  if (shows(f, PL_ACCESS_HTTP)) {
    at = PUT(at, ",\"http\":\"1.");
    at = pl__put_u64(at, a->http_minor);
    *at++ = '"';
  }
  if (shows(f, PL_ACCESS_ABORTED) && a->aborted)
    at = PUT(at, ",\"aborted\":true");
  return at;
}

static char *put_json_access(struct pl_formatter *f, char *at,
                             const struct pl_record *head,
                             const struct pl_record_access_view *view) {
  at = put_json_head(f, at, head);
  at = PUT(at, "request\"");
  at = put_json_asked(f, at, head, view);
  at = put_json_answered(f, at, &view->access);
  at = put_json_client(f, at, &view->access);
  if (shows(f, PL_ACCESS_WORKER))
    at = put_json_process(at, head->worker);
  if (shows(f, PL_ACCESS_GENERATION))
    at = put_json_generation(at, head);
  return PUT(at, "}\n");
}

static char *put_json_field(char *at, const struct pl_field *field) {
  at = PUT(at, ",\"");
  if (is_fixed_key(field->key))
    at = PUT(at, "field.");
  at = pl__put_json(at, field->key);
  at = PUT(at, "\":");
  if (field->type == PL_FIELD_NUMBER)
    return pl__put_double(at, field->number);
  if (field->type == PL_FIELD_BOOL)
    return field->number != 0 ? PUT(at, "true") : PUT(at, "false");
  *at++ = '"';
  at = pl__put_json(at, field->text);
  at = put_cut(at, field->cut_bytes);
  *at++ = '"';
  return at;
}

static char *put_json_log(struct pl_formatter *f, char *at,
                          const struct pl_record *head,
                          const struct pl_record_labels *labels,
                          struct pl_record_log_view *view) {
  struct pl_field field;
  at = put_json_head(f, at, head);
  at = pl__put_json(at, view->message);
  at = put_cut(at, view->message_cut_bytes);
  *at++ = '"';
  at = put_json_req_id(at, head, labels);
  at = put_json_trace_id(at, head);
  at = put_json_span_id(at, head);
  at = put_json_tenant(at, labels);
  at = put_json_route(f, at, head);
  at = put_json_process(at, head->worker);
  at = put_json_generation(at, head);
  while (pl__record_field(view, &field) == 1)
    at = put_json_field(at, &field);
  if (view->fields_left_out) {
    at = PUT(at, ",\"fields_left_out\":");
    at = pl__put_u64(at, view->fields_left_out);
  }
  return PUT(at, "}\n");
}

/* --- console ------------------------------------------------------------ */

#define DIM "\x1b[2m"
#define RED "\x1b[31m"
#define GREEN "\x1b[32m"
#define YELLOW "\x1b[33m"
#define CYAN "\x1b[36m"
#define RESET "\x1b[0m"

static char *put_colour(const struct pl_formatter *f, char *at,
                        const char *colour) {
  return f->colour ? put_text(at, colour) : at;
}

static const char *status_colour(unsigned status) {
  return status >= 500 ? RED : status >= 400 ? YELLOW : GREEN;
}

static char *put_console_head(struct pl_formatter *f, char *at,
                              const struct pl_record *head) {
  static const char *const names[] = {"DEBUG ", "INFO  ", "WARN  ", "ERROR "};
  static const char *const colours[] = {DIM, CYAN, YELLOW, RED};
  at = put_colour(f, at, DIM);
  at = put_time(f, at, head->time_ns);
  at = put_colour(f, at, RESET);
  *at++ = ' ';
  at = put_colour(f, at, colours[head->level]);
  at = put_text(at, names[head->level]);
  return put_colour(f, at, RESET);
}

/* Who wrote it and for whom, at the end of the line. Trace ids are for
 * machines, which read JSON. */
static char *put_console_tail(const struct pl_formatter *f, char *at,
                              const struct pl_record *head,
                              const struct pl_record_labels *labels) {
  at = put_colour(f, at, DIM);
  if (labels->tenant.bytes) {
    at = PUT(at, " tenant=");
    at = pl__put_plain(at, labels->tenant, 0);
  }
  if (labels->caller_id.bytes) {
    at = PUT(at, " req_id=");
    at = pl__put_plain(at, labels->caller_id, 0);
  } else if (head->request_id) {
    at = PUT(at, " req_id=");
    at = pl__put_hex(at, head->request_id);
  }
  if (head->worker == PL_RECORD_MASTER) {
    at = PUT(at, " process=master");
  } else if (head->worker == PL_RECORD_CONTROL) {
    at = PUT(at, " process=control");
  } else if (head->worker == PL_RECORD_TRIAL) {
    at = PUT(at, " process=trial");
  } else {
    at = PUT(at, " worker=");
    at = pl__put_u64(at, head->worker);
  }
  at = put_colour(f, at, RESET);
  *at++ = '\n';
  return at;
}

static char *put_console_access(struct pl_formatter *f, char *at,
                                const struct pl_record *head,
                                const struct pl_record_access_view *view) {
  const struct pl_access *a = &view->access;
  struct pl_slice method = method_name(a->method);
  at = put_console_head(f, at, head);
  at = put_colour(f, at, status_colour(a->status));
  at = pl__put_u64(at, a->status);
  at = put_colour(f, at, RESET);
  *at++ = ' ';
  at = put_bytes(at, method.at, method.bytes);
  *at++ = ' ';
  at = pl__put_plain(at, a->target, 0);
  at = put_cut(at, view->target_cut_bytes);
  *at++ = ' ';
  at = pl__put_ms(at, a->duration_ns);
  at = PUT(at, " ms ");
  at = pl__put_u64(at, a->bytes_out);
  at = PUT(at, " B");
  if (a->peer.family != PL_PEER_NONE) {
    *at++ = ' ';
    at += pl__peer_text(&a->peer, at);
  }
  if (a->aborted)
    at = PUT(at, " aborted");
  return put_console_tail(f, at, head, &a->labels);
}

static char *put_console_field(const struct pl_formatter *f, char *at,
                               const struct pl_field *field) {
  *at++ = ' ';
  at = put_colour(f, at, CYAN);
  at = pl__put_plain(at, field->key, 0);
  at = put_colour(f, at, RESET);
  *at++ = '=';
  if (field->type == PL_FIELD_NUMBER)
    return pl__put_double(at, field->number);
  if (field->type == PL_FIELD_BOOL)
    return field->number != 0 ? PUT(at, "true") : PUT(at, "false");
  at = pl__put_plain(at, field->text, 1);
  return put_cut(at, field->cut_bytes);
}

static char *put_console_log(struct pl_formatter *f, char *at,
                             const struct pl_record *head,
                             const struct pl_record_labels *labels,
                             struct pl_record_log_view *view) {
  struct pl_field field;
  at = put_console_head(f, at, head);
  at = pl__put_plain(at, view->message, 1);
  at = put_cut(at, view->message_cut_bytes);
  while (pl__record_field(view, &field) == 1)
    at = put_console_field(f, at, &field);
  if (view->fields_left_out) {
    at = PUT(at, " fields_left_out=");
    at = pl__put_u64(at, view->fields_left_out);
  }
  return put_console_tail(f, at, head, labels);
}

/* --- one record ---------------------------------------------------------- */

/* Goes through the fields without showing them, so that a broken one is found
 * before the first byte is laid down. */
static int check_fields(struct pl_record_log_view view) {
  struct pl_field field;
  int status;
  while ((status = pl__record_field(&view, &field)) == 1) {
  }
  return status;
}

static int format_access(struct pl_formatter *f, const void *record,
                         uint32_t bytes, const struct pl_record *head,
                         struct pl_buf *out) {
  struct pl_record_access_view view;
  int status = pl__record_read_access(record, bytes, &view);
  if (status)
    return status;
  uint32_t texts = view.access.target.bytes + head->tenant_bytes +
                   head->caller_id_bytes + route_of(f, head).bytes;
  status = pl__buf_reserve(out, LINE_BYTES + texts * PL_DIGITS_JSON_FACTOR);
  if (status)
    return status;
  char *at = out->at + out->bytes;
  at = f->format == PL_LOG_JSON ? put_json_access(f, at, head, &view)
                                : put_console_access(f, at, head, &view);
  out->bytes = (uint32_t)(at - out->at);
  return 0;
}

static int format_log(struct pl_formatter *f, const void *record,
                      uint32_t bytes, const struct pl_record *head,
                      struct pl_buf *out) {
  struct pl_record_log_view view;
  struct pl_record_labels labels = pl__record_labels(record, head);
  int status = pl__record_read_log(record, bytes, &view);
  if (status || (status = check_fields(view)) != 0)
    return status;
  uint32_t texts = bytes + route_of(f, head).bytes;
  status = pl__buf_reserve(out, LINE_BYTES + view.field_count * FIELD_BYTES +
                                    texts * PL_DIGITS_JSON_FACTOR);
  if (status)
    return status;
  char *at = out->at + out->bytes;
  at = f->format == PL_LOG_JSON ? put_json_log(f, at, head, &labels, &view)
                                : put_console_log(f, at, head, &labels, &view);
  out->bytes = (uint32_t)(at - out->at);
  return 0;
}

int pl__format_record(struct pl_formatter *f, const void *record,
                      uint32_t bytes, struct pl_buf *out) {
  struct pl_record head;
  int status = pl__record_read(record, bytes, &head);
  if (status)
    return status;
  return head.kind == PL_RECORD_ACCESS
             ? format_access(f, record, bytes, &head, out)
             : format_log(f, record, bytes, &head, out);
}
