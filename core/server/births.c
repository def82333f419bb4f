/* server/births.c - the processes that a master makes: workers, control, and
 * those that try a generation out.
 */
#define _GNU_SOURCE /* prctl */
#include "server/realm.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "log/digits.h"
#include "server/control.h"
#include "server/layout.h"
#include "server/trial.h"
#include "server/worker.h"

/* A child begins as if freshly executed, but what terminals send to the whole
 * group, and what later versions send to masters, is not for it. */
static void signals_reset_in_child(void) {
  static const int ignored[] = {SIGINT,  SIGHUP,  SIGQUIT, SIGPIPE,
                                SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU};
  sigset_t none;

  signal(SIGTERM, SIG_DFL);
  signal(SIGCHLD, SIG_DFL);
  for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
    signal(ignored[i], SIG_IGN);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

struct pl_child *pl__control_of(struct master *m) {
  return &m->children[m->capacity];
}

int pl__child_index(struct master *m, const struct pl_child *c) {
  return (int)(c - m->children);
}

const char *pl__child_kind(struct master *m, const struct pl_child *c) {
  return c == pl__control_of(m) ? "control" : "worker";
}

enum child_kind { WORKER, CONTROL, TRIAL };

/* Closes in a child what is the master's (invariant 4). */
static void master_close_in_child(struct master *m, enum child_kind kind) {
  for (uint32_t i = 0; i <= m->capacity; i++)
    if (m->children[i].channel_fd >= 0)
      close(m->children[i].channel_fd);
  if (m->reload.trial.channel_fd >= 0)
    close(m->reload.trial.channel_fd);
  if (kind != WORKER)
    pl__listeners_forget(&m->listeners);
  if (kind != CONTROL)
    pl__listeners_forget(&m->admin);
  pl__lockfile_forget(&m->lock);
  pl__ops_forget(&m->desk.ops);
  pl__notify_forget(&m->notify);
  pl__dev_close(&m->dev);
  close(m->signal_fd);
  close(m->lifeline[1]);
  if (kind != CONTROL) {
    close(m->transit[0]);
    close(m->transit[1]);
  }
  if (m->upgrade.ready_fd >= 0)
    close(m->upgrade.ready_fd);
  if (m->inheritance.ready_fd >= 0)
    close(m->inheritance.ready_fd);
}

static int worker_run(struct master *m, uint32_t index, int channel_fd) {
  struct pl_worker_args args = {.index = index,
                                .config = m->config,
                                .fabric = &m->fabric,
                                .listen_fds =
                                    pl__listeners_of(&m->listeners, index),
                                .listen_count = m->listeners.address_count,
                                .listeners = &m->listeners,
                                .channel_fd = channel_fd,
                                .log_wake_fd = m->wake_fd};

  close(m->lifeline[0]);
  return m->options->worker_main(&args);
}

static int control_run(struct master *m, int channel_fd) {
  struct pl_control_args args = {
      .config = m->config,
      .fabric = &m->fabric,
      .worker_count = m->capacity,
      .channel_fd = channel_fd,
      .transit = {m->transit[0], m->transit[1]},
      .wake_fd = m->wake_fd,
      .lifeline_fd = m->lifeline[0],
      .admin_fd =
          m->admin.address_count ? *pl__listeners_of(&m->admin, 0) : -1};

  return pl__control_main(&args);
}

/* Which child, for what runs in it. */
struct birth {
  struct master *m;
  uint32_t index;
  pid_t master;
};

/* What happens in the child after the fork; its exit code. */
static int child_run(void *arg, int channel_fd) {
  struct birth *birth = arg;
  struct master *m = birth->m;
  bool is_control = birth->index == m->capacity;

  signals_reset_in_child();
  if (!is_control) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != birth->master) /* it died before we could ask */
      return 1;
  }
  master_close_in_child(m, is_control ? CONTROL : WORKER);
  return is_control ? control_run(m, channel_fd)
                    : worker_run(m, birth->index, channel_fd);
}

int pl__birth(struct master *m, struct pl_child *c) {
  struct birth birth = {
      .m = m, .index = (uint32_t)pl__child_index(m, c), .master = getpid()};
  int failed;

  if (c != pl__control_of(m)) {
    pl__layout_renew(&m->fabric, birth.index);
    pl__tally_add(&m->tally, PL_TALLY_STARTS, 1);
  }
  failed = pl__child_start(c, child_run, &birth);
  if (!failed && c != pl__control_of(m))
    pl__duty_note(m, PL_EVENT_PROCESS_STARTED, c, 0);
  return failed;
}

/* What is served instead of an app that does not load at all: a page that says
 * why. */
static int placeholder_config(struct master *m, struct pl_config *out) {
  const char *why = m->reload.result.text;
  char *settings = pl__alloc(strlen(why) * PL_DIGITS_JSON_FACTOR + 64), *at;

  if (!settings)
    return PL_ENOMEM;
  *out = *m->config;
  memcpy(settings, "{\"error\":\"", 10);
  at = pl__put_json(settings + 10, pl__slice_text(why));
  memcpy(at, "\"}", 3);
  out->settings_json = settings;
  out->settings_bytes = (uint32_t)(at + 2 - settings);
  snprintf(out->app_file, sizeof out->app_file, "%.4000s/perilune/dev/%s",
           m->dev.own_folder, "placeholder.lua");
  snprintf(out->app_folder, sizeof out->app_folder, "%.4000s/perilune/dev",
           m->dev.own_folder);
  return 0;
}

static int trial_run(void *arg, int channel_fd) {
  struct birth *birth = arg;
  struct master *m = birth->m;
  static struct pl_config other;
  struct pl_trial_args args = {.config = m->config,
                               .input = m->reload.committed ? m->options->input
                                                            : NULL,
                               .fabric = &m->fabric,
                               .generation = birth->index,
                               .channel_fd = channel_fd,
                               .log_wake_fd = m->wake_fd};

  signals_reset_in_child();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != birth->master)
    return 1;
  master_close_in_child(m, TRIAL);
  close(m->lifeline[0]);
  if (m->is_placeholder && placeholder_config(m, &other))
    return 1;
  if (m->is_placeholder)
    args.config = &other;
  return m->options->trial_main(&args);
}

int pl__birth_trial(void *arg, struct pl_child *trial, uint32_t generation) {
  struct birth birth = {.m = arg, .index = generation, .master = getpid()};

  return pl__child_start(trial, trial_run, &birth);
}

void pl__workers_signal(struct master *m, int number) {
  for (uint32_t i = 0; i < m->capacity; i++)
    if (m->children[i].pid > 0)
      kill(m->children[i].pid, number);
}

uint32_t pl__workers_alive(struct master *m) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < m->capacity; i++)
    count += m->children[i].pid > 0;
  return count;
}
