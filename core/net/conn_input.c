/* net/conn_input.c - receives the bytes of a connection, and notices their end.
 */
#include "net/conn_state.h"

#include "fabric/flights.h"

/* Read in LINGER at most, for a peer that goes on sending. */
#define LINGER_BYTES_MAX (64u << 20)

/* False: no slab is left, as there may be fewer than connections. */
static bool conn_take_slot(struct pl_conn *c) {
  c->slot = pl__slot_take(c->net);
  if (!c->slot)
    return false;
  pl__conn_begin_request(c);
  return true;
}

void pl__conn_leave(struct pl_conn *c) {
  if (pl__writer_is_empty(&c->writer))
    pl__conn_shut(c);
  else
    pl__conn_finish(c);
}

void pl__conn_miss_input(struct pl_conn *c) {
  struct pl_req *req = c->slot ? &c->slot->req : NULL;

  if (c->state == PL_CONN_BUSY) {
    if (!(req->flags & PL_REQ_BODY_DONE) && !req->body_status)
      pl__conn_fail_body(c, 400);
  } else if (c->state == PL_CONN_HEAD || c->state == PL_CONN_BODY) {
    if (pl__parser_begun(pl__slot_parser(c->slot))) {
      req->flags |= PL_REQ_ABORTED;
      c->net->events.on_end(c->net->arg, c, req);
    }
    pl__conn_leave(c);
  } else if (c->state == PL_CONN_DISCARD || c->state == PL_CONN_IDLE) {
    pl__conn_leave(c);
  }
}

static void conn_on_eof(struct pl_conn *c) {
  c->eof = true;
  pl__conn_watch(c);
  pl__conn_miss_input(c);
  /* It may be half-closed and still read what we send; but mostly it is gone,
   * and a handler that waits should learn that. */
  if (c->state == PL_CONN_BUSY && !(c->slot->req.flags & PL_REQ_ABORTED)) {
    c->slot->req.flags |= PL_REQ_ABORTED;
    c->net->events.on_gone(c->net->arg, c, &c->slot->req);
  }
}

void pl__conn_receive_linger(struct pl_conn *c) {
  ssize_t n = c->transport->ops->receive(c->transport, c->net->discard,
                                         PL_CONN_DISCARD_ROOM_BYTES);
  if (n == PL_TRANSPORT_AGAIN)
    return;
  c->lingered_bytes += n > 0 ? (uint32_t)n : 0;
  if (n <= 0 || c->lingered_bytes > LINGER_BYTES_MAX)
    pl__conn_shut(c);
}

static ssize_t conn_read(struct pl_conn *c, char *to, uint32_t bytes) {
  uint32_t before = pl__phase_enter(c->net->phase, PL_PHASE_READ);
  ssize_t n = c->transport->ops->receive(c->transport, to, bytes);

  pl__phase_leave(c->net->phase, before);
  return n;
}

void pl__conn_receive(struct pl_conn *c) {
  bool fresh = c->slot == NULL;

  if (fresh && !conn_take_slot(c)) {
    c->net->refused_count++;
    pl__conn_shut(c);
    return;
  }
  struct pl_slot *s = c->slot;
  if (fresh)
    c->state = PL_CONN_HEAD;
  if (s->filled == s->data_bytes)
    return;
  ssize_t n = conn_read(c, s->data + s->filled, s->data_bytes - s->filled);
  if (n > 0) {
    s->filled += (uint32_t)n;
    if (fresh)
      pl__deadline_disarm(&c->read_deadline);
    pl__conn_advance(c);
    return;
  }
  if (fresh) { /* nothing of a request is there */
    pl__conn_give_slot(c);
    c->state = PL_CONN_IDLE;
  }
  if (n == 0)
    conn_on_eof(c);
  else if (n != PL_TRANSPORT_AGAIN)
    pl__conn_lose(c);
}
