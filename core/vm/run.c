/* vm/run.c - whose turn it is: requests, the ready, those that were preempted.
 *
 *                    woken                    a slice is over (on_hook)
 *   waits --> READY -----> RUNNING <-----------------------------+
 *                            |  ^                                |
 *                            |  +-- one per dispatch, in turns --+ PREEMPTED
 *                            |
 *                            +--> over: deadline, cancelled, too much memory:
 *                                 an error is raised in it, again and again
 *                                 until it ends.  One that catches them all
 *                                 is left where it is and never resumed; a
 *                                 runner's request goes to an heir, which
 *                                 answers and runs what was deferred.
 *
 * Who was preempted has had a slice: those that are ready, and new requests,
 * come first, and of the preempted only one goes on per dispatch.  A dispatch
 * ends when somebody in it is preempted, so that what others have written goes
 * out; the next one begins with the others of the two, so that neither endless
 * tasks nor endless requests keep the rest from beginning.  Each newcomer gets
 * a slice before that is known of it.
 */
#include "base/clock.h"
#include "base/limits.h"
#include "fabric/events.h"
#include "fabric/flights.h"
#include "fabric/quarantine.h"
#include "http/encode.h"
#include "vm/coro.h"
#include "vm/report.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

/* Requests, and time, of one dispatch: then the loop looks at its sockets. */
#define DISPATCH_REQUEST_MAX 4096u
#define DISPATCH_NS_MAX (5 * PL_NS_PER_MS)
#define DISPATCH_CLOCK_EVERY 64u /* requests between looks at the clock */
/* Waits that end badly before a coroutine is given up. The error can be caught,
 * and whoever does that in a loop would go on for ever. */
#define CORO_REFUSALS_MAX 100u

/* --- requests ---------------------------------------------------------- */

/* Ends the request of `c`; one that was let out of quarantine has passed. */
void pl__coro_end_request(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;
  struct pl_req *req = c->req;
  struct pl_vm_slot *slot = &vm->slots[req->slot];

  c->req = NULL;
  pl__coro_forget_wait(c);
  slot->runner = NULL;
  if (vm->options.flights)
    pl__flight_end(vm->options.flights, req->slot);
  if (slot->is_probe) {
    slot->is_probe = false;
    pl__quarantine_lift(vm->options.quarantine, pl__vm_route_in_log(vm, req));
  }
  vm->options.host.end(vm->options.host.arg, req);
}

static bool budget_is_spent(struct pl_vm *vm) {
  if (vm->budget == 0 || vm->starved)
    return true;
  vm->budget--;
  return vm->budget % DISPATCH_CLOCK_EVERY == 0 &&
         pl__clock_monotonic_ns() > vm->budget_end_ns;
}

static void refuse(struct pl_vm *vm, struct pl_req *req, uint32_t left_s) {
  struct pl_vm_host *host = &vm->options.host;
  char text[16];
  int bytes = snprintf(text, sizeof text, "%u", left_s);

  vm->slots[req->slot].trace.was_shed = true;
  pl_res_field(req, "Retry-After", 11, text, (uint32_t)bytes, 0);
  if (pl_res_problem(req, 503, "", 0))
    req->flags |= PL_REQ_CLOSE;
  host->end(host->arg, req);
}

/* Whether the route's quarantine, if it is in one, lets the request run. */
static bool is_admitted(struct pl_vm *vm, struct pl_req *req) {
  struct pl_quarantine *q = vm->options.quarantine;
  uint32_t route = pl__vm_route_in_log(vm, req);
  int64_t now = pl__clock_monotonic_ns();

  switch (pl__quarantine_admit(q, route, now)) {
  case PL_QUARANTINE_REFUSED:
    refuse(vm, req, pl__quarantine_left_s(q, route, now));
    return false;
  case PL_QUARANTINE_PROBE:
    vm->slots[req->slot].is_probe = true;
    return true;
  default:
    return true;
  }
}

