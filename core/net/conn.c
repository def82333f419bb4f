/* net/conn.c - the life of one HTTP/1 connection, from accept to close.
 *
 * A connection owns a transport, a parser and a writer, and has at most one
 * request open (RFC 9112 9.3.2).  Pipelined bytes wait unparsed in its slab, so
 * responses leave in order by construction, and a client that does not read
 * cannot make us keep more than the writer's limit and one slab.
 *
 *        first byte       head, body to come      body complete
 *  IDLE ------------> HEAD ----------------> BODY -------------> BUSY
 *   ^ ^                | ^ `- streamed or no body -------------> | |
 *   | |                | |                                       | |
 *   | +----------------+ +--- room in the output --- FLUSHING <--+ |
 *   |   all answered         and the slab holds more               |
 *   +----------------------- DISCARD <-----------------------------+
 *                            answered before its body was complete
 *
 *  HEAD -> CLOSING, the socket handed over: HTTP/2's preface (net->on_h2)
 *  any state -> FINISHING (last response leaves) -> LINGER -> CLOSING
 *
 *  state      parses  slab  read deadline      left by
 *  IDLE       no      none  timeouts.idle      conn_receive
 *  HEAD       yes     held  timeouts.header    conn_on_head, conn_refuse
 *  BODY       yes     held  timeouts.body (2)  conn_dispatch, conn_refuse
 *  BUSY       body    held  timeouts.body (1)  pl__conn_end
 *  DISCARD    body    held  timeouts.body      conn_next
 *  FLUSHING   no      held  none               conn_flush
 *  FINISHING  no      none  none               conn_flush
 *  LINGER     no      none  LINGER             end of input
 *  CLOSING    no      none  none               the transport
 *
 *  (1) only while a handler waits for the body; the handler's own deadline
 *      isn't this file's.  The write deadline runs beside all of these while
 *      output doesn't move.
 *  (2) PL_DEADLINE_GATHER if it is chunked: nobody knows how much will come or
 *      when, so the handler starts without the rest once that is over, or once
 *      the slab is full.  It isn't started at once because a malformed chunk
 *      should be refused before any handler has run.
 *
 * Invariants; conn_check() asserts (1)-(3):
 *  (1) IDLE, FINISHING, LINGER and CLOSING hold no slab, the others do: the
 *      request lies in it;
 *  (2) bytes are received only while the slab has room: the back-pressure;
 *  (3) a request is open (between on_request and pl__conn_end) in BUSY only;
 *  (4) a lost connection with an open request waits for pl__conn_end in BUSY,
 *      watching nothing;
 *  (5) on_end runs once for each request whose first byte was understood as
 *      one: answered, refused or aborted.
 */
#include "net/conn.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "fabric/flights.h"
#include "http/problem.h"
#include "http/target.h"
#include "net/h2.h"
#include "net/slot.h"

#include <stddef.h>
#include <unistd.h>

/* What is read and thrown away to keep a connection whose request was answered
 * before its body was complete; more closes it. */
#define PL_CONN_DISCARD_BYTES_MAX 262144.0
/* Read in LINGER at most, for a peer that goes on sending. */
#define PL_CONN_LINGER_BYTES_MAX (64u << 20)
#define CONN_DISCARD_ROOM_BYTES 65536u
/* On top of limits.output: a head or a piece, an error's document, and what
 * has been sent but not yet been moved out (writer.c). */
#define CONN_OUTPUT_SLACK_BYTES (PL_LIMIT_EXTRA_BYTES + 2 * 65536u)

enum conn_state {
  IDLE,
  HEAD,
  BODY,
  BUSY,
  DISCARD,
  FLUSHING,
  FINISHING,
  LINGER,
  CLOSING
};

