/* server/admin.c - see admin.h.
 *
 *   open: VM without an app ---> serve ---> end
 *                                  ^ |  a generation was committed
 *                                  | v
 *                                load on a helper thread; then it takes over
 *
 * One generation after the other, as in a worker; the old one is closed once
 * nothing of it runs.  What health.lua knows goes from one to the next.
 */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "server/admin.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "fabric/metrics.h"
#include "fabric/record.h"
#include "fabric/tracing.h"
#include "http/bearer.h"
#include "log/tail.h"
#include "net/listener.h"
#include "perilune.h"
#include "server/block_profile.h"
#include "server/compilation.h"
#include "server/config.h"
#include "server/coroutines.h"
#include "server/dashboard.h"
#include "server/dumper.h"
#include "server/edition.h"
#include "server/figures.h"
#include "server/grpc_conns.h"
#include "server/heap_profile.h"
#include "server/heat.h"
#include "server/layout.h"
#include "server/leaks.h"
#include "server/loop.h"
#include "server/makings.h"
#include "server/modules.h"
#include "server/overview.h"
#include "server/profile.h"
#include "server/replay.h"
#include "server/services.h"
#include "server/spans.h"
#include "server/standing.h"
#include "server/trends.h"
#include "server/vitals.h"
#include "server/wish.h"

#define LOOK_MS 50         /* at what the master says */
#define LOOK_SELDOM_MS 250 /* where nobody asks anything */
#define APP_FILE "perilune/admin/app.lua"
#define WATCH_FILE "perilune/admin/watch.lua" /* without a socket */
#define STATES_BYTES_MAX 65536u /* that one VM hands to the next */
#define CALL_SECONDS 1.0
#define DRAIN_S 0.5
#define HEADER_S 2.0   /* slow clients must not keep probes out */
#define CROWDED_S 0.25 /* nor silent ones, once they are as many as may be */
#define END_S 1.0      /* of the thread, before it is left alone */

/* What the master has said to a wish. */
struct answer {
  uint32_t number; /* 0: none */
  bool is_granted;
  char text[PL_ADMIN_ANSWER_BYTES];
};

struct pl_admin {
  struct pl_admin_args args;
  struct pl_dispatch dispatch;
  struct pl_loop loop;
  struct pl_listener listener;
  bool listens;
  struct pl_services services;
  struct pl_replay replay;
  struct pl_makings makings;
  struct pl_grpc_conns grpc;
  uv_async_t end;
  double end_at; /* monotonic seconds, the latest; 0: it is not to end */
  uv_timer_t look_timer;
  pthread_t thread;
  struct pl_trends trends;
  struct pl_heat *heat;
  uint32_t wish_number;    /* the last one */
  pthread_mutex_t granted; /* answers: control's main thread writes them */
  struct answer answers[PL_ADMIN_ANSWERS];
  uint32_t answer_count; /* so far */
  const struct pl_standing *standing;
  struct pl_standing_facts facts; /* as read last */
  struct pl_server_state *state;
  struct pl_generation *next; /* loaded, or half of it */
  struct pl_generation *gone; /* being closed */
  uint32_t wanted;            /* the generation that is loaded */
  bool is_loading;
  uv_work_t loading, closing;
  char next_failure[PL_VM_ERROR_BYTES]; /* why its app is not watched */
  char failure[PL_VM_ERROR_BYTES];      /* the same, of the one that serves */
  char err[PL_VM_ERROR_BYTES];
};

/* Whether there is somebody to answer. */
static bool has_socket(const struct pl_admin *a) {
  return a->args.listen_fd >= 0;
}

/* --- telling ---------------------------------------------------------------- */

static void warn(struct pl_admin *a, const char *message, const char *why) {
  struct pl_record head = {.level = PL_LEVEL_WARN,
                           .worker = PL_RECORD_CONTROL,
                           .route = PL_RECORD_NO_ROUTE,
                           .generation = a->dispatch.now->number};

  pl__record_with(&a->dispatch.log, &head, message, "reason", why);
}

