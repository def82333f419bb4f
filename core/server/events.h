/* server/events.h - `perilune dev` to browsers: a stream of events, and the
 * script that listens to it.
 *
 *   GET /dev/events     server-sent events; how things stand first
 *   GET /dev/client.js  the script that pages bring along
 *
 * On a loopback port of its own, in the master's poll loop: no call waits,
 * clients are few and bounded, and who does not read, or does not ask for
 * anything, is dropped.  A Host that is a name, but not localhost, gets nothing:
 * it may be another site's that leads to us (DNS rebinding).
 */
#ifndef PL_SERVER_EVENTS_H
#define PL_SERVER_EVENTS_H

#include "base/buf.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct pl_address;

#define PL_EVENTS_CLIENTS_MAX 64u
#define PL_EVENTS_FDS_MAX (PL_EVENTS_CLIENTS_MAX + 1u)
#define PL_EVENTS_REQUEST_BYTES 4096u
#define PL_EVENTS_DATA_BYTES_MAX 65536u /* of one event */
#define PL_EVENTS_REQUEST_MS 5000       /* to say what is wanted */

/* What a new client gets of each. */
enum pl_events_kept { PL_EVENTS_STATE, PL_EVENTS_ASSETS, PL_EVENTS_KEPT };

struct pl_events_client {
  int fd; /* -1: free */
  bool listens;
  int64_t due_ns; /* to have asked; unless it listens */
  uint32_t used;
  char in[PL_EVENTS_REQUEST_BYTES];
};

struct pl_events {
  int fd; /* listens; -1: closed */
  uint16_t port;
  uint16_t app_port; /* whose pages may listen */
  int64_t ping_due_ns;
  struct pl_buf kept[PL_EVENTS_KEPT]; /* events, as they are sent */
  struct pl_events_client *clients;
};

/* Listens at the address, or, when its port is taken, at one of the next ten.
 * Returns 0, PL_EBIND or PL_ENOMEM. */
int pl__events_open(struct pl_events *e, const struct pl_address *address);
void pl__events_close(struct pl_events *e);

nfds_t pl__events_watch(const struct pl_events *e, struct pollfd *fds);
void pl__events_turn(struct pl_events *e, int64_t now_ns);
int64_t pl__events_due(const struct pl_events *e);

/* Sends an event to all who listen; `data` is JSON without line ends. */
void pl__events_push(struct pl_events *e, const char *event,
                     struct pl_slice data);
/* Likewise, to each new client, instead of what was kept there. */
void pl__events_keep(struct pl_events *e, enum pl_events_kept slot,
                     const char *event, struct pl_slice data);

#endif /* PL_SERVER_EVENTS_H */
