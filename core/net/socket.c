/* net/socket.c - see socket.h.
 *
 * libuv reports an error of the socket (a reset, say) as a failed status and
 * stops watching; both directions are then announced as ready, and the next
 * system call of the connection finds out what happened.
 */
#include "net/socket.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pl_socket *socket_of(struct pl_transport *t) {
  return (struct pl_socket *)t;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
  struct pl_socket *s = poll->data;

  if (status < 0) {
    s->events = 0;
    events = UV_READABLE | UV_WRITABLE;
  }
  s->transport.events->on_ready(&s->transport, (events & UV_READABLE) != 0,
                                (events & UV_WRITABLE) != 0);
}

static void on_poll_closed(uv_handle_t *handle) {
  struct pl_socket *s = handle->data;

  s->transport.events->on_closed(&s->transport);
}

static ssize_t result_of(ssize_t n) {
  if (n >= 0)
    return n;
  return errno == EAGAIN || errno == EINTR ? PL_TRANSPORT_AGAIN : -errno;
}

static ssize_t socket_receive(struct pl_transport *t, char *to, size_t bytes) {
  return result_of(recv(socket_of(t)->fd, to, bytes, 0));
}

static ssize_t socket_send(struct pl_transport *t, const struct iovec *pieces,
                           int piece_count) {
  struct pl_socket *s = socket_of(t);

  if (piece_count == 1)
    return result_of(
        send(s->fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL));
  struct msghdr message = {.msg_iov = (struct iovec *)pieces,
                           .msg_iovlen = (size_t)piece_count};
  return result_of(sendmsg(s->fd, &message, MSG_NOSIGNAL));
}

static ssize_t socket_send_file(struct pl_transport *t, int fd, off_t *offset,
                                size_t bytes) {
  return result_of(sendfile(socket_of(t)->fd, fd, offset, bytes));
}

static size_t socket_unacked(struct pl_transport *t) {
  int bytes = 0;

  return ioctl(socket_of(t)->fd, SIOCOUTQ, &bytes) || bytes < 0 ? 0
                                                                : (size_t)bytes;
}

static void socket_watch(struct pl_transport *t, bool readable, bool writable) {
  struct pl_socket *s = socket_of(t);
  int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);

  if (events == s->events)
    return;
  s->events = events;
  if (events)
    uv_poll_start(&s->poll, events, on_poll);
  else
    uv_poll_stop(&s->poll);
}

static void socket_shut_down(struct pl_transport *t) {
  shutdown(socket_of(t)->fd, SHUT_WR);
}

static void socket_close(struct pl_transport *t, bool reset) {
  struct pl_socket *s = socket_of(t);
  struct linger now = {.l_onoff = 1, .l_linger = 0};

  if (reset)
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  uv_close((uv_handle_t *)&s->poll, on_poll_closed);
  close(s->fd); /* libuv lets go of it inside uv_close */
  s->fd = -1;
}

static int socket_release(struct pl_transport *t) {
  struct pl_socket *s = socket_of(t);
  int fd = s->fd;

  uv_close((uv_handle_t *)&s->poll, on_poll_closed);
  s->fd = -1; /* libuv has let go of it */
  return fd;
}

static const struct pl_transport_ops socket_ops = {
    .receive = socket_receive,
    .send = socket_send,
    .send_file = socket_send_file,
    .unacked = socket_unacked,
    .watch = socket_watch,
    .release = socket_release,
    .shut_down = socket_shut_down,
    .close = socket_close,
};

int pl__socket_open(struct pl_socket *s, uv_loop_t *loop, int fd) {
  int status = uv_poll_init(loop, &s->poll, fd);

  if (status)
    return status;
  s->transport.ops = &socket_ops;
  s->poll.data = s;
  s->fd = fd;
  s->events = 0;
  socket_watch(&s->transport, true, false);
  return 0;
}
