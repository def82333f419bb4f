/* The hot path is pl__encode_reply: one reservation that is large enough for
 * everything, then copies of constant size (which compile to a few moves, even
 * where they copy more than is kept), then the body.
 */
#include "http/encode.h"

#include "base/check.h"
#include "base/err.h"
#include "http/date.h"
#include "http/headers.h"
#include "http/trace_context.h"

#define STATUSES(X)                                                            \
  X(200, "OK")                                                                 \
  X(201, "Created")                                                            \
  X(202, "Accepted")                                                           \
  X(203, "Non-Authoritative Information")                                      \
  X(204, "No Content")                                                         \
  X(205, "Reset Content")                                                      \
  X(206, "Partial Content")                                                    \
  X(207, "Multi-Status")                                                       \
  X(208, "Already Reported")                                                   \
  X(226, "IM Used")                                                            \
  X(300, "Multiple Choices")                                                   \
  X(301, "Moved Permanently")                                                  \
  X(302, "Found")                                                              \
  X(303, "See Other")                                                          \
  X(304, "Not Modified")                                                       \
  X(305, "Use Proxy")                                                          \
  X(307, "Temporary Redirect")                                                 \
  X(308, "Permanent Redirect")                                                 \
  X(400, "Bad Request")                                                        \
  X(401, "Unauthorized")                                                       \
  X(402, "Payment Required")                                                   \
  X(403, "Forbidden")                                                          \
  X(404, "Not Found")                                                          \
  X(405, "Method Not Allowed")                                                 \
  X(406, "Not Acceptable")                                                     \
  X(407, "Proxy Authentication Required")                                      \
  X(408, "Request Timeout")                                                    \
  X(409, "Conflict")                                                           \
  X(410, "Gone")                                                               \
  X(411, "Length Required")                                                    \
  X(412, "Precondition Failed")                                                \
  X(413, "Content Too Large")                                                  \
  X(414, "URI Too Long")                                                       \
  X(415, "Unsupported Media Type")                                             \
  X(416, "Range Not Satisfiable")                                              \
  X(417, "Expectation Failed")                                                 \
  X(418, "I'm a Teapot")                                                       \
  X(421, "Misdirected Request")                                                \
  X(422, "Unprocessable Content")                                              \
  X(423, "Locked")                                                             \
  X(424, "Failed Dependency")                                                  \
  X(425, "Too Early")                                                          \
  X(426, "Upgrade Required")                                                   \
  X(428, "Precondition Required")                                              \
  X(429, "Too Many Requests")                                                  \
  X(431, "Request Header Fields Too Large")                                    \
  X(451, "Unavailable For Legal Reasons")                                      \
  X(500, "Internal Server Error")                                              \
  X(501, "Not Implemented")                                                    \
  X(502, "Bad Gateway")                                                        \
  X(503, "Service Unavailable")                                                \
  X(504, "Gateway Timeout")                                                    \
  X(505, "HTTP Version Not Supported")                                         \
  X(506, "Variant Also Negotiates")                                            \
  X(507, "Insufficient Storage")                                               \
  X(508, "Loop Detected")                                                      \
  X(511, "Network Authentication Required")

#define STATUS_MAX 999u
#define STATUS_LISTED_MAX 511u
#define LINE_ROOM 56u
#define REASON_OFFSET 13u /* "HTTP/1.1 200 " */

enum {
  UNKNOWN,
#define STATUS_INDEX(status, reason) INDEX_##status,
  STATUSES(STATUS_INDEX)
#undef STATUS_INDEX
};

/* All of one size, so that a line is copied by a few moves. */
static const struct {
  char line[LINE_ROOM];
  uint32_t bytes;
} LINES[] = {
#define STATUS_TEXT(status, reason) "HTTP/1.1 " #status " " reason "\r\n"
#define STATUS_LINE(status, reason)                                            \
  [INDEX_##status] = {STATUS_TEXT(status, reason),                             \
                      sizeof(STATUS_TEXT(status, reason)) - 1},
    [UNKNOWN] = {"HTTP/1.1 999 Unknown\r\n", 22}, STATUSES(STATUS_LINE)
#undef STATUS_LINE
};

