/* test/server/test_reload.c - the way to the next generation, with workers that
 * are nothing but the other ends of their channels.
 */
#include "server/reload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "fabric/map.h"
#include "server/config.h"
#include "server/edition.h"
#include "server/layout.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 2u
#define KILLED 9 /* a waitpid status: by SIGKILL */

static struct pl_config config;
static struct pl_fabric fabric;
static struct pl_child workers[WORKERS];
static int ends[WORKERS], trial_end;
static struct pl_reload reload;
static struct pl_reload_result last;
static uint32_t trials, commits, results;

static int start_trial(void *arg, struct pl_child *trial, uint32_t generation) {
  int fds[2];

  (void)arg, (void)generation;
  assert_int_equal(pl__channel_open(fds), 0);
  trial->pid = fork(); /* one that reload may kill */
  if (trial->pid == 0)
    for (;;)
      pause();
  trial->channel_fd = fds[0];
  trial_end = fds[1];
  trials++;
  return 0;
}

static void on_commit(void *arg, struct pl_config *c) {
  (void)arg;
  pl__config_deinit(c);
  commits++;
}

static void on_end(void *arg, const struct pl_reload_result *result) {
  (void)arg;
  last = *result;
  results++;
}

static int make_all(void **state) {
  static const char *const overrides[] = {"limits.connections=4"};
  struct pl_config_input input = {.overrides = overrides, .override_count = 1};
  struct pl_reload_options options = {.fabric = &fabric,
                                      .workers = workers,
                                      .worker_count = WORKERS,
                                      .start_trial = start_trial,
                                      .on_commit = on_commit,
                                      .on_end = on_end};
  char err[PL_CONFIG_ERROR_BYTES], text[PL_FABRIC_ERROR_BYTES];

  (void)state;
  trials = commits = results = 0;
  trial_end = -1;
  assert_int_equal(pl__config_resolve(&input, &config, err), 0);
  assert_int_equal(pl__layout_open(&fabric, &config, WORKERS, text), 0);
  for (uint32_t i = 0; i < WORKERS; i++) {
    int fds[2];
    pl__child_init(&workers[i]);
    assert_int_equal(pl__channel_open(fds), 0);
    workers[i].channel_fd = fds[0];
    workers[i].ready = true;
    workers[i].generation = 1;
    ends[i] = fds[1];
  }
  assert_int_equal(pl__reload_init(&reload, &options, &config), 0);
  reload.committed = 1;
  return 0;
}

static void trial_die(int status) {
  pid_t pid = reload.trial.pid;

  if (pid <= 0)
    return;
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  pl__reload_on_trial_death(&reload, status);
  close(trial_end);
}

static int free_all(void **state) {
  (void)state;
  pl__reload_stop(&reload);
  trial_die(KILLED);
  for (uint32_t i = 0; i < WORKERS; i++) {
    close(workers[i].channel_fd);
    close(ends[i]);
  }
  pl__fabric_close(&fabric);
  pl__config_deinit(&config);
  return 0;
}

/* What the trial does when the app loads. */
static void trial_succeed(void) {
  struct pl_bundle *bundle;

  assert_int_equal(pl__layout_bundle(&fabric, reload.wanted, &bundle), 0);
  assert_int_equal(pl__edition_write(bundle, &config), 0);
  pl__bundle_publish(bundle);
  pl__channel_say(trial_end, PL_NEWS_TRIED, reload.wanted, 0, "workers");
  pl__reload_on_trial(&reload);
}

/* The order that a worker got; 0: none. */
static uint32_t order_of(uint32_t worker) {
  struct pl_message m;

  return pl__channel_read(ends[worker], &m) == 0 ? m.kind : 0;
}

static void say(uint32_t worker, enum pl_message_kind kind, uint32_t generation,
                int code) {
  struct pl_message m = {
      .kind = kind, .generation = generation, .code = code, .text = "why"};

  pl__reload_on_news(&reload, &workers[worker], &m);
}

static void commit_all(uint32_t generation) {
  trial_succeed();
  trial_die(0);
  for (uint32_t i = 0; i < WORKERS; i++) {
    assert_int_equal(order_of(i), PL_ORDER_PREPARE);
    say(i, PL_NEWS_PREPARED, generation, 0);
  }
  for (uint32_t i = 0; i < WORKERS; i++) {
    assert_int_equal(order_of(i), PL_ORDER_COMMIT);
    say(i, PL_NEWS_COMMITTED, generation, 0);
  }
}

static void retire_all(uint32_t generation) {
  for (uint32_t i = 0; i < WORKERS; i++)
    say(i, PL_NEWS_RETIRED, generation, 0);
}

