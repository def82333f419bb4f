/* vm/config_file.c - a configuration file in its sandbox.
 *
 * Every call that may raise runs under lua_cpcall: without a protected call,
 * an allocation that the memory limit refuses would end the process.
 */
#include "vm/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "vm/reserve.h"

#define HOOK_INSTRUCTIONS 1000
#define SETTINGS "settings"

struct pl_config_file {
  lua_State *L;
  struct pl_reserve reserve;
  size_t memory_bytes; /* held by L */
  int64_t due_ns;      /* monotonic; the hook raises past it */
  bool late;           /* the hook has raised */
  bool starved;        /* an allocation was refused */
  int table_ref;       /* what the file returned; LUA_NOREF before */
  int settings_ref;    /* the table of settings */
};

static void *file_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  struct pl_config_file *f = ud;
  void *moved;

  if (nsize > osize &&
      nsize - osize > PL_CONFIG_FILE_MEMORY_BYTES_MAX - f->memory_bytes) {
    f->starved = true;
    return NULL;
  }
  moved = pl__reserve_alloc(&f->reserve, ptr, osize, nsize);
  if (moved || nsize == 0)
    f->memory_bytes = f->memory_bytes - osize + nsize;
  return moved;
}

static struct pl_config_file *file_of(lua_State *L) {
  void *ud;
  lua_getallocf(L, &ud);
  return ud;
}

/* Once late, it raises at every instruction: whatever catches the error does
 * not get far. */
static void hook_late(lua_State *L, lua_Debug *ar) {
  struct pl_config_file *f = file_of(L);

  if (!f->late && pl__clock_monotonic_ns() < f->due_ns)
    return;
  f->late = true;
  lua_sethook(L, hook_late, LUA_MASKCOUNT, 1);
  lua_getinfo(L, "Sl", ar); /* luaL_error would look one level too high */
  lua_pushfstring(L, "%s:%d: takes too long", ar->short_src, ar->currentline);
  lua_error(L);
}

/* ---- the sandbox ------------------------------------------------------- */

static void table_copy_named(lua_State *L, int from, int to,
                             const char *const *names) {
  for (; *names; names++) {
    lua_getfield(L, from, *names);
    lua_setfield(L, to, *names);
  }
}

/* Leaves a new environment on the stack. The string library is shared with
 * the metatable of strings, so what is dangerous there is taken out of it. */
static void sandbox_push(lua_State *L) {
  static const char *const globals[] = {
      "assert", "error",    "ipairs",   "next",  "pairs", "select", "math",
      "string", "tonumber", "tostring", "table", "type",  "unpack", NULL};

  lua_getglobal(L, "string");
  lua_pushnil(L);
  lua_setfield(L, -2, "dump");
  lua_pop(L, 1);
  lua_newtable(L);
  table_copy_named(L, LUA_GLOBALSINDEX, lua_gettop(L), globals);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "_G");
}

static void library_open(lua_State *L, const char *name, lua_CFunction open) {
  lua_pushcfunction(L, open);
  lua_pushstring(L, name);
  lua_call(L, 1, 0);
}

