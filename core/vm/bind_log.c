/* vm/bind_log.c - P.log, as Lua calls it by FFI.
 *
 * The record is drafted in memory of the VM, field by field, and goes into the
 * ring whole at its end; so nothing half done can be seen, and no call takes
 * more arguments than a trace likes to have.  While it is drafted, the
 * coroutine is held: another one would begin a record in the same memory.
 * An error that ends the coroutine may be raised all the same: the next begin
 * overwrites what was there.
 */
#include "base/clock.h"
#include "base/err.h"
#include "fabric/sampler.h"
#include "vm/coro.h"
#include "vm/report.h"

static void hold(const struct pl_vm *vm) {
  if (vm->current)
    vm->current->holds++;
}

static void release(const struct pl_vm *vm) {
  if (vm->current && vm->current->holds)
    vm->current->holds--;
}

int pl_log_begin(int level, const char *message, uint32_t bytes) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_ring_writer *log = vm->options.log;

  if (level < vm->options.log_level_min || vm->options.is_muted)
    return 0;
  if (pl__sampler_is_on(vm->options.sampler) &&
      !pl__sampler_admit(vm->options.sampler, (enum pl_level)level,
                         pl__slice(message, bytes),
                         pl__clock_monotonic_coarse_ns()))
    return 0;
  if (log && !pl__record_has_room(log, (enum pl_level)level)) {
    pl__ring_drop(log, (unsigned)level);
    return 0;
  }
  pl__report_begin(vm, &vm->draft, vm->draft_memory, sizeof vm->draft_memory,
                   (enum pl_level)level, vm->current,
                   pl__slice(message, bytes));
  hold(vm);
  return 1;
}

void pl_log_str(const char *key, uint32_t key_bytes, const char *text,
                uint32_t bytes) {
  pl__record_str(&pl__vm_running->draft, pl__slice(key, key_bytes),
                 pl__slice(text, bytes));
}

void pl_log_num(const char *key, uint32_t key_bytes, double number) {
  pl__record_num(&pl__vm_running->draft, pl__slice(key, key_bytes), number);
}

void pl_log_bool(const char *key, uint32_t key_bytes, int truth) {
  pl__record_bool(&pl__vm_running->draft, pl__slice(key, key_bytes), truth);
}

void pl_log_end(void) {
  struct pl_vm *vm = pl__vm_running;

  pl__report_end(vm, &vm->draft);
  release(vm);
}

void pl_log_forget(void) { release(pl__vm_running); }
