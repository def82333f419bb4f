/* vm/allocations.h - which lines of Lua allocate, by samples.
 *
 * The VM's allocator counts bytes down to the next sample, whose distance is
 * drawn from an exponential distribution: so each byte has the same chance, and
 * a block of b bytes is taken with probability 1 - e^(-b/mean) and stands for
 * the inverse of that many blocks.  A sampled block is given to a stack
 *
 *   1. by the C stack, if that has an address in the code of a trace: the line
 *      of that part of the trace (vm/traces.h);
 *   2. else, while Lua runs, at the next bytecode: a hook walks the stack there,
 *      for in the allocator nobody knows where Lua's stack is;
 *   3. else to what the core does: "(core)", "(collector)", "(loading)".
 *
 * and lies in the fabric until it is freed (fabric/heap_samples.h).  A block
 * that grows counts as a new one, and the old one as freed.
 *
 * A VM that is loaded on a helper thread keeps its samples to itself until it
 * serves: stacks have one writer.  Not seen: what LuaJIT's compiler takes counts
 * as the line that runs next; machine code isn't allocated here at all.
 */
#ifndef PL_VM_ALLOCATIONS_H
#define PL_VM_ALLOCATIONS_H

#include "base/check.h"
#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_Debug;
struct lua_State;
struct pl_heap_live;
struct pl_heap_samples;
struct pl_vm;

#define PL_ALLOCATIONS_WAITING_MAX 4096u /* for their stack */
#define PL_ALLOCATIONS_FILTER_BYTES 4096u

enum pl_allocations_mark {
  PL_ALLOCATIONS_CORE,
  PL_ALLOCATIONS_COLLECTOR,
  PL_ALLOCATIONS_LOADING,
  PL_ALLOCATIONS_COMPILER,
  PL_ALLOCATIONS_MARKS
};

struct pl_allocations {
  int64_t left;    /* bytes to the next sample; negative for a moment */
  int64_t drawn;   /* what `left` began at */
  uint64_t before; /* bytes until then */
  double mean_bytes;
  struct pl_heap_samples *samples; /* in the fabric; NULL: only counts */
  struct pl_random random;
  struct pl_heap_live *waiting; /* for their stack; allocated when first used */
  uint32_t waiting_count;
  uint32_t stretch; /* that the first of them is of (struct pl_vm) */
  uint32_t marks[PL_ALLOCATIONS_MARKS]; /* their stacks */
  uint64_t lost;                        /* samples without a place to wait */
  bool is_ours; /* it works on samples: what that takes doesn't count */
  bool is_collecting;
  bool is_loading;
  /* How many sampled blocks have addresses of that kind: most frees are told
   * apart from theirs by one byte.  255 is for good. */
  uint8_t filter[PL_ALLOCATIONS_FILTER_BYTES];
};

/* Begins to count; sampling needs vm->options.heap and .frames.  Before the
 * VM's state is made. */
void pl__allocations_open(struct pl_vm *vm);
/* The VM serves from now on, on the thread that writes stacks. */
void pl__allocations_serve(struct pl_vm *vm);
/* Behind lua_close. */
void pl__allocations_close(struct pl_vm *vm);

/* All bytes that the VM has allocated. */
static inline uint64_t pl__allocations_bytes(const struct pl_allocations *a) {
  return a->before + (uint64_t)(a->drawn - a->left);
}

static inline uint32_t pl__allocations_kind(const void *at) {
  return (uint32_t)((uint64_t)(uintptr_t)at * 0x9e3779b97f4a7c15u >> 52) %
         PL_ALLOCATIONS_FILTER_BYTES;
}

/* --- for the allocator -------------------------------------------------- */

void pl__allocations_sample(struct pl_vm *vm, void *at, size_t bytes);

/* `at` was allocated, or has grown to that. */
static inline void pl__allocations_count(struct pl_vm *vm,
                                         struct pl_allocations *a, void *at,
                                         size_t bytes) {
  a->left -= (int64_t)bytes;
  if (PL_UNLIKELY(a->left < 0))
    pl__allocations_sample(vm, at, bytes);
}

/* Whether `at` may have been sampled. */
static inline bool pl__allocations_knows(const struct pl_allocations *a,
                                         const void *at) {
  return PL_UNLIKELY(a->filter[pl__allocations_kind(at)] != 0);
}

/* Takes the sample of `at` out before it is freed or moved; false if there is
 * none.  It stays known if it is put back, at its new place. */
bool pl__allocations_take(struct pl_vm *vm, const void *at,
                          struct pl_heap_live *out);
void pl__allocations_put_back(struct pl_vm *vm, struct pl_heap_live *sample,
                              const void *at, size_t bytes);

/* --- for hooks ------------------------------------------------------------ */

static inline bool pl__allocations_wait(const struct pl_allocations *a) {
  return a->waiting_count > 0;
}

/* In a hook of L, whose level 0 is `where`: gives the samples that wait to the
 * line that has just run. */
void pl__allocations_attribute(struct pl_vm *vm, struct lua_State *L,
                               struct lua_Debug *where);

#endif /* PL_VM_ALLOCATIONS_H */
