/* server/desk.h - what a server does when it is asked by its control socket.
 *
 *   GET  /status[?format=text]                 the server at a glance
 *   GET  /metrics[?format=openmetrics]         all of them, as text
 *   POST /reload[?wait=false][&format=text]    200 committed, 422 rejected for
 *                                              the app, 400 for the
 *                                              configuration
 *   POST /drain[?wait=false]                   200 when all has ended
 *   POST /stop[?now=true]                      202
 *
 * Requests are checked and answered here, clients that wait are remembered;
 * what is to be done, the master does.
 */
#ifndef PL_SERVER_DESK_H
#define PL_SERVER_DESK_H

#include "server/ops.h"
#include "server/overview.h"
#include "server/reload.h"

#include <stdbool.h>

struct pl_fabric;

/* What the master lets it do. */
struct pl_desk_host {
  void *arg;
  const struct pl_fabric *fabric; /* borrowed */
  void (*look)(void *arg, struct pl_overview *out);
  bool (*is_reloading)(void *arg); /* and its result is still open */
  /* False: not now, since the server starts or ends. */
  bool (*reload)(void *arg);
  bool (*drain)(void *arg);
  bool (*stop)(void *arg, bool now);
  /* Writes what the flight recorder has, or what comes in so many seconds;
   * pl__desk_on_recorded with that asker follows. */
  bool (*record)(void *arg, int seconds, uint32_t asker);
};

struct pl_desk_waiter {
  uint64_t client;
  bool as_text;
  bool is_next;   /* another reload was under way, whose end is not its */
  uint32_t asker; /* of a record */
};

struct pl_desk {
  struct pl_ops ops;
  struct pl_desk_host host;
  struct pl_desk_waiter reloads[PL_OPS_CLIENTS_MAX];
  uint32_t reload_count;
  struct pl_desk_waiter drains[PL_OPS_CLIENTS_MAX];
  uint32_t drain_count;
  struct pl_desk_waiter records[PL_OPS_CLIENTS_MAX];
  uint32_t record_count;
  uint32_t asker; /* the last one */
};

/* As pl__ops_open. */
int pl__desk_open(struct pl_desk *d, const char *path,
                  const struct pl_desk_host *host, char *error);
void pl__desk_close(struct pl_desk *d, bool remove);

/* Tell those who wait. */
void pl__desk_on_reload(struct pl_desk *d, const struct pl_reload_result *r);
/* text: the file, or with a code that is not 0 why there is none. */
void pl__desk_on_recorded(struct pl_desk *d, uint32_t asker, int code,
                          const char *text);
/* Who writes records has ended: none of those that were asked for comes. */
void pl__desk_on_recorder_gone(struct pl_desk *d);
void pl__desk_on_drained(struct pl_desk *d, unsigned cut_requests);

#endif /* PL_SERVER_DESK_H */
