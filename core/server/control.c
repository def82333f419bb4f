/* server/control.c - drains the log rings until the end.
 *
 * The loop sleeps until a ring has something, drains everything, then lingers
 * for LINGER_MS, or until there are BATCH_BYTES, before it looks again, so that
 * busy workers do not pay a wake-up per tick (see log/drain.h).
 */
#include "server/control.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log/drain.h"
#include "log/tail.h"
#include "perilune.h"
#include "server/admin.h"
#include "server/anomaly.h"
#include "server/channel.h"
#include "server/config.h"
#include "server/dumper.h"
#include "server/exporter.h"
#include "server/layout.h"

#define LINGER_MS 4
/* Of one ring. Where control shares a core with a worker, requests wait for as
 * long as a batch takes, and the cache holds no more of it. */
#define BATCH_BYTES (64u << 10)
#define BLOCKED_MS 50
/* A writer that died between publishing and waking left records behind that
 * nobody announced. */
#define LOOK_MS 1000
/* The kernel closes the master's files before it signals the workers. */
#define ORPHAN_PAUSE_MS 50
#define SAY_EVERY_NS (60 * (int64_t)PL_NS_PER_S)

_Static_assert(PL_CONFIG_OUTPUT_BYTES <= PL_SINK_PATH_BYTES,
               "every log.output that is taken can be opened");

struct control {
  const struct pl_control_args *args;
  struct pl_sink sink;
  struct pl_syslog syslog;
  struct pl_drain drain;
  struct pl_dumper *dumper;
  struct pl_server_state *state;
  struct pl_tail *tail;   /* NULL: nobody looks */
  struct pl_admin *admin; /* NULL: there is none */
  struct pl_anomaly anomaly;
  struct pl_exporter *exporter;
  int signal_fd;
  bool is_deaf;       /* the master says no more */
  int64_t said_ns;    /* monotonic, when stderr was told that the log stands */
  int64_t blocked_ns; /* of the drain, as last seen */
};

static bool wants_colour(const struct pl_sink *sink) {
  const char *no = getenv("NO_COLOR"), *force = getenv("FORCE_COLOR");
  const char *term = getenv("TERM");

  if (no && *no)
    return false;
  if (force && *force)
    return true;
  return pl__sink_is_tty(sink) && !(term && strcmp(term, "dumb") == 0);
}

static enum pl_log_format format_choose(const struct pl_config *config,
                                        const struct pl_sink *sink) {
  if (config->log_format == PL_CONFIG_LOG_AUTO)
    return pl__sink_is_tty(sink) ? PL_LOG_CONSOLE : PL_LOG_JSON;
  return config->log_format == PL_CONFIG_LOG_JSON ? PL_LOG_JSON
                                                  : PL_LOG_CONSOLE;
}

static int rings_add(struct control *c) {
  const struct pl_fabric *fabric = c->args->fabric;
  struct pl_ring *ring;
  int status = 0;

  for (uint32_t i = 0; i < c->args->worker_count && !status; i++) {
    status = pl__layout_ring(fabric, i, &ring);
    status = status ? status : pl__drain_add(&c->drain, ring, (uint16_t)i);
  }
  for (uint32_t i = 0; i < PL_LAYOUT_OTHERS && !status; i++) {
    uint16_t who = pl__layout_others[i];
    status = pl__layout_ring(fabric, who, &ring);
    if (who == PL_RECORD_EXPORTER)
      who = PL_RECORD_CONTROL; /* of which it is a thread */
    status = status ? status : pl__drain_add(&c->drain, ring, who);
  }
  return status;
}

/* TERM is what ends control, USR1 opens the log's file again; the terminal's
 * signals are meant for the master alone, which tells us when our time has come.
 */
static int signals_open(void) {
  sigset_t set;

  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGPROF); /* the admin plane's, which has a thread */
  if (sigprocmask(SIG_SETMASK, &set, NULL))
    return -errno;
  signal(SIGUSR1, SIG_DFL); /* what is ignored never arrives */
  signal(SIGPIPE, SIG_IGN);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void tell_no_admin(struct control *c, const char *why) {
  struct pl_record head = {.level = PL_LEVEL_ERROR,
                           .worker = PL_RECORD_CONTROL,
                           .route = PL_RECORD_NO_ROUTE};
  struct pl_ring_writer writer;
  struct pl_ring *ring;

  if (pl__layout_ring(c->args->fabric, PL_RECORD_CONTROL, &ring))
    return;
  pl__ring_writer_init(&writer, ring, -1);
  pl__record_text(&writer, &head, pl__slice_text(why));
}

static int plane_start(struct control *c, char *why) {
  struct pl_admin_args args = {.config = c->args->config,
                               .fabric = c->args->fabric,
                               .tail = c->tail,
                               .listen_fd = c->args->admin_fd,
                               .wake_fd = c->args->wake_fd,
                               .dumper = c->dumper,
                               .channel_fd = c->args->channel_fd};

  return pl__admin_start(&c->admin, &args, why);
}

