/* net/conn.c - opens, watches and closes a connection.
 *
 * Its states and what belongs to which file: net/conn_state.h.
 */
#include "net/conn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "fabric/flights.h"
#include "net/conn_state.h"

#include <stddef.h>
#include <unistd.h>

/* On top of limits.output: a head or a piece, an error's document, and what
 * has been sent but not yet been moved out (writer.c). */
#define CONN_OUTPUT_SLACK_BYTES (PL_LIMIT_EXTRA_BYTES + 2 * 65536u)

/* --- watching and closing ---------------------------------------------- */

void pl__conn_watch(struct pl_conn *c) {
  bool readable = !c->eof && !c->lost &&
                  (!c->slot || c->slot->filled < c->slot->data_bytes);

  if (c->state == PL_CONN_CLOSING)
    return; /* the transport is closed */
  if (c->state == PL_CONN_FINISHING || c->state == PL_CONN_FLUSHING)
    readable = false; /* nothing it could say matters before all is sent */
  c->deaf = c->state == PL_CONN_IDLE && !pl__conn_is_roomy(c);
  if (c->deaf)
    readable = false; /* no request more before it has taken some of that */
  c->transport->ops->watch(c->transport, readable, c->want_write && !c->lost);
}

void pl__conn_shut(struct pl_conn *c) {
  if (c->state == PL_CONN_CLOSING)
    return;
  pl__conn_give_slot(c);
  c->state = PL_CONN_CLOSING;
  c->awaiting_body = false;
  pl__deadline_disarm(&c->read_deadline);
  pl__deadline_disarm(&c->write_deadline);
  pl__writer_release(&c->writer);
  c->transport->ops->close(c->transport, c->reset);
}

void pl__conn_lose(struct pl_conn *c) {
  if (c->lost || c->state == PL_CONN_CLOSING)
    return;
  c->lost = true;
  if (c->state != PL_CONN_BUSY) {
    if (c->slot && c->state != PL_CONN_DISCARD &&
        c->state != PL_CONN_FLUSHING &&
        pl__parser_begun(pl__slot_parser(c->slot))) {
      c->slot->req.flags |= PL_REQ_ABORTED;
      c->net->events.on_end(c->net->arg, c, &c->slot->req);
    }
    pl__conn_shut(c);
    return;
  }
  pl__deadline_disarm(&c->read_deadline);
  pl__deadline_disarm(&c->write_deadline);
  pl__writer_release(&c->writer);
  c->want_write = false;
  pl__conn_watch(c);
  c->slot->req.flags |= PL_REQ_ABORTED;
  c->net->events.on_gone(c->net->arg, c, &c->slot->req);
}

bool pl__conn_is_lost(const struct pl_conn *c) { return c->lost; }

void pl__conn_close(struct pl_conn *c) {
  c->reset = c->state != PL_CONN_IDLE;
  pl__conn_lose(c);
}

/* --- what the transport says --------------------------------------------- */

/* When work began after the loop had nothing to do.  What comes in now must not
 * count as received when the loop went to sleep.  (A spec that has moved the
 * clocks is ahead of this one.) */
static void net_wake(struct pl_net *net) {
  if (!net->is_quiet)
    return;
  net->is_quiet = false;
  net->woken_at = pl__clock_monotonic_s();
  if (net->woken_at > net->now)
    net->now = net->woken_at;
}

static void conn_on_ready(struct pl_conn *c, bool readable, bool writable) {
  if (writable && c->want_write)
    pl__conn_on_writable(c);
  if (!readable || c->state == PL_CONN_CLOSING || c->lost || c->eof)
    return;
  if (c->state == PL_CONN_LINGER)
    pl__conn_receive_linger(c);
  else if (c->state != PL_CONN_FINISHING && c->state != PL_CONN_FLUSHING)
    pl__conn_receive(c);
}

static void on_transport_ready(struct pl_transport *t, bool readable,
                               bool writable) {
  struct pl_conn *c = t->conn;
  struct pl_net *net = c->net;
  uint32_t before = pl__phase_enter(net->phase, PL_PHASE_CORE);

  net_wake(net);
  conn_on_ready(c, readable, writable);
  pl__phase_leave(net->phase, before);
}

static void on_transport_closed(struct pl_transport *t) {
  struct pl_conn *c = t->conn;
  struct pl_net *net = c->net;

  if (c->dirty) { /* rare: closed within the tick that made output */
    struct pl_conn **at = &net->dirty;
    while (*at != c)
      at = &(*at)->next_dirty;
    *at = c->next_dirty;
  }
  net->conn_count--;
  pl__list_remove(&c->link);
  net->events.on_closed(net->arg, c);
  pl__free(c);
}

/* --- opening ----------------------------------------------------------- */

static const struct pl_transport_events transport_events = {
    .on_ready = on_transport_ready,
    .on_closed = on_transport_closed,
};

static struct pl_conn *conn_new(struct pl_net *net, size_t bytes) {
  struct pl_conn *c = pl__alloc_zero(bytes);

  if (!c)
    return NULL;
  c->net = net;
  c->state = PL_CONN_IDLE;
  pl__writer_init(&c->writer, net->buffers,
                  net->limits.output_bytes + CONN_OUTPUT_SLACK_BYTES);
  return c;
}

static void conn_start(struct pl_conn *c) {
  pl__list_push_back(&c->net->conns, &c->link);
  c->net->conn_count++;
  pl__conn_arm(c, PL_DEADLINE_IDLE);
}

struct pl_conn *pl__conn_open(struct pl_net *net, struct pl_transport *t,
                              const struct pl_peer *peer, void *owner) {
  struct pl_conn *c = conn_new(net, offsetof(struct pl_conn, socket));

  if (!c)
    return NULL;
  c->transport = t;
  c->owner = owner;
  c->peer = *peer;
  t->events = &transport_events;
  t->conn = c;
  conn_start(c);
  return c;
}

int pl__conn_accept(struct pl_net *net, uv_loop_t *loop, int fd,
                    const struct sockaddr *peer, uint8_t listener) {
  struct pl_conn *c = conn_new(net, sizeof *c);
  int status;

  net->refused_count++; /* until it is open */
  if (!c) {
    close(fd);
    return PL_ENOMEM;
  }
  c->transport = &c->socket.transport;
  c->transport->events = &transport_events;
  c->transport->conn = c;
  status = pl__socket_open(&c->socket, loop, fd);
  if (status) {
    close(fd);
    pl__free(c);
    return status;
  }
  net->refused_count--;
  net->accepted_count++;
  c->listener = listener;
  c->sniffing = net->on_h2 != NULL;
  pl__peer_set(&c->peer, peer);
  conn_start(c);
  return 0;
}

void *pl__conn_owner(const struct pl_conn *c) { return c->owner; }

const struct pl_peer *pl__conn_peer(const struct pl_conn *c) {
  return &c->peer;
}
