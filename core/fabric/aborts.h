/* fabric/aborts.h - what LuaJIT's compiler gave up in a worker: why and where.
 *
 * A worker's VM notes each trace that it began and gave up, by reason, place
 * and beginning; what is the same is counted in one entry.  Entries are found by
 * hash among PL_ABORTS_PROBES neighbours; when these are taken, the abort is
 * only counted as lost.
 *
 * One writer, the thread that the VM serves on; any reader, also when the writer
 * is dead.  An entry counts once its hash is stored (release), which is last.
 * Texts are of this struct, so that they outlive the VM.  A reader believes no
 * length: it looks for the end itself.
 */
#ifndef PL_FABRIC_ABORTS_H
#define PL_FABRIC_ABORTS_H

#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_ABORTS_VERSION 1u
#define PL_ABORTS_COUNT 512u /* a power of two */
#define PL_ABORTS_PROBES 32u
#define PL_ABORT_REASON_BYTES 96u
#define PL_ABORT_PLACE_BYTES 112u /* "file:line"; of longer ones the end */

/* What was given up for good, by which the interpreter runs it from now on. */
enum pl_abort_blacklisted {
  PL_ABORT_NOT_BLACKLISTED,
  PL_ABORT_LOOP,    /* the one that begins at `from` */
  PL_ABORT_FUNCTION /* likewise */
};

/* The texts of an abort: none is longer than its place in the entry. */
struct pl_abort_note {
  struct pl_slice reason; /* in LuaJIT's words */
  struct pl_slice at;     /* "file:line" where recording ended */
  struct pl_slice from;   /* where it had begun */
  uint32_t route;         /* whose request ran; PL_RECORD_NO_ROUTE: none's */
  uint32_t generation;
  uint32_t blacklisted; /* enum pl_abort_blacklisted */
};

struct pl_abort {
  _Alignas(64) _Atomic uint64_t hash; /* 0: free */
  _Atomic uint32_t count;
  _Atomic uint32_t blacklisted; /* it only ever becomes so */
  uint32_t route;               /* of the first one */
  uint32_t generation;
  char reason[PL_ABORT_REASON_BYTES]; /* ends with NUL, or fills it */
  char at[PL_ABORT_PLACE_BYTES];
  char from[PL_ABORT_PLACE_BYTES];
};

/* Lies in the section "aborts.N", all zero at first. */
struct pl_aborts {
  _Alignas(64) _Atomic uint64_t lost; /* found no room */
  struct pl_abort at[PL_ABORTS_COUNT];
};

/* By the writer, before its VM compiles anything; by the master, before it
 * starts the worker. */
void pl__aborts_clear(struct pl_aborts *a);

/* By the writer.  What is too long loses its beginning (places) or end. */
void pl__aborts_note(struct pl_aborts *a, const struct pl_abort_note *note);

/* Reads entry `index`; false: there is none.  The texts are those of the entry,
 * whose writer may change them: not followed by NUL. */
bool pl__aborts_get(const struct pl_aborts *a, uint32_t index,
                    struct pl_abort_note *out, uint32_t *count);

#endif /* PL_FABRIC_ABORTS_H */
