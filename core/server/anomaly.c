/* server/anomaly.c - see anomaly.h. */
#include "server/anomaly.h"

#include <math.h>
#include <stdbool.h>

#include "base/clock.h"
#include "fabric/tracing.h"
#include "server/layout.h"

#define LOOK_NS ((int64_t)PL_NS_PER_S)
#define HALVINGS_PER_HOLD 6
#define SHARE_MIN 0.005 /* about what is sampled anyway */

int pl__anomaly_open(struct pl_anomaly *a, const struct pl_fabric *f,
                     int64_t now_ns) {
  struct pl_server_state *state;
  int failed = pl__layout_tracing(f, &a->tracing);

  failed = failed ? failed : pl__layout_metrics(f, &a->metrics);
  failed = failed ? failed : pl__layout_state(f, &state);
  if (failed)
    return failed;
  a->state = state;
  a->began_ns = a->looked_ns = now_ns;
  /* The control before this one has not seen its end. */
  if (atomic_load_explicit(&a->tracing->below, memory_order_relaxed))
    a->bad_ns = now_ns;
  return 0;
}

void pl__anomaly_close(struct pl_anomaly *a) { pl__trends_deinit(&a->trends); }

double pl__anomaly_share(int64_t since_ns, int64_t hold_ns) {
  int64_t steps;
  double share;

  if (since_ns < hold_ns)
    return 1;
  steps = (since_ns - hold_ns) * HALVINGS_PER_HOLD / hold_ns + 1;
  share = ldexp(1, steps < 60 ? -(int)steps : -60);
  return share < SHARE_MIN ? 0 : share;
}

/* By the bounds of the configuration; 0 is none. */
static bool is_bad(const struct pl_anomaly *a) {
  const struct pl_trend *now = &a->trends.all;
  double errors = atomic_load_explicit(&a->state->anomaly_errors_ppm,
                                       memory_order_relaxed) *
                  1e-6;
  double p99_s =
      atomic_load_explicit(&a->state->anomaly_p99_us, memory_order_relaxed) *
      1e-6;

  if (now->requests_per_s * a->trends.window_s < PL_ANOMALY_REQUESTS_MIN)
    return false;
  return (errors > 0 && now->errors_per_s > errors * now->requests_per_s) ||
         (p99_s > 0 && now->p99_s > p99_s);
}

/* The same with what an action wants kept (lua/perilune/admin/actions.lua). */
static uint64_t boosted(const struct pl_tracing *t, uint64_t below,
                        int64_t now_ns) {
  uint64_t boost = atomic_load_explicit(&t->boost_below, memory_order_relaxed);
  int64_t until =
      atomic_load_explicit(&t->boost_until_ns, memory_order_acquire);

  return now_ns < until && boost > below ? boost : below;
}

void pl__anomaly_look(struct pl_anomaly *a, int64_t now_ns) {
  int64_t hold_ns =
      PL_NS_PER_MS * (int64_t)atomic_load_explicit(&a->state->anomaly_hold_ms,
                                                   memory_order_relaxed);
  double share = 0;

  if (now_ns - a->looked_ns < LOOK_NS)
    return;
  a->looked_ns = now_ns;
  if (!pl__trends_look(&a->trends, &a->metrics, a->began_ns, now_ns) &&
      is_bad(a))
    a->bad_ns = now_ns;
  if (a->bad_ns && hold_ns)
    share = pl__anomaly_share(now_ns - a->bad_ns, hold_ns);
  if (share <= 0)
    a->bad_ns = 0;
  atomic_store_explicit(
      &a->tracing->per_second,
      atomic_load_explicit(&a->state->anomaly_per_second, memory_order_relaxed),
      memory_order_relaxed);
  atomic_store_explicit(&a->tracing->below,
                        boosted(a->tracing, pl__tracing_below(share), now_ns),
                        memory_order_relaxed);
}
