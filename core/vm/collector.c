/* vm/collector.c - garbage collection between requests, not inside them.
 *
 * The simple form: LuaJIT's collector stands still while handlers run.  Once
 * the heap has doubled since the last cycle, slices of a few microseconds run
 * after requests, and longer ones when the loop would block, until the cycle is
 * complete.  A handler that allocates far past that in one go gets LuaJIT's own
 * incremental collector back until the next slice (vm/state.c, vm_alloc).
 * One that has met the limit all the same leaves a heap full of garbage in
 * which no other handler could work: that is collected whole, at once.
 *
 * LUA_GCSTEP silently restarts a stopped collector: stop it after every step.
 * Steps run protected: LuaJIT raises errors of finalizers out of them, and its
 * own when there is no memory to shrink the table of strings.
 */
#include "base/clock.h"
#include "fabric/events.h"
#include "fabric/flights.h"
#include "vm/coro.h"
#include "vm/report.h"

#include <lua.h>

#define COLLECT_STEP_KIB 8
#define COLLECT_BUSY_NS 20000
#define COLLECT_BEHIND_NS 200000 /* once the heap has tripled */
/* A slice also steps over a multiple of what was allocated since the last one.
 * What comes while a cycle sweeps counts as live at its end, and the next one
 * begins at twice that: by time alone, with handlers that make much garbage,
 * each cycle would begin later than the one before it. At most so long. */
#define COLLECT_OWED_SHARE 2
#define COLLECT_OWED_NS 5000000
#define COLLECT_IDLE_NS 1000000
#define COLLECT_FAILURES_MAX 1000 /* finalizers that raise, in one slice */
#define COLLECT_SHED_NS 5000000   /* while somebody waits to be failed */
#define COLLECT_BYTES_MIN                                                      \
  (16u << 20) /* below twice that, nothing is collected */
#define COLLECT_REST_BYTES_MIN (1u << 20) /* garbage worth a cycle at rest */
#define COLLECT_SELDOM_NS 100000          /* slices that long are seldom */
#define COLLECT_WHOLE INT64_MAX /* as collect_end_ns: to the end, from anew */
/* Least share of the limit that has come since the last cycle for a whole one:
 * where all is live, it would be tried in vain again and again. */
#define COLLECT_RELIEF_SHARE 8

void pl__vm_collect_begin(struct pl_vm *vm) {
  uint64_t floor =
      vm->heap_bytes > COLLECT_BYTES_MIN ? vm->heap_bytes : COLLECT_BYTES_MIN;
  uint64_t most = vm->options.memory_bytes_max;

  vm->live_bytes = vm->heap_bytes;
  vm->emergency_bytes = 4 * floor;
  if (most && vm->emergency_bytes > most / 4 * 3)
    vm->emergency_bytes = most / 4 * 3;
  pl__shed_set(vm);
}

int pl__collector_slice(lua_State *L) {
  struct pl_vm *vm = pl__vm_running;
  uint64_t owed = vm->collect_owed_bytes, step = COLLECT_STEP_KIB << 10;
  int64_t most_ns = 0, now = 0;

  if (vm->collect_end_ns == COLLECT_WHOLE) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
  }
  most_ns = vm->collect_end_ns + COLLECT_OWED_NS;
  do {
    if (lua_gc(L, LUA_GCSTEP, COLLECT_STEP_KIB)) {
      vm->collecting = false;
      vm->counts.cycles++;
      pl__waiting_cycle(vm);
      pl__vm_collect_begin(vm);
      break;
    }
    owed -= owed < step ? owed : step;
    now = pl__clock_monotonic_ns();
  } while (now < vm->collect_end_ns || (owed && now < most_ns));
  return 0;
}

static void note_phase(struct pl_vm *vm, enum pl_phase phase) {
  if (vm->options.flights)
    pl__flight_run(vm->options.flights, PL_FLIGHT_NONE, phase);
  else
    pl__phase_set(vm->phase, phase);
}

void pl__collector_tell(struct pl_vm *vm, const char *why) {
  int64_t now = pl__clock_monotonic_ns();

  if (now - vm->finalizer_told_ns <= PL_NS_PER_S)
    return;
  vm->finalizer_told_ns = now;
  pl__report(vm, PL_LEVEL_ERROR, NULL, "a finalizer failed", why);
}

static void slice_failed(struct pl_vm *vm) {
  pl__collector_tell(vm, lua_type(vm->L, -1) == LUA_TSTRING
                             ? lua_tostring(vm->L, -1)
                             : "no text");
  lua_pop(vm->L, 1);
}

/* A finalizer that raises ends the steps, but not the slice: or the collector
 * would never catch up. */
static void run_slice(struct pl_vm *vm) {
  bool failed = true;

  pl__waiting_keep_woken(vm);
  for (int i = 0; failed && i < COLLECT_FAILURES_MAX; i++) {
    pl__vm_end_recording(vm);
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->collect_ref);
    failed = lua_pcall(vm->L, 0, 0, 0) != 0;
    if (failed)
      slice_failed(vm);
  }
}

