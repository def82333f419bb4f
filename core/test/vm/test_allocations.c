/* test/vm/test_allocations.c - known allocations come out by line and size. */
#include "vm/allocations.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/heap_samples.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"
#include "vm/frames.h"
#include "vm/traces.h"
#include "vm/vm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LUA_FOLDER "lua" /* tests run in the project's folder */
#define LINES_MAX 64

static bool has_no_request(void *arg) {
  (void)arg;
  return false;
}

static struct pl_req *take_no_request(void *arg) {
  (void)arg;
  return NULL;
}

/* A VM whose app is a file of the lines given, from line 3 on. */
static struct {
  char path[64];
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;
  struct pl_frames *frames;
  struct pl_heap_samples *heap;
  struct pl_vm vm;
} rig;

static void write_app(const char *app) {
  FILE *file;
  int fd;

  snprintf(rig.path, sizeof rig.path, "/tmp/perilune-heap-XXXXXX");
  fd = mkstemp(rig.path);
  assert_true(fd >= 0);
  file = fdopen(fd, "w");
  fprintf(file,
          "local P = require('perilune')\nlocal kept = {}\n%s\n"
          "return P.app()\n",
          app);
  fclose(file);
}

static void open_app(const char *app, uint64_t mean_bytes, bool is_aside) {
  struct pl_vm_options options = {
      .host = {.has_next = has_no_request, .next = take_no_request},
      .lua_folder = LUA_FOLDER,
      .slot_count = 4,
      .tasks_max = 100,
      .tasks_per_request_max = 100,
      .timeout_s = 30,
      .body_max = 1e6,
      .slice_s = 0.01,
      .heap_sample_bytes = mean_bytes,
      .is_aside = is_aside,
      .log_level_min = 4, /* nothing is printed */
  };
  char err[PL_VM_ERROR_BYTES];
  uint32_t site;

  write_app(app);
  rig.symbols = pl__alloc_zero(sizeof *rig.symbols);
  rig.stacks = pl__alloc_zero(sizeof *rig.stacks);
  rig.heap = aligned_alloc(4096, sizeof *rig.heap);
  memset(rig.heap, 0, sizeof *rig.heap);
  assert_int_equal(
      0, pl__frames_open(&rig.frames, rig.symbols, rig.stacks, LUA_FOLDER));
  options.heap = rig.heap;
  options.frames = rig.frames;
  if (pl__vm_open(&rig.vm, &options, err) ||
      pl__vm_load(&rig.vm, rig.path, 20, &site, err) ||
      pl__vm_start(&rig.vm, site, err))
    fail_msg("%s", err);
}

/* Turns until all tasks have ended; at most 20 seconds. */
static void run_app(void) {
  double end = pl__clock_monotonic_s() + 20;

  while (rig.vm.task_count > 0 && pl__clock_monotonic_s() < end) {
    pl__vm_tick(&rig.vm, 0, pl__clock_monotonic_s());
    pl__vm_dispatch(&rig.vm);
    pl__vm_collect(&rig.vm, false);
  }
  assert_int_equal(rig.vm.task_count, 0);
}

static int close_app(void **state) {
  (void)state;
  if (rig.vm.slots)
    pl__vm_close(&rig.vm);
  unlink(rig.path);
  pl__frames_close(rig.frames);
  pl__free(rig.symbols);
  pl__free(rig.stacks);
  free(rig.heap);
  memset(&rig, 0, sizeof rig);
  return 0;
}

struct amount {
  double objects, bytes;
};

static bool is_of_app(const struct pl_symbol *s) {
  return s->chunk.bytes > 1 &&
         pl__slice_equal(pl__slice(s->chunk.at + 1, s->chunk.bytes - 1),
                         pl__slice_text(rig.path));
}

