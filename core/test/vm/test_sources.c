/* test/vm/test_sources.c - Lua files recorded in one VM and replayed in another,
 * whatever has become of the disk meanwhile.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "vm/sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "fabric/bundle.h"
#include "vm/coro.h"
#include "vm/vm.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LUA_FOLDER "lua" /* tests run in the project's folder */
#define BUNDLE_BYTES (8u << 20)
#define GENERATION 3u

static char folder[64];
static struct pl_bundle *bundle;
static struct pl_vm vm;
static bool is_open;

/* --- files ------------------------------------------------------------- */

static const char *path_of(const char *name) {
  static char path[128];

  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static void put_bytes(const char *name, const char *text, size_t bytes) {
  FILE *file = fopen(path_of(name), "w");

  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, bytes, file), bytes);
  fclose(file);
}

static void put(const char *name, const char *text) {
  put_bytes(name, text, strlen(text));
}

static void put_away(const char *name) {
  assert_int_equal(unlink(path_of(name)), 0);
}

/* --- VMs --------------------------------------------------------------- */

static bool has_no_request(void *arg) {
  (void)arg;
  return false;
}

static struct pl_req *take_no_request(void *arg) {
  (void)arg;
  return NULL;
}

static void close_vm(void) {
  if (is_open)
    pl__vm_close(&vm);
  is_open = false;
}

/* `from` NULL: the disk alone; `generation` 0: recording. */
static void open_vm(struct pl_bundle *from, uint32_t generation) {
  struct pl_vm_options options = {
      .host = {.has_next = has_no_request, .next = take_no_request},
      .lua_folder = LUA_FOLDER,
      .sources = {.bundle = from, .generation = generation, .folder = folder},
      .slot_count = 1,
      .tasks_max = 10,
      .log_level_min = 4,
      .worker = UINT32_MAX,
  };
  char err[PL_VM_ERROR_BYTES];

  close_vm();
  if (pl__vm_open(&vm, &options, err))
    fail_msg("%s", err);
  is_open = true;
  pl__vm_running = &vm;
}

static void record(void) {
  pl__bundle_begin(bundle, GENERATION);
  open_vm(bundle, 0);
}

static void replay(void) {
  pl__bundle_publish(bundle);
  open_vm(bundle, GENERATION);
}

/* Runs code whose `...` is the folder; what it returns, as text. */
static const char *eval_in(lua_State *L, const char *code) {
  static char text[4096];

  lua_settop(L, 0);
  if (luaL_loadbuffer(L, code, strlen(code), "=eval"))
    fail_msg("%s", lua_tostring(L, -1));
  lua_pushstring(L, folder);
  if (lua_pcall(L, 1, 1, 0))
    snprintf(text, sizeof text, "error: %s", lua_tostring(L, -1));
  else if (lua_isboolean(L, -1))
    snprintf(text, sizeof text, "%s", lua_toboolean(L, -1) ? "true" : "false");
  else
    snprintf(text, sizeof text, "%s",
             lua_isnil(L, -1) ? "nil" : lua_tostring(L, -1));
  return text;
}

static const char *eval(const char *code) { return eval_in(vm.L, code); }

#define LOADFILE(name)                                                         \
  "local f = ... return assert(loadfile(f .. '/" name "'))()"
#define DOFILE(name) "local f = ... return dofile(f .. '/" name "')"
#define REQUIRE(name)                                                          \
  "local f = ... package.path = f .. '/?.lua;' .. f .. '/?/init.lua'\n"        \
  "package.loaded['" name "'] = nil\n"                                         \
  "return require('" name "')"

/* What Lua itself says, without us. */
static const char *eval_plainly(const char *code) {
  static char text[4096];
  lua_State *L = luaL_newstate();

  assert_non_null(L);
  luaL_openlibs(L);
  snprintf(text, sizeof text, "%s", eval_in(L, code));
  lua_close(L);
  return text;
}

static int set_up(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/perilune-sources-XXXXXX");
  if (!mkdtemp(folder) || mkdir(path_of("deep"), 0700) ||
      mkdir(path_of("later"), 0700))
    return -1;
  bundle = mmap(NULL, BUNDLE_BYTES, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bundle == MAP_FAILED)
    return -1;
  pl__bundle_init(bundle, BUNDLE_BYTES);
  return 0;
}

