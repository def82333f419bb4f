/* test/vm/test_frames.c - the frames of coroutines as symbols. */
#include "vm/frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"

static struct pl_symbols *symbols;
static struct pl_stacks *stacks;
static struct pl_frames *frames;
static lua_State *L;

static uint32_t depth, seen[PL_STACKS_DEPTH_MAX];

/* here(): the frames of whoever calls, this function's own left out. */
static int here(lua_State *co) {
  depth = pl__frames_walk(frames, co, NULL, seen);
  return 0;
}

static int begin(void **state) {
  (void)state;
  symbols = pl__alloc_zero(sizeof *symbols);
  stacks = pl__alloc_zero(sizeof *stacks);
  assert_int_equal(0, pl__frames_open(&frames, symbols, stacks, "/ours"));
  L = luaL_newstate();
  luaL_openlibs(L);
  lua_register(L, "here", here);
  return 0;
}

static int end(void **state) {
  (void)state;
  lua_close(L);
  pl__frames_close(frames);
  pl__free(symbols);
  pl__free(stacks);
  return 0;
}

static void load(lua_State *to, const char *chunk, const char *text) {
  assert_int_equal(0, luaL_loadbuffer(to, text, strlen(text), chunk));
}

static void run(const char *chunk, const char *text) {
  load(L, chunk, text);
  if (lua_pcall(L, 0, 0, 0))
    fail_msg("%s", lua_tostring(L, -1));
}

/* "name chunk:first:line, ..." of what was seen. */
static const char *told(void) {
  static char out[16384];
  size_t used = 0;

  out[0] = '\0';
  for (uint32_t i = 0; i < depth; i++) {
    struct pl_symbol s;
    assert_true(pl__symbols_find(symbols, seen[i], &s));
    used +=
        (size_t)snprintf(out + used, sizeof out - used, "%s%.*s %.*s:%u:%u",
                         i ? ", " : "", (int)s.name.bytes, s.name.at,
                         (int)s.chunk.bytes, s.chunk.at, s.first_line, s.line);
  }
  return out;
}

static void names_functions_files_and_lines(void **state) {
  (void)state;
  run("@/srv/app.lua", "local function inner()\n here() return 1\nend\n"
                       "function outer()\n return 1 + inner()\nend\n"
                       "local a = outer()");
  assert_string_equal("here =[C]:0:0, inner @/srv/app.lua:1:2, "
                      "outer @/srv/app.lua:4:5, (file) @/srv/app.lua:0:7",
                      told());
}

static void gives_the_same_numbers_again(void **state) {
  uint32_t before[PL_STACKS_DEPTH_MAX], count;

  (void)state;
  run("@a.lua", "function f() here() return 1 end local a = f()");
  memcpy(before, seen, sizeof seen);
  count = symbols->count;
  run("@a.lua", "function f() here() return 1 end local a = f()");
  assert_memory_equal(before, seen, depth * sizeof *seen);
  assert_int_equal(count, symbols->count);
}

/* The name of a chunk that is gone leaves its address to that of another one. */
static void is_not_misled_by_addresses(void **state) {
  char chunk[32];

  (void)state;
  for (int i = 0; i < 2000; i++) {
    snprintf(chunk, sizeof chunk, "=chunk %04d", i);
    run(chunk, "here()");
    assert_non_null(strstr(told(), chunk));
    if (i % 10 == 0)
      lua_gc(L, LUA_GCCOLLECT, 0);
  }
}

static void leaves_out_what_is_ours_outside(void **state) {
  (void)state;
  run("@/ours/perilune/runner.lua",
      "package.loaded.run = function(f) xpcall(f, print) return 1 end");
  run("@/ours/perilune/json.lua",
      "package.loaded.json = function() here() return 1 end");
  run("@app.lua", "local json = package.loaded.json\n"
                  "package.loaded.app = function() local a = json() end");
  run("@/ours/perilune/runner.lua",
      "local a = package.loaded.run(package.loaded.app)");
  assert_string_equal("here =[C]:0:0, json @/ours/perilune/json.lua:1:1, "
                      " @app.lua:2:2",
                      told());
  run("@/ours/perilune/runner.lua", "here()");
  assert_int_equal(2, depth);
}

