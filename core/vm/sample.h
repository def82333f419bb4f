/* vm/sample.h - where the processor's time goes: the ticks of preemption
 * (preempt.h), written down.
 *
 *   tick -- phase is the core's ---------------------> a sample of that phase
 *     |
 *     +---- Lua runs --> LuaJIT's own handler --> its callback, at the next line:
 *                                                 a sample with the frames
 *
 * What a sample stands for is the CPU time of the thread since the one before
 * it, exactly.  Time in the core is never charged to Lua: LuaJIT's handler is
 * not called then.  A tick whose Lua has ended before the callback came (it
 * comes with the first line of whatever runs next) is charged to its request,
 * without frames.
 *
 * One VM of the process ticks; what it has replaced, and ends its requests in
 * interpreted code, is sampled by its count hook.
 */
#ifndef PL_VM_SAMPLE_H
#define PL_VM_SAMPLE_H

#include <stdbool.h>

struct lua_State;
struct pl_vm;

/* Time from here on counts; by the thread that the ticks are for. */
void pl__sample_begin(void);
/* In the handler of a tick.  True: Lua of this VM runs, and LuaJIT is to call
 * pl__sample_take. */
bool pl__sample_tick(struct pl_vm *vm);
/* With the VM in a known state, in Lua that runs on L.  `letter`: of LuaJIT's
 * callback; see enum pl_sample_state.  Does nothing unless a tick waits. */
void pl__sample_take(struct pl_vm *vm, struct lua_State *L, char letter);

#endif /* PL_VM_SAMPLE_H */