/* --- what Lua asks ------------------------------------------------------------ */

static int report_status(struct pl_admin *a, struct pl_slice argument,
                         struct pl_buf *out) {
  struct pl_overview o;

  pl__standing_read(a->standing, &a->facts);
  pl__overview_take(&o, &a->facts, a->args.fabric, &a->trends);
  return argument.bytes ? pl__overview_text(&o, out)
                        : pl__overview_json(&o, out);
}

/* Whoever still asks one that has been replaced means the one that serves. Also
 * asked on the helper thread, while an app is loaded: not by what is read for all
 * others. */
static int report_state(struct pl_admin *a, struct pl_slice argument,
                        struct pl_buf *out) {
  struct pl_slice state = PL_SLICE("serving");
  struct pl_standing_facts *facts = pl__alloc(sizeof *facts);
  int failed;

  (void)argument;
  if (!facts)
    return PL_ENOMEM;
  pl__standing_read(a->standing, facts);
  if (facts->has_admin)
    state = pl__slice_text(facts->state);
  failed = pl__buf_append_slice(out, state);
  pl__free(facts);
  return failed;
}

static struct pl_slice token_of(const struct pl_admin *a) {
  return pl__slice_text(a->dispatch.now->config.admin_token);
}

/* Something for those who may ask for more than probes.  The token itself stays
 * here: the app's checks run in the same Lua. */
static int report_allowed(struct pl_admin *a, struct pl_slice argument,
                          struct pl_buf *out) {
  return pl__bearer_allows(argument, token_of(a)) ? pl__buf_append(out, "+", 1)
                                                  : 0;
}

/* Something when nothing but the address keeps others away, and a browser of this
 * machine gets there. */
static int report_exposed(struct pl_admin *a, struct pl_slice argument,
                          struct pl_buf *out) {
  (void)argument;
  return token_of(a).bytes || a->args.config->admin_listen.family == AF_UNIX
             ? 0
             : pl__buf_append(out, "+", 1);
}

static int report_watching(struct pl_admin *a, struct pl_slice argument,
                           struct pl_buf *out) {
  (void)argument;
  return pl__buf_append(out, a->failure, (uint32_t)strlen(a->failure));
}

static int report_health(struct pl_admin *a, struct pl_slice argument,
                         struct pl_buf *out) {
  int failed = pl__services_set(&a->services, argument);

  (void)out;
  if (!failed)
    pl__grpc_conns_changed(&a->grpc);
  return failed;
}

static int report_trace(struct pl_admin *a, struct pl_slice argument,
                        struct pl_buf *out) {
  return pl__replay_answer(&a->replay, argument, out);
}

static uint64_t number_of(struct pl_slice argument) {
  uint64_t n = 0;

  pl__text_number(argument, UINT64_MAX, &n);
  return n;
}

static int report_make(struct pl_admin *a, struct pl_slice argument,
                       struct pl_buf *out) {
  return pl__makings_answer(&a->makings, argument, out);
}

static int report_wish(struct pl_admin *a, struct pl_slice argument,
                       struct pl_buf *out) {
  uint32_t number = a->wish_number % PL_WISH_NUMBER_MAX + 1;
  int failed = pl__wish_say(a->args.channel_fd, number, argument);
  char text[16];

  if (failed)
    return failed;
  a->wish_number = number;
  snprintf(text, sizeof text, "%u", number);
  return pl__buf_append(out, text, (uint32_t)strlen(text));
}

void pl__admin_grant(struct pl_admin *a, uint32_t number, int code,
                     const char *text) {
  struct answer *to;

  pthread_mutex_lock(&a->granted);
  to = &a->answers[a->answer_count++ % PL_ADMIN_ANSWERS];
  to->number = number;
  to->is_granted = code == 0;
  snprintf(to->text, sizeof to->text, "%s", text);
  pthread_mutex_unlock(&a->granted);
}