static const uint8_t INDEX[STATUS_LISTED_MAX + 1] = {
#define STATUS_AT(status, reason) [status] = INDEX_##status,
    STATUSES(STATUS_AT)
#undef STATUS_AT
};

#define SERVER_LINE "Server: perilune\r\n"
#define SERVER_BYTES (sizeof(SERVER_LINE) - 1)
#define DATE_LINE_BYTES (PL_ENV_FIELDS_BYTES - SERVER_BYTES)

/* Room for all of a head but type and extra: status line, env fields, labels,
 * a length of 20 digits, Connection; more than is kept of constant copies. */
#define HEAD_ROOM (LINE_ROOM + PL_ENV_BYTES_MAX + 16u + 40u + 32u + 8u)

/* ---- the environment ---- */

static void write_date(struct pl_http_env *env, int64_t unix_seconds) {
  pl__date_format(unix_seconds, env->fields + SERVER_BYTES + 6);
  env->unix_seconds = unix_seconds;
}

void pl__http_env_init(struct pl_http_env *env, int64_t unix_seconds) {
  _Static_assert(SERVER_BYTES + 6 + PL_DATE_BYTES + 2 == PL_ENV_FIELDS_BYTES,
                 "PL_ENV_FIELDS_BYTES is what is written");
  memset(env, 0, sizeof(*env));
  memcpy(env->fields, SERVER_LINE "Date: ", SERVER_BYTES + 6);
  memcpy(env->fields + PL_ENV_FIELDS_BYTES - 2, "\r\n", 2);
  write_date(env, unix_seconds);
  env->bytes = PL_ENV_FIELDS_BYTES;
}

void pl__http_env_set(struct pl_http_env *env, struct pl_slice lines) {
  env->bytes = PL_ENV_FIELDS_BYTES;
  if (lines.bytes > PL_ENV_BYTES_MAX - PL_ENV_FIELDS_BYTES || !lines.bytes)
    return;
  memcpy(env->fields + PL_ENV_FIELDS_BYTES, lines.at, lines.bytes);
  env->bytes += lines.bytes;
}

void pl__http_env_tick(struct pl_http_env *env, int64_t unix_seconds) {
  if (env->unix_seconds != unix_seconds)
    write_date(env, unix_seconds);
}

/* ---- heads ---- */

static uint32_t line_index(uint16_t status) {
  return status <= STATUS_LISTED_MAX ? INDEX[status] : UNKNOWN;
}

struct pl_slice pl__reason(uint16_t status) {
  uint32_t i = line_index(status);
  return pl__slice(LINES[i].line + REASON_OFFSET,
                   LINES[i].bytes - REASON_OFFSET - 2);
}

int pl__reply_has_body(const struct pl_req *req, uint16_t status) {
  return req->method != PL_METHOD_HEAD && status >= 200 && status != 204 &&
         status != 205 && status != 304;
}

uint32_t pl__decimal(char *out, uint64_t n) {
  char digits[20];
  uint32_t bytes = 0, i = 20;
  do
    digits[--i] = (char)('0' + n % 10);
  while (n /= 10);
  bytes = 20 - i;
  memcpy(out, digits + i, bytes);
  return bytes;
}

static char *put(char *to, const char *at, size_t bytes) {
  memcpy(to, at, bytes);
  return to + bytes;
}

#define PUT(to, literal) put((to), (literal), sizeof(literal) - 1)

/* Whether the bytes have no control character but tab, eight at a time: the
 * sign bit of (b - 0x20) & ~b tells b < 0x20; the sum with one tells 0x7f.
 * What that finds, tabs among it, is looked at again byte by byte. */
