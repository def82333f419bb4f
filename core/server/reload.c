/* server/reload.c - see reload.h. */
#define _GNU_SOURCE /* sigabbrev_np */
#include "server/reload.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "fabric/record.h"
#include "perilune.h"
#include "server/config.h"
#include "server/edition.h"
#include "server/layout.h"

/* Beyond vm.load_timeout, which those who load keep themselves unless they
 * block. */
#define TRIAL_GRACE_S 1.0
#define PREPARE_GRACE_S 12.0 /* a worker may be in a handler that blocks */

/* How long a trial may take before what is asked for meanwhile ends it: longer
 * than most take, so that changes without end do not keep all from loading. */
#define GIVE_UP_MS 250

/* Steps of a worker, in struct pl_child. */
enum { NONE, LOADING, LOADED, SWAPPING, ENDING, CATCHING_UP, LEAVING };

/* --- telling ----------------------------------------------------------- */

static void log_end(struct pl_reload *r) {
  const struct pl_reload_result *result = &r->result;
  struct pl_record head = {
      .level = (uint8_t)(result->code ? PL_LEVEL_ERROR : PL_LEVEL_INFO),
      .worker = PL_RECORD_MASTER,
      .route = PL_RECORD_NO_ROUTE,
      .generation = result->generation};
  _Alignas(8) char memory[PL_LIMIT_LOG_RECORD_BYTES];
  struct pl_record_draft d;
  char hash[24];

  if (!r->options.log)
    return;
  if (head.level <
      atomic_load_explicit(&r->server->log_level, memory_order_relaxed))
    return;
  snprintf(hash, sizeof hash, "%016llx", (unsigned long long)result->hash);
  pl__record_begin(&d, memory, sizeof memory, &head,
                   result->code ? PL_SLICE("a generation was rejected")
                                : PL_SLICE("a generation is served"));
  if (result->code)
    pl__record_str(&d, PL_SLICE("reason"), pl__slice_text(result->text));
  pl__record_str(&d, PL_SLICE("hash"), pl__slice_text(hash));
  pl__record_num(&d, PL_SLICE("took_ms"),
                 (double)result->took_ns / PL_NS_PER_MS);
  if (result->fixed[0])
    pl__record_str(&d, PL_SLICE("not_changed"), pl__slice_text(result->fixed));
  pl__record_end(&d, r->options.log);
  pl__ring_wake(r->options.log);
}

static void set(_Atomic uint32_t *word, double value) {
  atomic_store_explicit(word, value < UINT32_MAX ? (uint32_t)value : UINT32_MAX,
                        memory_order_relaxed);
}

/* What control makes of records and figures from now on. */
static void publish_for_control(struct pl_server_state *state,
                                const struct pl_config *config) {
  atomic_store_explicit(&state->log_level, config->log_level,
                        memory_order_relaxed);
  atomic_store_explicit(&state->log_access_fields, config->log_access_fields,
                        memory_order_relaxed);
  set(&state->anomaly_errors_ppm, config->trace_anomaly_errors * 1e6);
  set(&state->anomaly_p99_us, config->trace_anomaly_p99_s * 1e6);
  set(&state->anomaly_hold_ms, config->trace_anomaly_hold_s * 1e3);
  set(&state->anomaly_per_second, (double)config->trace_anomaly_per_second);
}

static void say(struct pl_child *c, enum pl_message_kind kind,
                uint32_t generation) {
  if (c->channel_fd >= 0)
    pl__channel_say(c->channel_fd, kind, generation, 0, NULL);
}

static int64_t in_seconds(double seconds) {
  return pl__clock_monotonic_ns() + (int64_t)(seconds * PL_NS_PER_S);
}

/* --- workers ------------------------------------------------------------ */

static uint32_t count_at(const struct pl_reload *r, uint8_t step) {
  uint32_t count = 0;

  for (uint32_t i = 0; i < r->options.worker_count; i++)
    count += r->options.workers[i].step == step;
  return count;
}

