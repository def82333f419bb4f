/* server/watch.c - see watch.h. */
#define _GNU_SOURCE /* tgkill */
#include "server/watch.h"

#include <signal.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/flights.h"
#include "fabric/quarantine.h"
#include "fabric/record.h"
#include "server/casualty.h"
#include "server/child.h"
#include "server/config.h"
#include "server/layout.h"

#define ABORT_NS ((int64_t)PL_PULSE_ABORT_MS * PL_NS_PER_MS)

/* Of one worker. */
struct pl_watch_shelf {
  struct pl_beat *beat;
  struct pl_flights *flights;
  struct pl_crash *crash;
};

static int shelf_fill(struct pl_watch_shelf *s, const struct pl_fabric *fabric,
                      uint32_t worker) {
  int status = pl__layout_beat(fabric, worker, &s->beat);

  status = status ? status : pl__layout_flights(fabric, worker, &s->flights);
  return status ? status : pl__layout_crash(fabric, worker, &s->crash);
}

int pl__watch_init(struct pl_watch *w, const struct pl_config *config,
                   const struct pl_fabric *fabric, struct pl_child *children,
                   uint32_t count, struct pl_ring_writer *log) {
  struct pl_quarantine *quarantines = NULL;
  int status;

  *w = (struct pl_watch){
      .config = config, .children = children, .count = count, .log = log};
  w->shelves = pl__alloc_zero(count * sizeof(*w->shelves));
  status = w->shelves ? pl__layout_routes(fabric, &w->routes) : PL_ENOMEM;
  status = status ? status : pl__layout_quarantines(fabric, &quarantines);
  for (uint32_t i = 0; i < count && !status; i++)
    status = shelf_fill(&w->shelves[i], fabric, i);
  if (status) {
    pl__watch_deinit(w);
    return status;
  }
  w->slot_count = w->shelves[0].flights->slot_count; /* all have as many */
  pl__pulse_init(&w->pulse, config->vm_stuck_timeout_s);
  pl__blame_init(&w->blame, quarantines, config->vm_quarantine_s);
  return 0;
}

void pl__watch_deinit(struct pl_watch *w) {
  pl__free(w->shelves);
  w->shelves = NULL;
}

void pl__watch_use(struct pl_watch *w, const struct pl_config *config,
                   uint32_t generation) {
  w->config = config;
  w->generation = generation;
  w->pulse.stuck_ns = (int64_t)(config->vm_stuck_timeout_s * PL_NS_PER_S);
  w->blame.quarantine_ns = (int64_t)(config->vm_quarantine_s * PL_NS_PER_S);
}

/* --- telling ----------------------------------------------------------- */

/* One record about a route, with a number unless `key` has no bytes. */
static void log_route(struct pl_watch *w, enum pl_level level,
                      struct pl_slice message, uint32_t generation,
                      uint32_t route, struct pl_slice key, double value) {
  struct pl_record head = {.level = (uint8_t)level,
                           .worker = PL_RECORD_MASTER,
                           .route = route,
                           .generation = generation};
  struct pl_record_draft draft;
  _Alignas(8) char memory[512];

  if ((uint32_t)level < w->config->log_level)
    return;
  pl__record_begin(&draft, memory, sizeof(memory), &head, message);
  if (key.bytes)
    pl__record_num(&draft, key, value);
  pl__record_end(&draft, w->log);
  pl__ring_wake(w->log);
}

static struct pl_casualty casualty_of(struct pl_watch *w, uint32_t index) {
  const struct pl_child *c = &w->children[index];

  return (struct pl_casualty){.worker = index,
                              .pid = c->pid,
                              .stuck = c->stuck,
                              .now_ns = pl__clock_monotonic_ns(),
                              .flights = w->shelves[index].flights,
                              .slot_count = w->slot_count,
                              .crash = w->shelves[index].crash,
                              .routes = w->routes};
}

/* That a worker does not answer, with what it is at; or that it does again. */
static void silence_log(struct pl_watch *w, uint32_t index, bool silent) {
  struct pl_casualty c = casualty_of(w, index);
  const struct pl_flight *running = pl__casualty_running(&c);
  struct pl_record head = {
      .level = (uint8_t)(silent ? PL_LEVEL_WARN : PL_LEVEL_INFO),
      .worker = (uint16_t)index,
      .route = PL_RECORD_NO_ROUTE};
  struct pl_record_draft draft;
  _Alignas(8) char memory[512];

  if (head.level < w->config->log_level)
    return;
  pl__casualty_begin(&draft, memory, sizeof(memory), &head,
                     silent ? running : NULL,
                     silent ? PL_SLICE("a worker does not answer")
                            : PL_SLICE("a worker answers again"));
  if (silent)
    pl__casualty_age(&draft, running, c.now_ns);
  pl__record_end(&draft, w->log);
  pl__ring_wake(w->log);
}

static void silence_set(struct pl_watch *w, uint32_t index, bool silent) {
  struct pl_child *c = &w->children[index];

  if (c->silent == silent)
    return;
  c->silent = silent;
  silence_log(w, index, silent);
  if (silent && w->on_silence)
    w->on_silence(w->arg, index, false);
}

/* --- looking ----------------------------------------------------------- */

