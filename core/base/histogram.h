/* base/histogram.h - log-linear buckets: where a number belongs, and what a
 * bucket stands for.
 *
 * Each power of two from 2^-24 (60 ns, if it is seconds) to 2^40 (1 TiB, if it
 * is bytes) is an octave, and each octave is divided into 16 buckets of the
 * same width: the middle of a bucket is at most 3.1 % away from any number in
 * it.  A bucket holds its upper end, not its lower one, so powers of two are
 * exact as the `le` of Prometheus.  What is smaller belongs to the first
 * bucket, what is larger to the last.
 *
 * The index comes from the bits of a double: the exponent and the four highest
 * bits of the mantissa.  Knows nothing of who counts.
 */
#ifndef PL_BASE_HISTOGRAM_H
#define PL_BASE_HISTOGRAM_H

#include <stdint.h>

#define PL_HISTOGRAM_EXPONENT_MIN (-24)
#define PL_HISTOGRAM_OCTAVES 64u /* a bit each in a word */
#define PL_HISTOGRAM_STEPS 16u   /* buckets of an octave */
#define PL_HISTOGRAM_BUCKETS (PL_HISTOGRAM_OCTAVES * PL_HISTOGRAM_STEPS)
#define PL_HISTOGRAM_MIN 0x1p-24
#define PL_HISTOGRAM_MAX 0x1p40

#define PL_HISTOGRAM_SHIFT 48 /* bits of a double below those that count */
#define PL_HISTOGRAM_BASE                                                      \
  ((uint64_t)(1023 + PL_HISTOGRAM_EXPONENT_MIN) * PL_HISTOGRAM_STEPS)

/* The bucket of a number that is not NaN. */
static inline uint32_t pl__histogram_index(double number) {
  union {
    double number;
    uint64_t bits;
  } of = {number};

  if (!(number > PL_HISTOGRAM_MIN))
    return 0;
  if (number > PL_HISTOGRAM_MAX)
    return PL_HISTOGRAM_BUCKETS - 1;
  return (uint32_t)(((of.bits - 1) >> PL_HISTOGRAM_SHIFT) - PL_HISTOGRAM_BASE);
}

/* The upper end of a bucket; that of the last one is PL_HISTOGRAM_MAX. */
static inline double pl__histogram_end(uint32_t index) {
  union {
    uint64_t bits;
    double number;
  } of = {(index + 1 + PL_HISTOGRAM_BASE) << PL_HISTOGRAM_SHIFT};

  return of.number;
}

/* What is counted, put together from several places. */
struct pl_histogram {
  double sum;       /* of all numbers */
  uint64_t octaves; /* a bit for each that was counted in */
  uint64_t counts[PL_HISTOGRAM_BUCKETS];
};

/* How many were counted. */
uint64_t pl__histogram_count(const struct pl_histogram *h);
/* The number that a share of them (0 to 1) does not pass: the middle of its
 * bucket; 0 when there are none. */
double pl__histogram_quantile(const struct pl_histogram *h, double share);
/* Forgets everything; what no octave was counted in is not written to. */
void pl__histogram_clear(struct pl_histogram *h);

#endif /* PL_BASE_HISTOGRAM_H */