static int report_granted(struct pl_admin *a, struct pl_slice argument,
                          struct pl_buf *out) {
  uint64_t number = number_of(argument);
  int failed = 0;

  pthread_mutex_lock(&a->granted);
  for (uint32_t i = 0; i < PL_ADMIN_ANSWERS; i++) {
    struct answer *one = &a->answers[i];
    if (!number || one->number != number)
      continue;
    failed = pl__buf_append(out, one->is_granted ? "+" : "-", 1);
    failed =
        failed ? failed : pl__buf_append_slice(out, pl__slice_text(one->text));
    one->number = 0;
  }
  pthread_mutex_unlock(&a->granted);
  return failed;
}

/* "SHARE SECONDS": so many traces are kept, for so long. */
static int report_boost(struct pl_admin *a, struct pl_slice argument,
                        struct pl_buf *out) {
  struct pl_tracing *tracing;
  double share, seconds;
  char text[64];
  int failed = pl__layout_tracing(a->args.fabric, &tracing);

  snprintf(text, sizeof text, "%.*s", (int)argument.bytes, argument.at);
  if (failed || sscanf(text, "%lf %lf", &share, &seconds) != 2 ||
      !(seconds >= 0 && seconds <= 86400))
    return failed ? failed : PL_EINVAL;
  atomic_store_explicit(&tracing->boost_below, pl__tracing_below(share),
                        memory_order_relaxed);
  atomic_store_explicit(&tracing->boost_until_ns,
                        pl__clock_monotonic_ns() +
                            (int64_t)(seconds * PL_NS_PER_S),
                        memory_order_release);
  return pl__buf_append(out, "+", 1);
}

/* "-" and why, or "+" and what there is. */
static int answer(struct pl_buf *out, int failed, const char *text) {
  int full = pl__buf_append(out, failed ? "-" : "+", 1);

  return full ? full : pl__buf_append(out, text, (uint32_t)strlen(text));
}

static int report_save(struct pl_admin *a, struct pl_slice argument,
                       struct pl_buf *out) {
  const char *end = memchr(argument.at, '\n', argument.bytes);
  const char *space = memchr(argument.at, ' ', argument.bytes);
  uint32_t ticket = 0;
  char text[16];
  int failed;

  if (!end || !space || space > end)
    return PL_EINVAL;
  failed = pl__dumper_save(
      a->args.dumper, pl__slice(space + 1, (size_t)(end - space - 1)),
      pl__slice(argument.at, (size_t)(space - argument.at)),
      pl__slice(end + 1, (size_t)(argument.at + argument.bytes - end - 1)),
      &ticket);
  snprintf(text, sizeof text, "%u", ticket);
  if (failed == PL_EFULL)
    return answer(out, failed, "too many records are waiting to be written");
  return answer(out, failed, failed ? pl_strerror(failed) : text);
}

static int report_saved(struct pl_admin *a, struct pl_slice argument,
                        struct pl_buf *out) {
  char text[PL_DUMPER_TEXT_BYTES];
  int status =
      pl__dumper_saved(a->args.dumper, (uint32_t)number_of(argument), text);

  return status > 0 ? 0 : answer(out, status, text);
}

static int report_heat(struct pl_admin *a, struct pl_slice argument,
                       struct pl_buf *out) {
  return a->heat ? pl__heat_json(a->heat, number_of(argument), out) : PL_EINVAL;
}

static int report_tail(struct pl_admin *a, struct pl_slice argument,
                       struct pl_buf *out) {
  return a->args.tail ? pl__tail_json(a->args.tail, number_of(argument), out)
                      : PL_EINVAL;
}

static int report_vitals(struct pl_admin *a, struct pl_slice argument,
                         struct pl_buf *out) {
  const struct pl_config *c = &a->dispatch.now->config;

  (void)argument;
  return pl__vitals_json(a->args.fabric, c->vm_memory_soft_bytes,
                         c->vm_memory_hard_bytes, out);
}

static int report_page(struct pl_admin *a, struct pl_slice argument,
                       struct pl_buf *out) {
  struct pl_slice file = pl__dashboard_file(argument);

  (void)a;
  return file.bytes ? pl__buf_append_slice(out, file) : PL_EINVAL;
}

