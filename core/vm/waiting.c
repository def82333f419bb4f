/* vm/waiting.c - see waiting.h. */
#include "vm/waiting.h"

#include "base/alloc.h"
#include "fabric/stacks.h"
#include "vm/coro.h"
#include "vm/frames.h"
#include "vm/report.h"
#include "vm/suspects.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>

#define LEAKS_TOLD_MAX 10u /* records of leaks in a second */

/* --- the table --------------------------------------------------------- */

void pl__waiting_init(struct pl_waiting *w) {
  pl__list_init(&w->fresh);
  pl__list_init(&w->lost);
  pl__list_init(&w->woken);
}

void pl__waiting_open(struct pl_vm *vm) {
  struct pl_waiting *w = &vm->waiting;

  w->cycle_ns = vm->tick_ns;
  if (!vm->options.waits)
    return;
  w->suspects = pl__alloc_zero(sizeof *w->suspects);
  if (!w->suspects || pl__waits_writer_open(&w->writer, vm->options.waits,
                                            vm->options.generation))
    pl__report(vm, PL_LEVEL_WARN, NULL, "coroutines are not listed",
               "out of memory");
}

void pl__waiting_close(struct pl_vm *vm) {
  pl__waits_writer_close(&vm->waiting.writer);
  pl__free(vm->waiting.suspects);
  vm->waiting.suspects = NULL;
}

static int64_t now_ns(const struct pl_vm *vm) {
  return (int64_t)(pl__stopwatch_read(&vm->waiting.watch) * PL_NS_PER_S);
}

static uint64_t number_of(const struct pl_coro *c) {
  return (uint64_t)pl__coro_id(c) + 1;
}

/* The entry of one that begins with something, filled in. */
static void begin(struct pl_coro *c, uint64_t parent) {
  struct pl_vm *vm = c->vm;
  const struct pl_req *req = c->req;
  struct pl_waits_entry *e = pl__waits_take(&vm->waiting.writer, c->index);
#define SET(field, value)                                                      \
  atomic_store_explicit(&e->field, value, memory_order_relaxed)

  c->waiting.entry = e;
  if (!e)
    return;
  pl__waits_begin_write(e);
  SET(id, number_of(c));
  SET(parent, parent);
  SET(born_ns, vm->tick_ns);
  SET(since_ns, vm->tick_ns);
  SET(state, c->is_task ? PL_WAITS_READY : PL_WAITS_RUNNING);
  SET(reason, PL_WAITS_NOTHING);
  SET(name, c->waiting.name);
  SET(object, 0);
  SET(slot, req ? req->slot + 1 : 0);
  SET(route, req ? pl__vm_route_in_log(vm, req) : PL_WAITS_NO_ROUTE);
  SET(at, 0);
  SET(started, c->waiting.started);
  pl__waits_end_write(e);
#undef SET
}

void pl__waiting_request(struct pl_coro *c) {
  c->waiting.started = 0;
  c->waiting.name = 0;
  if (c->vm->waiting.writer.waits)
    begin(c, 0);
}

void pl__waiting_spawn(struct pl_coro *c, lua_State *L, struct pl_slice name,
                       struct pl_slice place, uint32_t line) {
  struct pl_vm *vm = c->vm;
  const struct pl_coro *by = vm->current;

  c->waiting.started = PL_STACK_OTHER;
  if (vm->options.frames && place.bytes)
    c->waiting.started = pl__frames_place(vm->options.frames, place, line);
  else if (vm->options.frames)
    c->waiting.started =
        pl__frames_stack(vm->options.frames, L, by ? by->co : NULL);
  c->waiting.name = pl__waits_name(&vm->waiting.writer, name);
  begin(c, by ? number_of(by) : 0);
}

void pl__waiting_end(struct pl_coro *c) {
  struct pl_coro_waiting *w = &c->waiting;

  pl__list_remove(&w->fresh);
  if (w->entry)
    pl__waits_set_state(w->entry, PL_WAITS_FREE);
  if (w->is_loose)
    c->vm->waiting.loose_count--;
  w->entry = NULL;
  w->parked_ns = w->waited_ns = 0;
  w->is_loose = false;
}

/* --- parking and going on ---------------------------------------------- */

