/* base/peer.h - the address of who is at the other end, in 20 bytes.
 *
 * Compact enough to be copied into connections and log records.  Knows no
 * name look-ups.
 */
#ifndef PL_BASE_PEER_H
#define PL_BASE_PEER_H

#include <stdint.h>

struct sockaddr;

#define PL_PEER_TEXT_BYTES 64 /* room that any address fits in, NUL included */

enum pl_peer_family {
  PL_PEER_NONE = 0, /* not known */
  PL_PEER_UNIX = 1, /* a local socket, which has no address worth telling */
  PL_PEER_IPV4 = 4,
  PL_PEER_IPV6 = 6
};

struct pl_peer {
  uint16_t port;       /* in the machine's own byte order */
  uint8_t family;      /* enum pl_peer_family */
  uint8_t zero;        /* always 0, so that peers can be compared by bytes */
  uint8_t address[16]; /* network order; IPv4 in the first four bytes */
};

/* From what accept() filled in; NULL or another family is PL_PEER_NONE.  An
 * IPv4 address mapped into IPv6 (::ffff:a.b.c.d) becomes IPv4. */
void pl__peer_set(struct pl_peer *p, const struct sockaddr *address);

/* Writes the address without its port ("192.0.2.7", "2001:db8::1" after RFC
 * 5952, "unix", or nothing) and a NUL to `out`, which has room for
 * PL_PEER_TEXT_BYTES.  Returns how many bytes, the NUL aside. */
uint32_t pl__peer_text(const struct pl_peer *p, char *out);

#endif /* PL_BASE_PEER_H */
