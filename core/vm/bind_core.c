/* vm/bind_core.c - the module "perilune.core": what our Lua calls from
 * interpreted code.  What handlers call while compiled is in ffi.h.
 */
#include "base/clock.h"
#include "base/err.h"
#include "http/headers.h"
#include "http/router.h"
#include "vm/bind.h"
#include "vm/bind_json.h"
#include "vm/cdef.h"
#include "vm/coro.h"
#include "vm/json_reply.h"
#include "vm/site.h"
#include "vm/sources.h"

#include <lauxlib.h>
#include <lua.h>

#define REPORT_BYTES_MAX (64u << 20) /* metrics of many series */

#ifndef PL_VERSION
#define PL_VERSION "0.0.0"
#endif

static struct pl_vm *running(lua_State *L) {
  struct pl_vm *vm = pl__vm_running;

  if (!vm)
    luaL_error(L, "perilune.core works inside the runtime only");
  return vm;
}

static struct pl_slice check_slice(lua_State *L, int arg) {
  size_t bytes;
  const char *at = luaL_checklstring(L, arg, &bytes);

  return pl__slice(at, bytes);
}

/* --- the hot one ------------------------------------------------------- */

/* core.next() -> slot, route, serial [, code] | nothing; with a code the
 * request has lost its runner to it, and must be ended */
static int core_next(lua_State *L) {
  struct pl_coro *c = pl__vm_running->current;
  int inherited;
  struct pl_req *req = pl__coro_next_request(c, &inherited);

  if (!req)
    return 0;
  lua_pushinteger(L, (lua_Integer)req->slot);
  lua_pushinteger(L, (lua_Integer)req->route);
  lua_pushnumber(L, req->serial);
  if (!inherited)
    return 3;
  lua_pushinteger(L, inherited);
  return 4;
}

/* core.passing() -> whether the coroutine that has just yielded was preempted */
static int core_passing(lua_State *L) {
  lua_pushboolean(L, running(L)->preempt.passing);
  return 1;
}

/* core.forget_wait(): the wait that was registered cannot be */
static int core_forget_wait(lua_State *L) {
  struct pl_coro *c = running(L)->current;

  if (c)
    pl__coro_forget_wait(c);
  return 0;
}

/* core.finalizer_failed(text) */
static int core_finalizer_failed(lua_State *L) {
  pl__collector_tell(running(L), luaL_checkstring(L, 1));
  return 0;
}

/* core.passed(): here it cannot be passed on, and is resumed at once */
static int core_passed(lua_State *L) {
  running(L)->preempt.passing = false;
  return 0;
}

/* core.has_stack() -> whether the C stack has room for another coroutine that
 * is resumed by one that runs: LuaJIT does not look */
static int core_has_stack(lua_State *L) {
  char here;

  lua_pushboolean(L, (uintptr_t)&here > running(L)->stack_floor);
  return 1;
}

/* core.over() -> PL_WAKE_*: why the running coroutine must end; 0: it need not */
static int core_over(lua_State *L) {
  const struct pl_coro *c = running(L)->current;

  lua_pushinteger(L, c ? pl__coro_is_over(c, pl__clock_monotonic_ns()) : 0);
  return 1;
}

/* core.stopped_at() -> "file:line" where the running coroutine was when an error
 * was raised in it to end it | nothing: none was */
static int core_stopped_at(lua_State *L) {
  struct pl_vm *vm = running(L);

  if (!vm->current || !vm->current->raises)
    return 0;
  lua_pushstring(L, vm->current->stopped_at);
  return 1;
}

/* core.request() -> the request of the running coroutine, as light userdata */
static int core_request(lua_State *L) {
  struct pl_coro *c = running(L)->current;

  if (!c || !c->req)
    return luaL_error(L, "no request is being handled here");
  lua_pushlightuserdata(L, c->req);
  return 1;
}

/* core.decode_body(slot) -> value | nil, err: the body of the request in that
 * slot as JSON, from where it lies: all of it must be there, and it stays. */
