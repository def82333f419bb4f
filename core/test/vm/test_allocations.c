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
#include <sys/mman.h>
#include <unistd.h>

#define LUA_FOLDER "lua" /* tests run in the project's folder */
#define LINES_MAX 64
#define SLICE_S 0.01

static double slice_s = SLICE_S;

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
      .slice_s = slice_s,
      .heap_sample_bytes = mean_bytes,
      .is_aside = is_aside,
      .log_level_min = 4, /* nothing is printed */
  };
  char err[PL_VM_ERROR_BYTES];
  uint32_t site;

  write_app(app);
  rig.symbols = pl__alloc_zero(sizeof *rig.symbols);
  rig.stacks = pl__alloc_zero(sizeof *rig.stacks);
  rig.heap = mmap(NULL, sizeof *rig.heap, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(rig.heap != MAP_FAILED);
  assert_int_equal(
      0, pl__frames_open(&rig.frames, rig.symbols, rig.stacks, 1, LUA_FOLDER));
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
  if (rig.heap)
    munmap(rig.heap, sizeof *rig.heap);
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

/* Bytes of a line, within that share of them: six standard deviations of so many
 * samples, or more. */
static void expect_within(const struct amount *lines, uint32_t line,
                          double bytes, double share) {
  if (fabs(lines[line].bytes - bytes) > bytes * share)
    fail_msg("line %u: %.0f bytes, not %.0f", line, lines[line].bytes, bytes);
}

static void expect(const struct amount *lines, uint32_t line, double bytes) {
  expect_within(lines, line, bytes, 0.05);
}

#define KINDS_MEAN_BYTES 1024

/* What LuaJIT's objects take: a table 64, an array slot 8 and one more, a hash
 * slot 24 and two of them at least, a double[8] 80. */
#define ROUNDS 300000.0
#define KINDS                                                                  \
  "local ffi = require('ffi')\n"            /* 3 */                            \
  "local eight = ffi.typeof('double[8]')\n" /* 4 */                            \
  "local function pair(a)\n"                /* 5 */                            \
  "  return { a,\n"                         /* 6 */                            \
  "    a + 1 }\n"                           /* 7 */                            \
  "end\n"                                   /* 8 */                            \
  "local function work()\n"                 /* 9 */                            \
  "  for i = 1, 300000 do\n"                /* 10 */                           \
  "    local t = {}\n"                      /* 11 */                           \
  "    t.x = i\n"                           /* 12 */                           \
  "    local p = pair(i)\n"                 /* 13 */                           \
  "    local d = eight()\n"                 /* 14 */                           \
  "    kept[i % 100] = t\n"                 /* 15 */                           \
  "    kept[i % 100 + 200] = p\n"           /* 16 */                           \
  "    kept[i % 100 + 400] = d\n"           /* 17 */                           \
  "  end\n"                                 /* 18 */                           \
  "  local long = ('x'):rep(1000)\n"        /* 19 */                           \
  "  for i = 1, 30000 do\n"                 /* 20 */                           \
  "    local s = long .. i\n"               /* 21 */                           \
  "    kept[i % 100] = s\n"                 /* 22 */                           \
  "  end\n"                                 /* 23 */                           \
  "end\n"                                   /* 24 */

static void expect_kinds(const struct amount *lines) {
  double all = 0, known = 0;

  expect(lines, 11, ROUNDS * 64);
  expect(lines, 12, ROUNDS * 48);
  expect(lines, 6, ROUNDS * 88);
  expect(lines, 14, ROUNDS * 80);
  expect(lines, 21, 30000.0 * (24 + 1000 + 8));
  for (uint32_t i = 0; i < LINES_MAX; i++)
    all += lines[i].bytes;
  known = lines[11].bytes + lines[12].bytes + lines[6].bytes + lines[14].bytes +
          lines[21].bytes;
  assert_true(known > 0.9 * all);
}

static void tells_lines_of_compiled_code(void **state) {
  struct amount lines[LINES_MAX];
  uint32_t traces, by_line;

  (void)state;
  open_app(KINDS "P.detach('work', work)\n", KINDS_MEAN_BYTES, false);
  run_app();
  sum_totals(lines);
  traces = pl__traces_count(rig.vm.traces, &by_line);
  assert_true(traces > 0);
#ifdef __x86_64__
  assert_int_equal(by_line, traces);
  expect_kinds(lines);
#endif
}

static void tells_lines_of_interpreted_code(void **state) {
  struct amount lines[LINES_MAX];

  (void)state;
  open_app(KINDS "jit.off(work) jit.off(pair)\nP.detach('work', work)\n",
           KINDS_MEAN_BYTES, false);
  run_app();
  sum_totals(lines);
  expect_kinds(lines);
}

static void tells_lines_without_preemption(void **state) {
  struct amount lines[LINES_MAX];

  (void)state;
  slice_s = 0;
  open_app(KINDS "jit.off(work) jit.off(pair)\nP.detach('work', work)\n",
           KINDS_MEAN_BYTES, false);
  slice_s = SLICE_S;
  run_app();
  sum_totals(lines);
  expect_kinds(lines);
}

/* The stack of what a trace has inlined. */
static void tells_who_has_called(void **state) {
  uint32_t symbols[PL_STACKS_DEPTH_MAX];
  double with = 0, all = 0;

  (void)state;
  open_app(KINDS "P.detach('work', work)\n", KINDS_MEAN_BYTES, false);
  run_app();
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    struct pl_heap_total t;
    struct pl_symbol caller;
    if (!pl__heap_total_read(rig.heap, i, &t) || line_of(t.stack) != 6)
      continue;
    all += t.bytes;
    if (pl__stacks_find(rig.stacks, t.stack, symbols) > 1 &&
        pl__symbols_find(rig.symbols, symbols[1], &caller) && caller.line == 13)
      with += t.bytes;
  }
  assert_true(all > 0 && with > 0.99 * all);
}