/* Written before the handler runs: who must name it may find us dead. */
static void take_off(struct pl_vm *vm, const struct pl_req *req) {
  struct pl_flights *f = vm->options.flights;

  pl__flight_name(
      f, req->slot, req->context.trace_id, req->context.span_id,
      pl__slice(req->context.caller_id, req->context.caller_id_bytes));
  pl__flight_begin(f, req->slot, req->context.request_id,
                   vm->options.generation, pl__vm_route_in_log(vm, req),
                   (int64_t)(req->received * PL_NS_PER_S));
  if (vm->slots[req->slot].is_probe)
    atomic_store_explicit(&f->at[req->slot].is_probe, 1, memory_order_release);
}

static struct pl_req *next_admitted(struct pl_vm *vm) {
  struct pl_vm_host *host = &vm->options.host;
  struct pl_req *req;

  do
    req = host->next(host->arg);
  while (req && vm->options.quarantine &&
         !pl__quarantine_is_empty(vm->options.quarantine) &&
         !is_admitted(vm, req));
  return req;
}

/* Ends the one that `c` has and takes the next; NULL: enough for now.  It is the
 * core's time, although Lua has called. */
static struct pl_req *change_requests(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;
  struct pl_req *req = NULL;

  pl__phase_set(vm->phase, PL_PHASE_CORE);
  if (c->req) {
    pl__coro_end_request(c);
    pl__waiting_end(c);
  }
  if (budget_is_spent(vm))
    vm->budget = 0;
  else
    req = next_admitted(vm);
  pl__phase_set(vm->phase, PL_PHASE_LUA);
  return req;
}

struct pl_req *pl__coro_next_request(struct pl_coro *c, int *inherited) {
  struct pl_vm *vm = c->vm;
  struct pl_req *req;

  *inherited = c->inherited;
  if (c->inherited) {
    c->inherited = PL_WAKE_OK;
    return c->req;
  }
  req = change_requests(c);
  if (!req)
    return NULL;
  pl__coro_begin(c);
  c->req = req;
  vm->stretch++;
  vm->charged_bytes = vm->heap_bytes;
  vm->slots[req->slot].held_bytes = 0;
  vm->slots[req->slot].runner = c;
  if (vm->options.flights)
    take_off(vm, req);
  pl__waiting_request(c);
  return req;
}

/* --- running ----------------------------------------------------------- */

void pl__coro_charge(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;
  int64_t grown = (int64_t)(vm->heap_bytes - vm->charged_bytes);

  if (c->req)
    vm->slots[c->req->slot].held_bytes += grown;
  else
    c->held_bytes += grown;
  vm->charged_bytes = vm->heap_bytes;
}

static void note_running(struct pl_vm *vm, const struct pl_coro *c) {
  struct pl_flights *f = vm->options.flights;

  if (!f)
    pl__phase_set(vm->phase, c ? PL_PHASE_LUA : PL_PHASE_CORE);
  else if (!c)
    pl__flight_run(f, PL_FLIGHT_NONE, PL_PHASE_CORE);
  else
    pl__flight_run(f, c->req ? c->req->slot + 1 : PL_FLIGHT_TASK, PL_PHASE_LUA);
}

/* Whether the recorder tells when it goes on and stops.  An idle runner's
 * requests tell that themselves. */
static bool is_recorded(const struct pl_coro *c) {
  return c->vm->options.recorder && (c->req || c->is_task);
}

static void record(const struct pl_coro *c, unsigned kind, unsigned detail) {
  struct pl_recorder *r = c->vm->options.recorder;
  uint64_t request = c->req ? c->req->context.request_id : 0;
  uint32_t route =
      c->req ? pl__vm_route_in_log(c->vm, c->req) : PL_RECORD_NO_ROUTE;
  uint64_t word = pl__event_word(
      kind, detail | (c->is_task ? PL_EVENT_RUN_TASK : 0),
      c->req ? c->req->slot & 0xffff : 0, route, c->vm->options.generation);

  if (kind == PL_EVENT_PREEMPT)
    pl__recorder_seldom(r, r->last, request, c->index, word);
  else
    pl__recorder_often(r, pl__recorder_now(r), request, c->index, word);
}