/* What the fabric alone answers, by topic; of the rooms that record it. */
static const struct {
  const char *topic;
  int (*run)(const struct pl_fabric *f, struct pl_slice argument,
             struct pl_buf *out);
} of_fabric[] = {
    {"metrics", pl__figures_answer},
    {"spans", pl__spans_answer},
    {"profile", pl__profile_answer},
    {"shares", pl__profile_shares},
    {"heap", pl__heap_profile_answer},
    {"coroutine", pl__coroutines_list},
    {"coroutineleak", pl__leaks_answer},
    {"block", pl__block_profile_answer},
    {"waits", pl__coroutines_waits},
    {"compilation", pl__compilation_answer},
};

int pl__admin_answer(const struct pl_fabric *fabric, struct pl_slice topic,
                     struct pl_slice argument, struct pl_buf *out) {
  for (size_t i = 0; i < sizeof of_fabric / sizeof *of_fabric; i++)
    if (pl__slice_equal(pl__slice_text(of_fabric[i].topic), topic))
      return of_fabric[i].run(fabric, argument, out);
  return PL_EINVAL;
}

/* The names of what the fabric answers, a line each. */
static int report_topics(struct pl_admin *a, struct pl_slice argument,
                         struct pl_buf *out) {
  int failed = 0;

  (void)a;
  (void)argument;
  for (size_t i = 0; i < sizeof of_fabric / sizeof *of_fabric && !failed; i++) {
    failed = pl__buf_append_slice(out, pl__slice_text(of_fabric[i].topic));
    failed = failed ? failed : pl__buf_append(out, "\n", 1);
  }
  return failed;
}

static int on_report(void *arg, struct pl_slice topic, struct pl_slice argument,
                     struct pl_buf *out) {
  static const struct {
    const char *topic;
    int (*run)(struct pl_admin *a, struct pl_slice argument,
               struct pl_buf *out);
  } of_plane[] = {
      {"status", report_status},     {"state", report_state},
      {"allowed", report_allowed},   {"watching", report_watching},
      {"wish", report_wish},         {"granted", report_granted},
      {"save", report_save},         {"health", report_health},
      {"trace", report_trace},       {"topics", report_topics},
      {"trace_boost", report_boost}, {"heat", report_heat},
      {"tail", report_tail},         {"vitals", report_vitals},
      {"page", report_page},         {"make", report_make},
      {"saved", report_saved},       {"exposed", report_exposed},
  };
  struct pl_admin *a = arg;

  for (size_t i = 0; i < sizeof of_plane / sizeof *of_plane; i++)
    if (pl__slice_equal(pl__slice_text(of_plane[i].topic), topic))
      return of_plane[i].run(a, argument, out);
  return pl__admin_answer(a->args.fabric, topic, argument, out);
}

/* --- generations -------------------------------------------------------------- */

/* What of the app's configuration the plane has: its own app, limits of its own
 * where they are for what clients may do, memory as the app's checks need. */
static int configure(const struct pl_admin *a, struct pl_config *c) {
  const char *file = has_socket(a) ? APP_FILE : WATCH_FILE;
  char folder[PL_CONFIG_PATH_BYTES];
  int failed = pl__modules_folder(folder, sizeof folder);

  if (failed)
    return failed;
  if (snprintf(c->app_file, sizeof c->app_file, "%s/%s", folder, file) >=
      (int)sizeof c->app_file)
    return PL_EFAIL;
  c->limit_connections = PL_LAYOUT_ADMIN_SLABS;
  c->limit_body_bytes = 65536;
  c->timeout_handler_s = 30;
  if (c->timeout_header_s > HEADER_S)
    c->timeout_header_s = HEADER_S;
  c->log_access = false;
  c->generation_header = false;
  c->dev = false;
  return 0;
}

