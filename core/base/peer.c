/* base/peer.c - from sockaddr to bytes, from bytes to text. */
#include "base/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static void set_ipv6(struct pl_peer *p, const struct sockaddr_in6 *in6) {
  p->port = ntohs(in6->sin6_port);
  if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
    p->family = PL_PEER_IPV4;
    memcpy(p->address, in6->sin6_addr.s6_addr + 12, 4);
    return;
  }
  p->family = PL_PEER_IPV6;
  memcpy(p->address, &in6->sin6_addr, 16);
}

void pl__peer_set(struct pl_peer *p, const struct sockaddr *address) {
  memset(p, 0, sizeof *p);
  if (!address)
    return;
  if (address->sa_family == AF_UNIX) {
    p->family = PL_PEER_UNIX;
  } else if (address->sa_family == AF_INET) {
    struct sockaddr_in in;
    memcpy(&in, address, sizeof in);
    p->family = PL_PEER_IPV4;
    p->port = ntohs(in.sin_port);
    memcpy(p->address, &in.sin_addr, 4);
  } else if (address->sa_family == AF_INET6) {
    struct sockaddr_in6 in6;
    memcpy(&in6, address, sizeof in6);
    set_ipv6(p, &in6);
  }
}

/* A byte as one to three digits. */
static char *put_byte(char *at, unsigned n) {
  if (n >= 100)
    *at++ = (char)('0' + n / 100);
  if (n >= 10)
    *at++ = (char)('0' + n / 10 % 10);
  *at++ = (char)('0' + n % 10);
  return at;
}

/* A group of 16 bits in hex, without leading zeros. */
static char *put_group(char *at, unsigned n) {
  static const char hex[] = "0123456789abcdef";
  for (int shift = 12; shift >= 0; shift -= 4)
    if (n >> shift || shift == 0)
      *at++ = hex[n >> shift & 15];
  return at;
}

/* The longest run of two or more zero groups, the first of equals (RFC 5952
 * 4.2); *count is 0 when there is none. */
static int longest_zeros(const unsigned *groups, int *count) {
  int best = 0;
  *count = 0;
  for (int i = 0; i < 8; i++) {
    int n = 0;
    while (i + n < 8 && groups[i + n] == 0)
      n++;
    if (n >= 2 && n > *count) {
      best = i;
      *count = n;
    }
  }
  return best;
}

static char *put_ipv6(char *at, const uint8_t *address) {
  unsigned groups[8];
  int zeros;
  for (int i = 0; i < 8; i++)
    groups[i] = (unsigned)address[2 * i] << 8 | address[2 * i + 1];
  int zeros_at = longest_zeros(groups, &zeros);
  for (int i = 0; i < 8;) {
    if (zeros && i == zeros_at) {
      *at++ = ':';
      *at++ = ':';
      i += zeros;
      continue;
    }
    if (i && !(zeros && i == zeros_at + zeros))
      *at++ = ':';
    at = put_group(at, groups[i++]);
  }
  return at;
}

uint32_t pl__peer_text(const struct pl_peer *p, char *out) {
  char *at = out;
  switch (p->family) {
  case PL_PEER_IPV4:
    for (int i = 0; i < 4; i++) {
      if (i)
        *at++ = '.';
      at = put_byte(at, p->address[i]);
    }
    break;
  case PL_PEER_IPV6:
    at = put_ipv6(at, p->address);
    break;
  case PL_PEER_UNIX:
    memcpy(at, "unix", 4);
    at += 4;
    break;
  default:
    break;
  }
  *at = 0;
  return (uint32_t)(at - out);
}
