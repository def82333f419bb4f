/* server/crash.h - what a worker writes down while it dies of a signal.
 *
 * The report lies in the fabric (section "crash.N"), so that it outlives its
 * writer; the master reads it when the worker is gone (server/casualty.h).  It
 * is written in stages, what is surest first, and `stage` is stored last
 * (release): a handler that fails half way leaves what it had.
 *
 *     NONE -> RAW -> FRAMES -> SYMBOLS -> LUA -> the signal again, by default
 *              |        |         |        |
 *              +--------+---------+--------+--- a fault: on to the next stage
 *              +--------+---------+--------+--- PL_CRASH_PATIENCE_MS over:
 *                                               SIGALRM ends it
 *
 * Process-wide, as signals are: one per worker.  Knows no Lua (a callback tells
 * where that was) and no log.
 */
#ifndef PL_SERVER_CRASH_H
#define PL_SERVER_CRASH_H

#include "base/limits.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PL_CRASH_VERSION 1u
#define PL_CRASH_FRAMES_MAX 64u
#define PL_CRASH_TEXT_BYTES PL_LIMIT_LOG_VALUE_BYTES /* more is not logged */
#define PL_CRASH_PATIENCE_MS 400 /* the master kills after PL_PULSE_ABORT_MS */

enum pl_crash_stage {
  PL_CRASH_NONE,
  PL_CRASH_RAW,     /* signal .. time_ns, and frames[0] */
  PL_CRASH_FRAMES,  /* frames */
  PL_CRASH_SYMBOLS, /* backtrace */
  PL_CRASH_LUA      /* traceback */
};

/* One writer, the worker; all zero at first. */
struct pl_crash {
  _Atomic uint32_t stage; /* enum pl_crash_stage: all up to it is there */
  int32_t pid;
  int32_t signal;
  int32_t code;   /* si_code: above 0 the kernel found a fault */
  int32_t sender; /* pid of who sent the signal; 0: nobody did */
  uint32_t frame_count;
  uint64_t address; /* of the fault; 0 when somebody sent the signal */
  int64_t time_ns;  /* monotonic */
  uint64_t frames[PL_CRASH_FRAMES_MAX]; /* where, then return addresses */
  char backtrace[PL_CRASH_TEXT_BYTES];  /* a line each, NUL-terminated */
  char traceback[PL_CRASH_TEXT_BYTES];  /* of Lua, NUL-terminated */
};

/* Writes at most `bytes`, NUL included, and returns how many without it.
 *
 * Called inside a signal handler, on its own stack: must not allocate and must
 * not lock.  It may fault: what it has written by then stays, up to a NUL. */
typedef size_t (*pl__crash_traceback_fn)(void *arg, char *out, size_t bytes);

/* From here on SEGV, BUS, FPE, ILL, ABRT, TRAP and SYS are reported before they
 * end this process, also when the C stack has overflowed.
 *
 *   crash          in the fabric, all zero
 *   lua_traceback  called with `arg`; NULL: there is no Lua yet
 *
 * Called again, it replaces crash and callback.  Returns 0 or a negated errno.
 */
int pl__crash_install(struct pl_crash *crash,
                      pl__crash_traceback_fn lua_traceback, void *arg);

#endif /* PL_SERVER_CRASH_H */
