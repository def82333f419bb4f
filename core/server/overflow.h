/* server/overflow.h - where an error is written that the log has no room for.
 *
 * When a ring is full up to its last byte and nobody reads it (see
 * fabric/record.h), its writer formats the record itself and writes the line
 * to stderr, at once.  That may be slow, but it never waits for long: a stderr
 * that takes nothing either makes the record a dropped one.  Knows no ring but
 * the one that it is attached to.
 */
#ifndef PL_SERVER_OVERFLOW_H
#define PL_SERVER_OVERFLOW_H

#include "log/format.h"
#include "log/sink.h"

struct pl_config;

#define PL_OVERFLOW_PATIENCE_MS 20 /* with a stderr that takes nothing */

struct pl_overflow {
  struct pl_formatter formatter;
  struct pl_sink sink;
  struct pl_buf line; /* empty between two records */
  bool torn;          /* the last line was not written whole */
  uint64_t count;     /* written, and not told in the log */
};

/* Lets `w` write to `fd` what it has no room for.  Both are borrowed, as are
 * the routes, which may be NULL.  Where `fd` is no open descriptor, errors
 * without room stay dropped ones. */
void pl__overflow_attach(struct pl_overflow *o, struct pl_ring_writer *w,
                         int fd, const struct pl_config *config,
                         const struct pl_routes *routes);
/* Tells in the log how many lines are not in it, once there is room again.
 * worker: of the record. */
void pl__overflow_tell(struct pl_overflow *o, struct pl_ring_writer *w,
                       uint16_t worker);
/* Gives memory and descriptor back; the writer has no overflow any more. */
void pl__overflow_detach(struct pl_overflow *o, struct pl_ring_writer *w);

#endif /* PL_SERVER_OVERFLOW_H */
