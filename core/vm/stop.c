/* vm/stop.c - how a coroutine is made to end that doesn't by itself.
 *
 *   is over:  deadline, cancelled, condemned (too much memory)
 *
 *   waits  ---> its wait ends with the reason; every later one at once (coro.c)
 *   computes -> an error is raised in it; again, should it be caught, after a
 *               pause that lets honest code leave; from CORO_RAISES_MAX on it
 *               is abandoned where it is, the next time that it could yield
 *   computes where it can never yield, and catches: raised at every bytecode,
 *               which leaves it none to catch with; should even that not end
 *               it, the worker gives up, and its report says why
 *
 * Ours is the code around it (runner.lua, task.lua): it says by pl_settle that
 * the rest is tidying up, which nothing must interrupt.
 */
#include "base/clock.h"
#include "fabric/marks.h"
#include "http/encode.h"
#include "vm/coro.h"
#include "vm/report.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

#define CORO_RAISES_MAX 3u
#define CORO_RAISES_FATAL 100000u
/* Computing for so long is told, once per route. */
#define LONG_RUN_NS ((int64_t)PL_NS_PER_S)

int pl__coro_is_over(const struct pl_coro *c, int64_t now_ns) {
  const struct pl_vm *vm = c->vm;
  double now;

  if (c->is_settled)
    return PL_WAKE_OK;
  if (c->is_condemned)
    return PL_WAKE_MEMORY;
  if (c->cancelled)
    return PL_WAKE_CANCELLED;
  if (c->has_overstayed)
    return PL_WAKE_DEADLINE;
  if (!c->req)
    return PL_WAKE_OK;
  now = vm->clock.monotonic + (double)(now_ns - vm->tick_ns) / PL_NS_PER_S;
  return now > c->req->deadline ? PL_WAKE_DEADLINE : PL_WAKE_OK;
}

static void count(struct pl_vm *vm, int why) {
  if (why == PL_WAKE_DEADLINE)
    vm->counts.overdue++;
  else if (why == PL_WAKE_MEMORY)
    vm->counts.condemned++;
}

/* It catches whatever is raised, where it can be neither parked nor left: the
 * VM is lost, and with it the worker, for the sake of the others. */
static void give_up_vm(struct pl_coro *c) {
  pl__report(c->vm, PL_LEVEL_ERROR, c, "a worker gives up",
             "code that cannot be suspended catches every error that ends it");
  abort();
}

enum pl_stop pl__coro_stop(struct pl_coro *c, lua_State *L, lua_Debug *where,
                           int64_t now_ns) {
  struct pl_vm *vm = c->vm;
  int why = pl__coro_is_over(c, now_ns);

  if (c->raises >= CORO_RAISES_MAX && lua_isyieldable(L)) {
    c->is_abandoned = true;
    return PL_STOP_PARK;
  }
  if (c->raises < CORO_RAISES_MAX && now_ns < c->raise_after_ns)
    return PL_STOP_LATER;
  if (c->raises > CORO_RAISES_FATAL)
    give_up_vm(c);
  if (c->raises == 0) {
    count(vm, why);
    lua_getinfo(L, "Sl", where);
    snprintf(c->stopped_at, sizeof c->stopped_at, "%s:%d", where->short_src,
             where->currentline);
  }
  if (why == PL_WAKE_DEADLINE && c->req && !c->is_task)
    c->req->flags |= PL_REQ_OVERDUE;
  c->raises++;
  c->raise_after_ns = now_ns + PL_CORO_RAISE_PAUSE_NS;
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm->tags_ref);
  lua_rawgeti(L, -1, why);
  return c->raises > CORO_RAISES_MAX ? PL_STOP_AT_ONCE : PL_STOP_RAISE;
}

/* --- those that compute for long --------------------------------------- */

/* Frames of the app's: none when it was charged for what it had done before. */
static struct pl_slice trace_of(lua_State *L) {
  struct pl_slice trace;
  size_t bytes;

  luaL_traceback(L, L, NULL, 0);
  trace.at = lua_tolstring(L, -1, &bytes);
  trace.bytes = (uint32_t)bytes;
  return pl__report_trim(trace);
}

/* Whether it is the first time that this is told of its route. */
static bool is_news(struct pl_coro *c) {
  struct pl_marks *told = c->vm->options.long_runs;

  return !c->req || !told ||
         pl__marks_add(told, pl__vm_route_in_log(c->vm, c->req));
}

static bool is_tool(const struct pl_vm *vm) {
  return vm->options.worker == UINT32_MAX;
}

static void tell_long_run(struct pl_coro *c, lua_State *L) {
  struct pl_vm *vm = c->vm;
  _Alignas(8) char memory[PL_VM_ERROR_BYTES + 1024];
  struct pl_record_draft draft;
  struct pl_slice trace = trace_of(L);

  /* A tool has one task that is all of its work. */
  if (vm->options.log_level_min > PL_LEVEL_WARN || (!c->req && is_tool(vm)))
    return;
  if (trace.bytes == 0 || !is_news(c))
    return;
  pl__report_begin(vm, &draft, memory, sizeof memory, PL_LEVEL_WARN, c,
                   c->is_task ? PL_SLICE("a task computes for long")
                              : PL_SLICE("a handler computes for long"));
  pl__record_num(&draft, PL_SLICE("computed_ms"),
                 (double)(c->computed_ns / PL_NS_PER_MS));
  pl__record_str(&draft, PL_SLICE("traceback"), trace);
  pl__report_end(vm, &draft);
}