static int admin_open(struct control *c, const struct pl_routes *routes,
                      char *error, size_t error_bytes) {
  char why[PL_ADMIN_ERROR_BYTES];
  int status;

  if (c->args->admin_fd < 0)
    return 0;
  c->tail = c->drain.tail = pl__tail_new(routes);
  status = plane_start(c, why);
  if (status &&
      atomic_load_explicit(&c->state->generation, memory_order_relaxed)) {
    tell_no_admin(c, why); /* there was one: better logs alone than none */
    return 0;
  }
  if (status)
    snprintf(error, error_bytes, "%s", why);
  return status;
}

/* Rules and checks without a socket: once the master goes on, which need not
 * wait for them. */
static void watch_open(struct control *c) {
  char why[PL_ADMIN_ERROR_BYTES];

  if (c->args->admin_fd < 0 && plane_start(c, why))
    tell_no_admin(c, why);
}

static int exporter_open(struct control *c) {
  struct pl_exporter_args args = {.config = c->args->config,
                                  .fabric = c->args->fabric,
                                  .worker_count = c->args->worker_count,
                                  .wake_fd = c->args->wake_fd};
  int status = pl__exporter_start(&c->exporter, &args);

  if (!status)
    pl__exporter_attach(c->exporter, &c->drain);
  return status;
}

static int control_open(struct control *c, char *error, size_t error_bytes) {
  const struct pl_config *config = c->args->config;
  struct pl_routes *routes = NULL;
  struct pl_ledger *ledger = NULL;
  int status = pl__sink_open(&c->sink, config->log_output);
  enum pl_log_format format;

  if (status) {
    snprintf(error, error_bytes, "log.output: cannot open %.900s: %s%s",
             config->log_output, pl_strerror(status),
             strncmp(config->log_output, "syslog", 6) == 0
                 ? " (syslog:/path/of/socket, or syslog:udp://127.0.0.1:514 "
                   "with an address, not a name)"
                 : "");
    return PL_ECONFIG;
  }
  format = format_choose(config, &c->sink);
  status = pl__layout_routes(c->args->fabric, &routes);
  status = status ? status : pl__layout_ledger(c->args->fabric, &ledger);
  pl__drain_init(&c->drain, &c->sink, ledger, c->args->transit, format,
                 format == PL_LOG_CONSOLE && wants_colour(&c->sink),
                 config->log_level, routes);
  status = status ? status : pl__layout_state(c->args->fabric, &c->state);
  status = status ? status : rings_add(c);
  status = status ? status
                  : pl__anomaly_open(&c->anomaly, c->args->fabric,
                                     pl__clock_monotonic_ns());
  if (c->sink.medium == PL_MEDIUM_MESSAGES) {
    pl__syslog_init(&c->syslog, config->log_syslog_facility, config->name,
                    (int)getppid());
    c->drain.syslog = &c->syslog;
  }
  c->drain.rotate_bytes = config->log_rotate_bytes;
  c->drain.rotate_keep = (uint32_t)config->log_rotate_keep;
  if (!status)
    pl__drain_resume(&c->drain);
  c->signal_fd = signals_open();
  if (!status && c->signal_fd < 0)
    status = -errno;
  status = status ? status : exporter_open(c);
  status = status ? status
                  : pl__dumper_start(&c->dumper, config, c->args->fabric,
                                     c->args->channel_fd);
  if (status)
    snprintf(error, error_bytes, "control: %s", pl_strerror(status));
  return status ? status : admin_open(c, routes, error, error_bytes);
}

/* What the log cannot say itself.  Nobody has to read it. */
static void say(struct control *c, const char *text) {
  struct pl_sink sink;
  size_t taken;

  if (strcmp(c->args->config->log_output, "stderr") == 0 ||
      pl__sink_open_fd(&sink, STDERR_FILENO))
    return;
  pl__sink_write(&sink, text, strlen(text), &taken);
  pl__sink_close(&sink);
}

/* The log's file is another one now; for logrotate. */
static void reopen(struct control *c) {
  int status = pl__drain_reopen(&c->drain);
  char text[PL_CONFIG_PATH_BYTES + 128];

  if (!status)
    return;
  snprintf(text, sizeof(text),
           "perilune: the log cannot be opened again at %s (%s): the file that "
           "was open goes on\n",
           c->args->config->log_output, pl_strerror(status));
  say(c, text);
}

