/* vm/waiting.h - what is known of coroutines that wait: since when, for what,
 * at which line; and which of them nobody can wake any more.
 *
 * It keeps the wait table (fabric/waits.h), and adds each wait, when it has
 * ended, to the block profile.
 *
 * Where one waits is not looked at when it parks: most waits are short, and a
 * walk costs more than all else here.  Those that have lasted
 * PL_WAITING_FRESH_NS are walked in the next turn; those that end before that
 * when they end, if they took PL_WAITING_WALK_NS or are the n-th of their kind.
 * What shorter ones took is added to the next that is walked: sums are exact,
 * and only whose line short waits are told of is sampled.
 *
 *   anchored --- waits for an object of the VM ---> loose     (in a turn)
 *      ^                                              |
 *      +---- is resumed (run.c), or was found by <----+
 *            the collector: lost, and ends with PL_WAKE_LOST
 *
 * A coroutine that waits for an object inside the VM (a task, a channel) is held
 * by nothing but that object, once it is loose.  So if nobody can reach the
 * object, the collector finds it, and the finalizer of its watch (`core.watch`)
 * finds who waits: nobody can wake these, which is a proven leak.
 *
 * Invariant: a loose coroutine is a key of the watch that it waits with, until
 * it has been resumed.  The watch's finalizer anchors what it finds.
 *
 * One that was woken goes on, and whoever waits for it can be woken: so it is
 * anchored as soon as no Lua runs that could be its waker, before the collector
 * has a chance (pl__waiting_keep_woken).  Where the collector works inside
 * handlers it may come first: what it finds then proves nothing.
 */
#ifndef PL_VM_WAITING_H
#define PL_VM_WAITING_H

#include "base/clock.h"
#include "base/list.h"
#include "base/stopwatch.h"
#include "fabric/waits.h"

#include <stdint.h>

struct lua_State;
struct pl_coro;
struct pl_suspects;
struct pl_vm;

#define PL_WAITING_FRESH_NS (5 * PL_NS_PER_MS)
#define PL_WAITING_WALK_NS 100000
#define PL_WAITING_SHORT_EVERY 64u /* of shorter ones, one is walked */
#define PL_WAITING_NESTED_MAX 16   /* coroutines inside each other */
#define PL_WAITING_TURN_MAX 1024u  /* looked at in one turn */

/* Of a VM. */
struct pl_waiting {
  struct pl_waits_writer writer;
  struct pl_stopwatch watch;
  struct pl_list fresh; /* parked, and not looked at; the oldest first */
  struct pl_list lost;  /* found by the collector */
  struct pl_list woken; /* loose ones, not anchored yet */
  uint64_t short_count[PL_WAITS_REASONS]; /* waits that were not walked */
  uint64_t short_ns[PL_WAITS_REASONS];
  double watches;       /* that were made */
  const void *passes;   /* the function that inner coroutines wait in */
  uint64_t cycles_seen; /* of the collector */
  int64_t cycle_ns;     /* when the last one ended */
  int64_t told_ns;      /* since when leaks are counted that are told */
  uint32_t told;        /* of them */
  uint32_t untold;      /* more than may be told */
  uint32_t loose_count;
  struct pl_suspects *suspects; /* NULL: nobody is */
  bool is_doubtful; /* this cycle of the collector has run inside a handler */
  bool is_retired;  /* the app's next generation is looked at */
};

/* Of a coroutine. */
struct pl_coro_waiting {
  struct pl_waits_entry *entry; /* NULL: it has none */
  struct pl_list fresh;         /* in that list, or in `woken` */
  int64_t parked_ns;            /* when it began to wait; 0: it does not */
  int64_t waited_ns; /* it has, and that is to be counted; 0: nothing is */
  double watch;      /* number of the one it waits with; 0: rooted */
  uint64_t object;   /* that it waits for, as in the wait table */
  uint32_t at;       /* stack; 0: not known */
  uint32_t started;  /* stack; 0: not known, or by a request */
  uint16_t name;     /* as in the wait table */
  uint8_t reason;    /* enum pl_waits_reason */
  bool is_loose;
};

void pl__waiting_init(struct pl_waiting *w);
/* The VM serves, on this thread, from now on.  Without options.waits there is no
 * table. */
void pl__waiting_open(struct pl_vm *vm);
void pl__waiting_close(struct pl_vm *vm);

/* A task begins; L is who starts it.  `place` is "file:line" where it was
 * registered while the app loaded; empty: it is L that starts it. */
void pl__waiting_spawn(struct pl_coro *c, struct lua_State *L,
                       struct pl_slice name, struct pl_slice place,
                       uint32_t line);
/* A runner has taken a request, c->req. */
void pl__waiting_request(struct pl_coro *c);
/* It has ended what it was for. */
void pl__waiting_end(struct pl_coro *c);

/* It has yielded, and is parked, preempted or ready again. */
void pl__waiting_yield(struct pl_coro *c);
/* Its wait is over. Calls nothing of Lua. */
void pl__waiting_wake(struct pl_coro *c);
/* No Lua runs: anchors the loose that were woken. */
void pl__waiting_keep_woken(struct pl_vm *vm);
/* The collector has ended a cycle. */
void pl__waiting_cycle(struct pl_vm *vm);
/* It is about to be resumed. */
void pl__waiting_resume(struct pl_coro *c);

/* With each turn: looks at those that have waited for a while, ends those that
 * nobody can wake, and sees to it that such are found. */
void pl__waiting_turn(struct pl_vm *vm);

/* core.passes(fn): the function of wait.lua in which a coroutine waits for one of
 * the user's that waits, its first local; it is never collected. */
int pl__waiting_passes(struct lua_State *L);
/* core.watch() -> { serial =, spent = false }: what coroutines wait with, as
 * keys, their ids as values.  `spent`: it was collected. */
int pl__waiting_watch(struct lua_State *L);

#endif /* PL_VM_WAITING_H */