static enum pl_waits_reason reason_of(const struct pl_coro *c) {
  switch ((enum pl_wait)c->wait) {
  case PL_WAIT_TIMER:
    return PL_WAITS_SLEEP;
  case PL_WAIT_BODY:
    return PL_WAITS_BODY;
  case PL_WAIT_WRITE:
    return PL_WAITS_WRITE;
  case PL_WAIT_TASKS:
    return PL_WAITS_TASKS;
  case PL_WAIT_EVENT:
    return (enum pl_waits_reason)c->event_reason;
  case PL_WAIT_INJECTED:
    return PL_WAITS_INJECTED;
  default:
    return PL_WAITS_NOTHING;
  }
}

/* The coroutine of the user's that has passed its wait on to L, which resumed it
 * (`settle` of wait.lua: its first local); NULL: L waits itself. */
static lua_State *inner_of(const struct pl_vm *vm, lua_State *L) {
  lua_State *inner = NULL;
  const void *function;
  lua_Debug at;

  if (!vm->waiting.passes || !lua_getstack(L, 1, &at))
    return NULL;
  lua_getinfo(L, "f", &at);
  function = lua_topointer(L, -1);
  lua_pop(L, 1);
  if (function != vm->waiting.passes || !lua_getlocal(L, &at, 1))
    return NULL;
  inner = lua_tothread(L, -1);
  lua_pop(L, 1);
  return inner;
}

/* Where it is; it has yielded. */
static void walk(struct pl_coro *c) {
  struct pl_coro_waiting *w = &c->waiting;
  lua_State *L = c->co, *inner;

  if (w->at || !c->vm->options.frames)
    return;
  for (int i = 0; i < PL_WAITING_NESTED_MAX && (inner = inner_of(c->vm, L));
       i++)
    L = inner;
  w->at = pl__frames_stack(c->vm->options.frames, L, c->co);
  if (w->entry)
    atomic_store_explicit(&w->entry->at, w->at, memory_order_release);
}

static void park(struct pl_coro *c) {
  struct pl_coro_waiting *w = &c->waiting;
  bool is_event = c->wait == PL_WAIT_EVENT;

  w->reason = (uint8_t)reason_of(c);
  w->parked_ns = now_ns(c->vm);
  w->waited_ns = 0;
  w->at = PL_STACK_OTHER;
  w->object = is_event ? c->event_object : 0;
  w->watch = is_event ? c->event_watch : 0;
  pl__list_push_back(&c->vm->waiting.fresh, &w->fresh);
  if (w->entry)
    pl__waits_park(w->entry, (enum pl_waits_reason)w->reason, w->object,
                   w->parked_ns);
}

/* Where it was interrupted is known as well: that happens once per slice. */
static void preempt(struct pl_coro *c) {
  struct pl_waits_entry *e = c->waiting.entry;

  if (!e)
    return;
  pl__waits_park(e, PL_WAITS_NOTHING, 0, now_ns(c->vm));
  pl__waits_set_state(e, PL_WAITS_PREEMPTED);
  c->waiting.at = PL_STACK_OTHER;
  walk(c);
}

void pl__waiting_yield(struct pl_coro *c) {
  if (c->wait != PL_WAIT_NONE)
    park(c);
  else if (c->is_parked)
    preempt(c);
  else if (c->waiting.entry)
    pl__waits_set_state(c->waiting.entry, PL_WAITS_READY);
}

void pl__waiting_wake(struct pl_coro *c) {
  struct pl_coro_waiting *w = &c->waiting;

  if (!w->parked_ns)
    return;
  /* Outside of Lua the tick has just been read: timers, and what sockets tell. */
  if (!c->vm->current && c->vm->tick_ns > w->parked_ns)
    w->waited_ns = c->vm->tick_ns - w->parked_ns;
  else
    w->waited_ns = now_ns(c->vm) - w->parked_ns;
  if (w->waited_ns < 1)
    w->waited_ns = 1;
  w->parked_ns = 0;
  pl__list_remove(&w->fresh);
  if (w->is_loose)
    pl__list_push_back(&c->vm->waiting.woken, &w->fresh);
  if (w->entry)
    pl__waits_set_state(w->entry, PL_WAITS_READY);
}

