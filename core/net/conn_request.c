/* net/conn_request.c - understands what a connection has received, request by
 * request, and goes from one to the next.
 */
#include "net/conn_state.h"

#include "fabric/flights.h"
#include "http/problem.h"
#include "http/target.h"
#include "net/h2.h"

/* What is read and thrown away to keep a connection whose request was answered
 * before its body was complete; more closes it. */
#define DISCARD_BYTES_MAX 262144.0

void pl__conn_refuse(struct pl_conn *c, uint16_t status, const char *detail) {
  struct pl_req *req = &c->slot->req;

  req->flags |= PL_REQ_CLOSE;
  req->flags &= ~(uint32_t)PL_REQ_KEEP_ALIVE;
  pl__extra_clear(req);
  if (pl__encode_problem(req, status, pl__slice_text(detail)))
    c->reset = true; /* no memory for even that */
  c->linger = true;
  c->net->events.on_end(c->net->arg, c, req);
  pl__conn_finish(c);
}

/* Whether the whole body will (or, chunked, may) lie in the slab: then the
 * handler starts when it is there, and never waits for it. */
static bool conn_buffers_body(const struct pl_conn *c) {
  const struct pl_slot *s = c->slot;

  if (s->req.flags & PL_REQ_EXPECT)
    return false;
  if (s->req.flags & PL_REQ_CHUNKED)
    return true;
  return s->req.content_length <= s->data_bytes - s->parsed;
}

static void conn_on_head(struct pl_conn *c) {
  struct pl_slot *s = c->slot;
  struct pl_req *req = &s->req;
  struct pl_net *net = c->net;

  req->received = net->now;
  s->body_base = s->parsed;
  req->body = pl__slice(s->data + s->body_base, 0);
  if (net->draining || (net->limits.requests_max &&
                        c->request_count + 1 >= net->limits.requests_max)) {
    /* A client that wants to go on may have sent more already. */
    c->linger |= (req->flags & PL_REQ_KEEP_ALIVE) != 0;
    req->flags &= ~(uint32_t)PL_REQ_KEEP_ALIVE;
  }
  if (pl__target_parse(req, s->scratch, net->limits.parser.target_bytes)) {
    pl__conn_refuse(c, 400, "The request target is malformed.");
    return;
  }
  pl__phase_set(net->phase, PL_PHASE_ROUTE);
  net->events.on_head(net->arg, c, req);
  pl__phase_set(net->phase, PL_PHASE_PARSE);
  if (pl__parser_check_length(req)) {
    pl__conn_refuse(c, 413,
                    "The request body is larger than this server takes.");
    return;
  }
  if ((req->flags & PL_REQ_BODY_DONE) || !conn_buffers_body(c)) {
    pl__conn_dispatch(c);
    return;
  }
  c->state = PL_CONN_BODY;
  pl__conn_arm(c, req->flags & PL_REQ_CHUNKED ? PL_DEADLINE_GATHER
                                              : PL_DEADLINE_BODY);
}

static void conn_on_body_end(struct pl_conn *c) {
  c->slot->req.flags |= PL_REQ_BODY_DONE;
  if (c->state == PL_CONN_BODY) {
    pl__conn_dispatch(c);
  } else if (c->state == PL_CONN_BUSY) {
    c->awaiting_body = false;
    pl__deadline_disarm(&c->read_deadline);
    c->net->events.on_body(c->net->arg, c, &c->slot->req);
  } else {
    pl__conn_next(c);
  }
}

void pl__conn_fail_body(struct pl_conn *c, uint16_t status) {
  struct pl_req *req = &c->slot->req;

  req->body_status = status;
  req->flags |= PL_REQ_CLOSE;
  req->flags &= ~(uint32_t)PL_REQ_KEEP_ALIVE;
  c->linger = true;
  c->awaiting_body = false;
  pl__deadline_disarm(&c->read_deadline);
  c->net->events.on_body(c->net->arg, c, req);
}

