/* fabric/marks.h - a set of small numbers that all workers share.
 *
 * For what is to be done once per server and not once per worker: the first one
 * that adds a number does it.  Numbers stay in the set as long as the fabric.
 * Lock-free: one atomic operation on the word that has the number's bit.
 */
#ifndef PL_FABRIC_MARKS_H
#define PL_FABRIC_MARKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_MARKS_VERSION 1u
#define PL_MARKS_COUNT 65536u /* 0 .. count - 1 */

/* Lies in a section of the fabric, all zero at first: empty. */
struct pl_marks {
  _Alignas(64) _Atomic uint64_t words[PL_MARKS_COUNT / 64];
};

static inline void pl__marks_clear(struct pl_marks *m) {
  for (uint32_t i = 0; i < PL_MARKS_COUNT / 64; i++)
    atomic_store_explicit(&m->words[i], 0, memory_order_relaxed);
}

/* True: `number` was not in the set, and is now; or it is too large for it. */
static inline bool pl__marks_add(struct pl_marks *m, uint32_t number) {
  uint64_t bit = UINT64_C(1) << (number % 64);

  if (number >= PL_MARKS_COUNT)
    return true;
  return !(atomic_fetch_or_explicit(&m->words[number / 64], bit,
                                    memory_order_relaxed) &
           bit);
}

#endif /* PL_FABRIC_MARKS_H */
