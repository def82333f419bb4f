/* server/grpc_conns.c - see grpc_conns.h.
 *
 * While a client does not take what is to be sent, nothing more is received
 * from it, and nothing is taken out of its session: what waits is bounded by
 * what the session may hold.
 */
#include "server/grpc_conns.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "net/socket.h"

#include <unistd.h>

#define TICK_MS 1000
/* Of a session at once: a frame at its largest, and small ones before it. */
#define OUT_BYTES 65536u
#define OUT_BYTES_ENOUGH 16384u

struct grpc_conn {
  struct pl_socket socket; /* first: a transport is cast back to this */
  struct pl_grpc_conns *pool;
  struct pl_list link; /* in pool->conns */
  struct pl_h2 *h2;
  struct pl_buf out;
  int64_t heard_ms; /* when bytes came */
  int64_t asked_ms; /* when a sign of life was asked for; 0: none is awaited */
  int64_t stuck_ms; /* since when `out` does not move; 0: it does */
  bool has_output;  /* the session has something to say */
  bool is_closing;
};

static int64_t now_ms(void) { return pl__clock_monotonic_ns() / PL_NS_PER_MS; }

static struct grpc_conn *conn_of(struct pl_list *link) {
  return PL_LIST_ENTRY(link, struct grpc_conn, link);
}

static void conn_close(struct grpc_conn *c) {
  if (c->is_closing)
    return;
  c->is_closing = true;
  c->socket.transport.ops->close(&c->socket.transport, false);
}

/* --- sending ------------------------------------------------------------ */

/* Moves what the session has to say to `out`, as much as is enough. */
static int conn_gather(struct grpc_conn *c) {
  while (c->out.bytes < OUT_BYTES_ENOUGH) {
    struct pl_slice piece = pl__h2_take(c->h2);
    if (!piece.bytes)
      return 0;
    if (pl__buf_append_slice(&c->out, piece))
      return -1;
  }
  return 0;
}

/* Sends `out`. Returns 0 when all of it has left, 1 when some waits, or -1. */
static int conn_send(struct grpc_conn *c) {
  struct iovec piece = {c->out.at, c->out.bytes};
  ssize_t n = c->socket.transport.ops->send(&c->socket.transport, &piece, 1);

  if (n < 0 && n != PL_TRANSPORT_AGAIN)
    return -1;
  if (n > 0) {
    pl__buf_drop(&c->out, (uint32_t)n);
    c->stuck_ms = 0;
  }
  if (!c->out.bytes) {
    pl__buf_release(&c->out);
    return 0;
  }
  if (!c->stuck_ms)
    c->stuck_ms = now_ms();
  return 1;
}

/* Sends until there is nothing, or the client takes no more. As conn_send. */
static int conn_pump(struct grpc_conn *c) {
  for (;;) {
    if (conn_gather(c))
      return -1;
    if (!c->out.bytes)
      return 0;
    int waits = conn_send(c);
    if (waits)
      return waits;
  }
}

static void conn_flush(struct grpc_conn *c) {
  int waits;

  c->has_output = false;
  if (c->is_closing)
    return;
  waits = conn_pump(c);
  if (waits < 0 || (!waits && pl__h2_is_over(c->h2))) {
    conn_close(c);
    return;
  }
  c->socket.transport.ops->watch(&c->socket.transport, !waits, waits);
}

static void flush_all(struct pl_grpc_conns *p) {
  struct pl_list *link, *after;

  PL_LIST_EACH(link, after, &p->conns)
  if (conn_of(link)->has_output)
    conn_flush(conn_of(link));
}

/* --- time --------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer);

/* Runs the timer while anything depends on it, at the latest in `next_ms`. */
static void schedule(struct pl_grpc_conns *p, int64_t next_ms) {
  uint64_t ms = next_ms < 0 || next_ms > TICK_MS ? TICK_MS : (uint64_t)next_ms;

  if (uv_is_closing((uv_handle_t *)&p->timer))
    return;
  if (!p->count)
    uv_timer_stop(&p->timer);
  else if (!uv_is_active((uv_handle_t *)&p->timer) ||
           uv_timer_get_due_in(&p->timer) > ms)
    uv_timer_start(&p->timer, on_tick, ms, 0);
}

/* A client that is gone without a word, or takes nothing. */
static bool conn_is_dead(const struct grpc_conn *c, int64_t now) {
  return (c->stuck_ms && now - c->stuck_ms >= PL_GRPC_CONN_WRITE_MS) ||
         (c->asked_ms && now - c->asked_ms >= PL_GRPC_CONN_ANSWER_MS);
}

static void conn_look(struct grpc_conn *c, int64_t now) {
  int64_t quiet_ms = now - c->heard_ms;

  if (conn_is_dead(c, now)) {
    conn_close(c);
    return;
  }
  pl__h2_expire(c->h2, now);
  if (!pl__h2_stream_count(c->h2)) {
    if (quiet_ms >= PL_GRPC_CONN_IDLE_MS)
      pl__h2_finish(c->h2);
  } else if (quiet_ms >= PL_GRPC_CONN_QUIET_MS && !c->asked_ms) {
    c->asked_ms = now;
    pl__h2_ping(c->h2);
  }
  conn_flush(c);
}

static void on_tick(uv_timer_t *timer) {
  struct pl_grpc_conns *p = timer->data;
  struct pl_list *link, *after;
  int64_t now = now_ms();
  int64_t next_ms = pl__grpc_health_expire(&p->health, now);

  PL_LIST_EACH(link, after, &p->conns)
  conn_look(conn_of(link), now);
  schedule(p, next_ms);
}

/* --- receiving ---------------------------------------------------------- */

