/* fabric/sampler.h - which records of a busy place are written.
 *
 * A site is a level and a message.  The first so many records of a site in a
 * second are written, and after them every so-manieth.  What was left out is
 * counted by site, and told by a record once a second:
 *
 *     log records sampled away   of = the message, count = how many
 *
 * at the level of those that it stands for.  A count is forgotten only when
 * that record is in the ring.  Errors are never asked for here.
 *
 * The table has PL_SAMPLER_SITES places; messages for which there is none, as
 * when each is another, are not sampled.  Belongs to one process and one
 * thread; knows no clock.
 */
#ifndef PL_FABRIC_SAMPLER_H
#define PL_FABRIC_SAMPLER_H

#include "base/siphash.h"
#include "fabric/record.h"

#define PL_SAMPLER_SITES 256u
#define PL_SAMPLER_TEXT_BYTES 96u /* of a message that are told */

struct pl_sampler_site {
  uint64_t hash;  /* of the message and its level; 0: the place is free */
  int64_t second; /* that `count` is of */
  uint64_t count; /* records of that second */
  uint64_t away;  /* left out and not told */
  uint8_t level;  /* enum pl_level */
  uint8_t bytes;  /* of `text` */
  char text[PL_SAMPLER_TEXT_BYTES - 2];
};

struct pl_sampler {
  struct pl_sampler_site *sites; /* NULL: nothing was sampled yet */
  struct pl_siphash_seed seed;
  uint64_t first; /* records of a site and second; 0: all are written */
  uint64_t then;  /* every so-manieth behind them; 0: none */
  uint64_t away;  /* left out and not told, of all sites */
  int64_t told;   /* the second of the last pl__sampler_tell */
};

/* Takes no memory; all records are written. */
void pl__sampler_init(struct pl_sampler *s, uint64_t seed);
void pl__sampler_deinit(struct pl_sampler *s);

/* Sets both numbers; what is counted stays.  Returns 0, or PL_ENOMEM: all
 * records are written. */
int pl__sampler_set(struct pl_sampler *s, uint64_t first, uint64_t then);

static inline bool pl__sampler_is_on(const struct pl_sampler *s) {
  return s && s->first > 0;
}

/* Whether this record is to be written.  now_ns: of any clock that is always
 * the same. */
bool pl__sampler_admit(struct pl_sampler *s, enum pl_level level,
                       struct pl_slice message, int64_t now_ns);

/* Writes the counts of all sites, once a second, or at once with `now`: at the
 * end.  head: who
 * writes; its level is set. */
void pl__sampler_tell(struct pl_sampler *s, struct pl_ring_writer *w,
                      const struct pl_record *head, int64_t now_ns, bool now);

#endif /* PL_FABRIC_SAMPLER_H */
