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

#include "vm/vm.h"

struct lua_State;

enum pl_wait {
  PL_WAIT_NONE,
  PL_WAIT_TIMER,
  PL_WAIT_BODY,
  PL_WAIT_WRITE,
  PL_WAIT_TASKS, /* of its request */
  PL_WAIT_EVENT,
  PL_WAIT_INJECTED
};

struct pl_coro {
  struct lua_State *co;
  struct pl_vm *vm;
  struct pl_heap_node timer; /* in vm->timers while a wait has a time */
  struct pl_list link;       /* ready, idle or free */
  struct pl_list task_link;  /* among the tasks of its request */
  struct pl_req *req;        /* NULL: none */
  double wait_due;           /* of the wait itself; HUGE_VAL: no time */
  uint32_t index;
  uint32_t generation; /* raised at each reuse: ids stay unique */
  uint32_t refusals;   /* waits that ended badly: deadline, gone, cancelled */
  int injected;        /* the connection of PL_WAIT_INJECTED */
  int start_args;      /* >= 0: not started, so many arguments on its stack */
  uint8_t wait;        /* enum pl_wait */
  uint8_t wake;        /* PL_WAKE_*, while ready */
  bool is_task;
  bool cancelled;
  bool has_event; /* pl_wake came before pl_wait_event */
  bool in_use;
};

/* The VM that runs on this thread now; NULL outside of Lua. */
extern _Thread_local struct pl_vm *pl__vm_running;

/* A thread for a runner or a task, in no list; NULL: no memory. */
struct pl_coro *pl__coro_take(struct pl_vm *vm, bool is_task);
/* Its function has ended: the thread can serve again. */
void pl__coro_give(struct pl_coro *c);
/* Its thread failed, or is not worth keeping. */
void pl__coro_drop(struct pl_coro *c);
void pl__coros_deinit(struct pl_vm *vm);

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

/* A lua_CFunction: the steps of one slice of pl__vm_collect. */
int pl__collector_slice(struct lua_State *L);

/* Calls core.next does: ends the request of `c`, takes another; NULL: none. */
struct pl_req *pl__coro_next_request(struct pl_coro *c);

#endif /* PL_VM_CORO_H */