/* A wait that is over: into the block profile. */
static void count(struct pl_coro *c) {
  struct pl_coro_waiting *own = &c->waiting;
  struct pl_waiting *w = &c->vm->waiting;
  unsigned reason = own->reason;

  if (!w->writer.waits || reason >= PL_WAITS_REASONS)
    return;
  w->short_count[reason]++;
  w->short_ns[reason] += (uint64_t)own->waited_ns;
  if (!own->at && own->waited_ns < PL_WAITING_WALK_NS &&
      w->short_count[reason] < PL_WAITING_SHORT_EVERY)
    return;
  walk(c);
  pl__waits_block(&w->writer, own->at, (enum pl_waits_reason)reason,
                  w->short_count[reason], w->short_ns[reason]);
  w->short_count[reason] = w->short_ns[reason] = 0;
}

static void anchor(struct pl_coro *c) {
  if (!c->waiting.is_loose)
    return;
  c->waiting.is_loose = false;
  c->vm->waiting.loose_count--;
  pl__list_remove(&c->waiting.fresh);
  lua_pushthread(c->co);
  lua_xmove(c->co, c->vm->L, 1);
  pl__coro_anchor(c, c->vm->L);
}

void pl__waiting_keep_woken(struct pl_vm *vm) {
  struct pl_list *link;

  while ((link = pl__list_take_front(&vm->waiting.woken)))
    anchor(PL_LIST_ENTRY(link, struct pl_coro, waiting.fresh));
}

void pl__waiting_cycle(struct pl_vm *vm) {
  vm->waiting.is_doubtful = vm->emergency;
}

void pl__waiting_resume(struct pl_coro *c) {
  struct pl_coro_waiting *w = &c->waiting;

  if (w->waited_ns)
    count(c);
  w->waited_ns = 0;
  anchor(c);
  if (!w->entry)
    return;
  atomic_store_explicit(&w->entry->since_ns, c->vm->tick_ns,
                        memory_order_relaxed);
  pl__waits_set_state(w->entry, PL_WAITS_RUNNING);
}

/* --- what nobody can wake ------------------------------------------------ */

static void loosen(struct pl_coro *c) {
  if (!c->waiting.watch || c->waiting.is_loose)
    return;
  c->waiting.is_loose = true;
  c->vm->waiting.loose_count++;
  pl__coro_loosen(c, c->vm->L);
}

/* Found by the collector: kept, until the turn tells it. The thread is at
 * index -2. */
static void lose(lua_State *L, struct pl_vm *vm, double id, double serial) {
  struct pl_coro *c = pl__coro_find(vm, id);

  if (!c || !c->waiting.is_loose || c->waiting.watch != serial)
    return;
  c->waiting.is_loose = false;
  vm->waiting.loose_count--;
  pl__list_remove(&c->waiting.fresh);
  lua_pushvalue(L, -2);
  pl__coro_anchor(c, L);
  if (c->wait == PL_WAIT_EVENT && !vm->waiting.is_doubtful)
    pl__list_push_back(&vm->waiting.lost, &c->link);
}

/* A finalizer: nothing in it makes anything new, so nothing fails. */
static int watch_gc(lua_State *L) {
  struct pl_vm *vm = pl__vm_running;
  double serial;

  if (!vm || vm->closing)
    return 0;
  lua_getfenv(L, 1);
  lua_getfield(L, 2, "serial");
  serial = lua_tonumber(L, -1);
  lua_pop(L, 1);
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    if (lua_isthread(L, -2))
      lose(L, vm, lua_tonumber(L, -1), serial);
    lua_pop(L, 1);
  }
  lua_pushboolean(L, true);
  lua_setfield(L, 2, "spent");
  return 0;
}

int pl__waiting_passes(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  pl__vm_running->waiting.passes = lua_topointer(L, 1);
  return 0;
}

