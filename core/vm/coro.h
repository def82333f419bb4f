/* vm/coro.h - the coroutines of a VM: runners and tasks, and what they wait
 * for.  See vm.h for their states.
 *
 * A coroutine waits for one thing at a time.  The wait is registered first
 * (pl__coro_wait), by a function that Lua calls; Lua then yields.  A wait ends
 * with one of PL_WAKE_*; three of them are sticky: once the deadline is over,
 * the client gone or the task cancelled, every later wait ends at once.
 */
#ifndef PL_VM_CORO_H
#define PL_VM_CORO_H

#include "base/clock.h"
#include "vm/carried.h"
#include "vm/vm.h"
#include "vm/waiting.h"

struct lua_State;
struct lua_Debug;

#define PL_CORO_SPANS_MAX 8 /* of P.span in one another; deeper: none */

/* Between two errors that end a coroutine: time to tidy up and leave. */
#define PL_CORO_RAISE_PAUSE_NS (20 * PL_NS_PER_MS)

enum pl_wait {
  PL_WAIT_NONE,
  PL_WAIT_TIMER,
  PL_WAIT_BODY,
  PL_WAIT_WRITE,
  PL_WAIT_TASKS, /* of its request */
  PL_WAIT_EVENT,
  PL_WAIT_INJECTED
};

/* A span that a coroutine is in. */
struct pl_coro_span {
  uint64_t id;
  uint32_t note;   /* its number; UINT32_MAX: there is none */
  uint16_t serial; /* of that note */
};

struct pl_coro {
  struct lua_State *co;
  struct pl_vm *vm;
  struct pl_heap_node timer; /* in vm->timers while a wait has a time */
  struct pl_coro_waiting waiting;
  struct pl_list link;        /* ready, idle, free or lost */
  struct pl_list task_link;   /* among the tasks of its request */
  struct pl_req *req;         /* NULL: none */
  struct pl_carried *carried; /* the context of a task without one; owned */
  double wait_due;            /* of the wait itself; HUGE_VAL: no time */
  uint32_t index;
  uint32_t generation; /* raised at each reuse: ids stay unique */
  uint32_t refusals;   /* waits that ended badly: deadline, gone, cancelled */
  uint32_t raises;     /* errors that were raised in it to end it */
  uint32_t holds;      /* pl_hold less pl_release: not to be preempted */
  int64_t raise_after_ns; /* when the next of them is due; monotonic */
  int64_t computed_ns;    /* in slices that were used up, since its last wait */
  uint64_t span_base;   /* the span that it was spawned in; 0: its context's */
  uint64_t span_parent; /* and the parent of that; 0: its context's */
  struct pl_coro_span spans[PL_CORO_SPANS_MAX];
  double wait_from;   /* monotonic seconds, of a wait to be noted; 0: none */
  uint8_t span_depth; /* of spans */
  uint8_t noted_wait; /* enum pl_wait */
  char stopped_at[PL_VM_PLACE_BYTES]; /* file:line, when raises > 0 */
  int64_t held_bytes; /* the heap has grown by, without a request */
  int injected;       /* the connection of PL_WAIT_INJECTED */
  double event_watch; /* of PL_WAIT_EVENT, as pl_wait_event has said */
  uint64_t event_object;
  uint8_t event_reason; /* enum pl_waits_reason */
  int start_args;       /* >= 0: not started, so many arguments on its stack */
  uint8_t wait;         /* enum pl_wait */
  uint8_t wake;         /* PL_WAKE_*, while ready */
  bool is_task;
  uint8_t inherited; /* PL_WAKE_*: ends a request whose runner was abandoned */
  bool cancelled;
  bool has_event;      /* pl_wake came before pl_wait_event */
  bool is_parked;      /* preempted: goes on where it was */
  bool is_abandoned;   /* preempted for good */
  bool is_condemned;   /* to free memory */
  bool has_overstayed; /* has held the worker where it cannot be parked */
  bool is_settled;     /* what must end has ended: our own code tidies up */
  bool in_use;
};

/* In which context it works; NULL: none, as for a runner that is idle. */
static inline struct pl_context *pl__coro_context(const struct pl_coro *c) {
  return c->req ? &c->req->context : c->carried ? &c->carried->context : NULL;
}

/* Whether it waits, is ready, or is just about to yield for either. */
static inline bool pl__coro_is_waiting(const struct pl_coro *c) {
  return c->wait != PL_WAIT_NONE || !pl__list_is_empty(&c->link);
}

/* The VM that runs on this thread now; NULL outside of Lua. */
extern _Thread_local struct pl_vm *pl__vm_running;

