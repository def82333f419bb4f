/* server/ops.c - see ops.h. */
#define _GNU_SOURCE /* accept4, SO_PEERCRED */
#include "server/ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "http/encode.h"
#include "http/parser.h"
#include "http/target.h"

#define BACKLOG 16
#define HEADERS_MAX 32u
#define TARGET_BYTES_MAX 1024u
#define CLIENT_NS ((int64_t)PL_OPS_CLIENT_S * PL_NS_PER_S)

enum client_state { FREE, READING, ASKED, WRITING };

struct pl_ops_client {
  enum client_state state;
  int fd;
  uint64_t id;
  int64_t due_ns; /* 0: none */
  uint32_t used;  /* bytes in `in` */
  uint32_t seen;  /* of them, by the parser */
  struct pl_buf out;
  struct pl_req req;
  struct pl_header headers[HEADERS_MAX];
  union pl_parser_room parser;
  char scratch[TARGET_BYTES_MAX];
  char in[PL_OPS_REQUEST_BYTES];
};

/* --- opening ------------------------------------------------------------ */

bool pl__ops_place(const char *lock_path, char *out) {
  size_t bytes = strlen(lock_path);
  int n;

  if (bytes > 4 && strcmp(lock_path + bytes - 4, ".pid") == 0)
    bytes -= 4;
  n = snprintf(out, PL_OPS_PATH_BYTES, "%.*s.sock", (int)bytes, lock_path);
  return n > 0 && n < (int)PL_OPS_PATH_BYTES;
}

/* Bound and listening at no moment with more rights than 0600. */
static int socket_open(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  mode_t mask;
  int failed;

  if (fd < 0)
    return -errno;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  unlink(path);
  mask = umask(0177);
  failed = bind(fd, (struct sockaddr *)&address, sizeof address) ||
           listen(fd, BACKLOG);
  failed = failed ? -errno : 0;
  umask(mask);
  if (!failed)
    return fd;
  close(fd);
  return failed;
}

int pl__ops_open(struct pl_ops *o, const char *path, pl__ops_fn on_request,
                 void *arg, char *error) {
  *o = (struct pl_ops){.fd = -1, .on_request = on_request, .arg = arg};
  snprintf(error, PL_OPS_ERROR_BYTES, "out of memory");
  o->clients = pl__alloc_zero(PL_OPS_CLIENTS_MAX * sizeof *o->clients);
  if (!o->clients)
    return PL_ENOMEM;
  o->fd = socket_open(path);
  if (o->fd < 0) {
    snprintf(error, PL_OPS_ERROR_BYTES, "no control socket at %s: %s", path,
             strerror(-o->fd));
    pl__free(o->clients);
    o->clients = NULL;
    o->fd = -1;
    return PL_EFAIL;
  }
  snprintf(o->path, sizeof o->path, "%s", path);
  return 0;
}

static void client_close(struct pl_ops_client *c) {
  close(c->fd);
  pl__buf_release(&c->out);
  c->state = FREE;
}

void pl__ops_forget(struct pl_ops *o) {
  for (uint32_t i = 0; o->clients && i < PL_OPS_CLIENTS_MAX; i++)
    if (o->clients[i].state != FREE)
      client_close(&o->clients[i]);
  if (o->fd >= 0)
    close(o->fd);
  o->fd = -1;
}

void pl__ops_close(struct pl_ops *o, bool remove) {
  if (o->fd >= 0 && remove)
    unlink(o->path);
  pl__ops_forget(o);
  pl__free(o->clients);
  o->clients = NULL;
}

/* --- answers ------------------------------------------------------------- */

static struct pl_ops_client *client_find(struct pl_ops *o, uint64_t id) {
  for (uint32_t i = 0; o->clients && i < PL_OPS_CLIENTS_MAX; i++)
    if (o->clients[i].state == ASKED && o->clients[i].id == id)
      return &o->clients[i];
  return NULL;
}

