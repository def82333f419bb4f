/* vm/report.h - log records that the VM itself writes, and those of Lua.
 *
 * They go into the worker's ring; a tool, which has none, gets them as text on
 * stderr.
 */
#ifndef PL_VM_REPORT_H
#define PL_VM_REPORT_H

#include "fabric/record.h"
#include "vm/vm.h"

#define PL_REPORT_PLACE_BYTES 512 /* "file:line" */
#define PL_REPORT_FRAMES_MAX 64   /* of the traceback of a crashed process */

/* A record with the field `error` (left out when it is "").  about: the
 * coroutine whose doing it tells of, or NULL. */
void pl__report(struct pl_vm *vm, enum pl_level level,
                const struct pl_coro *about, const char *message,
                const char *error);
/* Begins a record about what a coroutine does for its request, or in a context
 * of its own; NULL: about neither.  As pl__record_begin. */
void pl__report_begin(const struct pl_vm *vm, struct pl_record_draft *draft,
                      void *memory, uint32_t bytes, enum pl_level level,
                      const struct pl_coro *about, struct pl_slice message);
/* The texts of a context; they point into it. */
struct pl_record_labels pl__report_labels(const struct pl_context *context);
/* A traceback of Lua without its heading and our own frames at its end. */
struct pl_slice pl__report_trim(struct pl_slice traceback);
/* A field "file:line" of a stack's innermost frame of the app's, if there is one
 * (vm/frames.h). */
void pl__report_place(const struct pl_vm *vm, struct pl_record_draft *draft,
                      struct pl_slice key, uint32_t stack);
/* Hands a finished draft over. */
void pl__report_end(struct pl_vm *vm, struct pl_record_draft *draft);

#endif /* PL_VM_REPORT_H */