static void brings_all_workers_to_the_next_one(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  assert_int_equal(reload.state, PL_RELOAD_TRYING);
  commit_all(2);
  assert_int_equal(results, 1);
  assert_int_equal(last.code, 0);
  assert_int_equal(last.generation, 2);
  assert_string_equal(last.fixed, "workers");
  assert_int_equal(commits, 1);
  assert_int_equal(workers[1].generation, 2);
  assert_int_equal(reload.state, PL_RELOAD_RETIRING);
  retire_all(2);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
}

static void commits_only_when_the_last_one_has_loaded(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  trial_succeed();
  say(0, PL_NEWS_PREPARED, 2, 0);
  assert_int_equal(commits, 0);
  say(1, PL_NEWS_PREPARED, 2, 0);
  assert_int_equal(commits, 1);
}

static void is_rejected_by_the_trial(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__channel_say(trial_end, PL_NEWS_TRIED, 2, PL_ESCRIPT, "app.lua:1: no");
  pl__reload_on_trial(&reload);
  assert_int_equal(results, 1);
  assert_int_equal(last.code, PL_ESCRIPT);
  assert_int_equal(last.generation, 1);
  assert_string_equal(last.text, "app.lua:1: no");
  assert_int_equal(order_of(0), PL_ORDER_LOOK); /* it says so in responses */
  assert_int_equal(order_of(0), 0);
  trial_die(0);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
}

static void is_rejected_when_the_trial_dies(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  trial_die(KILLED);
  assert_int_equal(last.code, PL_ESCRIPT);
  assert_non_null(strstr(last.text, "SIGKILL"));
  pl__reload_begin(&reload);
  trial_die(3 << 8);
  assert_non_null(strstr(last.text, "exit code 3"));
}

static void is_rejected_when_the_trial_takes_too_long(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__reload_on_time(&reload, pl__clock_monotonic_ns());
  assert_int_equal(results, 0);
  pl__reload_on_time(&reload, pl__reload_due(&reload));
  assert_int_equal(results, 1);
  assert_non_null(strstr(last.text, "vm.load_timeout"));
}

static void tells_the_others_when_one_cannot_load(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  trial_succeed();
  order_of(0), order_of(1);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(1, PL_NEWS_PREPARED, 2, PL_ESCRIPT);
  assert_int_equal(last.code, PL_ESCRIPT);
  assert_string_equal(last.text, "why");
  assert_int_equal(order_of(0), PL_ORDER_ABORT);
  assert_int_equal(commits, 0);
}

static void goes_on_without_a_worker_that_dies(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  trial_succeed();
  say(0, PL_NEWS_PREPARED, 2, 0);
  workers[1].ready = false;
  workers[1].step = 0;
  workers[1].generation = 0;
  pl__reload_on_death(&reload);
  assert_int_equal(commits, 1);
  say(0, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(results, 1);
}

static void brings_a_worker_up_that_has_started_meanwhile(void **state) {
  (void)state;
  workers[1].ready = false;
  pl__reload_begin(&reload);
  trial_succeed();
  trial_die(0);
  order_of(0);
  workers[1].ready = true; /* it has loaded the one before */
  say(1, PL_NEWS_STARTED, 1, 0);
  assert_int_equal(order_of(1), 0);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(0, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(order_of(1), PL_ORDER_PREPARE);
  say(1, PL_NEWS_PREPARED, 2, 0);
  assert_int_equal(order_of(1), PL_ORDER_COMMIT);
  say(1, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(workers[1].generation, 2);
}

static void
waits_until_the_old_ones_are_gone_and_makes_several_one(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__reload_begin(&reload);
  pl__reload_begin(&reload);
  commit_all(2);
  pl__reload_begin(&reload);
  assert_int_equal(trials, 1);
  say(0, PL_NEWS_RETIRED, 2, 0);
  assert_int_equal(trials, 1);
  say(1, PL_NEWS_RETIRED, 2, 0);
  assert_int_equal(trials, 2);
  assert_int_equal(reload.wanted, 3);
  commit_all(3);
  retire_all(3);
  assert_int_equal(trials, 2);
  assert_int_equal(reload.committed, 3);
}

static void gives_up_when_the_server_ends(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__reload_begin(&reload);
  pl__reload_stop(&reload);
  assert_int_equal(last.code, PL_EFAIL);
  trial_die(KILLED);
  assert_int_equal(trials, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_all, free_all)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(brings_all_workers_to_the_next_one),
      CASE(commits_only_when_the_last_one_has_loaded),
      CASE(is_rejected_by_the_trial),
      CASE(is_rejected_when_the_trial_dies),
      CASE(is_rejected_when_the_trial_takes_too_long),
      CASE(tells_the_others_when_one_cannot_load),
      CASE(goes_on_without_a_worker_that_dies),
      CASE(brings_a_worker_up_that_has_started_meanwhile),
      CASE(waits_until_the_old_ones_are_gone_and_makes_several_one),
      CASE(gives_up_when_the_server_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
