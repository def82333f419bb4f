/* bench/baseline/server.c - the limit to compare with: what the scenarios cost
 * when each of them is written by hand in C on libuv and llhttp.
 *
 * One loop, one thread, one process.  Good, not tricked: requests are parsed in
 * place, a connection holds no buffer while it is idle, everything that one
 * read brought is answered by one write, Date is formatted once a second, and
 * the steady path calls no malloc.  It is no server to use: a request may be
 * 64 KiB at most, bodies need a Content-Length, and the routes are fixed.
 *
 * Invariants
 *   1. conn->in and conn->out are NULL while the connection has neither
 *      unparsed input nor unsent output.
 *   2. All bytes of a request lie in one block, so its slices stay valid until
 *      it has been answered.
 *   3. While conn->write is pending nothing is parsed: that is the
 *      back-pressure.
 *
 * Usage: server --port N [--access-log FILE]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <llhttp.h>
#include <uv.h>

enum {
  BLOCK_BYTES = 64 * 1024,
  BIG_BYTES = 1024 * 1024,
  LOG_BYTES = 64 * 1024,
  LOG_LINE_BYTES_MAX = 512,
  LOG_PATH_BYTES_MAX = 256,
  HEAD_BYTES_MAX = 512,
  REPLY_BYTES_MAX = 2 * HEAD_BYTES_MAX, /* of all but /echo and /big */
  ROUTE_COUNT = 200,
  ID_DIGITS_MAX = 15,
  ITEMS_MAX = 100,
  JSON_DEPTH_MAX = 32,
  BACKLOG = 1024
};

struct slice {
  const char *at;
  size_t bytes;
};

/* A block lies on the free list while nobody needs it.  The input uses
 * BLOCK_BYTES of it; the output all, so that an echo always fits. */
struct block {
  struct block *next;
  char bytes[BLOCK_BYTES + REPLY_BYTES_MAX];
};

struct conn {
  uv_tcp_t tcp;
  uv_write_t write;
  llhttp_t parser;
  struct block *in; /* received bytes; NULL: none */
  size_t in_count;  /* bytes in it */
  size_t parsed;    /* of these, what the parser has seen */
  struct block *out;
  size_t out_count;
  bool big;        /* the 1 MiB body follows what is in `out` */
  bool unanswered; /* a whole request waits for room in `out` */
  bool writing;    /* conn->write is pending */
  bool reading;
  bool closing;        /* once the output is sent */
  struct slice target; /* at == NULL: no request has begun */
  struct slice body, authorization;
  struct slice field; /* the header being parsed */
  struct slice value;
  char peer[INET6_ADDRSTRLEN];
};

static struct {
  uv_loop_t loop;
  uv_tcp_t listener;
  uv_timer_t second;
  uv_signal_t term;
  llhttp_settings_t settings;
  struct block *blocks; /* free ones */
  char date[32];        /* "Sun, 06 Nov 1994 08:49:37 GMT" */
  char stamp[32];       /* "06/Nov/1994:08:49:37 +0000" */
  char big[BIG_BYTES];
  uint64_t id_seed, id_count;
  int log_fd; /* -1: no access log */
  size_t log_count;
  char log[LOG_BYTES];
} srv = {.log_fd = -1};

static void die(const char *what, const char *why) {
  fprintf(stderr, "baseline: %s: %s\n", what, why);
  exit(1);
}

static void check(int status, const char *what) {
  if (status < 0)
    die(what, uv_strerror(status));
}

/* Blocks. */

static struct block *block_take(void) {
  struct block *block = srv.blocks;
  if (block) {
    srv.blocks = block->next;
    return block;
  }
  block = malloc(sizeof *block);
  if (!block)
    die("block", "out of memory");
  return block;
}

static void block_give(struct block **block) {
  if (!*block)
    return;
  (*block)->next = srv.blocks;
  srv.blocks = *block;
  *block = NULL;
}

/* Putting bytes. */