/* What it shares with the workers, and where it counts: in control's shard. */
static int share(struct pl_admin *a, struct pl_generation_options *options) {
  struct pl_metrics metrics;
  int failed = pl__layout_shared(a->args.fabric, &options->shared);

  failed = failed ? failed : pl__layout_metrics(a->args.fabric, &metrics);
  if (failed)
    return failed;
  options->metrics = metrics.table;
  return pl__layout_shard(a->args.fabric, PL_RECORD_CONTROL, &options->shard);
}

/* Opens and loads one, with the app of its bundle to watch unless `number` is
 * 0 or `path` NULL. */
static int open_one(struct pl_admin *a, const struct pl_config *config,
                    uint32_t number, const char *path,
                    struct pl_generation **out) {
  struct pl_generation_options options = {
      .dispatch = &a->dispatch, .config = config, .number = number};
  struct pl_vm_arg arg = {.text = path, .text_bytes = path ? strlen(path) : 0};
  struct pl_buf none;
  uint32_t lines;
  int failed = share(a, &options);

  if (!failed && number)
    failed = pl__layout_bundle(a->args.fabric, number, &options.bundle);
  failed = failed ? failed : pl__generation_open(out, &options, a->err);
  if (failed)
    return failed;
  (*out)->vm.options.is_muted = true;
  failed = pl__generation_load(*out, a->err);
  if (!failed && path) {
    pl__buf_init(&none, NULL, 1);
    failed = pl__vm_call_tool(&(*out)->vm, "watch", &arg, 1,
                              config->vm_load_timeout_s, &none, &lines, a->err);
    pl__buf_release(&none);
  }
  if (failed) {
    pl__generation_close(*out);
    *out = NULL;
  }
  return failed;
}

/* Whether it was the app, loading or in its checks, that has ended control again
 * and again. */
static bool is_deadly(const struct pl_admin *a) {
  return atomic_load_explicit(&a->state->control_crashes,
                              memory_order_relaxed) >=
         PL_LAYOUT_CONTROL_CRASHES_MAX;
}

/* Whether there is something of the app's to run here. */
static bool is_to_watch(const struct pl_admin *a,
                        const struct pl_bundle *bundle) {
  return has_socket(a) || pl__edition_is_watched(bundle);
}

/* On a helper thread. */
static void load(uv_work_t *work) {
  struct pl_admin *a = work->data;
  char path[PL_CONFIG_PATH_BYTES];
  struct pl_bundle *bundle;
  struct pl_config config;
  int failed;

  snprintf(a->err, sizeof a->err, "the generation is not there any more");
  if (pl__layout_bundle(a->args.fabric, a->wanted, &bundle) ||
      pl__edition_read(bundle, a->wanted, &config))
    return;
  snprintf(path, sizeof path, "%s", config.app_file);
  failed = configure(a, &config);
  a->next_failure[0] = '\0';
  if (!failed && !is_to_watch(a, bundle)) {
    failed = open_one(a, &config, a->wanted, NULL, &a->next);
    pl__config_deinit(&config);
    return;
  }
  if (!failed && is_deadly(a)) {
    failed = PL_ESCRIPT;
    snprintf(a->err, sizeof a->err,
             "under it this process has crashed %u times",
             PL_LAYOUT_CONTROL_CRASHES_MAX);
  } else if (!failed) {
    failed = open_one(a, &config, a->wanted, path, &a->next);
  }
  if (failed) {
    memcpy(a->next_failure, a->err, sizeof a->err);
    open_one(a, &config, a->wanted, NULL, &a->next);
  }
  pl__config_deinit(&config);
}

/* On a helper thread. */
static void close_gone(uv_work_t *work) {
  struct pl_admin *a = work->data;

  pl__generation_close(a->gone);
}

static void after_close(uv_work_t *work, int status) {
  struct pl_admin *a = work->data;

  (void)status;
  a->gone = NULL;
  pl__alloc_trim();
}