static int tear_down(void **state) {
  static const char *const names[] = {"a.lua",      "b.lua",       "big.lua",
                                      "deep/a.lua", "later/a.lua", "other.lua"};

  (void)state;
  close_vm();
  munmap(bundle, BUNDLE_BYTES);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    unlink(path_of(names[i]));
  rmdir(path_of("deep"));
  rmdir(path_of("later"));
  return rmdir(folder);
}

/* --- recording and replaying ---------------------------------------------- */

static void reads_the_disk_without_a_bundle(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  open_vm(NULL, 0);
  assert_string_equal(eval(LOADFILE("a.lua")), "one");
  put("a.lua", "return 'two'");
  assert_string_equal(eval(DOFILE("a.lua")), "two");
  assert_string_equal(eval(REQUIRE("a")), "two");
}

static void replays_files_that_have_changed(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  record();
  assert_string_equal(eval(LOADFILE("a.lua")), "one");
  put("a.lua", "return 'two'");
  replay();
  assert_string_equal(eval(LOADFILE("a.lua")), "one");
  assert_string_equal(eval(DOFILE("a.lua")), "one");
  assert_string_equal(eval(REQUIRE("a")), "one");
}

static void replays_files_that_are_gone(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  put("b.lua", "return 'b of one'");
  put("deep/a.lua", "return 'deep one'");
  record();
  assert_string_equal(eval(LOADFILE("a.lua")), "one");
  assert_string_equal(eval(DOFILE("b.lua")), "b of one");
  assert_string_equal(eval(REQUIRE("deep.a")), "deep one");
  put_away("a.lua");
  put_away("b.lua");
  put_away("deep/a.lua");
  replay();
  assert_string_equal(eval(LOADFILE("a.lua")), "one");
  assert_string_equal(eval(DOFILE("b.lua")), "b of one");
  assert_string_equal(eval(REQUIRE("deep.a")), "deep one");
}

static void replays_our_own_modules(void **state) {
  struct pl_slice text;

  (void)state;
  record();
  assert_true(pl__bundle_find(bundle, PL_SLICE(LUA_FOLDER "/perilune/boot.lua"),
                              &text));
  assert_true(text.bytes > 1000);
}

/* What was read first counts, also for whoever records. */
static void reads_each_file_once_while_it_records(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  record();
  assert_string_equal(eval(LOADFILE("a.lua")), "one");
  put("a.lua", "return 'two'");
  assert_string_equal(eval(LOADFILE("a.lua")), "one");
  assert_string_equal(eval(REQUIRE("a")), "one");
}

static void takes_from_disk_what_was_not_recorded(void **state) {
  (void)state;
  put("b.lua", "return 'b'");
  record();
  replay();
  assert_string_equal(eval(LOADFILE("b.lua")), "b");
  assert_string_equal(eval(REQUIRE("b")), "b");
  put("b.lua", "return 'another'");
  assert_string_equal(eval(DOFILE("b.lua")), "another");
}

#define REQUIRE_LATER                                                          \
  "local f = ... package.path = f .. '/later/?.lua;' .. f .. '/?.lua'\n"       \
  "return require('a')"

static void prefers_what_was_recorded_to_an_earlier_path(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  record();
  assert_string_equal(eval(REQUIRE_LATER), "one");
  put("later/a.lua", "return 'two'");
  replay();
  assert_string_equal(eval(REQUIRE_LATER), "one");
}

static void knows_files_that_can_be_loaded(void **state) {
  static const char ask[] =
      "local f = ... local s = require('perilune.core').is_source\n"
      "return ('%s %s %s'):format(s(f .. '/a.lua'), s(f .. '/b.lua'), s(f))";

  (void)state;
  put("a.lua", "return 'one'");
  record();
  assert_string_equal(eval(ask), "true false false");
  eval(LOADFILE("a.lua"));
  put_away("a.lua");
  replay();
  assert_string_equal(eval(ask), "true false false");
}

/* --- the hash ------------------------------------------------------------- */

static uint64_t hash_of(const char *code) {
  record();
  eval(code);
  return bundle->hash;
}