static char *put(char *at, const char *bytes, size_t count) {
  memcpy(at, bytes, count);
  return at + count;
}

#define PUT(at, literal) put(at, "" literal, sizeof(literal) - 1)

static char *put_uint(char *at, uint64_t number) {
  char digits[20];
  size_t count = 0;

  do
    digits[sizeof digits - ++count] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  return put(at, digits + sizeof digits - count, count);
}

static char *put_hex(char *at, uint64_t number) {
  for (int shift = 60; shift >= 0; shift -= 4)
    *at++ = "0123456789abcdef"[number >> shift & 15];
  return at;
}

static bool slice_is(struct slice s, const char *text) {
  size_t bytes = strlen(text);
  return s.bytes == bytes && memcmp(s.at, text, bytes) == 0;
}

/* The access log. */

static void log_flush(void) {
  size_t sent = 0;

  while (sent < srv.log_count) {
    ssize_t n = write(srv.log_fd, srv.log + sent, srv.log_count - sent);
    if (n < 0 && errno != EINTR)
      die("access log", strerror(errno));
    sent += n > 0 ? (size_t)n : 0;
  }
  srv.log_count = 0;
}

/* Common log format. */
static void log_push(const struct conn *conn, unsigned status, size_t bytes) {
  struct slice path = conn->target;

  if (srv.log_fd < 0)
    return;
  if (LOG_BYTES - srv.log_count < LOG_LINE_BYTES_MAX)
    log_flush();
  if (!path.at) /* a refused request may have none */
    path = (struct slice){"-", 1};
  if (path.bytes > LOG_PATH_BYTES_MAX)
    path.bytes = LOG_PATH_BYTES_MAX;

  const char *method = llhttp_method_name(conn->parser.method);
  char *begin = srv.log + srv.log_count, *at = begin;
  at = put(at, conn->peer, strlen(conn->peer));
  at = PUT(at, " - - [");
  at = put(at, srv.stamp, strlen(srv.stamp));
  at = PUT(at, "] \"");
  at = put(at, method, strlen(method));
  *at++ = ' ';
  at = put(at, path.at, path.bytes);
  at = PUT(at, " HTTP/1.1\" ");
  at = put_uint(at, status);
  *at++ = ' ';
  at = put_uint(at, bytes);
  *at++ = '\n';
  srv.log_count += (size_t)(at - begin);
}

/* Answers.  `extra` is a block of whole header lines. */

static char *put_head(char *at, unsigned status, const char *type,
                      struct slice extra, size_t body_bytes) {
  const char *reason = llhttp_status_name((llhttp_status_t)status);

  at = PUT(at, "HTTP/1.1 ");
  at = put_uint(at, status);
  *at++ = ' ';
  at = put(at, reason, strlen(reason));
  at = PUT(at, "\r\nDate: ");
  at = put(at, srv.date, 29);
  at = PUT(at, "\r\nServer: baseline\r\nContent-Type: ");
  at = put(at, type, strlen(type));
  at = PUT(at, "\r\nContent-Length: ");
  at = put_uint(at, body_bytes);
  at = PUT(at, "\r\n");
  at = put(at, extra.at, extra.bytes);
  return PUT(at, "\r\n");
}

static void reply(struct conn *conn, unsigned status, const char *type,
                  struct slice extra, struct slice body) {
  char *begin = conn->out->bytes + conn->out_count;
  char *at = put_head(begin, status, type, extra, body.bytes);

  at = put(at, body.at, body.bytes);
  conn->out_count += (size_t)(at - begin);
  log_push(conn, status, body.bytes);
}

static void reply_text(struct conn *conn, unsigned status, const char *text) {
  reply(conn, status, "text/plain; charset=utf-8", (struct slice){"", 0},
        (struct slice){text, strlen(text)});
}

