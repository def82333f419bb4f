/* vm/frames.h - the frames of a coroutine as numbers, for whatever records
 * where Lua is: samples of the processor, of allocations, and of waits.
 *
 * A frame becomes a symbol (fabric/symbols.h), a row of them a stack
 * (fabric/stacks.h).  What was seen before is found by the address of the
 * chunk's name, the line, and the line where the function begins: some 20 ns a
 * frame with what Lua takes.  The address is not believed: the name is compared.
 *
 * The outermost frames that are ours (the runner's loop, a task's beginning,
 * xpcall) are left out, unless there are no others.
 *
 * One per worker, for all its VMs, used on its loop's thread only: a VM that is
 * loaded on a helper thread must not be walked.
 */
#ifndef PL_VM_FRAMES_H
#define PL_VM_FRAMES_H

#include "base/slice.h"

#include <stddef.h>
#include <stdint.h>

#define PL_FRAMES_NO_BANK UINT32_MAX

struct lua_State;
struct pl_frames;
struct pl_stacks;
struct pl_symbols;

/* Goes on with tables of the fabric, borrowed.
 *
 *   banks       of each table: PL_NAMES_BANKS (fabric/names.h), or 1
 *   lua_folder  that our own modules lie in; copied
 *
 * 0 or PL_ENOMEM. */
int pl__frames_open(struct pl_frames **out, struct pl_symbols *symbols,
                    struct pl_stacks *stacks, uint32_t banks,
                    const char *lua_folder);
void pl__frames_close(struct pl_frames *f); /* NULL is nothing */

/* The bank that is to be begun afresh, since the one in use is more than half
 * full; PL_FRAMES_NO_BANK: that need not be, or cannot be yet. */
uint32_t pl__frames_bank_due(const struct pl_frames *f, uint64_t now_ms);
/* Begins it.  Nothing refers to stacks of it any more; numbers of symbols that
 * were given before mean nothing from now on: so between two VMs that serve.  0,
 * or PL_ENOMEM: the one in use stays. */
int pl__frames_renew(struct pl_frames *f, uint32_t bank, uint64_t now_ms);
/* Symbols mean what they did while this is the same: to be asked by whoever keeps
 * them for longer than it takes to add a stack of them. */
uint32_t pl__frames_edition(const struct pl_frames *f);

/* The symbols of the frames of L, the innermost first, and behind them those of
 * `outer`, the coroutine of the core's on top of which user code has made L;
 * NULL, or L itself: none.  The VM is in a known state: in a callback of
 * LuaJIT's profiler, in a hook, in a C function, or L has yielded.  Allocates
 * nothing, neither here nor in Lua.
 *
 *   out  PL_STACKS_DEPTH_MAX; a deeper stack ends with a mark that says so
 *
 * Returns how many; 0: there is no frame. */
uint32_t pl__frames_walk(struct pl_frames *f, struct lua_State *L,
                         struct lua_State *outer, uint32_t *out);

/* The symbol of the function of Lua at `level` of L, as above. */
uint32_t pl__frames_symbol(struct pl_frames *f, struct lua_State *L, int level);
/* The symbol of another line of the same function. */
uint32_t pl__frames_at_line(struct pl_frames *f, uint32_t symbol,
                            uint32_t line);
/* The stack that is nothing but a mark of the core's, such as "(core)". */
uint32_t pl__frames_mark(struct pl_frames *f, const char *name);

/* The number of that row of symbols; PL_STACK_OTHER: none, or no room. */
uint32_t pl__frames_stack(struct pl_frames *f, struct lua_State *L,
                          struct lua_State *outer);
/* The number of a row that pl__frames_walk gave, perhaps with more in it. */
uint32_t pl__frames_add(struct pl_frames *f, const uint32_t *symbols,
                        uint32_t depth);

/* The number of a stack that is one line of a file, known by name only: `file`
 * as in tracebacks, without "@". */
uint32_t pl__frames_place(struct pl_frames *f, struct pl_slice file,
                          uint32_t line);
/* "file:line" of the innermost frame of a stack that is not ours, into `out`;
 * empty: there is none.  f may be NULL. */
struct pl_slice pl__frames_text(const struct pl_frames *f, uint32_t stack,
                                char *out, size_t bytes);

#endif /* PL_VM_FRAMES_H */
