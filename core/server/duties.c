/* server/duties.c - what the master is told to do while it serves, by signals
 * and by the control socket, and whom it tells.
 */
#include "server/realm.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "perilune.h"
#include "server/archive.h"
#include "server/layout.h"
#include "server/wish.h"

#define UPGRADE_GRACE_S 20.0 /* beyond twice vm.load_timeout */
#define DRAIN_NOTICE_S 5.0   /* more than the drain itself, for systemd */
#define WHY_BYTES 160u       /* of a sentence that says why not */
#define RECORD_SAY_NS (60 * (int64_t)PL_NS_PER_S) /* of one cause */
#define RECORD_PAUSE_NS                                                        \
  (10 * (int64_t)PL_NS_PER_S) /* of crashes and the like */

/* --- reload and drain ---------------------------------------------------------- */

static bool reload(void *arg) {
  struct master *m = arg;

  if (m->state != SERVING || m->upgrade.is_replaced)
    return false;
  pl__notify_reloading(&m->notify);
  pl__duty_note_reload(m, PL_EVENT_RELOAD_BEGUN, m->reload.committed);
  pl__reload_begin(&m->reload);
  return true;
}

static bool drain(void *arg) {
  struct master *m = arg;

  switch (m->state) {
  case SERVING:
  case PRE_DRAIN:
    m->stays = true;
    pl__master_drain(m);
    return true;
  case DRAINING:
    return true;
  case DRAINED:
    pl__desk_on_drained(&m->desk, m->cut_count);
    return true;
  default:
    return false;
  }
}

static bool stop(void *arg, bool now) {
  struct master *m = arg;
  bool was_stopping = m->state == PRE_DRAIN ||
                      (m->state == DRAINING && !m->stays) ||
                      m->state == KILLING || m->state == ENDING;

  if (now && m->state != KILLING && m->state != ENDING && m->state != DRAINED)
    pl__master_stop_by_force(m, "stopped at once, as it was told to");
  else if (!was_stopping)
    pl__master_stop(m);
  return !was_stopping;
}

/* --- the flight recorder ---------------------------------------------------------- */

void pl__duty_note(struct master *m, enum pl_event_process step,
                   const struct pl_child *c, unsigned code) {
  if (pl__recorder_is_on(&m->recorder))
    pl__recorder_seldom(&m->recorder, pl__clock_monotonic_s(),
                        (uint64_t)pl__child_index(m, c), (uint64_t)c->pid,
                        pl__event_word(PL_EVENT_PROCESS, step, code, 0, 0));
}

void pl__duty_note_reload(struct master *m, enum pl_event_reload step,
                          uint32_t generation) {
  if (pl__recorder_is_on(&m->recorder))
    pl__recorder_seldom(&m->recorder, pl__clock_monotonic_s(), 0, generation,
                        pl__event_word(PL_EVENT_RELOAD, step, 0, 0, 0));
}

bool pl__duty_record(struct master *m, enum pl_record_reason reason,
                     const char *detail, int seconds, uint32_t asker) {
  static const char *const reasons[PL_RECORD_REASONS] = {
      [PL_RECORD_FOR_CRASH] = "crash",
      [PL_RECORD_FOR_STUCK] = "stuck",
      [PL_RECORD_FOR_SIGNAL] = "signal",
      [PL_RECORD_FOR_CLIENT] = "asked",
      [PL_RECORD_FOR_ACTION] = "action"};
  const struct pl_child *control = pl__control_of(m);
  char text[PL_ARCHIVE_WHY_BYTES];

  if (!m->recorder.events || control->pid <= 0 || !control->ready ||
      control->channel_fd < 0)
    return false;
  snprintf(text, sizeof text, "%s%s%s", reasons[reason], detail ? "-" : "",
           detail ? detail : "");
  return pl__channel_say(control->channel_fd, PL_ORDER_RECORD, asker, seconds,
                         text) == 0;
}

/* One that dies again and again is not worth a record each time. */
void pl__duty_record_worker(struct master *m, enum pl_record_reason reason,
                            struct pl_child *c) {
  int64_t now = pl__clock_monotonic_ns();
  char text[16];

  if (c->recorded_ns && now - c->recorded_ns < RECORD_PAUSE_NS)
    return;
  c->recorded_ns = now;
  snprintf(text, sizeof text, "%d", pl__child_index(m, c));
  pl__duty_record(m, reason, text, 0, 0);
}