static void reply_big(struct conn *conn) {
  char *begin = conn->out->bytes + conn->out_count;
  char *at = put_head(begin, 200, "application/octet-stream",
                      (struct slice){"", 0}, BIG_BYTES);

  conn->out_count += (size_t)(at - begin);
  conn->big = true;
  log_push(conn, 200, BIG_BYTES);
}

/* The api scenario: three steps of middleware, then the handler. */

struct extra {
  char bytes[256];
  size_t count;
  char request_id[16];
};

static bool step_request_id(struct conn *conn, struct extra *extra) {
  uint64_t x = srv.id_seed + ++srv.id_count * UINT64_C(0x9e3779b97f4a7c15);
  char *at = extra->bytes + extra->count;

  (void)conn;
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  put_hex(extra->request_id, x ^ x >> 31);
  at = PUT(at, "X-Request-Id: ");
  at = put(at, extra->request_id, sizeof extra->request_id);
  at = PUT(at, "\r\n");
  extra->count = (size_t)(at - extra->bytes);
  return true;
}

static bool step_auth(struct conn *conn, struct extra *extra) {
  (void)extra;
  if (slice_is(conn->authorization, "Bearer bench-token"))
    return true;
  reply_text(conn, 401, "unauthorized");
  return false;
}

static bool step_headers(struct conn *conn, struct extra *extra) {
  char *at = extra->bytes + extra->count;

  (void)conn;
  at = PUT(at, "X-Content-Type-Options: nosniff\r\n"
               "Cache-Control: no-store\r\n");
  extra->count = (size_t)(at - extra->bytes);
  return true;
}

static void reply_item(struct conn *conn, unsigned route, uint64_t id) {
  static bool (*const steps[])(struct conn *, struct extra *) = {
      step_request_id, step_auth, step_headers};
  struct extra extra = {.count = 0};

  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
    if (!steps[i](conn, &extra))
      return;

  char json[HEAD_BYTES_MAX], *at = json;
  at = PUT(at, "{\"id\":");
  at = put_uint(at, id);
  at = PUT(at, ",\"route\":\"r");
  at = put_uint(at, route);
  at = PUT(at, "\",\"name\":\"Item ");
  at = put_uint(at, id);
  at = PUT(at, "\",\"description\":\"One of the things this shop sells\""
               ",\"price_cents\":");
  at = put_uint(at, id * 100 + 99);
  at = PUT(at, ",\"currency\":\"EUR\",\"in_stock\":");
  at = id % 2 == 0 ? PUT(at, "true") : PUT(at, "false");
  at = PUT(at, ",\"quantity\":");
  at = put_uint(at, id % 100);
  at = PUT(at, ",\"category\":\"tools\",\"request_id\":\"");
  at = put(at, extra.request_id, sizeof extra.request_id);
  at = PUT(at, "\"}");
  reply(conn, 200, "application/json", (struct slice){extra.bytes, extra.count},
        (struct slice){json, (size_t)(at - json)});
}

/* The body scenario: a JSON walker that finds what is to be validated. */

struct json {
  const char *at, *end;
  unsigned depth;
};

/* What a value was, and its text (strings without their quotes). */
enum json_kind { JSON_BAD, JSON_OTHER, JSON_STRING, JSON_NUMBER };

struct json_value {
  enum json_kind kind;
  struct slice text;
};

typedef bool (*member_fn)(struct json *j, struct slice name, void *ud);

