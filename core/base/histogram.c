/* base/histogram.c - counts and quantiles of log-linear buckets. */
#include "base/histogram.h"

#include <math.h>
#include <string.h>

static uint64_t octave_count(const struct pl_histogram *h, unsigned octave) {
  const uint64_t *at = &h->counts[octave * PL_HISTOGRAM_STEPS];
  uint64_t count = 0;

  for (unsigned i = 0; i < PL_HISTOGRAM_STEPS; i++)
    count += at[i];
  return count;
}

uint64_t pl__histogram_count(const struct pl_histogram *h) {
  uint64_t count = 0;

  for (uint64_t left = h->octaves; left; left &= left - 1)
    count += octave_count(h, (unsigned)__builtin_ctzll(left));
  return count;
}

static double middle(uint32_t index) {
  double end = pl__histogram_end(index);
  double begin = index ? pl__histogram_end(index - 1) : 0;

  return (begin + end) / 2;
}

double pl__histogram_quantile(const struct pl_histogram *h, double share) {
  uint64_t count = pl__histogram_count(h), seen = 0;
  uint64_t rank = (uint64_t)ceil(share * (double)count);

  rank = rank ? rank : 1;
  for (uint64_t left = h->octaves; left; left &= left - 1) {
    uint32_t first = (uint32_t)__builtin_ctzll(left) * PL_HISTOGRAM_STEPS;
    for (uint32_t i = first; i < first + PL_HISTOGRAM_STEPS; i++) {
      seen += h->counts[i];
      if (seen >= rank)
        return middle(i);
    }
  }
  return 0;
}

void pl__histogram_clear(struct pl_histogram *h) {
  for (uint64_t left = h->octaves; left; left &= left - 1)
    memset(&h->counts[(unsigned)__builtin_ctzll(left) * PL_HISTOGRAM_STEPS], 0,
           PL_HISTOGRAM_STEPS * sizeof *h->counts);
  h->sum = 0;
  h->octaves = 0;
}