static int is_field_text(struct pl_slice s) {
  const uint64_t ones = 0x0101010101010101u, tops = ones << 7;
  uint32_t i = 0;
  for (; s.bytes - i >= 8; i += 8) {
    uint64_t w;
    memcpy(&w, s.at + i, 8);
    uint64_t low = (w - ones * 0x20) & ~w & tops;
    uint64_t del = (w ^ ones * 0x7f);
    del = (del - ones) & ~del & tops;
    if (low | del)
      break;
  }
  return pl__field_value_is_valid(pl__slice(s.at + i, s.bytes - i));
}

static char *put_status(char *to, uint16_t status) {
  uint32_t i = line_index(status);
  memcpy(to, LINES[i].line, LINE_ROOM);
  if (i == UNKNOWN) {
    to[9] = (char)('0' + status / 100);
    to[10] = (char)('0' + status / 10 % 10);
    to[11] = (char)('0' + status % 10);
  }
  return to + LINES[i].bytes;
}

static char *put_env(char *to, const struct pl_req *req) {
  const struct pl_http_env *env = req->env;
  const char *fields = env->fields;
  switch (req->extra_flags & (PL_EXTRA_DATE | PL_EXTRA_SERVER)) {
  case 0:
    memcpy(to, fields, PL_ENV_BYTES_MAX);
    return to + env->bytes;
  case PL_EXTRA_DATE:
    to = put(to, fields, SERVER_BYTES);
    break;
  case PL_EXTRA_SERVER:
    to = put(to, fields + SERVER_BYTES, DATE_LINE_BYTES);
    break;
  }
  return put(to, fields + PL_ENV_FIELDS_BYTES,
             env->bytes - PL_ENV_FIELDS_BYTES);
}

/* Content-Length or Transfer-Encoding; `length` as in pl__encode_head. */
static char *put_framing(char *to, struct pl_req *req, uint16_t status,
                         int64_t length) {
  if (status == 204 || status == 304)
    return to;
  if (status == 205)
    length = 0;
  if (length >= 0) {
    to = PUT(to, "Content-Length: ");
    if (length < 10)
      *to++ = (char)('0' + length);
    else
      to += pl__decimal(to, (uint64_t)length);
    return PUT(to, "\r\n");
  }
  if (req->http_minor == 0) { /* the body ends with the connection */
    req->flags |= PL_REQ_CLOSE;
    return to;
  }
  if (req->method != PL_METHOD_HEAD)
    req->flags |= PL_REQ_OUT_CHUNKED;
  return PUT(to, "Transfer-Encoding: chunked\r\n");
}

static char *put_connection(char *to, const struct pl_req *req) {
  if ((req->flags & (PL_REQ_CLOSE | PL_REQ_KEEP_ALIVE)) != PL_REQ_KEEP_ALIVE)
    return PUT(to, "Connection: close\r\n");
  if (req->http_minor == 0)
    return PUT(to, "Connection: keep-alive\r\n");
  return to;
}

/* Room for the field with the request id; 0: there is none to write. */
static uint32_t id_field_bytes(const struct pl_req *req) {
  struct pl_slice name = req->env->id_field;

  if (!name.bytes || pl__extra_get(req, name).at)
    return 0;
  return name.bytes + PL_LIMIT_REQUEST_ID_BYTES + 4;
}

static char *put_id(char *to, const struct pl_req *req) {
  to = put(to, req->env->id_field.at, req->env->id_field.bytes);
  to = PUT(to, ": ");
  to += pl__request_id_put(&req->context, to);
  return PUT(to, "\r\n");
}

/* Writes a head and reserves `body_bytes` behind it; returns as
 * pl__encode_head. */
