/* server/address.h - the addresses a server listens on, as text and as bytes.
 *
 * Numeric addresses only: a server that listens must not depend on a resolver.
 * Opens no socket: that is server/listeners.h.
 */
#ifndef PL_SERVER_ADDRESS_H
#define PL_SERVER_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PL_ADDRESS_TEXT_BYTES 128 /* of an address as text, NUL included */

struct pl_address {
  int family;                       /* AF_INET, AF_INET6 or AF_UNIX */
  uint16_t port;                    /* host order; 0: the kernel picks one */
  socklen_t bytes;                  /* of `storage` that are in use */
  struct sockaddr_storage storage;  /* ready for bind */
  char text[PL_ADDRESS_TEXT_BYTES]; /* as written in the configuration */
};

/* Reads "127.0.0.1:8080", "[::1]:8080", "localhost:8080" (127.0.0.1), ":8080"
 * and "*:8080" (all IPv4 addresses) or "unix:/path" (absolute, at most 107
 * bytes) into *out.
 *
 * Returns 0, or PL_EINVAL with *out untouched.
 */
int pl__address_parse(const char *text, struct pl_address *out);

/* Gives the address another port, in `storage` too; not for AF_UNIX. */
void pl__address_set_port(struct pl_address *a, uint16_t port);

/* Whether only processes of this machine can connect to it: loopback, or a unix
 * socket. */
bool pl__address_is_local(const struct pl_address *a);

/* Writes what a person can open: "http://127.0.0.1:8080", "http://[::1]:8080",
 * "unix:/path". Always NUL-terminated, cut to `bytes`. */
void pl__address_format(const struct pl_address *a, char *out, size_t bytes);

#endif /* PL_SERVER_ADDRESS_H */
