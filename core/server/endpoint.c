/* server/endpoint.c - see endpoint.h. */
#include "server/endpoint.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <strings.h>

#include "base/err.h"
#include "base/slice.h"
#include "base/text.h"
#include "http/target.h"

#define SCHEME "http://"

/* Where the port of `authority` begins, behind the colon; its end: there is
 * none. */
static const char *port_of(const char *authority, const char *end) {
  const char *at = end;

  while (at > authority && at[-1] >= '0' && at[-1] <= '9')
    at--;
  return at > authority && at < end && at[-1] == ':' ? at : end;
}

static bool copy(char *to, size_t cap, const char *from, size_t bytes) {
  if (bytes >= cap)
    return false;
  memcpy(to, from, bytes);
  to[bytes] = '\0';
  return true;
}

static bool host_copy(struct pl_endpoint *e, const char *at, const char *end) {
  if (end - at >= 2 && at[0] == '[' && end[-1] == ']') {
    at++;
    end--;
  }
  return end > at && copy(e->host, sizeof e->host, at, (size_t)(end - at));
}

static bool is_path(const char *at) {
  for (; *at; at++)
    if (*at <= ' ' || *at > '~' || *at == '#')
      return false;
  return true;
}

static int take_apart(const char *rest, const char *suffix,
                      struct pl_endpoint *e) {
  size_t authority_bytes = strcspn(rest, "/?#");
  const char *end = rest + authority_bytes, *port = port_of(rest, end);
  bool has_port = port < end;
  size_t path_bytes = strlen(end);
  uint64_t number = 80;

  if (!pl__target_is_host(pl__slice(rest, authority_bytes)) ||
      (*end && *end != '/') || !is_path(end) ||
      (has_port && (pl__text_number(pl__slice(port, (size_t)(end - port)),
                                    UINT16_MAX, &number) ||
                    number == 0)) ||
      !host_copy(e, rest, has_port ? port - 1 : end) ||
      !copy(e->authority, sizeof e->authority, rest, authority_bytes))
    return PL_EINVAL;
  snprintf(e->port, sizeof e->port, "%u", (unsigned)number);
  if (*suffix && path_bytes && end[path_bytes - 1] == '/')
    path_bytes--;
  if (snprintf(e->path, sizeof e->path, "%.*s%s", (int)path_bytes, end,
               suffix) >= (int)sizeof e->path)
    return PL_EINVAL;
  if (!e->path[0])
    memcpy(e->path, "/", 2);
  return 0;
}

int pl__endpoint_parse(const char *text, const char *suffix,
                       struct pl_endpoint *out) {
  struct pl_endpoint e;

  if (strncasecmp(text, SCHEME, strlen(SCHEME)) != 0 ||
      take_apart(text + strlen(SCHEME), suffix, &e))
    return PL_EINVAL;
  if (out)
    *out = e;
  return 0;
}