struct pl_conn {
  struct pl_net *net;
  struct pl_transport *transport;
  struct pl_slot *slot; /* NULL: none held */
  struct pl_writer writer;
  struct pl_deadline read_deadline;
  struct pl_deadline write_deadline;
  struct pl_list link; /* in net->conns */
  struct pl_conn *next_dirty;
  struct pl_peer peer;
  uint32_t request_count;
  uint32_t lingered_bytes;
  size_t unacked_bytes; /* when the write deadline was armed */
  uint8_t state;        /* enum conn_state */
  uint8_t listener;
  bool dirty;      /* in net->dirty */
  bool want_write; /* watching for writable */
  bool deaf;       /* idle, but the output is over its limit */
  bool eof;        /* the peer sends no more */
  bool lost;       /* nothing can be sent any more */
  bool reset;      /* close by reset: the response was cut */
  bool linger;     /* the peer may still be sending: close gently */
  bool awaiting_body;
  bool sniffing;           /* HTTP/2's preface may come */
  void *owner;             /* of the transport, if it isn't ours */
  struct pl_socket socket; /* last: not there over a foreign transport */
};

static void conn_advance(struct pl_conn *c);
static void conn_next(struct pl_conn *c);
static void conn_miss_input(struct pl_conn *c);

static void conn_check(const struct pl_conn *c) {
  bool held = c->state == HEAD || c->state == BODY || c->state == BUSY ||
              c->state == DISCARD || c->state == FLUSHING;
  PL_ASSERT((c->slot != NULL) == held);                          /* (1) */
  PL_ASSERT(!c->slot || c->slot->filled <= c->slot->data_bytes); /* (2) */
  PL_ASSERT(!c->slot || c->slot->parsed <= c->slot->filled);
  PL_ASSERT(c->state == BUSY || !c->awaiting_body); /* (3) */
  (void)held;
}

/* --- the slot ---------------------------------------------------------- */

static void conn_begin_request(struct pl_conn *c) {
  struct pl_req *req = &c->slot->req;

  pl__slot_begin(c->slot, c->net);
  req->listener = c->listener;
  req->out = &c->writer.out;
  req->conn = c;
}

/* False: no slab is left, as there may be fewer than connections. */
static bool conn_take_slot(struct pl_conn *c) {
  c->slot = pl__slot_take(c->net);
  if (!c->slot)
    return false;
  conn_begin_request(c);
  return true;
}

static void conn_give_slot(struct pl_conn *c) {
  if (!c->slot)
    return;
  pl__slot_give(c->slot, c->net->slabs);
  c->slot = NULL;
}

/* --- watching and closing ---------------------------------------------- */

static void conn_watch(struct pl_conn *c) {
  bool readable = !c->eof && !c->lost &&
                  (!c->slot || c->slot->filled < c->slot->data_bytes);

  if (c->state == CLOSING)
    return; /* the transport is closed */
  if (c->state == FINISHING || c->state == FLUSHING)
    readable = false; /* nothing it could say matters before all is sent */
  c->deaf = c->state == IDLE && !pl__conn_has_room(c);
  if (c->deaf)
    readable = false; /* no request more before it has taken some of that */
  c->transport->ops->watch(c->transport, readable, c->want_write && !c->lost);
}

static void conn_arm(struct pl_conn *c, enum pl_deadline_kind kind) {
  pl__deadline_arm(&c->net->deadlines, &c->read_deadline, kind, c->net->now);
}

static void conn_close(struct pl_conn *c) {
  if (c->state == CLOSING)
    return;
  conn_give_slot(c);
  c->state = CLOSING;
  c->awaiting_body = false;
  pl__deadline_disarm(&c->read_deadline);
  pl__deadline_disarm(&c->write_deadline);
  pl__writer_release(&c->writer);
  c->transport->ops->close(c->transport, c->reset);
}

/* Nothing can be sent any more. With a request open, the owner has to end it
 * first. */
