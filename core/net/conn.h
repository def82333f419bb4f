/* net/conn.h - HTTP/1 connections: from accept to close.
 *
 * struct pl_net is what the connections of one worker share.  A connection
 * receives into a slab, parses, tells its owner about requests, and sends what
 * encoders put into req->out.  See conn_state.h for its states.
 *
 * Does not know Lua, routes or logs: news goes up through struct
 * pl_conn_events.  All calls are made on the worker's loop.
 */
#ifndef PL_NET_CONN_H
#define PL_NET_CONN_H

#include "base/buf.h"
#include "base/list.h"
#include "base/peer.h"
#include "fabric/slabs.h"
#include "http/encode.h"
#include "http/parser.h"
#include "http/request.h"
#include "net/deadlines.h"
#include "net/socket.h"
#include "net/writer.h"

#include <stdbool.h>

struct pl_conn;
struct sockaddr;

/* All calls come from the loop, never from inside a function of this header,
 * but for on_answer, on_end, on_closed and on_writable, which pl__conn_end, _abort,
 * _flush and _pin may cause. */
struct pl_conn_events {
  /* The head is complete: route it, set body_max and deadline. The body may
   * still be on its way. */
  void (*on_head)(void *arg, struct pl_conn *c, struct pl_req *req);
  /* It can be handled now; pl__conn_end must follow, once. Not from inside. */
  void (*on_request)(void *arg, struct pl_conn *c, struct pl_req *req);
  /* More of the body is there, or its end, or body_status. */
  void (*on_body)(void *arg, struct pl_conn *c, struct pl_req *req);
  /* Pinned bytes and files are free, and the output is below its limit. */
  void (*on_writable)(void *arg, struct pl_conn *c, struct pl_req *req);
  /* The client sends no more (it may still read), or with pl__conn_is_lost
   * nothing can be sent either and pinned bytes are free.  PL_REQ_ABORTED is
   * set.  May come twice; pl__conn_end must still come. */
  void (*on_gone)(void *arg, struct pl_conn *c, struct pl_req *req);
  /* The whole response is in the output, and before this returns none of the
   * bytes that were put there last has gone: what must be known of a request
   * before its client knows that it was answered.  At most once, before on_end;
   * not for what the handler answers and ends in one go.  May be NULL. */
  void (*on_answer)(void *arg, struct pl_conn *c, struct pl_req *req);
  /* The request is over, handled or refused (then route is 0): for the access
   * log. Everything in `req` is valid for the last time. */
  void (*on_end)(void *arg, struct pl_conn *c, struct pl_req *req);
  /* The connection is no more; its memory goes after this returns. */
  void (*on_closed)(void *arg, struct pl_conn *c);
};

struct pl_net_limits {
  /* By kind of deadline; that of PL_DEADLINE_GATHER is ours. */
  double seconds[PL_DEADLINE_COUNT];
  uint32_t output_bytes; /* waiting to be sent, per connection */
  struct pl_parser_limits parser;
  double body_bytes;     /* unless on_head sets another body_max */
  uint32_t requests_max; /* per connection; 0: no limit */
  uint32_t connections_max;
};

/* What the connections of a worker share. */
struct pl_net {
  struct pl_conn_events events;
  void *arg; /* of the events */
  struct pl_net_limits limits;
  struct pl_slabs *slabs;      /* borrowed */
  struct pl_buf_pool *buffers; /* borrowed */
  struct pl_deadlines deadlines;
  struct pl_http_env env;
  struct pl_list conns;  /* all of them */
  uint32_t conn_count;   /* those open, in-memory ones included */
  struct pl_conn *dirty; /* those with output to be sent this tick */
  double now;            /* monotonic seconds, set once per tick */
  double serial;         /* of the last request */
  double woken_at;       /* when the present poll had something; if !is_quiet */
  bool is_quiet;         /* the loop polls, and nothing has come yet */
  uint64_t accepted_count; /* connections from sockets, so far */
  uint64_t refused_count;  /* closed, since there was no memory for them */
  uint64_t id_seed;        /* request ids are mixed from it and serial */
  bool draining;
  /* Once limits.connections_max are there, those that have waited for a request,
   * for more of its head or body, for the client's end, or for it to read what it
   * was sent for as many seconds are closed, so that others get in; 0: not before
   * their time. */
  double crowded_s;
  /* Where HTTP/2 is served: gets the sockets of connections that begin with its
   * preface, and what has been received.  Takes over `fd`; `first` is valid
   * during the call.  NULL: such a connection is refused as any bad request. */
  void (*on_h2)(void *arg, int fd, struct pl_slice first);
  void *h2_arg;
  char *discard;           /* where unwanted bytes are received to */
  _Atomic uint32_t *phase; /* enum pl_phase: what we do; own_phase at first */
  _Atomic uint32_t own_phase;
};

