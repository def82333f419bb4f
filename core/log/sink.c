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
#include "log/syslog.h"

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

static enum pl_sink_medium medium_of(int fd, const struct stat *st) {
  int type = 0;
  socklen_t bytes = sizeof type;
  if (S_ISREG(st->st_mode))
    return PL_MEDIUM_FILE;
  if (S_ISFIFO(st->st_mode))
    return PL_MEDIUM_PIPE;
  if (S_ISSOCK(st->st_mode) &&
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 &&
      type == SOCK_STREAM)
    return PL_MEDIUM_STREAM;
  return PL_MEDIUM_OTHER;
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
  s->medium = medium_of(fd, &st);
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

static int open_file(struct pl_sink *s, const char *path) {
  struct stat st;
  int fd = open_path(path);
  if (fd < 0 || fstat(fd, &st))
    return -errno;
  s->fd = fd;
  s->kind = PL_SINK_NOBLOCK;
  s->medium = medium_of(fd, &st);
  s->owned = true;
  memcpy(s->path, path, strlen(path) + 1);
  return 0;
}

static int open_syslog(struct pl_sink *s, const char *output) {
  int status = pl__syslog_address(output, &s->to, &s->to_bytes);
  if (status)
    return status;
  s->kind = PL_SINK_SYSLOG;
  s->medium = PL_MEDIUM_MESSAGES;
  s->owned = true;
  s->fd = pl__syslog_connect(&s->to, s->to_bytes);
  return 0;
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
  if (pl__syslog_is_meant(output))
    return open_syslog(s, output);
  return open_file(s, output);
}

void pl__sink_close(struct pl_sink *s) {
  if (s->owned && s->fd >= 0)
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

/* One message, to a daemon that may have come, gone, or been replaced since the
 * last one. */
static int send_message(struct pl_sink *s, const char *at, size_t bytes) {
  if (s->fd < 0)
    s->fd = pl__syslog_connect(&s->to, s->to_bytes);
  if (s->fd < 0) {
    int status = s->fd;
    s->fd = -1;
    return status;
  }
  if (send(s->fd, at, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
    return 0;
  if (errno == ECONNREFUSED && s->to.ss_family != AF_UNIX) {
    s->refused_count++; /* the message before this one */
    return -EINTR;
  }
  int status = errno == ENOBUFS ? -EAGAIN : -errno;
  if (status != -EAGAIN && status != -EINTR) {
    close(s->fd);
    s->fd = -1;
  }
  return status;
}

static int send_messages(struct pl_sink *s, const char *at, size_t bytes,
                         size_t *taken) {
  while (*taken < bytes) {
    const char *from = at + *taken, *end = memchr(from, 0, bytes - *taken);
    size_t length = end ? (size_t)(end - from) : bytes - *taken;
    int status = send_message(s, from, length);
    if (status == 0)
      *taken += end ? length + 1 : length;
    else if (status != -EINTR)
      return status;
  }
  return 0;
}

int pl__sink_write(struct pl_sink *s, const char *at, size_t bytes,
                   size_t *taken) {
  *taken = 0;
  if (s->kind == PL_SINK_SYSLOG)
    return send_messages(s, at, bytes, taken);
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
  struct pl_sink fresh = {.fd = -1};
  int status = s->path[0] ? open_file(&fresh, s->path) : 0;
  if (status || !s->path[0])
    return status;
  close(s->fd);
  *s = fresh;
  return 0;
}

uint64_t pl__sink_bytes(const struct pl_sink *s) {
  struct stat st;
  return s->medium == PL_MEDIUM_FILE && fstat(s->fd, &st) == 0
             ? (uint64_t)st.st_size
             : 0;
}

/* FILE.NUMBER, or FILE itself for 0. */
static void number_path(char *out, const char *path, unsigned number) {
  if (number)
    snprintf(out, PL_SINK_PATH_BYTES + 16, "%s.%u", path, number);
  else
    snprintf(out, PL_SINK_PATH_BYTES + 16, "%s", path);
}

/* The first number without a file: whoever was killed while moving them up has
 * left a gap, which is filled first.  Else the last one is given up. */
static unsigned free_number(const char *path, unsigned keep) {
  char name[PL_SINK_PATH_BYTES + 16];
  struct stat st;
  for (unsigned i = 1; i < keep; i++) {
    number_path(name, path, i);
    if (lstat(name, &st) && errno == ENOENT)
      return i;
  }
  return keep;
}

static int move_up(const char *path, unsigned keep) {
  char from[PL_SINK_PATH_BYTES + 16], to[PL_SINK_PATH_BYTES + 16];
  for (unsigned i = free_number(path, keep); i > 0; i--) {
    number_path(from, path, i - 1);
    number_path(to, path, i);
    if (rename(from, to))
      return -errno;
  }
  return 0;
}

int pl__sink_rotate(struct pl_sink *s, unsigned keep) {
  struct stat own, there;
  int status = 0;
  if (fstat(s->fd, &own))
    return -errno;
  if (stat(s->path, &there) == 0 && there.st_dev == own.st_dev &&
      there.st_ino == own.st_ino)
    status = move_up(s->path, keep);
  status = status ? status : pl__sink_reopen(s);
  if (status == 0)
    fchmod(s->fd, own.st_mode & 0777);
  return status;
}

bool pl__sink_is_tty(const struct pl_sink *s) {
  return s->fd >= 0 && isatty(s->fd);
}
