/* vm/traces.h - which lines of Lua the machine code of a VM's traces stands for.
 *
 * LuaJIT tells of each trace that it records (lua/perilune/traces.lua).  From
 * the stack at its beginning and the lines that were recorded a *place* is kept
 * for each part of its code, and an address in there is found by two searches.
 *
 *   begin --> line, line, ... --> end: in the map      flush: the map is empty
 *     ^                      `--> begin: it was given up
 *
 * Parts are told apart by the checks that LuaJIT's compiler emits for its
 * profiler, one where a line begins (mode "l", vm/preempt.c).  Where they can't
 * be recognised, or are not as many as lines, all of a trace counts as the line
 * where it begins.
 *
 * One per VM, on its thread.  Knows no addresses of its own: an app that
 * attaches its own handler to trace events takes ours away (LuaJIT keeps one),
 * and from then on new traces are not known; see pl__traces_flush.
 */
#ifndef PL_VM_TRACES_H
#define PL_VM_TRACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_State;
struct pl_frames;
struct pl_traces;

#define PL_TRACES_MAX 16384u     /* known at once */
#define PL_TRACE_LINES_MAX 2048u /* of one; longer ones are one line */
#define PL_TRACE_SCAN_WORDS 96u  /* of the C stack, that may be looked at */

/* `frames` is borrowed. 0 or PL_ENOMEM. */
int pl__traces_open(struct pl_traces **out, struct pl_frames *frames);
void pl__traces_close(struct pl_traces *t); /* NULL is nothing */

/* A trace is begun; `symbols` is the stack there, the innermost first. */
void pl__traces_begin(struct pl_traces *t, const uint32_t *symbols,
                      uint32_t depth);
/* The next line that is recorded: its symbol, how many calls deep since the
 * trace's beginning (negative: it has returned), and which instruction of the
 * compiler's comes next, from 1. */
void pl__traces_line(struct pl_traces *t, uint32_t symbol, int depth,
                     uint32_t instruction);
/* It is complete.  `code` is a copy of its machine code, which lies at
 * `address`; `loop` is the offset where its loop begins, or 0.  Of a loop,
 * `parts` (NULL: not known) tells for each check in there whose part of the
 * code before the loop it repeats, from 1; 0: not known. */
void pl__traces_end(struct pl_traces *t, const uint8_t *code, size_t bytes,
                    uintptr_t address, size_t loop, const uint16_t *parts,
                    uint32_t part_count);
/* It is given up. */
void pl__traces_abandon(struct pl_traces *t);
/* Whether one is under way. */
bool pl__traces_is_recording(const struct pl_traces *t);
/* LuaJIT has thrown all traces away. */
void pl__traces_flush(struct pl_traces *t);

/* The stack (fabric/stacks.h) that the outermost address in a trace among
 * PL_TRACE_SCAN_WORDS words of the C stack stands for; PL_STACK_OTHER: there is
 * none. */
uint32_t pl__traces_stack(struct pl_traces *t, const uintptr_t *words);
/* How many are known, and of how many the lines are told apart. */
uint32_t pl__traces_count(const struct pl_traces *t, uint32_t *by_line);

#endif /* PL_VM_TRACES_H */
