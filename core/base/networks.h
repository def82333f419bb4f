/* base/networks.h - a set of networks, and whether an address is in it.
 *
 * Written as "10.0.0.0/8, fd00::/8, 192.0.2.7, unix": networks in CIDR form
 * (RFC 4632, RFC 4291 2.3), single addresses, and `unix` for local sockets.
 * Knows no names of hosts.
 */
#ifndef PL_BASE_NETWORKS_H
#define PL_BASE_NETWORKS_H

#include "base/peer.h"

#define PL_NETWORKS_MAX 32u

struct pl_network {
  uint8_t family; /* enum pl_peer_family */
  uint8_t bits;   /* of the address that count */
  uint8_t address[16];
};

struct pl_networks {
  uint32_t count;
  struct pl_network at[PL_NETWORKS_MAX];
};

/* Reads such a text; "" is the empty set.  Returns 0, or PL_EINVAL with *n
 * unchanged: no such text, more than PL_NETWORKS_MAX, or bits set behind those
 * that count, which says that something else was meant. */
int pl__networks_parse(struct pl_networks *n, const char *text);

/* 1: the peer is in one of them.  PL_PEER_NONE is in none. */
int pl__networks_have(const struct pl_networks *n, const struct pl_peer *peer);

#endif /* PL_BASE_NETWORKS_H */