static enum pl_event_run how_it_runs(const struct pl_coro *c) {
  if (c->is_parked)
    return PL_EVENT_RUN_PREEMPTED;
  if (c->start_args >= 0)
    return PL_EVENT_RUN_BEGUN;
  return c->wake == PL_WAKE_OK ? PL_EVENT_RUN_WOKEN : PL_EVENT_RUN_ENDING;
}

static enum pl_event_park why_it_stops(const struct pl_coro *c, int status) {
  static const uint8_t waits[] = {[PL_WAIT_NONE] = PL_EVENT_PARK_READY,
                                  [PL_WAIT_TIMER] = PL_EVENT_PARK_TIMER,
                                  [PL_WAIT_BODY] = PL_EVENT_PARK_BODY,
                                  [PL_WAIT_WRITE] = PL_EVENT_PARK_WRITE,
                                  [PL_WAIT_TASKS] = PL_EVENT_PARK_TASKS,
                                  [PL_WAIT_EVENT] = PL_EVENT_PARK_EVENT,
                                  [PL_WAIT_INJECTED] = PL_EVENT_PARK_INJECTED};

  if (status != LUA_YIELD)
    return status ? PL_EVENT_PARK_FAILED : PL_EVENT_PARK_ENDED;
  return c->vm->preempt.passing ? PL_EVENT_PARK_PREEMPTED : waits[c->wait];
}

static void record_stop(const struct pl_coro *c, int status) {
  enum pl_event_park why = why_it_stops(c, status);

  record(c, PL_EVENT_PARK, why);
  if (why == PL_EVENT_PARK_PREEMPTED)
    record(c, PL_EVENT_PREEMPT, why);
}

static int run_lua(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;
  int args = c->start_args, status;

  if (is_recorded(c))
    record(c, PL_EVENT_RUN, how_it_runs(c));

  if (c->is_parked) {
    args = 0;
    if (pl__coro_is_over(c, pl__clock_monotonic_ns()))
      pl__preempt_look(vm);
  } else if (args < 0) {
    lua_pushinteger(c->co, c->wake);
    args = 1;
  }
  if (c->wait_from > 0)
    pl__trace_waited(c);
  vm->preempt.passing = false; /* also if an error has lost it on its way */
  c->is_parked = false;
  c->start_args = -1;
  pl__waiting_keep_woken(vm);
  pl__waiting_resume(c);
  vm->stretch++;
  vm->charged_bytes = vm->heap_bytes;
  vm->stack_floor = (uintptr_t)&status - PL_LIMIT_NESTING_BYTES;
  note_running(vm, c);
  pl__vm_running = vm;
  vm->current = c;
  status = lua_resume(c->co, args);
  vm->current = NULL;
  pl__waiting_keep_woken(vm);
  note_running(vm, NULL);
  if (is_recorded(c))
    record_stop(c, status);
  pl__coro_charge(c);
  return status;
}

/* What a coroutine that has yielded does next. */
static void after_yield(struct pl_coro *c) {
  struct pl_vm *vm = c->vm;

  if (vm->preempt.passing) {
    vm->preempt.passing = false;
    vm->has_parked = true;
    if (c->is_abandoned) {
      pl__coro_abandon(c, "it catches the error that ends it, and goes on");
      return;
    }
    c->is_parked = true;
    pl__list_push_back(&vm->parked, &c->link);
    pl__waiting_yield(c);
  } else if (c->refusals > CORO_REFUSALS_MAX) {
    pl__coro_abandon(c,
                     "it catches the error that ends its waits, and goes on");
  } else if (pl__coro_is_waiting(c)) {
    pl__waiting_yield(c);
  } else if (!c->is_task && !c->req) {
    pl__coro_give(c); /* a runner with nothing to do */
  } else {
    pl__coro_ready(c, PL_WAKE_OK); /* a yield of the user's own */
  }
}

