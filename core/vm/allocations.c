/* vm/allocations.c - see allocations.h.
 *
 * A hook is called before a bytecode, but what has allocated is the one before
 * it, often of another line.  LuaJIT's API doesn't tell where that was, so its
 * place is read from LuaJIT's own memory (lj_obj.h, lj_frame.h), and believed
 * only if the line found there is the one that the API tells.
 */
#include "vm/allocations.h"

#include "base/alloc.h"
#include "fabric/heap_samples.h"
#include "fabric/stacks.h"
#include "vm/coro.h"
#include "vm/frames.h"
#include "vm/preempt.h"
#include "vm/traces.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <string.h>

/* Of LuaJIT with 64-bit references on x86-64. */
#define STATE_CFRAME_OFFSET 80 /* in lua_State: the C frame, with flags */
#define CFRAME_PC_OFFSET 24    /* in that: behind the bytecode to be run */
#define CFRAME_DISTANCE_MAX 65536u
#define FUNCTION_PC_OFFSET 32 /* in a function: its first bytecode */
#define BYTECODE_BYTES 4u
#define BYTECODES_MAX 67108864u

static const char *const mark_names[PL_ALLOCATIONS_MARKS] = {
    "(core)", "(collector)", "(loading)", "(compiler)"};

/* --- counting ------------------------------------------------------------------- */

static int64_t distance_draw(struct pl_allocations *a) {
  double share;

  if (!a->samples)
    return INT64_MAX / 2;
  /* Of (0, 1]: 53 bits, and never 0. */
  share = (double)((pl__random_next(&a->random) >> 11) + 1) * 0x1p-53;
  return (int64_t)(-log(share) * a->mean_bytes) + 1;
}

static void distance_renew(struct pl_allocations *a) {
  a->before = pl__allocations_bytes(a);
  a->left = a->drawn = distance_draw(a);
}

static void marks_make(struct pl_vm *vm) {
  for (unsigned i = 0; i < PL_ALLOCATIONS_MARKS; i++)
    vm->allocations.marks[i] =
        pl__frames_mark(vm->options.frames, mark_names[i]);
}

void pl__allocations_open(struct pl_vm *vm) {
  struct pl_allocations *a = &vm->allocations;

  a->samples = vm->options.frames ? vm->options.heap : NULL;
  a->mean_bytes = (double)vm->options.heap_sample_bytes;
  if (vm->options.heap_sample_bytes == 0)
    a->samples = NULL;
  pl__random_seed(&a->random);
  distance_renew(a);
  if (a->samples && !vm->options.is_aside)
    marks_make(vm);
}

/* Blocks like it that it stands for. */
static double objects_of(const struct pl_allocations *a, size_t bytes) {
  return 1 / -expm1(-(double)bytes / a->mean_bytes);
}

static void filter_add(struct pl_allocations *a, uint64_t address) {
  uint8_t *n = &a->filter[pl__allocations_kind((void *)(uintptr_t)address)];

  if (*n < UINT8_MAX)
    (*n)++;
}

static void filter_remove(struct pl_allocations *a, uint64_t address) {
  uint8_t *n = &a->filter[pl__allocations_kind((void *)(uintptr_t)address)];

  if (*n < UINT8_MAX)
    (*n)--;
}

/* --- samples -------------------------------------------------------------------- */

static void keep(struct pl_allocations *a, const struct pl_heap_live *sample,
                 bool is_live) {
  pl__heap_lock(a->samples);
  pl__heap_count(a->samples, sample->stack, sample->objects,
                 sample->objects * (double)sample->bytes);
  if (is_live && !pl__heap_live_put(a->samples, sample))
    filter_remove(a, sample->address);
  pl__heap_unlock(a->samples);
}

static bool wait_for_hook(struct pl_vm *vm, const struct pl_heap_live *sample) {
  struct pl_allocations *a = &vm->allocations;

  if (!a->waiting)
    a->waiting = pl__alloc(PL_ALLOCATIONS_WAITING_MAX * sizeof *a->waiting);
  if (!a->waiting || a->waiting_count == PL_ALLOCATIONS_WAITING_MAX)
    return false;
  if (a->waiting_count == 0)
    a->stretch = vm->stretch;
  a->waiting[a->waiting_count++] = *sample;
  return true;
}

