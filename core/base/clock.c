/* base/clock.c - clock_gettime, in nanoseconds. */
#include "base/clock.h"

#include <time.h>

static int64_t read_clock(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (int64_t)t.tv_sec * PL_NS_PER_S + t.tv_nsec;
}

int64_t pl__clock_monotonic_ns(void) { return read_clock(CLOCK_MONOTONIC); }

int64_t pl__clock_monotonic_coarse_ns(void) {
  return read_clock(CLOCK_MONOTONIC_COARSE);
}

int64_t pl__clock_realtime_ns(void) { return read_clock(CLOCK_REALTIME); }

int64_t pl__clock_realtime_coarse_ns(void) {
  return read_clock(CLOCK_REALTIME_COARSE);
}

int64_t pl__clock_thread_cpu_ns(void) {
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}