/* What one room of the plane knows goes over, by these functions of boot. */
static void hand_over(struct pl_admin *a, struct pl_generation *to,
                      const char *save, const char *adopt) {
  struct pl_vm_arg arg = {0};
  struct pl_buf states, none;
  uint32_t lines;

  pl__buf_init(&states, NULL, STATES_BYTES_MAX);
  pl__buf_init(&none, NULL, 1);
  if (!pl__vm_call_tool(&a->dispatch.now->vm, save, &arg, 0, CALL_SECONDS,
                        &states, &lines, a->err) &&
      states.bytes) {
    arg = (struct pl_vm_arg){.text = states.at, .text_bytes = states.bytes};
    pl__vm_call_tool(&to->vm, adopt, &arg, 1, CALL_SECONDS, &none, &lines,
                     a->err);
  }
  pl__buf_release(&states);
  pl__buf_release(&none);
}

static void after_load(uv_work_t *work, int status) {
  struct pl_admin *a = work->data;
  struct pl_generation *g = a->next;

  (void)status;
  a->is_loading = false;
  a->next = NULL;
  if (!g) { /* not even without the app: the VM before it goes on */
    warn(a, "the admin plane stays with the generation before", a->err);
    return;
  }
  g->vm.options.is_muted = false;
  hand_over(a, g, "health_save", "health_adopt");
  hand_over(a, g, "actions_save", "actions_adopt");
  memcpy(a->failure, a->next_failure, sizeof a->failure);
  pl__dispatch_succeed(&a->dispatch, g);
  if (pl__vm_start(&g->vm, g->site, a->err))
    warn(a, "the admin plane does not start", a->err);
  if (a->failure[0])
    warn(a, "the app's health checks and rules are not run", a->failure);
}

/* Where nobody waits for an answer, the thread does it itself: libuv's helpers
 * would stay for as long as the process does. */
static void run_aside(struct pl_admin *a, uv_work_t *work, uv_work_cb run,
                      uv_after_work_cb after) {
  if (has_socket(a)) {
    uv_queue_work(&a->loop.uv, work, run, after);
    return;
  }
  run(work);
  after(work, 0);
}

static void follow(struct pl_admin *a) {
  uint32_t committed =
      atomic_load_explicit(&a->state->generation, memory_order_acquire);

  if (committed == a->wanted || a->is_loading || a->dispatch.old || a->gone)
    return;
  a->wanted = committed;
  a->is_loading = true;
  run_aside(a, &a->loading, load, after_load);
}

/* --- the loop ------------------------------------------------------------------- */

static void stop_listening(struct pl_admin *a) {
  if (!a->listens)
    return;
  pl__listener_close(&a->listener);
  pl__net_drain_gently(&a->dispatch.net);
  pl__grpc_conns_drain(&a->grpc); /* its clients connect anew */
  a->listens = false;
}

/* Connections are taken while the socket is this server's, not that of one which
 * it replaces, or which has replaced it. */
static void listen_or_not(struct pl_admin *a) {
  pl__standing_read(a->standing, &a->facts);
  if (!has_socket(a) || a->facts.has_admin == a->listens || a->end_at > 0)
    return;
  if (a->listens) {
    stop_listening(a);
  } else {
    a->listens = !pl__listener_open(&a->listener, &a->dispatch.net, &a->loop.uv,
                                    a->args.listen_fd, 0);
  }
}

static void end_if_drained(struct pl_admin *a) {
  uint32_t left = a->dispatch.net.conn_count + a->grpc.count;

  if (a->end_at > 0 && (!left || pl__clock_monotonic_s() >= a->end_at))
    pl__loop_stop(&a->loop);
}

static void look_at_heat(struct pl_admin *a) {
  struct pl_metrics metrics;

  if (a->heat && pl__layout_metrics(a->args.fabric, &metrics) == 0)
    pl__heat_look(a->heat, &metrics, pl__clock_monotonic_ns());
}

static void on_look(uv_timer_t *timer) {
  struct pl_admin *a = timer->data;

  listen_or_not(a);
  if (a->listens && !a->listener.watching)
    pl__listener_resume(&a->listener);
  follow(a);
  look_at_heat(a);
  /* What a second's rules leave behind is little, and would lie there until the
   * heap is as large as a worker's may become. */
  if (a->dispatch.now)
    pl__vm_rest(&a->dispatch.now->vm);
  end_if_drained(a);
}

