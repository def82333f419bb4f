/* server/operate.c - see operate.h. */
#define _GNU_SOURCE /* memmem */
#include "server/operate.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "server/ops.h"

#define CHUNK_BYTES 16384u

static int socket_connect(const char *lock_path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char path[PL_OPS_PATH_BYTES];
  int fd;

  if (!pl__ops_place(lock_path, path))
    return PL_ENOTRUNNING;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -errno;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
    return fd;
  close(fd);
  return PL_ENOTRUNNING;
}

static int request_send(int fd, const char *method, const char *target) {
  char text[512];
  int n = snprintf(text, sizeof text,
                   "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", method, target);

  return send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : PL_EGONE;
}

/* All that comes until the other side closes. */
static int receive_all(int fd, int64_t due_ns, struct pl_buf *in) {
  for (;;) {
    int64_t left = due_ns - pl__clock_monotonic_ns();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n;

    if (left <= 0)
      return PL_ETIMEOUT;
    if (poll(&p, 1, (int)(left / PL_NS_PER_MS) + 1) <= 0)
      continue;
    if (pl__buf_reserve(in, CHUNK_BYTES))
      return PL_ENOMEM;
    n = recv(fd, in->at + in->bytes, CHUNK_BYTES, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? PL_EGONE : 0;
    in->bytes += (uint32_t)n;
  }
}

static int answer_read(const struct pl_buf *in, struct pl_buf *body) {
  static const char version[] = "HTTP/1.1 ";
  const char *end;

  if (in->bytes < sizeof version + 3 ||
      memcmp(in->at, version, sizeof version - 1) != 0)
    return PL_EGONE;
  end = memmem(in->at, in->bytes, "\r\n\r\n", 4);
  if (!end ||
      pl__buf_append(body, end + 4, in->bytes - (uint32_t)(end + 4 - in->at)))
    return PL_EGONE;
  return (int)strtol(in->at + sizeof version - 1, NULL, 10);
}

int pl__operate(const char *lock_path, const char *method, const char *target,
                double seconds, struct pl_buf *body) {
  int64_t due_ns = pl__clock_monotonic_ns() + (int64_t)(seconds * PL_NS_PER_S);
  int fd = socket_connect(lock_path), status;
  struct pl_buf in;

  if (fd < 0)
    return fd;
  pl__buf_init(&in, NULL, PL_OPS_ANSWER_BYTES_MAX + 4096u);
  status = request_send(fd, method, target);
  status = status ? status : receive_all(fd, due_ns, &in);
  status = status ? status : answer_read(&in, body);
  pl__buf_release(&in);
  close(fd);
  return status;
}
