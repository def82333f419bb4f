/* base/stopwatch.h - monotonic time for a fifth of the price of asking for it.
 *
 * Between two looks at the clock, which a loop takes once per turn, time is
 * told by the processor's counter.  How fast that counts is learnt from the
 * looks, and so is whether it can be trusted: one that has once been off by
 * more than a percent and 20 us is not asked again.  Until then, or where there
 * is none, every reading asks the clock.
 *
 * One thread.
 */
#ifndef PL_BASE_STOPWATCH_H
#define PL_BASE_STOPWATCH_H

#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

#define PL_STOPWATCH_REACH_S 0.1 /* of a look; past it the clock is asked */

/* Zero at first. */
struct pl_stopwatch {
  double seconds;  /* monotonic, at the last look */
  double per_tick; /* seconds; 0: not known */
  uint64_t ticks;  /* of the counter, at the last look */
  double from_s;   /* when learning began, in both */
  uint64_t from_ticks;
  uint64_t least; /* ticks that asking the clock has taken */
  bool is_broken;
};

/* The processor's counter; 0 where there is none. */
static inline uint64_t pl__stopwatch_ticks(void) {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return 0;
#endif
}

/* Asks the clock, and learns; returns monotonic seconds. */
double pl__stopwatch_look(struct pl_stopwatch *w);

/* Monotonic seconds, to some 0.1 us. */
static inline double pl__stopwatch_read(const struct pl_stopwatch *w) {
  double since =
      (double)(int64_t)(pl__stopwatch_ticks() - w->ticks) * w->per_tick;

  return since > 0 && since < PL_STOPWATCH_REACH_S ? w->seconds + since
                                                   : pl__clock_monotonic_s();
}

#endif /* PL_BASE_STOPWATCH_H */
