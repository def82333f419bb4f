/* test/vm/test_preempt.c - a VM whose tasks compute: they have their turns, and
 * end when they must.  No requests and no sockets: the apps here detach tasks.
 */
#include "base/clock.h"
#include "base/err.h"
#include "vm/preempt.h"
#include "vm/vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lua.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LUA_FOLDER "lua" /* tests run in the project's folder */
#define SLICE_S 0.002

static bool has_no_request(void *arg) {
  (void)arg;
  return false;
}

static struct pl_req *take_no_request(void *arg) {
  (void)arg;
  return NULL;
}

struct rig {
  char path[64];
  struct pl_vm vm;
};

static void rig_write(struct rig *r, const char *app) {
  FILE *file;
  int fd;

  snprintf(r->path, sizeof r->path, "/tmp/perilune-preempt-XXXXXX");
  fd = mkstemp(r->path);
  assert_true(fd >= 0);
  file = fdopen(fd, "w");
  fprintf(file, "local P = require('perilune')\n%s\nreturn P.app()\n", app);
  fclose(file);
}

/* Opens a VM, loads an app of one file and starts what it has detached. */
static void rig_open(struct rig *r, const char *app, uint64_t soft) {
  struct pl_vm_options options = {
      .host = {.has_next = has_no_request, .next = take_no_request},
      .lua_folder = LUA_FOLDER,
      .slot_count = 4,
      .tasks_max = 100,
      .tasks_per_request_max = 100,
      .timeout_s = 30,
      .body_max = 1e6,
      .memory_bytes_soft = soft,
      .memory_bytes_max = soft * 4,
      .slice_s = SLICE_S,
      .log_level_min = 4, /* nothing is printed */
  };
  char err[PL_VM_ERROR_BYTES];
  uint32_t site;

  rig_write(r, app);
  if (pl__vm_open(&r->vm, &options, err) ||
      pl__vm_load(&r->vm, r->path, 20, &site, err) ||
      pl__vm_start(&r->vm, site, err))
    fail_msg("%s", err);
}

static void rig_close(struct rig *r) {
  pl__vm_close(&r->vm);
  unlink(r->path);
}

static void rig_turn(struct rig *r) {
  pl__vm_tick(&r->vm, 0, pl__clock_monotonic_s());
  pl__vm_dispatch(&r->vm);
  pl__vm_collect(&r->vm, false);
}

/* Turns until so many tasks are left; at most 20 seconds. */
static void rig_run(struct rig *r, uint32_t tasks_left) {
  double end = pl__clock_monotonic_s() + 20;

  while (r->vm.task_count > tasks_left && pl__clock_monotonic_s() < end)
    rig_turn(r);
  assert_int_equal(r->vm.task_count, tasks_left);
}

#define SPIN "P.detach('spin', function() while true do end end)\n"
#define BRIEF                                                                  \
  "P.detach('brief', function() for _ = 1, 20 do P.sleep(0.001) end end)\n"

static void goes_on_with_others_while_one_computes(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, SPIN BRIEF SPIN, 0);
  rig_run(&r, 2);
  assert_true(r.vm.counts.preempted > 0);
  rig_close(&r);
}

static void finishes_what_it_has_preempted(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r,
           "local function add(n) local x = 0\n"
           "  for i = 1, n do x = x + i % 7 end return x end\n"
           "local function task()\n"
           "  local right = add(1000)\n"
           "  for _ = 1, 20000 do\n"
           "    if add(1000) ~= right then while true do end end\n"
           "  end\n"
           "end\n"
           "for i = 1, 4 do P.detach('task', task) end\n",
           0);
  rig_run(&r, 0);
  assert_true(r.vm.counts.preempted >= 4);
  rig_close(&r);
}

static void ends_a_cancelled_task_that_computes(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, SPIN, 0);
  for (int i = 0; i < 5; i++)
    rig_turn(&r);
  pl__vm_cancel_detached(&r.vm);
  rig_run(&r, 0);
  assert_int_equal(r.vm.counts.abandoned, 0);
  rig_close(&r);
}

static void abandons_a_task_that_catches_every_error(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r,
           "local function work() for i = 1, 1e5 do end end\n"
           "P.detach('deaf', function() while true do pcall(work) end end)\n",
           0);
  rig_turn(&r);
  pl__vm_cancel_detached(&r.vm);
  rig_run(&r, 0);
  assert_true(r.vm.counts.abandoned <= 1);
  rig_close(&r);
}

