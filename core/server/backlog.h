/* server/backlog.h - what waits for the collector: copies of spans, so many at
 * most.
 *
 * Two lines, for what has to arrive and for samples.  Who comes when all is full
 * is refused, but what has to arrive takes the place of the oldest samples.
 * What is taken for a batch goes out of the lines and back to their heads if the
 * batch has to be tried again.  One thread's own; knows no bytes of what it
 * keeps.
 */
#ifndef PL_SERVER_BACKLOG_H
#define PL_SERVER_BACKLOG_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_backlog_item {
  struct pl_backlog_item *next;
  bool must_arrive;
  uint32_t bytes;
  _Alignas(8) char at[];
};

struct pl_backlog_line {
  struct pl_backlog_item *first, *last; /* NULL: none */
  uint32_t count;
};

struct pl_backlog {
  uint32_t count_max;
  struct pl_backlog_line lines[2]; /* by must_arrive */
};

/* count_max: 1 or more. */
void pl__backlog_init(struct pl_backlog *b, uint32_t count_max);
void pl__backlog_deinit(struct pl_backlog *b);

/* Copies one.  Returns how many were dropped for it: itself, because there is no
 * room (or no memory), or a sample. */
uint32_t pl__backlog_push(struct pl_backlog *b, struct pl_slice bytes,
                          bool must_arrive);
/* Takes the oldest out, those that have to arrive first; NULL: none.  To be given
 * to one of the two below. */
struct pl_backlog_item *pl__backlog_take(struct pl_backlog *b);
void pl__backlog_free(struct pl_backlog_item *item);
/* Puts it back where it was taken from; the last one taken first. */
void pl__backlog_return(struct pl_backlog *b, struct pl_backlog_item *item);

static inline uint32_t pl__backlog_count(const struct pl_backlog *b) {
  return b->lines[0].count + b->lines[1].count;
}

/* Whether one that has to arrive would be refused. */
static inline bool pl__backlog_is_stuffed(const struct pl_backlog *b) {
  return b->lines[1].count >= b->count_max;
}

#endif /* PL_SERVER_BACKLOG_H */
