/* vm/json_reply.c - see json_reply.h. */
#include "vm/json_reply.h"
#include "base/alloc.h"
#include "http/encode.h"
#include "vm/bind_json.h"
#include "vm/coro.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#define REPLY_DEPTH_MAX 32 /* C recursion; deeper ones are Lua's */

/* Where the document is made. One per thread: it is used up within a call. */
static _Thread_local struct pl_json_out scratch;

static bool walk(lua_State *L, struct pl_json_out *out, int depth);

/* The value on top of the stack, which stays there. */
static bool put_value(lua_State *L, struct pl_json_out *out, int depth) {
  size_t bytes;
  const char *text;

  switch (lua_type(L, -1)) {
  case LUA_TSTRING:
    text = lua_tolstring(L, -1, &bytes);
    return bytes < PL_JSON_REPLY_BYTES_MAX &&
           pl_json_put_string(out, text, (uint32_t)bytes) == 0;
  case LUA_TNUMBER:
    return pl_json_put_number(out, lua_tonumber(L, -1)) == 0;
  case LUA_TBOOLEAN:
    return pl_json_put_word(out, lua_toboolean(L, -1)
                                     ? PL_JSON_WORD_TRUE
                                     : PL_JSON_WORD_FALSE) == 0;
  case LUA_TLIGHTUSERDATA:
    return lua_touserdata(L, -1) == NULL &&
           pl_json_put_word(out, PL_JSON_WORD_NULL) == 0;
  case LUA_TTABLE:
    return depth < REPLY_DEPTH_MAX && walk(L, out, depth + 1);
  default:
    return false;
  }
}

static bool put_array(lua_State *L, struct pl_json_out *out, int count,
                      int depth) {
  int seen = 0;

  lua_pushnil(L); /* whatever isn't 1 to count makes it no array */
  while (lua_next(L, -2)) {
    lua_pop(L, 1);
    seen++;
  }
  if (seen != count || pl_json_open(out, count))
    return false;
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, -1, i);
    out->index[out->depth] = i;
    if (!put_value(L, out, depth))
      return false;
    lua_pop(L, 1);
  }
  return pl_json_close(out) == 0;
}

static bool put_object(lua_State *L, struct pl_json_out *out, int depth) {
  size_t bytes;

  if (pl_json_open(out, PL_JSON_OBJECT))
    return false;
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      return false;
    const char *key = lua_tolstring(L, -2, &bytes);
    if (bytes >= PL_JSON_REPLY_BYTES_MAX ||
        pl_json_put_key(out, key, (uint32_t)bytes) || !put_value(L, out, depth))
      return false;
    lua_pop(L, 1);
  }
  return pl_json_close(out) == 0;
}

/* The table on top of the stack. On failure the stack may be higher. */
static bool walk(lua_State *L, struct pl_json_out *out, int depth) {
  bool array;

  if (!lua_checkstack(L, 4))
    return false;
  lua_rawgeti(L, -1, 1);
  array = !lua_isnil(L, -1);
  lua_pop(L, 1);
  if (lua_getmetatable(L, -1)) {
    bool marked;
    pl__json_push_array_mt(L);
    marked = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (!marked)
      return false;
    array = true;
  }
  return array ? put_array(L, out, (int)lua_objlen(L, -1), depth)
               : put_object(L, out, depth);
}

int pl__json_reply(lua_State *L) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_req *req = vm->current ? vm->current->req : NULL;
  uint32_t status = (uint32_t)lua_tointeger(L, 2);
  size_t type_bytes;
  const char *type = lua_tolstring(L, 3, &type_bytes);
  bool done;

  lua_settop(L, 3);
  if (!scratch.at)
    scratch.at = pl__alloc(PL_JSON_REPLY_BYTES_MAX);
  if (!req || !type || !scratch.at || !lua_istable(L, 1)) {
    lua_pushboolean(L, 0);
    return 1;
  }
  scratch.pos = scratch.lead = scratch.depth = 0;
  scratch.cap = PL_JSON_REPLY_BYTES_MAX;
  scratch.count[0] = PL_JSON_OBJECT;
  lua_pushvalue(L, 1);
  done = walk(L, &scratch, 0) &&
         pl__encode_reply(req, (uint16_t)status, pl__slice(type, type_bytes),
                          pl__slice(scratch.at, scratch.pos)) == 0;
  if (done)
    vm->options.host.touch(vm->options.host.arg, req);
  lua_pushboolean(L, done);
  return 1;
}
