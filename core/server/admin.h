/* server/admin.h - the admin plane: how the server is, over HTTP and gRPC, for
 * people, probes and collectors.
 *
 * A thread of control with a loop, connections and a VM of its own, so that it
 * answers while every worker hangs.  The VM serves lua/perilune/admin/app.lua and
 * runs the app's health checks (lua/perilune/health.lua) and rules
 * (lua/perilune/admin/actions.lua): of each generation that is committed it loads
 * the app, from its bundle, on a helper thread.  An app that loads in workers but
 * not here costs its checks, no more.
 *
 * Without a socket nobody asks anything, but there are checks and rules, ours at
 * least: then the VM runs lua/perilune/admin/watch.lua, which has no routes, and
 * loads the app only if it has some of its own.
 *
 * What Lua asks for by core.report:
 *
 *   status [text]    as GET /status of the control socket
 *   state            of it: the server's
 *   metrics [open]   all of them, as Prometheus or OpenMetrics has it
 *   profile QUERY    where the processor's time went (server/profile.h)
 *   shares [QUERY]   and of each route, in which kind of code
 *   topics           of those that the fabric alone answers, a line each
 *   make ...         has one of these made beside the loop (server/makings.h):
 *                    all that may take longer than a few milliseconds
 *   token            what clients have to show; empty: nothing
 *   watching         why the app's checks are not run; empty: they are
 *   trace ...        pieces of what the flight recorder has (server/replay.h)
 *   wish LINE        has the master do something (server/wish.h); a number
 *   granted NUMBER   its answer: "+" or "-", and the text; empty: not yet
 *   save SUFFIX WHY\n...  has the bytes behind the line written into a file
 *                    beside the flight recorder's: "+TICKET", or "-" and why not
 *   saved TICKET     "+PATH" once it is there, "-" and why it is not, or nothing
 *                    while it is being written
 *   heat N, tail N   what is new since that number (server/heat.h, log/tail.h)
 *   vitals           of the workers' VMs (server/vitals.h)
 *   compilation      what LuaJIT gave up (server/compilation.h)
 *   page FILE        of the dashboard: html, css, js
 *   health LINES     takes in the states of services (server/services.h); with
 *                    that gRPC is answered, without Lua
 *
 * Logs are the main thread's matter; its records go by control's ring.
 */
#ifndef PL_SERVER_ADMIN_H
#define PL_SERVER_ADMIN_H

#include <stdbool.h>

#include "base/buf.h"

struct pl_admin;
struct pl_config;
struct pl_dumper;
struct pl_fabric;
struct pl_tail;

#define PL_ADMIN_ERROR_BYTES 512
#define PL_ADMIN_ANSWERS 16u /* of the master, that wait to be taken */
#define PL_ADMIN_ANSWER_BYTES 1024u

struct pl_admin_args {
  const struct pl_config *config; /* borrowed, as all of these */
  const struct pl_fabric *fabric;
  struct pl_tail *tail; /* NULL: there is none */
  struct pl_dumper *dumper;
  int listen_fd;  /* -1: nobody can ask */
  int wake_fd;    /* of the reader of control's ring */
  int channel_fd; /* to the master */
};

/* Starts the thread.  Returns 0, or with a sentence in error
 * (PL_ADMIN_ERROR_BYTES) PL_ENOMEM or PL_EFAIL. */
int pl__admin_start(struct pl_admin **out, const struct pl_admin_args *args,
                    char *error);
/* Ends it: connections are closed, checks are given up.  A check that blocks in
 * C is not waited for: the process is about to end.  False: it still runs, and
 * uses what it was given. */
bool pl__admin_stop(struct pl_admin *a);

/* The master has answered a wish.  From control's main thread; of answers that
 * nobody takes the oldest are forgotten.  Text: PL_MESSAGE_TEXT_BYTES at most, cut
 * to PL_ADMIN_ANSWER_BYTES. */
void pl__admin_grant(struct pl_admin *a, uint32_t number, int code,
                     const char *text);

/* What the fabric alone answers: the topics that any process of the server can
 * be asked.  Appends to `out`.  Returns 0; PL_EINVAL: there is no such topic;
 * PL_EBAD: the argument is none for it; or an error of reading or writing. */
int pl__admin_answer(const struct pl_fabric *fabric, struct pl_slice topic,
                     struct pl_slice argument, struct pl_buf *out);

#endif /* PL_SERVER_ADMIN_H */
