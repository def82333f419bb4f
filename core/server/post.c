/* server/post.c - see post.h. */
#include "server/post.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/err.h"

#define READ_BYTES 8192u

/* Handles and requests of libuv end later than they are done with: what is still
 * there then has no `post` any more, and frees itself. */

/* The resolver is asked. */
struct pl_post_lookup {
  uv_getaddrinfo_t request;
  struct pl_post *post; /* NULL: nobody waits for it */
};

enum conn_state { CONNECTING, EXCHANGING, KEPT };

/* A connection to one address, or a try to have one. */
struct pl_post_conn {
  uv_tcp_t tcp;
  uv_connect_t connect;
  uv_write_t write;
  struct pl_post *post; /* NULL: it is being closed */
  enum conn_state state;
  bool was_kept;   /* it has answered before */
  bool is_writing; /* the request is not out yet */
  bool has_bytes;  /* of the answer something has come */
  char room[READ_BYTES];
};

static void look_up(struct pl_post *p);
static void connect_next(struct pl_post *p, int failed);

/* --- the end of things ----------------------------------------------------------- */

static void on_closed(uv_handle_t *handle) { pl__free(handle->data); }

static void conn_drop(struct pl_post *p) {
  struct pl_post_conn *c = p->conn;

  if (!c)
    return;
  p->conn = NULL;
  c->post = NULL;
  uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void lookup_drop(struct pl_post *p) {
  struct pl_post_lookup *l = p->lookup;

  p->lookup = NULL;
  if (l) {
    l->post = NULL;
    uv_cancel((uv_req_t *)&l->request); /* or it ends by itself */
  }
  if (p->list)
    uv_freeaddrinfo(p->list);
  p->list = NULL;
  p->count = p->next = 0;
}

/* The one that has answered comes first in the next search. */
static void best_keep(struct pl_post *p) {
  int bytes = sizeof p->best;

  memset(&p->best, 0, sizeof p->best);
  if (uv_tcp_getpeername(&p->conn->tcp, (struct sockaddr *)&p->best, &bytes))
    p->best.ss_family = AF_UNSPEC;
}

static void finish(struct pl_post *p, int failed) {
  if (failed)
    p->best.ss_family = AF_UNSPEC;
  else
    best_keep(p);
  if (failed || !p->answer.keep_alive || p->conn->is_writing)
    conn_drop(p);
  else
    p->conn->state = KEPT;
  lookup_drop(p);
  uv_timer_stop(&p->timer);
  uv_timer_stop(&p->turn);
  p->is_busy = false;
  p->on_end(p->arg, failed, &p->answer);
}

/* The connection is no good.  One that was kept may have been closed before the
 * request was there. */
static void conn_fail(struct pl_post_conn *c, int failed) {
  struct pl_post *p = c->post;
  enum conn_state state = c->state;
  bool is_stale = c->was_kept && !c->has_bytes;

  conn_drop(p);
  if (state == CONNECTING)
    connect_next(p, failed);
  else if (state == EXCHANGING && is_stale)
    look_up(p);
  else if (state == EXCHANGING)
    finish(p, failed);
}

static void on_timeout(uv_timer_t *timer) { finish(timer->data, PL_ETIMEOUT); }

/* This address has had its share. */
static void on_turn(uv_timer_t *timer) {
  struct pl_post *p = timer->data;

  if (p->conn->has_bytes)
    return;
  conn_drop(p);
  connect_next(p, PL_ETIMEOUT);
}

/* --- an exchange -------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out) {
  struct pl_post_conn *c = handle->data;

  (void)wanted;
  *out = uv_buf_init(c->room, sizeof c->room);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct pl_post_conn *c = stream->data;
  struct pl_post *p = c->post;
  enum pl_response_outcome outcome;

  if (n == 0 || !p)
    return;
  if (c->state != EXCHANGING) { /* nothing was asked: it is over */
    conn_fail(c, PL_EGONE);
    return;
  }
  if (n > 0) {
    c->has_bytes = true;
    outcome =
        pl__response_parser_run(&p->answer, pl__slice(buf->base, (size_t)n));
  } else {
    outcome = pl__response_parser_finish(&p->answer);
  }
  if (outcome == PL_RESPONSE_DONE)
    finish(p, 0);
  else if (outcome == PL_RESPONSE_BAD)
    conn_fail(c, n > 0 ? PL_EBAD : n == UV_EOF ? PL_EGONE : (int)n);
}

static void on_written(uv_write_t *write, int status) {
  struct pl_post_conn *c = write->data;

  c->is_writing = false;
  if (status && c->post && c->state == EXCHANGING && !c->has_bytes)
    conn_fail(c, status);
}