static void after_turn(void *arg) {
  struct pl_admin *a = arg;

  end_if_drained(a);
  if (!a->dispatch.old || a->gone)
    return;
  a->gone = pl__dispatch_take_old(&a->dispatch);
  if (a->gone)
    run_aside(a, &a->closing, close_gone, after_close);
}

/* What was asked is answered.  When another program has taken the socket over,
 * a client may be about to use a connection that it has to this one. */
static void on_end(uv_async_t *handle) {
  struct pl_admin *a = handle->data;

  a->end_at = pl__clock_monotonic_s() + DRAIN_S;
  stop_listening(a);
  if (a->facts.has_admin)
    pl__net_drain(&a->dispatch.net);
  end_if_drained(a);
}

static void *thread_main(void *arg) {
  struct pl_admin *a = arg;

  prctl(PR_SET_NAME, "perilune-adm");
  if (pl__vm_start(&a->dispatch.now->vm, a->dispatch.now->site, a->err))
    warn(a, "the admin plane does not start", a->err);
  pl__loop_run(&a->loop);
  return NULL;
}

/* --- gRPC ------------------------------------------------------------------------ */

static int grpc_status(void *arg, struct pl_slice service) {
  return pl__services_status(&((struct pl_admin *)arg)->services, service);
}

static uint32_t grpc_list(void *arg, struct pl_grpc_health_entry *to,
                          uint32_t max) {
  return pl__services_list(&((struct pl_admin *)arg)->services, to, max);
}

static const char *grpc_state(void *arg) {
  return pl__services_state(&((struct pl_admin *)arg)->services);
}

static struct pl_slice grpc_token(void *arg) { return token_of(arg); }

static void open_grpc(struct pl_admin *a) {
  struct pl_grpc_health_source source = {.status = grpc_status,
                                         .list = grpc_list,
                                         .state = grpc_state,
                                         .token = grpc_token,
                                         .arg = a};

  pl__grpc_conns_open(&a->grpc, &a->loop.uv, &source);
  a->dispatch.net.on_h2 = pl__grpc_conns_take;
  a->dispatch.net.h2_arg = &a->grpc;
  a->dispatch.net.crowded_s = CROWDED_S;
}

/* --- a life --------------------------------------------------------------------- */

static int find_all(struct pl_admin *a, struct pl_dispatch_options *options) {
  const struct pl_fabric *f = a->args.fabric;
  struct pl_standing *standing;
  int failed = pl__layout_admin_slabs(f, a->args.config, &options->slabs);

  failed =
      failed ? failed : pl__layout_ring(f, PL_RECORD_CONTROL, &options->log);
  failed = failed ? failed : pl__layout_standing(f, &standing);
  failed = failed ? failed : pl__layout_state(f, &a->state);
  failed = failed ? failed : share(a, &options->generation);
  if (failed)
    return failed;
  pl__metrics_begin(options->generation.metrics, options->generation.shard);
  a->standing = standing;
  return 0;
}

/* The VM that serves before anything is committed. */
static int open_dispatch(struct pl_admin *a) {
  struct pl_dispatch_options options = {
      .slab_count = PL_LAYOUT_ADMIN_SLABS,
      .slab_bytes = pl__dispatch_slab_bytes(a->args.config),
      .log_wake_fd = a->args.wake_fd,
      .worker = PL_RECORD_CONTROL,
      .on_report = on_report,
      .report_arg = a};
  struct pl_config config;
  int failed = find_all(a, &options);

  failed = failed ? failed : pl__config_copy(&config, a->args.config);
  if (failed)
    return failed;
  failed = configure(a, &config);
  options.config = &config;
  failed = failed ? failed : pl__dispatch_open(&a->dispatch, &options, a->err);
  pl__config_deinit(&config);
  if (failed)
    return failed;
  failed = pl__generation_load(a->dispatch.now, a->err);
  if (failed)
    pl__dispatch_close(&a->dispatch);
  return failed;
}

