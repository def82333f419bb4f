/* server/pulse.c - see pulse.h. */
#include "server/pulse.h"

#include "base/clock.h"

#define SILENCE_NS ((int64_t)PL_PULSE_SILENCE_MS * PL_NS_PER_MS)
#define LOOK_NS ((int64_t)PL_PULSE_LOOK_MS * PL_NS_PER_MS)
#define LOOKS_MIN 4 /* per vm.stuck_timeout */

void pl__pulse_init(struct pl_pulse *p, double stuck_s) {
  *p = (struct pl_pulse){.stuck_ns = (int64_t)(stuck_s * PL_NS_PER_S)};
}

/* Until when `limit_ns` of silence says nothing: our own gap was part of it. */
static int64_t lenient_until(int64_t before_ns, int64_t gap_ns,
                             int64_t limit_ns, int64_t now_ns) {
  return gap_ns > limit_ns / 2 ? now_ns + limit_ns : before_ns;
}

void pl__pulse_look(struct pl_pulse *p, int64_t now_ns) {
  int64_t gap_ns = p->looked_ns ? now_ns - p->looked_ns : 0;

  p->lenient_ns = lenient_until(p->lenient_ns, gap_ns, SILENCE_NS, now_ns);
  p->very_lenient_ns =
      lenient_until(p->very_lenient_ns, gap_ns, p->stuck_ns, now_ns);
  p->looked_ns = now_ns;
}

enum pl_pulse_state pl__pulse_judge(const struct pl_pulse *p, int64_t beat_ns,
                                    int64_t now_ns) {
  int64_t silent_ns = beat_ns ? now_ns - beat_ns : 0;

  if (silent_ns >= p->stuck_ns && now_ns >= p->very_lenient_ns)
    return PL_PULSE_STUCK;
  if (silent_ns >= SILENCE_NS && now_ns >= p->lenient_ns)
    return PL_PULSE_SILENT;
  return PL_PULSE_BEATING;
}

int64_t pl__pulse_due(const struct pl_pulse *p, int64_t now_ns) {
  int64_t step_ns = p->stuck_ns / LOOKS_MIN;

  return now_ns + (step_ns < LOOK_NS ? step_ns : LOOK_NS);
}
