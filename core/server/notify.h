/* server/notify.h - tells systemd how the service is (sd_notify(3)).
 *
 * Only a service of Type=notify has $NOTIFY_SOCKET; else all of this does
 * nothing.
 */
#ifndef PL_SERVER_NOTIFY_H
#define PL_SERVER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

struct pl_notify {
  int fd; /* -1: nobody listens */
  struct sockaddr_un address;
  uint32_t address_bytes;
  int64_t watchdog_ns; /* how often a sign of life is due; 0: none is */
  int64_t watchdog_due_ns;
};

void pl__notify_open(struct pl_notify *n);
void pl__notify_close(struct pl_notify *n);
/* In a forked child: none of its children is to speak in our name either. */
void pl__notify_forget(struct pl_notify *n);

/* Sends lines such as "READY=1\nSTATUS=...". */
__attribute__((format(printf, 2, 3))) void
pl__notify_say(struct pl_notify *n, const char *format, ...);
/* RELOADING=1 with the time that it needs. */
void pl__notify_reloading(struct pl_notify *n);
/* WATCHDOG=1 when one is due and the service is `alive`. */
void pl__notify_watchdog(struct pl_notify *n, bool alive, int64_t now_ns);
/* When to look at that next; 0: never. */
int64_t pl__notify_due(const struct pl_notify *n);

#endif /* PL_SERVER_NOTIFY_H */
