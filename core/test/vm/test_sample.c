/* test/vm/test_sample.c - the processor's time of a thread: all of it is in the
 * samples, with the line of Lua or the phase of the core that it went to. */
#include "vm/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/flights.h"
#include "fabric/record.h"
#include "fabric/samples.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"
#include "vm/frames.h"
#include "vm/vm.h"

#define LUA_FOLDER "lua" /* tests run in the project's folder */

static bool has_no_request(void *arg) {
  (void)arg;
  return false;
}

static struct pl_req *take_no_request(void *arg) {
  (void)arg;
  return NULL;
}

static struct pl_symbols *symbols;
static struct pl_stacks *stacks;
static struct pl_samples *samples;
static struct pl_frames *frames;
static struct pl_vm vm;
static char path[64];

static int begin(void **state) {
  (void)state;
  symbols = pl__alloc_zero(sizeof *symbols);
  stacks = pl__alloc_zero(sizeof *stacks);
  samples = pl__alloc_zero(sizeof *samples);
  return pl__frames_open(&frames, symbols, stacks, 1, LUA_FOLDER);
}

static int end(void **state) {
  (void)state;
  pl__vm_close(&vm);
  unlink(path);
  pl__frames_close(frames);
  pl__free(symbols);
  pl__free(stacks);
  pl__free(samples);
  return 0;
}

static void app_write(const char *app) {
  FILE *file;
  int fd;

  snprintf(path, sizeof path, "/tmp/perilune-sample-XXXXXX");
  fd = mkstemp(path);
  assert_true(fd >= 0);
  file = fdopen(fd, "w");
  fprintf(file, "local P = require('perilune')\n%s\nreturn P.app()\n", app);
  fclose(file);
}

static void vm_open(const char *app, double slice_s) {
  struct pl_vm_options options = {
      .host = {.has_next = has_no_request, .next = take_no_request},
      .lua_folder = LUA_FOLDER,
      .slot_count = 4,
      .tasks_max = 100,
      .tasks_per_request_max = 100,
      .timeout_s = 30,
      .body_max = 1e6,
      .slice_s = slice_s,
      .generation = 3,
      .frames = frames,
      .samples = samples,
      .log_level_min = 4,
  };
  char err[PL_VM_ERROR_BYTES];
  uint32_t site;

  app_write(app);
  if (pl__vm_open(&vm, &options, err) ||
      pl__vm_load(&vm, path, 20, &site, err) || pl__vm_start(&vm, site, err))
    fail_msg("%s", err);
}

static double cpu_s(void) {
  struct timespec t;

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Turns for so many seconds of CPU; returns how many it were. */
static double run(double seconds) {
  double before = cpu_s();

  while (cpu_s() - before < seconds) {
    pl__vm_tick(&vm, 0, pl__clock_monotonic_s());
    pl__vm_dispatch(&vm);
    pl__vm_collect(&vm, false);
  }
  return cpu_s() - before;
}

/* Works in a phase of the core. */
static void burn(enum pl_phase phase, double seconds) {
  uint32_t before = pl__phase_enter(vm.phase, phase);
  double began = cpu_s();

  while (cpu_s() - began < seconds)
    ;
  pl__phase_leave(vm.phase, before);
}

/* Seconds of samples whose stack has a function of that name in it. */
static double seconds_in(const char *name) {
  struct pl_samples_reader r;
  struct pl_sample s;
  double sum = 0;

  pl__samples_reader_init(&r, samples);
  while (pl__samples_next(&r, &s)) {
    uint32_t ids[PL_STACKS_DEPTH_MAX];
    uint32_t depth = pl__stacks_find(stacks, s.stack, ids);
    for (uint32_t i = 0; i < depth; i++) {
      struct pl_symbol symbol;
      pl__symbols_find(symbols, ids[i], &symbol);
      if (pl__slice_equal(symbol.name, pl__slice_text(name))) {
        assert_int_equal(PL_PHASE_LUA, s.phase);
        assert_int_equal(3, s.generation);
        assert_int_equal(PL_RECORD_NO_ROUTE, s.route);
        sum += s.weight_us / 1e6;
        break;
      }
    }
  }
  return sum;
}

static double seconds_of(enum pl_phase phase) {
  struct pl_samples_reader r;
  struct pl_sample s;
  double sum = 0;

  pl__samples_reader_init(&r, samples);
  while (pl__samples_next(&r, &s))
    sum += s.phase == phase ? s.weight_us / 1e6 : 0;
  return sum;
}

#define WORK                                                                   \
  "local function work(n) local x = 0\n"                                       \
  "  for i = 1, n do x = (x * 31 + i) % 1000003 end return x end\n"            \
  "P.detach('worker', function() while true do work(10000) end end)\n"

static void near(double is, double wanted, double share) {
  if (is < wanted * (1 - share) || is > wanted * (1 + share))
    fail_msg("%.3f s, expected %.3f s", is, wanted);
}

static void accounts_for_all_of_the_time(void **state) {
  double ran;

  (void)state;
  vm_open(WORK, 0.010);
  ran = run(1.0);
  near(seconds_in("work"), ran, 0.1);
  near(seconds_of(PL_PHASE_LUA), ran, 0.05);
}

static void does_so_with_slices_by_the_wall_clock(void **state) {
  double ran;

  (void)state;
  vm_open(WORK, 0.002);
  ran = run(0.5);
  usleep(300000); /* which is no CPU time */
  ran += run(0.5);
  near(seconds_in("work"), ran, 0.1);
  near(seconds_of(PL_PHASE_LUA), ran, 0.05);
}

static void never_charges_the_core_to_lua(void **state) {
  double ran = 0;

  (void)state;
  vm_open(WORK, 0.010);
  for (int i = 0; i < 10; i++) {
    burn(PL_PHASE_PARSE, 0.04);
    burn(PL_PHASE_WRITE, 0.02);
    ran += run(0.02);
  }
  near(seconds_of(PL_PHASE_PARSE), 0.4, 0.25);
  near(seconds_of(PL_PHASE_WRITE), 0.2, 0.4);
  near(seconds_of(PL_PHASE_LUA), ran, 0.5);
}

static void is_not_lost_in_coroutines_of_the_users(void **state) {
  double ran;

  (void)state;
  vm_open("local function inner(n) local x = 0\n"
          "  for i = 1, n do x = (x * 31 + i) % 1000003 end return x end\n"
          "local function outer() local co = coroutine.wrap(function()\n"
          "  while true do inner(10000) coroutine.yield(1) end end)\n"
          "  while true do local a = co() end end\n"
          "P.detach('worker', function() local a = outer() end)\n",
          0.010);
  ran = run(0.6);
  near(seconds_in("inner"), ran, 0.15);
  near(seconds_in("outer"), ran, 0.15);
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(accounts_for_all_of_the_time),
      test(does_so_with_slices_by_the_wall_clock),
      test(never_charges_the_core_to_lua),
      test(is_not_lost_in_coroutines_of_the_users),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
