/* server/master.c - the life of a server's processes.
 *
 *        the app loads,
 *          all ready            TERM, INT         pre_drain over
 * STARTING ---------> SERVING ----------> PRE_DRAIN ------------> DRAINING
 *    |                                                               |
 *    | one fails, TERM, INT                 all workers gone, or     |
 *    |                                      timeouts.drain over:     |
 *    +---------------------> KILLING <------------- KILL ------------+
 *                               | all workers gone
 *                               v
 *                            ENDING --- control gone ---> the end
 *
 *  TERM or INT a second time leads from PRE_DRAIN and DRAINING to KILLING.  Told
 *  to drain and stay, it goes from DRAINING to DRAINED, not to ENDING; replaced
 *  by another program, it drains with its sockets left open to that.
 *
 *  state      a dead worker is   sockets   may last
 *  STARTING   a failure          open      vm.load_timeout, twice
 *  SERVING    replaced           open      for ever
 *  PRE_DRAIN  replaced           open      timeouts.pre_drain
 *  DRAINING   forgotten          closed    timeouts.drain and DRAIN_GRACE_MS
 *  KILLING    forgotten          closed    as long as the kernel takes
 *  DRAINED    -                  closed    until it is stopped
 *  ENDING     -                  closed    CONTROL_END_MS, then it is killed
 *
 * Invariants:
 *  (1) every child is reaped before master_run returns;
 *  (2) control is started first and ended last: it writes what the others had
 *      to say;
 *  (3) a child that outlives the master cannot be: workers are killed by the
 *      kernel (PR_SET_PDEATHSIG), control sees the end of the lifeline;
 *  (4) no descriptor of the master's own (signals, lock, lifeline's end, other
 *      children's pipes) is left open in a child; sockets are in workers, all
 *      of them, so that any can accept for one that does not.
 */
#define _GNU_SOURCE /* pipe2, strsignal */
#include "server/master.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/metrics.h"
#include "perilune.h"
#include "server/control.h"
#include "server/error.h"
#include "server/layout.h"
#include "server/realm.h"

#define DRAIN_GRACE_MS 1000 /* workers cut requests themselves; then we do */
#define CONTROL_END_MS (PL_CONTROL_END_MS + 1000)
#define RETRY_MS 100 /* when there is no memory to wait with */
#define MESSAGE_BYTES 4096

/* ---- telling ------------------------------------------------------------- */

void pl__master_say(struct master *m, const char *format, ...) {
  char text[MESSAGE_BYTES];
  va_list args;
  size_t bytes;

  va_start(args, format);
  vsnprintf(text, sizeof(text) - 1, format, args);
  va_end(args);
  bytes = strlen(text);
  text[bytes] = '\n';
  m->options->on_message(m->options->arg, text, bytes + 1);
}

/* One record with at most one field; a `value` of NULL leaves it out. */
void pl__master_log(struct master *m, enum pl_level level, const char *message,
                    const char *key, const char *value) {
  struct pl_record head = {.level = (uint8_t)level,
                           .worker = PL_RECORD_MASTER,
                           .route = PL_RECORD_NO_ROUTE};

  if ((uint32_t)level < m->config->log_level)
    return;
  pl__record_with(&m->log, &head, message, key, value);
  pl__ring_wake(&m->log);
}

/* ---- signals ------------------------------------------------------------- */

/* All but TERM and INT are taken so that they do not end us. */
static const int TAKEN[] = {SIGTERM, SIGINT,  SIGCHLD, SIGHUP, SIGQUIT,
                            SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU};
#define TAKEN_COUNT (sizeof(TAKEN) / sizeof(TAKEN[0]))

/* A message to a terminal that was closed, or a log or a fabric past a limit of
 * file sizes, must not end us: the calls fail, and that is handled. Children
 * inherit it. */
static void signals_ignore(struct master *m) {
  struct sigaction ignore = {.sa_handler = SIG_IGN};

  sigaction(SIGPIPE, &ignore, &m->caller_pipe);
  sigaction(SIGXFSZ, &ignore, &m->caller_xfsz);
}

