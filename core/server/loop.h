/* server/loop.h - a uv loop around a dispatch: when turns happen.
 *
 *   poll -> on_check: tick, turn -> timers: tick, turn -> on_prepare -> poll
 *
 * Whoever owns it adds handles of its own (listeners, signals) to `uv`.
 */
#ifndef PL_SERVER_LOOP_H
#define PL_SERVER_LOOP_H

#include "server/dispatch.h"

#include <uv.h>

struct pl_loop {
  uv_loop_t uv;
  struct pl_dispatch *dispatch; /* borrowed */
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t idle;   /* running: the loop must not block */
  uv_timer_t timer; /* for what is due next */
  double polled_at; /* monotonic seconds, when the last poll began */
  double began_at;  /* likewise, when the present turn began to work; 0: not */
  bool was_idle;    /* the last poll had to wait */
  /* Before each turn; NULL: nothing. True: something happened. */
  bool (*before_turn)(void *arg);
  /* After each turn; NULL: nothing. */
  void (*after_turn)(void *arg);
  void *arg;
};

/* 0 or a UV_E*. */
int pl__loop_open(struct pl_loop *l, struct pl_dispatch *d);
/* Ticks of preemption (vm/preempt.h) do not wake it while it sleeps.  But all
 * other signals do then, whatever its thread blocks: for processes that have no
 * other thread. */
void pl__loop_block_ticks(struct pl_loop *l);
/* Runs until pl__loop_stop. */
void pl__loop_run(struct pl_loop *l);
void pl__loop_stop(struct pl_loop *l);
/* Closes our handles, lets all others that are closing end, and frees the
 * loop.  The owner has closed its own. */
void pl__loop_close(struct pl_loop *l);

#endif /* PL_SERVER_LOOP_H */