static void fails_a_task_that_keeps_too_much(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r,
           "P.detach('hoarder', function() local t = {}\n"
           "  while true do t[#t + 1] = { #t } end end)\n" BRIEF,
           64u << 20);
  rig_run(&r, 0);
  assert_int_equal(r.vm.counts.condemned, 1);
  rig_close(&r);
}

static void finds_the_flag_by_which_lost_hooks_are_healed(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, BRIEF, 0);
  assert_true(pl__preempt_heals(&r.vm));
  rig_run(&r, 0);
  rig_close(&r);
}

static void leaves_a_second_vm_of_the_process_alone(void **state) {
  struct rig first, second;

  (void)state;
  rig_open(&first, SPIN, 0);
  rig_open(&second, BRIEF, 0);
  assert_true(first.vm.preempt.is_on);
  assert_false(second.vm.preempt.is_on);
  assert_int_equal(pl__preempt_start(&second.vm), PL_EFULL);
  rig_run(&second, 0);
  for (int i = 0; i < 5; i++)
    rig_turn(&first);
  assert_true(first.vm.counts.preempted > 0);
  assert_int_equal(second.vm.counts.preempted, 0);
  rig_close(&first);
  rig_close(&second);
}

static void survives_a_late_tick_after_the_vm(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, BRIEF, 0);
  rig_run(&r, 0);
  rig_close(&r);
  assert_int_equal(raise(SIGPROF), 0);
  rig_open(&r, SPIN BRIEF, 0); /* and it can be switched on again */
  assert_true(r.vm.preempt.is_on);
  rig_run(&r, 1);
  rig_close(&r);
}

/* --- handing over --------------------------------------------------------- */

static void takes_turns_without_ticks_once_it_has_handed_over(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, SPIN BRIEF SPIN, 0);
  pl__preempt_hand_over(&r.vm);
  assert_true(r.vm.preempt.is_counting);
  rig_run(&r, 2);
  assert_true(r.vm.counts.preempted > 0);
  rig_close(&r);
}

/* A compiled loop calls no count hook: it must not be compiled any more. */
static void takes_turns_in_loops_that_were_compiled_before(void **state) {
  struct rig r;
  uint64_t before;

  (void)state;
  rig_open(&r, SPIN SPIN, 0);
  while (r.vm.counts.preempted < 4)
    rig_turn(&r);
  pl__preempt_hand_over(&r.vm);
  before = r.vm.counts.preempted;
  for (int i = 0; i < 8; i++)
    rig_turn(&r);
  assert_true(r.vm.counts.preempted >= before + 8);
  rig_close(&r);
}

static void ends_a_cancelled_task_after_it_has_handed_over(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, SPIN, 0);
  while (r.vm.counts.preempted < 2)
    rig_turn(&r);
  pl__vm_retire(&r.vm);
  rig_run(&r, 0);
  assert_int_equal(r.vm.counts.abandoned, 0);
  rig_close(&r);
}

static void abandons_a_deaf_task_after_it_has_handed_over(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r,
           "P.detach('deaf', function()\n"
           "  while true do pcall(function() while true do end end) end\n"
           "end)\n",
           0);
  rig_turn(&r);
  pl__vm_retire(&r.vm);
  rig_run(&r, 0);
  assert_int_equal(r.vm.counts.abandoned, 1);
  rig_close(&r);
}

static void
fails_a_task_that_keeps_too_much_after_it_has_handed_over(void **s) {
  struct rig r;

  (void)s;
  rig_open(&r,
           "P.detach('hoarder', function() local t = {}\n"
           "  while true do t[#t + 1] = { #t } end end)\n" BRIEF,
           32u << 20);
  pl__preempt_hand_over(&r.vm);
  rig_run(&r, 0);
  assert_int_equal(r.vm.counts.condemned, 1);
  rig_close(&r);
}

static void lets_another_vm_have_the_ticks(void **state) {
  struct rig old, now;

  (void)state;
  rig_open(&old, SPIN, 0);
  while (old.vm.counts.preempted < 2)
    rig_turn(&old);
  pl__preempt_hand_over(&old.vm);
  rig_open(&now, SPIN BRIEF, 0);
  assert_true(now.vm.preempt.is_on);
  assert_false(now.vm.preempt.is_counting);
  rig_run(&now, 1);
  assert_true(now.vm.counts.preempted > 0);
  for (int i = 0; i < 4; i++)
    rig_turn(&old);
  assert_true(old.vm.counts.preempted >= 6);
  rig_close(&old);
  rig_close(&now);
}

