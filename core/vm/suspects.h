/* vm/suspects.h - lines at which more and more coroutines wait.
 *
 * What is reachable and yet forgotten (a channel in a global table) cannot be
 * proven to be a leak.  It is suspected: once per window the coroutines are
 * counted that have waited for longer than leaks.after, by the line where they
 * wait and the one that started them.  A line whose count has grown in
 * PL_SUSPECTS_WINDOWS windows in a row is suspected, until its count falls.
 * Should all that wait there, those that are new as well, wait for more than
 * PL_SUSPECTS_MEAN_S on average, and for longer than the time before, the
 * suspicion rises to level 2.
 *
 * A look takes some 50 ns a coroutine.  Of lines PL_SUSPECTS_LINES_MAX are
 * followed.
 */
#ifndef PL_VM_SUSPECTS_H
#define PL_VM_SUSPECTS_H

#include "fabric/waits.h"

#include <stdint.h>

struct pl_vm;

#define PL_SUSPECTS_WINDOWS 3u
#define PL_SUSPECTS_MEAN_S 0.5
#define PL_SUSPECTS_LINES_MAX 256u
#define PL_SUSPECTS_SLOTS (2 * PL_SUSPECTS_LINES_MAX) /* a power of two */
#define PL_SUSPECTS_TOLD_MAX 10u                      /* records of one look */

struct pl_suspect_line {
  struct pl_waits_suspect seen; /* its line; level, count, since_ns: now */
  bool is_used;
  uint32_t grew;    /* windows in a row */
  uint32_t told;    /* level */
  uint32_t waiting; /* all that wait there */
  double waited_s;  /* together; then on average */
};

/* Of a VM. */
struct pl_suspects {
  int64_t looked_ns;
  uint32_t now; /* which of the two tables is the last look's */
  uint32_t count;
  struct pl_suspect_line lines[2][PL_SUSPECTS_SLOTS]; /* open addressing */
};

/* With each turn: looks when a window is over. */
void pl__suspects_turn(struct pl_vm *vm);

#endif /* PL_VM_SUSPECTS_H */
