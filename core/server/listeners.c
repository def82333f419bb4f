/* server/listeners.c - makes the sockets that workers accept from. */
#include "server/listeners.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

static int fail(char *error, const struct pl_address *a, int code) {
  const char *why = strerror(code);

  if (code == EADDRINUSE)
    why = "the address is in use by another program";
  else if (code == EACCES)
    why = "not allowed; ports below 1024 need rights";
  else if (code == EADDRNOTAVAIL)
    why = "this machine has no such address";
  snprintf(error, PL_LISTENERS_ERROR_BYTES, "cannot listen on %s: %s", a->text,
           why);
  return PL_EBIND;
}

static int socket_new(const struct pl_address *a) {
  return socket(a->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int option_set(int fd, int level, int name) {
  const int on = 1;
  return setsockopt(fd, level, name, &on, sizeof(on));
}

/* A bound socket, or -errno. Without `shared` it fails when anybody listens
 * there, be it with SO_REUSEPORT: that is the probe. */
static int socket_bind(const struct pl_address *a, bool shared) {
  int fd = socket_new(a);

  if (fd < 0)
    return -errno;
  if (a->family != AF_UNIX && option_set(fd, SOL_SOCKET, SO_REUSEADDR))
    goto fail_option;
  if (a->family == AF_INET6 && option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY))
    goto fail_option;
  if (shared && option_set(fd, SOL_SOCKET, SO_REUSEPORT))
    goto fail_option;
  if (bind(fd, (const struct sockaddr *)&a->storage, a->bytes))
    goto fail_option;
  return fd;

fail_option:;
  int code = errno;
  close(fd);
  return -code;
}

/* Two servers with SO_REUSEPORT could share a port and each get half of the
 * clients; nobody who starts a server twice wants that.  Another process may
 * still slip in between probe and bind: it would have to ask for the sharing
 * itself, as the same user. */
static int tcp_probe(const struct pl_address *a) {
  int fd = socket_bind(a, false);

  if (fd < 0)
    return fd;
  if (listen(fd, 1)) {
    int code = errno;
    close(fd);
    return -code;
  }
  close(fd);
  return 0;
}

static void port_resolve(struct pl_address *a, int fd) {
  struct sockaddr_storage storage;
  socklen_t bytes = sizeof(storage);

  if (getsockname(fd, (struct sockaddr *)&storage, &bytes))
    return;
  if (a->family == AF_INET)
    pl__address_set_port(a, ntohs(((struct sockaddr_in *)&storage)->sin_port));
  else
    pl__address_set_port(a,
                         ntohs(((struct sockaddr_in6 *)&storage)->sin6_port));
}

static int *fd_at(const struct pl_listeners *l, uint32_t worker,
                  uint32_t address) {
  return &l->fds[worker * l->address_count + address];
}

/* One more socket of an address that has some, or the first. */
static int tcp_bind(struct pl_listeners *l, uint32_t worker, uint32_t address,
                    char *error) {
  struct pl_address *a = &l->addresses[address];
  int fd = socket_bind(a, true);

  if (fd < 0)
    return fail(error, a, -fd);
  *fd_at(l, worker, address) = fd;
  if (a->port == 0)
    port_resolve(a, fd);
  return 0;
}

static int tcp_open(struct pl_listeners *l, uint32_t address, char *error) {
  struct pl_address *a = &l->addresses[address];
  int code = a->port ? tcp_probe(a) : 0, status = 0;

  if (code)
    return fail(error, a, -code);
  for (uint32_t i = 0; i < l->worker_count && !status; i++)
    status = tcp_bind(l, i, address, error);
  return status;
}

/* Sockets that were handed over; those that are missing are made. */
static int inherited_open(struct pl_listeners *l, uint32_t address,
                          const struct pl_inherited *from, char *error) {
  struct pl_address *a = &l->addresses[address];
  int status = 0;

  a->storage = from->address.storage;
  a->bytes = from->address.bytes;
  a->family = from->address.family;
  a->port = from->address.port;
  l->is_shared[address] |= from->is_foreign;
  l->is_foreign[address] = from->is_foreign;
  for (uint32_t i = 0; i < l->worker_count && !status; i++) {
    if (l->is_shared[address])
      *fd_at(l, i, address) = from->fds[0];
    else if (i < from->count)
      *fd_at(l, i, address) = from->fds[i];
    else
      status = tcp_bind(l, i, address, error);
  }
  return status;
}

/* Removes the file of a server that is gone: one where nobody answers. Returns
 * 0 when the way is free, else an errno. */
static int unix_clear(const struct pl_address *a) {
  const char *path = ((const struct sockaddr_un *)&a->storage)->sun_path;
  struct stat st;
  int fd, code;

  if (lstat(path, &st))
    return errno == ENOENT ? 0 : errno;
  if (!S_ISSOCK(st.st_mode))
    return EEXIST;
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return errno;
  code =
      connect(fd, (const struct sockaddr *)&a->storage, a->bytes) ? errno : 0;
  close(fd);
  if (code != ECONNREFUSED)
    return EADDRINUSE;
  return unlink(path) ? errno : 0;
}

static int unix_open(struct pl_listeners *l, uint32_t address, char *error) {
  const struct pl_address *a = &l->addresses[address];
  int code = unix_clear(a);
  int fd;

  if (code)
    return fail(error, a, code);
  fd = socket_bind(a, false);
  if (fd < 0)
    return fail(error, a, -fd);
  for (uint32_t i = 0; i < l->worker_count; i++)
    *fd_at(l, i, address) = fd;
  return 0;
}

static int address_open(struct pl_listeners *l, uint32_t address,
                        const struct pl_inheritance *inherited, char *error) {
  const struct pl_inherited *from =
      inherited ? pl__inherited_of(inherited, l->addresses[address].text)
                : NULL;

  l->is_shared[address] = l->addresses[address].family == AF_UNIX;
  if (from)
    return inherited_open(l, address, from, error);
  return l->is_shared[address] ? unix_open(l, address, error)
                               : tcp_open(l, address, error);
}

int pl__listeners_listen(struct pl_listeners *l, uint32_t worker) {
  for (uint32_t i = 0; i < l->address_count; i++)
    if (!l->is_foreign[i] && listen(*fd_at(l, worker, i), PL_LISTENERS_BACKLOG))
      return -errno;
  return 0;
}

int pl__listeners_open(struct pl_listeners *l,
                       const struct pl_address *addresses,
                       uint32_t address_count, uint32_t worker_count,
                       const struct pl_inheritance *inherited, char *error) {
  size_t fd_count = (size_t)address_count * worker_count;
  int status = 0;

  error[0] = '\0';
  memset(l, 0, sizeof *l);
  l->address_count = address_count;
  l->worker_count = worker_count;
  l->addresses = pl__alloc(address_count * sizeof(*addresses));
  l->fds = pl__alloc(fd_count * sizeof(int));
  if (!l->addresses || !l->fds) {
    pl__free(l->addresses);
    pl__free(l->fds);
    l->addresses = NULL;
    l->fds = NULL;
    return PL_ENOMEM;
  }
  memcpy(l->addresses, addresses, address_count * sizeof(*addresses));
  for (size_t i = 0; i < fd_count; i++)
    l->fds[i] = -1;
  for (uint32_t i = 0; i < address_count && !status; i++)
    status = address_open(l, i, inherited, error);
  if (status)
    pl__listeners_close(l);
  return status;
}

const int *pl__listeners_of(const struct pl_listeners *l, uint32_t worker) {
  return &l->fds[worker * l->address_count];
}

/* Closes one socket; a unix socket stands in the table once per worker. */
static void fd_close(struct pl_listeners *l, int fd) {
  if (fd < 0)
    return;
  close(fd);
  for (size_t i = 0; i < (size_t)l->address_count * l->worker_count; i++)
    if (l->fds[i] == fd)
      l->fds[i] = -1;
}

bool pl__listeners_is_shared(const struct pl_listeners *l, uint32_t address) {
  return l->is_shared[address];
}

void pl__listeners_forget(struct pl_listeners *l) {
  for (size_t i = 0; i < (size_t)l->address_count * l->worker_count; i++)
    fd_close(l, l->fds[i]);
}

void pl__listeners_stop(struct pl_listeners *l) {
  for (uint32_t i = 0; l->fds && i < l->address_count; i++) {
    const struct pl_address *a = &l->addresses[i];

    if (a->family == AF_UNIX && !l->is_foreign[i] && *fd_at(l, 0, i) >= 0)
      unlink(((const struct sockaddr_un *)&a->storage)->sun_path);
    for (uint32_t w = 0; w < l->worker_count; w++)
      fd_close(l, *fd_at(l, w, i));
  }
}

void pl__listeners_close(struct pl_listeners *l) {
  pl__listeners_stop(l);
  pl__free(l->addresses);
  pl__free(l->fds);
  l->addresses = NULL;
  l->fds = NULL;
}
