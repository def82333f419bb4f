/* server/listeners.h - the listening sockets of a server.
 *
 * The master makes them all before the first fork, also for workers that may
 * come later, and keeps them open, so that nothing is refused while a worker is
 * being replaced.  A TCP address has one
 * socket per worker (SO_REUSEPORT: the kernel spreads connections, and no two
 * workers wake for one), a unix socket is one for all.  Every worker inherits
 * all of them, so that others can accept for one that does not answer
 * (server/adoption.h).  Accepts nothing.
 */
#ifndef PL_SERVER_LISTENERS_H
#define PL_SERVER_LISTENERS_H

#include "server/address.h"
#include "server/inherit.h"

#include <stdbool.h>
#include <stdint.h>

#define PL_LISTENERS_BACKLOG 4096 /* the kernel's somaxconn may be lower */
#define PL_LISTENERS_ERROR_BYTES 512

struct pl_listeners {
  struct pl_address *addresses; /* ports resolved; owned */
  uint32_t address_count;
  uint32_t worker_count;
  bool is_shared[PL_INHERIT_ADDRESSES_MAX];  /* one socket for all workers */
  bool is_foreign[PL_INHERIT_ADDRESSES_MAX]; /* and it is systemd's */
  int *fds; /* [worker * address_count + address]; -1: closed; owned */
};

/* Makes the sockets of all workers, bound, non-blocking, close-on-exec.  They
 * get no connections before pl__listeners_listen.
 *
 *   addresses  copied; of port 0 the kernel picks one, which `addresses` in
 *              the struct then has
 *   inherited  takes the place of those that would be made; NULL: nothing
 *   error      PL_LISTENERS_ERROR_BYTES; on failure which address and why
 *
 * A unix socket file that nobody answers at is replaced.
 * Returns 0, or with nothing open: PL_EBIND, PL_ENOMEM. */
int pl__listeners_open(struct pl_listeners *l,
                       const struct pl_address *addresses,
                       uint32_t address_count, uint32_t worker_count,
                       const struct pl_inheritance *inherited, char *error);

/* Connections come to a worker's sockets from now on.  May be called again.
 * Returns 0 or a negated errno. */
int pl__listeners_listen(struct pl_listeners *l, uint32_t worker);

/* The `address_count` sockets of one worker, in the order of the addresses. */
const int *pl__listeners_of(const struct pl_listeners *l, uint32_t worker);

/* Whether that socket is one for all workers. */
bool pl__listeners_is_shared(const struct pl_listeners *l, uint32_t address);

/* In a forked child: closes its copies of all sockets; files stay. */
void pl__listeners_forget(struct pl_listeners *l);

/* In the master: closes all sockets, so that connecting fails from now on as
 * far as no worker holds one, and removes socket files. Can be called twice. */
void pl__listeners_stop(struct pl_listeners *l);

/* Stops, and frees the struct's memory. */
void pl__listeners_close(struct pl_listeners *l);

#endif /* PL_SERVER_LISTENERS_H */