/* Lets all who are at one step go to another. */
static void order_all(struct pl_reload *r, uint8_t from, uint8_t to,
                      enum pl_message_kind order) {
  for (uint32_t i = 0; i < r->options.worker_count; i++) {
    struct pl_child *c = &r->options.workers[i];
    if (c->step != from)
      continue;
    c->step = to;
    say(c, order, r->wanted);
  }
}

/* Those who have started with a generation that was replaced meanwhile. Until
 * they have left it, it lives. */
static void catch_up(struct pl_reload *r) {
  for (uint32_t i = 0; i < r->options.worker_count; i++) {
    struct pl_child *c = &r->options.workers[i];
    if (!c->ready || c->step != NONE || c->generation == r->committed)
      continue;
    c->step = CATCHING_UP;
    r->state = PL_RELOAD_RETIRING;
    say(c, PL_ORDER_PREPARE, r->committed);
  }
}

/* It cannot get to what is served: it ends, and another one takes its place. */
static void replace(struct pl_child *c) {
  c->step = LEAVING;
  kill(c->pid, SIGTERM);
}

static void tell_flag(struct pl_reload *r, bool failed) {
  if (atomic_exchange_explicit(&r->server->reload_failed, failed,
                               memory_order_relaxed) == failed &&
      !failed)
    return;
  for (uint32_t i = 0; i < r->options.worker_count; i++)
    if (r->options.workers[i].ready)
      say(&r->options.workers[i], PL_ORDER_LOOK, r->committed);
}

/* --- ends ---------------------------------------------------------------- */

static void end(struct pl_reload *r, int code) {
  r->result.code = code;
  r->result.generation = r->committed;
  r->result.ended_ns = pl__clock_realtime_ns();
  r->result.took_ns = pl__clock_monotonic_ns() - r->begun_ns;
  r->due_ns = 0;
  log_end(r);
  tell_flag(r, code != 0);
  r->options.on_end(r->options.arg, &r->result);
}

static void trial_kill(struct pl_reload *r) {
  if (r->trial.pid > 0)
    kill(r->trial.pid, SIGKILL);
}

/* When the trial is given up for what waits; 0: it is not. */
static int64_t give_up_due(const struct pl_reload *r) {
  return r->options.hurries && r->is_wanted_again && !r->is_given_up &&
                 r->state == PL_RELOAD_TRYING
             ? r->begun_ns + GIVE_UP_MS * (int64_t)PL_NS_PER_MS
             : 0;
}

/* Something waits, and in development nobody likes to. */
static void hurry(struct pl_reload *r, int64_t now_ns) {
  int64_t due_ns = give_up_due(r);

  if (due_ns && now_ns >= due_ns) {
    r->is_given_up = true;
    trial_kill(r);
  } else if (r->options.hurries && r->is_wanted_again &&
             r->state == PL_RELOAD_RETIRING) {
    order_all(r, ENDING, ENDING, PL_ORDER_HURRY);
  }
}

/* The next one, if it was asked for and nothing of this one is left. */
static void settle(struct pl_reload *r) {
  if (r->state != PL_RELOAD_RETIRING || count_at(r, ENDING) ||
      count_at(r, CATCHING_UP) || count_at(r, SWAPPING) ||
      count_at(r, LEAVING) || r->trial.pid > 0)
    return;
  r->state = PL_RELOAD_IDLE;
  if (r->is_wanted_again) {
    r->is_wanted_again = false;
    pl__reload_begin(r);
  }
}

__attribute__((format(printf, 3, 4))) static void
reject(struct pl_reload *r, int code, const char *format, ...) {
  va_list args;

  va_start(args, format);
  vsnprintf(r->result.text, sizeof r->result.text, format, args);
  va_end(args);
  trial_kill(r);
  order_all(r, LOADING, NONE, PL_ORDER_ABORT);
  order_all(r, LOADED, NONE, PL_ORDER_ABORT);
  r->state = PL_RELOAD_RETIRING;
  end(r, code);
  settle(r);
}

/* --- forwards ------------------------------------------------------------ */

static void check_swapped(struct pl_reload *r) {
  if (r->state != PL_RELOAD_COMMITTING || count_at(r, SWAPPING))
    return;
  r->state = PL_RELOAD_RETIRING;
  r->result.text[0] = '\0';
  end(r, 0);
  hurry(r, pl__clock_monotonic_ns());
  catch_up(r);
  settle(r);
}

