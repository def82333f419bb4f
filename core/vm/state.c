/* vm/state.c - makes a VM, loads our modules and the app, closes it again.
 *
 * The allocator counts what the VM holds and stops at its limit; Lua then
 * raises "not enough memory" in whoever asked.  What loads runs with the
 * compiler off and a count hook: a count hook isn't seen by compiled loops.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "fabric/flights.h"
#include "fabric/heap_samples.h"
#include "fabric/record.h"
#include "vm/bind.h"
#include "vm/coro.h"
#include "vm/report.h"
#include "vm/site.h"
#include "vm/traces.h"

#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <math.h>
#include <stdio.h>

#define LOAD_HOOK_COUNT 10000 /* instructions between looks at the clock */

static void *vm_alloc(void *ud, void *at, size_t old_bytes, size_t new_bytes) {
  struct pl_vm *vm = ud;
  struct pl_heap_live sample;
  void *moved;
  bool was_sampled;

  if (!at)
    old_bytes = 0;
  if (new_bytes > old_bytes && !vm->closing) {
    uint64_t after = vm->heap_bytes + (new_bytes - old_bytes);
    if (vm->options.memory_bytes_max && after > vm->options.memory_bytes_max) {
      vm->starved = true;
      return NULL;
    }
    if (after > vm->emergency_bytes && !vm->emergency && vm->L) {
      vm->emergency = vm->waiting.is_doubtful = true;
      lua_gc(vm->L, LUA_GCRESTART, 0); /* only lowers a threshold */
    }
  }
  was_sampled = at && pl__allocations_knows(&vm->allocations, at) &&
                pl__allocations_take(vm, at, &sample);
  moved = pl__reserve_alloc(&vm->reserve, at, old_bytes, new_bytes);
  if (moved || new_bytes == 0)
    vm->heap_bytes += new_bytes - old_bytes;
  if (moved && new_bytes > old_bytes)
    pl__allocations_count(vm, &vm->allocations, moved, new_bytes);
  else if (PL_UNLIKELY(was_sampled) && new_bytes > 0)
    pl__allocations_put_back(vm, &sample, moved ? moved : at,
                             moved ? new_bytes : old_bytes);
  return moved;
}

static void take_error(lua_State *L, char *err) {
  /* Not of a number: that would make a string, and here nothing catches. */
  const char *text =
      lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;

  snprintf(err, PL_VM_ERROR_BYTES, "%s", text ? text : "unknown error");
  lua_pop(L, 1);
}

/* package.path = "<ours>/?.lua;<ours>/?/init.lua;" .. what was there */
static void set_path(lua_State *L, const char *folder) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  const char *before = lua_tostring(L, -1);
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", folder, folder,
                  before ? before : "");
  lua_setfield(L, -3, "path");
  lua_pop(L, 2);
}

static int open_protected(lua_State *L) {
  struct pl_vm *vm = lua_touserdata(L, 1);

  luaL_openlibs(L);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  set_path(L, vm->options.lua_folder);
  pl__sources_install(L);
  pl__bind_core(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perilune.boot");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "loop");
  vm->loop_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, -1, "tags");
  vm->tags_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  vm->anchors_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  if (luaL_loadstring(L, ""))
    return lua_error(L);
  vm->nothing_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushcfunction(L, pl__collector_slice);
  vm->collect_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_setfield(L, LUA_REGISTRYINDEX, "perilune.boot");
  return 0;
}

static void vm_init_lists(struct pl_vm *vm) {
  pl__list_init(&vm->ready);
  pl__list_init(&vm->parked);
  pl__list_init(&vm->idle_runners);
  pl__list_init(&vm->idle_tasks);
  pl__list_init(&vm->free_coros);
  pl__waiting_init(&vm->waiting);
  pl__heap_init(&vm->timers,
                vm->options.slot_count + vm->options.tasks_max + 1024);
}

