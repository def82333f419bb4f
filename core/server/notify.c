/* server/notify.c - datagrams to $NOTIFY_SOCKET. */
#include "server/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define TEXT_BYTES 2048

/* A path, or with '@' the abstract name behind it. */
static bool address_set(struct pl_notify *n, const char *name) {
  size_t bytes = strlen(name);

  if (bytes < 2 || bytes >= sizeof n->address.sun_path ||
      (name[0] != '/' && name[0] != '@'))
    return false;
  n->address.sun_family = AF_UNIX;
  memcpy(n->address.sun_path, name, bytes + 1);
  if (name[0] == '@')
    n->address.sun_path[0] = '\0';
  n->address_bytes = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
  return true;
}

static void watchdog_set(struct pl_notify *n) {
  const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
  long long value = usec ? strtoll(usec, NULL, 10) : 0;

  if (value > 0 && (!pid || strtol(pid, NULL, 10) == (long)getpid()))
    n->watchdog_ns = value * 1000 / 2;
}

void pl__notify_open(struct pl_notify *n) {
  const char *name = getenv("NOTIFY_SOCKET");

  *n = (struct pl_notify){.fd = -1};
  if (name && address_set(n, name)) {
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    watchdog_set(n);
  }
}

void pl__notify_close(struct pl_notify *n) {
  if (n->fd >= 0)
    close(n->fd);
  n->fd = -1;
}

void pl__notify_forget(struct pl_notify *n) {
  pl__notify_close(n);
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
}

void pl__notify_say(struct pl_notify *n, const char *format, ...) {
  char text[TEXT_BYTES];
  va_list args;

  if (n->fd < 0)
    return;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  sendto(n->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
         (struct sockaddr *)&n->address, n->address_bytes);
}

void pl__notify_reloading(struct pl_notify *n) {
  pl__notify_say(n, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reloading",
                 (long long)(pl__clock_monotonic_ns() / 1000));
}

void pl__notify_watchdog(struct pl_notify *n, bool alive, int64_t now_ns) {
  if (!n->watchdog_ns || now_ns < n->watchdog_due_ns)
    return;
  n->watchdog_due_ns = now_ns + n->watchdog_ns;
  if (alive)
    pl__notify_say(n, "WATCHDOG=1");
}

int64_t pl__notify_due(const struct pl_notify *n) {
  return n->watchdog_ns ? n->watchdog_due_ns ? n->watchdog_due_ns : 1 : 0;
}
