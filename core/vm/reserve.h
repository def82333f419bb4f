/* vm/reserve.h - memory that a Lua state falls back on while it is being made.
 *
 * LuaJIT 2.1 crashes in lua_newstate when an allocation in the middle of it
 * fails: it tears down tables that it has not made yet.  So whoever makes a
 * state first takes a piece of memory that suffices for that, and only there
 * failure is looked for.  Once the state exists, failing allocations are
 * errors of Lua, as they should be.
 */
#ifndef PL_VM_RESERVE_H
#define PL_VM_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

#define PL_RESERVE_BYTES 65536 /* lua_newstate takes less than half of it */

struct pl_reserve {
  char *at;    /* NULL: none, or given back as nothing lies in it */
  size_t used; /* bytes, from the start */
  bool open;   /* still gives */
};

/* Takes the memory. Returns 0 or PL_ENOMEM. */
int pl__reserve_open(struct pl_reserve *r);

/* The state is made: gives no more. Blocks that lie in it stay there. */
void pl__reserve_shut(struct pl_reserve *r);

/* Gives the memory back, after lua_close. */
void pl__reserve_close(struct pl_reserve *r);

/* A lua_Alloc on base/alloc, with the reserve as its first argument; a block
 * that lies in the reserve moves out of it when it grows. */
void *pl__reserve_alloc(struct pl_reserve *r, void *p, size_t old_bytes,
                        size_t new_bytes);

#endif /* PL_VM_RESERVE_H */