void pl__watch_mark(struct pl_watch *w, bool serves) {
  for (uint32_t i = 0; i < w->count; i++) {
    const struct pl_child *c = &w->children[i];
    struct pl_beat *beat = w->shelves[i].beat;
    bool leaves =
        atomic_load_explicit(&beat->is_leaving, memory_order_relaxed) != 0;
    bool adopted = serves && c->listens && (!c->ready || c->silent || leaves);

    atomic_store_explicit(&beat->is_adopted, adopted, memory_order_relaxed);
  }
}

/* Has it report where it is; who does not even do that is killed. Only the main
 * thread can tell. */
static void worker_abort(struct pl_child *c, int64_t now) {
  c->stuck = true;
  c->kill_ns = now + ABORT_NS;
  tgkill(c->pid, c->pid, SIGABRT);
}

/* One that loads keeps vm.load_timeout itself, unless it blocks. */
static bool is_late(const struct pl_watch *w, const struct pl_child *c,
                    int64_t now) {
  double seconds = w->config->vm_load_timeout_s + w->config->vm_stuck_timeout_s;

  return now - c->started_ns > (int64_t)(seconds * PL_NS_PER_S);
}

static void worker_judge(struct pl_watch *w, uint32_t index, int64_t now) {
  struct pl_child *c = &w->children[index];
  int64_t at = atomic_load_explicit(&w->shelves[index].beat->at_ns,
                                    memory_order_relaxed);

  if (c->pid <= 0)
    return;
  if (!c->ready && !c->stuck) {
    if (is_late(w, c, now))
      worker_abort(c, now);
    return;
  }
  if (c->stuck) {
    if (c->kill_ns && c->kill_ns <= now) {
      c->kill_ns = 0;
      kill(c->pid, SIGKILL);
    }
    return;
  }
  switch (pl__pulse_judge(&w->pulse, at, now)) {
  case PL_PULSE_BEATING:
    silence_set(w, index, false);
    return;
  case PL_PULSE_SILENT:
    silence_set(w, index, true);
    return;
  case PL_PULSE_STUCK:
    if (w->on_silence) /* first: while it can still be seen */
      w->on_silence(w->arg, index, true);
    worker_abort(c, now); /* its death is then handled as any */
  }
}

/* Tells about routes that have been tried out of quarantine and freed. */
static void quarantine_take(struct pl_watch *w) {
  uint32_t route, now = w->generation;

  for (uint32_t generation = now ? now - 1 : 0; generation <= now; generation++)
    while (pl__quarantine_take(
        pl__quarantine_of(w->blame.quarantines, generation), &route))
      log_route(w, PL_LEVEL_INFO, PL_SLICE("a route is served again"),
                generation, route, PL_SLICE(""), 0);
}

void pl__watch_look(struct pl_watch *w, bool serves, int64_t now_ns) {
  pl__pulse_look(&w->pulse, now_ns);
  for (uint32_t i = 0; i < w->count; i++)
    worker_judge(w, i, now_ns);
  pl__watch_mark(w, serves);
  quarantine_take(w);
}

int64_t pl__watch_due(const struct pl_watch *w, int64_t now_ns) {
  int64_t due_ns = pl__pulse_due(&w->pulse, now_ns);

  for (uint32_t i = 0; i < w->count; i++)
    if (w->children[i].kill_ns && w->children[i].kill_ns < due_ns)
      due_ns = w->children[i].kill_ns;
  return due_ns;
}

/* --- deaths ------------------------------------------------------------ */

static void death_tell(struct pl_watch *w, const struct pl_casualty *c) {
  const struct pl_flight *running = pl__casualty_running(c);
  uint32_t refused;

  pl__casualty_log(c, w->log, w->config->log_level);
  pl__ring_wake(w->log);
  refused = pl__blame_death(&w->blame, c);
  if (refused != PL_RECORD_NO_ROUTE)
    log_route(w, PL_LEVEL_ERROR,
              PL_SLICE("a route is refused: it killed workers"),
              atomic_load_explicit(&running->generation, memory_order_relaxed),
              refused, PL_SLICE("seconds"), w->config->vm_quarantine_s);
}

void pl__watch_death(struct pl_watch *w, uint32_t index, int signal) {
  struct pl_casualty c = casualty_of(w, index);

  c.signal = signal;
  death_tell(w, &c);
}

bool pl__watch_exit(struct pl_watch *w, uint32_t index, int code) {
  struct pl_casualty c = casualty_of(w, index);

  c.exit_code = code;
  if (!pl__casualty_running(&c))
    return false;
  death_tell(w, &c);
  return true;
}

/* --- the end ----------------------------------------------------------- */

void pl__watch_end(struct pl_watch *w) {
  for (uint32_t i = 0; i < w->count; i++)
    atomic_store_explicit(&w->shelves[i].beat->is_last, 1,
                          memory_order_relaxed);
}

uint32_t pl__watch_requests(const struct pl_watch *w) {
  uint32_t count = 0;

  for (uint32_t i = 0; i < w->count; i++)
    if (w->children[i].pid > 0)
      count += atomic_load_explicit(&w->shelves[i].beat->request_count,
                                    memory_order_relaxed);
  return count;
}
