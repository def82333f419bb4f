/* base/clock.h - the clocks, in nanoseconds.
 *
 * Monotonic time orders things within one machine and never goes back; all
 * processes of one boot share it, so it may be compared across the fabric.
 * Realtime is for people: since 1970-01-01 UTC, and it may jump.  The coarse
 * forms are cheaper and stand still between kernel ticks (1 to 10 ms).
 */
#ifndef PL_BASE_CLOCK_H
#define PL_BASE_CLOCK_H

#include <stdint.h>

#define PL_NS_PER_MS 1000000
#define PL_NS_PER_S 1000000000

int64_t pl__clock_monotonic_ns(void);
int64_t pl__clock_monotonic_coarse_ns(void);
int64_t pl__clock_realtime_ns(void);
int64_t pl__clock_realtime_coarse_ns(void);

/* CPU time that the calling thread has used. */
int64_t pl__clock_thread_cpu_ns(void);

/* Monotonic seconds, as deadlines are counted in struct pl_req. */
static inline double pl__clock_monotonic_s(void) {
  return (double)pl__clock_monotonic_ns() / PL_NS_PER_S;
}

#endif /* PL_BASE_CLOCK_H */