static void signals_notice(struct master *m) {
  sigaction(SIGPIPE, &m->caller_pipe, NULL);
  sigaction(SIGXFSZ, &m->caller_xfsz, NULL);
}

static int signals_open(struct master *m) {
  sigset_t set;

  sigemptyset(&set);
  for (size_t i = 0; i < TAKEN_COUNT; i++)
    sigaddset(&set, TAKEN[i]);
  if (sigprocmask(SIG_BLOCK, &set, &m->caller_mask))
    return -errno;
  m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (m->signal_fd < 0) {
    int code = errno;
    sigprocmask(SIG_SETMASK, &m->caller_mask, NULL);
    return -code;
  }
  return 0;
}

static void signals_close(struct master *m) {
  close(m->signal_fd);
  sigprocmask(SIG_SETMASK, &m->caller_mask, NULL);
}

static bool children_ready(struct master *m) {
  for (uint32_t i = 0; i <= m->capacity; i++)
    if (!m->children[i].ready && !m->children[i].unwanted)
      return false;
  return true;
}

/* ---- changes of state ---------------------------------------------------- */

static int64_t in_seconds(double seconds) {
  return pl__clock_monotonic_ns() + (int64_t)(seconds * PL_NS_PER_S);
}

static int64_t in_ms(int64_t ms) {
  return pl__clock_monotonic_ns() + ms * PL_NS_PER_MS;
}

/* Control, or one that is started for it, writes what is left and ends. It can
 * take TERM once it is ready. */
static void ending_enter(struct master *m) {
  struct pl_child *control = pl__control_of(m);

  m->state = ENDING;
  m->due_ns = in_ms(CONTROL_END_MS);
  pl__master_log(m, PL_LEVEL_INFO, "stopped", NULL, NULL);
  pl__desk_on_drained(&m->desk, m->cut_count);
  if (control->pid > 0 && control->ready)
    kill(control->pid, SIGTERM);
  else if (control->pid <= 0)
    control->due_ns = control->failed ? 0 : pl__clock_monotonic_ns();
}

/* After a drain, when it is to stay. */
static void drained_enter(struct master *m) {
  m->state = DRAINED;
  m->due_ns = 0;
  pl__master_log(m, PL_LEVEL_INFO, "drained", NULL, NULL);
  pl__desk_on_drained(&m->desk, m->cut_count);
  pl__duty_notify_state(m);
}

/* Connections are refused from here on, or taken by who has replaced us, or
 * whom we do not replace after all. */
static void sockets_leave(struct master *m) {
  if (pl__is_owner(m))
    pl__listeners_stop(&m->listeners);
  else
    pl__listeners_forget(&m->listeners);
}

static void workers_forget(struct master *m) {
  for (uint32_t i = 0; i < m->capacity; i++)
    m->children[i].due_ns = 0;
}

static void killing_enter(struct master *m) {
  m->state = KILLING;
  pl__upgrade_cancel(&m->upgrade);
  pl__reload_stop(&m->reload);
  m->due_ns = 0;
  sockets_leave(m);
  workers_forget(m);
  pl__workers_signal(m, SIGKILL);
}

static void draining_enter(struct master *m) {
  m->state = DRAINING;
  pl__upgrade_cancel(&m->upgrade);
  pl__reload_stop(&m->reload);
  m->due_ns = in_seconds(m->config->timeout_drain_s) +
              (int64_t)DRAIN_GRACE_MS * PL_NS_PER_MS;
  if (!m->upgrade.is_replaced)
    pl__watch_end(&m->watch);
  sockets_leave(m);
  workers_forget(m);
  pl__workers_signal(m, SIGTERM);
  pl__duty_notify_state(m);
}

void pl__master_drain(struct master *m) {
  pl__master_log(m, PL_LEVEL_INFO, "draining", NULL, NULL);
  draining_enter(m);
}

static void pre_drain_enter(struct master *m) {
  m->state = PRE_DRAIN;
  pl__upgrade_cancel(&m->upgrade);
  m->due_ns = in_seconds(m->config->timeout_pre_drain_s);
  pl__master_log(m, PL_LEVEL_INFO, "stopping", NULL, NULL);
  pl__master_say(m, "perilune: stopping; a second signal stops at once");
  pl__duty_notify_state(m);
  if (m->config->timeout_pre_drain_s == 0)
    draining_enter(m);
}