static int file_init(lua_State *L) {
  struct pl_config_file *f = lua_touserdata(L, 1);

  library_open(L, "", luaopen_base);
  library_open(L, LUA_TABLIBNAME, luaopen_table);
  library_open(L, LUA_STRLIBNAME, luaopen_string);
  library_open(L, LUA_MATHLIBNAME, luaopen_math);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  lua_newtable(L);
  f->settings_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int pl__config_file_new(struct pl_config_file **out) {
  struct pl_config_file *f = pl__alloc_zero(sizeof(*f));

  if (!f)
    return PL_ENOMEM;
  f->table_ref = f->settings_ref = LUA_NOREF;
  if (pl__reserve_open(&f->reserve))
    goto fail_reserve;
  f->L = lua_newstate(file_alloc, f);
  pl__reserve_shut(&f->reserve);
  if (!f->L)
    goto fail_state;
  if (lua_cpcall(f->L, file_init, f))
    goto fail_init;
  *out = f;
  return 0;

fail_init:
  lua_close(f->L);
fail_state:
  pl__reserve_close(&f->reserve);
fail_reserve:
  pl__free(f);
  return PL_ENOMEM;
}

void pl__config_file_free(struct pl_config_file *f) {
  if (!f)
    return;
  lua_close(f->L);
  pl__reserve_close(&f->reserve);
  pl__free(f);
}

/* ---- load -------------------------------------------------------------- */

static int fail(char *err, size_t err_bytes, const char *where,
                const char *what) {
  snprintf(err, err_bytes, "%s: %s", where, what);
  return PL_ECONFIG;
}

/* Reads the whole file into *out (pl__alloc, the caller's). */
static int file_read(const char *path, char **out, size_t *bytes_out, char *err,
                     size_t err_bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  size_t bytes = 0;
  ssize_t n = 0;
  char *text;

  if (fd < 0)
    return fail(err, err_bytes, path, strerror(errno));
  text = pl__alloc(PL_CONFIG_FILE_BYTES_MAX + 1);
  if (!text) {
    close(fd);
    return PL_ENOMEM;
  }
  if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
    fail(err, err_bytes, path, "is no regular file");
    goto fail_read;
  }
  while (bytes <= PL_CONFIG_FILE_BYTES_MAX &&
         (n = read(fd, text + bytes, PL_CONFIG_FILE_BYTES_MAX + 1 - bytes)) > 0)
    bytes += (size_t)n;
  if (n < 0) {
    fail(err, err_bytes, path, strerror(errno));
    goto fail_read;
  }
  if (bytes > PL_CONFIG_FILE_BYTES_MAX) {
    fail(err, err_bytes, path, "is larger than 1M");
    goto fail_read;
  }
  close(fd);
  *out = text;
  *bytes_out = bytes;
  return 0;

fail_read:
  close(fd);
  pl__free(text);
  return PL_ECONFIG;
}

struct load_job {
  struct pl_config_file *f;
  const char *path;
  const char *text;
  size_t bytes;
};

/* Moves settings out of what the file returned, so that a visit of the rest
 * does not meet them. */
static void settings_adopt(lua_State *L, struct pl_config_file *f, int table) {
  lua_pushliteral(L, SETTINGS);
  lua_rawget(L, table);
  if (lua_istable(L, -1)) {
    luaL_unref(L, LUA_REGISTRYINDEX, f->settings_ref);
    lua_pushvalue(L, -1);
    f->settings_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushliteral(L, SETTINGS);
    lua_pushnil(L);
    lua_rawset(L, table);
  }
  lua_pop(L, 1);
}

