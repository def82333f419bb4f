/* log/sink.c - writing without waiting, to whatever a descriptor is.
 *
 * O_NONBLOCK is a flag of the open description, which a pipe or a terminal
 * shares with the processes around us: to set it there would break the shell
 * that started us.  So such a descriptor is opened anew through /proc, which
 * gives a description of our own.  Where that is refused, at most PIPE_BUF
 * bytes are written after a poll said that there is room: a pipe that is
 * writable takes as many without waiting.
 */
#include "log/sink.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE 0640

static void sink_clear(struct pl_sink *s) {
  *s = (struct pl_sink){.fd = -1, .kind = PL_SINK_CLOSED};
}

/* Opens what `fd` is once more; -1 when that is refused. */
static int open_again(int fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

int pl__sink_open_fd(struct pl_sink *s, int fd) {
  struct stat st;
  sink_clear(s);
  if (fstat(fd, &st))
    return -errno;
  s->fd = fd;
  if (S_ISSOCK(st.st_mode)) {
    s->kind = PL_SINK_SOCKET;
  } else if (S_ISFIFO(st.st_mode) || isatty(fd)) {
    int own = open_again(fd);
    s->kind = own < 0 ? PL_SINK_POLLED : PL_SINK_NOBLOCK;
    s->fd = own < 0 ? fd : own;
    s->owned = own >= 0;
  } else {
    s->kind = PL_SINK_FILE;
  }
  return 0;
}

static int open_path(const char *path) {
  return open(path,
              O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
              FILE_MODE);
}

int pl__sink_open(struct pl_sink *s, const char *output) {
  size_t bytes = strlen(output);
  sink_clear(s);
  if (bytes == 0 || bytes >= sizeof s->path)
    return PL_EINVAL;
  if (strcmp(output, "stdout") == 0)
    return pl__sink_open_fd(s, STDOUT_FILENO);
  if (strcmp(output, "stderr") == 0)
    return pl__sink_open_fd(s, STDERR_FILENO);
  int fd = open_path(output);
  if (fd < 0)
    return -errno;
  s->fd = fd;
  s->kind = PL_SINK_NOBLOCK;
  s->owned = true;
  memcpy(s->path, output, bytes + 1);
  return 0;
}

void pl__sink_close(struct pl_sink *s) {
  if (s->owned)
    close(s->fd);
  sink_clear(s);
}

static ssize_t write_polled(int fd, const char *at, size_t bytes) {
  struct pollfd p = {.fd = fd, .events = POLLOUT};
  int ready = poll(&p, 1, 0);
  if (ready < 0)
    return -1;
  if (ready == 0) {
    errno = EAGAIN;
    return -1;
  }
  return write(fd, at, bytes < PIPE_BUF ? bytes : PIPE_BUF);
}

static ssize_t write_once(const struct pl_sink *s, const char *at,
                          size_t bytes) {
  switch (s->kind) {
  case PL_SINK_SOCKET:
    return send(s->fd, at, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
  case PL_SINK_POLLED:
    return write_polled(s->fd, at, bytes);
  case PL_SINK_FILE:
  case PL_SINK_NOBLOCK:
    return write(s->fd, at, bytes);
  default:
    errno = EBADF;
    return -1;
  }
}

int pl__sink_write(struct pl_sink *s, const char *at, size_t bytes,
                   size_t *taken) {
  *taken = 0;
  while (*taken < bytes) {
    ssize_t n = write_once(s, at + *taken, bytes - *taken);
    if (n > 0)
      *taken += (size_t)n;
    else if (n == 0)
      return -EIO; /* no descriptor of ours may do that: don't try for ever */
    else if (errno != EINTR)
      return -errno;
  }
  return 0;
}

int pl__sink_reopen(struct pl_sink *s) {
  if (!s->path[0])
    return 0;
  int fd = open_path(s->path);
  if (fd < 0)
    return -errno;
  close(s->fd);
  s->fd = fd;
  return 0;
}

bool pl__sink_is_tty(const struct pl_sink *s) {
  return s->fd >= 0 && isatty(s->fd);
}