/* Gives up with an error, from STARTING. */
static void start_fail(struct master *m, int code, const char *text) {
  if (m->state == STARTING) {
    m->result =
        pl__error_set(m->error, code, text && *text ? "%s" : NULL, text);
    killing_enter(m);
  }
}

void pl__master_stop_by_force(struct master *m, const char *text) {
  m->result = pl__error_set(m->error, PL_EFAIL, "%s", text);
  m->stays = false;
  pl__master_log(m, PL_LEVEL_WARN, "stopped at once", NULL, NULL);
  killing_enter(m);
}

static void drain_cut(struct master *m) {
  char text[160], time[32];

  m->cut_count = pl__watch_requests(&m->watch);
  snprintf(time, sizeof(time), "%gs", m->config->timeout_drain_s);
  snprintf(text, sizeof(text),
           "the drain took longer than %s: %u workers with %u requests are "
           "stopped",
           time, pl__workers_alive(m), m->cut_count);
  pl__master_say(m, "perilune: %s", text);
  pl__master_log(m, PL_LEVEL_WARN, "drain cut", "reason", text);
  killing_enter(m);
}

static void state_on_time(struct master *m) {
  switch (m->state) {
  case PRE_DRAIN:
    draining_enter(m);
    return;
  case DRAINING:
    drain_cut(m);
    return;
  case ENDING:
    m->due_ns = pl__control_of(m)->due_ns = 0;
    if (pl__control_of(m)->pid > 0)
      kill(pl__control_of(m)->pid, SIGKILL);
    return;
  default:
    m->due_ns = 0;
  }
}

static void addresses_list(struct master *m, char *out, size_t bytes) {
  size_t used = 0;

  for (uint32_t i = 0; i < m->listeners.address_count && used < bytes; i++) {
    char one[PL_ADDRESS_TEXT_BYTES + 16];
    pl__address_format(&m->listeners.addresses[i], one, sizeof(one));
    used +=
        (size_t)snprintf(out + used, bytes - used, "%s%s", i ? ", " : "", one);
  }
}

static void serving_enter(struct master *m) {
  char addresses[MESSAGE_BYTES / 2], admin[160] = "";

  m->state = SERVING;
  pl__duty_take_over(m);
  pl__duty_open_desk(m);
  addresses_list(m, addresses, sizeof(addresses));
  if (m->admin.address_count) {
    size_t used =
        (size_t)snprintf(admin, sizeof(admin), "%s", ", admin plane on ");
    pl__address_format(&m->admin.addresses[0], admin + used,
                       sizeof(admin) - used);
  }
  pl__master_say(m, "perilune %s serving %s on %s (%u worker%s, pid %ld)%s",
                 pl_version(), m->config->name, addresses, m->config->workers,
                 m->config->workers == 1 ? "" : "s", (long)getpid(), admin);
  pl__master_log(m, PL_LEVEL_INFO, "serving", "addresses", addresses);
  pl__duty_notify_state(m);
}

/* ---- news ---------------------------------------------------------------- */

void pl__master_stop(struct master *m) {
  switch (m->state) {
  case STARTING:
    m->result =
        pl__error_set(m->error, PL_EFAIL, "stopped before it was ready");
    killing_enter(m);
    return;
  case SERVING:
    pre_drain_enter(m);
    return;
  case PRE_DRAIN:
  case DRAINING:
    if (m->upgrade.is_replaced && !m->is_told) { /* it ends by itself */
      m->is_told = true;
      return;
    }
    if (m->stays && m->state == DRAINING) { /* it was to stay drained */
      m->stays = false;
      return;
    }
    pl__master_stop_by_force(m, "stopped at once by a second signal");
    return;
  case DRAINED:
    ending_enter(m);
    return;
  default:
    return;
  }
}

