/* server/casualty.c - see casualty.h. */
#define _GNU_SOURCE /* sigabbrev_np, strnlen */
#include "server/casualty.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "fabric/flights.h"
#include "fabric/routes.h"
#include "server/crash.h"

/* --- who and why ------------------------------------------------------- */

/* The report of this death; NULL: it has left none. */
static const struct pl_crash *report_of(const struct pl_casualty *c) {
  uint32_t stage = atomic_load_explicit(&c->crash->stage, memory_order_acquire);

  return stage >= PL_CRASH_RAW && c->crash->pid == c->pid ? c->crash : NULL;
}

static bool is_fatal(int number) {
  return number == SIGSEGV || number == SIGBUS || number == SIGFPE ||
         number == SIGILL || number == SIGABRT || number == SIGTRAP ||
         number == SIGSYS;
}

enum pl_casualty_cause pl__casualty_cause(const struct pl_casualty *c) {
  const struct pl_crash *crash = report_of(c);

  if (c->stuck)
    return PL_CASUALTY_STUCK;
  if (c->signal == 0)
    return PL_CASUALTY_EXITED;
  if (crash && crash->sender && crash->sender != c->pid)
    return PL_CASUALTY_KILLED;
  return crash || is_fatal(c->signal) ? PL_CASUALTY_CRASHED
                                      : PL_CASUALTY_KILLED;
}

static uint32_t phase_of(const struct pl_casualty *c) {
  return atomic_load_explicit(&c->flights->phase, memory_order_relaxed);
}

/* slot + 1, as `running` and `last` count; NULL: no slot. */
static const struct pl_flight *flight_at(const struct pl_casualty *c,
                                         uint32_t number) {
  return number >= 1 && number <= c->slot_count ? &c->flights->at[number - 1]
                                                : NULL;
}

static bool is_in_flight(const struct pl_flight *e) {
  return atomic_load_explicit(&e->since_ns, memory_order_acquire) != 0;
}

static uint32_t route_of(const struct pl_flight *e) {
  return atomic_load_explicit(&e->route, memory_order_relaxed);
}

static uint32_t generation_of(const struct pl_flight *e) {
  return atomic_load_explicit(&e->generation, memory_order_relaxed);
}

const struct pl_flight *pl__casualty_running(const struct pl_casualty *c) {
  const struct pl_flight *e = flight_at(
      c, atomic_load_explicit(&c->flights->running, memory_order_acquire));

  return e && phase_of(c) == PL_PHASE_LUA && is_in_flight(e) ? e : NULL;
}

uint32_t pl__casualty_blamed(const struct pl_casualty *c) {
  const struct pl_flight *e = pl__casualty_running(c);

  return e && pl__casualty_cause(c) != PL_CASUALTY_KILLED ? route_of(e)
                                                          : PL_RECORD_NO_ROUTE;
}

const struct pl_flight *pl__casualty_next(const struct pl_casualty *c,
                                          uint32_t *slot) {
  while (*slot < c->slot_count) {
    const struct pl_flight *e = &c->flights->at[(*slot)++];
    if (is_in_flight(e))
      return e;
  }
  return NULL;
}

/* --- the records ------------------------------------------------------- */

static struct pl_record head_of(const struct pl_casualty *c,
                                enum pl_level level) {
  return (struct pl_record){.level = (uint8_t)level,
                            .worker = (uint16_t)c->worker,
                            .route = PL_RECORD_NO_ROUTE};
}

static uint64_t word_of(const _Atomic uint64_t *at) {
  return atomic_load_explicit(at, memory_order_relaxed);
}

