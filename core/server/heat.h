/* server/heat.h - the last ten minutes of requests: how many, how they were
 * answered, and how long they took, in columns of five seconds.
 *
 * Whoever owns one looks at the shards (fabric/metrics.h) from time to time; a
 * look that comes PL_HEAT_STEP_S after the last column makes the next one, of
 * what has been counted since.  Workers do nothing for it.
 *
 * A column's latencies are in rows, two to a power of two of seconds: the first
 * takes all up to 46 us, the last all over 8 s.
 */
#ifndef PL_SERVER_HEAT_H
#define PL_SERVER_HEAT_H

#include "base/buf.h"
#include "base/histogram.h"
#include "fabric/metrics.h"

#include <stdint.h>

#define PL_HEAT_STEP_S 5
#define PL_HEAT_COLUMNS 120u
#define PL_HEAT_EXPONENT_MIN                                                   \
  (-15)                    /* of two: the rows begin there, in seconds */
#define PL_HEAT_ROWS 38u   /* two for each power, up to 2^3 and above */
#define PL_HEAT_CLASSES 6u /* of status: others, 1xx .. 5xx */

struct pl_heat_column {
  int64_t ended_ns; /* since the epoch */
  double took_s;
  double classes[PL_HEAT_CLASSES]; /* requests that were answered so */
  double p50_s, p99_s;             /* 0: there were none */
  uint32_t rows[PL_HEAT_ROWS];
};

/* Counted up to some time. */
struct pl_heat_sum {
  double classes[PL_HEAT_CLASSES];
  struct pl_histogram seconds;
};

struct pl_heat {
  int64_t looked_ns; /* monotonic, when the last column ended; 0: never */
  uint64_t
      count; /* of columns made so far; the last PL_HEAT_COLUMNS are here */
  struct pl_heat_sum before, now, since;
  struct pl_heat_column columns[PL_HEAT_COLUMNS]; /* by number % COLUMNS */
};

/* All zero is a fine beginning.  The first look makes no column. */
void pl__heat_look(struct pl_heat *h, const struct pl_metrics *m,
                   int64_t now_ns);

/* Appends what there is from column `from` on, which counts from 0:
 *
 *   {"step_s":5,"next":N,"ends_ms":[upper end of each row but the last],
 *    "columns":[{"number":,"ended_s":,"took_s":,"classes":[others,1xx..5xx],
 *                "p50_ms":,"p99_ms":,"cells":[row,count,row,count...]}]}
 *
 * `next` is what to ask for the next time.  Returns 0 or as pl__buf_append. */
int pl__heat_json(const struct pl_heat *h, uint64_t from, struct pl_buf *out);

#endif /* PL_SERVER_HEAT_H */