static void goes_on_after_traces_were_flushed(void **state) {
  struct amount lines[LINES_MAX];

  (void)state;
  open_app("local function work()\n"                     /* 3 */
           "  for i = 1, 100000 do\n"                    /* 4 */
           "    kept[i % 100] = {}\n"                    /* 5 */
           "  end\n"                                     /* 6 */
           "end\n"                                       /* 7 */
           "P.detach('work', function()\n"               /* 8 */
           "  for _ = 1, 10 do work() jit.flush() end\n" /* 9 */
           "end)\n",
           4096, false);
  run_app();
  sum_totals(lines);
  expect(lines, 5, 1000000.0 * 64);
}

static void run_cycles(unsigned count) {
  double end = pl__clock_monotonic_s() + 20;

  for (uint64_t until = rig.vm.counts.cycles + count;
       rig.vm.counts.cycles < until && pl__clock_monotonic_s() < end;) {
    pl__vm_begin_cycle(&rig.vm);
    pl__vm_collect(&rig.vm, true);
  }
}

static void counts_as_in_use_what_lives(void **state) {
  struct amount lines[LINES_MAX];

  (void)state;
  open_app("local function fill()\n"       /* 3 */
           "  for i = 1, 100000 do\n"      /* 4 */
           "    kept[i] = { i,\n"          /* 5 */
           "      i }\n"                   /* 6 */
           "  end\n"                       /* 7 */
           "end\n"                         /* 8 */
           "P.detach('work', function()\n" /* 9 */
           "  fill() fill()\n"             /* 10 */
           "  P.sleep(0.05) kept = {}\n"   /* 11 */
           "end)\n",
           4096, false);
  while (rig.vm.task_count > 0 && !rig.vm.timers.count) {
    pl__vm_tick(&rig.vm, 0, pl__clock_monotonic_s());
    pl__vm_dispatch(&rig.vm);
  }
  run_cycles(2);
  sum_live(lines);
  expect_within(lines, 5, 100000.0 * 88, 0.15);
  run_app();
  run_cycles(2);
  sum_live(lines);
  assert_true(lines[5].bytes < 88 * 1000);
  sum_totals(lines);
  assert_true(lines[5].bytes > 200000.0 * 88 * 0.95);
}

/* Blocks that grow and shrink are told apart from those that were freed. */
static void adds_up_to_what_the_vm_holds(void **state) {
  struct amount lines[LINES_MAX];
  double all = 0;

  (void)state;
  open_app(
      "local buffer = require('string.buffer')\n"
      "P.kept_here = kept\n"
      "P.detach('work', function()\n"
      "  for i = 1, 2000 do\n"
      "    local b, t = buffer.new(), {}\n"
      "    for j = 1, 200 do b:put('word ', j) t['k' .. j] = j end\n"
      "    if i % 2 == 0 then kept[#kept + 1] = b kept[#kept + 1] = t end\n"
      "  end\n"
      "end)\n",
      1024, false);
  run_app();
  run_cycles(2);
  sum_live(lines);
  for (uint32_t i = 0; i < LINES_MAX; i++)
    all += lines[i].bytes;
  assert_true(rig.vm.heap_bytes > 5000000);
  assert_int_equal(0, rig.heap->lost);
  assert_true(fabs(all / (double)rig.vm.heap_bytes - 1) < 0.1);
}

static void counts_all_bytes(void **state) {
  uint64_t before;

  (void)state;
  open_app("P.detach('work', function()\n"
           "  for i = 1, 100000 do kept[i % 100] = {} end\n"
           "end)\n",
           524288, false);
  before = pl__allocations_bytes(&rig.vm.allocations);
  run_app();
  before = pl__allocations_bytes(&rig.vm.allocations) - before;
  assert_in_range(before, 6400000, 7000000);
}

/* As a generation that is prepared on a helper thread: stacks have one writer,
 * which it is not. */
static void keeps_its_samples_until_it_serves(void **state) {
  uint32_t symbols[PL_STACKS_DEPTH_MAX];
  struct pl_heap_total t, found = {0};
  struct pl_symbol s;

  (void)state;
  open_app("for i = 1, 10000 do kept[i] = {} end\n", 4096, true);
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    if (!pl__heap_total_read(rig.heap, i, &t))
      continue;
    pl__stacks_find(rig.stacks, t.stack, symbols);
    pl__symbols_find(rig.symbols, symbols[0], &s);
    if (pl__slice_equal(s.name, PL_SLICE("(loading)")))
      found = t;
  }
  assert_true(found.bytes > 640000);
}

static void samples_nothing_unless_told_to(void **state) {
  (void)state;
  open_app("P.detach('work', function()\n"
           "  for i = 1, 100000 do kept[i % 100] = {} end\n"
           "end)\n",
           0, false);
  run_app();
  assert_int_equal(0, rig.heap->totals_count);
  assert_int_equal(0, rig.heap->live_count);
  assert_null(rig.vm.traces);
}

int main(void) {
#define CASE(f) cmocka_unit_test_teardown(f, close_app)
  const struct CMUnitTest tests[] = {
      CASE(tells_lines_of_compiled_code),
      CASE(tells_lines_of_interpreted_code),
      CASE(tells_lines_without_preemption),
      CASE(tells_who_has_called),
      CASE(goes_on_after_traces_were_flushed),
      CASE(counts_as_in_use_what_lives),
      CASE(adds_up_to_what_the_vm_holds),
      CASE(counts_all_bytes),
      CASE(keeps_its_samples_until_it_serves),
      CASE(samples_nothing_unless_told_to),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