/* A thread for a runner or a task, in no list; NULL: no memory. */
struct pl_coro *pl__coro_take(struct pl_vm *vm, bool is_task);
/* Its function has ended: the thread can serve again. */
void pl__coro_give(struct pl_coro *c);
/* Its thread failed, or is not worth keeping. */
void pl__coro_drop(struct pl_coro *c);
void pl__coros_deinit(struct pl_vm *vm);
/* The VM holds its thread, or nothing does but what it waits for (waiting.h). L:
 * what runs, or the main one; anchor takes the thread from its top. Neither
 * raises. */
void pl__coro_anchor(struct pl_coro *c, struct lua_State *L);
void pl__coro_loosen(struct pl_coro *c, struct lua_State *L);

/* Registers a wait of `c`, which is about to yield. */
void pl__coro_wait(struct pl_coro *c, enum pl_wait wait, double due);
/* Ends the wait of `c`, if it waits. */
void pl__coro_wake(struct pl_coro *c, int code);
/* Makes it ready to be resumed with `code`. */
void pl__coro_ready(struct pl_coro *c, int code);
double pl__coro_id(const struct pl_coro *c);
/* NULL: there is none of that id any more. */
struct pl_coro *pl__coro_find(struct pl_vm *vm, double id);
void pl__coro_cancel(struct pl_coro *c);
/* It ends, for memory's sake: its waits, or an error in what it computes. */
void pl__coro_condemn(struct pl_coro *c);
/* A wait that was registered but not yielded for, as an error came between,
 * must not end a later one. */
void pl__coro_forget_wait(struct pl_coro *c);
/* It begins on something new. */
void pl__coro_begin(struct pl_coro *c);

/* --- ending them (stop.c) --- */

/* Whether it must not go on, `now` by the monotonic clock: PL_WAKE_*, which
 * says why; PL_WAKE_OK: it may. Fit for signal handlers. */
int pl__coro_is_over(const struct pl_coro *c, int64_t now_ns);

enum pl_stop {
  PL_STOP_LATER,   /* nothing now */
  PL_STOP_RAISE,   /* lua_error: the error is on the stack of L */
  PL_STOP_AT_ONCE, /* likewise, and again at the next bytecode */
  PL_STOP_PARK     /* yield: it is not resumed any more */
};

/* What the hook does to a coroutine that is over; L is it, or one of the
 * user's that it has resumed, at the place `where`. */
enum pl_stop pl__coro_stop(struct pl_coro *c, struct lua_State *L,
                           struct lua_Debug *where, int64_t now_ns);
/* It is about to be parked, having computed for so long since ticks saw it. */
void pl__coro_preempted(struct pl_coro *c, struct lua_State *L, int64_t ns);
/* Never resumes it again; what it was for is brought to an end without it. */
void pl__coro_abandon(struct pl_coro *c, const char *why);
/* Its thread has ended with an error: a lua_resume status. */
void pl__coro_failed(struct pl_coro *c, int status);
/* A task has ended. */
void pl__coro_end_task(struct pl_coro *c);
/* The request of a runner has ended (run.c). */
void pl__coro_end_request(struct pl_coro *c);

/* A lua_CFunction: the steps of one slice of pl__vm_collect. */
int pl__collector_slice(struct lua_State *L);

/* What a finalizer has raised: told once a second, as there may be many. */
void pl__collector_tell(struct pl_vm *vm, const char *why);

/* What the heap has grown by since it was resumed is held by it (run.c). */
void pl__coro_charge(struct pl_coro *c);

/* --- too much memory (shed.c) --- */

/* vm.memory_soft, or less; 0: no limit. */
uint64_t pl__shed_soft_bytes(const struct pl_vm *vm);
/* After a cycle: sets the heap at which somebody may have to be failed. */
void pl__shed_set(struct pl_vm *vm);
/* After the cycles that pl__vm_shed has asked for: fails who holds the most. */
void pl__shed_decide(struct pl_vm *vm);
/* One that was condemned has let go of what it held: makes that free. */
void pl__shed_begin_again(struct pl_vm *vm);
/* Fails the one that runs, which cannot be parked to wait for that. */
void pl__shed_running(struct pl_vm *vm);
/* The heap is so far past the limit that this cannot wait. */
bool pl__shed_is_urgent(const struct pl_vm *vm);

/* What core.next does: ends the request of `c`, takes another; NULL: none.
 * *inherited: PL_WAKE_OK, or the request had another runner, which was
 * abandoned, and this says why. */
struct pl_req *pl__coro_next_request(struct pl_coro *c, int *inherited);

#endif /* PL_VM_CORO_H */
