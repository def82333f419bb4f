/* test/net/test_conn.c - connections over bytes in memory: every state, its
 * ends and its deadlines.
 *
 * The owner here is a small one: requests wait in an array, and step() handles
 * them by their path, one step at a time, as a runner would.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "http/encode.h"
#include "net/conn.h"
#include "net/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLABS 4
#define CLIENTS 4
#define BIG_BYTES 2000000u
#define FILE_BYTES 600000u

struct client {
  struct pl_memory memory;
  struct pl_conn *conn; /* NULL: closed */
  struct pl_req *req;   /* that on_request has announced */
  bool begun;           /* its handler has taken a first step */
  bool gone;            /* on_gone has come for it */
  bool awaiting;        /* it waits for on_body */
  uint32_t sum;         /* of body bytes */
  uint32_t body_bytes;
  char body[256]; /* the first of them */
};

struct fixture {
  struct pl_net net;
  struct pl_slabs slabs;
  struct pl_buf_pool buffers;
  void *section;
  struct client clients[CLIENTS];
  uint32_t head_count, request_count, end_count, closed_count;
  uint32_t body_count, writable_count, gone_count;
  uint32_t answer_count;
  size_t answer_bytes;  /* that the client had at the last on_answer */
  uint32_t abort_count; /* of on_end with PL_REQ_ABORTED */
  uint16_t status;      /* of the last on_end */
  uint16_t body_status; /* likewise */
  double body_max;      /* for on_head to set */
  bool hold;            /* handlers of /wait go on waiting */
  struct pl_req *last;  /* of the last on_request */
};

static char big[BIG_BYTES];

/* --- the owner --------------------------------------------------------- */

static struct client *client_of(struct pl_conn *c) { return pl__conn_owner(c); }

static void on_head(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct fixture *f = arg;

  (void)c;
  f->head_count++;
  req->body_max = f->body_max;
  req->deadline = f->net.now + 30;
}

static void on_request(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct fixture *f = arg;
  struct client *k = client_of(c);

  assert_null(k->req); /* one at a time */
  f->request_count++;
  k->req = f->last = req;
  k->begun = k->gone = k->awaiting = false;
  k->sum = k->body_bytes = 0;
}

static void on_body(void *arg, struct pl_conn *c, struct pl_req *req) {
  assert_ptr_equal(client_of(c)->req, req);
  client_of(c)->awaiting = false;
  ((struct fixture *)arg)->body_count++;
}

static void on_writable(void *arg, struct pl_conn *c, struct pl_req *req) {
  assert_ptr_equal(client_of(c)->req, req);
  ((struct fixture *)arg)->writable_count++;
}

static void on_gone(void *arg, struct pl_conn *c, struct pl_req *req) {
  assert_ptr_equal(client_of(c)->req, req);
  assert_true(req->flags & PL_REQ_ABORTED);
  client_of(c)->gone = true;
  ((struct fixture *)arg)->gone_count++;
}

static void on_answer(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct fixture *f = arg;

  assert_ptr_equal(client_of(c)->req, req);
  assert_true(req->flags & PL_REQ_DONE);
  f->answer_count++;
  f->answer_bytes = client_of(c)->memory.out.bytes;
}

static void on_end(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct fixture *f = arg;

  (void)c;
  f->end_count++;
  f->status = req->status;
  f->body_status = req->body_status;
  f->abort_count += (req->flags & PL_REQ_ABORTED) != 0;
}

static void on_closed(void *arg, struct pl_conn *c) {
  struct client *k = client_of(c);

  assert_null(k->req);
  assert_ptr_equal(k->conn, c);
  ((struct fixture *)arg)->closed_count++;
  k->conn = NULL;
}

static const struct pl_conn_events events = {on_head,     on_request, on_body,
                                             on_writable, on_gone,    on_answer,
                                             on_end,      on_closed};

static void end(struct client *k) {
  k->req = NULL;
  pl__conn_end(k->conn);
}

static void reply(struct client *k, uint16_t status, const char *text) {
  assert_int_equal(pl__encode_reply(k->req, status, PL_SLICE("text/plain"),
                                    pl__slice(text, strlen(text))),
                   0);
}

/* Takes what there is of the body. True: that was the end of it. */
static bool take_body(struct client *k) {
  struct pl_req *req = k->req;
  uint32_t n = req->body.bytes;

  for (uint32_t i = 0; i < n; i++) {
    k->sum = k->sum * 31 + (unsigned char)req->body.at[i];
    if (k->body_bytes + i < sizeof k->body - 1)
      k->body[k->body_bytes + i] = req->body.at[i];
  }
  k->body_bytes += n;
  k->body[k->body_bytes < sizeof k->body ? k->body_bytes : 255] = '\0';
  if (n)
    pl__conn_take_body(k->conn, n);
  return (req->flags & PL_REQ_BODY_DONE) || req->body_status;
}

static void step_echo(struct client *k) {
  char text[64];

  if (k->awaiting)
    return;
  if (!take_body(k)) {
    if (k->req->flags & PL_REQ_EXPECT) {
      k->req->flags &= ~(uint32_t)PL_REQ_EXPECT;
      assert_int_equal(pl__encode_continue(k->req->out), 0);
      pl__conn_touch(k->conn);
    }
    k->awaiting = true;
    pl__conn_await_body(k->conn);
    return;
  }
  snprintf(text, sizeof text, "%u:%08x", k->body_bytes, k->sum);
  reply(k, k->req->body_status ? k->req->body_status : 200, text);
  end(k);
}

