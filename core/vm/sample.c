/* vm/sample.c - see sample.h. */
#include "vm/sample.h"

#include "base/clock.h"
#include "fabric/flights.h"
#include "fabric/record.h"
#include "fabric/samples.h"
#include "fabric/stacks.h"
#include "vm/coro.h"
#include "vm/frames.h"
#include "vm/vm.h"

#include <lua.h>
#include <signal.h>
#include <string.h>
#include <time.h>

/* Less has passed: a tick that came twice. */
#define WEIGHT_NS_MIN (500 * INT64_C(1000))

/* As `ticking` in preempt.c: of the one thread that has ticks.  The handler and
 * what it interrupts write here, but not both: it keeps away while is_taking. */
static volatile sig_atomic_t is_taking;
static int64_t counted_ns; /* CPU time of the thread that samples stand for */
static struct {
  struct pl_sample sample; /* weight_us 0: none waits */
  const struct pl_vm *vm;  /* whose Lua it was; NULL: of one that is replaced */
  uint32_t stretch;        /* of that VM */
} waiting;

static int64_t thread_cpu_ns(void) {
  struct timespec t;

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * (int64_t)PL_NS_PER_S + t.tv_nsec;
}

void pl__sample_begin(void) {
  counted_ns = thread_cpu_ns();
  waiting.sample.weight_us = 0;
}

/* Time, phase, and whose work it is. */
static struct pl_sample sample_of(const struct pl_vm *vm, enum pl_phase phase,
                                  int64_t weight_ns) {
  struct pl_flights *f = vm->options.flights;
  struct pl_sample s = {
      .time_ms = (uint64_t)(pl__clock_monotonic_coarse_ns() / PL_NS_PER_MS),
      .weight_us = (uint32_t)(weight_ns / 1000),
      .stack = PL_STACK_OTHER,
      .route = PL_RECORD_NO_ROUTE,
      .generation = vm->options.generation,
      .phase = phase,
      .state = PL_SAMPLE_IN_C};
  uint32_t running =
      f ? atomic_load_explicit(&f->running, memory_order_relaxed) : 0;

  if (running - 1 < vm->options.slot_count) {
    const struct pl_flight *e = &f->at[running - 1];
    s.route = atomic_load_explicit(&e->route, memory_order_relaxed);
    s.generation = atomic_load_explicit(&e->generation, memory_order_relaxed);
  }
  return s;
}

/* Outside of the handler: what follows stays behind it, and what it follows
 * before it, for a handler on this thread. */
static void set_taking(sig_atomic_t to) {
  atomic_signal_fence(memory_order_seq_cst);
  is_taking = to;
  atomic_signal_fence(memory_order_seq_cst);
}

static void flush(struct pl_samples *samples) {
  if (waiting.sample.weight_us)
    pl__samples_add(samples, &waiting.sample);
  waiting.sample.weight_us = 0;
}

/* Of the Lua that the tick has found, or that it has found some ticks ago and
 * which is still at the same line, in C perhaps. */
static void wait_for_lua(const struct pl_vm *vm, int64_t weight_ns) {
  const struct pl_vm *whose = vm->current ? vm : NULL;

  if (waiting.sample.weight_us && waiting.vm == whose &&
      waiting.stretch == vm->stretch) {
    waiting.sample.weight_us += (uint32_t)(weight_ns / 1000);
    return;
  }
  flush(vm->options.samples);
  waiting.sample = sample_of(vm, PL_PHASE_LUA, weight_ns);
  waiting.vm = whose;
  waiting.stretch = vm->stretch;
}

bool pl__sample_tick(struct pl_vm *vm) {
  struct pl_samples *samples = vm->options.samples;
  int64_t now, weight;
  uint32_t phase;

  if (!samples || !vm->options.frames || is_taking)
    return false;
  now = thread_cpu_ns();
  weight = now - counted_ns;
  if (weight < WEIGHT_NS_MIN)
    return false;
  counted_ns = now;
  phase = atomic_load_explicit(vm->phase, memory_order_relaxed);
  if (phase == PL_PHASE_LUA) {
    wait_for_lua(vm, weight);
    return vm->current != NULL;
  }
  flush(samples);
  struct pl_sample s = sample_of(vm, (enum pl_phase)phase, weight);
  pl__samples_add(samples, &s);
  return false;
}

static enum pl_sample_state state_of(char letter) {
  const char *at = letter ? strchr(PL_SAMPLE_LETTERS, letter) : NULL;

  return at ? (enum pl_sample_state)(at - PL_SAMPLE_LETTERS) : PL_SAMPLE_IN_C;
}

void pl__sample_take(struct pl_vm *vm, lua_State *L, char letter) {
  struct pl_coro *c = vm->current;

  if (!waiting.sample.weight_us || !vm->options.samples ||
      !vm->options.frames || is_taking)
    return;
  set_taking(1);
  if (c &&
      (!waiting.vm || (waiting.vm == vm && waiting.stretch == vm->stretch))) {
    waiting.sample.stack = pl__frames_stack(vm->options.frames, L, c->co);
    waiting.sample.state = state_of(letter);
  }
  flush(vm->options.samples);
  set_taking(0);
}