static void conn_on_lost(struct pl_conn *c) {
  if (c->lost || c->state == CLOSING)
    return;
  c->lost = true;
  if (c->state != BUSY) {
    if (c->slot && c->state != DISCARD && c->state != FLUSHING &&
        pl__parser_begun(pl__slot_parser(c->slot))) {
      c->slot->req.flags |= PL_REQ_ABORTED;
      c->net->events.on_end(c->net->arg, c, &c->slot->req);
    }
    conn_close(c);
    return;
  }
  pl__deadline_disarm(&c->read_deadline);
  pl__deadline_disarm(&c->write_deadline);
  pl__writer_release(&c->writer);
  c->want_write = false;
  conn_watch(c);
  c->slot->req.flags |= PL_REQ_ABORTED;
  c->net->events.on_gone(c->net->arg, c, &c->slot->req);
}

bool pl__conn_is_lost(const struct pl_conn *c) { return c->lost; }

/* --- output ------------------------------------------------------------ */

/* All of the last response is with the transport. */
static void conn_finished(struct pl_conn *c) {
  if (!c->linger || c->eof) {
    conn_close(c);
    return;
  }
  /* Closing with bytes unread makes the kernel send a reset, which may destroy
   * the response before the client has read it (RFC 9112 9.6). */
  c->state = LINGER;
  c->transport->ops->shut_down(c->transport);
  conn_arm(c, PL_DEADLINE_LINGER);
  conn_watch(c);
}

bool pl__conn_has_room(const struct pl_conn *c) {
  return !pl__writer_is_pinned(&c->writer) &&
         pl__writer_waiting(&c->writer) < c->net->limits.output_bytes;
}