static void leaves_the_ticks_alone_when_it_closes(void **state) {
  struct rig old, now;

  (void)state;
  rig_open(&old, SPIN, 0);
  pl__preempt_hand_over(&old.vm);
  rig_open(&now, SPIN BRIEF, 0);
  rig_close(&old);
  rig_run(&now, 1);
  assert_true(now.vm.counts.preempted > 0);
  rig_close(&now);
}

static void hands_over_once(void **state) {
  struct rig old, now;

  (void)state;
  rig_open(&old, SPIN, 0);
  pl__preempt_hand_over(&old.vm);
  rig_open(&now, BRIEF, 0);
  pl__preempt_hand_over(&old.vm);
  assert_true(now.vm.preempt.is_on);
  assert_int_equal(pl__preempt_start(&old.vm), PL_EFULL);
  rig_close(&old);
  rig_close(&now);
}

static void has_nothing_to_hand_over_without_preemption(void **state) {
  struct rig first, second;

  (void)state;
  rig_open(&first, SPIN, 0);
  rig_open(&second, BRIEF, 0);
  pl__preempt_hand_over(&second.vm);
  assert_false(second.vm.preempt.is_on);
  assert_true(first.vm.preempt.is_on);
  assert_false(first.vm.preempt.is_counting);
  rig_close(&second);
  rig_close(&first);
}

/* --- cutting ---------------------------------------------------------------- */

#define NOTED                                                                  \
  "P.detach('waits', function()\n"                                             \
  "  local ok = pcall(P.sleep, 100) ended = (ended or 0) + 1\n"                \
  "end)\n"                                                                     \
  "P.detach('spins', function()\n"                                             \
  "  pcall(function() while true do end end) ended = (ended or 0) + 1\n"       \
  "end)\n"

static int ended_count(struct rig *r) {
  int count;

  lua_getglobal(r->vm.L, "ended");
  count = (int)lua_tointeger(r->vm.L, -1);
  lua_pop(r->vm.L, 1);
  return count;
}

static void cuts_tasks_without_running_more_of_them(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, NOTED, 0);
  while (r.vm.counts.preempted < 2)
    rig_turn(&r);
  pl__vm_cut(&r.vm);
  assert_int_equal(r.vm.task_count, 0);
  for (int i = 0; i < 5; i++)
    rig_turn(&r);
  assert_int_equal(ended_count(&r), 0);
  rig_close(&r);
}

static void lets_cancelled_tasks_tidy_up(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, NOTED, 0);
  while (r.vm.counts.preempted < 2)
    rig_turn(&r);
  pl__vm_retire(&r.vm);
  rig_run(&r, 0);
  assert_int_equal(ended_count(&r), 2);
  rig_close(&r);
}

static void has_no_deadline_to_expire_for_tasks_of_no_request(void **state) {
  struct rig r;

  (void)state;
  rig_open(&r, NOTED, 0);
  rig_turn(&r);
  pl__vm_expire(&r.vm);
  for (int i = 0; i < 5; i++)
    rig_turn(&r);
  assert_int_equal(r.vm.task_count, 2);
  assert_int_equal(ended_count(&r), 0);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(goes_on_with_others_while_one_computes),
      cmocka_unit_test(finishes_what_it_has_preempted),
      cmocka_unit_test(ends_a_cancelled_task_that_computes),
      cmocka_unit_test(abandons_a_task_that_catches_every_error),
      cmocka_unit_test(fails_a_task_that_keeps_too_much),
      cmocka_unit_test(finds_the_flag_by_which_lost_hooks_are_healed),
      cmocka_unit_test(leaves_a_second_vm_of_the_process_alone),
      cmocka_unit_test(survives_a_late_tick_after_the_vm),
      cmocka_unit_test(takes_turns_without_ticks_once_it_has_handed_over),
      cmocka_unit_test(takes_turns_in_loops_that_were_compiled_before),
      cmocka_unit_test(ends_a_cancelled_task_after_it_has_handed_over),
      cmocka_unit_test(abandons_a_deaf_task_after_it_has_handed_over),
      cmocka_unit_test(
          fails_a_task_that_keeps_too_much_after_it_has_handed_over),
      cmocka_unit_test(lets_another_vm_have_the_ticks),
      cmocka_unit_test(leaves_the_ticks_alone_when_it_closes),
      cmocka_unit_test(hands_over_once),
      cmocka_unit_test(has_nothing_to_hand_over_without_preemption),
      cmocka_unit_test(cuts_tasks_without_running_more_of_them),
      cmocka_unit_test(lets_cancelled_tasks_tidy_up),
      cmocka_unit_test(has_no_deadline_to_expire_for_tasks_of_no_request),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