static void on_started(struct master *m, struct pl_child *c,
                       const struct pl_message *message) {
  pl__watch_mark(&m->watch, m->state != STARTING);
  if (c->ready && m->state == ENDING)
    kill(c->pid, SIGTERM);
  if (c->failed && m->state == STARTING)
    start_fail(m, message->code, message->text);
  else if (c->failed)
    pl__master_log(m, PL_LEVEL_ERROR, "a process does not start", "reason",
                   message->text);
  else if (m->state == STARTING && children_ready(m))
    serving_enter(m);
}

static void on_child_messages(struct master *m, struct pl_child *c) {
  struct pl_message message;

  while (c->channel_fd >= 0 &&
         pl__child_hear(c, &message, pl__clock_monotonic_ns()) == 0) {
    if (message.kind == PL_NEWS_STARTED)
      on_started(m, c, &message);
    else if (c == pl__control_of(m))
      pl__duty_on_control(m, &message);
    if (c != pl__control_of(m))
      pl__reload_on_news(&m->reload, c, &message);
  }
}

static void workers_start(struct master *m) {
  for (uint32_t i = 0; i < m->config->workers && m->state == STARTING; i++)
    if (pl__birth(m, &m->children[i]))
      start_fail(m, PL_EFAIL, "cannot start a process: no memory, or too many");
}

/* The configuration of a generation that is committed. */
static void on_commit(void *arg, struct pl_config *config) {
  struct master *m = arg;

  pl__config_deinit(&m->owned);
  m->owned = *config;
  m->config = &m->owned;
  pl__watch_use(&m->watch, m->config, m->reload.committed);
  atomic_store_explicit(&m->reload.server->control_crashes, 0,
                        memory_order_relaxed);
}

static const struct pl_bundle *tried_last(struct master *m) {
  struct pl_bundle *bundle;

  return pl__layout_bundle(&m->fabric, m->reload.wanted, &bundle) ? NULL
                                                                  : bundle;
}

/* Under `perilune dev`. True: something else is tried now. */
static bool on_dev_end(struct master *m,
                       const struct pl_reload_result *result) {
  if (m->is_placeholder) { /* it serves, or nothing can */
    m->is_placeholder = false;
    atomic_store_explicit(&m->reload.server->reload_failed, 1,
                          memory_order_relaxed);
    return false;
  }
  if (pl__dev_on_end(&m->dev, result, tried_last(m)))
    pl__reload_begin(&m->reload);
  if (!result->code || m->state != STARTING || m->reload.is_wanted_again)
    return m->reload.is_wanted_again && m->state == STARTING && result->code;
  m->is_placeholder = true;
  pl__reload_begin(&m->reload);
  return true;
}

static void on_reload_end(void *arg, const struct pl_reload_result *result) {
  struct master *m = arg;

  m->rejected_count += result->code != 0;
  pl__duty_note_reload(
      m, result->code ? PL_EVENT_RELOAD_REJECTED : PL_EVENT_RELOAD_COMMITTED,
      result->generation);
  pl__desk_on_reload(&m->desk, result);
  if (m->state != STARTING)
    pl__tally_reload(&m->tally, result);
  pl__duty_notify_state(m);
  if (m->dev.is_on && on_dev_end(m, result))
    return;
  if (m->state != STARTING)
    return;
  if (result->code)
    start_fail(m, result->code, result->text);
  else
    workers_start(m);
}

static void death_describe(struct master *m, const struct pl_child *c,
                           int status, char *out, size_t bytes) {
  const char *kind = pl__child_kind(m, c);

  if (WIFSIGNALED(status))
    snprintf(out, bytes, "%s %d was ended by signal %d (%s)", kind,
             pl__child_index(m, c), WTERMSIG(status),
             strsignal(WTERMSIG(status)));
  else
    snprintf(out, bytes, "%s %d ended with code %d", kind,
             pl__child_index(m, c), WEXITSTATUS(status));
}