static void record(struct pl_vm *vm, unsigned phase, int64_t end_ns,
                   int64_t took_ns) {
  struct pl_recorder *r = vm->options.recorder;
  double at = (double)end_ns / PL_NS_PER_S;
  uint64_t word = pl__event_word(PL_EVENT_COLLECT, phase, 0, 0, 0);

  if (!r)
    return;
  if (took_ns < COLLECT_SELDOM_NS)
    pl__recorder_often(r, at, vm->heap_bytes, (uint64_t)took_ns, word);
  else
    pl__recorder_seldom(r, at, vm->heap_bytes, (uint64_t)took_ns, word);
}

static void run_phase(struct pl_vm *vm, unsigned phase, int64_t begin_ns) {
  int64_t end_ns;

  note_phase(vm, PL_PHASE_COLLECT);
  vm->allocations.is_collecting = true;
  run_slice(vm);
  vm->allocations.is_collecting = false;
  note_phase(vm, PL_PHASE_CORE);
  vm->counts.collect_slices[phase]++;
  end_ns = pl__clock_monotonic_ns();
  vm->counts.collect_ns[phase] += (uint64_t)(end_ns - begin_ns);
  record(vm, phase, end_ns, end_ns - begin_ns);
}

/* A cycle is complete: what it has left decides whether somebody is failed. */
static void shed_cycle_done(struct pl_vm *vm) {
  if (!vm->is_shedding)
    return;
  if (vm->heap_bytes <= pl__shed_soft_bytes(vm))
    vm->is_shedding = false;
  else if (--vm->shed_cycles > 0)
    vm->collecting = true;
  else
    pl__shed_decide(vm);
}

void pl__vm_relieve(struct pl_vm *vm) {
  uint64_t share = vm->options.memory_bytes_max / COLLECT_RELIEF_SHARE;

  vm->starved = false;
  if (vm->heap_bytes < vm->live_bytes + share &&
      vm->heap_bytes <= vm->shed_bytes)
    return;
  pl__vm_running = vm; /* finalizers are Lua as well */
  vm->collect_end_ns = COLLECT_WHOLE;
  run_phase(vm, PL_COLLECT_WHOLE, pl__clock_monotonic_ns());
  vm->counts.cycles++;
  lua_gc(vm->L, LUA_GCSTOP, 0);
  vm->collecting = vm->emergency = false;
  pl__vm_collect_begin(vm);
  vm->shed_cycles = 1;
  shed_cycle_done(vm);
}

static int64_t slice_ns(const struct pl_vm *vm, uint64_t floor, bool idle) {
  if (vm->is_shedding)
    return COLLECT_SHED_NS;
  if (idle)
    return COLLECT_IDLE_NS;
  return vm->heap_bytes > 3 * floor ? COLLECT_BEHIND_NS : COLLECT_BUSY_NS;
}

void pl__vm_collect(struct pl_vm *vm, bool idle) {
  uint64_t floor =
      vm->live_bytes > COLLECT_BYTES_MIN ? vm->live_bytes : COLLECT_BYTES_MIN;
  int64_t begin_ns;

  if (vm->starved)
    pl__vm_relieve(vm);
  if (vm->heap_bytes > vm->shed_bytes)
    pl__vm_shed(vm);
  if (vm->emergency) {
    vm->emergency = false;
    vm->collecting = true;
    lua_gc(vm->L, LUA_GCSTOP, 0);
  }
  if (!vm->collecting && vm->heap_bytes < 2 * floor) {
    vm->sliced_bytes = vm->heap_bytes;
    return;
  }
  vm->collecting = true;
  pl__vm_running = vm; /* finalizers are Lua as well */
  begin_ns = pl__clock_monotonic_ns();
  vm->collect_end_ns = begin_ns + slice_ns(vm, floor, idle);
  vm->collect_owed_bytes =
      vm->heap_bytes > vm->sliced_bytes
          ? (vm->heap_bytes - vm->sliced_bytes) * COLLECT_OWED_SHARE
          : 0;
  run_phase(vm, idle ? PL_COLLECT_IDLE : PL_COLLECT_BUSY, begin_ns);
  lua_gc(vm->L, LUA_GCSTOP, 0);
  vm->sliced_bytes = vm->heap_bytes;
  if (!vm->collecting)
    shed_cycle_done(vm);
}

void pl__vm_begin_cycle(struct pl_vm *vm) { vm->collecting = true; }

/* A cycle that ends in the midst of a burst takes what the burst holds for
 * live, and the next one waits until that has doubled: a worker that falls idle
 * would keep it for ever. */
void pl__vm_rest(struct pl_vm *vm) {
  if (vm->collecting)
    return;
  if (vm->resting || vm->heap_bytes < vm->rest_bytes)
    vm->rest_bytes = vm->heap_bytes;
  vm->resting = vm->heap_bytes >
                vm->rest_bytes + vm->rest_bytes / 2 + COLLECT_REST_BYTES_MIN;
  vm->collecting = vm->resting;
}
