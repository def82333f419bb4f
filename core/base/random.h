/* base/random.h - numbers nobody foresees by chance, in a few nanoseconds.
 *
 * xoshiro256++ (Blackman, Vigna 2019), seeded by the kernel.  For ids and
 * samples, not for secrets: who sees some of them can compute the others.  Each
 * process seeds its own after fork(), or two would give out the same ids.
 */
#ifndef PL_BASE_RANDOM_H
#define PL_BASE_RANDOM_H

#include <stdint.h>

struct pl_random {
  uint64_t s[4]; /* never all zero */
};

/* Seeds it: getrandom(2); where that has nothing yet, time and process. */
void pl__random_seed(struct pl_random *r);

static inline uint64_t pl__random_rotl(uint64_t x, int by) {
  return x << by | x >> (64 - by);
}

static inline uint64_t pl__random_next(struct pl_random *r) {
  uint64_t *s = r->s;
  uint64_t result = pl__random_rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;

  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = pl__random_rotl(s[3], 45);
  return result;
}

/* The same without 0, which stands for none among ids. */
static inline uint64_t pl__random_id(struct pl_random *r) {
  uint64_t id;

  do
    id = pl__random_next(r);
  while (id == 0);
  return id;
}

#endif /* PL_BASE_RANDOM_H */
