/* vm/sources.c - see sources.h. */
#include "vm/sources.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "vm/coro.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- reading ----------------------------------------------------------- */

/* All of an open file on the stack, as a string; or nothing and an errno. */
static int push_all(lua_State *L, int fd) {
  luaL_Buffer buffer;
  size_t total = 0;

  luaL_buffinit(L, &buffer);
  for (;;) {
    ssize_t n = read(fd, luaL_prepbuffer(&buffer), LUAL_BUFFERSIZE);
    if (n < 0 && errno == EINTR)
      continue;
    total += n > 0 ? (size_t)n : 0;
    if (n < 0 || total > PL_LIMIT_SOURCE_BYTES) {
      int code = n < 0 ? errno : EFBIG;
      luaL_pushresult(&buffer);
      lua_pop(L, 1);
      return code;
    }
    if (n == 0)
      break;
    luaL_addsize(&buffer, (size_t)n);
  }
  luaL_pushresult(&buffer);
  return 0;
}

/* The name of a file that is the same wherever the app lies; 0 bytes: it is not
 * the app's. */
static struct pl_slice name_below(const char *folder, const char *path) {
  size_t bytes = folder ? strlen(folder) : 0;

  if (!folder || strncmp(path, folder, bytes) || path[bytes] != '/')
    return PL_SLICE("");
  return pl__slice_text(path + bytes + 1);
}

/* What is on the stack was read from `path`. */
static int record(lua_State *L, const struct pl_vm_sources *from,
                  const char *path) {
  struct pl_slice key = pl__slice_text(path),
                  name = name_below(from->folder, path);
  struct pl_slice text, known;
  size_t bytes;

  text.at = lua_tolstring(L, -1, &bytes);
  text.bytes = (uint32_t)bytes;
  if (pl__bundle_find(from->bundle, key, &known)) {
    lua_pop(L,
            1); /* it may have changed meanwhile: what was read first counts */
    lua_pushlstring(L, known.at, known.bytes);
    return 0;
  }
  if (pl__bundle_add(from->bundle, key, text))
    return EFBIG;
  if (name.bytes)
    pl__bundle_hash(from->bundle, name, text);
  return 0;
}

static int push_disk(lua_State *L, const struct pl_vm_sources *from,
                     const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat st;
  int code;

  if (fd < 0)
    return errno;
  code = fstat(fd, &st) ? errno : S_ISDIR(st.st_mode) ? EISDIR : 0;
  code = code ? code : push_all(L, fd);
  close(fd);
  if (code || !from->bundle || from->generation)
    return code;
  code = record(L, from, path);
  if (code)
    lua_pop(L, 1);
  return code;
}

/* From the bundle: 0 with a copy on the stack, ENOENT, or ESTALE: it was begun
 * anew, and this VM is of a generation that is gone. */
static int push_bundled(lua_State *L, const struct pl_vm_sources *from,
                        const char *path) {
  struct pl_slice text;
  bool is_there;

  if (!pl__bundle_is(from->bundle, from->generation))
    return ESTALE;
  is_there = pl__bundle_find(from->bundle, pl__slice_text(path), &text);
  if (is_there)
    lua_pushlstring(L, text.at, text.bytes);
  /* Also what is not there says something only if it is the same bundle. */
  if (pl__bundle_is(from->bundle, from->generation))
    return is_there ? 0 : ENOENT;
  if (is_there)
    lua_pop(L, 1);
  return ESTALE;
}

/* 0 with the file's text on the stack; else an errno. */
static int push_source(lua_State *L, const char *path) {
  const struct pl_vm_sources *from = &pl__vm_running->options.sources;
  int code = ENOENT;

  if (from->bundle && from->generation)
    code = push_bundled(L, from, path);
  return code == ENOENT ? push_disk(L, from, path) : code;
}

/* --- what Lua has ------------------------------------------------------ */

static bool is_bundled(const char *path) {
  const struct pl_vm_sources *from = &pl__vm_running->options.sources;
  struct pl_slice text;

  return from->bundle && from->generation &&
         pl__bundle_is(from->bundle, from->generation) &&
         pl__bundle_find(from->bundle, pl__slice_text(path), &text);
}