void pl__casualty_begin(struct pl_record_draft *d, void *memory, uint32_t bytes,
                        const struct pl_record *head, const struct pl_flight *e,
                        struct pl_slice message) {
  struct pl_record r = *head;
  struct pl_record_labels labels = {0};
  char caller_id[PL_LIMIT_REQUEST_ID_BYTES];

  if (e) {
    r.route = route_of(e);
    r.generation = generation_of(e);
    r.request_id = word_of(&e->request_id);
    r.trace_id[0] = word_of(&e->trace_id[0]);
    r.trace_id[1] = word_of(&e->trace_id[1]);
    r.span_id = word_of(&e->span_id);
    labels.caller_id = pl__slice(caller_id, pl__flight_caller_id(e, caller_id));
  }
  pl__record_begin_for(d, memory, bytes, &r, &labels, message);
}

void pl__casualty_age(struct pl_record_draft *d, const struct pl_flight *e,
                      int64_t now_ns) {
  int64_t since_ns =
      e ? atomic_load_explicit(&e->since_ns, memory_order_acquire) : 0;

  if (since_ns > 0 && since_ns <= now_ns)
    pl__record_num(d, PL_SLICE("age_ms"),
                   (double)((now_ns - since_ns) / PL_NS_PER_MS));
}

/* "SIGSEGV", or "signal 40". */
static void put_signal(struct pl_record_draft *d, int number) {
  const char *name = sigabbrev_np(number);
  char text[32];

  if (name)
    snprintf(text, sizeof text, "SIG%s", name);
  else
    snprintf(text, sizeof text, "signal %d", number);
  pl__record_str(d, PL_SLICE("signal"), pl__slice_text(text));
}

static const char *phase_name(uint32_t phase) {
  switch (phase) {
  case PL_PHASE_LUA:
    return "lua";
  case PL_PHASE_COLLECT:
    return "collect";
  default:
    return "core";
  }
}

/* Why the kernel saw a fault (sigaction(2)); NULL: the number must do. */
static const char *code_name(int signal, int code) {
  if (signal == SIGSEGV && code == SEGV_MAPERR)
    return "SEGV_MAPERR";
  if (signal == SIGSEGV && code == SEGV_ACCERR)
    return "SEGV_ACCERR";
  if (signal == SIGBUS && code == BUS_ADRERR)
    return "BUS_ADRERR";
  if (signal == SIGFPE && code == FPE_INTDIV)
    return "FPE_INTDIV";
  if (signal == SIGILL && code == ILL_ILLOPN)
    return "ILL_ILLOPN";
  if (code == SI_KERNEL)
    return "SI_KERNEL";
  if (code == SI_USER)
    return "SI_USER";
  return code == SI_TKILL ? "SI_TKILL" : NULL;
}

static void put_code(struct pl_record_draft *d, const struct pl_crash *crash) {
  const char *name = code_name(crash->signal, crash->code);

  if (name)
    pl__record_str(d, PL_SLICE("code"), pl__slice_text(name));
  else
    pl__record_num(d, PL_SLICE("code"), crash->code);
}

static void put_address(struct pl_record_draft *d, uint64_t address) {
  char text[32];

  snprintf(text, sizeof text, "0x%llx", (unsigned long long)address);
  pl__record_str(d, PL_SLICE("address"), pl__slice_text(text));
}

/* Lines in the crash section, without the newline behind the last one. */
static void put_lines(struct pl_record_draft *d, struct pl_slice key,
                      const char *text) {
  size_t bytes = strnlen(text, PL_CRASH_TEXT_BYTES);

  while (bytes > 0 && text[bytes - 1] == '\n')
    bytes--;
  if (bytes > 0)
    pl__record_str(d, key, pl__slice(text, bytes));
}

static void put_last_route(struct pl_record_draft *d,
                           const struct pl_casualty *c) {
  const struct pl_flight *e = flight_at(
      c, atomic_load_explicit(&c->flights->last, memory_order_relaxed));
  struct pl_slice pattern = {"", 0};

  if (e)
    pattern = pl__routes_lookup(c->routes, generation_of(e), route_of(e));
  if (pattern.bytes)
    pl__record_str(d, PL_SLICE("last_route"), pattern);
}

