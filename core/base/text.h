/* base/text.h - durations, sizes and shares as people write them.
 *
 * Pure; independent of the locale.
 */
#ifndef PL_BASE_TEXT_H
#define PL_BASE_TEXT_H

#include "base/slice.h"

/* "250ms", "5s", "1m", "2h", "1d" or a bare number of seconds, each with an
 * optional fraction ("1.5s"); no sign, no exponent, no white space.
 * Sets *seconds and returns 0, or PL_EINVAL: not such a text, or more than
 * 100 years. */
int pl__text_seconds(struct pl_slice text, double *seconds);

/* "0.01" or "1%", from 0 to 1; no sign, no exponent, no white space.  Sets
 * *share and returns 0, or PL_EINVAL: not such a text, or past 1. */
int pl__text_share(struct pl_slice text, double *share);

/* "64K", "10M", "1G" (powers of 1024, either case) or a bare number of bytes;
 * no sign, no fraction, no white space.  Sets *bytes and returns 0, or
 * PL_EINVAL: not such a text, or more than 2^53. */
int pl__text_bytes(struct pl_slice text, uint64_t *bytes);

/* Decimal digits only.  Sets *number and returns 0, or PL_EINVAL: not such a
 * text, or more than `max`. */
int pl__text_number(struct pl_slice text, uint64_t max, uint64_t *number);

#endif /* PL_BASE_TEXT_H */