static bool is_readable(const char *path) {
  struct stat st;

  return is_bundled(path) || (stat(path, &st) == 0 && !S_ISDIR(st.st_mode) &&
                              access(path, R_OK) == 0);
}

int pl__sources_exists(lua_State *L) {
  lua_pushboolean(L, is_readable(luaL_checkstring(L, 1)));
  return 1;
}

/* Compiles what is on the stack. As luaL_loadfile: a message on failure. */
static int load_source(lua_State *L, const char *path) {
  size_t bytes;
  const char *text;
  int code = push_source(L, path), status;

  if (code) {
    lua_pushfstring(L, "cannot open %s: %s", path, strerror(code));
    return LUA_ERRFILE;
  }
  text = lua_tolstring(L, -1, &bytes);
  if (bytes && text[0] == '#') { /* the line that names an interpreter */
    const char *end = memchr(text, '\n', bytes);
    size_t skip = end ? (size_t)(end - text) : bytes;
    text += skip;
    bytes -= skip;
  }
  lua_pushfstring(L, "@%s", path);
  status = luaL_loadbuffer(L, text, bytes, lua_tostring(L, -1));
  lua_replace(L, -3);
  lua_pop(L, 1);
  return status;
}

/* loadfile([path]) -> function | nil, err */
static int lua_loadfile(lua_State *L) {
  if (lua_isnoneornil(L, 1)) { /* standard input */
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_call(L, 0, 2);
    return 2;
  }
  if (!load_source(L, luaL_checkstring(L, 1)))
    return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* dofile([path]) -> what the file returns */
static int lua_dofile(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_call(L, 0, LUA_MULTRET);
    return lua_gettop(L);
  }
  lua_settop(L, 1);
  if (load_source(L, luaL_checkstring(L, 1)))
    return lua_error(L);
  lua_call(L, 0, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

/* The next template of package.path, with the module's name in it, on the
 * stack; NULL: there is none. */
static const char *next_path(lua_State *L, const char *name,
                             const char **templates) {
  const char *from = *templates, *end;

  while (*from == ';')
    from++;
  if (!*from)
    return NULL;
  end = strchr(from, ';');
  if (!end)
    end = from + strlen(from);
  *templates = end;
  lua_pushlstring(L, from, (size_t)(end - from));
  luaL_gsub(L, lua_tostring(L, -1), "?", name);
  lua_remove(L, -2);
  return lua_tostring(L, -1);
}

/* The first path that `has`; it is left on the stack. NULL: none, and what was
 * tried is added to the text at `tried`. */
static const char *search(lua_State *L, const char *name, const char *templates,
                          bool (*has)(const char *path), int tried) {
  const char *path;

  while ((path = next_path(L, name, &templates))) {
    if (has(path))
      return path;
    if (tried) {
      lua_pushvalue(L, tried);
      lua_pushfstring(L, "\n\tno file '%s'", path);
      lua_concat(L, 2);
      lua_replace(L, tried);
    }
    lua_pop(L, 1);
  }
  return NULL;
}

/* The searcher of package.path: (name) -> function | text. All of the bundle is
 * looked through before any of the disk: what was not there when the generation
 * was recorded must not come before what was. */
static int lua_search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1), *templates, *path;

  lua_settop(L, 1);
  lua_getglobal(L, "package");
  lua_getfield(L, 2, "path");
  templates = lua_tostring(L, 3);
  if (!templates)
    luaL_error(L, "'package.path' must be a string");
  name = luaL_gsub(L, name, ".", LUA_DIRSEP);
  lua_pushliteral(L, "");
  path = search(L, name, templates, is_bundled, 0);
  if (!path)
    path = search(L, name, templates, is_readable, 5);
  if (!path) {
    lua_settop(L, 5);
    return 1;
  }
  if (load_source(L, path))
    luaL_error(L, "error loading module '%s' from file '%s':\n\t%s",
               lua_tostring(L, 1), path, lua_tostring(L, -1));
  return 1;
}

static void replace_global(lua_State *L, const char *name, lua_CFunction with) {
  lua_getglobal(L, name);
  lua_pushcclosure(L, with, 1);
  lua_setglobal(L, name);
}

void pl__sources_install(lua_State *L) {
  replace_global(L, "loadfile", lua_loadfile);
  replace_global(L, "dofile", lua_dofile);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  lua_pushcfunction(L, lua_search);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}
