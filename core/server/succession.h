/* server/succession.h - how a worker gets from one generation to the next.
 *
 *           PREPARE                 loaded                COMMIT
 *   IDLE ------------> LOADING ---------------> LOADED ------------> IDLE
 *     ^                  | fails, or ABORT         | ABORT            |
 *     +------------------+-------------------------+                  |
 *                                          the one before it retires -+
 *
 * The master's orders come by the channel (server/channel.h), and are answered
 * there.  A generation is loaded, and closed, on a helper thread beside the one
 * that serves; what it logs while it loads is left out (the trial has logged
 * it).  A COMMIT swaps them between two turns: requests that have begun end on
 * the old one, which is closed when the last of them has, and that is told.
 */
#ifndef PL_SERVER_SUCCESSION_H
#define PL_SERVER_SUCCESSION_H

#include "server/dispatch.h"

#include <uv.h>

struct pl_fabric;
struct pl_frames;
struct pl_server_state;

struct pl_succession {
  struct pl_dispatch *dispatch; /* borrowed */
  const struct pl_fabric *fabric;
  struct pl_server_state *state;
  struct pl_frames *frames; /* the worker's; each generation gets it */
  uint32_t worker;
  int channel_fd;
  uv_poll_t orders;
  uv_work_t loading;
  uv_work_t closing;
  struct pl_generation *next; /* LOADED, or being loaded */
  struct pl_generation *gone; /* being closed; NULL: none */
  struct pl_buf kept;         /* what the app keeps, for `next` */
  uint32_t wanted;            /* the generation that is LOADING or LOADED; 0 */
  int failed;                 /* of the loading */
  bool is_loading;
  bool is_aborted; /* meanwhile */
  bool is_retired; /* `gone` was in service: its end is told */
  char err[PL_VM_ERROR_BYTES];
};

/* Options of a generation of this worker, from the fabric. 0 or what
 * pl__fabric_find returns. */
int pl__succession_options(const struct pl_fabric *fabric, uint32_t worker,
                           uint32_t generation,
                           struct pl_generation_options *out);
/* Tells the log which pattern stands behind a route's number, or that this
 * worker's are not those of the others. */
void pl__succession_publish(const struct pl_fabric *fabric,
                            struct pl_dispatch *d,
                            const struct pl_generation *g);

/* Begins the bank of names afresh that is due, if one is (fabric/names.h), and has
 * all forget it that counts by stacks.  Between two VMs that serve. */
void pl__succession_renew_names(const struct pl_fabric *fabric, uint32_t worker,
                                struct pl_frames *frames);

/* Takes orders from `channel_fd`, borrowed, from now on. 0 or a UV_E*. */
int pl__succession_open(struct pl_succession *s, uv_loop_t *uv);
/* After each turn: closes the generation that has ended. */
void pl__succession_turn(struct pl_succession *s);
/* Whether a helper thread is at work for it: then it cannot be closed. */
bool pl__succession_is_busy(const struct pl_succession *s);
/* Closes the handle, and what was loaded and not committed. */
void pl__succession_close(struct pl_succession *s);

#endif /* PL_SERVER_SUCCESSION_H */
