/* log/pprof_read.h - reads profiles that log/pprof.h has written, so that each
 * of them can be shown to people as well.
 *
 * Not any profile of others: one location has one line, and there is one value
 * that counts, the last one.  Checks every length and number all the same.
 */
#ifndef PL_LOG_PPROF_READ_H
#define PL_LOG_PPROF_READ_H

#include "log/flame.h"

#define PL_PPROF_READ_TYPE_BYTES 48u

/* What the last value of its samples is. */
struct pl_pprof_read {
  char type[PL_PPROF_READ_TYPE_BYTES]; /* "inuse_space" */
  char unit[PL_PPROF_READ_TYPE_BYTES]; /* "bytes" */
};

/* Adds all samples of a compressed file to a tree, by that value.
 * 0, PL_ENOMEM; PL_EBAD: this is none of ours; PL_EFULL: it is too large. */
int pl__pprof_read(struct pl_slice file, struct pl_flame *flame,
                   struct pl_pprof_read *out);

#endif /* PL_LOG_PPROF_READ_H */