static uint32_t in_flight_count(const struct pl_casualty *c) {
  uint32_t slot = 0, count = 0;

  while (pl__casualty_next(c, &slot))
    count++;
  return count;
}

static const char *message_of(enum pl_casualty_cause cause) {
  switch (cause) {
  case PL_CASUALTY_CRASHED:
    return "a worker crashed";
  case PL_CASUALTY_EXITED:
    return "a worker was ended by what it ran";
  case PL_CASUALTY_STUCK:
    return "a worker stood still and was killed";
  default:
    return "a worker was killed";
  }
}

static void log_death(const struct pl_casualty *c, struct pl_ring_writer *log) {
  _Alignas(8) char memory[PL_LIMIT_LOG_RECORD_BYTES];
  const struct pl_flight *running = pl__casualty_running(c);
  const struct pl_crash *crash = report_of(c);
  struct pl_record head = head_of(c, PL_LEVEL_ERROR);
  struct pl_record_draft d;

  pl__casualty_begin(&d, memory, sizeof memory, &head, running,
                     pl__slice_text(message_of(pl__casualty_cause(c))));
  pl__record_num(&d, PL_SLICE("pid"), c->pid);
  /* Its own watchdog may have ended what began with another signal. */
  if (c->signal)
    put_signal(&d, crash ? crash->signal : c->signal);
  else
    pl__record_num(&d, PL_SLICE("exit_code"), c->exit_code);
  if (crash && crash->sender == 0)
    put_address(&d, crash->address);
  if (crash)
    put_code(&d, crash);
  if (crash && crash->sender && crash->sender != c->pid && !c->stuck)
    pl__record_num(&d, PL_SLICE("sender"), crash->sender);
  pl__record_str(&d, PL_SLICE("phase"),
                 pl__slice_text(phase_name(phase_of(c))));
  pl__casualty_age(&d, running, c->now_ns);
  pl__record_num(&d, PL_SLICE("in_flight"), in_flight_count(c));
  if (!running)
    put_last_route(&d, c);
  if (crash) {
    put_lines(&d, PL_SLICE("traceback"), crash->traceback);
    put_lines(&d, PL_SLICE("backtrace"), crash->backtrace);
  }
  pl__record_end(&d, log);
}

static void log_lost(const struct pl_casualty *c, const struct pl_flight *e,
                     struct pl_ring_writer *log) {
  _Alignas(8) char memory[512];
  struct pl_record head = head_of(c, PL_LEVEL_WARN);
  struct pl_record_draft d;

  pl__casualty_begin(&d, memory, sizeof memory, &head, e,
                     PL_SLICE("a request was lost with its worker"));
  pl__casualty_age(&d, e, c->now_ns);
  pl__record_end(&d, log);
}

static void log_more(const struct pl_casualty *c, uint32_t count,
                     struct pl_ring_writer *log) {
  _Alignas(8) char memory[512];
  struct pl_record head = head_of(c, PL_LEVEL_WARN);
  struct pl_record_draft d;

  pl__record_begin(&d, memory, sizeof memory, &head,
                   PL_SLICE("more requests were lost with their worker"));
  pl__record_num(&d, PL_SLICE("count"), count);
  pl__record_end(&d, log);
}

void pl__casualty_log(const struct pl_casualty *c, struct pl_ring_writer *log,
                      uint32_t level_min) {
  const struct pl_flight *running = pl__casualty_running(c), *e;
  uint32_t slot = 0, count = 0;

  log_death(c, log);
  if (level_min > PL_LEVEL_WARN)
    return;
  while ((e = pl__casualty_next(c, &slot)))
    if (e != running && ++count <= PL_CASUALTY_LOST_MAX)
      log_lost(c, e, log);
  if (count > PL_CASUALTY_LOST_MAX)
    log_more(c, count - PL_CASUALTY_LOST_MAX, log);
}
