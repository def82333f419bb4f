/* server/status.c - the one message of a child to its master. */
#include "server/status.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

_Static_assert(sizeof(struct pl_status) <= PIPE_BUF, "written in one piece");

int pl__status_send(int fd, int code, const char *text) {
  struct pl_status message;
  ssize_t n;
  int status = 0;

  memset(&message, 0, sizeof(message));
  message.code = code;
  snprintf(message.text, sizeof(message.text), "%s", text ? text : "");
  do
    n = write(fd, &message, sizeof(message));
  while (n < 0 && errno == EINTR);
  if (n < 0)
    status = -errno;
  close(fd);
  return status;
}

int pl__status_read(int fd, struct pl_status *out) {
  ssize_t n;

  do
    n = read(fd, out, sizeof(*out));
  while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return -EAGAIN;
  if (n != (ssize_t)sizeof(*out))
    return PL_EGONE;
  out->text[sizeof(out->text) - 1] = '\0';
  return 0;
}
