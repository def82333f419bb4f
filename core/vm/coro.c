/* vm/coro.c - the threads of a VM, and what they wait for; see coro.h. */
#include "vm/coro.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/waits.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>

/* Threads that are kept for later; a burst's others go back to the collector. */
#define CORO_IDLE_MAX 512u

_Thread_local struct pl_vm *pl__vm_running;

/* --- threads ----------------------------------------------------------- */

static int coros_grow(struct pl_vm *vm) {
  uint32_t cap = vm->coro_cap ? vm->coro_cap * 2 : 64;
  struct pl_coro **more;

  if (cap > 1u << PL_WAITS_INDEX_BITS)
    return PL_EFULL;
  more = pl__realloc(vm->coros, cap * sizeof *more);
  if (!more)
    return PL_ENOMEM;
  vm->coros = more;
  vm->coro_cap = cap;
  return 0;
}

static struct pl_coro *coro_new_struct(struct pl_vm *vm) {
  struct pl_list *link = pl__list_take_front(&vm->free_coros);
  struct pl_coro *c;

  if (link)
    return PL_LIST_ENTRY(link, struct pl_coro, link);
  if (vm->coro_count == vm->coro_cap && coros_grow(vm))
    return NULL;
  c = pl__alloc_zero(sizeof *c);
  if (!c)
    return NULL;
  c->vm = vm;
  c->index = vm->coro_count;
  pl__list_init(&c->link);
  pl__list_init(&c->task_link);
  pl__list_init(&c->waiting.fresh);
  pl__heap_node_init(&c->timer);
  vm->coros[vm->coro_count++] = c;
  return c;
}

/* Threads are kept alive by an array of our own, `index + 1` -> thread.  Not by
 * references in the registry: when memory runs out while LuaJIT makes that
 * larger, it loses what was in it.  This array is never made larger; a new one
 * takes its place. */
static void anchors_grow(lua_State *L, struct pl_vm *vm) {
  lua_createtable(L, (int)vm->coro_cap, 0);
  for (int i = 1; i <= (int)vm->anchor_cap; i++) {
    lua_rawgeti(L, -2, i);
    lua_rawseti(L, -2, i);
  }
  lua_replace(L, -2);
  lua_pushvalue(L, -1);
  lua_rawseti(L, LUA_REGISTRYINDEX, vm->anchors_ref);
  vm->anchor_cap = vm->coro_cap;
}

/* Runs protected: lua_newthread raises when there is no memory. */
static int new_thread(lua_State *L) {
  struct pl_coro *c = lua_touserdata(L, 1);

  lua_rawgeti(L, LUA_REGISTRYINDEX, c->vm->anchors_ref);
  if (c->index >= c->vm->anchor_cap)
    anchors_grow(L, c->vm);
  c->co = lua_newthread(L);
  lua_rawseti(L, -2, (int)c->index + 1);
  return 0;
}

static void drop_context(struct pl_coro *c) {
  if (c->carried)
    pl__trace_forget(c->vm, &c->carried->trace);
  pl__free(c->carried);
  c->carried = NULL;
}

/* Neither can raise: the array has that element. */
void pl__coro_loosen(struct pl_coro *c, lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->vm->anchors_ref);
  lua_pushnil(L);
  lua_rawseti(L, -2, (int)c->index + 1);
  lua_pop(L, 1);
}

void pl__coro_anchor(struct pl_coro *c, lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->vm->anchors_ref);
  lua_insert(L, -2);
  lua_rawseti(L, -2, (int)c->index + 1);
  lua_pop(L, 1);
}

/* Where errors of the two are caught: in the coroutine that runs, if any. */
static lua_State *state_of(const struct pl_vm *vm) {
  return vm->current ? vm->current->co : vm->L;
}

struct pl_coro *pl__coro_take(struct pl_vm *vm, bool is_task) {
  struct pl_list *idle = is_task ? &vm->idle_tasks : &vm->idle_runners;
  struct pl_list *link = pl__list_take_front(idle);
  struct pl_coro *c;