static void conn_feed(struct grpc_conn *c, struct pl_slice bytes) {
  struct pl_grpc_conns *p = c->pool;
  int64_t now = now_ms();
  int failed = pl__h2_feed(c->h2, bytes, now);

  c->heard_ms = now;
  c->asked_ms = 0;
  conn_flush(c);
  if (failed)
    conn_close(c);
  if (!pl__list_is_empty(&p->health.watchers)) {
    schedule(p, pl__grpc_health_expire(&p->health, now));
    flush_all(p);
  }
}

static void conn_receive(struct grpc_conn *c) {
  char *room = c->pool->room;
  ssize_t n = c->socket.transport.ops->receive(&c->socket.transport, room,
                                               PL_GRPC_CONN_READ_BYTES);

  if (n > 0)
    conn_feed(c, pl__slice(room, (size_t)n));
  else if (n != PL_TRANSPORT_AGAIN)
    conn_close(c);
}

static void on_ready(struct pl_transport *t, bool readable, bool writable) {
  struct grpc_conn *c = (struct grpc_conn *)(void *)t;

  if (writable && c->out.bytes)
    conn_flush(c);
  if (readable && !c->is_closing && !c->out.bytes)
    conn_receive(c);
}

static void on_closed(struct pl_transport *t) {
  struct grpc_conn *c = (struct grpc_conn *)(void *)t;
  struct pl_grpc_conns *p = c->pool;

  pl__h2_free(c->h2);
  pl__buf_release(&c->out);
  pl__list_remove(&c->link);
  pl__free(c);
  p->count--;
  if (!p->count)
    schedule(p, -1);
}

static const struct pl_transport_events transport_events = {on_ready,
                                                            on_closed};

/* --- what sessions tell ------------------------------------------------- */

static void on_request(void *arg, struct pl_h2_stream *s) {
  struct grpc_conn *c = arg;

  pl__grpc_health_on_request(&c->pool->health, s, now_ms());
}

static void on_drained(void *arg, struct pl_h2_stream *s) {
  struct grpc_conn *c = arg;

  pl__grpc_health_on_drained(&c->pool->health, s);
}

static void on_stream_closed(void *arg, struct pl_h2_stream *s) {
  struct grpc_conn *c = arg;

  pl__grpc_health_on_closed(&c->pool->health, s);
}

/* Who changes something flushes once, behind all changes. */
static void on_output(void *arg) {
  ((struct grpc_conn *)arg)->has_output = true;
}

static const struct pl_h2_events h2_events = {on_request, on_drained,
                                              on_stream_closed, on_output};

/* --- a life ------------------------------------------------------------- */

void pl__grpc_conns_open(struct pl_grpc_conns *p, uv_loop_t *loop,
                         const struct pl_grpc_health_source *source) {
  p->loop = loop;
  p->count = 0;
  pl__list_init(&p->conns);
  pl__grpc_health_init(&p->health, source);
  uv_timer_init(loop, &p->timer);
  p->timer.data = p;
}

static struct grpc_conn *conn_new(struct pl_grpc_conns *p, int fd) {
  struct grpc_conn *c = pl__alloc_zero(sizeof *c);

  if (!c)
    return NULL;
  c->h2 = pl__h2_open(&h2_events, c);
  if (!c->h2)
    goto fail_h2;
  c->pool = p;
  pl__buf_init(&c->out, NULL, OUT_BYTES);
  c->socket.transport.events = &transport_events;
  if (pl__socket_open(&c->socket, p->loop, fd))
    goto fail_socket;
  pl__list_push_back(&p->conns, &c->link);
  p->count++;
  return c;

fail_socket:
  pl__h2_free(c->h2);
fail_h2:
  pl__free(c);
  return NULL;
}

/* The one without a call that has been quiet for longest; NULL: there is none. */
static struct grpc_conn *find_quietest(struct pl_grpc_conns *p) {
  struct grpc_conn *best = NULL;
  struct pl_list *link, *after;

  PL_LIST_EACH(link, after, &p->conns) {
    struct grpc_conn *c = conn_of(link);
    if (!c->is_closing && !pl__h2_stream_count(c->h2) &&
        (!best || c->heard_ms < best->heard_ms))
      best = c;
  }
  return best;
}

/* Clients that say nothing must not keep probes out. */
static bool make_room(struct pl_grpc_conns *p) {
  struct grpc_conn *c = find_quietest(p);

  if (!c || now_ms() - c->heard_ms < PL_GRPC_CONN_SPARED_MS)
    return false;
  conn_close(c);
  return true;
}

void pl__grpc_conns_take(void *pool, int fd, struct pl_slice first) {
  struct pl_grpc_conns *p = pool;
  bool has_room = p->count < PL_GRPC_CONN_COUNT || make_room(p);
  struct grpc_conn *c = has_room ? conn_new(p, fd) : NULL;

  if (!c) {
    close(fd);
    return;
  }
  schedule(p, -1);
  conn_feed(c, first);
}

void pl__grpc_conns_changed(struct pl_grpc_conns *p) {
  pl__grpc_health_changed(&p->health);
  flush_all(p);
}

void pl__grpc_conns_drain(struct pl_grpc_conns *p) {
  struct pl_list *link, *after;

  pl__grpc_health_close(&p->health);
  PL_LIST_EACH(link, after, &p->conns) {
    pl__h2_finish(conn_of(link)->h2);
    conn_flush(conn_of(link));
  }
}

void pl__grpc_conns_close(struct pl_grpc_conns *p) {
  struct pl_list *link, *after;

  PL_LIST_EACH(link, after, &p->conns)
  conn_close(conn_of(link));
  uv_close((uv_handle_t *)&p->timer, NULL);
}
