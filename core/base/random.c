/* base/random.c - see random.h. */
#include "base/random.h"

#include "base/clock.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* splitmix64, which is what fills the state from one number. */
static uint64_t split(uint64_t *x) {
  uint64_t z = *x += 0x9e3779b97f4a7c15u;

  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void pl__random_seed(struct pl_random *r) {
  uint64_t x = (uint64_t)pl__clock_realtime_ns() ^ (uint64_t)getpid() << 32 ^
               (uint64_t)(uintptr_t)r;

  if (getrandom(r->s, sizeof r->s, GRND_NONBLOCK) == (ssize_t)sizeof r->s &&
      (r->s[0] | r->s[1] | r->s[2] | r->s[3]))
    return;
  for (int i = 0; i < 4; i++)
    r->s[i] = split(&x);
}