/* False: it has failed. */
static bool coro_resume(struct pl_coro *c) {
  int status = run_lua(c);

  if (status == LUA_YIELD) {
    after_yield(c);
  } else if (status == 0) {
    lua_settop(c->co, 0);
    pl__coro_forget_wait(c); /* one that was registered and not waited for */
    if (c->is_task)
      pl__coro_end_task(c);
    pl__coro_give(c);
  } else {
    pl__coro_failed(c, status);
    return false;
  }
  return true;
}

/* What one handler has filled must not fail those that come after it. */
static void relieve(struct pl_vm *vm) {
  if (vm->starved)
    pl__vm_relieve(vm);
}

/* Resumes those that are ready now; what becomes ready meanwhile waits for the
 * next dispatch, so that none can keep the loop from its sockets. */
static void run_ready(struct pl_vm *vm) {
  struct pl_list batch, *link;

  pl__list_init(&batch);
  while ((link = pl__list_take_front(&vm->ready)))
    pl__list_push_back(&batch, link);
  while (!vm->has_parked && (link = pl__list_take_front(&batch))) {
    relieve(vm);
    coro_resume(PL_LIST_ENTRY(link, struct pl_coro, link));
  }
  while ((link = pl__list_take_back(&batch)))
    pl__list_push_front(&vm->ready, link);
}

/* There can be no runner: answers what waits without one. */
static void refuse_requests(struct pl_vm *vm) {
  struct pl_vm_host *host = &vm->options.host;
  struct pl_req *req;

  pl__report(vm, PL_LEVEL_ERROR, NULL, "requests are refused: no runner", "");
  pl__vm_running = vm;
  while ((req = host->next(host->arg))) {
    req->flags |= PL_REQ_CLOSE;
    pl_res_problem(req, 503, "", 0); /* should it fail, the end closes */
    host->end(host->arg, req);
  }
}

/* A runner that parks with requests left in the queue leaves them to the next
 * one. */
static void run_requests(struct pl_vm *vm) {
  vm->budget = DISPATCH_REQUEST_MAX;
  vm->budget_end_ns = pl__clock_monotonic_ns() + DISPATCH_NS_MAX;
  while (!vm->has_parked && vm->budget &&
         vm->options.host.has_next(vm->options.host.arg)) {
    struct pl_coro *c;
    uint32_t before;

    relieve(vm);
    c = pl__coro_take(vm, false);
    before = vm->budget;
    /* One that fails before it has taken a request is not tried again at once:
     * that might not end. */
    if (!c || (!coro_resume(c) && vm->budget == before)) {
      refuse_requests(vm);
      return;
    }
  }
}

/* One of those that were preempted, unless somebody has just had a slice: but
 * then it is its turn next time. */
static void run_parked(struct pl_vm *vm) {
  struct pl_list *link;

  if (vm->is_shedding || (vm->has_parked && !vm->owes_parked)) {
    vm->owes_parked = true;
    return;
  }
  vm->owes_parked = false;
  if (vm->options.host.send) /* or the answers of others would wait a slice */
    vm->options.host.send(vm->options.host.arg);
  link = pl__list_take_front(&vm->parked);
  if (link)
    coro_resume(PL_LIST_ENTRY(link, struct pl_coro, link));
}

bool pl__vm_dispatch(struct pl_vm *vm) {
  pl__waiting_turn(vm);
  vm->has_parked = false;
  if (vm->requests_first)
    run_requests(vm);
  run_ready(vm);
  if (!vm->requests_first)
    run_requests(vm);
  if (vm->has_parked)
    vm->requests_first = !vm->requests_first;
  if (!pl__list_is_empty(&vm->parked))
    run_parked(vm);
  return vm->options.host.has_next(vm->options.host.arg) || pl__vm_is_ready(vm);
}