static void json_space(struct json *j) {
  while (j->at < j->end &&
         (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'))
    j->at++;
}

static bool json_take(struct json *j, char c) {
  json_space(j);
  if (j->at == j->end || *j->at != c)
    return false;
  j->at++;
  return true;
}

static bool json_escape(struct json *j) {
  if (j->at == j->end)
    return false;
  char c = *j->at++;
  if (c != 'u')
    return c && strchr("\"\\/bfnrt", c);
  for (int i = 0; i < 4; i++, j->at++)
    if (j->at == j->end || !*j->at || !strchr("0123456789abcdefABCDEF", *j->at))
      return false;
  return true;
}

static bool json_string(struct json *j, struct slice *out) {
  if (!json_take(j, '"'))
    return false;
  const char *begin = j->at;
  while (j->at < j->end && *j->at != '"') {
    unsigned char c = (unsigned char)*j->at++;
    if (c < 0x20 || (c == '\\' && !json_escape(j)))
      return false;
  }
  if (j->at == j->end)
    return false;
  *out = (struct slice){begin, (size_t)(j->at++ - begin)};
  return true;
}

static bool json_digits(struct json *j) {
  const char *begin = j->at;
  while (j->at < j->end && *j->at >= '0' && *j->at <= '9')
    j->at++;
  return j->at > begin;
}

static bool json_number(struct json *j, struct slice *out) {
  const char *begin = j->at;

  if (j->at < j->end && *j->at == '-')
    j->at++;
  if (!json_digits(j))
    return false;
  if (j->at < j->end && *j->at == '.' && (j->at++, !json_digits(j)))
    return false;
  if (j->at < j->end && (*j->at | 32) == 'e') {
    j->at++;
    if (j->at < j->end && (*j->at == '+' || *j->at == '-'))
      j->at++;
    if (!json_digits(j))
      return false;
  }
  *out = (struct slice){begin, (size_t)(j->at - begin)};
  return true;
}

static bool json_word(struct json *j, const char *word) {
  size_t bytes = strlen(word);
  if ((size_t)(j->end - j->at) < bytes || memcmp(j->at, word, bytes) != 0)
    return false;
  j->at += bytes;
  return true;
}

/* Calls `on_member` for every member, which has to take its value. */
static bool json_object(struct json *j, member_fn on_member, void *ud) {
  struct slice name;

  if (!json_take(j, '{') || ++j->depth > JSON_DEPTH_MAX)
    return false;
  if (!json_take(j, '}')) {
    do
      if (!json_string(j, &name) || !json_take(j, ':') ||
          !on_member(j, name, ud))
        return false;
    while (json_take(j, ','));
    if (!json_take(j, '}'))
      return false;
  }
  j->depth--;
  return true;
}

/* Calls `on_member` for every element, with an empty name. */
static bool json_array(struct json *j, member_fn on_member, void *ud) {
  if (!json_take(j, '[') || ++j->depth > JSON_DEPTH_MAX)
    return false;
  if (!json_take(j, ']')) {
    do
      if (!on_member(j, (struct slice){"", 0}, ud))
        return false;
    while (json_take(j, ','));
    if (!json_take(j, ']'))
      return false;
  }
  j->depth--;
  return true;
}

static bool json_skip(struct json *j, struct slice name, void *ud);

static struct json_value json_value(struct json *j) {
  struct json_value v = {JSON_BAD, {"", 0}};

  json_space(j);
  if (j->at == j->end)
    return v;
  switch (*j->at) {
  case '"':
    v.kind = json_string(j, &v.text) ? JSON_STRING : JSON_BAD;
    break;
  case '{':
    v.kind = json_object(j, json_skip, NULL) ? JSON_OTHER : JSON_BAD;
    break;
  case '[':
    v.kind = json_array(j, json_skip, NULL) ? JSON_OTHER : JSON_BAD;
    break;
  case 't':
    v.kind = json_word(j, "true") ? JSON_OTHER : JSON_BAD;
    break;
  case 'f':
    v.kind = json_word(j, "false") ? JSON_OTHER : JSON_BAD;
    break;
  case 'n':
    v.kind = json_word(j, "null") ? JSON_OTHER : JSON_BAD;
    break;
  default:
    v.kind = json_number(j, &v.text) ? JSON_NUMBER : JSON_BAD;
  }
  return v;
}

static bool json_skip(struct json *j, struct slice name, void *ud) {
  (void)name;
  (void)ud;
  return json_value(j).kind != JSON_BAD;
}

/* What the order must have; a flag is set when its rule is met. */
struct order {
  bool title, email, items_bad;
  unsigned item_count;
};

struct item {
  bool sku, quantity, price;
};

static bool number_is_natural(struct slice text) {
  return text.bytes > 0 && text.bytes <= ID_DIGITS_MAX && text.at[0] != '-' &&
         text.at[0] != '0' && !memchr(text.at, '.', text.bytes) &&
         !memchr(text.at, 'e', text.bytes) && !memchr(text.at, 'E', text.bytes);
}

static bool on_item_member(struct json *j, struct slice name, void *ud) {
  struct item *item = ud;
  struct json_value v = json_value(j);

  if (slice_is(name, "sku"))
    item->sku = v.kind == JSON_STRING && v.text.bytes > 0;
  else if (slice_is(name, "quantity"))
    item->quantity = v.kind == JSON_NUMBER && number_is_natural(v.text);
  else if (slice_is(name, "price"))
    item->price = v.kind == JSON_NUMBER && v.text.at[0] != '-';
  return v.kind != JSON_BAD;
}

static bool on_item(struct json *j, struct slice name, void *ud) {
  struct order *order = ud;
  struct item item = {false, false, false};

  (void)name;
  json_space(j);
  if (j->at < j->end && *j->at != '{') {
    order->items_bad = true;
    return json_skip(j, name, NULL);
  }
  if (!json_object(j, on_item_member, &item))
    return false;
  order->item_count++;
  order->items_bad |= !item.sku || !item.quantity || !item.price;
  return true;
}

static bool on_customer_member(struct json *j, struct slice name, void *ud) {
  struct order *order = ud;
  struct json_value v = json_value(j);

  if (slice_is(name, "email"))
    order->email =
        v.kind == JSON_STRING && memchr(v.text.at, '@', v.text.bytes) != NULL;
  return v.kind != JSON_BAD;
}

static bool on_order_member(struct json *j, struct slice name, void *ud) {
  struct order *order = ud;

  json_space(j);
  char first = '\0';
  if (j->at < j->end)
    first = *j->at;
  if (slice_is(name, "items") && first == '[')
    return json_array(j, on_item, order);
  if (slice_is(name, "customer") && first == '{')
    return json_object(j, on_customer_member, order);

  struct json_value v = json_value(j);
  if (slice_is(name, "title"))
    order->title =
        v.kind == JSON_STRING && v.text.bytes > 0 && v.text.bytes <= 200;
  return v.kind != JSON_BAD;
}

static void reply_echo(struct conn *conn) {
  struct json j = {conn->body.at, conn->body.at + conn->body.bytes, 0};
  struct order order = {false, false, false, 0};

  bool parsed =
      conn->body.bytes > 0 && json_object(&j, on_order_member, &order);
  json_space(&j);
  if (!parsed || j.at != j.end)
    reply_text(conn, 400, "malformed JSON");
  else if (!order.title || !order.email || order.items_bad ||
           order.item_count < 1 || order.item_count > ITEMS_MAX)
    reply_text(conn, 422, "not an order");
  else
    reply(conn, 200, "application/json", (struct slice){"", 0}, conn->body);
}

/* Routing. */

/* Reads at most ID_DIGITS_MAX digits; NULL when there is none or more. */
static const char *parse_uint(const char *at, const char *end, uint64_t *out) {
  const char *begin = at;
  uint64_t number = 0;

  while (at < end && *at >= '0' && *at <= '9' && at - begin < ID_DIGITS_MAX)
    number = number * 10 + (uint64_t)(*at++ - '0');
  *out = number;
  return at == begin ? NULL : at;
}

static void answer_get(struct conn *conn) {
  static const char prefix[] = "/api/r";
  const size_t prefix_bytes = sizeof prefix - 1;
  const char *at = conn->target.at, *end = at + conn->target.bytes;
  uint64_t route, id;

  if (slice_is(conn->target, "/")) {
    reply_text(conn, 200, "Hello, World!");
    return;
  }
  if (slice_is(conn->target, "/big")) {
    reply_big(conn);
    return;
  }
  if (conn->target.bytes > prefix_bytes &&
      memcmp(at, prefix, prefix_bytes) == 0 &&
      (at = parse_uint(at + prefix_bytes, end, &route)) &&
      route < ROUTE_COUNT && at < end && *at == '/' &&
      (at = parse_uint(at + 1, end, &id)) && at == end) {
    reply_item(conn, (unsigned)route, id);
    return;
  }
  reply_text(conn, 404, "not found");
}

static void answer(struct conn *conn) {
  if (conn->parser.method == HTTP_GET)
    answer_get(conn);
  else if (conn->parser.method == HTTP_POST && slice_is(conn->target, "/echo"))
    reply_echo(conn);
  else
    reply_text(conn, 404, "not found");
}

/* Parsing.  A span that two reads share lies in one piece all the same. */

static void span_grow(struct slice *span, const char *at, size_t bytes) {
  if (!span->at)
    span->at = at;
  span->bytes += bytes;
}

static struct conn *conn_of(llhttp_t *parser) { return parser->data; }

static int on_url(llhttp_t *parser, const char *at, size_t bytes) {
  span_grow(&conn_of(parser)->target, at, bytes);
  return 0;
}

static int on_field(llhttp_t *parser, const char *at, size_t bytes) {
  span_grow(&conn_of(parser)->field, at, bytes);
  return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t bytes) {
  span_grow(&conn_of(parser)->value, at, bytes);
  return 0;
}

static int on_value_complete(llhttp_t *parser) {
  static const char name[] = "authorization";
  static const struct slice none;
  struct conn *conn = conn_of(parser);

  if (conn->field.bytes == sizeof name - 1 &&
      strncasecmp(conn->field.at, name, sizeof name - 1) == 0)
    conn->authorization = conn->value;
  conn->field = conn->value = none;
  return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t bytes) {
  if (parser->flags & F_CHUNKED)
    return HPE_USER;
  span_grow(&conn_of(parser)->body, at, bytes);
  return 0;
}

static void conn_answer(struct conn *conn) {
  static const struct slice none;

  if (!conn->out)
    conn->out = block_take();
  answer(conn);
  conn->unanswered = false;
  conn->target = conn->body = conn->authorization = none;
}

/* Pauses when the output has to go out before anything else is answered. */
static int on_message_complete(llhttp_t *parser) {
  struct conn *conn = conn_of(parser);
  size_t room = sizeof conn->out->bytes - conn->out_count;

  conn->closing = !llhttp_should_keep_alive(parser);
  if (room < 2 * REPLY_BYTES_MAX + conn->body.bytes && conn->out_count > 0) {
    conn->unanswered = true;
    return HPE_PAUSED;
  }
  conn_answer(conn);
  return conn->big || conn->closing ? HPE_PAUSED : 0;
}

/* Connections. */

static void on_closed(uv_handle_t *handle) {
  struct conn *conn = handle->data;

  block_give(&conn->in);
  block_give(&conn->out);
  free(conn);
}

static void conn_close(struct conn *conn) {
  if (!uv_is_closing((uv_handle_t *)&conn->tcp))
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

static void conn_sent(struct conn *conn) {
  conn->big = false;
  conn->out_count = 0;
  block_give(&conn->out);
}

static void conn_run(struct conn *conn);

static void on_written(uv_write_t *write, int status) {
  struct conn *conn = write->data;

  conn->writing = false;
  conn_sent(conn);
  if (status < 0 || (conn->closing && !conn->unanswered))
    conn_close(conn);
  else
    conn_run(conn);
}

/* Afterwards everything is sent, a write is pending, or the connection is
 * being closed. */
static void conn_flush(struct conn *conn) {
  uv_stream_t *stream = (uv_stream_t *)&conn->tcp;
  uv_buf_t bufs[2] = {
      {.base = conn->out->bytes, .len = conn->out_count},
      {.base = srv.big, .len = conn->big ? BIG_BYTES : 0},
  };
  unsigned count = conn->big ? 2 : 1;
  int sent = uv_try_write(stream, bufs, count);

  if (sent < 0 && sent != UV_EAGAIN) {
    conn_close(conn);
    return;
  }
  size_t done = sent > 0 ? (size_t)sent : 0;
  if (done == bufs[0].len + bufs[1].len) {
    conn_sent(conn);
    if (conn->closing && !conn->unanswered)
      conn_close(conn);
    return;
  }
  for (unsigned i = 0; i < count; i++) {
    size_t part = done < bufs[i].len ? done : bufs[i].len;
    bufs[i].base += part;
    bufs[i].len -= part;
    done -= part;
  }
  conn->write.data = conn;
  conn->writing = true;
  check(uv_write(&conn->write, stream, bufs, count, on_written), "write");
}

/* Nothing of a request but what its slices cover is needed again: gives the
 * block back, or moves the half-received request to its front. */
static void conn_shift(struct conn *conn) {
  if (!conn->in)
    return;
  if (!conn->target.at) {
    conn->in_count = conn->parsed = 0;
    block_give(&conn->in);
    return;
  }
  size_t by = (size_t)(conn->target.at - conn->in->bytes);
  struct slice *spans[] = {&conn->target, &conn->body, &conn->authorization,
                           &conn->field, &conn->value};
  if (by == 0)
    return;
  memmove(conn->in->bytes, conn->in->bytes + by, conn->in_count - by);
  for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
    if (spans[i]->at)
      spans[i]->at -= by;
  conn->in_count -= by;
  conn->parsed -= by;
}

static void conn_refuse(struct conn *conn, unsigned status, const char *text) {
  static const struct slice none;

  if (!conn->out)
    conn->out = block_take();
  conn->target = none; /* may be cut */
  conn->closing = true;
  reply_text(conn, status, text);
}

/* One go of the parser: as much as the input and the output allow. */
static void conn_parse(struct conn *conn) {
  const char *begin = conn->in->bytes + conn->parsed;
  size_t count = conn->in_count - conn->parsed;
  llhttp_errno_t err = llhttp_execute(&conn->parser, begin, count);

  if (err == HPE_PAUSED) {
    const char *pos = llhttp_get_error_pos(&conn->parser);
    conn->parsed = (size_t)(pos - conn->in->bytes);
    llhttp_resume(&conn->parser);
    return;
  }
  conn->parsed = conn->in_count;
  if (err != HPE_OK)
    conn_refuse(conn, 400, "bad request");
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf);

static void conn_read(struct conn *conn, bool on) {
  if (on == conn->reading)
    return;
  conn->reading = on;
  if (on)
    uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read);
  else
    uv_read_stop((uv_stream_t *)&conn->tcp);
}

/* Answers what was received, until the input is used up or a write is
 * pending. */
static void conn_run(struct conn *conn) {
  while (!conn->writing && !uv_is_closing((uv_handle_t *)&conn->tcp)) {
    if (conn->unanswered)
      conn_answer(conn);
    else if (conn->parsed < conn->in_count && !conn->closing)
      conn_parse(conn);
    else if (conn->in_count == BLOCK_BYTES &&
             conn->target.at == conn->in->bytes)
      conn_refuse(conn, 413, "request too large");
    else
      break;
    if (conn->out_count > 0)
      conn_flush(conn);
  }
  if (uv_is_closing((uv_handle_t *)&conn->tcp))
    return;
  if (!conn->writing)
    conn_shift(conn);
  conn_read(conn, !conn->in || conn->in_count < BLOCK_BYTES);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  struct conn *conn = handle->data;

  (void)suggested;
  if (!conn->in)
    conn->in = block_take();
  buf->base = conn->in->bytes + conn->in_count;
  buf->len = BLOCK_BYTES - conn->in_count;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
  struct conn *conn = stream->data;

  (void)buf;
  if (count < 0) {
    conn_close(conn);
    return;
  }
  conn->in_count += (size_t)count;
  conn_run(conn);
}

static void peer_name(struct conn *conn) {
  struct sockaddr_storage addr;
  int bytes = sizeof addr;

  if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&addr, &bytes) < 0 ||
      uv_ip4_name((struct sockaddr_in *)&addr, conn->peer, sizeof conn->peer) <
          0)
    conn->peer[0] = '-';
}

