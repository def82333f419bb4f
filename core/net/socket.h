/* net/socket.h - a transport over a stream socket, watched by libuv.
 *
 * Uses uv_poll and makes the system calls itself: reads go straight into the
 * slab, responses out by one send or writev, files by sendfile, which uv_tcp
 * doesn't offer; and an idle connection costs one uv_poll_t.
 * Knows no HTTP and no connection.
 */
#ifndef PL_NET_SOCKET_H
#define PL_NET_SOCKET_H

#include "net/transport.h"

#include <uv.h>

struct pl_socket {
  struct pl_transport transport; /* first: a transport is cast back to this */
  uv_poll_t poll;
  int fd;
  int events; /* what is watched: UV_READABLE, UV_WRITABLE */
};

/* Takes over `fd` (connected, non-blocking) and watches for bytes to receive.
 * transport.events must be set.  Returns 0 or a UV_E*; on failure the fd is
 * still the caller's. */
int pl__socket_open(struct pl_socket *s, uv_loop_t *loop, int fd);

#endif /* PL_NET_SOCKET_H */
