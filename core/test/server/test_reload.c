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
#include <sys/prctl.h>
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
static pid_t sleepers[WORKERS];
static uint32_t trials, commits, results;
static bool trials_fail;

/* A process that may be killed. */
static pid_t sleeper(void) {
  pid_t pid = fork();

  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
      pause();
  }
  assert_true(pid > 0);
  return pid;
}

static int start_trial(void *arg, struct pl_child *trial, uint32_t generation) {
  int fds[2];

  (void)arg, (void)generation;
  if (trials_fail)
    return -EAGAIN;
  assert_int_equal(pl__channel_open(fds), 0);
  trial->pid = sleeper();
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
  trials_fail = false;
  memset(sleepers, 0, sizeof sleepers);
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
    if (workers[i].channel_fd >= 0)
      close(workers[i].channel_fd);
    close(ends[i]);
    if (sleepers[i]) {
      kill(sleepers[i], SIGKILL);
      waitpid(sleepers[i], NULL, 0);
    }
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

/* Of the worker, a process from here on, which reload may end. */
static void make_process(uint32_t worker) {
  workers[worker].pid = sleepers[worker] = sleeper();
}

/* What has ended that process. */
static int signal_of(uint32_t worker) {
  int status = 0;

  assert_int_equal(waitpid(sleepers[worker], &status, 0), sleepers[worker]);
  sleepers[worker] = 0;
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* As the master does it, once it was reaped. */
static void die(uint32_t worker) {
  pl__child_bury(&workers[worker]);
  pl__reload_on_death(&reload);
}

/* Another one in its place, which has loaded that generation. */
static void start_again(uint32_t worker, uint32_t generation) {
  struct pl_message m;
  int fds[2];

  close(ends[worker]);
  assert_int_equal(pl__channel_open(fds), 0);
  workers[worker].channel_fd = fds[0];
  ends[worker] = fds[1];
  pl__channel_say(ends[worker], PL_NEWS_STARTED, generation, 0, NULL);
  assert_int_equal(pl__child_hear(&workers[worker], &m, 1), 0);
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

/* To where both workers load the next one, and were told so. */
static void begin_preparing(void) {
  pl__reload_begin(&reload);
  trial_succeed();
  trial_die(0);
  for (uint32_t i = 0; i < WORKERS; i++)
    assert_int_equal(order_of(i), PL_ORDER_PREPARE);
}

/* To where both were told to swap. */
static void begin_committing(void) {
  begin_preparing();
  for (uint32_t i = 0; i < WORKERS; i++)
    say(i, PL_NEWS_PREPARED, reload.wanted, 0);
  for (uint32_t i = 0; i < WORKERS; i++)
    assert_int_equal(order_of(i), PL_ORDER_COMMIT);
}

static void ends_when_the_last_one_has_swapped(void **state) {
  (void)state;
  begin_committing();
  say(0, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(results, 0);
  assert_true(pl__reload_is_running(&reload));
  say(1, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(results, 1);
  assert_false(pl__reload_is_running(&reload));
}

static void takes_the_load_timeout_of_what_is_served(void **state) {
  (void)state;
  config.vm_load_timeout_s = 77;
  begin_preparing();
  assert_true(reload.load_s < 77);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(1, PL_NEWS_PREPARED, 2, 0);
  assert_true(reload.load_s == 77);
}

static void is_rejected_when_no_process_can_be_had(void **state) {
  (void)state;
  trials_fail = true;
  pl__reload_begin(&reload);
  assert_int_equal(last.code, PL_EFAIL);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
  trials_fail = false;
  order_of(0), order_of(1); /* to look */
  pl__reload_begin(&reload);
  commit_all(2);
  assert_int_equal(last.code, 0);
}

static void is_rejected_when_what_was_tried_cannot_be_read(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__channel_say(trial_end, PL_NEWS_TRIED, 2, 0, ""); /* nothing published */
  pl__reload_on_trial(&reload);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(1, PL_NEWS_PREPARED, 2, 0);
  assert_int_equal(last.code, PL_EFAIL);
  assert_int_equal(commits, 0);
  assert_int_equal(reload.committed, 1);
  trial_die(0);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
}

static void hears_only_what_a_trial_says_of_its_own_generation(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__channel_say(trial_end, PL_NEWS_TRIED, 1, 0, "");
  pl__channel_say(trial_end, PL_NEWS_STARTED, 2, 0, "");
  pl__reload_on_trial(&reload);
  assert_int_equal(reload.state, PL_RELOAD_TRYING);
}

static void takes_the_first_word_of_a_trial(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__channel_say(trial_end, PL_NEWS_TRIED, 2, 0, "");
  pl__channel_say(trial_end, PL_NEWS_TRIED, 2, PL_ESCRIPT, "after all");
  pl__reload_on_trial(&reload);
  assert_int_equal(reload.state, PL_RELOAD_PREPARING);
  assert_int_equal(results, 0);
}

static void hears_a_trial_that_is_dead_when_it_is_asked(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__channel_say(trial_end, PL_NEWS_TRIED, 2, PL_ESCRIPT, "its last words");
  trial_die(KILLED);
  assert_int_equal(results, 1);
  assert_string_equal(last.text, "its last words");
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
}

static void goes_on_when_a_trial_dies_that_has_succeeded(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  trial_succeed();
  trial_die(KILLED);
  assert_int_equal(reload.state, PL_RELOAD_PREPARING);
  assert_int_equal(results, 0);
}

/* It may still write into the bundle. */
static void begins_no_other_while_a_rejected_trial_lives(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__reload_on_time(&reload, pl__reload_due(&reload));
  pl__reload_begin(&reload);
  assert_int_equal(trials, 1);
  trial_die(KILLED);
  assert_int_equal(trials, 2);
  assert_int_equal(reload.state, PL_RELOAD_TRYING);
}

static void kills_a_trial_that_takes_too_long(void **state) {
  int status = 0;

  (void)state;
  pl__reload_begin(&reload);
  pl__reload_on_time(&reload, pl__reload_due(&reload));
  assert_int_equal(waitpid(reload.trial.pid, &status, 0), reload.trial.pid);
  assert_int_equal(status, KILLED);
  pl__reload_on_trial_death(&reload, status);
  close(trial_end);
  assert_int_equal(results, 1);
}

static void tries_the_same_number_again_after_it_was_rejected(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  trial_die(KILLED);
  assert_int_equal(last.generation, 1);
  pl__reload_begin(&reload);
  assert_int_equal(reload.wanted, 2);
  order_of(0), order_of(1); /* to look */
  commit_all(2);
  assert_int_equal(last.code, 0);
}

static void tells_all_when_a_rejected_one_was_followed_by_a_good_one(void **s) {
  (void)s;
  pl__reload_begin(&reload);
  trial_die(KILLED);
  assert_int_equal(order_of(0), PL_ORDER_LOOK);
  assert_int_equal(order_of(1), PL_ORDER_LOOK);
  assert_true(reload.server->reload_failed);
  pl__reload_begin(&reload);
  commit_all(2);
  assert_false(reload.server->reload_failed);
  assert_int_equal(order_of(0), PL_ORDER_LOOK);
  assert_int_equal(order_of(1), PL_ORDER_LOOK);
}

static void tells_a_worker_that_starts_after_one_was_rejected(void **state) {
  (void)state;
  die(1);
  pl__reload_begin(&reload);
  trial_die(KILLED);
  start_again(1, 1);
  assert_int_equal(order_of(1), PL_ORDER_LOOK);
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

static void goes_on_without_one_that_dies_while_the_app_is_tried(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  die(1);
  trial_succeed();
  assert_int_equal(order_of(0), PL_ORDER_PREPARE);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(0, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(last.code, 0);
}

static void goes_on_without_one_that_dies_when_it_has_loaded(void **state) {
  (void)state;
  begin_preparing();
  say(1, PL_NEWS_PREPARED, 2, 0);
  die(1);
  assert_int_equal(commits, 0);
  say(0, PL_NEWS_PREPARED, 2, 0);
  assert_int_equal(commits, 1);
}

static void goes_on_without_one_that_dies_while_it_swaps(void **state) {
  (void)state;
  begin_committing();
  say(0, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(results, 0);
  die(1);
  assert_int_equal(results, 1);
  assert_int_equal(last.code, 0);
  start_again(1, 2);
  assert_int_equal(order_of(1), 0); /* it has what is served */
}

static void goes_on_without_one_that_dies_while_it_ends_the_old(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  commit_all(2);
  say(0, PL_NEWS_RETIRED, 2, 0);
  assert_int_equal(reload.state, PL_RELOAD_RETIRING);
  die(1);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
}

static void serves_the_next_one_when_all_workers_die_meanwhile(void **state) {
  (void)state;
  begin_preparing();
  die(0);
  die(1);
  assert_int_equal(last.code, 0);
  assert_int_equal(reload.committed, 2);
  assert_int_equal(atomic_load(&reload.server->generation), 2);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
}

static void takes_no_word_of_one_that_was_told_to_forget(void **state) {
  (void)state;
  begin_preparing();
  say(1, PL_NEWS_PREPARED, 2, PL_ESCRIPT);
  say(0, PL_NEWS_PREPARED, 2, 0);
  assert_int_equal(commits, 0);
  assert_int_equal(results, 1);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
}

static void replaces_a_worker_that_blocks_while_it_loads(void **state) {
  (void)state;
  make_process(1);
  begin_preparing();
  say(0, PL_NEWS_PREPARED, 2, 0);
  pl__reload_on_time(&reload, pl__reload_due(&reload) - 1);
  assert_int_equal(results, 0);
  pl__reload_on_time(&reload, pl__reload_due(&reload));
  assert_int_equal(last.code, PL_ESCRIPT);
  assert_int_equal(signal_of(1), SIGTERM);
  assert_int_equal(order_of(0), PL_ORDER_ABORT);
  assert_int_equal(commits, 0);
}

static void gives_workers_all_the_time_to_swap(void **state) {
  (void)state;
  begin_committing();
  assert_int_equal(pl__reload_due(&reload), 0);
  pl__reload_on_time(&reload, INT64_MAX);
  assert_int_equal(results, 0);
}

static void replaces_a_worker_that_cannot_swap(void **state) {
  (void)state;
  make_process(1);
  begin_committing();
  say(0, PL_NEWS_COMMITTED, 2, 0);
  say(1, PL_NEWS_COMMITTED, 2, PL_ESCRIPT);
  assert_int_equal(last.code, 0); /* the others serve it */
  assert_int_equal(signal_of(1), SIGTERM);
}

static void tells_one_that_it_replaces_nothing_more(void **state) {
  (void)state;
  make_process(1);
  begin_committing();
  say(0, PL_NEWS_COMMITTED, 2, 0);
  say(1, PL_NEWS_COMMITTED, 2, PL_ESCRIPT);
  say(0, PL_NEWS_RETIRED, 2, 0);
  assert_int_equal(order_of(1), 0);
}

/* It still serves the one before, whose place in the fabric the next takes. */
static void begins_no_other_before_one_that_it_replaces_is_gone(void **state) {
  (void)state;
  make_process(1);
  begin_committing();
  say(0, PL_NEWS_COMMITTED, 2, 0);
  say(1, PL_NEWS_COMMITTED, 2, PL_ESCRIPT);
  say(0, PL_NEWS_RETIRED, 2, 0);
  pl__reload_begin(&reload);
  assert_int_equal(trials, 1);
  die(1);
  assert_int_equal(trials, 2);
}

static void replaces_a_worker_that_cannot_catch_up(void **state) {
  (void)state;
  make_process(1);
  pl__reload_begin(&reload);
  workers[1].ready = false;
  trial_succeed();
  trial_die(0);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(0, PL_NEWS_COMMITTED, 2, 0);
  workers[1].ready = true;
  say(1, PL_NEWS_STARTED, 1, 0);
  assert_int_equal(order_of(1), PL_ORDER_PREPARE);
  say(1, PL_NEWS_PREPARED, 2, PL_ESCRIPT);
  assert_int_equal(signal_of(1), SIGTERM);
  assert_int_equal(order_of(1), 0); /* it only ends */
  assert_int_equal(results, 1);
}

/* It was slow: all others have left the old one behind. */
static void lets_no_other_begin_before_a_late_worker_has_caught_up(void **s) {
  (void)s;
  die(1);
  pl__reload_begin(&reload);
  trial_succeed();
  trial_die(0);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(0, PL_NEWS_COMMITTED, 2, 0);
  say(0, PL_NEWS_RETIRED, 2, 0);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
  start_again(1, 1);
  assert_int_equal(order_of(1), PL_ORDER_PREPARE);
  pl__reload_begin(&reload);
  assert_int_equal(trials, 1);
  say(1, PL_NEWS_PREPARED, 2, 0);
  say(1, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(trials, 1);
  say(1, PL_NEWS_RETIRED, 2, 0);
  assert_int_equal(trials, 2);
}

static void goes_on_when_one_dies_that_catches_up(void **state) {
  (void)state;
  die(1);
  pl__reload_begin(&reload);
  trial_succeed();
  trial_die(0);
  say(0, PL_NEWS_PREPARED, 2, 0);
  say(0, PL_NEWS_COMMITTED, 2, 0);
  start_again(1, 1);
  say(0, PL_NEWS_RETIRED, 2, 0);
  assert_int_equal(reload.state, PL_RELOAD_RETIRING);
  die(1);
  assert_int_equal(reload.state, PL_RELOAD_IDLE);
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

static void begins_again_after_a_rejection_if_asked_meanwhile(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  pl__reload_begin(&reload);
  trial_die(KILLED);
  assert_int_equal(results, 1);
  assert_int_equal(trials, 2);
  assert_int_equal(reload.wanted, 2);
}

static void tells_workers_to_forget_when_the_server_ends(void **state) {
  (void)state;
  begin_preparing();
  pl__reload_stop(&reload);
  assert_int_equal(last.code, PL_EFAIL);
  assert_int_equal(order_of(0), PL_ORDER_ABORT);
  assert_int_equal(order_of(1), PL_ORDER_ABORT);
  assert_int_equal(commits, 0);
}

static void finishes_what_is_committed_when_the_server_ends(void **state) {
  (void)state;
  begin_committing();
  pl__reload_begin(&reload);
  pl__reload_stop(&reload);
  assert_int_equal(results, 0);
  say(0, PL_NEWS_COMMITTED, 2, 0);
  say(1, PL_NEWS_COMMITTED, 2, 0);
  assert_int_equal(last.code, 0);
  retire_all(2);
  assert_int_equal(trials, 1); /* and begins no other */
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

static void hurries_what_retires_when_something_waits(void **state) {
  (void)state;
  reload.options.hurries = true;
  pl__reload_begin(&reload);
  commit_all(2);
  assert_int_equal(order_of(0), 0); /* nothing waits yet */
  pl__reload_begin(&reload);
  assert_int_equal(order_of(0), PL_ORDER_HURRY);
  assert_int_equal(order_of(1), PL_ORDER_HURRY);
  assert_int_equal(trials, 1);
  retire_all(2);
  assert_int_equal(trials, 2);
}

static void hurries_for_what_was_asked_for_before_they_retire(void **state) {
  (void)state;
  reload.options.hurries = true;
  pl__reload_begin(&reload);
  pl__reload_begin(&reload);
  commit_all(2);
  assert_int_equal(order_of(0), PL_ORDER_HURRY);
  assert_int_equal(order_of(1), PL_ORDER_HURRY);
}

static void hurries_nobody_but_in_development(void **state) {
  (void)state;
  pl__reload_begin(&reload);
  commit_all(2);
  pl__reload_begin(&reload);
  assert_int_equal(order_of(0), 0);
  assert_int_equal(order_of(1), 0);
}

static void gives_a_long_trial_up_for_what_waits(void **state) {
  int64_t due_ns;

  (void)state;
  reload.options.hurries = true;
  pl__reload_begin(&reload);
  due_ns = pl__reload_due(&reload);
  pl__reload_begin(&reload);
  assert_true(pl__reload_due(&reload) < due_ns); /* but not at once */
  assert_int_equal(kill(reload.trial.pid, 0), 0);
  due_ns = pl__reload_due(&reload);
  pl__reload_on_time(&reload, due_ns);
  assert_true(pl__reload_due(&reload) > due_ns);
  trial_die(KILLED);
  assert_int_equal(results, 0); /* this was no failure */
  assert_int_equal(trials, 2);
  assert_int_equal(reload.state, PL_RELOAD_TRYING);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(brings_all_workers_to_the_next_one),
      CASE(commits_only_when_the_last_one_has_loaded),
      CASE(ends_when_the_last_one_has_swapped),
      CASE(takes_the_load_timeout_of_what_is_served),
      CASE(is_rejected_by_the_trial),
      CASE(is_rejected_when_no_process_can_be_had),
      CASE(is_rejected_when_what_was_tried_cannot_be_read),
      CASE(hears_only_what_a_trial_says_of_its_own_generation),
      CASE(takes_the_first_word_of_a_trial),
      CASE(hears_a_trial_that_is_dead_when_it_is_asked),
      CASE(goes_on_when_a_trial_dies_that_has_succeeded),
      CASE(begins_no_other_while_a_rejected_trial_lives),
      CASE(kills_a_trial_that_takes_too_long),
      CASE(tries_the_same_number_again_after_it_was_rejected),
      CASE(tells_all_when_a_rejected_one_was_followed_by_a_good_one),
      CASE(tells_a_worker_that_starts_after_one_was_rejected),
      CASE(is_rejected_when_the_trial_dies),
      CASE(is_rejected_when_the_trial_takes_too_long),
      CASE(tells_the_others_when_one_cannot_load),
      CASE(goes_on_without_a_worker_that_dies),
      CASE(goes_on_without_one_that_dies_while_the_app_is_tried),
      CASE(goes_on_without_one_that_dies_when_it_has_loaded),
      CASE(goes_on_without_one_that_dies_while_it_swaps),
      CASE(goes_on_without_one_that_dies_while_it_ends_the_old),
      CASE(serves_the_next_one_when_all_workers_die_meanwhile),
      CASE(takes_no_word_of_one_that_was_told_to_forget),
      CASE(replaces_a_worker_that_blocks_while_it_loads),
      CASE(gives_workers_all_the_time_to_swap),
      CASE(replaces_a_worker_that_cannot_swap),
      CASE(tells_one_that_it_replaces_nothing_more),
      CASE(begins_no_other_before_one_that_it_replaces_is_gone),
      CASE(replaces_a_worker_that_cannot_catch_up),
      CASE(lets_no_other_begin_before_a_late_worker_has_caught_up),
      CASE(goes_on_when_one_dies_that_catches_up),
      CASE(brings_a_worker_up_that_has_started_meanwhile),
      CASE(waits_until_the_old_ones_are_gone_and_makes_several_one),
      CASE(begins_again_after_a_rejection_if_asked_meanwhile),
      CASE(tells_workers_to_forget_when_the_server_ends),
      CASE(finishes_what_is_committed_when_the_server_ends),
      CASE(gives_up_when_the_server_ends),
      CASE(hurries_what_retires_when_something_waits),
      CASE(hurries_for_what_was_asked_for_before_they_retire),
      CASE(hurries_nobody_but_in_development),
      CASE(gives_a_long_trial_up_for_what_waits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
