/* server/adoption.h - a worker accepts from the sockets of others that don't
 * answer.
 *
 * Each worker has every listening socket of the server, but watches its own
 * only.  The master marks workers that are dead, stand still or leave
 * (`is_adopted`, server/layout.h); the others look at the marks with each beat,
 * watch the sockets of those who are marked, and let go when they no longer
 * are.  Whoever accepts first has the connection.
 *
 *   not marked --mark--> WATCHED --no mark--> not watched
 *                           +---- ending ---> queue accepted, socket shut
 *
 * Unix sockets belong to all workers anyhow.  On the worker's loop.
 */
#ifndef PL_SERVER_ADOPTION_H
#define PL_SERVER_ADOPTION_H

#include "net/listener.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_beat;
struct pl_listeners;

struct pl_adoption {
  struct pl_listeners *listeners; /* borrowed; NULL: only own sockets */
  const struct pl_beat *beats;    /* of all workers, in the fabric */
  struct pl_net *net;
  uv_loop_t *loop;
  uint32_t worker;              /* who we are */
  struct pl_listener **adopted; /* by worker: address_count of them, or NULL */
};

/* Takes no memory before the first mark.
 *
 *   listeners  NULL: there is nothing to adopt
 *   beats      the section, by worker
 */
void pl__adoption_init(struct pl_adoption *a, struct pl_listeners *listeners,
                       const struct pl_beat *beats, uint32_t worker,
                       struct pl_net *net, uv_loop_t *loop);
/* Looks at the marks; once per turn of the loop at most, since a listener that
 * is closed must come to its end before it opens again. */
void pl__adoption_look(struct pl_adoption *a);
/* Accepts again, as pl__listener_resume. */
void pl__adoption_resume(struct pl_adoption *a);
/* Accepts what is queued at the adopted sockets and watches none any more.
 *
 *   shut  the server ends: nobody can connect to them from here on, even while
 *         a process that stands still holds copies */
void pl__adoption_stop(struct pl_adoption *a, bool shut);
/* Frees the memory, once the loop has closed all handles. */
void pl__adoption_deinit(struct pl_adoption *a);

#endif /* PL_SERVER_ADOPTION_H */