int pl__waiting_watch(lua_State *L) {
  struct pl_vm *vm = pl__vm_running;

  lua_createtable(L, 0, 4);
  lua_pushnumber(L, ++vm->waiting.watches);
  lua_setfield(L, -2, "serial");
  lua_pushboolean(L, false);
  lua_setfield(L, -2, "spent");
  lua_newuserdata(L, 0);
  if (luaL_newmetatable(L, "perilune.watch")) {
    lua_pushcfunction(L, watch_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -2);
  lua_setfenv(L, -2);
  lua_setfield(L, -2, "sentinel");
  return 1;
}

static void tell(struct pl_coro *c, int64_t now) {
  struct pl_vm *vm = c->vm;
  struct pl_waiting *w = &vm->waiting;
  _Alignas(8) char memory[2048];
  struct pl_record_draft draft;

  if (now - w->told_ns > PL_NS_PER_S) {
    w->told_ns = now;
    w->told = 0;
  }
  if (w->told++ >= LEAKS_TOLD_MAX) {
    w->untold++;
    return;
  }
  pl__report_begin(vm, &draft, memory, sizeof memory, PL_LEVEL_WARN, c,
                   PL_SLICE("a leak: nobody can wake this"));
  pl__record_str(&draft, PL_SLICE("reason"),
                 pl__slice_text(pl__waits_reason_name(c->waiting.reason)));
  pl__report_place(vm, &draft, PL_SLICE("at"), c->waiting.at);
  pl__report_place(vm, &draft, PL_SLICE("started_at"), c->waiting.started);
  if (c->waiting.name)
    pl__record_str(&draft, PL_SLICE("task"),
                   pl__waits_name_of(w->writer.waits, c->waiting.name));
  pl__record_num(&draft, PL_SLICE("waited_s"),
                 (double)(now - c->waiting.parked_ns) / PL_NS_PER_S);
  pl__report_end(vm, &draft);
}

static void tell_rest(struct pl_vm *vm) {
  struct pl_waiting *w = &vm->waiting;
  char text[80];

  if (!w->untold || vm->tick_ns - w->told_ns < PL_NS_PER_S)
    return;
  snprintf(text, sizeof text, "%u of them within a second", w->untold);
  pl__report(vm, PL_LEVEL_WARN, NULL, "more leaks than were told", text);
  w->untold = 0;
}

static void end_lost(struct pl_vm *vm) {
  struct pl_list *link;

  while ((link = pl__list_take_front(&vm->waiting.lost))) {
    struct pl_coro *c = PL_LIST_ENTRY(link, struct pl_coro, link);
    struct pl_waits_leak leak = {
        .started = c->waiting.started,
        .at = c->waiting.at,
        .kind = c->is_task ? PL_WAITS_KIND_TASK : PL_WAITS_KIND_REQUEST,
        .reason = c->waiting.reason,
        .route = c->req ? pl__vm_route_in_log(vm, c->req) : PL_WAITS_NO_ROUTE,
        .generation = vm->options.generation,
        .name = c->waiting.name};

    pl__waits_leak(&vm->waiting.writer, &leak, vm->tick_ns);
    vm->counts.leaked++;
    tell(c, vm->tick_ns);
    pl__coro_ready(c, PL_WAKE_LOST);
  }
  tell_rest(vm);
}

/* A small heap is hardly ever collected: then this asks for a cycle. */
static void ask_for_cycle(struct pl_vm *vm) {
  struct pl_waiting *w = &vm->waiting;

  if (vm->counts.cycles != w->cycles_seen || !w->loose_count) {
    w->cycles_seen = vm->counts.cycles;
    w->cycle_ns = vm->tick_ns;
  } else if (!vm->collecting &&
             vm->tick_ns - w->cycle_ns >
                 (int64_t)(vm->options.leaks_collect_s * PL_NS_PER_S)) {
    vm->collecting = true;
  }
}

void pl__waiting_turn(struct pl_vm *vm) {
  struct pl_waiting *w = &vm->waiting;

  for (uint32_t i = 0; i < PL_WAITING_TURN_MAX; i++) {
    struct pl_list *link = pl__list_is_empty(&w->fresh) ? NULL : w->fresh.next;
    struct pl_coro *c;

    if (!link)
      break;
    c = PL_LIST_ENTRY(link, struct pl_coro, waiting.fresh);
    if (vm->tick_ns - c->waiting.parked_ns < PL_WAITING_FRESH_NS)
      break;
    pl__list_remove(link);
    walk(c);
    loosen(c);
  }
  ask_for_cycle(vm);
  end_lost(vm);
  pl__suspects_turn(vm);
}
