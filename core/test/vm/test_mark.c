/* test/vm/test_mark.c - P.mark, and which of them the flight recorder has. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "vm/vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fabric/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct pl_event_rings *rings;
static struct pl_stopwatch watch;
static struct pl_recorder recorder;
static struct pl_vm vm;

static bool has_no_request(void *arg) {
  (void)arg;
  return false;
}

static struct pl_req *take_no_request(void *arg) {
  (void)arg;
  return NULL;
}

static int make_rings(void **state) {
  (void)state;
  rings = mmap(NULL, sizeof *rings, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pl__recorder_open(&recorder, rings, &watch);
  return rings == MAP_FAILED ? -1 : 0;
}

static int free_rings(void **state) {
  (void)state;
  if (vm.slots)
    pl__vm_close(&vm);
  return munmap(rings, sizeof *rings);
}

/* Runs an app that marks when it is loaded, and in a task. */
static void run_app(bool is_aside) {
  struct pl_vm_options options = {
      .host = {.has_next = has_no_request, .next = take_no_request},
      .lua_folder = "lua", /* tests run in the project's folder */
      .slot_count = 4,
      .tasks_max = 100,
      .tasks_per_request_max = 100,
      .timeout_s = 30,
      .body_max = 1e6,
      .slice_s = 0.01,
      .is_aside = is_aside,
      .recorder = &recorder,
      .log_level_min = 4, /* nothing is printed */
  };
  char path[] = "/tmp/perilune-mark-XXXXXX", err[PL_VM_ERROR_BYTES];
  double end = pl__clock_monotonic_s() + 20;
  FILE *file = fdopen(mkstemp(path), "w");
  uint32_t site;

  assert_non_null(file);
  fputs("local P = require('perilune')\nP.mark('loads')\n"
        "local app = P.app()\n"
        "P.detach('one', function() P.mark('serves') end)\n"
        "return app\n",
        file);
  fclose(file);
  if (pl__vm_open(&vm, &options, err) ||
      pl__vm_load(&vm, path, 20, &site, err) || pl__vm_start(&vm, site, err))
    fail_msg("%s", err);
  unlink(path);
  while (vm.task_count > 0 && pl__clock_monotonic_s() < end) {
    pl__vm_tick(&vm, 0, pl__clock_monotonic_s());
    pl__vm_dispatch(&vm);
  }
}

static uint32_t count_marks(const char *text) {
  uint64_t head = pl__event_head(rings, PL_EVENTS_LANE_OFTEN);
  uint32_t count = 0;

  for (uint64_t i = 0; i < head; i++) {
    struct pl_event_said e;
    if (pl__event_read(rings, PL_EVENTS_LANE_OFTEN, i, &e) &&
        e.kind == PL_EVENT_MARK && e.code == strlen(text) &&
        memcmp(&e.id, text, e.code) == 0)
      count++;
  }
  return count;
}

static void are_recorded(void **state) {
  (void)state;
  run_app(false);
  assert_int_equal(count_marks("loads"), 1);
  assert_int_equal(count_marks("serves"), 1);
}

/* The recorder is of the thread that serves meanwhile. */
static void are_not_recorded_while_another_thread_loads(void **state) {
  (void)state;
  run_app(true);
  assert_int_equal(count_marks("loads"), 0);
  assert_int_equal(count_marks("serves"), 1);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, make_rings, free_rings)

int main(void) {
  const struct CMUnitTest tests[] = {
      EACH(are_recorded),
      EACH(are_not_recorded_while_another_thread_loads),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
