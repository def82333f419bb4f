/* server/child.h - one process that the master has started, or will again.
 *
 *            fork                    it says so            it dies
 *   DUE ------------> STARTING ------------------> READY ----------+
 *    ^                   | it dies                                 |
 *    |                   v                                         |
 *    +--- after its back-off ------------- at once, if it lived ---+
 *
 * One that dies before it is ready, or soon after, waits before it is started
 * again, and longer each time; one that has lived starts at once.  Does not
 * know what the processes do.
 */
#ifndef PL_SERVER_CHILD_H
#define PL_SERVER_CHILD_H

#include "server/channel.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PL_CHILD_BACKOFF_MS_MIN 100
#define PL_CHILD_BACKOFF_MS_MAX 5000
#define PL_CHILD_LIFE_MS_MIN 500 /* ready for less: it counts as not started */

struct pl_child {
  pid_t pid;           /* 0: not running */
  int channel_fd;      /* to it; -1: closed */
  bool ready;          /* it has said so */
  bool failed;         /* it has said that it cannot start */
  bool silent;         /* its heart does not beat; see server/pulse.h */
  int64_t recorded_ns; /* when a record was ordered for its death, last */
  bool stuck;          /* so long that it was told to abort */
  bool unwanted;       /* it ends, or has ended, and no other takes its place */
  bool listens;        /* its sockets do, though it may not live */
  uint32_t generation; /* of the app, that it serves; 0: none */
  uint8_t step;        /* of a reload; see server/reload.h */
  uint32_t restarts;   /* processes that have taken its place */
  uint32_t deaths;     /* one after the other, each before it has lived */
  int64_t started_ns;  /* monotonic, since when it runs */
  int64_t ready_ns;    /* monotonic, since when; 0: not ready */
  int64_t due_ns;      /* when it is started again; 0: it is not */
  int64_t kill_ns;     /* when it is killed, should it still live; 0: never */
};

/* What runs in the new process; its result is the exit code. */
typedef int (*pl__child_fn)(void *arg, int channel_fd);

void pl__child_init(struct pl_child *c);
/* Forks. Returns 0, or a negated errno with nothing started. */
int pl__child_start(struct pl_child *c, pl__child_fn run, void *arg);
/* Reads one message of it. Returns as pl__channel_read; PL_EGONE closes the
 * channel. Of PL_NEWS_STARTED ready or failed is set. */
int pl__child_hear(struct pl_child *c, struct pl_message *out, int64_t now_ns);
/* It was reaped: forgets the process, whose `stuck` stays until the next. */
void pl__child_bury(struct pl_child *c);
/* Sets when it is started again. */
void pl__child_schedule(struct pl_child *c, int64_t now_ns);

#endif /* PL_SERVER_CHILD_H */