static void on_connection(uv_stream_t *listener, int status) {
  if (status < 0)
    return;
  struct conn *conn = calloc(1, sizeof *conn);
  if (!conn)
    die("connection", "out of memory");
  check(uv_tcp_init(&srv.loop, &conn->tcp), "socket");
  conn->tcp.data = conn;
  if (uv_accept(listener, (uv_stream_t *)&conn->tcp) < 0) {
    conn_close(conn);
    return;
  }
  uv_tcp_nodelay(&conn->tcp, 1);
  peer_name(conn);
  llhttp_init(&conn->parser, HTTP_REQUEST, &srv.settings);
  conn->parser.data = conn;
  conn_read(conn, true);
}

/* The process. */

static void on_second(uv_timer_t *timer) {
  time_t now = time(NULL);
  struct tm tm;

  (void)timer;
  gmtime_r(&now, &tm);
  strftime(srv.date, sizeof srv.date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
  strftime(srv.stamp, sizeof srv.stamp, "%d/%b/%Y:%H:%M:%S +0000", &tm);
  if (srv.log_fd >= 0)
    log_flush();
}

static void on_term(uv_signal_t *handle, int signum) {
  (void)handle;
  (void)signum;
  if (srv.log_fd >= 0)
    log_flush();
  _exit(0);
}

static void settings_init(void) {
  llhttp_settings_t *s = &srv.settings;

  llhttp_settings_init(s);
  s->on_url = on_url;
  s->on_header_field = on_field;
  s->on_header_value = on_value;
  s->on_header_value_complete = on_value_complete;
  s->on_body = on_body;
  s->on_message_complete = on_message_complete;
}

static int port_parse(int argc, char **argv) {
  long port = 0;

  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--port") == 0) {
      port = strtol(argv[i + 1], NULL, 10);
    } else if (strcmp(argv[i], "--access-log") == 0) {
      srv.log_fd = open(argv[i + 1], O_WRONLY | O_CREAT | O_APPEND, 0600);
      if (srv.log_fd < 0)
        die(argv[i + 1], strerror(errno));
    }
  }
  if (port < 1 || port > 65535)
    die("usage", "server --port N [--access-log FILE]");
  return (int)port;
}

static void descriptors_raise(void) {
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

int main(int argc, char **argv) {
  int port = port_parse(argc, argv);
  struct sockaddr_in addr;

  signal(SIGPIPE, SIG_IGN);
  descriptors_raise();
  memset(srv.big, 'x', sizeof srv.big);
  if (getrandom(&srv.id_seed, sizeof srv.id_seed, 0) < 0)
    die("random", strerror(errno));
  settings_init();
  check(uv_loop_init(&srv.loop), "loop");
  on_second(NULL);
  uv_timer_init(&srv.loop, &srv.second);
  uv_timer_start(&srv.second, on_second, 1000, 1000);
  uv_signal_init(&srv.loop, &srv.term);
  uv_signal_start(&srv.term, on_term, SIGTERM);
  uv_ip4_addr("127.0.0.1", port, &addr);
  check(uv_tcp_init(&srv.loop, &srv.listener), "socket");
  check(uv_tcp_bind(&srv.listener, (struct sockaddr *)&addr, 0), "bind");
  check(uv_listen((uv_stream_t *)&srv.listener, BACKLOG, on_connection),
        "listen");
  return uv_run(&srv.loop, UV_RUN_DEFAULT);
}
