/* net/listener.c - see listener.h. */
#define _GNU_SOURCE /* accept4 */
#include "net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static bool listener_has_room(const struct pl_listener *l) {
  return l->net->conn_count < l->net->limits.connections_max;
}

/* One connection. False: nothing more to accept now. */
static bool listener_accept(struct pl_listener *l) {
  struct sockaddr_storage peer;
  socklen_t bytes = sizeof peer;
  int on = 1;
  int fd = accept4(l->fd, (struct sockaddr *)&peer, &bytes,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);

  if (fd < 0) {
    l->starved = errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                 errno == ENOMEM;
    return errno == ECONNABORTED || errno == EINTR;
  }
  l->starved = false;
  if (peer.ss_family != AF_UNIX)
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  pl__conn_accept(l->net, l->loop, fd, (struct sockaddr *)&peer, l->index);
  return true;
}

static void listener_watch(struct pl_listener *l, bool on);

static void on_poll(uv_poll_t *poll, int status, int events) {
  struct pl_listener *l = poll->data;

  (void)events;
  if (status < 0) { /* libuv has stopped watching */
    l->watching = false;
    return;
  }
  for (int i = 0; i < PL_LISTENER_BATCH && listener_has_room(l); i++)
    if (!listener_accept(l))
      break;
  if (!listener_has_room(l) || l->starved)
    listener_watch(l, false);
}

static void listener_watch(struct pl_listener *l, bool on) {
  if (l->watching == on)
    return;
  l->watching = on;
  if (on)
    uv_poll_start(&l->poll, UV_READABLE, on_poll);
  else
    uv_poll_stop(&l->poll);
}

int pl__listener_open(struct pl_listener *l, struct pl_net *net,
                      uv_loop_t *loop, int fd, uint8_t index) {
  int status;

  *l = (struct pl_listener){.net = net, .loop = loop, .fd = fd, .index = index};
  status = uv_poll_init(loop, &l->poll, fd);
  if (status)
    return status;
  l->poll.data = l;
  l->open = true;
  listener_watch(l, true);
  return 0;
}

void pl__listener_resume(struct pl_listener *l) {
  if (l->open && listener_has_room(l))
    listener_watch(l, true);
}

void pl__listener_close(struct pl_listener *l) {
  if (!l->open)
    return;
  while (listener_has_room(l) && listener_accept(l))
    continue;
  l->open = false;
  l->watching = false;
  uv_close((uv_handle_t *)&l->poll, NULL);
}