  if (link) {
    vm->idle_count--;
    c = PL_LIST_ENTRY(link, struct pl_coro, link);
  } else {
    lua_State *L = state_of(vm);
    c = coro_new_struct(vm);
    if (!c)
      return NULL;
    c->co = NULL;
    pl__vm_end_recording(vm);
    if (lua_cpcall(L, new_thread, c)) {
      lua_pop(L, 1);
      pl__list_push_back(&vm->free_coros, &c->link);
      return NULL;
    }
    c->start_args = -1;
    if (!is_task) {
      lua_rawgeti(c->co, LUA_REGISTRYINDEX, vm->loop_ref);
      c->start_args = 0;
    }
  }
  c->is_task = is_task;
  c->in_use = true;
  vm->live_count++;
  c->cancelled = c->has_event = false;
  c->is_parked = c->is_abandoned = false;
  c->inherited = PL_WAKE_OK;
  c->wait = PL_WAIT_NONE;
  c->req = NULL;
  PL_ASSERT(!c->carried);
  pl__coro_begin(c);
  return c;
}

void pl__coro_begin(struct pl_coro *c) {
  c->refusals = c->raises = c->holds = 0;
  c->raise_after_ns = c->computed_ns = 0;
  c->held_bytes = 0;
  c->is_condemned = c->is_settled = c->has_overstayed = false;
  c->span_base = c->span_parent = 0;
  c->span_depth = 0;
}

void pl__coro_drop(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;

  pl__heap_remove(&vm->timers, &c->timer);
  pl__list_remove(&c->link);
  pl__waiting_end(c);
  pl__coro_loosen(c, state_of(vm));
  drop_context(c);
  c->co = NULL;
  vm->live_count -= c->in_use;
  c->in_use = false;
  c->generation++;
  pl__list_push_back(&vm->free_coros, &c->link);
}

void pl__coro_give(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;

  if (vm->idle_count >= CORO_IDLE_MAX) {
    pl__coro_drop(c);
    return;
  }
  drop_context(c);
  pl__waiting_end(c);
  c->in_use = false;
  vm->live_count--;
  c->generation++;
  vm->idle_count++;
  pl__list_push_front(c->is_task ? &vm->idle_tasks : &vm->idle_runners,
                      &c->link);
}

void pl__coros_deinit(struct pl_vm *vm) {
  pl__heap_deinit(&vm->timers); /* its nodes lie in the coroutines */
  for (uint32_t i = 0; vm->slots && i < vm->options.slot_count; i++)
    pl__trace_forget(vm, &vm->slots[i].trace);
  for (uint32_t i = 0; i < vm->coro_count; i++) {
    drop_context(vm->coros[i]);
    pl__free(vm->coros[i]);
  }
  pl__free(vm->coros);
  pl__trace_deinit(vm);
  vm->coros = NULL;
  vm->coro_count = vm->coro_cap = 0;
}

double pl__coro_id(const struct pl_coro *c) {
  return (double)c->generation * (1u << PL_WAITS_INDEX_BITS) + c->index;
}

struct pl_coro *pl__coro_find(struct pl_vm *vm, double id) {
  double generation = floor(id / (1u << PL_WAITS_INDEX_BITS));
  double index = id - generation * (1u << PL_WAITS_INDEX_BITS);
  struct pl_coro *c;

  if (!(index >= 0 && index < vm->coro_count))
    return NULL;
  c = vm->coros[(uint32_t)index];
  return c->in_use && (double)c->generation == generation ? c : NULL;
}

/* --- waits ------------------------------------------------------------- */

void pl__coro_ready(struct pl_coro *c, int code) {
  c->wait = PL_WAIT_NONE;
  c->wake = (uint8_t)code;
  if (code != PL_WAKE_OK) { /* which raises the error: no other one for now */
    c->refusals++;
    c->raise_after_ns = pl__clock_monotonic_ns() + PL_CORO_RAISE_PAUSE_NS;
  }
  if (code == PL_WAKE_DEADLINE && c->req && !c->is_task)
    c->req->flags |= PL_REQ_OVERDUE;
  pl__waiting_wake(c);
  pl__heap_remove(&c->vm->timers, &c->timer);
  pl__list_remove(&c->link);
  pl__list_push_back(&c->vm->ready, &c->link);
}