/* The innermost line of the app in that stack; 0: there is none. */
static uint32_t line_of(uint32_t stack) {
  uint32_t symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth = pl__stacks_find(rig.stacks, stack, symbols);

  for (uint32_t i = 0; i < depth; i++) {
    struct pl_symbol s;
    if (pl__symbols_find(rig.symbols, symbols[i], &s) && is_of_app(&s) &&
        s.line < LINES_MAX)
      return s.line;
  }
  return 0;
}

/* What was allocated by line; 0: what is of no line of the app. */
static void sum_totals(struct amount *lines) {
  memset(lines, 0, LINES_MAX * sizeof *lines);
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    struct pl_heap_total t;
    uint32_t line;
    if (!pl__heap_total_read(rig.heap, i, &t))
      continue;
    line = line_of(t.stack);
    if (line == 0 && getenv("DEBUG")) {
      uint32_t symbols[PL_STACKS_DEPTH_MAX];
      uint32_t depth = pl__stacks_find(rig.stacks, t.stack, symbols);
      print_message("%.0f bytes:", t.bytes);
      for (uint32_t j = 0; j < depth; j++) {
        struct pl_symbol y;
        pl__symbols_find(rig.symbols, symbols[j], &y);
        print_message(" %.*s %.*s:%u,", (int)y.name.bytes, y.name.at,
                      (int)y.chunk.bytes, y.chunk.at, y.line);
      }
      print_message("\n");
    }
    lines[line].objects += t.objects;
    lines[line].bytes += t.bytes;
  }
}

static void sum_live(struct amount *lines) {
  memset(lines, 0, LINES_MAX * sizeof *lines);
  for (uint32_t i = 0; i < PL_HEAP_LIVE_SLOTS; i++) {
    struct pl_heap_live b;
    uint32_t line;
    if (!pl__heap_live_read(rig.heap, i, &b))
      continue;
    line = line_of(b.stack);
    lines[line].objects += b.objects;
    lines[line].bytes += b.objects * (double)b.bytes;
  }
}

static void print(const struct amount *lines) {
  uint32_t by_line = 0;
  uint32_t count =
      rig.vm.traces ? pl__traces_count(rig.vm.traces, &by_line) : 0;

  for (uint32_t i = 0; i < LINES_MAX; i++)
    if (lines[i].bytes > 0)
      print_message("line %2u: %10.0f objects %12.0f bytes\n", i,
                    lines[i].objects, lines[i].bytes);
  print_message("traces: %u, %u by line\n", count, by_line);
}

static void explore(void **state) {
  struct amount lines[LINES_MAX];

  (void)state;
  open_app("local ffi = require('ffi')\n"         /* 3 */
           "local function make(a)\n"             /* 4 */
           "  return { a,\n"                      /* 5 */
           "    a + 1 }\n"                        /* 6 */
           "end\n"                                /* 7 */
           "local function work()\n"              /* 8 */
           "  for i = 1, 300000 do\n"             /* 9 */
           "    local t = {}\n"                   /* 10 */
           "    t.x = i\n"                        /* 11 */
           "    local s = 'k' .. i\n"             /* 12 */
           "    local u = make(i)\n"              /* 13 */
           "    local d = ffi.new('double[8]')\n" /* 14 */
           "    kept[i % 100] = t\n"              /* 15 */
           "    kept[i % 100 + 200] = s\n"        /* 16 */
           "    kept[i % 50 + 400] = u\n"         /* 17 */
           "    kept[i % 50 + 500] = d\n"         /* 18 */
           "  end\n"                              /* 19 */
           "end\n"                                /* 20 */
           "if os.getenv('JITOFF') then jit.off(work) jit.off(make) end\n"
           "P.detach('work', work)\n",
           16384, false);
  run_app();
  sum_totals(lines);
  print(lines);
  print_message("counted %.0f\n",
                (double)pl__allocations_bytes(&rig.vm.allocations));
  sum_live(lines);
  print(lines);
}

int main(void) {
#define CASE(f) cmocka_unit_test_teardown(f, close_app)
  const struct CMUnitTest tests[] = {
      CASE(explore),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