static void shows_both_coroutines(void **state) {
  lua_State *co = lua_newthread(L), *inner = lua_newthread(L);

  (void)state;
  load(co, "@outer.lua",
       "local function wait()\n coroutine.yield() end\nwait() return 1");
  load(inner, "@inner.lua", "coroutine.yield()");
  assert_int_equal(LUA_YIELD, lua_resume(co, 0));
  assert_int_equal(LUA_YIELD, lua_resume(inner, 0));
  depth = pl__frames_walk(frames, inner, co, seen);
  assert_string_equal("yield =[C]:0:0, (file) @inner.lua:0:1, "
                      "yield =[C]:0:0, wait @outer.lua:1:2, "
                      "(file) @outer.lua:0:3",
                      told());
  depth = pl__frames_walk(frames, co, co, seen);
  assert_null(strstr(told(), "inner"));
}

static void marks_a_stack_that_is_deeper(void **state) {
  (void)state;
  run("@deep.lua", "local function f(n)\n if n == 0 then here() return 0 end\n"
                   " return 1 + f(n - 1)\nend local a = f(200)");
  assert_int_equal(PL_STACKS_DEPTH_MAX, depth);
  assert_non_null(strstr(told(), ", (deeper) :0:0"));
}

static void calls_chunks_without_a_file_by_their_text(void **state) {
  (void)state;
  run("here() -- and more\n", "here()");
  assert_non_null(strstr(told(), "[string \"here() -- and more...\"]"));
}

static void costs_little_for_what_was_seen(void **state) {
  int64_t before;

  (void)state;
  run("@a.lua", "local function f(n) if n == 0 then here() return 0 end "
                "return 1 + f(n - 1) end local a = f(10)\n"
                "co = coroutine.create(function() local function g(n) "
                "if n == 0 then coroutine.yield() return 0 end "
                "return 1 + g(n - 1) end return g(10) end) "
                "coroutine.resume(co)");
  lua_getglobal(L, "co");
  before = pl__clock_monotonic_ns();
  for (int i = 0; i < 100000; i++)
    pl__frames_stack(frames, lua_tothread(L, -1), NULL);
  print_message("a stack of 12 frames: %.0f ns\n",
                (double)(pl__clock_monotonic_ns() - before) / 1e5);
}

static void names_the_innermost_line_of_the_app(void **state) {
  char text[64];
  uint32_t stack;

  (void)state;
  run("@/ours/perilune/task.lua", "function sleep() here() return 1 end");
  run("@/srv/app.lua", "\nlocal a = sleep()");
  stack = pl__frames_add(frames, seen, depth);
  assert_string_equal(pl__frames_text(frames, stack, text, sizeof text).at,
                      "/srv/app.lua:2");
  stack = pl__frames_place(frames, PL_SLICE("lib.lua"), 7);
  assert_string_equal(pl__frames_text(frames, stack, text, sizeof text).at,
                      "lib.lua:7");
  assert_int_equal(stack, pl__frames_place(frames, PL_SLICE("lib.lua"), 7));
  assert_int_equal(
      0, pl__frames_text(frames, PL_STACK_OTHER, text, sizeof text).bytes);
  assert_int_equal(0, pl__frames_text(NULL, 1, text, sizeof text).bytes);
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(names_functions_files_and_lines),
      test(gives_the_same_numbers_again),
      test(is_not_misled_by_addresses),
      test(leaves_out_what_is_ours_outside),
      test(shows_both_coroutines),
      test(marks_a_stack_that_is_deeper),
      test(names_the_innermost_line_of_the_app),
      test(calls_chunks_without_a_file_by_their_text),
      test(costs_little_for_what_was_seen),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
