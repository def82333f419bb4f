/* base/stopwatch.c - how fast the processor's counter counts. */
#include "base/stopwatch.h"

#include <math.h>

#define LEARN_S 0.02 /* least time to tell the speed from */
#define RENEW_S 10.0 /* clocks are slewed: begin to learn anew */
#define TRUST_SHARE 0.01
#define TRUST_S 20e-6

/* What it would have said, against what the clock says. */
static bool is_off(const struct pl_stopwatch *w, uint64_t ticks, double now) {
  double passed = now - w->seconds;
  double told = (double)(int64_t)(ticks - w->ticks) * w->per_tick;

  return fabs(told - passed) > passed * TRUST_SHARE + TRUST_S;
}

/* The clock is asked between two looks at the counter: whoever was interrupted
 * there would learn nonsense. */
static bool is_undisturbed(struct pl_stopwatch *w, uint64_t took) {
  if (took == 0) /* there is no counter */
    return false;
  if (w->least == 0 || took < w->least)
    w->least = took;
  return took <= 8 * w->least;
}

double pl__stopwatch_look(struct pl_stopwatch *w) {
  uint64_t ticks = pl__stopwatch_ticks();
  double now = pl__clock_monotonic_s();

  if (w->is_broken || !is_undisturbed(w, pl__stopwatch_ticks() - ticks))
    return now;
  if (w->per_tick > 0 && is_off(w, ticks, now)) {
    w->is_broken = true;
    w->per_tick = 0;
    return now;
  }
  w->seconds = now;
  w->ticks = ticks;
  if (w->from_ticks == 0 || now - w->from_s > RENEW_S) {
    w->from_s = now;
    w->from_ticks = ticks;
  } else if (now - w->from_s > LEARN_S && ticks > w->from_ticks) {
    w->per_tick = (now - w->from_s) / (double)(ticks - w->from_ticks);
  }
  return now;
}
