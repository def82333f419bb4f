/* net/slot.h - a request with all that belongs to it, as it lies in its slab:
 *
 *   | struct pl_slot | header array | received bytes ...       | path scratch |
 *                                   ^ data    ^ parsed  ^ filled
 *
 * An idle connection holds none.  Does not know sockets, nor what state its
 * connection is in.
 */
#ifndef PL_NET_SLOT_H
#define PL_NET_SLOT_H

#include "base/arena.h"
#include "net/conn.h"

struct pl_slot {
  struct pl_req req;
  union pl_parser_room parser;
  struct pl_arena arena;
  struct pl_buf extra;
  struct pl_header *headers;
  char *scratch;       /* for a decoded path */
  char *data;          /* received bytes */
  uint32_t data_bytes; /* room for them */
  uint32_t filled;     /* received */
  uint32_t parsed;     /* of them, understood */
  uint32_t body_base;  /* where the body's bytes begin */
};

static inline struct pl_parser *pl__slot_parser(struct pl_slot *s) {
  return (struct pl_parser *)&s->parser;
}

/* Takes a slab and lays it out, with nothing received.  NULL: none is left. */
struct pl_slot *pl__slot_take(struct pl_net *net);
/* Gives it back, and what its request had. */
void pl__slot_give(struct pl_slot *s, struct pl_slabs *slabs);

/* Clears the request and gives it a serial and an id; its connection, output and
 * listener are for the caller to set. */
void pl__slot_begin(struct pl_slot *s, struct pl_net *net);
/* The request is over: frees what it had. */
void pl__slot_end(struct pl_slot *s);
/* Gets ready to parse the next request among the bytes that are there: they are
 * moved down when a whole head might not fit behind them. */
void pl__slot_go_on(struct pl_slot *s, const struct pl_parser_limits *l);
/* Body bytes that nobody reads, and framing, make room at once. */
void pl__slot_drop_body(struct pl_slot *s);

#endif /* PL_NET_SLOT_H */
