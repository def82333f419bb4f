/* net/listener.h - accepts connections from one listening socket.
 *
 * The socket belongs to the master, which keeps it open when this worker dies;
 * a listener only watches it.  It stops accepting while the worker is at its
 * limit of connections, and for a moment when descriptors are used up: clients
 * then wait in the kernel's queue.
 */
#ifndef PL_NET_LISTENER_H
#define PL_NET_LISTENER_H

#include "net/conn.h"

#define PL_LISTENER_BATCH 64 /* accepted in one turn of the loop */

struct pl_listener {
  struct pl_net *net;
  uv_loop_t *loop;
  uv_poll_t poll;
  int fd;
  uint8_t index; /* of the address */
  bool watching;
  bool open;
  bool starved; /* the last accept found no descriptor */
};

/* Watches `fd` (listening, non-blocking). 0 or a UV_E*. */
int pl__listener_open(struct pl_listener *l, struct pl_net *net,
                      uv_loop_t *loop, int fd, uint8_t index);
/* Accepts again if there is room now: called when a connection has gone, and
 * from the worker's timer. */
void pl__listener_resume(struct pl_listener *l);
/* Accepts what is already queued, then watches no more. The descriptor stays
 * open: it is the caller's. */
void pl__listener_close(struct pl_listener *l);

#endif /* PL_NET_LISTENER_H */