static void answer(struct pl_ops_client *c, unsigned status, const char *type,
                   struct pl_slice body) {
  struct pl_slice reason = pl__reason((uint16_t)status);
  char head[256];
  int n = snprintf(head, sizeof head,
                   "HTTP/1.1 %u %.*s\r\nContent-Type: %s\r\n"
                   "Content-Length: %u\r\nCache-Control: no-store\r\n"
                   "Connection: close\r\n\r\n",
                   status, (int)reason.bytes, reason.at, type, body.bytes);

  c->state = WRITING;
  c->due_ns = pl__clock_monotonic_ns() + CLIENT_NS;
  if (pl__buf_append(&c->out, head, (uint32_t)n) ||
      (c->req.method != PL_METHOD_HEAD && pl__buf_append_slice(&c->out, body)))
    client_close(c);
}

void pl__ops_answer(struct pl_ops *o, uint64_t client, unsigned status,
                    const char *type, struct pl_slice body) {
  struct pl_ops_client *c = client_find(o, client);

  if (c)
    answer(c, status, type, body);
}

static void refuse(struct pl_ops_client *c, unsigned status,
                   const char *detail) {
  char body[256];
  int n = snprintf(body, sizeof body,
                   "{\"title\":\"%.*s\",\"status\":%u,\"detail\":\"%s\"}\n",
                   (int)pl__reason((uint16_t)status).bytes,
                   pl__reason((uint16_t)status).at, status, detail);

  answer(c, status, "application/problem+json", pl__slice(body, (size_t)n));
}

static void client_write(struct pl_ops_client *c) {
  while (c->out.bytes) {
    ssize_t n = send(c->fd, c->out.at, c->out.bytes, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN)
      return;
    if (n < 0)
      break;
    pl__buf_drop(&c->out, (uint32_t)n);
  }
  client_close(c);
}

/* --- requests ------------------------------------------------------------ */

static bool is_trusted(int fd) {
  struct ucred peer;
  socklen_t bytes = sizeof peer;

  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
         (peer.uid == geteuid() || peer.uid == 0);
}

static void client_begin(struct pl_ops *o, struct pl_ops_client *c, int fd,
                         int64_t now_ns) {
  static const struct pl_parser_limits limits = {
      TARGET_BYTES_MAX, PL_OPS_REQUEST_BYTES / 2, HEADERS_MAX};

  memset(&c->req, 0, sizeof c->req);
  c->fd = fd;
  c->id = ++o->serial;
  c->state = READING;
  c->due_ns = now_ns + CLIENT_NS;
  c->used = c->seen = 0;
  c->req.headers = c->headers;
  c->req.content_length = -1;
  c->req.body_max = PL_OPS_REQUEST_BYTES / 2;
  pl__buf_init(&c->out, NULL, PL_OPS_ANSWER_BYTES_MAX);
  pl__parser_init((struct pl_parser *)(void *)&c->parser, &limits);
}

static void clients_accept(struct pl_ops *o, int64_t now_ns) {
  for (uint32_t i = 0; i < PL_OPS_CLIENTS_MAX; i++) {
    struct pl_ops_client *c = &o->clients[i];
    int fd;

    if (c->state != FREE)
      continue;
    fd = accept4(o->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
      return;
    if (is_trusted(fd))
      client_begin(o, c, fd, now_ns);
    else
      close(fd);
  }
}

static void ask(struct pl_ops *o, struct pl_ops_client *c) {
  struct pl_ops_request request = {.client = c->id};
  static const char *const names[] = {
#define NAME(number, name) [number] = #name,
      PL_METHODS(NAME)
#undef NAME
  };

  if (pl__target_parse(&c->req, c->scratch, sizeof c->scratch)) {
    refuse(c, 400, "the target is malformed");
    return;
  }
  request.method = pl__slice_text(names[c->req.method]);
  request.path = c->req.path;
  request.query = c->req.query;
  c->state = ASKED;
  c->due_ns = 0;
  o->on_request(o->arg, &request);
}

static void client_parse(struct pl_ops *o, struct pl_ops_client *c) {
  struct pl_parser *parser = (struct pl_parser *)(void *)&c->parser;
  uint32_t used;
  uint16_t status;
  const char *detail;

  for (;;) {
    switch (pl__parser_run(parser, &c->req, c->in + c->seen, c->used - c->seen,
                           &used)) {
    case PL_PARSE_MORE:
      c->seen += used;
      if (c->used == sizeof c->in)
        refuse(c, 413, "the request is too large");
      return;
    case PL_PARSE_HEAD:
      c->seen += used;
      c->req.body = pl__slice(c->in + c->seen, 0);
      break;
    case PL_PARSE_DONE:
      ask(o, c);
      return;
    case PL_PARSE_BAD:
      pl__parser_error(parser, &status, &detail);
      refuse(c, status, detail);
      return;
    }
  }
}

static void client_read(struct pl_ops *o, struct pl_ops_client *c) {
  ssize_t n = recv(c->fd, c->in + c->used, sizeof c->in - c->used, 0);

  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    client_close(c);
    return;
  }
  c->used += (uint32_t)n;
  client_parse(o, c);
}