static int file_run(lua_State *L) {
  struct load_job *job = lua_touserdata(L, 1);
  const char *text = job->text;
  size_t bytes = job->bytes;

  lua_settop(L, 0);
  if (bytes && text[0] == '#') /* as the lua program skips it */
    while (bytes && *text != '\n') {
      text++;
      bytes--;
    }
  lua_pushfstring(L, "@%s", job->path);
  if (luaL_loadbufferx(L, text, bytes, lua_tostring(L, 1), "t"))
    return lua_error(L);
  sandbox_push(L);
  lua_setfenv(L, -2);
  lua_call(L, 0, 1);
  if (!lua_istable(L, -1))
    return luaL_error(L, "%s: returns a %s, not a table", job->path,
                      luaL_typename(L, -1));
  settings_adopt(L, job->f, lua_gettop(L));
  job->f->table_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int pl__config_file_load(struct pl_config_file *f, const char *path,
                         double seconds, char *err, size_t err_bytes) {
  struct load_job job = {.f = f, .path = path};
  char *text = NULL;
  int status = file_read(path, &text, &job.bytes, err, err_bytes);

  if (status)
    return status;
  job.text = text;
  f->due_ns = pl__clock_monotonic_ns() + (int64_t)(seconds * 1e9);
  lua_sethook(f->L, hook_late, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
  status = lua_cpcall(f->L, file_run, &job);
  lua_sethook(f->L, NULL, 0, 0);
  if (status && f->starved)
    fail(err, err_bytes, path, "takes more than 64M of memory");
  else if (status && lua_isstring(f->L, -1))
    snprintf(err, err_bytes, "%s", lua_tostring(f->L, -1));
  else if (status)
    fail(err, err_bytes, path, "raises something that is no string");
  lua_settop(f->L, 0);
  pl__free(text);
  return status ? PL_ECONFIG : 0;
}

/* ---- visit ------------------------------------------------------------- */

struct visit_job {
  struct pl_config_file *f;
  pl__config_file_fn on_value;
  void *arg;
  int result; /* of on_value */
  uint32_t depth;
  char key[PL_CONFIG_FILE_KEY_BYTES];
  char text[PL_CONFIG_FILE_VALUE_BYTES];
};

/* A number as a person would have typed it: integers without exponent, others
 * with the fewest digits that read back the same. */
static void number_format(double number, char *out, size_t bytes) {
  if (number == floor(number) && fabs(number) < 1e15) {
    snprintf(out, bytes, "%.0f", number);
    return;
  }
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(out, bytes, "%.*g", digits, number);
    if (strtod(out, NULL) == number)
      return;
  }
}

static void text_append(lua_State *L, struct visit_job *job, size_t *used,
                        int index) {
  char number[40];
  const char *text = number;
  int n;

  if (lua_type(L, index) == LUA_TNUMBER)
    number_format(lua_tonumber(L, index), number, sizeof(number));
  else if (lua_type(L, index) == LUA_TSTRING)
    text = lua_tostring(L, index);
  else
    luaL_error(L, "%s: a list of strings and numbers is expected", job->key);
  n = snprintf(job->text + *used, sizeof(job->text) - *used, "%s%s",
               *used ? "," : "", text);
  *used += (size_t)n;
  if (*used >= sizeof(job->text))
    luaL_error(L, "%s: the value is longer than %d bytes", job->key,
               PL_CONFIG_FILE_VALUE_BYTES - 1);
}

static void value_visit(lua_State *L, struct visit_job *job, int index) {
  enum pl_config_file_type type;
  size_t used = 0;

  switch (lua_type(L, index)) {
  case LUA_TBOOLEAN:
    type = PL_CONFIG_FILE_BOOL;
    snprintf(job->text, sizeof(job->text), "%s",
             lua_toboolean(L, index) ? "true" : "false");
    break;
  case LUA_TNUMBER:
    type = PL_CONFIG_FILE_NUMBER;
    text_append(L, job, &used, index);
    break;
  case LUA_TSTRING:
    type = PL_CONFIG_FILE_STRING;
    text_append(L, job, &used, index);
    break;
  case LUA_TTABLE:
    type = PL_CONFIG_FILE_LIST;
    for (int i = 1; i <= (int)lua_objlen(L, index); i++) {
      lua_rawgeti(L, index, i);
      text_append(L, job, &used, lua_gettop(L));
      lua_pop(L, 1);
    }
    break;
  default:
    luaL_error(L, "%s: a %s is no value", job->key, luaL_typename(L, index));
    return;
  }
  job->result = job->on_value(job->arg, job->key, type, job->text);
}

static bool is_list(lua_State *L, int index) {
  return lua_istable(L, index) && lua_objlen(L, index) > 0;
}

/* A table with more keys in it. One without anything is a list, so that its
 * name does not pass unseen. */
static bool is_section(lua_State *L, int index) {
  if (!lua_istable(L, index) || is_list(L, index))
    return false;
  lua_pushnil(L);
  if (!lua_next(L, index))
    return false;
  lua_pop(L, 2);
  return true;
}

/* Visits the table on top of the stack; job->key holds `prefix_bytes`. */
static void table_visit(lua_State *L, struct visit_job *job,
                        size_t prefix_bytes) {
  int table = lua_gettop(L);

  if (++job->depth > PL_CONFIG_FILE_DEPTH_MAX)
    luaL_error(L, "%s: tables are nested too deeply", job->key);
  luaL_checkstack(L, 6, "configuration");
  lua_pushnil(L);
  while (!job->result && lua_next(L, table)) {
    int n;

    job->key[prefix_bytes] = '\0';
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "%s%sa key has to be a string, not a %s", job->key,
                 prefix_bytes ? ": " : "", luaL_typename(L, -2));
    n = snprintf(job->key + prefix_bytes, sizeof(job->key) - prefix_bytes,
                 "%s%s", prefix_bytes ? "." : "", lua_tostring(L, -2));
    if (prefix_bytes + (size_t)n >= sizeof(job->key))
      luaL_error(L, "%s: the key is too long", job->key);
    if (is_section(L, lua_gettop(L)))
      table_visit(L, job, prefix_bytes + (size_t)n);
    else
      value_visit(L, job, lua_gettop(L));
    lua_pop(L, 1);
  }
  job->depth--;
  lua_settop(L, table);
}