static void death_tell(struct master *m, struct pl_child *c, int status,
                       const char *text) {
  uint32_t index = (uint32_t)pl__child_index(m, c);
  bool is_worker = c != pl__control_of(m);

  if (is_worker && WIFSIGNALED(status) && m->state != KILLING)
    pl__watch_death(&m->watch, index, WTERMSIG(status));
  else if (is_worker && !WIFSIGNALED(status) &&
           (m->state == SERVING || m->state == PRE_DRAIN) && !c->unwanted &&
           pl__watch_exit(&m->watch, index, WEXITSTATUS(status)))
    return;
  else if ((m->state == SERVING || m->state == PRE_DRAIN) && !c->failed &&
           !c->unwanted)
    pl__master_log(m, PL_LEVEL_ERROR, "a process died", "reason", text);
}

/* Deaths that nobody wanted. */
static void death_count(struct master *m, const struct pl_child *c,
                        int status) {
  unsigned what = PL_TALLY_EXITED;

  if ((m->state != SERVING && m->state != PRE_DRAIN) || c->unwanted)
    return;
  if (c == pl__control_of(m))
    what = PL_TALLY_CONTROL_DEATHS;
  else if (c->stuck)
    what = PL_TALLY_STUCK;
  else if (WIFSIGNALED(status))
    what = WTERMSIG(status) == SIGKILL ? PL_TALLY_KILLED : PL_TALLY_CRASHED;
  pl__tally_add(&m->tally, what, 1);
}

/* Control runs Lua of the app's, its health checks.  Whether it may start again
 * although the server has not started yet: without them it will live. */
static bool control_crashed(struct master *m, const struct pl_child *c,
                            int status) {
  if (c != pl__control_of(m) || !WIFSIGNALED(status) ||
      WTERMSIG(status) == SIGKILL)
    return false;
  return atomic_fetch_add_explicit(&m->reload.server->control_crashes, 1,
                                   memory_order_relaxed) <
             PL_LAYOUT_CONTROL_CRASHES_MAX &&
         m->reload.committed;
}

/* What it was doing is written down, unless that was done before it was ended,
 * or it was meant to end. */
static void death_record(struct master *m, struct pl_child *c, int status) {
  bool is_killed = WIFSIGNALED(status);

  if (c == pl__control_of(m))
    return;
  pl__duty_note(m, is_killed ? PL_EVENT_PROCESS_KILLED : PL_EVENT_PROCESS_ENDED,
                c,
                (unsigned)(is_killed ? WTERMSIG(status) : WEXITSTATUS(status)));
  if (!is_killed || c->unwanted || c->stuck ||
      (m->state != SERVING && m->state != PRE_DRAIN))
    return;
  pl__duty_record_worker(m, PL_RECORD_FOR_CRASH, c);
}

/* What it has counted stays; its gauges are over. */
static void shard_leave(struct master *m, const struct pl_child *c) {
  uint32_t who = c == pl__control_of(m) ? PL_RECORD_CONTROL
                                        : (uint32_t)pl__child_index(m, c);
  struct pl_shard *shard;

  if (!pl__layout_shard(&m->fabric, who, &shard))
    pl__shard_leave(shard);
}

static void on_child_death(struct master *m, struct pl_child *c, int status) {
  bool may_return = control_crashed(m, c, status);
  char text[256];

  if (c->channel_fd >= 0)
    on_child_messages(m, c); /* it may have said why */
  if (c == pl__control_of(m))
    pl__desk_on_recorder_gone(&m->desk);
  m->crash_count += c != pl__control_of(m) && !c->unwanted &&
                    (m->state == SERVING || m->state == PRE_DRAIN);
  death_describe(m, c, status, text, sizeof(text));
  death_tell(m, c, status, text);
  death_count(m, c, status);
  death_record(m, c, status);
  shard_leave(m, c);
  pl__child_bury(c);
  switch (m->state) {
  case STARTING:
    if (may_return)
      pl__child_schedule(c, pl__clock_monotonic_ns());
    else
      start_fail(m, PL_EFAIL, text);
    break;
  case SERVING:
  case PRE_DRAIN:
    if (!c->unwanted)
      pl__child_schedule(c, pl__clock_monotonic_ns());
    break;
  default:
    /* There is more to write, if it has not ended by itself or by us. */
    if (c == pl__control_of(m) &&
        (m->state != ENDING || (WIFSIGNALED(status) && m->due_ns))) {
      c->deaths = 0; /* there is no time for long pauses any more */
      pl__child_schedule(c, pl__clock_monotonic_ns());
    }
  }
  pl__watch_mark(&m->watch, m->state != STARTING);
  pl__reload_on_death(&m->reload);
}

