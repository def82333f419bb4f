/* net/conns.c - all connections of a worker: their limits, what is over its
 * time, and their end.
 */
#include "net/conn_state.h"

#include "base/alloc.h"
#include "base/err.h"

int pl__net_init(struct pl_net *net, const struct pl_net_limits *limits,
                 const struct pl_conn_events *events, void *arg,
                 struct pl_slabs *slabs, struct pl_buf_pool *buffers,
                 uint64_t id_seed) {
  memset(net, 0, sizeof *net);
  net->discard = pl__alloc(PL_CONN_DISCARD_ROOM_BYTES);
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

/* --- deadlines --------------------------------------------------------- */

static void conn_on_read_due(struct pl_conn *c, enum pl_deadline_kind kind) {
  switch (kind) {
  case PL_DEADLINE_HEADER:
    pl__conn_refuse(c, 408, "The request head did not come in time.");
    break;
  case PL_DEADLINE_BODY:
    if (c->state == PL_CONN_BUSY)
      pl__conn_fail_body(c, 408);
    else if (c->state == PL_CONN_BODY)
      pl__conn_refuse(c, 408, "The request body did not come in time.");
    else
      pl__conn_finish(c);
    break;
  case PL_DEADLINE_GATHER:
    pl__conn_dispatch(c);
    break;
  case PL_DEADLINE_IDLE:
    if (pl__writer_is_empty(&c->writer))
      pl__conn_shut(c);
    else /* it is still reading the last response, or timeouts.write ends it */
      pl__conn_arm(c, PL_DEADLINE_IDLE);
    break;
  default: /* LINGER */
    pl__conn_shut(c);
  }
}

static void on_due(struct pl_deadline *d, enum pl_deadline_kind kind) {
  if (kind == PL_DEADLINE_WRITE) {
    pl__conn_on_write_due(PL_LIST_ENTRY(d, struct pl_conn, write_deadline));
    return;
  }
  conn_on_read_due(PL_LIST_ENTRY(d, struct pl_conn, read_deadline), kind);
}

/* Those that nothing is done for make room: they say nothing, or don't read. */
static void make_room(struct pl_net *net) {
  static const enum pl_deadline_kind waits[] = {
      PL_DEADLINE_IDLE, PL_DEADLINE_HEADER, PL_DEADLINE_LINGER,
      PL_DEADLINE_BODY, PL_DEADLINE_WRITE};

  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
    pl__deadlines_hurry(&net->deadlines, waits[i], net->now, net->crowded_s,
                        on_due);
}

void pl__net_expire(struct pl_net *net) {
  pl__deadlines_expire(&net->deadlines, net->now, on_due);
  if (net->crowded_s > 0 && net->conn_count >= net->limits.connections_max)
    make_room(net);
}

/* --- the end ------------------------------------------------------------- */

void pl__net_drain_gently(struct pl_net *net) { net->draining = true; }

void pl__net_drain(struct pl_net *net) {
  struct pl_list *link, *after;

  net->draining = true;
  PL_LIST_EACH(link, after, &net->conns) {
    struct pl_conn *c = PL_LIST_ENTRY(link, struct pl_conn, link);
    if (c->state == PL_CONN_IDLE)
      pl__conn_receive(c); /* a request may be there already */
    if (c->state == PL_CONN_IDLE)
      pl__conn_leave(c);
    if (c->slot) {
      c->linger |= (c->slot->req.flags & PL_REQ_KEEP_ALIVE) != 0;
      c->slot->req.flags &= ~(uint32_t)PL_REQ_KEEP_ALIVE;
    }
  }
}

void pl__net_close_all(struct pl_net *net) {
  struct pl_list *link, *after;

  PL_LIST_EACH(link, after, &net->conns)
  pl__conn_close(PL_LIST_ENTRY(link, struct pl_conn, link));
}