static void conn_on_bad(struct pl_conn *c) {
  uint16_t status;
  const char *detail;

  pl__parser_error(pl__slot_parser(c->slot), &status, &detail);
  if (c->state == PL_CONN_BUSY) {
    pl__conn_fail_body(c, status);
  } else if (c->state == PL_CONN_DISCARD) {
    c->linger = true;
    pl__conn_finish(c);
  } else {
    pl__conn_refuse(c, status, detail);
  }
}

static void conn_on_body_bytes(struct pl_conn *c) {
  if (c->state == PL_CONN_DISCARD) {
    pl__slot_drop_body(c->slot);
  } else if (c->state == PL_CONN_BUSY) {
    if (c->awaiting_body) { /* what was awaited is there */
      c->awaiting_body = false;
      pl__deadline_disarm(&c->read_deadline);
    }
    c->net->events.on_body(c->net->arg, c, &c->slot->req);
  }
}

static bool conn_parses(const struct pl_conn *c) {
  if (!c->slot || c->slot->parsed == c->slot->filled)
    return false;
  if (c->state == PL_CONN_BUSY)
    return !(c->slot->req.flags & PL_REQ_BODY_DONE) &&
           !c->slot->req.body_status;
  return c->state == PL_CONN_HEAD || c->state == PL_CONN_BODY ||
         c->state == PL_CONN_DISCARD;
}

/* The socket goes to who serves HTTP/2; this connection is no more. */
static void conn_hand_over(struct pl_conn *c) {
  struct pl_net *net = c->net;
  struct pl_slot *s = c->slot;
  int fd = c->transport->ops->release(c->transport);

  net->on_h2(net->h2_arg, fd, pl__slice(s->data, s->filled));
  pl__conn_give_slot(c);
  c->state = PL_CONN_CLOSING;
  pl__deadline_disarm(&c->read_deadline);
}

/* Whether the first bytes still have to be told apart, or were HTTP/2's. */
static bool conn_sniff(struct pl_conn *c) {
  enum pl_h2_preface preface =
      pl__h2_preface(pl__slice(c->slot->data, c->slot->filled));

  if (preface == PL_H2_PREFACE_YES) {
    conn_hand_over(c);
    return true;
  }
  c->sniffing = preface == PL_H2_PREFACE_MORE;
  if (c->sniffing && !c->read_deadline.armed)
    pl__conn_arm(c, PL_DEADLINE_HEADER);
  return c->sniffing;
}

static void conn_parse(struct pl_conn *c) {
  while (conn_parses(c)) {
    struct pl_slot *s = c->slot;
    uint32_t used = 0, had = s->req.body.bytes;
    enum pl_parse_outcome outcome =
        pl__parser_run(pl__slot_parser(s), &s->req, s->data + s->parsed,
                       s->filled - s->parsed, &used);
    s->parsed += used;
    if (outcome == PL_PARSE_HEAD)
      conn_on_head(c);
    else if (outcome == PL_PARSE_DONE)
      conn_on_body_end(c);
    else if (outcome == PL_PARSE_BAD)
      conn_on_bad(c);
    else if (s->req.body.bytes > had)
      conn_on_body_bytes(c);
    else
      break;
  }
}

void pl__conn_advance(struct pl_conn *c) {
  _Atomic uint32_t *phase = c->net->phase;
  uint32_t before;

  if (c->sniffing && conn_sniff(c))
    return;
  before = pl__phase_enter(phase, PL_PHASE_PARSE);
  conn_parse(c);
  pl__phase_leave(phase, before);
  if (c->state == PL_CONN_HEAD) {
    if (c->slot->filled == c->slot->data_bytes)
      pl__conn_refuse(c, 431, "The request head is too large.");
    else if (!c->read_deadline.armed)
      pl__conn_arm(c, PL_DEADLINE_HEADER);
  } else if (c->state == PL_CONN_BODY &&
             c->slot->filled == c->slot->data_bytes) {
    pl__conn_dispatch(c);
  }
  /* Long chunk lines and trailers would fill the slab for good. */
  if ((c->state == PL_CONN_BUSY || c->state == PL_CONN_DISCARD) &&
      !c->slot->req.body.bytes && !(c->slot->req.flags & PL_REQ_BODY_DONE))
    pl__slot_drop_body(c->slot);
  if (c->eof) /* seen while these bytes had to wait */
    pl__conn_miss_input(c);
  pl__conn_watch(c);
  pl__conn_check(c);
}

