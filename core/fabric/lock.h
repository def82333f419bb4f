/* fabric/lock.h - a lock in shared memory whose owner may be killed.
 *
 *                 take: CAS(0 -> me)
 *     FREE (0) --------------------------> HELD (owner)
 *       ^ <------------------------------   |
 *       |          give: store 0            | its process has died:
 *       |                                   | CAS(owner -> me)
 *       +---- give, once all is mended -- HELD (me), to be mended
 *
 * The word says which process holds it: its pid and when that process was
 * started, since pids are used again.  Who waits for too long asks the system
 * whether that process is still there, and if not takes the lock over from it.
 * It then knows that what the lock guards may be half changed, and mends it
 * before anything else; should it be killed meanwhile, the next one does.
 *
 * Waiting is bounded: a process that was stopped (SIGSTOP) while it held a lock
 * would otherwise stop all others.  Not fair, not recursive.  Threads of one
 * process exclude each other; a thread that ends without its process while it
 * holds the lock leaves it held.
 *
 * A robust mutex of pthreads does the same, for twice the price: its list of
 * held locks has to be kept for the kernel.
 */
#ifndef PL_FABRIC_LOCK_H
#define PL_FABRIC_LOCK_H

#include "base/check.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_LOCK_WAIT_MS 100 /* at most, for one lock */

struct pl_lock {
  _Atomic uint64_t owner; /* 0: free */
};

enum pl_lock_taken {
  PL_LOCK_TAKEN,
  PL_LOCK_INHERITED, /* taken, from one that died: mend what it guards */
  PL_LOCK_BUSY       /* not taken: its owner lives and does not let go */
};

/* The calling process, as locks know it; not 0.  Reads a file: ask once, and
 * again after a fork. */
uint64_t pl__lock_self(void);

/* pl__lock_take when somebody else holds it. */
enum pl_lock_taken pl__lock_take_slow(struct pl_lock *l, uint64_t self);

static inline enum pl_lock_taken pl__lock_take(struct pl_lock *l,
                                               uint64_t self) {
  uint64_t nobody = 0;

  if (PL_LIKELY(atomic_compare_exchange_strong_explicit(
          &l->owner, &nobody, self, memory_order_acquire,
          memory_order_relaxed)))
    return PL_LOCK_TAKEN;
  return pl__lock_take_slow(l, self);
}

static inline void pl__lock_give(struct pl_lock *l) {
  atomic_store_explicit(&l->owner, 0, memory_order_release);
}

#endif /* PL_FABRIC_LOCK_H */
