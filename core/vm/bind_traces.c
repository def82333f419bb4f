/* vm/bind_traces.c - what perilune/traces.lua tells of LuaJIT's compiler.
 *
 * LuaJIT calls these with hooks off, in the coroutine whose code it compiles,
 * whose stack is in order then.  `recorded` is called for each bytecode that is
 * recorded, so it is C, and leaves at once unless the line has changed.
 */
#include "base/err.h"
#include "fabric/stacks.h"
#include "vm/bind.h"
#include "vm/coro.h"
#include "vm/frames.h"
#include "vm/traces.h"

#include <lauxlib.h>
#include <lua.h>

#define OWN_LEVELS 2 /* of the stack: trace_begin and who has called it */

/* What the functions share, their first upvalue.  The VM is the one that has
 * asked for them: traces are flushed while another one runs as well.  It finds
 * out whether the next line is another one, as LuaJIT itself does. */
struct watch {
  struct pl_vm *vm;
  const void *function;
  const char *source;
  int first_line;
  int line;
};

static struct watch *watch_of(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

/* In the handler of the event "start". */
static int trace_begin(lua_State *L) {
  struct watch *w = watch_of(L);
  uint32_t symbols[PL_STACKS_DEPTH_MAX], depth;
  lua_State *outer = w->vm->current ? w->vm->current->co : NULL;

  *w = (struct watch){.vm = w->vm, .line = -1};
  depth = pl__frames_walk(w->vm->options.frames, L, outer, symbols);
  if (depth > OWN_LEVELS)
    pl__traces_begin(w->vm->traces, symbols + OWN_LEVELS, depth - OWN_LEVELS);
  return 0;
}

/* Whether a bytecode of that function at that line begins a part of its own:
 * in another function the first one does, and the next one again. */
static bool is_new_line(lua_State *L, struct watch *w, const void *function,
                        lua_Debug *at) {
  bool is_other = false;

  if (function == w->function && at->currentline == w->line)
    return false;
  lua_getinfo(L, "S", at);
  if (at->source != w->source || at->linedefined != w->first_line) {
    is_other = w->source != NULL;
    w->source = at->source;
    w->first_line = at->linedefined;
  } else if (at->currentline == w->line) {
    w->function = function;
    return false;
  }
  w->function = function;
  w->line = is_other ? -1 : at->currentline;
  return true;
}

/* How many instructions the trace has by now. */
static uint32_t instructions(lua_State *L, struct pl_vm *vm) {
  uint32_t count = 0;

  lua_rawgeti(L, LUA_REGISTRYINDEX, vm->traceinfo_ref);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "nins");
    count = (uint32_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return count;
}

/* (trace, function, bytecode, depth): for each bytecode that is recorded. */
static int trace_recorded(lua_State *L) {
  struct watch *w = watch_of(L);
  struct pl_vm *vm = w->vm;
  lua_Debug at;

  if (lua_tointeger(L, 3) < 0 || !lua_getstack(L, 1, &at))
    return 0; /* a function of C */
  lua_getinfo(L, "l", &at);
  if (!is_new_line(L, w, lua_topointer(L, 2), &at))
    return 0;
  pl__traces_line(vm->traces, pl__frames_symbol(vm->options.frames, L, 1),
                  (int)lua_tointeger(L, 4), instructions(L, vm) + 1);
  return 0;
}

/* Copies an array of numbers, at most `max`; 0 of what is none. */
static uint32_t parts_read(lua_State *L, int index, uint16_t *out,
                           uint32_t max) {
  uint32_t count = lua_istable(L, index) ? (uint32_t)lua_objlen(L, index) : 0;

  for (uint32_t i = 0; i < count && i < max; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    out[i] = (uint16_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  return count < max ? count : max;
}

/* (code, address, loop [, parts]): in the handler of "stop". */
static int trace_end(lua_State *L) {
  uint16_t parts[2 * PL_TRACE_LINES_MAX];
  uint32_t count = parts_read(L, 4, parts, sizeof parts / sizeof *parts);
  double address = luaL_checknumber(L, 2);
  size_t bytes;
  const char *code = luaL_checklstring(L, 1, &bytes);

  if (address < 0) /* some versions tell the lower half with a sign */
    address += 4294967296.0;
  pl__traces_end(watch_of(L)->vm->traces, (const uint8_t *)code, bytes,
                 (uintptr_t)address, (size_t)luaL_optnumber(L, 3, 0),
                 count ? parts : NULL, count);
  return 0;
}

/* In the handler of "abort". */
static int trace_abandon(lua_State *L) {
  pl__traces_abandon(watch_of(L)->vm->traces);
  return 0;
}

/* In the handler of "flush". */
static int trace_flush(lua_State *L) {
  pl__traces_flush(watch_of(L)->vm->traces);
  return 0;
}

/* core.trace_watch(funcinfo, traceinfo) -> begin, recorded, complete, abandon,
 * flush; nothing where nobody samples. */
static int trace_watch(lua_State *L) {
  static const lua_CFunction all[] = {trace_begin, trace_recorded, trace_end,
                                      trace_abandon, trace_flush};
  struct pl_vm *vm = pl__vm_running;
  int watch;

  if (!vm || !vm->allocations.samples || vm->traces)
    return 0;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  if (pl__traces_open(&vm->traces, vm->options.frames))
    return 0;
  lua_settop(L, 2);
  vm->traceinfo_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  vm->funcinfo_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  *(struct watch *)lua_newuserdata(L, sizeof(struct watch)) =
      (struct watch){.vm = vm, .line = -1};
  watch = lua_gettop(L);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    lua_pushvalue(L, watch);
    lua_pushcclosure(L, all[i], 1);
  }
  return sizeof all / sizeof *all;
}

static const luaL_Reg functions[] = {
    {"trace_watch", trace_watch},
    {NULL, NULL},
};

void pl__bind_traces(lua_State *L) { luaL_register(L, NULL, functions); }