/* --- between requests -------------------------------------------------- */

static void conn_idle(struct pl_conn *c) {
  pl__conn_give_slot(c);
  if (c->eof || c->net->draining) {
    pl__conn_finish(c);
    return;
  }
  c->state = PL_CONN_IDLE;
  pl__conn_arm(c, PL_DEADLINE_IDLE);
  pl__conn_watch(c);
}

void pl__conn_next(struct pl_conn *c) {
  struct pl_slot *s = c->slot;

  pl__deadline_disarm(&c->read_deadline);
  if (s->filled == s->parsed) {
    conn_idle(c);
    return;
  }
  if (!pl__conn_is_roomy(c)) {
    c->state = PL_CONN_FLUSHING;
    pl__conn_watch(c);
    return;
  }
  pl__slot_end(s);
  pl__slot_go_on(s, &c->net->limits.parser);
  pl__conn_begin_request(c);
  c->state = PL_CONN_HEAD;
  pl__conn_advance(c);
}

/* The request was answered before all of its body was there. */
static void conn_discard(struct pl_conn *c) {
  struct pl_req *req = &c->slot->req;
  double left = req->content_length < 0
                    ? 0 /* not known: see conn_on_body_bytes, body_max */
                    : req->content_length - req->body_received;

  /* Who expects 100 (Continue) may send the body or not: nobody can tell. */
  if ((req->flags & PL_REQ_EXPECT) || req->body_status ||
      left > DISCARD_BYTES_MAX) {
    c->linger = true;
    pl__conn_finish(c);
    return;
  }
  req->body_max = req->body_received + DISCARD_BYTES_MAX;
  c->state = PL_CONN_DISCARD;
  pl__slot_drop_body(c->slot);
  pl__conn_arm(c, PL_DEADLINE_BODY);
  pl__conn_advance(c);
}

void pl__conn_end(struct pl_conn *c) {
  struct pl_req *req = &c->slot->req;

  PL_ASSERT(c->state == PL_CONN_BUSY);
  if (!(req->flags & PL_REQ_DONE) && !c->lost) {
    c->reset = true; /* the client must not take a part for the whole */
    c->lost = true;
    req->flags |= PL_REQ_ABORTED;
  }
  c->net->events.on_end(c->net->arg, c, req);
  req->serial = 0; /* also while the slot waits for room or discards */
  c->request_count++;
  c->awaiting_body = false;
  if (c->lost) {
    pl__conn_shut(c);
    return;
  }
  pl__conn_mark(c);
  if (!(req->flags & PL_REQ_KEEP_ALIVE) || (req->flags & PL_REQ_CLOSE)) {
    if (!(req->flags & PL_REQ_BODY_DONE) || c->slot->filled > c->slot->parsed)
      c->linger = true;
    pl__conn_finish(c);
  } else if (req->flags & PL_REQ_BODY_DONE) {
    pl__conn_next(c);
  } else {
    conn_discard(c);
  }
}

void pl__conn_abort(struct pl_conn *c) {
  c->reset = true;
  c->lost = true;
  c->slot->req.flags |= PL_REQ_ABORTED;
  pl__deadline_disarm(&c->read_deadline);
  pl__deadline_disarm(&c->write_deadline);
  pl__writer_release(&c->writer);
  c->want_write = false;
  pl__conn_watch(c);
}

void pl__conn_take_body(struct pl_conn *c, uint32_t bytes) {
  struct pl_slot *s = c->slot;
  struct pl_req *req = &s->req;

  PL_ASSERT(bytes <= req->body.bytes);
  req->body.at += bytes;
  req->body.bytes -= bytes;
  if (req->body.bytes == 0 && !(req->flags & PL_REQ_BODY_DONE)) {
    pl__slot_drop_body(s);
    pl__conn_watch(c);
  }
}

void pl__conn_await_body(struct pl_conn *c) {
  if (c->lost || (c->slot->req.flags & PL_REQ_BODY_DONE))
    return;
  c->awaiting_body = true;
  pl__conn_arm(c, PL_DEADLINE_BODY);
}