static void exchange(struct pl_post_conn *c) {
  struct pl_post *p = c->post;
  uv_buf_t bufs[2];
  int failed;
  int n = snprintf(p->head, sizeof p->head,
                   "POST %s HTTP/1.1\r\n"
                   "Host: %s\r\n"
                   "User-Agent: perilune/" PL_VERSION "\r\n"
                   "Content-Type: application/x-protobuf\r\n"
                   "%s%sContent-Length: %u\r\n\r\n",
                   p->to.path, p->to.authority,
                   p->is_gzip ? "Content-Encoding: gzip\r\n" : "", p->fields,
                   p->body.bytes);

  PL_ASSERT(n > 0 && (size_t)n < sizeof p->head);
  c->was_kept = c->state == KEPT;
  c->state = EXCHANGING;
  c->has_bytes = false;
  c->is_writing = true;
  pl__response_parser_init(&p->answer);
  bufs[0] = uv_buf_init(p->head, (unsigned)n);
  bufs[1] = uv_buf_init((char *)(uintptr_t)p->body.at, p->body.bytes);
  failed = uv_write(&c->write, (uv_stream_t *)&c->tcp, bufs, 2, on_written);
  if (failed) {
    c->is_writing = false;
    conn_fail(c, failed);
  }
}

/* --- a connection ---------------------------------------------------------------------- */

static void on_connected(uv_connect_t *connect, int status) {
  struct pl_post_conn *c = connect->data;

  if (!c->post)
    return;
  if (!status) {
    uv_tcp_nodelay(&c->tcp, 1);
    status = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
  }
  if (status)
    conn_fail(c, status);
  else
    exchange(c);
}

/* The next of the addresses begins; the last one has all the time there is. */
static const struct addrinfo *turn_begin(struct pl_post *p) {
  uint64_t now = uv_now(p->uv), left = p->count - p->next;

  if (left > 1)
    uv_timer_start(&p->turn, on_turn,
                   p->due_ms > now ? (p->due_ms - now) / left : 0, 0);
  else
    uv_timer_stop(&p->turn);
  return p->order[p->next++];
}

/* Tries the addresses that are left; `failed` is what the last one said. */
static void connect_next(struct pl_post *p, int failed) {
  while (p->next < p->count) {
    const struct addrinfo *address = turn_begin(p);
    struct pl_post_conn *c = pl__alloc_zero(sizeof *c);
    if (!c) {
      failed = PL_ENOMEM;
      break;
    }
    uv_tcp_init(p->uv, &c->tcp);
    c->tcp.data = c->connect.data = c->write.data = c;
    c->post = p;
    p->conn = c;
    failed =
        uv_tcp_connect(&c->connect, &c->tcp, address->ai_addr, on_connected);
    if (!failed)
      return;
    conn_drop(p);
  }
  finish(p, failed);
}

static bool is_best(const struct pl_post *p, const struct addrinfo *a) {
  return a->ai_addrlen <= sizeof p->best &&
         memcmp(a->ai_addr, &p->best, a->ai_addrlen) == 0;
}

/* The order in which the addresses are tried. */
static void order(struct pl_post *p, const struct addrinfo *list) {
  for (; list && p->count < PL_POST_ADDRESSES_MAX; list = list->ai_next) {
    p->order[p->count++] = list;
    if (!is_best(p, list))
      continue;
    memmove(p->order + 1, p->order, (p->count - 1) * sizeof *p->order);
    p->order[0] = list;
  }
}

static void on_resolved(uv_getaddrinfo_t *request, int status,
                        struct addrinfo *list) {
  struct pl_post_lookup *l = request->data;
  struct pl_post *p = l->post;

  pl__free(l);
  if (!p) {
    if (list)
      uv_freeaddrinfo(list);
    return;
  }
  p->lookup = NULL;
  p->list = list;
  order(p, list);
  connect_next(p, status ? status : UV_EAI_NODATA);
}

static void look_up(struct pl_post *p) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  struct pl_post_lookup *l = pl__alloc_zero(sizeof *l);

  if (!l)
    return; /* the time limit ends it */
  l->post = p;
  l->request.data = l;
  lookup_drop(p);
  if (uv_getaddrinfo(p->uv, &l->request, on_resolved, p->to.host, p->to.port,
                     &hints))
    pl__free(l);
  else
    p->lookup = l;
}

/* --- a life --------------------------------------------------------------------------------- */

void pl__post_init(struct pl_post *p, uv_loop_t *uv,
                   const struct pl_endpoint *to, const char *fields) {
  PL_ASSERT(strlen(fields) <= PL_POST_FIELDS_BYTES);
  memset(p, 0, offsetof(struct pl_post, answer));
  p->uv = uv;
  p->to = *to;
  p->fields = fields;
  uv_timer_init(uv, &p->timer);
  uv_timer_init(uv, &p->turn);
  p->timer.data = p->turn.data = p;
}

void pl__post_send(struct pl_post *p, struct pl_slice body, bool is_gzip,
                   uint64_t timeout_ms, pl__post_fn on_end, void *arg) {
  PL_ASSERT(!p->is_busy);
  p->is_busy = true;
  p->body = body;
  p->is_gzip = is_gzip;
  p->on_end = on_end;
  p->arg = arg;
  uv_update_time(p->uv);
  p->due_ms = uv_now(p->uv) + timeout_ms;
  uv_timer_start(&p->timer, on_timeout, timeout_ms, 0);
  if (p->conn)
    exchange(p->conn);
  else
    look_up(p);
}

void pl__post_close(struct pl_post *p) {
  p->is_busy = false;
  conn_drop(p);
  lookup_drop(p);
  uv_close((uv_handle_t *)&p->timer, NULL);
  uv_close((uv_handle_t *)&p->turn, NULL);
}
