/* server/channel.c - messages over a pair of sockets. */
#define _GNU_SOURCE /* SOCK_CLOEXEC */
#include "server/channel.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"

#define HEAD_BYTES offsetof(struct pl_message, text)
#define SEND_WAIT_MS 1000

int pl__channel_open(int fds[2]) {
  return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                    fds)
             ? -errno
             : 0;
}

int pl__channel_say(int fd, enum pl_message_kind kind, uint32_t generation,
                    int code, const char *text) {
  struct pl_message m = {
      .kind = kind, .generation = generation, .code = (int32_t)code};
  size_t bytes;
  ssize_t n;

  snprintf(m.text, sizeof m.text, "%s", text ? text : "");
  bytes = HEAD_BYTES + strlen(m.text) + 1;
  while ((n = send(fd, &m, bytes, MSG_NOSIGNAL)) < 0) {
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    if (errno == EINTR)
      continue;
    if (errno != EAGAIN || poll(&room, 1, SEND_WAIT_MS) <= 0)
      return errno ? -errno : -EAGAIN;
  }
  return 0;
}

int pl__channel_read(int fd, struct pl_message *out) {
  ssize_t n;

  /* One that goes without having read everything resets the pair, which is told
   * once, and before what it has said. */
  do
    n = recv(fd, out, sizeof *out, 0);
  while (n < 0 && (errno == EINTR || errno == ECONNRESET));
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return -EAGAIN;
  if (n <= (ssize_t)HEAD_BYTES)
    return PL_EGONE;
  ((char *)out)[n - 1] = '\0';
  return 0;
}
