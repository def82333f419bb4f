/* vm/bind_inject.c - connections without sockets, for specs and
 * `perilune request`: the part of "perilune.core" that tools alone have.
 */
#include "vm/bind.h"
#include "vm/coro.h"
#include "vm/site.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>

static struct pl_vm_host *tool_host(lua_State *L) {
  struct pl_vm *vm = pl__vm_running;

  if (!vm || !vm->options.host.inject_open)
    luaL_error(L, "this works in `perilune test` and `perilune request` only");
  return &vm->options.host;
}

/* core.inject_open(site) -> conn */
static int inject_open(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);
  uint32_t site = (uint32_t)luaL_checkinteger(L, 1);
  const struct pl_vm_site *s = pl__site_find(pl__vm_running, site);
  int conn;

  luaL_argcheck(L, s && s->ready, 1, "no such site");
  conn = host->inject_open(host->arg, site);
  if (conn < 0)
    return luaL_error(L, "no room for another connection");
  lua_pushinteger(L, conn);
  return 1;
}

/* core.inject_feed(conn, bytes) */
static int inject_feed(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);
  size_t bytes;
  const char *at = luaL_checklstring(L, 2, &bytes);

  if (host->inject_feed(host->arg, (int)luaL_checkinteger(L, 1), at,
                        (uint32_t)bytes))
    return luaL_error(L, "no room for these bytes");
  return 0;
}

/* core.inject_take(conn) -> bytes, closed */
static int inject_take(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);
  int conn = (int)luaL_checkinteger(L, 1);
  bool closed = false;
  struct pl_slice sent = host->inject_peek(host->arg, conn, &closed);

  lua_pushlstring(L, sent.bytes ? sent.at : "", sent.bytes);
  host->inject_drop(host->arg, conn, sent.bytes);
  lua_pushboolean(L, closed);
  return 2;
}

/* core.inject_wait(conn): then yield; goes on when there is output, or it was
 * closed */
static int inject_wait(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);
  struct pl_coro *c = pl__vm_running->current;
  int conn = (int)luaL_checkinteger(L, 1);
  bool closed = false;

  if (!c)
    return luaL_error(L, "only a task can wait");
  if (host->inject_peek(host->arg, conn, &closed).bytes || closed) {
    pl__coro_ready(c, PL_WAKE_OK);
    return 0;
  }
  c->injected = conn;
  pl__coro_wait(c, PL_WAIT_INJECTED, HUGE_VAL);
  return 0;
}

static int inject_eof(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);

  host->inject_eof(host->arg, (int)luaL_checkinteger(L, 1));
  return 0;
}

static int inject_stall(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);

  host->inject_stall(host->arg, (int)luaL_checkinteger(L, 1),
                     lua_toboolean(L, 2));
  return 0;
}

static int inject_close(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);

  host->inject_close(host->arg, (int)luaL_checkinteger(L, 1));
  return 0;
}

/* core.advance(seconds) */
static int advance(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);

  host->advance(host->arg, luaL_checknumber(L, 1));
  return 0;
}

/* core.output(text, message): text for the user */
static int output(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);

  host->output(host->arg, lua_toboolean(L, 2), text, bytes);
  return 0;
}

/* core.read_line(prompt) -> text | nil: the user's input has ended
 *                                | false: the user has dropped the line */
static int read_line(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);
  struct pl_slice line;
  int outcome = host->read_line(host->arg, luaL_checkstring(L, 1), &line);

  if (outcome > 0)
    lua_pushlstring(L, line.at, line.bytes);
  else if (outcome < 0)
    lua_pushboolean(L, 0);
  else
    lua_pushnil(L);
  return 1;
}

/* core.interrupts(id) -> boolean: what pl__vm_interrupt is to cancel, -1:
 * nothing; and whether it is there (still: it may have been abandoned) */
static int interrupts(lua_State *L) {
  struct pl_vm *vm = pl__vm_running;

  vm->interrupt_id = luaL_checknumber(L, 1);
  lua_pushboolean(L, pl__coro_find(vm, vm->interrupt_id) != NULL);
  return 1;
}

/* core.exit(code) */
static int quit(lua_State *L) {
  struct pl_vm_host *host = tool_host(L);

  host->quit(host->arg, (int)luaL_checkinteger(L, 1));
  return 0;
}

static const luaL_Reg inject_functions[] = {
    {"inject_open", inject_open},
    {"inject_feed", inject_feed},
    {"inject_take", inject_take},
    {"inject_wait", inject_wait},
    {"inject_eof", inject_eof},
    {"inject_stall", inject_stall},
    {"inject_close", inject_close},
    {"advance", advance},
    {"output", output},
    {"exit", quit},
    {"read_line", read_line},
    {"interrupts", interrupts},
    {NULL, NULL},
};

void pl__bind_inject(lua_State *L) { luaL_register(L, NULL, inject_functions); }