static int core_decode_body(lua_State *L) {
  struct pl_vm *vm = running(L);
  uint32_t slot = (uint32_t)luaL_checkinteger(L, 1);
  struct pl_coro *runner =
      slot < vm->options.slot_count ? vm->slots[slot].runner : NULL;
  char err[PL_JSON_ERROR_BYTES];

  if (!runner || !runner->req)
    return luaL_error(L, "there is no request in slot %d", (int)slot);
  if (!pl__json_push(L, runner->req->body.at, runner->req->body.bytes, err,
                     sizeof err))
    return 1;
  lua_pushnil(L);
  lua_pushstring(L, err);
  return 2;
}

/* --- tasks ------------------------------------------------------------- */

static bool too_many_tasks(const struct pl_vm *vm, const struct pl_req *req) {
  /* What is being ended starts nothing new, or it might not end. */
  if (req && (vm->slots[req->slot].is_ending ||
              pl__coro_is_over(vm->current, pl__clock_monotonic_ns())))
    return true;
  return vm->task_count >= vm->options.tasks_max ||
         (req && req->task_count >= vm->options.tasks_per_request_max);
}

/* The context that a task of no request begins with: that of who starts it, or
 * a branch of it. NULL: no memory. */
static struct pl_carried *context_for_task(struct pl_vm *vm, bool is_branch) {
  const struct pl_coro *by = vm->current;
  const struct pl_context *from = by ? pl__coro_context(by) : NULL;
  struct pl_carried *c = NULL;

  if (from && by->req)
    c = pl__carried_new(from, by->req->headers, by->req->header_count,
                        &vm->random);
  else if (from)
    c = pl__carried_new(from, by->carried->fields, by->carried->field_count,
                        &vm->random);
  else
    c = pl__carried_new(NULL, NULL, 0, &vm->random);
  if (!c)
    return NULL;
  if (from && is_branch) {
    pl__carried_branch(c, &vm->random);
    c->context.parent_id = pl__coro_span_id(by);
  }
  c->what = !from || is_branch ? PL_SPAN_TASK : 0;
  if (vm->options.tracer) {
    c->began = pl__tracer_now(vm->options.tracer);
    if (!from)
      pl__tracer_mark(vm->options.tracer, &c->context);
  }
  return c;
}