static int write_head(struct pl_req *req, uint16_t status, struct pl_slice type,
                      int64_t length, uint32_t body_bytes) {
  struct pl_buf *out = req->out;
  uint32_t extra_bytes = req->extra ? req->extra->bytes : 0;
  uint32_t id_bytes = id_field_bytes(req);
  uint64_t room =
      (uint64_t)HEAD_ROOM + type.bytes + id_bytes + extra_bytes + body_bytes;

  if (status < 200 || status > STATUS_MAX || !is_field_text(type))
    return PL_EINVAL;
  if (req->flags & PL_REQ_HEAD_SENT)
    return PL_ECONFLICT;
  if (room > UINT32_MAX)
    return PL_EFULL;
  int failed = pl__buf_reserve(out, (uint32_t)room);
  if (failed)
    return failed;

  /* Who still waits for 100 (Continue) may send the body or not: where the next
   * request begins, nobody can tell (RFC 9110 10.1.1). */
  if (req->flags & PL_REQ_EXPECT)
    req->flags |= PL_REQ_CLOSE;

  char *to = put_status(out->at + out->bytes, status);
  to = put_env(to, req);
  if (type.bytes && !(req->extra_flags & PL_EXTRA_TYPE)) {
    to = PUT(to, "Content-Type: ");
    to = put(to, type.at, type.bytes);
    to = PUT(to, "\r\n");
  }
  to = put_framing(to, req, status, length);
  to = put_connection(to, req);
  if (id_bytes)
    to = put_id(to, req);
  if (extra_bytes)
    to = put(to, req->extra->at, extra_bytes);
  to = PUT(to, "\r\n");
  out->bytes = (uint32_t)(to - out->at);
  req->status = status;
  req->flags |= PL_REQ_HEAD_SENT;
  return 0;
}

int pl__encode_head(struct pl_req *req, uint16_t status, struct pl_slice type,
                    int64_t length) {
  return write_head(req, status, type, length, 0);
}

int pl__encode_reply(struct pl_req *req, uint16_t status, struct pl_slice type,
                     struct pl_slice body) {
  struct pl_buf *out = req->out;
  uint32_t bytes = pl__reply_has_body(req, status) ? body.bytes : 0;
  int failed = write_head(req, status, type, body.bytes, bytes);

  if (failed)
    return failed;
  if (bytes) {
    memcpy(out->at + out->bytes, body.at, bytes);
    out->bytes += bytes;
    req->sent_bytes += bytes;
  }
  req->flags |= PL_REQ_DONE;
  return 0;
}

/* ---- chunks ---- */

/* "SIZE\r\n"; returns its bytes. */
static uint32_t put_size(char *to, uint64_t n) {
  char digits[16];
  uint32_t i = 16;
  do
    digits[--i] = "0123456789abcdef"[n & 15];
  while (n >>= 4);
  memcpy(to, digits + i, 16 - i);
  memcpy(to + 16 - i, "\r\n", 2);
  return 18 - i;
}

int pl__encode_chunk(struct pl_buf *out, struct pl_slice bytes) {
  if (!bytes.bytes)
    return 0;
  if (bytes.bytes > UINT32_MAX - 32)
    return PL_EFULL;
  int status = pl__buf_reserve(out, bytes.bytes + 20);
  if (status)
    return status;
  char *to = out->at + out->bytes;
  to += put_size(to, bytes.bytes);
  to = put(to, bytes.at, bytes.bytes);
  to = PUT(to, "\r\n");
  out->bytes = (uint32_t)(to - out->at);
  return 0;
}

int pl__encode_chunk_last(struct pl_buf *out) {
  return pl__buf_append(out, "0\r\n\r\n", 5);
}

