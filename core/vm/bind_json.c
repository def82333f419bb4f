/* vm/bind_json.c - the module "perilune.core.json", see bind_json.h.
 *
 *     json_decode.c  text to Lua values; json_number.* its numbers
 *     json_encode.c  strings, numbers, words and brackets to text
 */
#include "vm/bind_json.h"

#include <lauxlib.h>
#include <lua.h>

#include "vm/decimal.h"

static const char array_mt_key; /* its address is the registry's key */

void pl__json_push_array_mt(lua_State *L) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)&array_mt_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

/* decode(text) -> value; or nil, error text */
static int json_decode(lua_State *L) {
  char err[PL_JSON_ERROR_BYTES];
  size_t bytes;

  luaL_checktype(L, 1, LUA_TSTRING);
  const char *text = lua_tolstring(L, 1, &bytes);
  if (pl__json_push(L, text, bytes, err, sizeof err) == 0)
    return 1;
  lua_pushnil(L);
  lua_pushstring(L, err);
  return 2;
}

static const luaL_Reg functions[] = {
    {"decode", json_decode},
    {NULL, NULL},
};

int pl__json_open(lua_State *L) {
  pl__decimal_init();
  pl__json_push_array_mt(L);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&array_mt_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  lua_createtable(L, 0, 4);
  for (const luaL_Reg *f = functions; f->name; f++) {
    lua_pushcfunction(L, f->func);
    lua_setfield(L, -2, f->name);
  }
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "array_mt");
  lua_pushinteger(L, (lua_Integer)sizeof(struct pl_json_out));
  lua_setfield(L, -2, "out_bytes");
  lua_remove(L, -2);
  return 1;
}
