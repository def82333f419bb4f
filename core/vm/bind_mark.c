/* vm/bind_mark.c - P.mark, as Lua calls it by FFI: what the app says in the
 * flight recorder.  One thread writes there: while an app is loaded on another
 * one, beside that which serves, what it says is not heard.
 */
#include "fabric/events.h"
#include "vm/coro.h"
#include "vm/vm.h"

void pl_mark(const char *text, uint32_t bytes) {
  const struct pl_vm *vm = pl__vm_running;
  struct pl_recorder *r = vm->options.recorder;

  if (r && !vm->options.is_aside)
    pl__recorder_mark(r, pl__slice(text, bytes));
}