void pl__coro_preempted(struct pl_coro *c, lua_State *L, int64_t ns) {
  struct pl_vm *vm = c->vm;
  bool was_long = c->computed_ns >= LONG_RUN_NS;
  int top = lua_gettop(L);

  vm->counts.preempted++;
  c->computed_ns += ns;
  if (was_long || c->computed_ns < LONG_RUN_NS)
    return;
  vm->counts.long_runs++;
  tell_long_run(c, L);
  lua_settop(L, top);
}

/* --- the end ----------------------------------------------------------- */

void pl__coro_end_task(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;
  struct pl_req *req = c->req;

  pl__trace_end_task(c);
  vm->task_count--;
  c->req = NULL;
  if (!req)
    return;
  pl__list_remove(&c->task_link);
  req->task_count--;
  if (req->task_count == 0)
    vm->slots[req->slot].is_ending = false;
  struct pl_coro *runner = vm->slots[req->slot].runner;
  if (req->task_count == 0 && runner && runner->wait == PL_WAIT_TASKS)
    pl__coro_wake(runner, PL_WAKE_OK);
}

/* The runner is gone before the tasks of its request: they go on without. */
static void orphan_tasks(struct pl_vm *vm, struct pl_req *req) {
  struct pl_list *link, *tasks = &vm->slots[req->slot].tasks;

  while ((link = pl__list_take_front(tasks))) {
    struct pl_coro *c = PL_LIST_ENTRY(link, struct pl_coro, task_link);
    c->req = NULL;
    pl__coro_cancel(c);
  }
  req->task_count = 0;
  vm->slots[req->slot].is_ending = false;
}

/* Ends what a coroutine works for, and drops its thread. Task objects of Lua
 * that stand for it never end: who waits for one waits until its own deadline.
 */
static void coro_bury(struct pl_coro *c, uint32_t http_status) {
  if (c->is_task) {
    pl__coro_end_task(c);
  } else if (c->req) {
    struct pl_req *req = c->req;
    orphan_tasks(c->vm, req);
    if (!(req->flags & PL_REQ_HEAD_SENT))
      pl_res_problem(req, http_status, "", 0);
    pl__coro_end_request(c);
  }
  pl__coro_drop(c);
}

/* Another runner answers for the request of `c`, ends its tasks, and runs what
 * was deferred. False: there can be none. */
static bool bequeath(struct pl_coro *c, int why) {
  struct pl_vm *vm = c->vm;
  struct pl_coro *heir = pl__coro_take(vm, false);

  if (!heir)
    return false;
  heir->req = c->req;
  heir->inherited = (uint8_t)why;
  vm->slots[c->req->slot].runner = heir;
  c->req = NULL;
  pl__coro_ready(heir, PL_WAKE_OK);
  return true;
}

void pl__coro_abandon(struct pl_coro *c, const char *why) {
  int code = pl__coro_is_over(c, pl__clock_monotonic_ns());
  char text[PL_VM_PLACE_BYTES + 80];

  snprintf(text, sizeof text, "%s%s%s", why, c->raises ? "; at " : "",
           c->raises ? c->stopped_at : "");
  c->vm->counts.abandoned++;
  pl__report(c->vm, PL_LEVEL_ERROR, c,
             c->is_task ? "a task was given up" : "a handler was given up",
             text);
  pl__coro_forget_wait(c);
  if (!c->is_task && c->req && bequeath(c, code ? code : PL_WAKE_GONE))
    pl__coro_drop(c);
  else
    coro_bury(c, 503);
}

/* The Lua around every coroutine of ours catches errors: this is one in that
 * Lua itself, or no memory even to handle one. */
void pl__coro_failed(struct pl_coro *c, int status) {
  const char *why =
      lua_type(c->co, -1) == LUA_TSTRING ? lua_tostring(c->co, -1) : NULL;

  pl__report(c->vm, PL_LEVEL_ERROR, c, "a coroutine of the runtime failed",
             why                    ? why
             : status == LUA_ERRMEM ? "out of memory"
                                    : "unknown");
  coro_bury(c, 500);
}

/* --- a VM that ends ------------------------------------------------------ */

void pl__vm_retire(struct pl_vm *vm) {
  vm->waiting.is_retired = true;
  pl__preempt_hand_over(vm);
  pl__vm_cancel_detached(vm);
}

void pl__vm_expire(struct pl_vm *vm) {
  for (uint32_t i = 0; i < vm->coro_count; i++) {
    struct pl_coro *c = vm->coros[i];
    if (!c->in_use || !c->req)
      continue;
    c->req->deadline = vm->clock.monotonic;
    if (c->wait != PL_WAIT_TASKS && c->start_args < 0)
      pl__coro_wake(c, PL_WAKE_DEADLINE);
  }
}

void pl__vm_cut(struct pl_vm *vm) {
  pl__vm_running = vm;
  for (uint32_t i = 0; i < vm->coro_count; i++) {
    struct pl_coro *c = vm->coros[i];
    if (!c->in_use || c->is_task || !c->req)
      continue;
    vm->options.host.abort(vm->options.host.arg, c->req);
    pl__coro_forget_wait(c);
    coro_bury(c, 503);
  }
  for (uint32_t i = 0; i < vm->coro_count; i++) {
    struct pl_coro *c = vm->coros[i];
    if (!c->in_use || !c->is_task)
      continue;
    pl__coro_forget_wait(c);
    coro_bury(c, 503);
  }
}
