/* server/grpc_conns.h - connections over which gRPC health is asked.
 *
 * Takes over sockets whose clients speak HTTP/2 (struct pl_net's on_h2) and
 * keeps them: receives and sends for their sessions, ends those that are idle,
 * dead or slow.  All calls are made on the loop's thread.
 */
#ifndef PL_SERVER_GRPC_CONNS_H
#define PL_SERVER_GRPC_CONNS_H

#include "base/list.h"
#include "base/slice.h"
#include "server/grpc_health.h"

#include <stdint.h>
#include <uv.h>

#define PL_GRPC_CONN_COUNT 64u       /* more are closed at once, unless ... */
#define PL_GRPC_CONN_SPARED_MS 250   /* ... one is quiet that long: it goes */
#define PL_GRPC_CONN_IDLE_MS 300000  /* without a call: told to go */
#define PL_GRPC_CONN_QUIET_MS 60000  /* with one, nothing heard: asked */
#define PL_GRPC_CONN_ANSWER_MS 20000 /* asked, nothing heard: closed */
#define PL_GRPC_CONN_WRITE_MS 20000  /* takes nothing of what is sent: closed */
#define PL_GRPC_CONN_READ_BYTES 16384u

struct pl_grpc_conns {
  uv_loop_t *loop; /* borrowed */
  struct pl_grpc_health health;
  uv_timer_t timer; /* runs while there are connections */
  struct pl_list conns;
  uint32_t count; /* of them, those that are being closed too */
  char room[PL_GRPC_CONN_READ_BYTES]; /* what is received goes here first */
};

/* Begins; the source's rules are those of grpc_health.h. */
void pl__grpc_conns_open(struct pl_grpc_conns *p, uv_loop_t *loop,
                         const struct pl_grpc_health_source *source);
/* One connection more: takes over `fd` (connected, non-blocking), from which
 * `first` has been received. A pl_net's on_h2, with `p` for arg. */
void pl__grpc_conns_take(void *p, int fd, struct pl_slice first);
/* What the source says may have changed. */
void pl__grpc_conns_changed(struct pl_grpc_conns *p);
/* Ends every Watch, and the connections once they are idle; new ones may be
 * taken. */
void pl__grpc_conns_drain(struct pl_grpc_conns *p);
/* Closes everything now.  The memory of `p` is the caller's again when the loop
 * has run all that is being closed. */
void pl__grpc_conns_close(struct pl_grpc_conns *p);

#endif /* PL_SERVER_GRPC_CONNS_H */
