/* server/events.c - see events.h. */
#define _GNU_SOURCE /* accept4, memmem */
#include "server/events.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "server/address.h"
#include "server/client_js.h"

#define PORT_TRIES 10
#define PING_NS (15 * (int64_t)PL_NS_PER_S)

static int socket_bind(const struct pl_address *a) {
  int fd = socket(a->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;

  if (fd < 0)
    return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (const struct sockaddr *)&a->storage, a->bytes) == 0 &&
      listen(fd, 16) == 0)
    return fd;
  close(fd);
  return -1;
}

static void port_note(struct pl_events *e) {
  struct sockaddr_storage s;
  socklen_t bytes = sizeof s;

  if (getsockname(e->fd, (struct sockaddr *)&s, &bytes) == 0)
    e->port =
        ntohs(s.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&s)->sin6_port
                                      : ((struct sockaddr_in *)&s)->sin_port);
}

int pl__events_open(struct pl_events *e, const struct pl_address *address) {
  struct pl_address a = *address;

  *e = (struct pl_events){.fd = -1};
  if (a.family == AF_UNIX)
    return PL_EBIND;
  e->clients = pl__alloc_zero(PL_EVENTS_CLIENTS_MAX * sizeof *e->clients);
  if (!e->clients)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < PL_EVENTS_CLIENTS_MAX; i++)
    e->clients[i].fd = -1;
  for (int i = 0; i < PORT_TRIES && e->fd < 0; i++) {
    if (i)
      pl__address_set_port(&a, (uint16_t)(address->port + i));
    e->fd = socket_bind(&a);
  }
  for (int i = 0; i < PL_EVENTS_KEPT; i++)
    pl__buf_init(&e->kept[i], NULL, PL_EVENTS_DATA_BYTES_MAX + 256);
  if (e->fd >= 0) {
    port_note(e);
    return 0;
  }
  pl__free(e->clients);
  e->clients = NULL;
  return PL_EBIND;
}

static void client_close(struct pl_events_client *c) {
  close(c->fd);
  c->fd = -1;
}

void pl__events_close(struct pl_events *e) {
  for (uint32_t i = 0; e->clients && i < PL_EVENTS_CLIENTS_MAX; i++)
    if (e->clients[i].fd >= 0)
      client_close(&e->clients[i]);
  if (e->fd >= 0)
    close(e->fd);
  e->fd = -1;
  for (int i = 0; e->clients && i < PL_EVENTS_KEPT; i++)
    pl__buf_release(&e->kept[i]);
  pl__free(e->clients);
  e->clients = NULL;
}

/* --- sending: all of it at once, or the client is too slow ---------------------- */

static bool send_all(struct pl_events_client *c, const char *at, size_t bytes) {
  ssize_t n = bytes ? send(c->fd, at, bytes, MSG_NOSIGNAL) : 0;

  if (n == (ssize_t)bytes)
    return true;
  client_close(c);
  return false;
}

/* --- requests ---------------------------------------------------------------------- */

/* The value of a field, as browsers write it: one space, names in any case. */
static struct pl_slice field(const struct pl_events_client *c,
                             const char *name) {
  const char *at = c->in, *stop = c->in + c->used, *end;
  size_t bytes = strlen(name);

  for (; (end = memmem(at, (size_t)(stop - at), "\r\n", 2)); at = end + 2)
    if ((size_t)(end - at) > bytes && strncasecmp(at, name, bytes) == 0)
      return pl__slice(at + bytes, (size_t)(end - at) - bytes);
  return pl__slice("", 0);
}

/* Whether it was asked for by an address, or as localhost. */
static bool is_for_us(const struct pl_events_client *c) {
  struct pl_slice host = field(c, "host: ");
  char name[INET6_ADDRSTRLEN + 16], *port;
  unsigned char address[sizeof(struct in6_addr)];

  if (!host.bytes || host.bytes >= sizeof name)
    return false;
  memcpy(name, host.at, host.bytes);
  name[host.bytes] = '\0';
  if (name[0] == '[') /* no name can look like that */
    return true;
  port = strchr(name, ':');
  if (port)
    *port = '\0';
  return strcasecmp(name, "localhost") == 0 ||
         inet_pton(AF_INET, name, address) == 1;
}

/* Whether the page that asks is one of the app's, on this machine. *origin is
 * then its origin. */
static bool is_ours(const struct pl_events *e, const struct pl_events_client *c,
                    struct pl_slice *origin) {
  static const char *const hosts[] = {"http://127.0.0.1", "http://localhost",
                                      "http://[::1]"};
  char text[64];

  *origin = field(c, "origin: ");
  for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
    snprintf(text, sizeof text, "%s:%u", hosts[i], e->app_port);
    if (origin->bytes == strlen(text) &&
        memcmp(origin->at, text, origin->bytes) == 0)
      return true;
  }
  return false;
}

static void answer_stream(struct pl_events *e, struct pl_events_client *c) {
  struct pl_slice origin = {"", 0};
  char head[512];
  bool ours = is_ours(e, c, &origin);
  int n = snprintf(head, sizeof head,
                   "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                   "Cache-Control: no-store\r\n%s%.*s%s"
                   "Connection: close\r\n\r\nretry: 500\n\n",
                   ours ? "Access-Control-Allow-Origin: " : "",
                   ours ? (int)origin.bytes : 0, origin.at, ours ? "\r\n" : "");

  c->listens = send_all(c, head, (size_t)n);
  for (int i = 0; i < PL_EVENTS_KEPT && c->listens; i++)
    c->listens = send_all(c, e->kept[i].at, e->kept[i].bytes);
}

