/* server/pulse.h - whether workers live, judged by the time of their beats.
 *
 *             PL_PULSE_SILENCE_MS          vm.stuck_timeout
 *   BEATING ---------------------> SILENT ------------------> STUCK
 *      ^                             |
 *      +---------- it beats ---------+
 *
 * Who looks may have stood still itself (a stopped process group, a paused
 * virtual machine): then everybody seems silent, and gets the time anew to show
 * life.  Pure: knows no process and no fabric.
 */
#ifndef PL_SERVER_PULSE_H
#define PL_SERVER_PULSE_H

#include <stdint.h>

#define PL_PULSE_SILENCE_MS 1000 /* others accept from its sockets then */
#define PL_PULSE_LOOK_MS 250     /* how often to look, if not oftener */
#define PL_PULSE_ABORT_MS 500    /* from SIGABRT to SIGKILL */

enum pl_pulse_state { PL_PULSE_BEATING, PL_PULSE_SILENT, PL_PULSE_STUCK };

struct pl_pulse {
  int64_t stuck_ns;        /* vm.stuck_timeout */
  int64_t looked_ns;       /* when we looked last; 0: never */
  int64_t lenient_ns;      /* before this, nobody counts as silent ... */
  int64_t very_lenient_ns; /* ... and nobody as stuck */
};

void pl__pulse_init(struct pl_pulse *p, double stuck_s);
/* Before a round of pl__pulse_judge. */
void pl__pulse_look(struct pl_pulse *p, int64_t now_ns);
/* beat_ns: when it beat last; 0: not yet, which is no silence. */
enum pl_pulse_state pl__pulse_judge(const struct pl_pulse *p, int64_t beat_ns,
                                    int64_t now_ns);
/* When to look again at the latest. */
int64_t pl__pulse_due(const struct pl_pulse *p, int64_t now_ns);

#endif /* PL_SERVER_PULSE_H */
