/* net/conn_state.h - what a connection is made of, and its states.
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
 *  state      parses  slab  read deadline      left by pl__conn_
 *  IDLE       no      none  timeouts.idle      receive
 *  HEAD       yes     held  timeouts.header    on_head, refuse
 *  BODY       yes     held  timeouts.body (2)  dispatch, refuse
 *  BUSY       body    held  timeouts.body (1)  end
 *  DISCARD    body    held  timeouts.body      next
 *  FLUSHING   no      held  none               flush
 *  FINISHING  no      none  none               flush
 *  LINGER     no      none  LINGER             end of input
 *  CLOSING    no      none  none               the transport
 *
 *  (1) only while a handler waits for the body; the handler's own deadline
 *      is not ours.  The write deadline runs beside all of these while
 *      output doesn't move.
 *  (2) PL_DEADLINE_GATHER if it is chunked: nobody knows how much will come or
 *      when, so the handler starts without the rest once that is over, or once
 *      the slab is full.  It isn't started at once because a malformed chunk
 *      should be refused before any handler has run.
 *
 * Invariants; pl__conn_check() asserts (1)-(3):
 *  (1) IDLE, FINISHING, LINGER and CLOSING hold no slab, the others do: the
 *      request lies in it;
 *  (2) bytes are received only while the slab has room: the back-pressure;
 *  (3) a request is open (between on_request and pl__conn_end) in BUSY only;
 *  (4) a lost connection with an open request waits for pl__conn_end in BUSY,
 *      watching nothing;
 *  (5) on_end runs once for each request whose first byte was understood as
 *      one: answered, refused or aborted.
 *
 * Only the files of connections include it:
 *
 *     conn.c           opening, watching, closing
 *     conn_input.c     bytes that come in, and their end
 *     conn_request.c   what is understood of them, request by request
 *     conn_output.c    bytes that leave
 *     conns.c          all connections of a worker
 */
#ifndef PL_NET_CONN_STATE_H
#define PL_NET_CONN_STATE_H

#include "base/check.h"
#include "net/conn.h"
#include "net/slot.h"

#define PL_CONN_DISCARD_ROOM_BYTES 65536u /* of net->discard */

enum pl_conn_state {
  PL_CONN_IDLE,
  PL_CONN_HEAD,
  PL_CONN_BODY,
  PL_CONN_BUSY,
  PL_CONN_DISCARD,
  PL_CONN_FLUSHING,
  PL_CONN_FINISHING,
  PL_CONN_LINGER,
  PL_CONN_CLOSING
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
  uint8_t state;        /* enum pl_conn_state */
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

static inline void pl__conn_check(const struct pl_conn *c) {
  bool held = c->state == PL_CONN_HEAD || c->state == PL_CONN_BODY ||
              c->state == PL_CONN_BUSY || c->state == PL_CONN_DISCARD ||
              c->state == PL_CONN_FLUSHING;
  PL_ASSERT((c->slot != NULL) == held);                          /* (1) */
  PL_ASSERT(!c->slot || c->slot->filled <= c->slot->data_bytes); /* (2) */
  PL_ASSERT(!c->slot || c->slot->parsed <= c->slot->filled);
  PL_ASSERT(c->state == PL_CONN_BUSY || !c->awaiting_body); /* (3) */
  (void)held;
}

/* --- in each request ------------------------------------------------------ */

/* Its read deadline, from now on. */
static inline void pl__conn_arm(struct pl_conn *c, enum pl_deadline_kind kind) {
  pl__deadline_arm(&c->net->deadlines, &c->read_deadline, kind, c->net->now);
}

static inline void pl__conn_begin_request(struct pl_conn *c) {
  struct pl_req *req = &c->slot->req;

  pl__slot_begin(c->slot, c->net);
  req->listener = c->listener;
  req->out = &c->writer.out;
  req->conn = c;
}

/* Hands the request to its owner. */
static inline void pl__conn_dispatch(struct pl_conn *c) {
  pl__deadline_disarm(&c->read_deadline);
  c->state = PL_CONN_BUSY;
  c->net->events.on_request(c->net->arg, c, &c->slot->req);
}

static inline void pl__conn_give_slot(struct pl_conn *c) {
  if (!c->slot)
    return;
  pl__slot_give(c->slot, c->net->slabs);
  c->slot = NULL;
}

/* Nothing is pinned, and the output is below its limit. */
static inline bool pl__conn_is_roomy(const struct pl_conn *c) {
  return !pl__writer_is_pinned(&c->writer) &&
         pl__writer_waiting(&c->writer) < c->net->limits.output_bytes;
}

/* There is output, to be sent with that of the tick. */
static inline void pl__conn_mark(struct pl_conn *c) {
  if (c->dirty)
    return;
  c->dirty = true;
  c->next_dirty = c->net->dirty;
  c->net->dirty = c;
}

/* --- conn.c --------------------------------------------------------------- */

/* Watches for what its state can do something with. */
void pl__conn_watch(struct pl_conn *c);
/* Closes the transport; on_closed comes later. */
void pl__conn_shut(struct pl_conn *c);
/* Nothing can be sent any more. With a request open, the owner has to end it
 * first. */
void pl__conn_lose(struct pl_conn *c);

/* --- conn_input.c --------------------------------------------------------- */

/* Reads what is there, once, and advances. */
void pl__conn_receive(struct pl_conn *c);
/* The same in LINGER: it is thrown away. */
void pl__conn_receive_linger(struct pl_conn *c);
/* Input has ended: what still lacks some of it will never be complete. */
void pl__conn_miss_input(struct pl_conn *c);
/* No more requests; what is in the output, if anything, still leaves. */
void pl__conn_leave(struct pl_conn *c);

/* --- conn_request.c ------------------------------------------------------- */

/* Understands what has been received, as far as that goes. */
void pl__conn_advance(struct pl_conn *c);
/* Answers instead of a handler, and closes. */
void pl__conn_refuse(struct pl_conn *c, uint16_t status, const char *detail);
/* The body of a request that a handler has got can't be completed. */
void pl__conn_fail_body(struct pl_conn *c, uint16_t status);
/* The connection stays; what does the slab hold? */
void pl__conn_next(struct pl_conn *c);

/* --- conn_output.c -------------------------------------------------------- */

/* The transport takes bytes again. */
void pl__conn_on_writable(struct pl_conn *c);
/* No more requests on this connection: what is in the output leaves, then it
 * closes. */
void pl__conn_finish(struct pl_conn *c);
/* No output has moved for timeouts.write. */
void pl__conn_on_write_due(struct pl_conn *c);

#endif /* PL_NET_CONN_STATE_H */