static void hashes_what_was_read_below_the_folder(void **state) {
  uint64_t one, two;

  (void)state;
  put("a.lua", "return 'one'");
  one = hash_of(LOADFILE("a.lua"));
  assert_true(hash_of(REQUIRE("a")) == one);
  assert_true(hash_of("return 1") != one);
  put("a.lua", "return 'two'");
  two = hash_of(LOADFILE("a.lua"));
  assert_true(two != one);
}

static void hashes_the_same_files_alike_wherever_they_lie(void **state) {
  char there[64];
  uint64_t one;

  put("a.lua", "return 'one'");
  one = hash_of(LOADFILE("a.lua"));
  assert_true(one != 0);
  snprintf(there, sizeof there, "%s", folder);
  assert_int_equal(tear_down(state), 0);
  assert_int_equal(set_up(state), 0);
  assert_string_not_equal(folder, there);
  put("a.lua", "return 'one'");
  assert_true(hash_of(LOADFILE("a.lua")) == one);
}

/* --- as Lua itself ----------------------------------------------------------- */

static void says_what_lua_says_of_a_missing_file(void **state) {
  static const char *const codes[] = {
      "local f = ... return select(2, loadfile(f .. '/none.lua'))",
      "local f = ... return dofile(f .. '/none.lua')",
      "local f = ... package.path = f .. '/?.lua;;' .. f .. '/?/init.lua'\n"
      "package.cpath = f .. '/?.so' return require('no.module')",
      "package.path = '' package.cpath = '' return require('none')",
      "package.path = nil return require('none')",
      "return loadfile({})",
  };
  char wanted[4096];

  (void)state;
  record();
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    snprintf(wanted, sizeof wanted, "%s", eval_plainly(codes[i]));
    assert_string_equal(eval(codes[i]), wanted);
  }
}

static void says_what_lua_says_of_a_file_that_does_not_compile(void **state) {
  static const char *const codes[] = {
      "local f = ... return select(2, loadfile(f .. '/a.lua'))",
      DOFILE("a.lua"),
      REQUIRE("a"),
  };
  char wanted[4096];

  (void)state;
  put("a.lua", "local x = 1\nlocal = 2\n");
  record();
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    snprintf(wanted, sizeof wanted, "%s", eval_plainly(codes[i]));
    assert_non_null(strstr(wanted, "a.lua:2:"));
    assert_string_equal(eval(codes[i]), wanted);
  }
  replay();
  assert_string_equal(eval(codes[2]), wanted);
}

static void refuses_a_folder(void **state) {
  (void)state;
  record();
  assert_non_null(
      strstr(eval("local f = ... return select(2, loadfile(f .. '/deep'))"),
             "/deep: Is a directory"));
  assert_non_null(strstr(eval("local f = ... package.path = f .. '/?'\n"
                              "return require('deep')"),
                         "module 'deep' not found"));
}

static void skips_a_line_that_names_an_interpreter(void **state) {
  (void)state;
  put("a.lua", "#!/usr/bin/env perilune\nreturn debug.getinfo(1, 'l')"
               ".currentline");
  put("b.lua", "#!/usr/bin/env perilune");
  record();
  assert_string_equal(eval(LOADFILE("a.lua")), "2");
  assert_string_equal(eval(LOADFILE("b.lua")), "nil");
  put_away("a.lua");
  replay();
  assert_string_equal(eval(DOFILE("a.lua")), "2");
}

static void loads_an_empty_file(void **state) {
  (void)state;
  put("a.lua", "");
  record();
  assert_string_equal(eval(LOADFILE("a.lua")), "nil");
  put_away("a.lua");
  replay();
  assert_string_equal(eval(LOADFILE("a.lua")), "nil");
}

static void loads_what_was_compiled_before(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  record();
  eval("local f = ... local out = io.open(f .. '/b.lua', 'wb')\n"
       "out:write(string.dump(loadfile(f .. '/a.lua'))) out:close()");
  assert_string_equal(eval(LOADFILE("b.lua")), "one");
  put_away("b.lua");
  replay();
  assert_string_equal(eval(LOADFILE("b.lua")), "one");
}

static void names_files_as_lua_does(void **state) {
  (void)state;
  put("a.lua", "return debug.getinfo(1, 'S').source");
  record();
  assert_string_equal(eval(LOADFILE("a.lua")) + 1, path_of("a.lua"));
  replay();
  assert_string_equal(eval(LOADFILE("a.lua")) + 1, path_of("a.lua"));
}

