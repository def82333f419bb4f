/* server/inherit.c - see inherit.h. */
#include "server/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "server/listeners.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START of sd_listen_fds(3) */

static int number_of(const char *text) {
  char *end;
  long n = text ? strtol(text, &end, 10) : -1;

  return n >= 0 && n < 1048576 && *text && !*end ? (int)n : -1;
}

static int option_of(int fd, int name) {
  int value = 0;
  socklen_t bytes = sizeof value;

  return getsockopt(fd, SOL_SOCKET, name, &value, &bytes) ? -1 : value;
}

/* Fills in the address of a listening socket, and makes it fit for us. */
static int socket_take(int fd, struct pl_address *a, char *error) {
  int flags = fcntl(fd, F_GETFL);

  if (flags < 0 || option_of(fd, SO_ACCEPTCONN) != 1 ||
      option_of(fd, SO_TYPE) != SOCK_STREAM) {
    snprintf(error, PL_INHERIT_ERROR_BYTES,
             "descriptor %d, which was handed over, is no listening stream "
             "socket",
             fd);
    return PL_EBIND;
  }
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  a->bytes = sizeof a->storage;
  if (getsockname(fd, (struct sockaddr *)&a->storage, &a->bytes)) {
    snprintf(error, PL_INHERIT_ERROR_BYTES, "descriptor %d: %s", fd,
             strerror(errno));
    return PL_EBIND;
  }
  a->family = a->storage.ss_family;
  if (a->family == AF_INET)
    a->port = ntohs(((struct sockaddr_in *)&a->storage)->sin_port);
  else if (a->family == AF_INET6)
    a->port = ntohs(((struct sockaddr_in6 *)&a->storage)->sin6_port);
  return 0;
}

/* --- systemd ----------------------------------------------------------------- */

static int take_activation(struct pl_inheritance *out, int count, char *error) {
  int failed = 0;

  for (int i = 0; i < count && !failed; i++) {
    struct pl_inherited *s = &out->at[out->count];
    if (out->count == PL_INHERIT_ADDRESSES_MAX)
      break;
    failed = socket_take(FIRST_FD + i, &s->address, error);
    if (failed)
      break;
    pl__address_format(&s->address, s->address.text, sizeof s->address.text);
    s->fds[0] = FIRST_FD + i;
    s->count = 1;
    s->is_foreign = true;
    out->count++;
  }
  out->is_activation = out->count > 0;
  return failed;
}

/* --- the server before this one ------------------------------------------------ */

/* "listen TEXT FOREIGN FD FD ..."; or "admin ..." */
static int take_line(struct pl_inheritance *out, struct pl_inheritance *admin,
                     char *line, char *error) {
  char *rest, *word = strtok_r(line, " ", &rest);
  struct pl_inherited *s;
  int failed = 0;

  if (!word)
    return 0;
  if (strcmp(word, "lock") == 0 || strcmp(word, "ready") == 0) {
    int *fd = *word == 'l' ? &out->lock_fd : &out->ready_fd;
    *fd = number_of(strtok_r(NULL, " ", &rest));
    if (*fd >= 0)
      fcntl(*fd, F_SETFD, FD_CLOEXEC);
    return 0;
  }
  if (strcmp(word, "admin") == 0)
    out = admin;
  s = &out->at[out->count];
  word = strtok_r(NULL, " ", &rest);
  if (!word || out->count == PL_INHERIT_ADDRESSES_MAX)
    return 0;
  snprintf(s->address.text, sizeof s->address.text, "%s", word);
  s->is_foreign = number_of(strtok_r(NULL, " ", &rest)) == 1;
  while (!failed && s->count < PL_INHERIT_FDS_MAX &&
         (word = strtok_r(NULL, " ", &rest))) {
    s->fds[s->count] = number_of(word);
    failed = socket_take(s->fds[s->count], &s->address, error);
    s->count += !failed;
  }
  out->count += s->count > 0;
  out->is_activation |= s->is_foreign;
  return failed;
}

static int take_upgrade(struct pl_inheritance *out,
                        struct pl_inheritance *admin, const char *text,
                        char *error) {
  size_t bytes = strlen(text) + 1;
  char *copy = pl__alloc(bytes), *rest, *line;
  int failed = 0;

  if (!copy) {
    snprintf(error, PL_INHERIT_ERROR_BYTES, "out of memory");
    return PL_EBIND;
  }
  memcpy(copy, text, bytes);
  out->is_upgrade = true;
  for (line = strtok_r(copy, "\n", &rest); line && !failed;
       line = strtok_r(NULL, "\n", &rest))
    failed = take_line(out, admin, line, error);
  pl__free(copy);
  return failed;
}

int pl__inherit(struct pl_inheritance *out, struct pl_inheritance *admin,
                char *error) {
  const char *upgrade = getenv(PL_INHERIT_ENV);
  int pid = number_of(getenv("LISTEN_PID"));
  int count = number_of(getenv("LISTEN_FDS"));
  int failed = 0;

  memset(out, 0, sizeof *out);
  memset(admin, 0, sizeof *admin);
  out->lock_fd = out->ready_fd = admin->lock_fd = admin->ready_fd = -1;
  error[0] = '\0';
  if (upgrade)
    failed = take_upgrade(out, admin, upgrade, error);
  else if (count > 0 && pid == (int)getpid())
    failed = take_activation(out, count, error);
  unsetenv(PL_INHERIT_ENV);
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
  return failed;
}

void pl__inherit_move(struct pl_inheritance *from, const char *text,
                      struct pl_inheritance *admin) {
  for (uint32_t i = 0; i < from->count; i++) {
    if (!from->at[i].is_foreign || strcmp(from->at[i].address.text, text) != 0)
      continue;
    admin->at[0] = from->at[i];
    admin->count = 1;
    memmove(&from->at[i], &from->at[i + 1],
            (--from->count - i) * sizeof from->at[i]);
    return;
  }
}

const struct pl_inherited *pl__inherited_of(const struct pl_inheritance *all,
                                            const char *text) {
  for (uint32_t i = 0; i < all->count; i++)
    if (strcmp(all->at[i].address.text, text) == 0)
      return &all->at[i];
  return NULL;
}

uint32_t pl__inherited_sockets(const struct pl_inheritance *all) {
  uint32_t most = 0;

  for (uint32_t i = 0; i < all->count; i++)
    if (all->at[i].count > most)
      most = all->at[i].count;
  return most;
}

static bool is_used(const struct pl_listeners *l, int fd) {
  for (uint32_t i = 0; l->fds && i < l->address_count * l->worker_count; i++)
    if (l->fds[i] == fd)
      return true;
  return false;
}

void pl__inherit_close_rest(const struct pl_inheritance *all,
                            const struct pl_listeners *l) {
  for (uint32_t i = 0; i < all->count; i++)
    for (uint32_t j = 0; j < all->at[i].count; j++)
      if (!is_used(l, all->at[i].fds[j]))
        close(all->at[i].fds[j]);
}