static void reap(struct master *m) {
  int status;
  pid_t pid;

  /* As the first process of a container we get everybody's children. */
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    if (pid == m->reload.trial.pid)
      pl__reload_on_trial_death(&m->reload, status);
    else if (pid == m->upgrade.pid)
      pl__duty_on_upgrade_death(m, status);
    for (uint32_t i = 0; i <= m->capacity; i++)
      if (m->children[i].pid == pid)
        on_child_death(m, &m->children[i], status);
  }
}

static void on_signals(struct master *m) {
  struct signalfd_siginfo info;

  while (read(m->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
      pl__master_stop(m);
    else
      pl__duty_on_signal(m, (int)info.ssi_signo, info.ssi_code);
  }
  /* Signals of one number melt into one: ask always. */
  reap(m);
}

/* ---- the loop ------------------------------------------------------------ */

static void workers_restart_due(struct master *m, int64_t now) {
  for (uint32_t i = 0; i <= m->capacity; i++) {
    struct pl_child *c = &m->children[i];
    if (c->due_ns && c->due_ns <= now && pl__birth(m, c)) {
      c->ready_ns = 0;
      pl__child_schedule(c, now); /* no process to be had: later */
    }
  }
}

static int64_t earlier(int64_t a, int64_t b) {
  return !a || (b && b < a) ? b : a;
}

static int wait_ms(struct master *m, int64_t now) {
  int64_t due = earlier(m->due_ns, pl__reload_due(&m->reload)), ms;

  due = earlier(due, pl__ops_due(&m->desk.ops));
  due = earlier(due, pl__notify_due(&m->notify));
  due = earlier(due, m->upgrade.due_ns);
  due = earlier(due, m->level_due_ns);
  due = earlier(due, pl__dev_due(&m->dev));

  for (uint32_t i = 0; i <= m->capacity; i++)
    due = earlier(due, m->children[i].due_ns);
  if (pl__workers_alive(m))
    due = earlier(due, pl__watch_due(&m->watch, now));
  if (!due)
    return -1;
  if (due <= now)
    return 0;
  ms = (due - now) / PL_NS_PER_MS + 1;
  return ms < 60000 ? (int)ms : 60000;
}

static bool is_over(struct master *m) {
  if ((m->state == KILLING || m->state == DRAINING) &&
      pl__workers_alive(m) == 0) {
    if (m->stays)
      drained_enter(m);
    else
      ending_enter(m);
  }
  return m->state == ENDING && pl__control_of(m)->pid <= 0 &&
         !pl__control_of(m)->due_ns && m->reload.trial.pid <= 0;
}

static void master_loop(struct master *m, struct pollfd *fds) {
  while (!is_over(m)) {
    int64_t now = pl__clock_monotonic_ns();
    nfds_t count = 1;

    if (m->due_ns && m->due_ns <= now) {
      state_on_time(m);
      continue;
    }
    workers_restart_due(m, now);
    pl__watch_look(&m->watch, m->state != STARTING, now);
    pl__reload_on_time(&m->reload, now);
    pl__duty_on_upgrade(m, now);
    pl__duty_on_time(m, now);
    pl__duty_notify(m, now);
    pl__duty_stand(m);
    if (pl__dev_turn(&m->dev, m->dev.is_on ? tried_last(m) : NULL, now) &&
        m->state == SERVING) {
      pl__dev_begin(&m->dev);
      pl__reload_begin(&m->reload);
    }
    fds[0] = (struct pollfd){.fd = m->signal_fd, .events = POLLIN};
    fds[count++] = /* -1 is passed over */
        (struct pollfd){.fd = m->reload.trial.channel_fd, .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = m->upgrade.ready_fd, .events = POLLIN};
    count += pl__ops_watch(&m->desk.ops, fds + count);
    if (m->dev.is_on) {
      fds[count++] = (struct pollfd){.fd = m->dev.watcher.fd, .events = POLLIN};
      count += pl__events_watch(&m->dev.events, fds + count);
    }
    for (uint32_t i = 0; i <= m->capacity; i++)
      fds[count++] =
          (struct pollfd){.fd = m->children[i].channel_fd, .events = POLLIN};
    if (poll(fds, count, wait_ms(m, now)) < 0 && errno != EINTR)
      poll(NULL, 0, RETRY_MS); /* out of memory: do not spin */
    pl__reload_on_trial(&m->reload);
    for (uint32_t i = 0; i <= m->capacity; i++)
      on_child_messages(m, &m->children[i]);
    on_signals(m);
    pl__ops_turn(&m->desk.ops, pl__clock_monotonic_ns());
  }
}

/* ---- beginning and end --------------------------------------------------- */

/* Each connection is a descriptor; the soft limit is there for programs that
 * use select, which we are not. */
static void descriptors_raise(void) {
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
      limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

static int reload_make(struct master *m) {
  struct pl_reload_options options = {.fabric = &m->fabric,
                                      .workers = m->children,
                                      .worker_count = m->capacity,
                                      .log = m->config->dev ? NULL : &m->log,
                                      .start_trial = pl__birth_trial,
                                      .on_commit = on_commit,
                                      .hurries = m->config->dev,
                                      .on_end = on_reload_end,
                                      .arg = m};

  return pl__reload_init(&m->reload, &options, m->config);
}

/* Control first: what is said while the app loads has to come out.  Workers
 * follow when it has been tried. */
static void children_start(struct master *m) {
  if (pl__birth(m, pl__control_of(m)))
    start_fail(m, PL_EFAIL, "cannot start a process: no memory, or too many");
  else
    pl__reload_begin(&m->reload);
}

static void master_init(struct master *m,
                        const struct pl_master_options *options,
                        struct pl_error *error) {
  *m = (struct master){.options = options,
                       .config = options->config,
                       .error = error,
                       .started_ns = pl__clock_realtime_ns(),
                       .desk = {.ops = {.fd = -1}}};
  pl__upgrade_init(&m->upgrade);
  pl__notify_open(&m->notify);
  pl__error_clear(error);
  descriptors_raise();
  signals_ignore(m);
}

static void on_silence(void *arg, uint32_t worker, bool is_stuck) {
  struct master *m = arg;

  pl__duty_note(m, is_stuck ? PL_EVENT_PROCESS_STUCK : PL_EVENT_PROCESS_SILENT,
                &m->children[worker], 0);
  if (is_stuck && m->config->actions_stuck)
    pl__duty_record_worker(m, PL_RECORD_FOR_STUCK, &m->children[worker]);
}

/* With everything made that a server needs. */
static int master_serve(struct master *m) {
  struct pollfd *fds = pl__alloc(
      (m->capacity + 5 + PL_OPS_FDS_MAX + PL_EVENTS_FDS_MAX) * sizeof(*fds));
  int status;

  if (!fds)
    return pl__error_set(m->error, PL_ENOMEM, NULL);
  m->watch.on_silence = on_silence;
  m->watch.arg = m;
  status = reload_make(m);
  status = status ? status : signals_open(m);
  if (status) {
    pl__error_set(m->error, status, NULL);
  } else {
    children_start(m);
    master_loop(m, fds);
    status = m->result;
    signals_close(m);
  }
  pl__desk_close(&m->desk, !m->upgrade.is_replaced);
  pl__free(fds);
  return status;
}

int pl__master_run(const struct pl_master_options *options,
                   struct pl_error *error) {
  struct master *m = pl__alloc(sizeof *m);
  int status;

  if (!m)
    return pl__error_set(error, PL_ENOMEM, NULL);
  master_init(m, options, error);
  status = pl__found(m);
  if (!status) {
    status = master_serve(m);
    pl__unfound(m);
  }
  pl__notify_close(&m->notify);
  signals_notice(m);
  pl__free(m);
  return status;
}