void pl__coro_wake(struct pl_coro *c, int code) {
  if (c->wait != PL_WAIT_NONE)
    pl__coro_ready(c, code);
}

void pl__coro_forget_wait(struct pl_coro *c) {
  c->wait = PL_WAIT_NONE;
  c->wait_from = 0;
  pl__heap_remove(&c->vm->timers, &c->timer);
  pl__list_remove(&c->link);
}

/* The response is complete: its way to the client is bounded by
 * timeouts.write, not by the handler's deadline, and what is pinned must stay
 * until it has left. */
static bool is_sending_rest(const struct pl_coro *c, enum pl_wait wait) {
  return wait == PL_WAIT_WRITE && c->req && (c->req->flags & PL_REQ_DONE);
}

void pl__coro_wait(struct pl_coro *c, enum pl_wait wait, double due) {
  struct pl_req *req = c->req;

  pl__coro_forget_wait(c);
  c->computed_ns = 0;
  c->wait_due = due;
  if (req)
    req->flags |= PL_REQ_WAITED;
  if (wait != PL_WAIT_TASKS && !is_sending_rest(c, wait)) {
    if (c->is_condemned) {
      pl__coro_ready(c, PL_WAKE_MEMORY);
      return;
    }
    if (c->cancelled) {
      pl__coro_ready(c, PL_WAKE_CANCELLED);
      return;
    }
    if (req && (req->flags & PL_REQ_ABORTED) && !(req->flags & PL_REQ_DONE)) {
      pl__coro_ready(c, PL_WAKE_GONE);
      return;
    }
    if (req && req->deadline < due)
      due = req->deadline;
  }
  c->wait = (uint8_t)wait;
  if (c->vm->options.tracer)
    pl__trace_wait(c, wait);
  if (due < HUGE_VAL && pl__heap_push(&c->vm->timers, &c->timer, due))
    pl__coro_ready(c, PL_WAKE_CANCELLED); /* no memory to wait with */
}

void pl__coro_condemn(struct pl_coro *c) {
  c->is_condemned = true;
  if (c->req)
    c->vm->slots[c->req->slot].trace.was_shed = true;
  if (c->wait != PL_WAIT_TASKS && !is_sending_rest(c, c->wait))
    pl__coro_wake(c, PL_WAKE_MEMORY);
}

void pl__coro_cancel(struct pl_coro *c) {
  c->cancelled = true;
  if (c->start_args < 0 && c->wait != PL_WAIT_TASKS)
    pl__coro_wake(c, PL_WAKE_CANCELLED);
}

double pl__vm_due(const struct pl_vm *vm) {
  struct pl_heap_node *first = pl__heap_first(&vm->timers);

  return first ? first->due : HUGE_VAL;
}

void pl__vm_tick(struct pl_vm *vm, double now, double monotonic) {
  struct pl_heap_node *node;

  vm->clock.now = now;
  vm->clock.monotonic = monotonic;
  vm->tick_ns = (int64_t)(pl__stopwatch_look(&vm->waiting.watch) * PL_NS_PER_S);
  while ((node = pl__heap_take_due(&vm->timers, monotonic))) {
    struct pl_coro *c = PL_LIST_ENTRY(node, struct pl_coro, timer);
    pl__coro_ready(c, c->wait_due <= monotonic ? PL_WAKE_OK : PL_WAKE_DEADLINE);
  }
}

bool pl__vm_is_ready(const struct pl_vm *vm) {
  return !pl__list_is_empty(&vm->ready) || !pl__list_is_empty(&vm->parked) ||
         vm->is_shedding || !pl__list_is_empty(&vm->waiting.lost);
}