static void step_stream(struct client *k, uint32_t bytes) {
  struct pl_req *req = k->req;

  assert_int_equal(pl__encode_head(req, 200, PL_SLICE("text/plain"), -1), 0);
  for (uint32_t done = 0; done < bytes;) {
    uint32_t n = bytes - done < 50000 ? bytes - done : 50000;
    if (req->flags & PL_REQ_OUT_CHUNKED)
      assert_int_equal(pl__encode_chunk(req->out, pl__slice(big + done, n)), 0);
    else
      assert_int_equal(pl__buf_append(req->out, big + done, n), 0);
    done += n;
  }
  if (req->flags & PL_REQ_OUT_CHUNKED)
    assert_int_equal(pl__encode_chunk_last(req->out), 0);
  req->flags |= PL_REQ_DONE;
  end(k);
}

/* Sends from where it lies, or a file, then waits until that is gone. */
static void step_pin(struct client *k, bool file) {
  struct pl_req *req = k->req;

  if (!k->begun) {
    k->begun = true;
    assert_int_equal(pl__encode_head(req, 200, PL_SLICE("text/plain"),
                                     file ? FILE_BYTES : BIG_BYTES),
                     0);
    req->flags |= PL_REQ_DONE;
    if (file) {
      char name[] = "/tmp/perilune-conn-XXXXXX";
      int fd = mkstemp(name);
      assert_true(fd >= 0);
      unlink(name);
      assert_int_equal(write(fd, big, FILE_BYTES), FILE_BYTES);
      pl__conn_send_file(k->conn, fd, 0, FILE_BYTES);
    } else {
      pl__conn_pin(k->conn, big, BIG_BYTES, NULL, 0);
    }
  }
  if (pl__conn_is_lost(k->conn) || pl__conn_has_room(k->conn))
    end(k);
}

static void step_wait(struct fixture *f, struct client *k) {
  if (f->hold && !pl__conn_is_lost(k->conn))
    return;
  if (!pl__conn_is_lost(k->conn))
    reply(k, 200, "waited");
  end(k);
}

static bool is_path(const struct pl_req *req, const char *path) {
  return pl__slice_equal(req->path, pl__slice(path, strlen(path)));
}

static void step(struct fixture *f, struct client *k) {
  struct pl_req *req = k->req;

  if (is_path(req, "/wait")) {
    step_wait(f, k);
  } else if (pl__conn_is_lost(k->conn)) {
    end(k);
  } else if (is_path(req, "/echo")) {
    step_echo(k);
  } else if (is_path(req, "/stream")) {
    step_stream(k, 120000);
  } else if (is_path(req, "/flood")) {
    step_stream(k, 900000);
  } else if (is_path(req, "/pin")) {
    step_pin(k, false);
  } else if (is_path(req, "/file")) {
    step_pin(k, true);
  } else if (is_path(req, "/half")) { /* a response that isn't finished */
    assert_int_equal(pl__encode_head(req, 200, PL_SLICE(""), 100), 0);
    end(k);
  } else if (is_path(req, "/abort")) {
    pl__conn_abort(k->conn);
    end(k);
  } else {
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)req->path.bytes, req->path.at);
    reply(k, 200, text);
    end(k);
  }
}

/* --- the fixture ------------------------------------------------------- */