/* One that waits for its answer sends nothing more, or is gone. */
static void client_peek(struct pl_ops_client *c) {
  char some[256];
  ssize_t n = recv(c->fd, some, sizeof some, 0);

  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
    client_close(c);
}

/* --- turns ---------------------------------------------------------------- */

static bool has_room(const struct pl_ops *o) {
  for (uint32_t i = 0; i < PL_OPS_CLIENTS_MAX; i++)
    if (o->clients[i].state == FREE)
      return true;
  return false;
}

nfds_t pl__ops_watch(const struct pl_ops *o, struct pollfd *fds) {
  nfds_t count = 0;

  if (!o->clients)
    return 0;
  if (o->fd >= 0 && has_room(o)) /* else it would wake us for nothing */
    fds[count++] = (struct pollfd){.fd = o->fd, .events = POLLIN};
  for (uint32_t i = 0; i < PL_OPS_CLIENTS_MAX; i++) {
    const struct pl_ops_client *c = &o->clients[i];
    if (c->state != FREE)
      fds[count++] = (struct pollfd){
          .fd = c->fd, .events = c->state == WRITING ? POLLOUT : POLLIN};
  }
  return count;
}

static void client_turn(struct pl_ops *o, struct pl_ops_client *c,
                        int64_t now_ns) {
  if (c->due_ns && c->due_ns <= now_ns) {
    client_close(c);
    return;
  }
  if (c->state == READING)
    client_read(o, c);
  else if (c->state == ASKED)
    client_peek(c);
  if (c->state == WRITING)
    client_write(c);
}

void pl__ops_turn(struct pl_ops *o, int64_t now_ns) {
  if (!o->clients)
    return;
  if (o->fd >= 0)
    clients_accept(o, now_ns);
  for (uint32_t i = 0; i < PL_OPS_CLIENTS_MAX; i++)
    if (o->clients[i].state != FREE)
      client_turn(o, &o->clients[i], now_ns);
}

int64_t pl__ops_due(const struct pl_ops *o) {
  int64_t due = 0;

  for (uint32_t i = 0; o->clients && i < PL_OPS_CLIENTS_MAX; i++) {
    const struct pl_ops_client *c = &o->clients[i];
    if (c->state != FREE && c->due_ns && (!due || c->due_ns < due))
      due = c->due_ns;
  }
  return due;
}

void pl__ops_finish(struct pl_ops *o, int wait_ms) {
  int64_t end = pl__clock_monotonic_ns() + wait_ms * (int64_t)PL_NS_PER_MS;

  for (uint32_t i = 0; o->clients && i < PL_OPS_CLIENTS_MAX; i++) {
    struct pl_ops_client *c = &o->clients[i];
    while (c->state == WRITING && pl__clock_monotonic_ns() < end) {
      client_write(c);
      if (c->state == WRITING)
        poll(NULL, 0, 1);
    }
  }
}