static uint32_t phase_of(const struct pl_allocations *a) {
  return a->marks[a->is_loading      ? PL_ALLOCATIONS_LOADING
                  : a->is_collecting ? PL_ALLOCATIONS_COLLECTOR
                                     : PL_ALLOCATIONS_CORE];
}

/* Samples meanwhile are the compiler's: a hook would make it give up what it
 * records, and after some attempts the place for good. */
static bool is_compiling(const struct pl_vm *vm) {
  return vm->traces && vm->current && pl__traces_is_recording(vm->traces);
}

/* Reads the C stack as far as it may hold frames between the allocator and a
 * trace: also what other frames have left there, which sanitizers mind. */
__attribute__((noinline, no_sanitize("address"))) static uint32_t
trace_stack(struct pl_traces *traces) {
  uintptr_t words[PL_TRACE_SCAN_WORDS];
  const uintptr_t *at = __builtin_frame_address(0);

  for (uint32_t i = 0; i < PL_TRACE_SCAN_WORDS; i++)
    words[i] = at[i];
  return pl__traces_stack(traces, words);
}

__attribute__((noinline)) void pl__allocations_sample(struct pl_vm *vm,
                                                      void *at, size_t bytes) {
  struct pl_allocations *a = &vm->allocations;
  struct pl_heap_live sample = {.address = (uint64_t)(uintptr_t)at,
                                .bytes = bytes,
                                .stack = PL_HEAP_STACK_NONE};

  distance_renew(a);
  if (!a->samples || vm->closing || a->is_ours)
    return;
  sample.objects = objects_of(a, bytes);
  filter_add(a, sample.address);
  if (is_compiling(vm))
    sample.stack = a->marks[PL_ALLOCATIONS_COMPILER];
  else if (vm->traces && vm->current)
    sample.stack = trace_stack(vm->traces);
  if (sample.stack == PL_HEAP_STACK_NONE && !vm->options.is_aside &&
      (vm->current || a->is_loading) && wait_for_hook(vm, &sample)) {
    pl__vm_look(vm);
    return;
  }
  if (vm->options.is_aside) {
    if (!wait_for_hook(vm, &sample)) {
      a->lost++;
      filter_remove(a, sample.address);
    }
    return;
  }
  if (sample.stack == PL_HEAP_STACK_NONE)
    sample.stack = phase_of(a);
  keep(a, &sample, true);
}

/* One that waits for its stack, and won't be live by then: that is noted by the
 * address 0. */
static bool take_waiting(struct pl_allocations *a, uint64_t address,
                         struct pl_heap_live *out) {
  for (uint32_t i = a->waiting_count; i-- > 0;) {
    if (a->waiting[i].address != address)
      continue;
    *out = a->waiting[i];
    a->waiting[i].address = 0;
    return true;
  }
  return false;
}

bool pl__allocations_take(struct pl_vm *vm, const void *at,
                          struct pl_heap_live *out) {
  struct pl_allocations *a = &vm->allocations;
  uint64_t address = (uint64_t)(uintptr_t)at;
  bool found = take_waiting(a, address, out);

  if (!found) {
    pl__heap_lock(a->samples);
    found = pl__heap_live_take(a->samples, address, out);
    pl__heap_unlock(a->samples);
  }
  if (found)
    filter_remove(a, address);
  return found;
}

/* One that waits is counted when its stack is known; as it is no longer where it
 * was, it is live by no stack: rare, and of one sample. */
void pl__allocations_put_back(struct pl_vm *vm, struct pl_heap_live *sample,
                              const void *at, size_t bytes) {
  struct pl_allocations *a = &vm->allocations;

  sample->address = (uint64_t)(uintptr_t)at;
  sample->bytes = bytes;
  filter_add(a, sample->address);
  pl__heap_lock(a->samples);
  if (!pl__heap_live_put(a->samples, sample))
    filter_remove(a, sample->address);
  pl__heap_unlock(a->samples);
}

/* --- stacks --------------------------------------------------------------------- */

static void give_to(struct pl_allocations *a, uint32_t stack) {
  for (uint32_t i = 0; i < a->waiting_count; i++) {
    a->waiting[i].stack = stack;
    keep(a, &a->waiting[i], a->waiting[i].address != 0);
  }
  a->waiting_count = 0;
}