int pl__vm_open(struct pl_vm *vm, const struct pl_vm_options *options,
                char *err) {
  int failed;

  memset(vm, 0, sizeof *vm);
  vm->options = *options;
  vm->emergency_bytes = UINT64_MAX;
  vm->shed_bytes = UINT64_MAX;
  vm->interrupt_id = -1;
  vm->phase = options->flights ? &options->flights->phase : &vm->own_phase;
  pl__random_seed(&vm->random);
  vm->clock.monotonic = pl__clock_monotonic_s();
  vm->clock.now = (double)pl__clock_realtime_ns() / PL_NS_PER_S;
  vm_init_lists(vm);
  snprintf(err, PL_VM_ERROR_BYTES, "out of memory");
  vm->slots = pl__alloc_zero(options->slot_count * sizeof *vm->slots);
  if (!vm->slots)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < options->slot_count; i++)
    pl__list_init(&vm->slots[i].tasks);
  pl__allocations_open(vm);
  if (pl__reserve_open(&vm->reserve))
    goto fail_reserve;
  vm->L = lua_newstate(vm_alloc, vm);
  pl__reserve_shut(&vm->reserve);
  if (!vm->L)
    goto fail_state;
  pl__vm_running = vm;
  failed = lua_cpcall(vm->L, open_protected, vm);
  if (failed) {
    take_error(vm->L, err);
    pl__vm_close(vm);
    return failed == LUA_ERRMEM ? PL_ENOMEM : PL_ESCRIPT;
  }
  luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
  pl__vm_collect_begin(vm);
  return 0;

fail_state:
  pl__reserve_close(&vm->reserve);
fail_reserve:
  pl__free(vm->slots);
  return PL_ENOMEM;
}

void pl__vm_close(struct pl_vm *vm) {
  pl__preempt_stop(vm);
  pl__bind_metric_leave(vm);
  vm->closing = true;
  pl__vm_running = vm; /* finalizers */
  if (vm->L)
    lua_close(vm->L);
  pl__vm_running = NULL;
  pl__waiting_close(vm);
  pl__coros_deinit(vm);
  pl__sites_deinit(vm);
  pl__bind_shared_close(vm);
  pl__bind_metric_close(vm);
  pl__reserve_close(&vm->reserve);
  pl__allocations_close(vm);
  pl__traces_close(vm->traces);
  vm->traces = NULL;
  pl__free(vm->slots);
  vm->L = NULL;
  vm->slots = NULL;
}

/* --- loading ----------------------------------------------------------- */

static _Thread_local int64_t load_end_ns;

static void on_load_hook(lua_State *L, lua_Debug *where) {
  struct pl_vm *vm = pl__vm_running;

  if (pl__allocations_wait(&vm->allocations)) {
    pl__allocations_attribute(vm, L, where);
    lua_sethook(L, on_load_hook, LUA_MASKCOUNT, LOAD_HOOK_COUNT);
  }
  if (pl__clock_monotonic_ns() > load_end_ns)
    luaL_error(L, "loading took longer than vm.load_timeout");
}

void pl__vm_look(struct pl_vm *vm) {
  if (vm->allocations.is_loading)
    lua_sethook(vm->L, on_load_hook, LUA_MASKCOUNT, 1);
  else
    pl__preempt_look_once(vm);
}

/* A call of boot.NAME. All of it, its arguments and its result, runs protected:
 * LuaJIT ends the process when memory runs out where nothing catches. */
struct boot_call {
  const char *name;
  const struct pl_vm_arg *args;
  uint32_t count;
  uint32_t site;        /* the argument if there are no args; or the result */
  struct pl_buf *out;   /* for texts; NULL: the result is `site` */
  uint32_t lines;       /* how many texts */
  int failed;           /* appending them */
  struct pl_coro *task; /* of start_protected */
};