static bool record(void *arg, int seconds, uint32_t asker) {
  return pl__duty_record(arg, PL_RECORD_FOR_CLIENT, NULL, seconds, asker);
}

/* Tells a rule what has become of its wish. */
static void answer(struct master *m, uint32_t number, int code,
                   const char *text) {
  const struct pl_child *control = pl__control_of(m);

  if (control->pid > 0 && control->channel_fd >= 0)
    pl__channel_say(control->channel_fd, PL_ORDER_GRANTED, number, code, text);
}

/* A cause is logged once, and again after a while, or when a record could be
 * written in between; the metric counts them all. */
static bool is_to_be_logged(struct master *m, int code) {
  int64_t now = pl__clock_monotonic_ns();
  bool is_known =
      code && code == m->record_code && now - m->record_said_ns < RECORD_SAY_NS;

  m->record_code = code;
  if (!is_known)
    m->record_said_ns = now;
  return !is_known;
}

static void on_recorded(struct master *m, const struct pl_message *news) {
  bool logs = is_to_be_logged(m, news->code);

  if (news->code && logs)
    pl__master_log(m, PL_LEVEL_WARN, "the flight recorder was not written",
                   "reason", news->text);
  else if (!news->code)
    pl__master_log(m, PL_LEVEL_INFO, "the flight recorder was written", "file",
                   news->text);
  if (news->generation & PL_WISH_ASKER)
    answer(m, news->generation & ~PL_WISH_ASKER, news->code, news->text);
  else if (news->generation)
    pl__desk_on_recorded(&m->desk, news->generation, news->code, news->text);
}

/* --- the number of workers -------------------------------------------------------- */

static uint32_t wanted_count(const struct master *m) {
  uint32_t count = 0;

  for (uint32_t i = 0; i < m->capacity; i++)
    count += !m->children[i].unwanted;
  return count;
}

static void tell_count(struct master *m, const char *what) {
  char text[16];

  snprintf(text, sizeof text, "%u", wanted_count(m));
  pl__master_log(m, PL_LEVEL_INFO, what, "workers", text);
  pl__duty_notify_state(m);
}

/* A place where none is wanted and none is left; capacity: there is none. */
static uint32_t place_find(const struct master *m) {
  uint32_t i = 0;

  while (i < m->capacity &&
         (!m->children[i].unwanted || m->children[i].pid > 0))
    i++;
  return i;
}

static int why_full(const struct master *m, char *why) {
  if (wanted_count(m) < m->capacity)
    snprintf(why, WHY_BYTES, "a worker that was taken away has not ended yet");
  else
    snprintf(why, WHY_BYTES,
             "there are %u workers, and there is room for %u: "
             "see workers_max",
             wanted_count(m), m->capacity);
  return PL_EFULL;
}

/* Returns 0, or with WHY_BYTES in why PL_EFULL or what listening and forking
 * return. */
static int worker_add(struct master *m, char *why) {
  uint32_t i = place_find(m);
  struct pl_child *c = &m->children[i];
  int failed;

  if (i == m->capacity)
    return why_full(m, why);
  c->unwanted = false;
  failed = pl__listeners_listen(&m->listeners, i);
  failed = failed ? failed : pl__birth(m, c);
  if (failed) {
    c->unwanted = true;
    snprintf(why, WHY_BYTES, "it cannot be started: %s", pl_strerror(failed));
    return failed;
  }
  c->listens = true;
  tell_count(m, "a worker more");
  return 0;
}

static void on_ttin(struct master *m) {
  char why[WHY_BYTES];

  if (worker_add(m, why))
    pl__master_log(m, PL_LEVEL_WARN, "there can be no more workers", "reason",
                   why);
}

/* The last one goes; the others accept from its sockets from then on. */
static void worker_remove(struct master *m) {
  uint32_t i = m->capacity;

  while (i > 0 && m->children[i - 1].unwanted)
    i--;
  if (i == 0 || wanted_count(m) < 2) {
    pl__master_log(m, PL_LEVEL_WARN, "the last worker stays", NULL, NULL);
    return;
  }
  m->children[i - 1].unwanted = true;
  m->children[i - 1].due_ns = 0;
  if (m->children[i - 1].pid > 0)
    kill(m->children[i - 1].pid, SIGTERM);
  tell_count(m, "a worker fewer");
}