static void conn_flushed_some(struct pl_conn *c) {
  if (c->state == BUSY) {
    if (pl__conn_has_room(c))
      c->net->events.on_writable(c->net->arg, c, &c->slot->req);
  } else if (c->state == FLUSHING && pl__conn_has_room(c)) {
    conn_next(c);
  } else if (c->deaf) {
    conn_watch(c);
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
  if (c->state == BUSY)
    conn_tell_answer(c);
  bool moved, was_waiting = c->want_write;
  enum pl_write_outcome outcome = conn_write(c, &moved);

  if (outcome == PL_WRITE_LOST) {
    c->reset = true;
    conn_on_lost(c);
    return;
  }
  c->want_write = outcome == PL_WRITE_PENDING;
  if (!c->want_write)
    pl__deadline_disarm(&c->write_deadline);
  else if (moved || !was_waiting)
    conn_arm_write(c);
  if (c->want_write != was_waiting)
    conn_watch(c);
  if (!c->want_write && c->state == FINISHING)
    conn_finished(c);
}

void pl__conn_touch(struct pl_conn *c) {
  if (c->dirty)
    return;
  c->dirty = true;
  c->next_dirty = c->net->dirty;
  c->net->dirty = c;
}

void pl__net_flush(struct pl_net *net) {
  while (net->dirty) {
    struct pl_conn *c = net->dirty;

    net->dirty = c->next_dirty;
    c->dirty = false;
    if (c->lost || c->state == CLOSING)
      continue;
    conn_flush(c);
    conn_flushed_some(c);
  }
}

static int conn_flush_now(struct pl_conn *c) {
  bool had_room = pl__conn_has_room(c);

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

/* No more requests on this connection: what is in the output leaves, then it
 * closes. */
static void conn_finish(struct pl_conn *c) {
  conn_give_slot(c);
  pl__deadline_disarm(&c->read_deadline);
  c->state = FINISHING;
  if (c->lost) {
    conn_close(c);
    return;
  }
  conn_watch(c);
  pl__conn_touch(c);
}

/* --- requests ---------------------------------------------------------- */

/* Answers instead of a handler, and closes. */
static void conn_refuse(struct pl_conn *c, uint16_t status,
                        const char *detail) {
  struct pl_req *req = &c->slot->req;

  req->flags |= PL_REQ_CLOSE;
  req->flags &= ~(uint32_t)PL_REQ_KEEP_ALIVE;
  pl__extra_clear(req);
  if (pl__encode_problem(req, status, pl__slice_text(detail)))
    c->reset = true; /* no memory for even that */
  c->linger = true;
  c->net->events.on_end(c->net->arg, c, req);
  conn_finish(c);
}

static void conn_dispatch(struct pl_conn *c) {
  pl__deadline_disarm(&c->read_deadline);
  c->state = BUSY;
  c->net->events.on_request(c->net->arg, c, &c->slot->req);
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
    conn_refuse(c, 400, "The request target is malformed.");
    return;
  }
  pl__phase_set(net->phase, PL_PHASE_ROUTE);
  net->events.on_head(net->arg, c, req);
  pl__phase_set(net->phase, PL_PHASE_PARSE);
  if (pl__parser_check_length(req)) {
    conn_refuse(c, 413, "The request body is larger than this server takes.");
    return;
  }
  if ((req->flags & PL_REQ_BODY_DONE) || !conn_buffers_body(c)) {
    conn_dispatch(c);
    return;
  }
  c->state = BODY;
  conn_arm(c,
           req->flags & PL_REQ_CHUNKED ? PL_DEADLINE_GATHER : PL_DEADLINE_BODY);
}

static void conn_on_body_end(struct pl_conn *c) {
  c->slot->req.flags |= PL_REQ_BODY_DONE;
  if (c->state == BODY) {
    conn_dispatch(c);
  } else if (c->state == BUSY) {
    c->awaiting_body = false;
    pl__deadline_disarm(&c->read_deadline);
    c->net->events.on_body(c->net->arg, c, &c->slot->req);
  } else {
    conn_next(c);
  }
}

/* The body of a request that a handler has got can't be completed. */
static void conn_fail_body(struct pl_conn *c, uint16_t status) {
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
  if (c->state == BUSY) {
    conn_fail_body(c, status);
  } else if (c->state == DISCARD) {
    c->linger = true;
    conn_finish(c);
  } else {
    conn_refuse(c, status, detail);
  }
}

static void conn_on_body_bytes(struct pl_conn *c) {
  if (c->state == DISCARD) {
    pl__slot_drop_body(c->slot);
  } else if (c->state == BUSY) {
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
  if (c->state == BUSY)
    return !(c->slot->req.flags & PL_REQ_BODY_DONE) &&
           !c->slot->req.body_status;
  return c->state == HEAD || c->state == BODY || c->state == DISCARD;
}

/* The socket goes to who serves HTTP/2; this connection is no more. */
static void conn_hand_over(struct pl_conn *c) {
  struct pl_net *net = c->net;
  struct pl_slot *s = c->slot;
  int fd = c->transport->ops->release(c->transport);

  net->on_h2(net->h2_arg, fd, pl__slice(s->data, s->filled));
  conn_give_slot(c);
  c->state = CLOSING;
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
    conn_arm(c, PL_DEADLINE_HEADER);
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

/* Understands what has been received, as far as that goes. */
static void conn_advance(struct pl_conn *c) {
  _Atomic uint32_t *phase = c->net->phase;
  uint32_t before;

  if (c->sniffing && conn_sniff(c))
    return;
  before = pl__phase_enter(phase, PL_PHASE_PARSE);
  conn_parse(c);
  pl__phase_leave(phase, before);
  if (c->state == HEAD) {
    if (c->slot->filled == c->slot->data_bytes)
      conn_refuse(c, 431, "The request head is too large.");
    else if (!c->read_deadline.armed)
      conn_arm(c, PL_DEADLINE_HEADER);
  } else if (c->state == BODY && c->slot->filled == c->slot->data_bytes) {
    conn_dispatch(c);
  }
  /* Long chunk lines and trailers would fill the slab for good. */
  if ((c->state == BUSY || c->state == DISCARD) && !c->slot->req.body.bytes &&
      !(c->slot->req.flags & PL_REQ_BODY_DONE))
    pl__slot_drop_body(c->slot);
  if (c->eof) /* seen while these bytes had to wait */
    conn_miss_input(c);
  conn_watch(c);
  conn_check(c);
}

/* --- between requests -------------------------------------------------- */

static void conn_idle(struct pl_conn *c) {
  conn_give_slot(c);
  if (c->eof || c->net->draining) {
    conn_finish(c);
    return;
  }
  c->state = IDLE;
  conn_arm(c, PL_DEADLINE_IDLE);
  conn_watch(c);
}

/* The connection stays; what does the slab hold? */
static void conn_next(struct pl_conn *c) {
  struct pl_slot *s = c->slot;

  pl__deadline_disarm(&c->read_deadline);
  if (s->filled == s->parsed) {
    conn_idle(c);
    return;
  }
  if (!pl__conn_has_room(c)) {
    c->state = FLUSHING;
    conn_watch(c);
    return;
  }
  pl__slot_end(s);
  pl__slot_go_on(s, &c->net->limits.parser);
  conn_begin_request(c);
  c->state = HEAD;
  conn_advance(c);
}

/* The request was answered before all of its body was there. */
static void conn_discard(struct pl_conn *c) {
  struct pl_req *req = &c->slot->req;
  double left = req->content_length < 0
                    ? 0 /* not known: see conn_on_body_bytes, body_max */
                    : req->content_length - req->body_received;

  /* Who expects 100 (Continue) may send the body or not: nobody can tell. */
  if ((req->flags & PL_REQ_EXPECT) || req->body_status ||
      left > PL_CONN_DISCARD_BYTES_MAX) {
    c->linger = true;
    conn_finish(c);
    return;
  }
  req->body_max = req->body_received + PL_CONN_DISCARD_BYTES_MAX;
  c->state = DISCARD;
  pl__slot_drop_body(c->slot);
  conn_arm(c, PL_DEADLINE_BODY);
  conn_advance(c);
}

void pl__conn_end(struct pl_conn *c) {
  struct pl_req *req = &c->slot->req;

  PL_ASSERT(c->state == BUSY);
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
    conn_close(c);
    return;
  }
  pl__conn_touch(c);
  if (!(req->flags & PL_REQ_KEEP_ALIVE) || (req->flags & PL_REQ_CLOSE)) {
    if (!(req->flags & PL_REQ_BODY_DONE) || c->slot->filled > c->slot->parsed)
      c->linger = true;
    conn_finish(c);
  } else if (req->flags & PL_REQ_BODY_DONE) {
    conn_next(c);
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
  conn_watch(c);
}

void pl__conn_take_body(struct pl_conn *c, uint32_t bytes) {
  struct pl_slot *s = c->slot;
  struct pl_req *req = &s->req;

  PL_ASSERT(bytes <= req->body.bytes);
  req->body.at += bytes;
  req->body.bytes -= bytes;
  if (req->body.bytes == 0 && !(req->flags & PL_REQ_BODY_DONE)) {
    pl__slot_drop_body(s);
    conn_watch(c);
  }
}

void pl__conn_await_body(struct pl_conn *c) {
  if (c->lost || (c->slot->req.flags & PL_REQ_BODY_DONE))
    return;
  c->awaiting_body = true;
  conn_arm(c, PL_DEADLINE_BODY);
}

/* --- input ------------------------------------------------------------- */

/* No more requests; what is in the output, if anything, still leaves. */
static void conn_leave(struct pl_conn *c) {
  if (pl__writer_is_empty(&c->writer))
    conn_close(c);
  else
    conn_finish(c);
}

/* Input has ended: what still lacks some of it will never be complete. */
static void conn_miss_input(struct pl_conn *c) {
  struct pl_req *req = c->slot ? &c->slot->req : NULL;

  if (c->state == BUSY) {
    if (!(req->flags & PL_REQ_BODY_DONE) && !req->body_status)
      conn_fail_body(c, 400);
  } else if (c->state == HEAD || c->state == BODY) {
    if (pl__parser_begun(pl__slot_parser(c->slot))) {
      req->flags |= PL_REQ_ABORTED;
      c->net->events.on_end(c->net->arg, c, req);
    }
    conn_leave(c);
  } else if (c->state == DISCARD || c->state == IDLE) {
    conn_leave(c);
  }
}

static void conn_on_eof(struct pl_conn *c) {
  c->eof = true;
  conn_watch(c);
  conn_miss_input(c);
  /* It may be half-closed and still read what we send; but mostly it is gone,
   * and a handler that waits should learn that. */
  if (c->state == BUSY && !(c->slot->req.flags & PL_REQ_ABORTED)) {
    c->slot->req.flags |= PL_REQ_ABORTED;
    c->net->events.on_gone(c->net->arg, c, &c->slot->req);
  }
}

static void conn_receive_linger(struct pl_conn *c) {
  ssize_t n = c->transport->ops->receive(c->transport, c->net->discard,
                                         CONN_DISCARD_ROOM_BYTES);
  if (n == PL_TRANSPORT_AGAIN)
    return;
  c->lingered_bytes += n > 0 ? (uint32_t)n : 0;
  if (n <= 0 || c->lingered_bytes > PL_CONN_LINGER_BYTES_MAX)
    conn_close(c);
}

static ssize_t conn_read(struct pl_conn *c, char *to, uint32_t bytes) {
  uint32_t before = pl__phase_enter(c->net->phase, PL_PHASE_READ);
  ssize_t n = c->transport->ops->receive(c->transport, to, bytes);

  pl__phase_leave(c->net->phase, before);
  return n;
}

static void conn_receive(struct pl_conn *c) {
  bool fresh = c->slot == NULL;

  if (fresh && !conn_take_slot(c)) {
    c->net->refused_count++;
    conn_close(c);
    return;
  }
  struct pl_slot *s = c->slot;
  if (fresh)
    c->state = HEAD;
  if (s->filled == s->data_bytes)
    return;
  ssize_t n = conn_read(c, s->data + s->filled, s->data_bytes - s->filled);
  if (n > 0) {
    s->filled += (uint32_t)n;
    if (fresh)
      pl__deadline_disarm(&c->read_deadline);
    conn_advance(c);
    return;
  }
  if (fresh) { /* nothing of a request is there */
    conn_give_slot(c);
    c->state = IDLE;
  }
  if (n == 0)
    conn_on_eof(c);
  else if (n != PL_TRANSPORT_AGAIN)
    conn_on_lost(c);
}

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
  if (writable && c->want_write) {
    conn_flush(c);
    if (c->state != CLOSING && !c->lost)
      conn_flushed_some(c);
  }
  if (!readable || c->state == CLOSING || c->lost || c->eof)
    return;
  if (c->state == LINGER)
    conn_receive_linger(c);
  else if (c->state != FINISHING && c->state != FLUSHING)
    conn_receive(c);
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

/* --- deadlines --------------------------------------------------------- */

static void conn_on_read_due(struct pl_conn *c, enum pl_deadline_kind kind) {
  switch (kind) {
  case PL_DEADLINE_HEADER:
    conn_refuse(c, 408, "The request head did not come in time.");
    break;
  case PL_DEADLINE_BODY:
    if (c->state == BUSY)
      conn_fail_body(c, 408);
    else if (c->state == BODY)
      conn_refuse(c, 408, "The request body did not come in time.");
    else
      conn_finish(c);
    break;
  case PL_DEADLINE_GATHER:
    conn_dispatch(c);
    break;
  case PL_DEADLINE_IDLE:
    if (pl__writer_is_empty(&c->writer))
      conn_close(c);
    else /* it is still reading the last response, or timeouts.write ends it */
      conn_arm(c, PL_DEADLINE_IDLE);
    break;
  default: /* LINGER */
    conn_close(c);
  }
}

/* No output has moved for timeouts.write. That alone says little: the kernel
 * calls a socket writable only once a third of its buffer is free, which takes
 * a slow peer minutes. */
static void conn_on_write_due(struct pl_conn *c) {
  if (conn_unacked(c) < c->unacked_bytes) {
    conn_arm_write(c);
    return;
  }
  c->reset = true;
  conn_on_lost(c);
}

static void on_due(struct pl_deadline *d, enum pl_deadline_kind kind) {
  if (kind == PL_DEADLINE_WRITE) {
    conn_on_write_due(PL_LIST_ENTRY(d, struct pl_conn, write_deadline));
    return;
  }
  conn_on_read_due(PL_LIST_ENTRY(d, struct pl_conn, read_deadline), kind);
}

/* Those that nothing is done for make room. */
static void make_room(struct pl_net *net) {
  static const enum pl_deadline_kind waits[] = {
      PL_DEADLINE_IDLE, PL_DEADLINE_HEADER, PL_DEADLINE_LINGER};

  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
    pl__deadlines_hurry(&net->deadlines, waits[i], net->now, net->crowded_s,
                        on_due);
}

void pl__net_expire(struct pl_net *net) {
  pl__deadlines_expire(&net->deadlines, net->now, on_due);
  if (net->crowded_s > 0 && net->conn_count >= net->limits.connections_max)
    make_room(net);
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
  c->state = IDLE;
  pl__writer_init(&c->writer, net->buffers,
                  net->limits.output_bytes + CONN_OUTPUT_SLACK_BYTES);
  return c;
}

static void conn_start(struct pl_conn *c) {
  pl__list_push_back(&c->net->conns, &c->link);
  c->net->conn_count++;
  conn_arm(c, PL_DEADLINE_IDLE);
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

/* --- all of them ------------------------------------------------------- */

int pl__net_init(struct pl_net *net, const struct pl_net_limits *limits,
                 const struct pl_conn_events *events, void *arg,
                 struct pl_slabs *slabs, struct pl_buf_pool *buffers,
                 uint64_t id_seed) {
  memset(net, 0, sizeof *net);
  net->discard = pl__alloc(CONN_DISCARD_ROOM_BYTES);
  if (!net->discard)
    return PL_ENOMEM;
  net->limits = *limits;
  net->limits.seconds[PL_DEADLINE_GATHER] = PL_NET_GATHER_S;
  net->events = *events;
  net->arg = arg;
  net->slabs = slabs;
  net->buffers = buffers;
  net->id_seed = id_seed;
  net->phase = &net->own_phase;
  pl__list_init(&net->conns);
  pl__deadlines_init(&net->deadlines, net->limits.seconds);
  return 0;
}

void pl__net_set_limits(struct pl_net *net,
                        const struct pl_net_limits *limits) {
  net->limits = *limits;
  net->limits.seconds[PL_DEADLINE_GATHER] = PL_NET_GATHER_S;
  pl__deadlines_set(&net->deadlines, net->limits.seconds, net->now);
}

void pl__net_deinit(struct pl_net *net) {
  PL_ASSERT(net->conn_count == 0);
  pl__free(net->discard);
  net->discard = NULL;
}

void pl__net_drain_gently(struct pl_net *net) { net->draining = true; }

void pl__net_drain(struct pl_net *net) {
  struct pl_list *link, *after;

  net->draining = true;
  PL_LIST_EACH(link, after, &net->conns) {
    struct pl_conn *c = PL_LIST_ENTRY(link, struct pl_conn, link);
    if (c->state == IDLE)
      conn_receive(c); /* a request may be there already */
    if (c->state == IDLE)
      conn_leave(c);
    if (c->slot) {
      c->linger |= (c->slot->req.flags & PL_REQ_KEEP_ALIVE) != 0;
      c->slot->req.flags &= ~(uint32_t)PL_REQ_KEEP_ALIVE;
    }
  }
}

void pl__conn_close(struct pl_conn *c) {
  c->reset = c->state != IDLE;
  conn_on_lost(c);
}

void pl__net_close_all(struct pl_net *net) {
  struct pl_list *link, *after;

  PL_LIST_EACH(link, after, &net->conns)
  pl__conn_close(PL_LIST_ENTRY(link, struct pl_conn, link));
}