/* Bytes that a slab must have for these limits. */
uint32_t pl__net_slab_bytes(const struct pl_net_limits *limits);

/* Everything pointed to must outlive it. 0 or PL_ENOMEM. */
int pl__net_init(struct pl_net *net, const struct pl_net_limits *limits,
                 const struct pl_conn_events *events, void *arg,
                 struct pl_slabs *slabs, struct pl_buf_pool *buffers,
                 uint64_t id_seed);
/* Other limits from now on; those of the parser, and with them the size of
 * slabs, must be the same. */
void pl__net_set_limits(struct pl_net *net, const struct pl_net_limits *limits);
/* No connection may be open. */
void pl__net_deinit(struct pl_net *net);
/* Sends the output of this tick, one send per connection. */
void pl__net_flush(struct pl_net *net);
/* Ends what is over its time. */
void pl__net_expire(struct pl_net *net);
/* Every connection is closed with the answer to its next request. */
void pl__net_drain_gently(struct pl_net *net);
/* Closes idle connections now, the others after their request. What an idle
 * one has sent already is still read: on_head and on_request may come. */
void pl__net_drain(struct pl_net *net);
/* Closes a connection, whatever it is doing; a request that somebody has is to
 * be ended by them, as when the client is gone. */
void pl__conn_close(struct pl_conn *c);
/* Closes every connection, whatever it is doing. */
void pl__net_close_all(struct pl_net *net);

/* A new connection over an accepted socket; takes over `fd`, also on failure.
 * listener: index of the address it came in by. 0, PL_ENOMEM or a UV_E*. */
int pl__conn_accept(struct pl_net *net, uv_loop_t *loop, int fd,
                    const struct sockaddr *peer, uint8_t listener);
/* A new connection over a transport of the caller's, which must outlive it
 * until on_closed; transport->events is set here.  NULL: no memory. */
struct pl_conn *pl__conn_open(struct pl_net *net, struct pl_transport *t,
                              const struct pl_peer *peer, void *owner);
/* What pl__conn_open was given; NULL for sockets. */
void *pl__conn_owner(const struct pl_conn *c);

/* The request is handled: keep-alive, next pipelined one, or close.  A response
 * that isn't complete closes the connection. */
void pl__conn_end(struct pl_conn *c);
/* req->out has bytes: they are sent at the end of the tick. */
void pl__conn_touch(struct pl_conn *c);
/* Sends what there is now. 0: all is sent; 1: some waits, on_writable comes;
 * PL_EGONE. */
int pl__conn_flush(struct pl_conn *c);
/* Sends req->out, then `bytes` without copying them, then `tail` (static; may
 * be NULL). As pl__conn_flush; with 1 the bytes must stay until on_writable or
 * on_gone. */
int pl__conn_pin(struct pl_conn *c, const char *at, size_t bytes,
                 const char *tail, uint32_t tail_bytes);
/* The same with a part of a file; takes over fd. */
int pl__conn_send_file(struct pl_conn *c, int fd, off_t offset, size_t bytes);
/* Whether more may be put into req->out. */
bool pl__conn_has_room(const struct pl_conn *c);
/* The first `bytes` of req->body have been consumed. */
void pl__conn_take_body(struct pl_conn *c, uint32_t bytes);
/* Somebody waits for the body: timeouts.body runs until more of it comes. */
void pl__conn_await_body(struct pl_conn *c);
/* Closes without finishing the response; pl__conn_end must still come. */
void pl__conn_abort(struct pl_conn *c);
/* Nothing can be sent any more. */
bool pl__conn_is_lost(const struct pl_conn *c);
/* The peer's address. */
const struct pl_peer *pl__conn_peer(const struct pl_conn *c);

#endif /* PL_NET_CONN_H */