/* --- what actions wish ------------------------------------------------------------- */

/* Returns how many. */
static uint32_t tell_workers(struct master *m, enum pl_message_kind order) {
  uint32_t told = 0;

  for (uint32_t i = 0; i < m->capacity; i++)
    if (m->children[i].pid > 0 && m->children[i].ready &&
        m->children[i].channel_fd >= 0)
      told += pl__channel_say(m->children[i].channel_fd, order,
                              m->reload.committed, 0, NULL) == 0;
  return told;
}

static void set_level(struct master *m, uint32_t level) {
  atomic_store_explicit(&m->reload.server->log_level, level,
                        memory_order_relaxed);
  tell_workers(m, PL_ORDER_LOOK);
}

/* Each grants a wish, and says in `text` (WHY_BYTES) what was done, or why
 * nothing was: 0 or a PL_E*. */

static int wish_worker(struct master *m, const struct pl_message *wish,
                       char *text) {
  int failed;

  if (m->state != SERVING || m->upgrade.is_replaced) {
    snprintf(text, WHY_BYTES, "the server is about to end");
    return PL_EGONE;
  }
  if ((int64_t)wanted_count(m) >= wish->code) {
    snprintf(text, WHY_BYTES, "there are %u workers, and there may be %d",
             wanted_count(m), wish->code);
    return PL_EFULL;
  }
  failed = worker_add(m, text);
  if (!failed)
    snprintf(text, WHY_BYTES, "%u workers", wanted_count(m));
  return failed;
}

static int wish_collect(struct master *m, char *text) {
  uint32_t told = tell_workers(m, PL_ORDER_COLLECT);

  snprintf(text, WHY_BYTES, told ? "%u workers" : "no worker listens", told);
  return told ? 0 : PL_EGONE;
}

static int wish_level(struct master *m, const struct pl_message *wish,
                      char *text) {
  int level = pl__wish_level(wish->text);

  if (level < 0 || wish->code < 1 || wish->code > PL_WISH_SECONDS_MAX) {
    snprintf(text, WHY_BYTES, "%.16s for %d s is no level for a time",
             wish->text, wish->code);
    return PL_EINVAL;
  }
  m->level_due_ns =
      pl__clock_monotonic_ns() + wish->code * (int64_t)PL_NS_PER_S;
  set_level(m, (uint32_t)level);
  snprintf(text, WHY_BYTES, "%.16s for %d s", wish->text, wish->code);
  return 0;
}

/* Answered by on_recorded, unless it does not even begin. */
static void wish_record(struct master *m, const struct pl_message *wish,
                        uint32_t number) {
  if (!pl__duty_record(m, PL_RECORD_FOR_ACTION, wish->text, 0,
                       PL_WISH_ASKER | number))
    answer(m, number, PL_EGONE, "nothing is recorded");
}

void pl__duty_on_time(struct master *m, int64_t now_ns) {
  if (!m->level_due_ns || m->level_due_ns > now_ns)
    return;
  m->level_due_ns = 0;
  set_level(m, m->config->log_level);
}

static void grant(struct master *m, const struct pl_message *wish) {
  uint32_t number = pl__wish_number(wish->generation);
  char text[WHY_BYTES] = "there is no such wish";
  int code = PL_EINVAL;

  switch (pl__wish_which(wish->generation)) {
  case PL_WISH_WORKER:
    code = wish_worker(m, wish, text);
    break;
  case PL_WISH_COLLECT:
    code = wish_collect(m, text);
    break;
  case PL_WISH_LEVEL:
    code = wish_level(m, wish, text);
    break;
  case PL_WISH_RECORD:
    wish_record(m, wish, number);
    return;
  }
  answer(m, number, code, text);
}

void pl__duty_on_control(struct master *m, const struct pl_message *news) {
  if (news->kind == PL_NEWS_RECORDED)
    on_recorded(m, news);
  else if (news->kind == PL_NEWS_WISH)
    grant(m, news);
}

/* --- another program ---------------------------------------------------------------- */

static void tell_upgrade_failed(struct master *m) {
  pl__master_log(m, PL_LEVEL_ERROR, "the program was not replaced", "reason",
                 m->upgrade.error);
  pl__master_say(
      m, "perilune: the program was not replaced, this one serves on: %s",
      m->upgrade.error);
  pl__duty_notify_state(m);
}

