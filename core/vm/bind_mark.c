/* vm/bind_mark.c - P.mark, as Lua calls it by FFI: what the app says in the
 * flight recorder.
 */
#include "fabric/events.h"
#include "vm/coro.h"
#include "vm/vm.h"

void pl_mark(const char *text, uint32_t bytes) {
  struct pl_recorder *r = pl__vm_running->options.recorder;

  if (r)
    pl__recorder_mark(r, pl__slice(text, bytes));
}
