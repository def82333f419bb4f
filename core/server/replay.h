/* server/replay.h - what the flight recorder has, piece by piece, for clients of
 * the admin plane.
 *
 * Lua asks for it by core.report("trace", ...), with a line that says
 *
 *   open SECONDS   begins one that goes back so far; its number is the answer
 *   look NUMBER    from here on it also has what has come since
 *   next NUMBER    a piece; empty: there is no more now
 *   end NUMBER     a piece of its end; empty: that was all, and it is closed
 *   close NUMBER   gives it up
 *
 * There are PL_REPLAYS_MAX at once; a client that has gone away without closing
 * loses its own to the next one that needs it.
 */
#ifndef PL_SERVER_REPLAY_H
#define PL_SERVER_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct pl_config;
struct pl_fabric;
struct pl_timeline;

#define PL_REPLAYS_MAX 4u
#define PL_REPLAY_IDLE_S 30 /* unasked for so long, it was left */

struct pl_replay_one {
  struct pl_timeline *timeline; /* NULL: free */
  uint32_t number;
  bool has_ended;
  int64_t asked_ns; /* monotonic, last */
};

struct pl_replay {
  const struct pl_fabric *fabric;
  const struct pl_config *config;
  uint32_t number; /* given last */
  struct pl_replay_one all[PL_REPLAYS_MAX];
};

/* Both are borrowed. */
void pl__replay_init(struct pl_replay *r, const struct pl_fabric *fabric,
                     const struct pl_config *config);
void pl__replay_deinit(struct pl_replay *r);

/* Appends the answer.  Returns 0, PL_EINVAL (no such one, or no such line),
 * PL_EFULL (too many at once), PL_ENOMEM. */
int pl__replay_answer(struct pl_replay *r, struct pl_slice line,
                      struct pl_buf *out);

#endif /* PL_SERVER_REPLAY_H */