static void commit(struct pl_reload *r) {
  struct pl_bundle *bundle;
  struct pl_config config;
  int failed = pl__layout_bundle(r->options.fabric, r->wanted, &bundle);

  failed = failed ? failed : pl__edition_read(bundle, r->wanted, &config);
  if (failed) {
    reject(r, PL_EFAIL, "the generation cannot be read: %s",
           pl_strerror(failed));
    return;
  }
  r->result.hash = bundle->hash;
  r->committed = r->wanted;
  r->load_s = config.vm_load_timeout_s;
  publish_for_control(r->server, &config);
  atomic_store_explicit(&r->server->generation, r->committed,
                        memory_order_release);
  r->options.on_commit(r->options.arg, &config);
  r->state = PL_RELOAD_COMMITTING;
  r->due_ns = 0; /* who stands still is killed by others */
  order_all(r, LOADED, SWAPPING, PL_ORDER_COMMIT);
  check_swapped(r);
}

static void check_loaded(struct pl_reload *r) {
  if (r->state == PL_RELOAD_PREPARING && !count_at(r, LOADING))
    commit(r);
}

static void prepare(struct pl_reload *r) {
  r->state = PL_RELOAD_PREPARING;
  r->due_ns = in_seconds(r->load_s + PREPARE_GRACE_S);
  for (uint32_t i = 0; i < r->options.worker_count; i++) {
    struct pl_child *c = &r->options.workers[i];
    if (!c->ready || c->step != NONE)
      continue; /* it catches up afterwards */
    c->step = LOADING;
    say(c, PL_ORDER_PREPARE, r->wanted);
  }
  check_loaded(r);
}

/* --- the trial ----------------------------------------------------------- */

static void on_tried(struct pl_reload *r, const struct pl_message *m) {
  if (r->state != PL_RELOAD_TRYING)
    return;
  if (m->code) {
    reject(r, m->code, "%s", m->text);
    return;
  }
  snprintf(r->result.fixed, sizeof r->result.fixed, "%s", m->text);
  prepare(r);
}

void pl__reload_on_trial(struct pl_reload *r) {
  struct pl_message m;

  while (r->trial.channel_fd >= 0 &&
         pl__child_hear(&r->trial, &m, pl__clock_monotonic_ns()) == 0)
    if (m.kind == PL_NEWS_TRIED && m.generation == r->wanted)
      on_tried(r, &m);
}

void pl__reload_on_trial_death(struct pl_reload *r, int status) {
  if (r->trial.channel_fd >= 0)
    pl__reload_on_trial(r);
  pl__child_bury(&r->trial);
  if (r->state == PL_RELOAD_TRYING && r->is_given_up) { /* not an end */
    r->state = PL_RELOAD_RETIRING;
    r->due_ns = 0;
  }
  if (r->state != PL_RELOAD_TRYING) {
    settle(r);
    return;
  }
  if (WIFSIGNALED(status))
    reject(r, PL_ESCRIPT, "the process was ended by SIG%s while the app loaded",
           sigabbrev_np(WTERMSIG(status)));
  else
    reject(r, PL_ESCRIPT,
           "the app ended its process while it loaded, with exit code %d",
           WEXITSTATUS(status));
}

/* --- news of workers ------------------------------------------------------ */

static void on_prepared(struct pl_reload *r, struct pl_child *c,
                        const struct pl_message *news) {
  if (c->step == CATCHING_UP && news->generation == r->committed) {
    if (news->code) { /* a new one will load what is committed */
      replace(c);
    } else {
      c->step = SWAPPING;
      say(c, PL_ORDER_COMMIT, r->committed);
    }
    return;
  }
  if (c->step != LOADING || news->generation != r->wanted)
    return;
  if (news->code) {
    c->step = NONE;
    reject(r, news->code, "%s", news->text);
    return;
  }
  c->step = LOADED;
  check_loaded(r);
}