/* True: it is time to end. */
static bool signals_take(struct control *c) {
  struct signalfd_siginfo info;
  bool end = false;

  while (read(c->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
    end |= info.ssi_signo == SIGTERM;
    if (info.ssi_signo == SIGUSR1)
      reopen(c);
  }
  return end;
}

static void orders_take(struct control *c) {
  struct pl_message order;
  int failed;

  while (!(failed = pl__channel_read(c->args->channel_fd, &order)))
    if (order.kind == PL_ORDER_RECORD)
      pl__dumper_order(c->dumper, &order);
    else if (order.kind == PL_ORDER_GRANTED && c->admin)
      pl__admin_grant(c->admin, order.generation, order.code, order.text);
  c->is_deaf = failed != -EAGAIN; /* the lifeline tells when it is over */
}

/* Waits, also for what `fd` tells (-1: nothing); true when it is time to end. */
static bool control_wait(struct control *c, int wait_ms, int fd, short events) {
  struct pollfd fds[] = {
      {.fd = c->signal_fd, .events = POLLIN},
      {.fd = c->args->lifeline_fd, .events = POLLIN},
      {.fd = fd, .events = events},
      {.fd = c->is_deaf ? -1 : c->args->channel_fd, .events = POLLIN}};

  if (poll(fds, 4, wait_ms) <= 0)
    return false;
  if (fds[3].revents)
    orders_take(c);
  if (fds[1].revents)
    poll(NULL, 0, ORPHAN_PAUSE_MS);
  return (fds[0].revents && signals_take(c)) || fds[1].revents;
}

static bool wait_for_records(struct control *c, int wait_ms) {
  bool end = control_wait(c, wait_ms, c->args->wake_fd, POLLIN);
  uint64_t count;

  if (read(c->args->wake_fd, &count, sizeof(count)) < 0)
    return end; /* nobody has woken us, or somebody else's wake-up was ours */
  return end;
}

/* Until the output takes more. One that said so and then took nothing is only
 * tried from time to time, and so is one that fails. */
static bool wait_for_output(struct control *c) {
  int64_t since = c->drain.blocked_ns;
  bool in_vain = since == 0 || since == c->blocked_ns;

  c->blocked_ns = since;
  return control_wait(c, BLOCKED_MS, in_vain ? -1 : c->sink.fd, POLLOUT);
}

static void say_blocked(struct control *c) {
  int64_t now = pl__clock_monotonic_coarse_ns();
  const char *why = pl__drain_blocked(&c->drain);
  char text[256];

  if (!why || (c->said_ns && now - c->said_ns < SAY_EVERY_NS))
    return;
  c->said_ns = now;
  snprintf(text, sizeof(text),
           "perilune: the log cannot be written (%s): records wait, then "
           "they are dropped\n",
           why);
  say(c, text);
}

/* At the end, with records left. */
static void say_lost(struct control *c) {
  const char *why = pl__drain_blocked(&c->drain);
  uint64_t count = pl__drain_left(&c->drain);
  char text[256];

  if (!count)
    return;
  snprintf(text, sizeof(text),
           "perilune: the log cannot be written (%s): its last %" PRIu64
           " record%s lost\n",
           why ? why : "it is slow", count, count == 1 ? " is" : "s are");
  say(c, text);
}

static void control_loop(struct control *c) {
  enum pl_drain_outcome outcome;
  bool end = false;

  while (!end) {
    pl__anomaly_look(&c->anomaly, pl__clock_monotonic_ns());
    c->drain.level =
        atomic_load_explicit(&c->state->log_level, memory_order_relaxed);
    c->drain.formatter.access_fields = atomic_load_explicit(
        &c->state->log_access_fields, memory_order_relaxed);
    do
      pl__drain_run(&c->drain, &outcome);
    while (outcome == PL_DRAIN_MORE);

    pl__dumper_look(c->dumper);
    if (outcome == PL_DRAIN_BLOCKED) {
      say_blocked(c);
      end = wait_for_output(c);
    } else if (pl__drain_sleep(&c->drain, 1)) {
      end = wait_for_records(c, LOOK_MS);
      if (!end && pl__drain_sleep(&c->drain, BATCH_BYTES))
        end = wait_for_records(c, LINGER_MS);
    }
    pl__drain_awake(&c->drain);
  }
}

int pl__control_main(const struct pl_control_args *args) {
  struct control c = {.args = args, .signal_fd = -1};
  char error[PL_MESSAGE_TEXT_BYTES] = "";
  bool plane_ended;
  int status;

  prctl(PR_SET_NAME, "perilune-ctl");
  status = control_open(&c, error, sizeof(error));
  pl__channel_say(args->channel_fd, PL_NEWS_STARTED, 0, status, error);
  if (status)
    return 1;
  watch_open(&c);
  control_loop(&c);
  plane_ended = !c.admin || pl__admin_stop(c.admin);
  if (pl__dumper_stop(c.dumper, PL_CONTROL_RECORDS_MS) && plane_ended)
    pl__dumper_free(c.dumper);
  pl__anomaly_close(&c.anomaly);
  pl__drain_finish(&c.drain, PL_CONTROL_FINISH_MS);
  pl__exporter_stop(c.exporter, PL_CONTROL_FLUSH_MS);
  c.drain.on_record = NULL; /* what it has said at its end is for the log */
  status = pl__drain_finish(&c.drain, PL_CONTROL_REST_MS);
  if (status)
    say_lost(&c);
  pl__drain_deinit(&c.drain);
  if (plane_ended) /* else it may still look */
    pl__tail_free(c.tail);
  pl__sink_close(&c.sink);
  return status ? 1 : 0;
}
