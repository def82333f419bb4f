/* server/address.c - reads and writes listening addresses. */
#include "server/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/err.h"

static int port_parse(const char *text, uint16_t *out) {
  uint32_t port = 0;
  size_t count = 0;

  for (; text[count]; count++) {
    if (text[count] < '0' || text[count] > '9' || count == 5)
      return PL_EINVAL;
    port = port * 10 + (uint32_t)(text[count] - '0');
  }
  if (count == 0 || port > UINT16_MAX)
    return PL_EINVAL;
  *out = (uint16_t)port;
  return 0;
}

static int unix_parse(const char *path, struct pl_address *a) {
  struct sockaddr_un *un = (struct sockaddr_un *)&a->storage;
  size_t bytes = strlen(path);

  if (path[0] != '/' || bytes < 2 || bytes >= sizeof(un->sun_path))
    return PL_EINVAL;
  a->family = AF_UNIX;
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, path, bytes + 1);
  a->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + 1);
  return 0;
}

static int inet_parse(const char *host, uint16_t port, struct pl_address *a) {
  struct sockaddr_in *in = (struct sockaddr_in *)&a->storage;

  if (host[0] == '\0' || strcmp(host, "*") == 0)
    host = "0.0.0.0";
  else if (strcmp(host, "localhost") == 0)
    host = "127.0.0.1";
  if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
    return PL_EINVAL;
  a->family = AF_INET;
  in->sin_family = AF_INET;
  in->sin_port = htons(port);
  a->port = port;
  a->bytes = sizeof(*in);
  return 0;
}

static int inet6_parse(const char *host, uint16_t port, struct pl_address *a) {
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->storage;

  if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
    return PL_EINVAL;
  a->family = AF_INET6;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(port);
  a->port = port;
  a->bytes = sizeof(*in6);
  return 0;
}

static int tcp_parse(const char *text, struct pl_address *a) {
  char host[PL_ADDRESS_TEXT_BYTES];
  const char *colon = strrchr(text, ':');
  size_t bytes;
  uint16_t port;

  if (!colon || port_parse(colon + 1, &port))
    return PL_EINVAL;
  bytes = (size_t)(colon - text);
  if (bytes >= 2 && text[0] == '[' && text[bytes - 1] == ']') {
    memcpy(host, text + 1, bytes - 2);
    host[bytes - 2] = '\0';
    return inet6_parse(host, port, a);
  }
  memcpy(host, text, bytes);
  host[bytes] = '\0';
  return inet_parse(host, port, a);
}

int pl__address_parse(const char *text, struct pl_address *out) {
  struct pl_address a;
  size_t bytes = strlen(text);
  int status;

  memset(&a, 0, sizeof(a));
  if (bytes >= sizeof(a.text))
    return PL_EINVAL;
  status = strncmp(text, "unix:", 5) == 0 ? unix_parse(text + 5, &a)
                                          : tcp_parse(text, &a);
  if (status)
    return status;
  memcpy(a.text, text, bytes + 1);
  *out = a;
  return 0;
}

void pl__address_set_port(struct pl_address *a, uint16_t port) {
  if (a->family == AF_INET)
    ((struct sockaddr_in *)&a->storage)->sin_port = htons(port);
  else if (a->family == AF_INET6)
    ((struct sockaddr_in6 *)&a->storage)->sin6_port = htons(port);
  a->port = port;
}

bool pl__address_is_local(const struct pl_address *a) {
  const struct sockaddr_in *in = (const void *)&a->storage;
  const struct sockaddr_in6 *in6 = (const void *)&a->storage;

  if (a->family == AF_INET)
    return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
  return a->family == AF_UNIX ||
         (a->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr));
}

void pl__address_format(const struct pl_address *a, char *out, size_t bytes) {
  char host[INET6_ADDRSTRLEN] = "?";

  if (a->family == AF_UNIX) {
    snprintf(out, bytes, "%s", a->text);
  } else if (a->family == AF_INET6) {
    inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)&a->storage)->sin6_addr,
              host, sizeof(host));
    snprintf(out, bytes, "http://[%s]:%u", host, a->port);
  } else {
    inet_ntop(AF_INET, &((const struct sockaddr_in *)&a->storage)->sin_addr,
              host, sizeof(host));
    snprintf(out, bytes, "http://%s:%u", host, a->port);
  }
}