static void open_net(struct fixture *f) {
  struct pl_net_limits limits = {
      .seconds = {[PL_DEADLINE_HEADER] = 10,
                  [PL_DEADLINE_BODY] = 30,
                  [PL_DEADLINE_IDLE] = 60,
                  [PL_DEADLINE_WRITE] = 20,
                  [PL_DEADLINE_LINGER] = PL_NET_LINGER_S},
      .output_bytes = 1000000,
      .parser = {8192, 32768, 100},
      .body_bytes = 1e9,
      .connections_max = CLIENTS,
  };
  uint32_t bytes = pl__net_slab_bytes(&limits);

  f->section = mmap(NULL, (size_t)bytes * SLABS, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(f->section != MAP_FAILED);
  assert_int_equal(pl__slabs_init(&f->slabs, f->section, bytes, SLABS), 0);
  pl__buf_pool_init(&f->buffers);
  assert_int_equal(
      pl__net_init(&f->net, &limits, &events, f, &f->slabs, &f->buffers, 7), 0);
  pl__http_env_init(&f->net.env, 0);
  f->net.now = 1000;
  f->body_max = 1e9;
}

static struct client *connect_client(struct fixture *f, uint32_t i) {
  struct pl_peer peer = {.family = PL_PEER_IPV4, .address = {127, 0, 0, 1}};
  struct client *k = &f->clients[i];

  pl__memory_open(&k->memory);
  k->req = NULL;
  k->conn = pl__conn_open(&f->net, &k->memory.transport, &peer, k);
  assert_non_null(k->conn);
  return k;
}

static int set_up(void **state) {
  struct fixture *f = pl__alloc_zero(sizeof *f);

  for (uint32_t i = 0; i < sizeof big; i++)
    big[i] = (char)('a' + i % 26);
  assert_non_null(f);
  open_net(f);
  connect_client(f, 0);
  *state = f;
  return 0;
}

/* Runs until nothing happens any more; what waits goes on waiting. */
static void run(struct fixture *f) {
  for (int rounds = 0, busy = 1; busy; rounds++) {
    busy = 0;
    assert_true(rounds < 100000);
    pl__net_expire(&f->net);
    for (uint32_t i = 0; i < CLIENTS; i++) {
      struct client *k = &f->clients[i];
      struct pl_req *before = k->req;
      uint32_t body_before = k->body_bytes;
      if (k->memory.transport.ops)
        busy |= pl__memory_turn(&k->memory);
      if (k->req)
        step(f, k);
      busy |= k->req != before || k->body_bytes != body_before;
    }
    busy |= f->net.dirty != NULL;
    pl__net_flush(&f->net);
  }
}

static int tear_down(void **state) {
  struct fixture *f = *state;

  f->hold = false;
  pl__net_close_all(&f->net);
  run(f);
  assert_int_equal(f->net.conn_count, 0);
  assert_int_equal(f->slabs.in_use, 0);
  assert_null(f->net.dirty);
  assert_true(pl__deadlines_empty(&f->net.deadlines));
  for (uint32_t i = 0; i < CLIENTS; i++)
    if (f->clients[i].memory.transport.ops)
      pl__memory_deinit(&f->clients[i].memory);
  munmap(f->section, (size_t)f->slabs.slab_bytes * SLABS);
  pl__net_deinit(&f->net);
  pl__slabs_deinit(&f->slabs);
  pl__buf_pool_deinit(&f->buffers);
  pl__free(f);
  return 0;
}

static void send_bytes(struct fixture *f, struct client *k, const char *at,
                       size_t n) {
  assert_int_equal(pl__memory_feed(&k->memory, at, (uint32_t)n), 0);
  run(f);
}

static void send_text(struct fixture *f, struct client *k, const char *text) {
  send_bytes(f, k, text, strlen(text));
}

static void send_eof(struct fixture *f, struct client *k) {
  k->memory.eof = true;
  run(f);
}

static void pass(struct fixture *f, double seconds) {
  f->net.now += seconds;
  run(f);
}

/* What was sent so far, as a string; the caller's to free. */
static char *sent(const struct client *k) {
  char *text = pl__alloc(k->memory.out.bytes + 1);

  assert_non_null(text);
  if (k->memory.out.bytes)
    memcpy(text, k->memory.out.at, k->memory.out.bytes);
  text[k->memory.out.bytes] = '\0';
  return text;
}

/* A chunked body gathers for a moment before its handler starts. */
static void let_gather(struct fixture *f) { pass(f, PL_NET_GATHER_S + 0.01); }

static uint32_t count_of(const struct client *k, const char *what) {
  char *text = sent(k);
  uint32_t n = 0;

  for (char *at = text; (at = strstr(at, what)); at += strlen(what))
    n++;
  pl__free(text);
  return n;
}

static void assert_sent(const struct client *k, const char *what) {
  char *text = sent(k);

  if (!strstr(text, what))
    fail_msg("%.600s\ndoes not contain %s", text, what);
  pl__free(text);
}

static void forget(struct client *k) {
  pl__buf_drop(&k->memory.out, k->memory.out.bytes);
}

/* --- whole and in pieces ----------------------------------------------- */

static const struct {
  const char *name, *bytes;
  const char *order[4]; /* pieces of the output, in this order */
  uint32_t responses;
  bool closed; /* or about to: its side is shut */
} cases[] = {
    {"one request", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", {"\r\n\r\n/a"}, 1, 0},
    {"three pipelined",
     "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n"
     "GET /c HTTP/1.1\r\nHost: h\r\n\r\n",
     {"\r\n\r\n/a", "\r\n\r\n/b", "\r\n\r\n/c"},
     3,
     0},
    {"a buffered body",
     "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
     "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"\r\n\r\n5:05e918d2", "/b"},
     2,
     0},
    {"an empty body",
     "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
     "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"\r\n\r\n0:00000000", "/b"},
     2,
     0},
    {"a chunked body",
     "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
     "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n"
     "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"\r\n\r\n5:05e918d2", "/b"},
     2,
     0},
    {"an early answer before a declared body",
     "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET /x HT"
     "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"/early", "/b"},
     2,
     0},
    {"an early answer before a chunked body",
     "POST /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5\r\nGET /\r\n1\r\nx\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"/early", "/b"},
     2,
     0},
    {"a broken body, before any handler runs",
     "POST /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
     "zz\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"HTTP/1.1 400 Bad Request"},
     1,
     1},
    {"100 (Continue) when the body is read",
     "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
     "Transfer-Encoding: chunked\r\n\r\n",
     {"HTTP/1.1 100 Continue\r\n\r\n"},
     1,
     0},
    {"no 100 (Continue) without a reader",
     "POST /early HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
     "Content-Length: 5\r\n\r\n",
     {"HTTP/1.1 200 OK", "/early"},
     1,
     1},
    {"Connection: close",
     "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
     "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"Connection: close", "/a"},
     1,
     1},
    {"HTTP/1.0", "GET /a HTTP/1.0\r\n\r\n", {"Connection: close", "/a"}, 1, 1},
    {"HTTP/1.0 kept alive",
     "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
     "GET /b HTTP/1.0\r\n\r\n",
     {"Connection: keep-alive", "/a", "Connection: close", "/b"},
     2,
     1},
    {"a broken request behind a good one",
     "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\nHost: h\n\n",
     {"/a", "HTTP/1.1 400 Bad Request", "Connection: close"},
     2,
     1},
    {"a broken target",
     "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
     {"HTTP/1.1 400 Bad Request"},
     1,
     1},
    {"a broken chunked body",
     "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
     "2\r\nhe\r\nzz\r\n",
     {"HTTP/1.1 400 Bad Request", "Connection: close"},
     1,
     1},
    {"a response that isn't finished",
     "GET /half HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {NULL},
     0,
     1},
    {"an aborted one",
     "GET /abort HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {NULL},
     0,
     1},
    {"a streamed answer, then another",
     "GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n"
     "\r\n",
     {"Transfer-Encoding: chunked", "\r\n0\r\n\r\nHTTP/1.1 200 OK", "/b"},
     2,
     0},
    {"a pinned answer, then another",
     "GET /pin HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"Content-Length: 2000000", "abHTTP/1.1 200 OK", "/b"},
     2,
     0},
    {"a file, then another",
     "GET /file HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
     {"Content-Length: 600000", "HTTP/1.1 200 OK", "/b"},
     2,
     0},
};

/* Feeds a case in pieces of `piece` bytes and gives its output. */
static char *run_case(struct fixture *f, uint32_t index, size_t piece) {
  struct client *k = &f->clients[1];
  size_t bytes = strlen(cases[index].bytes);
  bool closed;
  char *text;

  connect_client(f, 1);
  for (size_t done = 0; done < bytes; done += piece)
    send_bytes(f, k, cases[index].bytes + done,
               bytes - done < piece ? bytes - done : piece);
  text = sent(k);
  assert_int_equal(count_of(k, "HTTP/1.1 "), cases[index].responses);
  closed = k->memory.closed || k->memory.shut;
  if (closed != cases[index].closed)
    fail_msg("%s is %sclosed", cases[index].name, closed ? "" : "not ");
  k->memory.lost = true;
  run(f);
  assert_null(k->conn);
  assert_int_equal(f->slabs.in_use, 0);
  pl__memory_deinit(&k->memory);
  k->memory.transport.ops = NULL;
  return text;
}

static void check_order(uint32_t index, const char *text) {
  for (int i = 0; i < 4 && cases[index].order[i]; i++) {
    const char *found = strstr(text, cases[index].order[i]);
    if (!found)
      fail_msg("%s: %s is missing in\n%.900s", cases[index].name,
               cases[index].order[i], text);
    text = found + 1;
  }
}

static void answers_alike_however_the_bytes_come(void **state) {
  struct fixture *f = *state;
  static const size_t pieces[] = {1 << 20, 1, 2, 3, 7, 64};

  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char *whole = run_case(f, i, pieces[0]);
    check_order(i, whole);
    for (uint32_t p = 1; p < sizeof pieces / sizeof *pieces; p++) {
      char *parts = run_case(f, i, pieces[p]);
      if (strcmp(whole, parts) != 0)
        fail_msg("%s, by %zu bytes:\n%.900s\nwhole:\n%.900s", cases[i].name,
                 pieces[p], parts, whole);
      pl__free(parts);
    }
    pl__free(whole);
  }
}

/* --- bodies ------------------------------------------------------------ */

static void starts_the_handler_once_a_small_body_is_there(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k,
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
  send_text(f, k, "hell");
  assert_int_equal(f->head_count, 1);
  assert_int_equal(f->request_count, 0);
  send_text(f, k, "o");
  assert_int_equal(f->request_count, 1);
  assert_int_equal(f->body_count, 0);
}

/* Feeds a chunked or declared body of `bytes` in pieces. */
static void send_body(struct fixture *f, struct client *k, uint32_t bytes,
                      bool chunked) {
  char head[160];

  snprintf(head, sizeof head,
           chunked ? "POST /echo HTTP/1.1\r\nHost: h\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n"
                   : "POST /echo HTTP/1.1\r\nHost: h\r\n"
                     "Content-Length: %u\r\n\r\n",
           bytes);
  send_text(f, k, head);
  for (uint32_t done = 0; done < bytes;) {
    uint32_t n = bytes - done < 9973 ? bytes - done : 9973;
    if (chunked) {
      snprintf(head, sizeof head, "%x\r\n", n);
      send_text(f, k, head);
    }
    send_bytes(f, k, big + done, n);
    if (chunked)
      send_text(f, k, "\r\n");
    done += n;
    assert_true(f->slabs.in_use <= 1);
  }
  if (chunked)
    send_text(f, k, "0\r\n\r\n");
}

static void streams_bodies_larger_than_a_slab(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  char expected[64];
  uint32_t sum = 0;

  for (uint32_t i = 0; i < 500000; i++)
    sum = sum * 31 + (unsigned char)big[i];
  snprintf(expected, sizeof expected, "\r\n\r\n500000:%08x", sum);
  send_body(f, k, 500000, false);
  assert_sent(k, expected);
  forget(k);
  send_body(f, k, 500000, true);
  assert_sent(k, expected);
  assert_int_equal(f->end_count, 2);
}

static void stops_reading_while_a_handler_takes_nothing(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->hold = true;
  send_text(f, k,
            "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n");
  send_bytes(f, k, big, 300000);
  assert_false(k->memory.want_read);
  assert_true(k->memory.in.bytes > 200000);
}

static void refuses_a_declared_body_over_the_limit(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->body_max = 4;
  send_text(f, k,
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
  assert_sent(k, "HTTP/1.1 413 ");
  assert_sent(k, "Connection: close");
  assert_int_equal(f->request_count, 0);
  assert_int_equal(f->end_count, 1);
  assert_int_equal(f->status, 413);
}

static void
tells_the_handler_that_a_chunked_body_is_over_the_limit(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->body_max = 4;
  send_text(f, k,
            "POST /echo HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  let_gather(f);
  send_text(f, k, "3\r\ndef\r\n");
  assert_int_equal(f->body_status, 413);
  assert_sent(k, "HTTP/1.1 413 ");
  assert_sent(k, "4:");
  assert_true(k->memory.shut);
}

static void
discards_a_body_of_limited_size_after_an_early_answer(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(
      f, k,
      "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
  assert_sent(k, "/early");
  send_bytes(f, k, big, 200000);
  send_text(f, k, "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_sent(k, "/b");
  assert_int_equal(f->end_count, 2);
}

static void closes_rather_than_discard_a_large_body(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(
      f, k,
      "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n");
  assert_sent(k, "/early");
  assert_true(k->memory.shut);
  assert_false(k->memory.closed); /* it lingers: the client may be sending */
  send_bytes(f, k, big, 300000);
  send_eof(f, k);
  assert_null(k->conn);
}

static void closes_when_a_chunked_body_to_discard_is_endless(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k,
            "POST /early HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n");
  let_gather(f);
  assert_sent(k, "/early");
  for (int i = 0; i < 30 && !k->memory.shut; i++) {
    send_text(f, k, "2710\r\n");
    send_bytes(f, k, big, 10000);
    send_text(f, k, "\r\n");
  }
  assert_true(k->memory.shut);
}

/* A head of 30 KB and trailers of 20 KB do not fit into one slab together. */
static void takes_long_trailers_behind_a_long_head(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  char line[1100];

  send_text(f, k, "POST /echo HTTP/1.1\r\nHost: h\r\n");
  for (int i = 0; i < 30; i++) {
    snprintf(line, sizeof line, "X-%02d: %.990s\r\n", i, big);
    send_text(f, k, line);
  }
  send_text(f, k, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n");
  for (int i = 0; i < 30; i++) {
    snprintf(line, sizeof line, "X-%02d: %.990s\r\n", i, big);
    send_text(f, k, line);
  }
  send_text(f, k, "\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_sent(k, "3:");
  assert_sent(k, "/b");
}

/* --- the peer ends ----------------------------------------------------- */

static void closes_an_idle_connection_at_the_end_of_input(void **state) {
  struct fixture *f = *state;

  send_eof(f, &f->clients[0]);
  assert_null(f->clients[0].conn);
  assert_int_equal(f->end_count, 0);
}

static void ends_half_a_request_as_aborted(void **state) {
  struct fixture *f = *state;

  send_text(f, &f->clients[0], "GET / HTT");
  send_eof(f, &f->clients[0]);
  assert_null(f->clients[0].conn);
  assert_int_equal(f->end_count, 1);
  assert_int_equal(f->abort_count, 1);
}

static void ends_half_a_buffered_body_as_aborted(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
  send_eof(f, k);
  assert_null(k->conn);
  assert_int_equal(f->request_count, 0);
  assert_int_equal(f->end_count, 1);
  assert_int_equal(f->abort_count, 1);
}

static void tells_a_handler_that_the_client_sends_no_more(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->hold = true;
  send_text(f, k, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  send_eof(f, k);
  assert_int_equal(f->gone_count, 1);
  assert_false(pl__conn_is_lost(k->conn));
  f->hold = false; /* a client that only half-closed still gets its answer */
  run(f);
  assert_sent(k, "waited");
  assert_null(k->conn);
}

static void fails_a_streamed_body_that_ends_early(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k,
            "POST /echo HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhe");
  let_gather(f);
  send_eof(f, k);
  assert_int_equal(f->body_status, 400);
  assert_sent(k, "HTTP/1.1 400 ");
  assert_null(k->conn);
}

static void sends_all_of_a_response_to_a_half_closed_client(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  k->memory.stalled = true;
  send_text(f, k, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  send_eof(f, k);
  assert_non_null(k->conn);
  k->memory.stalled = false;
  run(f);
  assert_sent(k, "\r\n0\r\n\r\n");
  assert_null(k->conn);
}

static void
ends_at_once_when_input_ends_behind_half_a_pipelined_request(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->hold = true;
  send_text(f, k, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTT");
  send_eof(f, k);
  f->hold = false;
  run(f);
  assert_null(k->conn);
  assert_int_equal(f->end_count, 2);
  assert_sent(k, "waited");
  assert_int_equal(count_of(k, "HTTP/1.1 "), 1);
}

static void
fails_a_pipelined_body_when_input_has_ended_before_it(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->hold = true;
  send_text(f, k,
            "GET /wait HTTP/1.1\r\nHost: h\r\n\r\nPOST /echo HTTP/1.1\r\n"
            "Host: h\r\nContent-Length: 400000\r\n\r\nhe");
  send_eof(f, k);
  f->hold = false;
  run(f);
  assert_null(k->conn);
  assert_int_equal(f->body_status, 400);
  assert_sent(k, "HTTP/1.1 400 ");
}

static void starts_the_handler_before_all_of_a_chunked_body(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->hold = true;
  send_text(f, k,
            "POST /wait HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  assert_int_equal(f->request_count, 0);
  let_gather(f);
  assert_int_equal(f->request_count, 1);
  assert_int_equal(k->req->body.bytes, 3);
}

static void
starts_the_handler_when_a_chunked_body_fills_the_slab(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->hold = true;
  send_text(f, k,
            "POST /wait HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n20000\r\n");
  send_bytes(f, k, big, 0x10000);
  assert_int_equal(f->request_count, 1);
}

static void lets_nothing_go_on_after_a_reset(void **state) {
  struct fixture *f = *state;
  static const char *const beginnings[] = {
      "",
      "GET / HTT",
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe",
      "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r",
      "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nhe",
      "GET / HTTP/1.0\r\n\r\nmore",
  };

  f->hold = true;
  for (uint32_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
    struct client *k = connect_client(f, 1);
    send_text(f, k, beginnings[i]);
    k->memory.lost = true;
    run(f);
    assert_null(k->conn);
    assert_int_equal(f->slabs.in_use, 0);
    pl__memory_deinit(&k->memory);
    k->memory.transport.ops = NULL;
  }
}

static void tells_of_an_answer_before_its_bytes_go(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k, "GET /pin HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_int_equal(f->answer_count, 1);
  assert_int_equal(f->answer_bytes, 0);
  assert_int_equal(f->end_count, 1);
  forget(k);
  send_text(f, k, "GET /file HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_int_equal(f->answer_count, 2);
  assert_int_equal(f->answer_bytes, 0);
  assert_int_equal(f->end_count, 2);
}

static void frees_what_was_pinned_when_the_peer_resets(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  k->memory.stalled = true;
  send_text(f, k, "GET /pin HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_non_null(k->req);
  k->memory.lost = true;
  run(f);
  assert_int_equal(f->gone_count, 1);
  assert_null(k->conn);
}

/* --- output ------------------------------------------------------------ */

static void has_no_room_while_bytes_are_pinned(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k, "GET /pin HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_int_equal(f->end_count, 1);
  forget(k);
  k->memory.stalled = true;
  send_text(f, k, "GET /pin HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_false(pl__conn_has_room(k->conn));
  assert_int_equal(f->end_count, 1);
  k->memory.stalled = false; /* one window: less than limits.output is left */
  for (int i = 0; i < 6; i++) {
    assert_true(pl__memory_turn(&k->memory));
    assert_false(pl__conn_has_room(k->conn));
  }
  run(f);
  assert_int_equal(f->end_count, 2);
}

static void has_no_room_while_a_file_is_under_way(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  k->memory.stalled = true;
  send_text(f, k, "GET /file HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_int_equal(f->end_count, 0);
  assert_false(pl__conn_has_room(k->conn));
  k->memory.stalled = false;
  run(f);
  assert_int_equal(f->end_count, 1);
}

static void lets_a_pipelined_request_wait_for_room(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  k->memory.stalled = true;
  send_text(f, k, "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n");
  send_text(f, k, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  send_text(f, k,
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\n"
            "Host: h\r\n\r\n");
  assert_int_equal(f->request_count, 2);
  k->memory.stalled = false;
  run(f);
  assert_int_equal(f->end_count, 4);
  assert_sent(k, "/b");
}

static void goes_on_once_an_output_over_its_limit_has_left(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->net.limits.output_bytes = 1000;
  send_text(f, k, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  send_text(f, k, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_sent(k, "/a");
}

static void ends_a_context_at_the_end_of_its_request(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  struct pl_req *req;

  f->hold = true;
  k->memory.stalled = true;
  send_text(f, k, "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n");
  send_text(f, k, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  req = f->last;
  assert_int_equal(f->end_count, 2);
  send_text(f, k, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\nGET /");
  assert_int_equal(f->request_count, 2); /* the third waits for room */
  assert_ptr_equal(req, f->last);
  assert_true(req->serial == 0);
}

static void says_when_there_is_room_again_at_a_flush(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  uint32_t before;

  f->hold = true;
  send_text(f, k, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_int_equal(pl__encode_head(k->req, 200, PL_SLICE(""), 1200000), 0);
  for (int i = 0; i < 20; i++)
    assert_int_equal(pl__buf_append(k->req->out, big, 52000), 0);
  k->memory.stalled = true;
  assert_int_equal(pl__conn_flush(k->conn), 1);
  assert_false(pl__conn_has_room(k->conn));
  k->memory.stalled = false;
  before = f->writable_count;
  while (pl__conn_flush(k->conn) == 1)
    continue;
  assert_true(f->writable_count > before);
  pl__conn_abort(k->conn);
}

/* limits.output bytes may wait, of which not yet compacted ones have been
 * sent; a piece of 64 KiB fits all the same. */
static void
takes_a_piece_when_the_output_is_just_below_its_limit(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  struct pl_buf *out;

  f->hold = true;
  send_text(f, k, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  out = k->req->out;
  k->memory.stalled = true;
  assert_int_equal(pl__buf_append(out, big, 999999), 0);
  /* As if the transport had taken 65535 bytes, and as many had come since. */
  assert_int_equal(pl__buf_append(out, big, 65535), 0);
  assert_int_equal(pl__encode_chunk(out, pl__slice(big, 65536)), 0);
  pl__conn_abort(k->conn);
}

static void closes_when_a_file_is_shorter_than_promised(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  char name[] = "/tmp/perilune-conn-XXXXXX";
  int fd = mkstemp(name);

  f->hold = true;
  assert_true(fd >= 0);
  unlink(name);
  assert_int_equal(write(fd, big, 1000), 1000);
  send_text(f, k, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_int_equal(pl__encode_head(k->req, 200, PL_SLICE(""), 2000), 0);
  k->req->flags |= PL_REQ_DONE;
  assert_int_equal(pl__conn_send_file(k->conn, fd, 0, 2000), PL_EGONE);
  run(f);
  assert_null(k->conn);
}

/* --- deadlines --------------------------------------------------------- */

static void answers_408_to_half_a_head(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k, "GET / HTTP/1.1\r\n");
  pass(f, 6);
  send_text(f, k, "Host: h\r\n"); /* bytes do not prolong it */
  pass(f, 3.9);
  assert_int_equal(f->end_count, 0);
  pass(f, 0.2);
  assert_sent(k, "HTTP/1.1 408 ");
  assert_int_equal(f->status, 408);
  pass(f, PL_NET_LINGER_S + 0.1);
  assert_null(k->conn);
}

static void answers_408_to_half_a_buffered_body(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
  pass(f, 29.9);
  assert_int_equal(f->end_count, 0);
  pass(f, 0.2);
  assert_sent(k, "HTTP/1.1 408 ");
  assert_int_equal(f->request_count, 0);
}

static void tells_a_handler_that_awaits_a_body_when_none_comes(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k,
            "POST /echo HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n1\r\na");
  let_gather(f);
  pass(f, 29.9);
  send_text(f, k, "\r\n1\r\nb"); /* a piece prolongs it */
  pass(f, 29.9);
  assert_int_equal(f->end_count, 0);
  pass(f, 0.2);
  assert_int_equal(f->body_status, 408);
  assert_sent(k, "HTTP/1.1 408 ");
}

static void blames_no_client_while_the_handler_reads_nothing(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->hold = true;
  send_text(f, k,
            "POST /wait HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n");
  let_gather(f);
  pl__conn_await_body(k->conn);
  send_text(f, k, "1\r\na\r\n"); /* what was awaited has come */
  pass(f, 1000);
  assert_int_equal(k->req->body_status, 0);
  f->hold = false;
  run(f);
  assert_sent(k, "waited");
}

static void closes_an_idle_connection_after_its_time(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  pass(f, 59.9);
  assert_non_null(k->conn);
  pass(f, 0.2);
  assert_null(k->conn);
}

static void does_not_call_a_client_idle_that_is_still_reading(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  k->memory.stalled = true;
  send_text(f, k, "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n");
  for (int i = 0; i < 4; i++) { /* a window each 19 seconds */
    pass(f, 19);
    k->memory.stalled = false;
    if (i < 3)
      assert_true(pl__memory_turn(&k->memory));
    k->memory.stalled = true;
  }
  assert_non_null(k->conn);
  k->memory.stalled = false;
  run(f);
  assert_sent(k, "\r\n0\r\n\r\n");
  pass(f, 61);
  assert_null(k->conn);
}

static void closes_on_a_client_that_does_not_read(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  k->memory.stalled = true;
  send_text(f, k, "GET /pin HTTP/1.1\r\nHost: h\r\n\r\n");
  pass(f, 19.9);
  assert_non_null(k->conn);
  pass(f, 0.2);
  assert_null(k->conn);
  assert_int_equal(f->gone_count, 1);
  assert_int_equal(f->abort_count, 1);
}

static void lingers_for_a_limited_time(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  send_text(f, k, "GET\n");
  assert_true(k->memory.shut);
  for (int i = 0; i < 3; i++) {
    send_bytes(f, k, big, 100000); /* read and thrown away */
    assert_int_equal(k->memory.in.bytes, 0);
    pass(f, 0.6);
  }
  assert_non_null(k->conn);
  pass(f, 0.3);
  assert_null(k->conn);
}

/* --- all of them ------------------------------------------------------- */

static void closes_after_so_many_requests(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->net.limits.requests_max = 2;
  send_text(f, k,
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n"
            "\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_int_equal(f->request_count, 2);
  assert_int_equal(count_of(k, "Connection: close"), 1);
  assert_true(k->memory.shut);
}

/* The third may be in the kernel still: closing at once would reset. */
static void lingers_when_the_client_wanted_to_go_on(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  f->net.limits.requests_max = 1;
  send_text(f, k, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_true(k->memory.shut);
  assert_false(k->memory.closed);
  send_eof(f, k);
  assert_null(k->conn);
}

static void
drains_idle_connections_at_once_and_others_behind_their_request(void **state) {
  struct fixture *f = *state;
  struct client *idle = &f->clients[0], *busy = connect_client(f, 1),
                *half = connect_client(f, 2);

  f->hold = true;
  send_text(f, idle, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  send_text(f, busy, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  send_text(f, half, "GET /b HT");
  pl__net_drain(&f->net);
  run(f);
  assert_null(idle->conn);
  assert_non_null(busy->conn);
  f->hold = false;
  send_text(f, half, "TP/1.1\r\nHost: h\r\n\r\n");
  assert_sent(half, "Connection: close");
  assert_sent(half, "/b");
  assert_sent(busy, "Connection: close");
  assert_sent(busy, "waited");
  send_eof(f, busy);
  send_eof(f, half);
  assert_int_equal(f->net.conn_count, 0);
}

static void answers_at_a_drain_what_was_sent_before_it(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  pl__memory_feed(&k->memory, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 28);
  pl__net_drain(&f->net); /* before the loop has told us of these bytes */
  run(f);
  assert_sent(k, "/a");
  assert_sent(k, "Connection: close");
}

static void cuts_no_response_at_a_drain(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];

  k->memory.stalled = true;
  send_text(f, k, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  pl__net_drain(&f->net);
  run(f);
  k->memory.stalled = false;
  run(f);
  assert_sent(k, "\r\n0\r\n\r\n");
  send_eof(f, k);
  assert_null(k->conn);
}

static void closes_all_whatever_they_do(void **state) {
  struct fixture *f = *state;

  f->hold = true;
  connect_client(f, 1);
  connect_client(f, 2);
  connect_client(f, 3);
  f->clients[3].memory.stalled = true;
  send_text(f, &f->clients[1], "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  send_text(f, &f->clients[2], "GET /");
  send_text(f, &f->clients[3], "GET /pin HTTP/1.1\r\nHost: h\r\n\r\n");
  pl__net_close_all(&f->net);
  run(f);
  assert_int_equal(f->closed_count, 4);
  assert_int_equal(f->net.conn_count, 0);
  assert_int_equal(f->slabs.in_use, 0);
}

static void closes_a_connection_that_finds_no_slab(void **state) {
  struct fixture *f = *state;
  uint32_t taken[SLABS];

  for (int i = 0; i < SLABS; i++)
    pl__slabs_take(&f->slabs, &taken[i]);
  send_text(f, &f->clients[0], "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_null(f->clients[0].conn);
  for (int i = 0; i < SLABS; i++)
    pl__slabs_give(&f->slabs, taken[i]);
}

static void refuses_heads_over_their_limits(void **state) {
  struct fixture *f = *state;
  static const struct {
    const char *begin, *line, *status;
    int lines;
  } heads[] = {
      {"GET /", NULL, "HTTP/1.1 414 ", 0},
      {"GET / HTTP/1.1\r\nHost: h\r\n", "X: ", "HTTP/1.1 431 ", 40},
      {"GET / HTTP/1.1\r\nHost: h\r\n", "X: y\r\n", "HTTP/1.1 431 ", 101},
  };

  for (uint32_t i = 0; i < 3; i++) {
    struct client *k = connect_client(f, 1);
    send_text(f, k, heads[i].begin);
    if (!heads[i].line)
      send_bytes(f, k, big, 9000);
    for (int n = 0; n < heads[i].lines; n++) {
      send_text(f, k, heads[i].line);
      if (heads[i].lines == 40) {
        send_bytes(f, k, big, 1000);
        send_text(f, k, "\r\n");
      }
    }
    assert_sent(k, heads[i].status);
    assert_int_equal(count_of(k, "HTTP/1.1 "), 1);
    k->memory.lost = true;
    run(f);
    assert_null(k->conn);
    pl__memory_deinit(&k->memory);
    k->memory.transport.ops = NULL;
  }
}

/* --- other limits while connections are open ----------------------------- */

#define ASK_A "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"

static void closes_an_idle_connection_by_the_new_time(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  struct pl_net_limits limits = f->net.limits;

  send_text(f, k, ASK_A);
  limits.seconds[PL_DEADLINE_IDLE] = 5;
  pl__net_set_limits(&f->net, &limits);
  pass(f, 4.9);
  assert_non_null(k->conn);
  pass(f, 0.2);
  assert_null(k->conn);
}

static void counts_requests_up_to_the_new_limit(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  struct pl_net_limits limits = f->net.limits;

  send_text(f, k, ASK_A);
  limits.requests_max = 2;
  pl__net_set_limits(&f->net, &limits);
  assert_int_equal(count_of(k, "Connection: close"), 0);
  send_text(f, k, ASK_A);
  assert_int_equal(count_of(k, "HTTP/1.1 200"), 2);
  assert_int_equal(count_of(k, "Connection: close"), 1);
}

static void refuses_bodies_over_the_new_limit(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  struct pl_net_limits limits = f->net.limits;

  limits.output_bytes = 16384;
  limits.body_bytes = 3;
  pl__net_set_limits(&f->net, &limits);
  f->body_max = f->net.limits.body_bytes;
  send_text(f, k,
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
            "abcd");
  assert_sent(k, " 413 ");
}

/* The limits of a configuration do not say for how long a chunked body may
 * gather. */
static void goes_on_letting_chunked_bodies_gather(void **state) {
  struct fixture *f = *state;
  struct pl_net_limits limits = f->net.limits;

  limits.seconds[PL_DEADLINE_GATHER] = 0;
  pl__net_set_limits(&f->net, &limits);
  send_text(f, &f->clients[0],
            "POST /echo HTTP/1.1\r\nHost: h\r\n"
            "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
  assert_int_equal(f->request_count, 0);
  pass(f, PL_NET_GATHER_S + 0.01);
  assert_int_equal(f->request_count, 1);
}

static void makes_no_allocation_for_a_warm_keep_alive_request(void **state) {
  struct fixture *f = *state;
  struct client *k = &f->clients[0];
  uint64_t before = 0;

  for (int i = 0; i < 1001; i++) {
    if (i == 1)
      before = pl__alloc_count();
    forget(k);
    send_text(f, k, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  }
  assert_int_equal(pl__alloc_count() - before, 0);
  assert_int_equal(f->end_count, 1001);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(answers_alike_however_the_bytes_come),
      CASE(starts_the_handler_once_a_small_body_is_there),
      CASE(streams_bodies_larger_than_a_slab),
      CASE(stops_reading_while_a_handler_takes_nothing),
      CASE(refuses_a_declared_body_over_the_limit),
      CASE(tells_the_handler_that_a_chunked_body_is_over_the_limit),
      CASE(discards_a_body_of_limited_size_after_an_early_answer),
      CASE(closes_rather_than_discard_a_large_body),
      CASE(closes_when_a_chunked_body_to_discard_is_endless),
      CASE(takes_long_trailers_behind_a_long_head),
      CASE(closes_an_idle_connection_at_the_end_of_input),
      CASE(ends_half_a_request_as_aborted),
      CASE(ends_half_a_buffered_body_as_aborted),
      CASE(tells_a_handler_that_the_client_sends_no_more),
      CASE(fails_a_streamed_body_that_ends_early),
      CASE(sends_all_of_a_response_to_a_half_closed_client),
      CASE(ends_at_once_when_input_ends_behind_half_a_pipelined_request),
      CASE(fails_a_pipelined_body_when_input_has_ended_before_it),
      CASE(starts_the_handler_before_all_of_a_chunked_body),
      CASE(starts_the_handler_when_a_chunked_body_fills_the_slab),
      CASE(lets_nothing_go_on_after_a_reset),
      CASE(tells_of_an_answer_before_its_bytes_go),
      CASE(frees_what_was_pinned_when_the_peer_resets),
      CASE(has_no_room_while_bytes_are_pinned),
      CASE(has_no_room_while_a_file_is_under_way),
      CASE(lets_a_pipelined_request_wait_for_room),
      CASE(goes_on_once_an_output_over_its_limit_has_left),
      CASE(ends_a_context_at_the_end_of_its_request),
      CASE(says_when_there_is_room_again_at_a_flush),
      CASE(takes_a_piece_when_the_output_is_just_below_its_limit),
      CASE(closes_when_a_file_is_shorter_than_promised),
      CASE(answers_408_to_half_a_head),
      CASE(answers_408_to_half_a_buffered_body),
      CASE(tells_a_handler_that_awaits_a_body_when_none_comes),
      CASE(blames_no_client_while_the_handler_reads_nothing),
      CASE(closes_an_idle_connection_after_its_time),
      CASE(does_not_call_a_client_idle_that_is_still_reading),
      CASE(closes_on_a_client_that_does_not_read),
      CASE(lingers_for_a_limited_time),
      CASE(closes_after_so_many_requests),
      CASE(lingers_when_the_client_wanted_to_go_on),
      CASE(drains_idle_connections_at_once_and_others_behind_their_request),
      CASE(answers_at_a_drain_what_was_sent_before_it),
      CASE(cuts_no_response_at_a_drain),
      CASE(closes_all_whatever_they_do),
      CASE(closes_a_connection_that_finds_no_slab),
      CASE(refuses_heads_over_their_limits),
      CASE(closes_an_idle_connection_by_the_new_time),
      CASE(counts_requests_up_to_the_new_limit),
      CASE(refuses_bodies_over_the_new_limit),
      CASE(goes_on_letting_chunked_bodies_gather),
      CASE(makes_no_allocation_for_a_warm_keep_alive_request),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
