/* server/inherit.h - listening sockets that a process is born with.
 *
 * From systemd (LISTEN_PID, LISTEN_FDS: socket activation), which then stand in
 * the place of `listen`; or from the server that this one replaces while it
 * serves (server/upgrade.h), which fill in for those of the same address.  The
 * variables are taken out of the environment: children are not meant.
 */
#ifndef PL_SERVER_INHERIT_H
#define PL_SERVER_INHERIT_H

#include "server/address.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_listeners;

#define PL_INHERIT_ADDRESSES_MAX 16u
#define PL_INHERIT_FDS_MAX 256u /* of one address: a socket per worker */
#define PL_INHERIT_ENV "PL_UPGRADE_SOCKETS"
#define PL_INHERIT_ERROR_BYTES 256

struct pl_inherited {
  struct pl_address address; /* of the first socket; `text` is as configured */
  uint32_t count;
  bool is_foreign; /* systemd's: one socket for all workers, and its file is
                      not ours */
  int fds[PL_INHERIT_FDS_MAX];
};

struct pl_inheritance {
  uint32_t count;
  bool is_activation; /* by systemd: they are all there is to listen on */
  bool is_upgrade;
  int lock_fd;  /* of the server that is replaced; -1: none */
  int ready_fd; /* to tell it that we serve; -1: none */
  struct pl_inherited at[PL_INHERIT_ADDRESSES_MAX];
};

/* Takes what there is, close-on-exec and non-blocking; usually nothing.  The
 * sockets of the admin plane of a server that is replaced go to `admin`, and
 * nothing else does.  Returns 0, or PL_EBIND with a sentence in error (PL_INHERIT_ERROR_BYTES):
 * something that is no listening stream socket. */
int pl__inherit(struct pl_inheritance *out, struct pl_inheritance *admin,
                char *error);
/* Moves systemd's socket of that address, as pl__address_format writes it, to
 * `admin`, if there is one. */
void pl__inherit_move(struct pl_inheritance *from, const char *text,
                      struct pl_inheritance *admin);

/* How many sockets the address with most of them has. */
uint32_t pl__inherited_sockets(const struct pl_inheritance *all);
/* Closes those that no address of the listeners uses. */
void pl__inherit_close_rest(const struct pl_inheritance *all,
                            const struct pl_listeners *l);

/* The sockets of the address that was written so; NULL: none. */
const struct pl_inherited *pl__inherited_of(const struct pl_inheritance *all,
                                            const char *text);

#endif /* PL_SERVER_INHERIT_H */
