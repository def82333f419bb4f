/* server/makings.h - answers that take long to make, made beside the loop.
 *
 * A profile of many samples takes up to a second to put together, and a loop
 * that does so answers nothing meanwhile.  So what of_fabric answers is made on
 * a thread of libuv's pool, one after the other; whoever wants it gets a number,
 * asks with it until it is there, and takes it piece by piece.
 *
 * Lua asks by core.report("make", ...), with a line that says
 *
 *   open TOPIC ARGUMENT  has it made; the number is the answer.  One that asks
 *                        for what another has asked for, and that was not begun
 *                        yet, gets the same.  The argument is all that follows,
 *                        and may have newlines in it
 *   look NUMBER          its bytes, once it is made; empty until then
 *   next NUMBER          the next piece; empty: that was all, and it is given up
 *   drop NUMBER          gives it up
 *
 * There are PL_MAKINGS_MAX at once, of all who ask.  What is made waits in
 * memory until all of those have taken it; no other is begun while that is more
 * than PL_MAKINGS_HELD_BYTES.  One that nobody has asked for in PL_MAKINGS_IDLE_S
 * is given up.
 *
 * Used on the loop's thread only.  What is made reads the fabric, and nothing
 * that belongs to the loop.
 */
#ifndef PL_SERVER_MAKINGS_H
#define PL_SERVER_MAKINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"

struct pl_fabric;
struct pl_making;

#define PL_MAKINGS_MAX 32u
#define PL_MAKINGS_BYTES_MAX (64u << 20)  /* of one, when it is made */
#define PL_MAKINGS_HELD_BYTES (64u << 20) /* of all that were made; asked */
#define PL_MAKINGS_PIECE_BYTES 65536u
#define PL_MAKINGS_IDLE_S 60

/* Makes the answer, as pl__admin_answer does. On a thread of the pool. */
typedef int (*pl_makings_fn)(const struct pl_fabric *fabric,
                             struct pl_slice topic, struct pl_slice argument,
                             struct pl_buf *out);

/* Of one who asks. */
struct pl_makings_ticket {
  struct pl_making *making; /* NULL: free */
  uint32_t number;
  uint32_t taken;   /* bytes */
  int64_t asked_ns; /* monotonic, last */
};

struct pl_makings {
  uv_loop_t *loop;
  const struct pl_fabric *fabric;
  pl_makings_fn make;
  uint32_t number;           /* given last */
  struct pl_making *first;   /* all, oldest first */
  struct pl_making *running; /* one of them, or one that was given up; NULL */
  struct pl_makings_ticket tickets[PL_MAKINGS_MAX];
};

/* Both are borrowed. */
void pl__makings_init(struct pl_makings *m, uv_loop_t *loop,
                      const struct pl_fabric *fabric, pl_makings_fn make);
/* Gives all up.  Not while pl__makings_is_busy. */
void pl__makings_deinit(struct pl_makings *m);

/* Whether the pool's thread is at one: it uses the fabric and the loop. */
bool pl__makings_is_busy(const struct pl_makings *m);

/* Appends the answer.  Returns 0; PL_EINVAL (no such number, or line); PL_EFULL
 * (too many at once, or too much in their arguments); PL_ENOMEM; of "look" and "next"
 * also what making it has returned, with which it is given up. */
int pl__makings_answer(struct pl_makings *m, struct pl_slice line,
                       struct pl_buf *out);

#endif /* PL_SERVER_MAKINGS_H */