static void on_committed(struct pl_reload *r, struct pl_child *c,
                         const struct pl_message *news) {
  if (c->step != SWAPPING)
    return;
  if (news->code) { /* it serves nothing that we know: let another one start */
    replace(c);
  } else {
    c->step = ENDING;
    c->generation = news->generation;
  }
  check_swapped(r);
}

void pl__reload_on_news(struct pl_reload *r, struct pl_child *c,
                        const struct pl_message *news) {
  switch (news->kind) {
  case PL_NEWS_PREPARED:
    on_prepared(r, c, news);
    break;
  case PL_NEWS_COMMITTED:
    on_committed(r, c, news);
    break;
  case PL_NEWS_RETIRED:
    if (c->step == ENDING)
      c->step = NONE;
    break;
  default:
    if (c->ready &&
        atomic_load_explicit(&r->server->reload_failed, memory_order_relaxed))
      say(c, PL_ORDER_LOOK, r->committed);
    break;
  }
  if (r->state == PL_RELOAD_RETIRING || r->state == PL_RELOAD_IDLE)
    catch_up(r);
  settle(r);
}

void pl__reload_on_death(struct pl_reload *r) {
  check_loaded(r);
  check_swapped(r);
  settle(r);
}

/* --- time ----------------------------------------------------------------- */

int64_t pl__reload_due(const struct pl_reload *r) {
  int64_t give_up_ns = give_up_due(r);

  return give_up_ns && (!r->due_ns || give_up_ns < r->due_ns) ? give_up_ns
                                                              : r->due_ns;
}

/* Who still loads blocks in it, and could not load anything else either: it
 * ends what it has begun, and another one takes its place. */
static void replace_stuck(struct pl_reload *r) {
  for (uint32_t i = 0; i < r->options.worker_count; i++)
    if (r->options.workers[i].step == LOADING)
      kill(r->options.workers[i].pid, SIGTERM);
}

void pl__reload_on_time(struct pl_reload *r, int64_t now_ns) {
  if (give_up_due(r))
    hurry(r, now_ns);
  if (!r->due_ns || now_ns < r->due_ns)
    return;
  r->due_ns = 0;
  if (r->state == PL_RELOAD_PREPARING)
    replace_stuck(r);
  if (r->state == PL_RELOAD_TRYING || r->state == PL_RELOAD_PREPARING)
    reject(r, PL_ESCRIPT,
           "loading took longer than vm.load_timeout (%gs), and something "
           "blocks in it that cannot be interrupted",
           r->load_s);
}

/* --- beginning and end ---------------------------------------------------- */

int pl__reload_init(struct pl_reload *r,
                    const struct pl_reload_options *options,
                    const struct pl_config *config) {
  int status;

  memset(r, 0, sizeof *r);
  r->options = *options;
  status = pl__layout_state(options->fabric, &r->server);
  r->load_s = config->vm_load_timeout_s;
  pl__child_init(&r->trial);
  if (!status)
    publish_for_control(r->server, config);
  return status;
}

bool pl__reload_is_running(const struct pl_reload *r) {
  return r->state != PL_RELOAD_IDLE && r->state != PL_RELOAD_RETIRING;
}

void pl__reload_begin(struct pl_reload *r) {
  int failed;

  if (r->state != PL_RELOAD_IDLE || r->trial.pid > 0) {
    r->is_wanted_again = true;
    hurry(r, pl__clock_monotonic_ns());
    return;
  }
  r->is_given_up = false;
  r->wanted = r->committed + 1;
  r->begun_ns = pl__clock_monotonic_ns();
  r->result.fixed[0] = '\0';
  r->state = PL_RELOAD_TRYING;
  r->due_ns = in_seconds(r->load_s + TRIAL_GRACE_S);
  failed = pl__layout_begin(r->options.fabric, r->wanted);
  if (!failed)
    failed = r->options.start_trial(r->options.arg, &r->trial, r->wanted);
  if (failed)
    reject(r, PL_EFAIL, "cannot start a process: no memory, or too many");
}

void pl__reload_stop(struct pl_reload *r) {
  r->is_wanted_again = false;
  if (r->state == PL_RELOAD_TRYING || r->state == PL_RELOAD_PREPARING)
    reject(r, PL_EFAIL, "the server stops");
  trial_kill(r);
}