static int no_task(lua_State *L, const char *why) {
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

/* What it does belongs to the span that it was spawned in. */
static void inherit_span(struct pl_coro *c, const struct pl_coro *by) {
  if (!by || (c->carried && c->carried->what))
    return;
  c->span_base = by->span_depth || by->span_base ? pl__coro_span_id(by) : 0;
  c->span_parent = pl__coro_parent_id(by);
}

/* core.root() -> the coroutine of the core's that runs, on top of which user code
 * may have made others */
static int core_root(lua_State *L) {
  struct pl_coro *c = running(L)->current;

  if (!c)
    return luaL_error(L, "nothing can wait while the app loads");
  lua_pushthread(c->co);
  if (c->co != L)
    lua_xmove(c->co, L, 1);
  return 1;
}

static struct pl_slice field_slice(lua_State *L, int table, const char *key) {
  size_t bytes = 0;
  const char *at = "";

  lua_getfield(L, table, key);
  if (lua_type(L, -1) == LUA_TSTRING)
    at = lua_tolstring(L, -1, &bytes);
  lua_pop(L, 1); /* the table holds it */
  return pl__slice(at, bytes);
}

/* core.spawn(owned, main, task, ...) -> id | nil, err
 * owned: by the request of who starts it; where there is none, by the worker.
 * task: { name =, _file =, _line = }, where it was registered; all may be nil */
static int core_spawn(lua_State *L) {
  struct pl_vm *vm = running(L);
  bool owned = lua_toboolean(L, 1);
  struct pl_req *req = owned && vm->current ? vm->current->req : NULL;
  struct pl_coro *c;
  int args = lua_gettop(L) - 1;

  luaL_checktype(L, 2, LUA_TFUNCTION);
  luaL_checktype(L, 3, LUA_TTABLE);
  if (too_many_tasks(vm, req) || !(c = pl__coro_take(vm, true)))
    return no_task(L, "too many tasks");
  if (!req)
    c->carried = context_for_task(vm, !owned);
  if ((!req && !c->carried) || !lua_checkstack(c->co, args + 1)) {
    pl__coro_drop(c);
    return no_task(L, "no memory for a task");
  }
  c->req = req;
  lua_getfield(L, 3, "_line");
  pl__waiting_spawn(c, L, field_slice(L, 3, "name"), field_slice(L, 3, "_file"),
                    (uint32_t)lua_tointeger(L, -1));
  lua_pop(L, 1);
  lua_xmove(L, c->co, args);
  c->start_args = args - 1;
  inherit_span(c, vm->current);
  vm->task_count++;
  if (req) {
    req->task_count++;
    pl__list_push_back(&vm->slots[req->slot].tasks, &c->task_link);
  }
  pl__coro_ready(c, PL_WAKE_OK);
  lua_pushnumber(L, pl__coro_id(c));
  return 1;
}

/* --- sites ------------------------------------------------------------- */

static struct pl_vm_site *check_site(lua_State *L, int arg) {
  struct pl_vm_site *s =
      pl__site_find(running(L), (uint32_t)luaL_checkinteger(L, arg));

  luaL_argcheck(L, s != NULL, arg, "no such site");
  return s;
}

/* core.site_new() -> site */
static int core_site_new(lua_State *L) {
  uint32_t site;

  if (pl__site_new(running(L), &site))
    return luaL_error(L, "no room for another app");
  lua_pushinteger(L, (lua_Integer)site);
  return 1;
}

/* core.site_add(site, method, pattern, route)
 *   -> true | nil, "conflict", other | nil, "bad pattern: why" */
static int core_site_add(lua_State *L) {
  struct pl_vm_site *s = check_site(L, 1);
  struct pl_slice name = check_slice(L, 2), pattern = check_slice(L, 3);
  uint32_t route = (uint32_t)luaL_checkinteger(L, 4), other = 0;
  int method = pl__slice_equal(name, PL_SLICE("ANY")) ? (int)PL_METHOD_ANY
                                                      : pl__method_find(name);

  luaL_argcheck(L, method >= 0, 2, "no such method");
  switch (pl__router_add(s->router, (uint8_t)method, pattern, route, &other)) {
  case 0:
    lua_pushboolean(L, 1);
    return 1;
  case PL_ECONFLICT:
    lua_pushnil(L);
    lua_pushliteral(L, "conflict");
    lua_pushinteger(L, (lua_Integer)other);
    return 3;
  case PL_EINVAL:
    lua_pushnil(L);
    lua_pushfstring(L, "bad pattern: %s", pl__router_error(s->router));
    return 2;
  case PL_EFULL:
    lua_pushnil(L);
    lua_pushliteral(L, "too many routes");
    return 2;
  default:
    return luaL_error(L, "not enough memory");
  }
}

static double field_number(lua_State *L, int table, const char *key,
                           double otherwise) {
  double n;

  lua_getfield(L, table, key);
  n = lua_isnil(L, -1) ? otherwise : luaL_checknumber(L, -1);
  lua_pop(L, 1);
  return n;
}

/* core.site_route(site, route, { timeout =, body_max =, pattern =, method = })
 */
static int core_site_route(lua_State *L) {
  struct pl_vm_route *r;

  check_site(L, 1);
  luaL_checktype(L, 3, LUA_TTABLE);
  r = pl__site_route(running(L), (uint32_t)luaL_checkinteger(L, 2));
  if (!r)
    return luaL_error(L, "no room for another route");
  r->timeout_s = field_number(L, 3, "timeout", 0);
  r->body_max = field_number(L, 3, "body_max", 0);
  lua_getfield(L, 3, "method");
  lua_getfield(L, 3, "pattern");
  if (lua_isstring(L, -1)) {
    size_t bytes;
    const char *text = lua_isstring(L, -2)
                           ? lua_pushfstring(L, "%s %s", lua_tostring(L, -2),
                                             lua_tostring(L, -1))
                           : lua_tostring(L, -1);
    bytes = strlen(text);
    if (pl__site_set_pattern(r, text, (uint32_t)bytes))
      return luaL_error(L, "not enough memory");
  }
  return 0;
}

/* core.site_ready(site, not_found, not_allowed, options) */
static int core_site_ready(lua_State *L) {
  struct pl_vm_site *s = check_site(L, 1);

  s->not_found = (uint32_t)luaL_checkinteger(L, 2);
  s->not_allowed = (uint32_t)luaL_checkinteger(L, 3);
  s->options = (uint32_t)luaL_checkinteger(L, 4);
  if (!pl__site_route(running(L), s->not_found) ||
      !pl__site_route(running(L), s->not_allowed) ||
      !pl__site_route(running(L), s->options))
    return luaL_error(L, "no room for another route");
  s->ready = true;
  return 0;
}

/* core.site_limits(site, { ["timeouts.handler"] =, ["limits.body"] = }) */
static int core_site_limits(lua_State *L) {
  struct pl_vm_site *s = check_site(L, 1);

  luaL_checktype(L, 2, LUA_TTABLE);
  s->timeout_s = field_number(L, 2, "timeouts.handler", s->timeout_s);
  s->body_max = field_number(L, 2, "limits.body", s->body_max);
  return 0;
}

/* --- the rest ---------------------------------------------------------- */

static int core_cdef(lua_State *L) {
  lua_pushstring(L, pl__cdef_text);
  return 1;
}

static int core_settings(lua_State *L) {
  const char *json = running(L)->options.settings_json;

  lua_pushstring(L, json ? json : "{}");
  return 1;
}

/* core.config(key) -> number | string | nil */
static int core_config(lua_State *L) {
  const struct pl_vm_value *v = running(L)->options.values;
  const char *key = luaL_checkstring(L, 1);

  for (; v && v->key; v++) {
    if (strcmp(v->key, key) != 0)
      continue;
    if (v->text)
      lua_pushstring(L, v->text);
    else
      lua_pushnumber(L, v->number);
    return 1;
  }
  return 0;
}

/* core.worker() -> index from 0; -1 in tools */
static int core_worker(lua_State *L) {
  uint32_t worker = running(L)->options.worker;

  lua_pushinteger(L, worker == UINT32_MAX ? -1 : (lua_Integer)worker);
  return 1;
}

/* core.report(topic [, argument]) -> text | nil, where the VM is the admin
 * plane's; else nothing */
static int core_report(lua_State *L) {
  const struct pl_vm_host *host = &running(L)->options.host;
  struct pl_slice topic = check_slice(L, 1);
  struct pl_slice argument =
      lua_isnoneornil(L, 2) ? pl__slice("", 0) : check_slice(L, 2);
  struct pl_buf out;
  int failed;

  if (!host->report)
    return 0;
  pl__buf_init(&out, NULL, REPORT_BYTES_MAX);
  failed = host->report(host->arg, topic, argument, &out);
  if (failed)
    lua_pushnil(L);
  else
    lua_pushlstring(L, out.at ? out.at : "", out.bytes);
  pl__buf_release(&out);
  return 1;
}

static const luaL_Reg core_functions[] = {
    {"next", core_next},
    {"passing", core_passing},
    {"passed", core_passed},
    {"finalizer_failed", core_finalizer_failed},
    {"forget_wait", core_forget_wait},
    {"stopped_at", core_stopped_at},
    {"over", core_over},
    {"has_stack", core_has_stack},
    {"request", core_request},
    {"decode_body", core_decode_body},
    {"spawn", core_spawn},
    {"root", core_root},
    {"watch", pl__waiting_watch},
    {"passes", pl__waiting_passes},
    {"reply_json", pl__json_reply},
    {"site_new", core_site_new},
    {"site_add", core_site_add},
    {"site_route", core_site_route},
    {"site_ready", core_site_ready},
    {"site_limits", core_site_limits},
    {"cdef", core_cdef},
    {"settings", core_settings},
    {"config", core_config},
    {"worker", core_worker},
    {"is_source", pl__sources_exists},
    {"report", core_report},
    {NULL, NULL},
};

static int open_core(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, core_functions);
  lua_pushliteral(L, PL_VERSION);
  lua_setfield(L, -2, "version");
  lua_newtable(L);
#define METHOD(number, name)                                                   \
  lua_pushinteger(L, number);                                                  \
  lua_setfield(L, -2, #name);
  PL_METHODS(METHOD)
#undef METHOD
  lua_setfield(L, -2, "methods");
  pl__bind_inject(L);
  pl__bind_traces(L);
  return 1;
}

void pl__bind_core(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open_core);
  lua_setfield(L, -2, "perilune.core");
  lua_pushcfunction(L, pl__json_open);
  lua_setfield(L, -2, "perilune.core.json");
  lua_pop(L, 2);
}
