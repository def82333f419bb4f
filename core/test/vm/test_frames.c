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
#include "fabric/names.h"

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
  assert_int_equal(0, pl__frames_open(&frames, symbols, stacks, 1, "/ours"));
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

/* --- two banks ------------------------------------------------------------------- */

#define ROUNDS 100
#define LINES 400 /* of new code in each generation */

static struct pl_symbols *both_symbols;
static struct pl_stacks *both_stacks;

static int begin_both(void **state) {
  (void)state;
  both_symbols = pl__alloc_zero(PL_NAMES_BANKS * sizeof *both_symbols);
  both_stacks = pl__alloc_zero(PL_NAMES_BANKS * sizeof *both_stacks);
  return pl__frames_open(&frames, both_symbols, both_stacks, PL_NAMES_BANKS,
                         "/ours");
}

static int end_both(void **state) {
  (void)state;
  pl__frames_close(frames);
  pl__free(both_symbols);
  pl__free(both_stacks);
  return 0;
}

/* What a generation with code of its own writes; the stack of its last line. */
static uint32_t write_code(unsigned generation, uint32_t lines) {
  char file[32];
  uint32_t stack = 0;

  snprintf(file, sizeof file, "app %u.lua", generation);
  for (uint32_t line = 1; line <= lines; line++)
    stack = pl__frames_place(frames, pl__slice_text(file), line);
  return stack;
}

static bool is_named(uint32_t stack, uint64_t asked_ms, unsigned generation,
                     uint32_t line) {
  struct pl_names names = {both_symbols, both_stacks};
  struct pl_symbol out[PL_STACKS_DEPTH_MAX];
  char chunk[32];

  snprintf(chunk, sizeof chunk, "@app %u.lua", generation);
  return pl__names_find(&names, stack, asked_ms, out) == 1 &&
         out[0].line == line &&
         pl__slice_equal(out[0].chunk, pl__slice_text(chunk));
}

/* As a reload does, when half an hour has gone by. */
static void reload(uint64_t now_ms) {
  uint32_t bank = pl__frames_bank_due(frames, now_ms);

  if (bank != PL_FRAMES_NO_BANK)
    assert_int_equal(0, pl__frames_renew(frames, bank, now_ms));
}

static void names_the_code_of_many_generations(void **state) {
  uint64_t now_ms = both_stacks[0].begun_ms;
  uint32_t before = 0, stack;

  (void)state;
  for (unsigned i = 1; i <= ROUNDS; i++) {
    reload(now_ms);
    stack = write_code(i, LINES);
    assert_true(is_named(stack, now_ms, i, LINES));
    if (i > 1) /* profiles reach back to what was before */
      assert_true(is_named(before, now_ms, i - 1, LINES));
    before = stack;
    now_ms += 86400000; /* a day later */
  }
  for (unsigned bank = 0; bank < PL_NAMES_BANKS; bank++) {
    assert_int_equal(0, both_symbols[bank].refused);
    assert_int_equal(0, both_stacks[bank].refused);
  }
}

static void keeps_a_bank_while_profiles_reach_back_to_it(void **state) {
  uint64_t now_ms = both_stacks[0].begun_ms + 1000;
  uint32_t first = write_code(1, PL_SYMBOLS_MAX / 2 + 1), second;

  (void)state;
  assert_int_equal(1, pl__frames_bank_due(frames, now_ms));
  reload(now_ms);
  second = write_code(2, PL_SYMBOLS_MAX / 2 + 1);
  assert_int_equal(1, pl__names_bank(second));
  assert_int_equal(PL_FRAMES_NO_BANK,
                   pl__frames_bank_due(frames, now_ms + PL_NAMES_KEEP_MS - 1));
  assert_true(is_named(first, now_ms, 1, PL_SYMBOLS_MAX / 2 + 1));
  now_ms += PL_NAMES_KEEP_MS;
  assert_int_equal(0, pl__frames_bank_due(frames, now_ms));
  reload(now_ms);
  write_code(3, PL_SYMBOLS_MAX / 2 + 1);
  /* Whoever has read that number before is not given what now lies there. */
  assert_true(is_named(first, now_ms, 3, PL_SYMBOLS_MAX / 2 + 1));
  assert_false(is_named(first, now_ms - 1, 3, PL_SYMBOLS_MAX / 2 + 1));
  assert_true(is_named(second, now_ms - 1, 2, PL_SYMBOLS_MAX / 2 + 1));
}

static void goes_on_with_the_bank_begun_last(void **state) {
  uint64_t now_ms = both_stacks[0].begun_ms + 1000;
  uint32_t stack;

  (void)state;
  both_stacks[0].begun_ms -= 2000;
  write_code(1, PL_SYMBOLS_MAX / 2 + 1);
  reload(now_ms - 2000);
  stack = write_code(2, LINES);
  pl__frames_close(frames); /* a worker in the place of this one */
  assert_int_equal(0, pl__frames_open(&frames, both_symbols, both_stacks,
                                      PL_NAMES_BANKS, "/ours"));
  assert_int_equal(stack, write_code(2, LINES));
}

/* Whoever was there before has written when it has begun in a future that never
 * comes: nothing would have a name, and no bank would be begun anew. */
static void does_not_believe_in_banks_that_are_yet_to_begin(void **state) {
  uint64_t now_ms = both_stacks[0].begun_ms + 1000;
  uint32_t stack;

  (void)state;
  pl__frames_close(frames);
  both_stacks[0].begun_ms = UINT64_MAX;
  both_stacks[1].begun_ms = UINT64_MAX / 2;
  assert_int_equal(0, pl__frames_open(&frames, both_symbols, both_stacks,
                                      PL_NAMES_BANKS, "/ours"));
  stack = write_code(1, PL_SYMBOLS_MAX / 2 + 1);
  assert_true(is_named(stack, now_ms, 1, PL_SYMBOLS_MAX / 2 + 1));
  assert_true(pl__frames_bank_due(frames, now_ms) != PL_FRAMES_NO_BANK);
}

static void is_told_nothing_by_numbers_that_are_none(void **state) {
  struct pl_names names = {both_symbols, both_stacks};
  struct pl_symbol out[PL_STACKS_DEPTH_MAX];
  uint32_t numbers[] = {PL_NAMES_BANKS << PL_NAMES_BANK_SHIFT, UINT32_MAX,
                        pl__names_first(1), pl__names_first(1) - 1};

  (void)state;
  for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    assert_int_equal(1, pl__names_find(&names, numbers[i], UINT64_MAX, out));
    assert_true(pl__slice_equal(out[0].name, PL_SLICE("(other)")));
  }
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
#define test_both(f) cmocka_unit_test_setup_teardown(f, begin_both, end_both)

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
      test_both(names_the_code_of_many_generations),
      test_both(keeps_a_bank_while_profiles_reach_back_to_it),
      test_both(goes_on_with_the_bank_begun_last),
      test_both(does_not_believe_in_banks_that_are_yet_to_begin),
      test_both(is_told_nothing_by_numbers_that_are_none),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
