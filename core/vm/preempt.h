/* vm/preempt.h - takes the processor from Lua that keeps it for too long.
 *
 * A timer counts the CPU time of the VM's thread.  Its signal looks whether the
 * Lua that runs now is over its slice, over its deadline, cancelled, or over
 * the VM's memory; if so it makes LuaJIT leave compiled code and call a hook at
 * the next bytecode.  There, with the VM in a known state, the coroutine is
 * parked, or an error is raised in it:
 *
 *   timer --SIGPROF--> on_tick --lua_sethook--> on_hook --+--> yield: parked
 *                         |                               +--> error: it ends
 *                         +-- LuaJIT's own handler: compiled code is left at
 *                             its next line
 *
 * Rests on LuaJIT's profiler in line mode, which is one per process: so one VM
 * of a process is preempted that way.  One that has handed over to it is, by a
 * hook that counts bytecodes, which works in interpreted code only.  Others are
 * not (pl__preempt_start says so).
 *
 * What the hook never does: yield where Lua cannot (inside a comparator of
 * table.sort, a callback of string.gsub or of C): it comes back a little later;
 * anything at all inside a finalizer, where LuaJIT calls no hooks; anything to
 * a coroutine that has registered a wait and is about to yield.
 *
 * The same ticks tell where the processor's time goes: sample.h.
 *
 * Knows no requests: whether a coroutine must end, and why, is stop.c's matter.
 */
#ifndef PL_VM_PREEMPT_H
#define PL_VM_PREEMPT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct pl_vm;

struct pl_preempt {
  timer_t timer;
  timer_t sample_timer; /* if has_two_timers */
  bool has_two_timers;
  int64_t slice_ns;
  int64_t tick_ns;
  bool is_on;
  bool is_counting; /* without ticks: a hook looks every so many bytecodes */
  volatile uint8_t *hook_flags; /* of LuaJIT's state; NULL: not found */
  bool passing; /* a parked coroutine is on its way out to the core */
  /* The stretch of Lua that ticks have seen running, and since when. */
  uint32_t seen_stretch;
  int64_t seen_ns;
  uint32_t retries; /* where Lua cannot yield, since the last tick */
};

/* Preempts the VM's Lua from now on, on the calling thread.  Flushes compiled
 * code.  0; PL_EFULL: another VM of the process is preempted; -errno. */
int pl__preempt_start(struct pl_vm *vm);
/* Whether a hook that LuaJIT has lost is found out and set again. False: this
 * LuaJIT is not one that we know, and compiled code may seldom escape. */
bool pl__preempt_heals(const struct pl_vm *vm);
/* Another VM is to be preempted from now on, and this one has requests left to
 * end: it goes on without the compiler, preempted by a count hook, slower.  No
 * Lua runs at the moment. */
void pl__preempt_hand_over(struct pl_vm *vm);
/* Before the VM is closed; does nothing when it was not started. */
void pl__preempt_stop(struct pl_vm *vm);
/* Has the hook called once, for samples that wait (vm/allocations.h), also in a
 * VM that is not preempted. */
void pl__preempt_look_once(struct pl_vm *vm);
/* Has the hook look at the next bytecode; for a coroutine that is about to be
 * resumed only to be ended. */
void pl__preempt_look(struct pl_vm *vm);

#endif /* PL_VM_PREEMPT_H */