static void gives_a_chunk_the_name_of_its_module(void **state) {
  (void)state;
  put("a.lua", "return (...)");
  record();
  assert_string_equal(eval(REQUIRE("a")), "a");
}

static void returns_all_that_a_file_returns(void **state) {
  (void)state;
  put("a.lua", "return 1, nil, 3");
  record();
  assert_string_equal(
      eval("local f = ... return select('#', dofile(f .. '/a.lua'))"), "3");
  assert_string_equal(
      eval("local f = ... return (select(3, dofile(f .. '/a.lua', 7)))"), "3");
}

/* --- limits --------------------------------------------------------------- */

static void refuses_a_file_that_is_too_large(void **state) {
  char *text = pl__alloc(PL_LIMIT_SOURCE_BYTES + 1);

  (void)state;
  assert_non_null(text);
  memset(text, ' ', PL_LIMIT_SOURCE_BYTES + 1);
  put_bytes("big.lua", text, PL_LIMIT_SOURCE_BYTES);
  open_vm(NULL, 0);
  assert_string_equal(eval(LOADFILE("big.lua")), "nil");
  put_bytes("big.lua", text, PL_LIMIT_SOURCE_BYTES + 1);
  assert_non_null(strstr(eval(LOADFILE("big.lua")), "File too large"));
  pl__free(text);
}

static void loads_nothing_that_finds_no_room_in_the_bundle(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  record();
  bundle->cap = bundle->used;
  assert_non_null(strstr(eval(LOADFILE("a.lua")), "File too large"));
}

/* --- a bundle that is another one now ---------------------------------------- */

static void loads_nothing_once_its_bundle_was_begun_anew(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  put("b.lua", "return 'b'");
  record();
  eval(LOADFILE("a.lua"));
  replay();
  put("a.lua", "return 'two'");
  pl__bundle_begin(bundle, GENERATION + 2);
  assert_non_null(strstr(eval(LOADFILE("a.lua")), "Stale file handle"));
  assert_non_null(strstr(eval(DOFILE("a.lua")), "Stale file handle"));
  assert_non_null(strstr(eval(REQUIRE("a")), "Stale file handle"));
  assert_non_null(strstr(eval(LOADFILE("b.lua")), "Stale file handle"));
}

static void loads_nothing_of_the_generation_after(void **state) {
  (void)state;
  put("a.lua", "return 'one'");
  record();
  eval(LOADFILE("a.lua"));
  replay();
  pl__bundle_begin(bundle, GENERATION + 2);
  pl__bundle_add(bundle, pl__slice(path_of("a.lua"), strlen(path_of("a.lua"))),
                 PL_SLICE("return 'two'"));
  pl__bundle_publish(bundle);
  assert_non_null(strstr(eval(LOADFILE("a.lua")), "Stale file handle"));
  assert_non_null(strstr(eval(REQUIRE("a")), "Stale file handle"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(reads_the_disk_without_a_bundle),
      CASE(replays_files_that_have_changed),
      CASE(replays_files_that_are_gone),
      CASE(replays_our_own_modules),
      CASE(reads_each_file_once_while_it_records),
      CASE(takes_from_disk_what_was_not_recorded),
      CASE(prefers_what_was_recorded_to_an_earlier_path),
      CASE(knows_files_that_can_be_loaded),
      CASE(hashes_what_was_read_below_the_folder),
      CASE(hashes_the_same_files_alike_wherever_they_lie),
      CASE(says_what_lua_says_of_a_missing_file),
      CASE(says_what_lua_says_of_a_file_that_does_not_compile),
      CASE(refuses_a_folder),
      CASE(skips_a_line_that_names_an_interpreter),
      CASE(loads_an_empty_file),
      CASE(loads_what_was_compiled_before),
      CASE(names_files_as_lua_does),
      CASE(gives_a_chunk_the_name_of_its_module),
      CASE(returns_all_that_a_file_returns),
      CASE(refuses_a_file_that_is_too_large),
      CASE(loads_nothing_that_finds_no_room_in_the_bundle),
      CASE(loads_nothing_once_its_bundle_was_begun_anew),
      CASE(loads_nothing_of_the_generation_after),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