static int open_loop(struct pl_admin *a) {
  int failed = pl__loop_open(&a->loop, &a->dispatch);

  if (failed)
    return failed;
  failed = uv_async_init(&a->loop.uv, &a->end, on_end);
  if (failed) {
    pl__loop_close(&a->loop);
    return failed;
  }
  uv_timer_init(&a->loop.uv, &a->look_timer);
  open_grpc(a);
  a->end.data = a->look_timer.data = a;
  a->loading.data = a->closing.data = a;
  a->loop.after_turn = after_turn;
  a->loop.arg = a;
  pl__makings_init(&a->makings, &a->loop.uv, a->args.fabric, pl__admin_answer);
  uv_timer_start(&a->look_timer, on_look, 0,
                 has_socket(a) ? LOOK_MS : LOOK_SELDOM_MS);
  return 0;
}

static void close_loop(struct pl_admin *a) {
  if (a->listens)
    pl__listener_close(&a->listener);
  pl__net_close_all(&a->dispatch.net);
  pl__grpc_conns_close(&a->grpc);
  uv_close((uv_handle_t *)&a->end, NULL);
  uv_close((uv_handle_t *)&a->look_timer, NULL);
  pl__loop_close(&a->loop);
}

/* Only the thread itself is to be interrupted in its Lua; signals that control
 * reads are never to find it, as they would end the process. */
static int thread_start(struct pl_admin *a) {
  sigset_t all, before;
  int failed;

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  failed = pthread_create(&a->thread, NULL, thread_main, a);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return -failed;
}

int pl__admin_start(struct pl_admin **out, const struct pl_admin_args *args,
                    char *error) {
  struct pl_admin *a = pl__alloc_zero(sizeof *a);
  int failed;

  snprintf(error, PL_ADMIN_ERROR_BYTES, "out of memory");
  if (!a)
    return PL_ENOMEM;
  a->args = *args;
  pl__replay_init(&a->replay, args->fabric, args->config);
  pthread_mutex_init(&a->granted, NULL);
  if (has_socket(a))
    a->heat = pl__alloc_zero(sizeof *a->heat);
  failed =
      has_socket(a) && !a->heat ? PL_ENOMEM : pl__services_init(&a->services);
  failed = failed ? failed : open_dispatch(a);
  if (failed)
    goto fail_dispatch;
  failed = open_loop(a);
  if (failed)
    goto fail_loop;
  failed = thread_start(a);
  if (failed)
    goto fail_thread;
  *out = a;
  return 0;

fail_thread:
  close_loop(a);
fail_loop:
  pl__dispatch_close(&a->dispatch);
fail_dispatch:
  snprintf(error, PL_ADMIN_ERROR_BYTES,
           "the admin plane does not start: %.400s",
           a->err[0] ? a->err : pl_strerror(failed));
  pthread_mutex_destroy(&a->granted);
  pl__services_deinit(&a->services);
  pl__replay_deinit(&a->replay);
  pl__free(a->heat);
  pl__free(a);
  return PL_EFAIL;
}

bool pl__admin_stop(struct pl_admin *a) {
  struct timespec due;

  uv_async_send(&a->end);
  clock_gettime(CLOCK_REALTIME, &due);
  due.tv_sec += (time_t)END_S;
  if (pthread_timedjoin_np(a->thread, NULL, &due))
    return false;
  if (a->is_loading || a->gone || pl__makings_is_busy(&a->makings))
    return false; /* a helper thread uses it */
  pl__makings_deinit(&a->makings);
  close_loop(a);
  pl__dispatch_close(&a->dispatch);
  pl__trends_deinit(&a->trends);
  pthread_mutex_destroy(&a->granted);
  pl__services_deinit(&a->services);
  pl__replay_deinit(&a->replay);
  pl__free(a->heat);
  pl__free(a);
  return true;
}