static void upgrade(struct master *m) {
  bool listening[PL_LIMIT_WORKER_COUNT * 2];
  struct pl_upgrade_handed handed = {.serving = &m->listeners,
                                     .listening = listening,
                                     .admin = &m->admin,
                                     .lock_fd = m->lock.fd};

  for (uint32_t i = 0; i < m->capacity; i++)
    listening[i] = m->children[i].listens;
  if (pl__upgrade_begin(&m->upgrade, &handed,
                        2 * m->config->vm_load_timeout_s + UPGRADE_GRACE_S))
    tell_upgrade_failed(m);
  else
    pl__master_log(m, PL_LEVEL_INFO, "replacing the program", "path",
                   m->upgrade.program);
}

void pl__duty_on_upgrade(struct master *m, int64_t now_ns) {
  char pid[24];

  if (pl__upgrade_on_time(&m->upgrade, now_ns))
    pl__master_log(m, PL_LEVEL_ERROR, "the new program takes too long", NULL,
                   NULL);
  if (!pl__upgrade_hear(&m->upgrade) ||
      (m->state != SERVING && m->state != PRE_DRAIN))
    return;
  snprintf(pid, sizeof pid, "%ld", (long)m->upgrade.pid);
  pl__notify_say(&m->notify, "MAINPID=%s", pid);
  pl__master_log(m, PL_LEVEL_INFO, "replaced", "by_pid", pid);
  pl__master_say(m, "perilune: replaced by process %s, which serves", pid);
  pl__master_drain(m);
}

void pl__duty_on_upgrade_death(struct master *m, int status) {
  bool was_replaced = m->upgrade.is_replaced;

  pl__upgrade_on_death(&m->upgrade, status);
  if (!was_replaced && m->state == SERVING)
    tell_upgrade_failed(m);
}

void pl__duty_take_over(struct master *m) {
  int *fd = &m->inheritance.ready_fd;

  if (*fd < 0)
    return;
  pl__lockfile_sign(&m->lock);
  if (write(*fd, "r", 1) != 1)
    pl__master_log(m, PL_LEVEL_WARN, "the server before this one is gone", NULL,
                   NULL);
  close(*fd);
  *fd = -1;
}

/* --- signals -------------------------------------------------------------------------- */

void pl__duty_on_signal(struct master *m, int number, int code) {
  bool serves = m->state == SERVING && !m->upgrade.is_replaced;

  if (number == SIGUSR1 && pl__control_of(m)->pid > 0 &&
      pl__control_of(m)->ready)
    kill(pl__control_of(m)->pid, SIGUSR1);
  if (number == SIGHUP && code == SI_KERNEL) /* the terminal was closed */
    pl__master_stop(m);
  else if (number == SIGHUP)
    reload(m);
  else if (number == SIGQUIT)
    pl__duty_record(m, PL_RECORD_FOR_SIGNAL, NULL, 0, 0);
  else if (number == SIGTTIN && serves)
    on_ttin(m);
  else if (number == SIGTTOU && serves)
    worker_remove(m);
  else if (number == SIGUSR2 && serves)
    upgrade(m);
}

/* --- the control socket ------------------------------------------------------------- */

static const char *state_name(const struct master *m) {
  static const char *const names[] = {
      [STARTING] = "starting", [SERVING] = "serving", [PRE_DRAIN] = "stopping",
      [DRAINING] = "draining", [KILLING] = "ending",  [DRAINED] = "drained",
      [ENDING] = "ending"};

  return names[m->state];
}

static const char *worker_state(const struct pl_child *c) {
  if (c->pid <= 0)
    return c->due_ns ? "waits to be started" : "ended";
  if (c->stuck)
    return "stuck";
  if (!c->ready)
    return "starting";
  if (c->silent)
    return "silent";
  return c->unwanted ? "draining" : "serving";
}

static void stand_worker(const struct pl_child *c,
                         struct pl_standing_worker *out) {
  *out = (struct pl_standing_worker){.pid = c->pid,
                                     .generation = c->generation,
                                     .restarts = c->restarts,
                                     .is_shown = !c->unwanted || c->pid > 0,
                                     .ready_ns = c->ready_ns};
  snprintf(out->state, sizeof out->state, "%s", worker_state(c));
}