static int file_visit(lua_State *L) {
  struct visit_job *job = lua_touserdata(L, 1);

  lua_rawgeti(L, LUA_REGISTRYINDEX, job->f->table_ref);
  table_visit(L, job, 0);
  return 0;
}

int pl__config_file_visit(struct pl_config_file *f, pl__config_file_fn on_value,
                          void *arg, char *err, size_t err_bytes) {
  struct visit_job job = {.f = f, .on_value = on_value, .arg = arg};

  if (f->table_ref == LUA_NOREF)
    return 0;
  if (lua_cpcall(f->L, file_visit, &job)) {
    snprintf(err, err_bytes, "%s", lua_tostring(f->L, -1));
    job.result = PL_ECONFIG;
  }
  lua_settop(f->L, 0);
  return job.result;
}

/* ---- settings ---------------------------------------------------------- */

struct set_job {
  struct pl_config_file *f;
  const char *name;
  const char *text;
  bool fits;
};

static void scalar_push(lua_State *L, const char *text) {
  char *end;
  double number = strtod(text, &end);

  if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
    lua_pushboolean(L, text[0] == 't');
  else if (*text && *end == '\0' && isfinite(number) &&
           strspn(text, "0123456789+-.eE") == strlen(text))
    lua_pushnumber(L, number);
  else
    lua_pushstring(L, text);
}

static int setting_set(lua_State *L) {
  struct set_job *job = lua_touserdata(L, 1);
  const char *name = job->name;

  lua_rawgeti(L, LUA_REGISTRYINDEX, job->f->settings_ref);
  for (;;) {
    size_t bytes = strcspn(name, ".");

    if (bytes == 0 || !lua_istable(L, -1))
      return 0;
    lua_pushlstring(L, name, bytes);
    if (name[bytes] == '\0')
      break;
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      lua_newtable(L);
      lua_pushvalue(L, -2);
      lua_pushvalue(L, -2);
      lua_rawset(L, -5);
    }
    name += bytes + 1;
  }
  scalar_push(L, job->text);
  lua_rawset(L, -3);
  job->fits = true;
  return 0;
}

int pl__config_file_set(struct pl_config_file *f, const char *name,
                        const char *text) {
  struct set_job job = {.f = f, .name = name, .text = text};
  int status = lua_cpcall(f->L, setting_set, &job);

  lua_settop(f->L, 0);
  if (status)
    return PL_ENOMEM;
  return job.fits ? 0 : PL_ECONFIG;
}

struct json_job {
  struct pl_config_file *f;
  struct pl_buf *out;
  int result; /* of the buffer */
  uint32_t depth;
};

static void json_put(lua_State *L, struct json_job *job, const char *at,
                     size_t bytes) {
  job->result = pl__buf_append(job->out, at, (uint32_t)bytes);
  if (job->result)
    luaL_error(L, "settings: too large");
}

