/* net/memory.h - a transport without a socket: bytes fed by a spec, bytes kept
 * for it.
 *
 * Stands in for a client in specs and in `perilune request`: it can be slow
 * (stalled), half-close and go away.  Knows no HTTP and no loop: its owner
 * calls pl__memory_turn from the loop to let news out.
 */
#ifndef PL_NET_MEMORY_H
#define PL_NET_MEMORY_H

#include "base/buf.h"
#include "net/transport.h"

#define PL_MEMORY_BYTES_MAX (256u * 1024 * 1024) /* kept in one direction */
#define PL_MEMORY_WINDOW_BYTES 262144u /* taken in one send, as a socket does */

struct pl_memory {
  struct pl_transport transport; /* first: a transport is cast back to this */
  struct pl_buf in;              /* fed, not yet received */
  struct pl_buf out;             /* sent, not yet taken */
  bool want_read, want_write;
  bool eof;     /* the peer has finished sending */
  bool lost;    /* the peer is gone: sending fails */
  bool stalled; /* the peer doesn't read */
  bool shut;    /* our side has finished sending */
  bool closed;  /* our side has closed */
  bool told;    /* on_closed has been called */
};

void pl__memory_open(struct pl_memory *m);
/* Frees what it holds; only once it is closed and told. */
void pl__memory_deinit(struct pl_memory *m);
/* Makes `n` bytes receivable. 0, PL_EFULL, PL_ENOMEM. */
int pl__memory_feed(struct pl_memory *m, const char *at, uint32_t n);
/* Delivers pending readiness and the closing, one step. True: something was
 * delivered, call again. */
bool pl__memory_turn(struct pl_memory *m);

#endif /* PL_NET_MEMORY_H */
