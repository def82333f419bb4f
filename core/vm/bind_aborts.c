/* vm/bind_aborts.c - what the compiler gives up, as Lua tells it by FFI
 * (lua/perilune/aborts.lua), into the worker's table.
 *
 * Called from inside the compiler, with hooks off: no memory is taken here.
 */
#include "fabric/aborts.h"
#include "fabric/record.h"
#include "vm/bind.h"
#include "vm/coro.h"
#include "vm/site.h"

void pl_aborts_begin(void) {
  struct pl_aborts *a = pl__vm_running->options.aborts;

  if (a)
    pl__aborts_clear(a);
}

static uint32_t route_now(struct pl_vm *vm) {
  const struct pl_coro *c = vm->current;

  return c && c->req ? pl__vm_route_in_log(vm, c->req) : PL_RECORD_NO_ROUTE;
}

void pl_aborts_note(const char *reason, uint32_t reason_bytes, const char *at,
                    uint32_t at_bytes, const char *from, uint32_t from_bytes,
                    uint32_t blacklisted) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_abort_note note = {.reason = pl__slice(reason, reason_bytes),
                               .at = pl__slice(at, at_bytes),
                               .from = pl__slice(from, from_bytes),
                               .blacklisted = blacklisted};

  if (!vm->options.aborts)
    return;
  note.route = route_now(vm);
  note.generation = vm->options.generation;
  pl__aborts_note(vm->options.aborts, &note);
}
