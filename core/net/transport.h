/* net/transport.h - how bytes come and go, whatever carries them.
 *
 * A connection talks to its peer through these functions only, so that a
 * socket, a run of bytes in memory (specs) and later TLS are alike to it.
 * All calls are made on the worker's loop; none blocks.
 */
#ifndef PL_NET_TRANSPORT_H
#define PL_NET_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct pl_transport;

/* "Not now": try again when the transport is ready. */
#define PL_TRANSPORT_AGAIN ((ssize_t)-11)

/* What a transport tells its connection; set by the connection before open.
 * Called from the loop, never from inside a function of the transport.
 *
 *   on_ready  bytes can be received (readable), sent (writable), or the
 *             transport has failed (then both are set: the next call says how)
 *   on_closed after close: the transport's memory is the owner's again
 */
struct pl_transport_events {
  void (*on_ready)(struct pl_transport *t, bool readable, bool writable);
  void (*on_closed)(struct pl_transport *t);
};

struct pl_transport_ops {
  /* Bytes received into `to`; 0: the peer sends no more;
   * PL_TRANSPORT_AGAIN; or another negative code: the connection is lost. */
  ssize_t (*receive)(struct pl_transport *t, char *to, size_t bytes);
  /* Bytes taken from the pieces, in order, possibly fewer than all;
   * PL_TRANSPORT_AGAIN; or another negative code: the connection is lost. */
  ssize_t (*send)(struct pl_transport *t, const struct iovec *pieces,
                  int piece_count);
  /* The same from a file at *offset, which moves on. 0: the file has ended
   * before `bytes`. */
  ssize_t (*send_file)(struct pl_transport *t, int fd, off_t *offset,
                       size_t bytes);
  /* Bytes that were sent and that the peer has not taken yet, as far as that is
   * known. NULL: it takes them at once. */
  size_t (*unacked)(struct pl_transport *t);
  /* Which readiness is wanted from now on. */
  void (*watch)(struct pl_transport *t, bool readable, bool writable);
  /* Gives up its descriptor, which stays open and is returned; nothing else may
   * be called then, and on_closed follows, from the loop. NULL: it has none. */
  int (*release)(struct pl_transport *t);
  /* Says that no more will be sent; receiving goes on. */
  void (*shut_down)(struct pl_transport *t);
  /* Ends it; on_closed follows, from the loop. reset: unsent bytes are thrown
   * away and the peer is told so. */
  void (*close)(struct pl_transport *t, bool reset);
};

struct pl_transport {
  const struct pl_transport_ops *ops;
  const struct pl_transport_events *events;
  void *conn; /* whose transport it is; set with `events` */
};

#endif /* PL_NET_TRANSPORT_H */