int pl__encode_continue(struct pl_buf *out) {
  return pl__buf_append_slice(out, PL_SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
}

/* ---- fields set by the handler ---- */

static int is_framing(struct pl_slice name) {
  static const struct pl_slice NAMES[] = {{"te", 2},
                                          {"upgrade", 7},
                                          {"trailer", 7},
                                          {"connection", 10},
                                          {"keep-alive", 10},
                                          {"content-length", 14},
                                          {"proxy-connection", 16},
                                          {"transfer-encoding", 17}};
  for (size_t i = 0; i < sizeof(NAMES) / sizeof(*NAMES); i++)
    if (pl__slice_equal_nocase(name, NAMES[i]))
      return 1;
  return 0;
}

static uint32_t flag_of(struct pl_slice name) {
  switch (name.bytes) {
  case 4:
    return pl__slice_equal_nocase(name, PL_SLICE("date")) ? PL_EXTRA_DATE : 0;
  case 6:
    return pl__slice_equal_nocase(name, PL_SLICE("server")) ? PL_EXTRA_SERVER
                                                            : 0;
  case 12:
    return pl__slice_equal_nocase(name, PL_SLICE("content-type"))
               ? PL_EXTRA_TYPE
               : 0;
  default:
    return 0;
  }
}

/* The bytes of the line at `i` of the extra lines, with its CRLF. */
static uint32_t line_bytes(const struct pl_buf *extra, uint32_t i) {
  const char *end = memchr(extra->at + i, '\n', extra->bytes - i);
  if (PL_NEVER(!end))
    return extra->bytes - i;
  return (uint32_t)(end - (extra->at + i)) + 1;
}

static int line_has_name(const struct pl_buf *extra, uint32_t i, uint32_t bytes,
                         struct pl_slice name) {
  const char *at = extra->at + i;
  return bytes > name.bytes + 1 && at[name.bytes] == ':' &&
         pl__slice_equal_nocase(pl__slice(at, name.bytes), name);
}

/* Removes lines of that name that begin before `end`. */
static void remove_lines(struct pl_buf *extra, struct pl_slice name,
                         uint32_t end) {
  for (uint32_t i = 0; i < end;) {
    uint32_t bytes = line_bytes(extra, i);
    if (line_has_name(extra, i, bytes, name)) {
      memmove(extra->at + i, extra->at + i + bytes, extra->bytes - i - bytes);
      extra->bytes -= bytes;
      end -= bytes;
    } else {
      i += bytes;
    }
  }
}

int pl__extra_set(struct pl_req *req, struct pl_slice name,
                  struct pl_slice value, int append) {
  struct pl_buf *extra = req->extra;
  uint32_t before = extra->bytes;

  if (!pl__field_name_is_valid(name) || !pl__field_value_is_valid(value))
    return PL_EINVAL;
  if (is_framing(name)) {
    if (!pl__slice_equal_nocase(name, PL_SLICE("connection")) ||
        !pl__slice_equal_nocase(pl__slice_trim(value), PL_SLICE("close")))
      return PL_ECONFLICT;
    req->flags |= PL_REQ_CLOSE;
    return 0;
  }
  uint64_t bytes = (uint64_t)name.bytes + value.bytes + 4;
  if (bytes + before > PL_LIMIT_EXTRA_BYTES)
    return PL_EFULL;
  int status = pl__buf_reserve(extra, (uint32_t)bytes);
  if (status)
    return status;
  char *to = put(extra->at + before, name.at, name.bytes);
  to = PUT(to, ": ");
  if (value.bytes)
    to = put(to, value.at, value.bytes);
  to = PUT(to, "\r\n");
  extra->bytes = (uint32_t)(to - extra->at);
  if (!append && before)
    remove_lines(extra, name, before);
  req->extra_flags |= flag_of(name);
  return 0;
}

void pl__extra_remove(struct pl_req *req, struct pl_slice name) {
  if (!req->extra || !req->extra->bytes)
    return;
  remove_lines(req->extra, name, req->extra->bytes);
  req->extra_flags &= ~flag_of(name);
}

struct pl_slice pl__extra_get(const struct pl_req *req, struct pl_slice name) {
  const struct pl_buf *extra = req->extra;
  uint32_t i = 0;

  while (extra && i < extra->bytes) {
    uint32_t bytes = line_bytes(extra, i);
    if (line_has_name(extra, i, bytes, name))
      return pl__slice(extra->at + i + name.bytes + 2, bytes - name.bytes - 4);
    i += bytes;
  }
  return (struct pl_slice){0};
}

void pl__extra_clear(struct pl_req *req) {
  if (req->extra)
    req->extra->bytes = 0;
  req->extra_flags = 0;
}
