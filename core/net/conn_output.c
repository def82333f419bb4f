/* net/conn_output.c - sends the output of connections, and tells when some of it
 * has gone.
 */
#include "net/conn_state.h"

#include "base/err.h"
#include "fabric/flights.h"

#include <unistd.h>

/* All of the last response is with the transport. */
static void conn_finished(struct pl_conn *c) {
  if (!c->linger || c->eof) {
    pl__conn_shut(c);
    return;
  }
  /* Closing with bytes unread makes the kernel send a reset, which may destroy
   * the response before the client has read it (RFC 9112 9.6). */
  c->state = PL_CONN_LINGER;
  c->transport->ops->shut_down(c->transport);
  pl__conn_arm(c, PL_DEADLINE_LINGER);
  pl__conn_watch(c);
}

bool pl__conn_has_room(const struct pl_conn *c) { return pl__conn_is_roomy(c); }

static void conn_flushed_some(struct pl_conn *c) {
  if (c->state == PL_CONN_BUSY) {
    if (pl__conn_is_roomy(c))
      c->net->events.on_writable(c->net->arg, c, &c->slot->req);
  } else if (c->state == PL_CONN_FLUSHING && pl__conn_is_roomy(c)) {
    pl__conn_next(c);
  } else if (c->deaf) {
    pl__conn_watch(c);
  }
}

static size_t conn_unacked(const struct pl_conn *c) {
  const struct pl_transport_ops *ops = c->transport->ops;

  return ops->unacked ? ops->unacked(c->transport) : 0;
}

static void conn_arm_write(struct pl_conn *c) {
  c->unacked_bytes = conn_unacked(c);
  pl__deadline_arm(&c->net->deadlines, &c->write_deadline, PL_DEADLINE_WRITE,
                   c->net->now);
}

/* The last bytes of a response are about to go. */
static void conn_tell_answer(struct pl_conn *c) {
  struct pl_req *req = &c->slot->req;

  if (!(req->flags & PL_REQ_DONE) || (req->flags & PL_REQ_TOLD) ||
      !c->net->events.on_answer)
    return;
  req->flags |= PL_REQ_TOLD;
  c->net->events.on_answer(c->net->arg, c, req);
}

static enum pl_write_outcome conn_write(struct pl_conn *c, bool *moved) {
  uint32_t before = pl__phase_enter(c->net->phase, PL_PHASE_WRITE);
  enum pl_write_outcome outcome =
      pl__writer_flush(&c->writer, c->transport, moved);

  pl__phase_leave(c->net->phase, before);
  return outcome;
}

static void conn_flush(struct pl_conn *c) {
  if (c->state == PL_CONN_BUSY)
    conn_tell_answer(c);
  bool moved, was_waiting = c->want_write;
  enum pl_write_outcome outcome = conn_write(c, &moved);

  if (outcome == PL_WRITE_LOST) {
    c->reset = true;
    pl__conn_lose(c);
    return;
  }
  c->want_write = outcome == PL_WRITE_PENDING;
  if (!c->want_write)
    pl__deadline_disarm(&c->write_deadline);
  else if (moved || !was_waiting)
    conn_arm_write(c);
  if (c->want_write != was_waiting)
    pl__conn_watch(c);
  if (!c->want_write && c->state == PL_CONN_FINISHING)
    conn_finished(c);
}

void pl__conn_on_writable(struct pl_conn *c) {
  conn_flush(c);
  if (c->state != PL_CONN_CLOSING && !c->lost)
    conn_flushed_some(c);
}

void pl__conn_touch(struct pl_conn *c) { pl__conn_mark(c); }

void pl__net_flush(struct pl_net *net) {
  while (net->dirty) {
    struct pl_conn *c = net->dirty;

    net->dirty = c->next_dirty;
    c->dirty = false;
    if (c->lost || c->state == PL_CONN_CLOSING)
      continue;
    conn_flush(c);
    conn_flushed_some(c);
  }
}

static int conn_flush_now(struct pl_conn *c) {
  bool had_room = pl__conn_is_roomy(c);

  if (c->lost)
    return PL_EGONE;
  conn_flush(c);
  if (c->lost)
    return PL_EGONE;
  if (!had_room)
    conn_flushed_some(c); /* somebody else may wait for that */
  return c->want_write;
}

int pl__conn_flush(struct pl_conn *c) { return conn_flush_now(c); }

int pl__conn_pin(struct pl_conn *c, const char *at, size_t bytes,
                 const char *tail, uint32_t tail_bytes) {
  if (c->lost)
    return PL_EGONE;
  pl__writer_pin(&c->writer, at, bytes, tail, tail_bytes);
  return conn_flush_now(c);
}

int pl__conn_send_file(struct pl_conn *c, int fd, off_t offset, size_t bytes) {
  if (c->lost) {
    close(fd);
    return PL_EGONE;
  }
  pl__writer_file(&c->writer, fd, offset, bytes);
  return conn_flush_now(c);
}

void pl__conn_finish(struct pl_conn *c) {
  pl__conn_give_slot(c);
  pl__deadline_disarm(&c->read_deadline);
  c->state = PL_CONN_FINISHING;
  if (c->lost) {
    pl__conn_shut(c);
    return;
  }
  pl__conn_watch(c);
  pl__conn_mark(c);
}

/* No output has moved for timeouts.write. That alone says little: the kernel
 * calls a socket writable only once a third of its buffer is free, which takes
 * a slow peer minutes. */
void pl__conn_on_write_due(struct pl_conn *c) {
  if (conn_unacked(c) < c->unacked_bytes) {
    conn_arm_write(c);
    return;
  }
  c->reset = true;
  pl__conn_lose(c);
}