static void json_put_string(lua_State *L, struct json_job *job, int index) {
  size_t bytes;
  const char *at = lua_tolstring(L, index, &bytes);
  char escape[8];

  json_put(L, job, "\"", 1);
  for (size_t i = 0; i < bytes; i++) {
    unsigned char c = (unsigned char)at[i];
    if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
      json_put(L, job, at + i, 1);
    } else {
      int n = snprintf(escape, sizeof(escape), "\\u%04x", c);
      json_put(L, job, escape, (size_t)n);
    }
  }
  json_put(L, job, "\"", 1);
}

static void json_put_value(lua_State *L, struct json_job *job, int index);

static void json_put_list(lua_State *L, struct json_job *job, int index) {
  int count = (int)lua_objlen(L, index);

  json_put(L, job, "[", 1);
  for (int i = 1; i <= count; i++) {
    if (i > 1)
      json_put(L, job, ",", 1);
    lua_rawgeti(L, index, i);
    json_put_value(L, job, lua_gettop(L));
    lua_pop(L, 1);
  }
  json_put(L, job, "]", 1);
}

/* Leaves a sorted list of the table's keys on the stack: what is printed must
 * not change from one start to the next. */
static void keys_push_sorted(lua_State *L, int index) {
  int count = 0;

  lua_newtable(L);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "settings: a key of an object has to be a string");
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, ++count);
  }
  lua_getglobal(L, "table");
  lua_getfield(L, -1, "sort");
  lua_remove(L, -2);
  lua_pushvalue(L, -2);
  lua_call(L, 1, 0);
}

static void json_put_object(lua_State *L, struct json_job *job, int index) {
  int keys, count;

  keys_push_sorted(L, index);
  keys = lua_gettop(L);
  count = (int)lua_objlen(L, keys);
  json_put(L, job, "{", 1);
  for (int i = 1; i <= count; i++) {
    if (i > 1)
      json_put(L, job, ",", 1);
    lua_rawgeti(L, keys, i);
    json_put_string(L, job, lua_gettop(L));
    json_put(L, job, ":", 1);
    lua_rawget(L, index);
    json_put_value(L, job, lua_gettop(L));
    lua_pop(L, 1);
  }
  json_put(L, job, "}", 1);
  lua_pop(L, 1);
}

static void json_put_value(lua_State *L, struct json_job *job, int index) {
  char number[40];

  luaL_checkstack(L, 6, "settings");
  switch (lua_type(L, index)) {
  case LUA_TSTRING:
    json_put_string(L, job, index);
    return;
  case LUA_TBOOLEAN:
    if (lua_toboolean(L, index))
      json_put(L, job, "true", 4);
    else
      json_put(L, job, "false", 5);
    return;
  case LUA_TNUMBER:
    if (!isfinite(lua_tonumber(L, index)))
      luaL_error(L, "settings: a number is not finite");
    number_format(lua_tonumber(L, index), number, sizeof(number));
    json_put(L, job, number, strlen(number));
    return;
  case LUA_TTABLE:
    if (++job->depth > PL_CONFIG_FILE_DEPTH_MAX)
      luaL_error(L, "settings: tables are nested too deeply");
    if (is_list(L, index))
      json_put_list(L, job, index);
    else
      json_put_object(L, job, index);
    job->depth--;
    return;
  default:
    luaL_error(L, "settings: a %s is no value", luaL_typename(L, index));
  }
}

static int settings_put(lua_State *L) {
  struct json_job *job = lua_touserdata(L, 1);

  lua_rawgeti(L, LUA_REGISTRYINDEX, job->f->settings_ref);
  json_put_value(L, job, lua_gettop(L));
  return 0;
}

int pl__config_file_settings(struct pl_config_file *f, struct pl_buf *out,
                             char *err, size_t err_bytes) {
  struct json_job job = {.f = f, .out = out};

  if (lua_cpcall(f->L, settings_put, &job)) {
    snprintf(err, err_bytes, "%s", lua_tostring(f->L, -1));
    if (!job.result)
      job.result = PL_ECONFIG;
  }
  lua_settop(f->L, 0);
  return job.result;
}

const char *pl__config_file_lua_version(void) { return LUAJIT_VERSION; }