static void answer_script(struct pl_events_client *c) {
  char head[256];
  int n = snprintf(head, sizeof head,
                   "HTTP/1.1 200 OK\r\nContent-Type: text/javascript; "
                   "charset=utf-8\r\nContent-Length: %zu\r\n"
                   "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
                   (size_t)pl__client_js_bytes);

  if (send_all(c, head, (size_t)n) &&
      send_all(c, pl__client_js, pl__client_js_bytes))
    client_close(c);
}

static void answer_none(struct pl_events_client *c) {
  static const char text[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
                             "Connection: close\r\n\r\n";

  if (send_all(c, text, sizeof text - 1))
    client_close(c);
}

static bool asks_for(const struct pl_events_client *c, const char *line) {
  size_t bytes = strlen(line);

  return c->used > bytes && memcmp(c->in, line, bytes) == 0;
}

static void client_read(struct pl_events *e, struct pl_events_client *c,
                        int64_t now_ns) {
  ssize_t n = recv(c->fd, c->in + c->used, sizeof c->in - c->used, 0);

  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    if (!c->listens && now_ns >= c->due_ns)
      client_close(c);
    return;
  }
  if (n <= 0) {
    client_close(c);
    return;
  }
  if (c->listens)
    return; /* it says no more that we want to know */
  c->used += (uint32_t)n;
  if (memmem(c->in, c->used, "\r\n\r\n", 4)) {
    if (!is_for_us(c))
      answer_none(c);
    else if (asks_for(c, "GET /dev/events "))
      answer_stream(e, c);
    else if (asks_for(c, "GET /dev/client.js "))
      answer_script(c);
    else
      answer_none(c);
    c->used = 0;
  } else if (c->used == sizeof c->in) {
    client_close(c);
  }
}

static void clients_accept(struct pl_events *e, int64_t now_ns) {
  for (uint32_t i = 0; i < PL_EVENTS_CLIENTS_MAX; i++) {
    struct pl_events_client *c = &e->clients[i];
    if (c->fd >= 0)
      continue;
    c->fd = accept4(e->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    c->used = 0;
    c->listens = false;
    c->due_ns = now_ns + PL_EVENTS_REQUEST_MS * (int64_t)PL_NS_PER_MS;
    if (c->fd < 0)
      return;
  }
}

/* --- turns --------------------------------------------------------------------------- */

static bool has_room(const struct pl_events *e) {
  for (uint32_t i = 0; i < PL_EVENTS_CLIENTS_MAX; i++)
    if (e->clients[i].fd < 0)
      return true;
  return false;
}

nfds_t pl__events_watch(const struct pl_events *e, struct pollfd *fds) {
  nfds_t count = 0;

  if (!e->clients)
    return 0;
  if (has_room(e)) /* else it would wake us for nothing */
    fds[count++] = (struct pollfd){.fd = e->fd, .events = POLLIN};
  for (uint32_t i = 0; i < PL_EVENTS_CLIENTS_MAX; i++)
    if (e->clients[i].fd >= 0)
      fds[count++] = (struct pollfd){.fd = e->clients[i].fd, .events = POLLIN};
  return count;
}

static void to_all(struct pl_events *e, const char *at, size_t bytes) {
  for (uint32_t i = 0; i < PL_EVENTS_CLIENTS_MAX; i++)
    if (e->clients[i].fd >= 0 && e->clients[i].listens)
      send_all(&e->clients[i], at, bytes);
}

void pl__events_turn(struct pl_events *e, int64_t now_ns) {
  if (!e->clients)
    return;
  clients_accept(e, now_ns);
  for (uint32_t i = 0; i < PL_EVENTS_CLIENTS_MAX; i++)
    if (e->clients[i].fd >= 0)
      client_read(e, &e->clients[i], now_ns);
  if (now_ns >= e->ping_due_ns) {
    e->ping_due_ns = now_ns + PING_NS;
    to_all(e, ":\n\n", 3);
  }
}

int64_t pl__events_due(const struct pl_events *e) {
  int64_t due = e->ping_due_ns ? e->ping_due_ns : 1;

  for (uint32_t i = 0; e->clients && i < PL_EVENTS_CLIENTS_MAX; i++) {
    const struct pl_events_client *c = &e->clients[i];
    if (c->fd >= 0 && !c->listens && c->due_ns < due)
      due = c->due_ns;
  }
  return e->clients ? due : 0;
}

/* An event as it is sent, into an empty buffer. */
static int event_make(struct pl_buf *out, const char *event,
                      struct pl_slice data) {
  char head[64];
  int n = snprintf(head, sizeof head, "event: %s\ndata: ", event);
  int failed = pl__buf_append(out, head, (uint32_t)n);

  failed = failed ? failed : pl__buf_append_slice(out, data);
  return failed ? failed : pl__buf_append(out, "\n\n", 2);
}

void pl__events_push(struct pl_events *e, const char *event,
                     struct pl_slice data) {
  struct pl_buf text;

  if (!e->clients)
    return;
  pl__buf_init(&text, NULL, PL_EVENTS_DATA_BYTES_MAX + 256);
  if (!event_make(&text, event, data))
    to_all(e, text.at, text.bytes);
  pl__buf_release(&text);
}

void pl__events_keep(struct pl_events *e, enum pl_events_kept slot,
                     const char *event, struct pl_slice data) {
  struct pl_buf *kept = &e->kept[slot];

  if (!e->clients)
    return;
  kept->bytes = 0;
  if (event_make(kept, event, data))
    kept->bytes = 0;
}