static void push_boot(lua_State *L, const char *name) {
  lua_getfield(L, LUA_REGISTRYINDEX, "perilune.boot");
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

static void push_list(lua_State *L, const struct pl_vm_arg *arg) {
  lua_createtable(L, (int)arg->list_count, 0);
  for (size_t i = 0; i < arg->list_count; i++) {
    lua_pushstring(L, arg->list[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

/* boot.NAME and its arguments; returns how many these are. */
static int push_call(lua_State *L, const struct boot_call *call) {
  luaL_checkstack(L, (int)call->count + 4, "too many arguments");
  push_boot(L, call->name);
  if (!call->args) {
    lua_pushinteger(L, (lua_Integer)call->site);
    return 1;
  }
  for (uint32_t i = 0; i < call->count; i++) {
    if (call->args[i].list)
      push_list(L, &call->args[i]);
    else if (call->args[i].text)
      lua_pushlstring(L, call->args[i].text, call->args[i].text_bytes);
    else
      lua_pushnil(L);
  }
  return (int)call->count;
}

static int append_line(struct pl_buf *out, lua_State *L, bool newline) {
  size_t bytes;
  const char *text = lua_tolstring(L, -1, &bytes);
  int failed = text ? pl__buf_append(out, text, (uint32_t)bytes) : 0;

  return failed || !newline ? failed : pl__buf_append(out, "\n", 1);
}

static void take_lines(lua_State *L, struct boot_call *call) {
  if (!lua_istable(L, -1)) {
    call->failed = append_line(call->out, L, false);
    call->lines = 1;
    return;
  }
  call->lines = (uint32_t)lua_objlen(L, -1);
  for (uint32_t i = 1; i <= call->lines && !call->failed; i++) {
    lua_rawgeti(L, -1, (int)i);
    call->failed = append_line(call->out, L, true);
    lua_pop(L, 1);
  }
}

/* The function of Lua that is called here is what LuaJIT finds on the stack when
 * it tells of the trace that it has given up. Where C functions alone are on it,
 * it looks for one below the stack's bottom (trace_abort in lj_trace.c). */
void pl__vm_end_recording(struct pl_vm *vm) {
  if (vm->current)
    return;
  lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->nothing_ref);
  if (lua_pcall(vm->L, 0, 0, 0))
    lua_pop(vm->L, 1);
}

static int boot_protected(lua_State *L) {
  struct boot_call *call = lua_touserdata(L, 1);

  lua_call(L, push_call(L, call), 1);
  if (call->out)
    take_lines(L, call);
  else
    call->site = (uint32_t)lua_tointeger(L, -1);
  return 0;
}

/* Calls it, bounded in time. */
static int call_boot(struct pl_vm *vm, struct boot_call *call, double seconds,
                     char *err) {
  lua_State *L = vm->L;
  int status;

  vm->stack_floor = (uintptr_t)&status - PL_LIMIT_NESTING_BYTES;
  load_end_ns = pl__clock_monotonic_ns() + (int64_t)(seconds * PL_NS_PER_S);
  pl__vm_running = vm;
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  pl__vm_end_recording(vm);
  lua_sethook(L, on_load_hook, LUA_MASKCOUNT, LOAD_HOOK_COUNT);
  vm->allocations.is_loading = true;
  status = lua_cpcall(L, boot_protected, call);
  vm->allocations.is_loading = false;
  lua_sethook(L, NULL, 0, 0);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
  if (!status)
    return 0;
  take_error(L, err);
  return status == LUA_ERRMEM ? PL_ENOMEM : PL_ESCRIPT;
}

static int collect_protected(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

int pl__vm_load(struct pl_vm *vm, const char *app, double seconds,
                uint32_t *site, char *err) {
  struct pl_vm_arg arg = {.text = app, .text_bytes = strlen(app)};
  struct boot_call call = {.name = "load", .args = &arg, .count = 1};
  int failed = call_boot(vm, &call, seconds, err);

  if (failed)
    return failed;
  *site = call.site;
  if (!pl__site_find(vm, *site) || !pl__site_find(vm, *site)->ready) {
    snprintf(err, PL_VM_ERROR_BYTES, "%s has no routes that can be served",
             app);
    return PL_ESCRIPT;
  }
  pl__vm_end_recording(vm);
  if (lua_cpcall(vm->L, collect_protected, NULL))
    lua_pop(vm->L, 1); /* a finalizer's error, or no memory */
  lua_gc(vm->L, LUA_GCSTOP, 0);
  pl__vm_collect_begin(vm);
  return 0;
}

/* A VM that cannot be preempted serves as well: another one of the process is,
 * or the kernel has no timer left. */
static void start_preemption(struct pl_vm *vm) {
  int failed = vm->options.slice_s > 0 ? pl__preempt_start(vm) : 0;
  char text[80];

  if (failed == PL_EFULL)
    return;
  if (!failed) {
    if (vm->options.slice_s > 0 && !pl__preempt_heals(vm))
      pl__report(vm, PL_LEVEL_WARN, NULL, "preemption may seldom fail",
                 "this version of LuaJIT is not known");
    return;
  }
  snprintf(text, sizeof text, "timer: error %d", -failed);
  pl__report(vm, PL_LEVEL_WARN, NULL, "handlers are not preempted", text);
}

int pl__vm_warm(struct pl_vm *vm, double seconds, char *err) {
  struct boot_call call = {.name = "warm", .site = 0};

  return call_boot(vm, &call, seconds, err);
}

int pl__vm_start(struct pl_vm *vm, uint32_t site, char *err) {
  struct boot_call call = {.name = "start", .site = site};
  int failed;

  pl__bind_metric_start(vm);
  pl__allocations_serve(vm);
  pl__waiting_open(vm);
  failed = call_boot(vm, &call, 60, err);
  if (!failed)
    start_preemption(vm);
  return failed;
}

/* --- tools ------------------------------------------------------------- */

static int start_protected(lua_State *L) {
  struct boot_call *call = lua_touserdata(L, 1);
  int args = push_call(L, call);

  luaL_checkstack(call->task->co, args + 1, "too many arguments");
  lua_xmove(L, call->task->co, args + 1);
  return 0;
}

int pl__vm_start_tool(struct pl_vm *vm, const char *name,
                      const struct pl_vm_arg *args, uint32_t count, char *err) {
  struct boot_call call = {.name = name, .args = args, .count = count};
  struct pl_coro *c;

  pl__vm_running = vm;
  snprintf(err, PL_VM_ERROR_BYTES, "out of memory");
  c = call.task = pl__coro_take(vm, true);
  if (!c)
    return PL_ENOMEM;
  pl__vm_end_recording(vm);
  if (lua_cpcall(vm->L, start_protected, &call)) {
    lua_pop(vm->L, 1);
    pl__coro_drop(c);
    return PL_ENOMEM;
  }
  c->start_args = (int)count;
  vm->task_count++;
  pl__coro_ready(c, PL_WAKE_OK);
  start_preemption(vm);
  return 0;
}

int pl__vm_call_tool(struct pl_vm *vm, const char *name,
                     const struct pl_vm_arg *args, uint32_t count,
                     double seconds, struct pl_buf *out, uint32_t *lines,
                     char *err) {
  struct boot_call call = {
      .name = name, .args = args, .count = count, .out = out};
  int failed = call_boot(vm, &call, seconds, err);

  *lines = call.lines;
  if (!failed && call.failed) {
    snprintf(err, PL_VM_ERROR_BYTES, "the result is too long");
    failed = call.failed;
  }
  return failed;
}

/* --- news -------------------------------------------------------------- */

/* Wakes the runner of a request and its tasks, if they wait for that. */
static void wake_all(struct pl_vm *vm, struct pl_req *req, uint32_t waits,
                     int code) {
  struct pl_vm_slot *slot = &vm->slots[req->slot];
  struct pl_list *link, *after;

  if (slot->runner && (waits >> slot->runner->wait & 1))
    pl__coro_wake(slot->runner, code);
  PL_LIST_EACH(link, after, &slot->tasks) {
    struct pl_coro *c = PL_LIST_ENTRY(link, struct pl_coro, task_link);
    if (waits >> c->wait & 1)
      pl__coro_wake(c, code);
  }
}

void pl__vm_on_body(struct pl_vm *vm, struct pl_req *req) {
  wake_all(vm, req, 1u << PL_WAIT_BODY, PL_WAKE_OK);
}

void pl__vm_on_writable(struct pl_vm *vm, struct pl_req *req) {
  wake_all(vm, req, 1u << PL_WAIT_WRITE, PL_WAKE_OK);
}

/* A complete response may still be on its way to a client that only sends no
 * more; what runs after it (defers) isn't the client's affair. */
void pl__vm_on_gone(struct pl_vm *vm, struct pl_req *req, bool lost) {
  uint32_t waits = ~(1u << PL_WAIT_NONE | 1u << PL_WAIT_TASKS);

  if (req->flags & PL_REQ_DONE)
    waits = lost ? 1u << PL_WAIT_WRITE : 0;
  wake_all(vm, req, waits, PL_WAKE_GONE);
}

void pl__vm_on_injected(struct pl_vm *vm, int conn) {
  for (uint32_t i = 0; i < vm->coro_count; i++) {
    struct pl_coro *c = vm->coros[i];
    if (c->in_use && c->wait == PL_WAIT_INJECTED && c->injected == conn)
      pl__coro_wake(c, PL_WAKE_OK);
  }
}

void pl__vm_interrupt(struct pl_vm *vm) {
  struct pl_coro *c = pl__coro_find(vm, vm->interrupt_id);

  if (c)
    pl__coro_cancel(c);
}

void pl__vm_cancel_detached(struct pl_vm *vm) {
  for (uint32_t i = 0; i < vm->coro_count; i++) {
    struct pl_coro *c = vm->coros[i];
    if (c->in_use && c->is_task && !c->req)
      pl__coro_cancel(c);
  }
}