/* Cleared first: what lies between fields is compared as well. */
static void stand(const struct master *m, struct pl_standing_facts *f) {
  memset(f, 0, sizeof *f);
  snprintf(f->name, sizeof f->name, "%s", m->config->name);
  snprintf(f->app, sizeof f->app, "%s", m->config->app_file);
  snprintf(f->state, sizeof f->state, "%s", state_name(m));
  f->pid = getpid();
  f->is_upgrading = m->upgrade.pid > 0;
  f->is_reloading = pl__reload_is_running(&m->reload);
  f->has_admin = pl__is_owner(m);
  f->started_ns = m->started_ns;
  f->generation = m->reload.committed;
  f->committed = f->generation ? f->generation - 1 : 0; /* one each */
  f->rejected = m->rejected_count;
  f->crashes = m->crash_count;
  f->last = m->reload.result;
  f->address_count = m->listeners.address_count;
  for (uint32_t i = 0; i < f->address_count; i++)
    pl__address_format(&m->listeners.addresses[i], f->addresses[i],
                       sizeof f->addresses[i]);
  if (m->admin.address_count)
    pl__address_format(&m->admin.addresses[0], f->admin, sizeof f->admin);
  f->worker_count = m->capacity;
  for (uint32_t i = 0; i < m->capacity; i++)
    stand_worker(&m->children[i], &f->workers[i]);
}

void pl__duty_stand(struct master *m) {
  stand(m, &m->facts);
  pl__standing_write(m->standing, &m->facts);
}

static void look(void *arg, struct pl_overview *out) {
  struct master *m = arg;

  pl__duty_stand(m);
  pl__overview_take(out, &m->facts, &m->fabric, &m->trends);
}

static bool is_reloading(void *arg) {
  struct master *m = arg;

  return pl__reload_is_running(&m->reload);
}

void pl__duty_open_desk(struct master *m) {
  struct pl_desk_host host = {.arg = m,
                              .look = look,
                              .is_reloading = is_reloading,
                              .fabric = &m->fabric,
                              .reload = reload,
                              .drain = drain,
                              .stop = stop,
                              .record = record};
  char path[PL_OPS_PATH_BYTES], error[PL_OPS_ERROR_BYTES];

  snprintf(error, sizeof error, "the path beside %.150s is too long",
           m->lock.path);
  if (!pl__ops_place(m->lock.path, path) ||
      pl__desk_open(&m->desk, path, &host, error))
    pl__master_log(m, PL_LEVEL_WARN, "there is no control socket", "reason",
                   error);
}

/* --- systemd -------------------------------------------------------------------------- */

static void say_serving(struct master *m) {
  const struct pl_reload_result *r = &m->reload.result;

  pl__notify_say(&m->notify, "READY=1\nSTATUS=%s: generation %u, %u worker%s%s",
                 m->config->name, m->reload.committed, wanted_count(m),
                 wanted_count(m) == 1 ? "" : "s",
                 r->code ? "; the last reload was rejected" : "");
}

void pl__duty_notify_state(struct master *m) {
  double seconds = m->config->timeout_pre_drain_s + m->config->timeout_drain_s;

  if (m->upgrade.is_replaced) /* the new one speaks now */
    return;
  switch (m->state) {
  case STARTING:
    break;
  case SERVING:
    say_serving(m);
    break;
  case DRAINED:
    pl__notify_say(&m->notify, "STATUS=drained");
    break;
  case PRE_DRAIN:
  case DRAINING:
    if (!m->stays)
      pl__notify_say(&m->notify, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%.0f",
                     (seconds + DRAIN_NOTICE_S) * 1e6);
    pl__notify_say(&m->notify, "STATUS=%s, %u requests", state_name(m),
                   pl__watch_requests(&m->watch));
    break;
  default:
    pl__notify_say(&m->notify, "STOPPING=1");
  }
}

/* A service lives while every worker's loop turns: one that stands still is the
 * master's to replace, and only if it could not, systemd's. */
static bool is_alive(const struct master *m) {
  for (uint32_t i = 0; i < m->capacity; i++) {
    const struct pl_child *c = &m->children[i];
    if (!c->unwanted && c->ready && (c->silent || c->stuck))
      return false;
  }
  return true;
}

void pl__duty_notify(struct master *m, int64_t now_ns) {
  pl__notify_watchdog(&m->notify, is_alive(m), now_ns);
}