#ifdef __x86_64__
/* Which bytecode of its function runs next, from 0; negative: not known. */
static int64_t bytecode_next(lua_State *L, const void *function) {
  uintptr_t frame =
      *(uintptr_t *)(void *)((char *)L + STATE_CFRAME_OFFSET) & ~(uintptr_t)3;
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  uintptr_t first, next;

  if (frame < here || frame - here > CFRAME_DISTANCE_MAX)
    return -1;
  memcpy(&next, (char *)frame + CFRAME_PC_OFFSET, sizeof next);
  memcpy(&first, (const char *)function + FUNCTION_PC_OFFSET, sizeof first);
  if (next < first + BYTECODE_BYTES ||
      next - first > (uintptr_t)BYTECODES_MAX * BYTECODE_BYTES)
    return -1;
  return (int64_t)((next - first) / BYTECODE_BYTES) - 1;
}
#else
static int64_t bytecode_next(lua_State *L, const void *function) {
  (void)L;
  (void)function;
  return -1;
}
#endif

/* The line of a bytecode of the function on top of the stack; 0: not known. */
static int line_of(struct pl_vm *vm, lua_State *L, int64_t bytecode) {
  int line = 0;

  lua_rawgeti(L, LUA_REGISTRYINDEX, vm->funcinfo_ref);
  lua_pushvalue(L, -2);
  lua_pushinteger(L, (lua_Integer)bytecode);
  if (lua_pcall(L, 2, 1, 0) == 0 && lua_istable(L, -1)) {
    lua_getfield(L, -1, "currentline");
    line = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return line;
}

/* The line of what ran last at level 0; 0: not known. */
static int line_before(struct pl_vm *vm, lua_State *L, lua_Debug *where) {
  int64_t next;
  int line = 0;

  if (vm->funcinfo_ref == 0 || !lua_getinfo(L, "lf", where))
    return 0;
  next = bytecode_next(L, lua_topointer(L, -1));
  if (next > 0 && line_of(vm, L, next) == where->currentline)
    line = line_of(vm, L, next - 1);
  lua_pop(L, 1);
  return line;
}

static uint32_t stack_before(struct pl_vm *vm, lua_State *L, lua_Debug *where) {
  uint32_t symbols[PL_STACKS_DEPTH_MAX];
  struct pl_frames *f = vm->options.frames;
  lua_State *outer = vm->current ? vm->current->co : NULL;
  uint32_t depth = pl__frames_walk(f, L, outer, symbols);
  int line = line_before(vm, L, where);

  if (depth && line > 0)
    symbols[0] = pl__frames_at_line(f, symbols[0], (uint32_t)line);
  return pl__frames_add(f, symbols, depth);
}

void pl__allocations_attribute(struct pl_vm *vm, lua_State *L,
                               lua_Debug *where) {
  struct pl_allocations *a = &vm->allocations;
  int64_t left, drawn;
  uint64_t before;

  if (vm->options.is_aside)
    return;
  a->is_ours = true;
  left = a->left;
  drawn = a->drawn;
  before = a->before;
  give_to(a, a->stretch == vm->stretch ? stack_before(vm, L, where)
                                       : a->marks[PL_ALLOCATIONS_CORE]);
  a->left = left;
  a->drawn = drawn;
  a->before = before;
  a->is_ours = false;
}

/* --- a life --------------------------------------------------------------------- */

void pl__allocations_serve(struct pl_vm *vm) {
  struct pl_allocations *a = &vm->allocations;

  vm->options.is_aside = false;
  if (!a->samples)
    return;
  atomic_store_explicit(&a->samples->mean_bytes, (uint32_t)a->mean_bytes,
                        memory_order_relaxed);
  atomic_fetch_add_explicit(&a->samples->lost, a->lost, memory_order_relaxed);
  marks_make(vm);
  give_to(a, a->marks[PL_ALLOCATIONS_LOADING]);
}

void pl__allocations_close(struct pl_vm *vm) {
  pl__free(vm->allocations.waiting);
  vm->allocations.waiting = NULL;
  vm->allocations.waiting_count = 0;
}
