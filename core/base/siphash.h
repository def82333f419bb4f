/* base/siphash.h - a hash that those who choose the keys cannot steer.
 *
 * SipHash (Aumasson and Bernstein, 2012) with the number of rounds as a
 * parameter: 2-4 is the one that was published, 1-3 is what hash tables use,
 * whose hashes nobody sees.  With a secret seed nobody can find keys that meet
 * in one place of a table.  No cryptographic digest: 64 bits.
 * For little-endian machines.
 */
#ifndef PL_BASE_SIPHASH_H
#define PL_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct pl_siphash_seed {
  uint64_t half[2]; /* random, and secret */
};

static inline uint64_t pl__siphash_turn(uint64_t x, unsigned bits) {
  return x << bits | x >> (64 - bits);
}

/* By value: four registers. */
struct pl_siphash_state {
  uint64_t a, b, c, d;
};

static inline struct pl_siphash_state
pl__siphash_rounds(struct pl_siphash_state v, int rounds) {
#pragma GCC unroll 4
  while (rounds--) {
    v.a += v.b;
    v.b = pl__siphash_turn(v.b, 13) ^ v.a;
    v.a = pl__siphash_turn(v.a, 32);
    v.c += v.d;
    v.d = pl__siphash_turn(v.d, 16) ^ v.c;
    v.a += v.d;
    v.d = pl__siphash_turn(v.d, 21) ^ v.a;
    v.c += v.b;
    v.b = pl__siphash_turn(v.b, 17) ^ v.c;
    v.c = pl__siphash_turn(v.c, 32);
  }
  return v;
}

static inline struct pl_siphash_state
pl__siphash_word(struct pl_siphash_state v, uint64_t word, int rounds) {
  v.d ^= word;
  v = pl__siphash_rounds(v, rounds);
  v.a ^= word;
  return v;
}

/* The bytes behind the last whole word, as a word, zero above. */
static inline uint64_t pl__siphash_tail(const char *at, size_t bytes) {
  size_t left = bytes % 8;
  uint64_t word = 0;

  if (left && bytes >= 8) { /* one load that ends where the bytes end */
    memcpy(&word, at + bytes - 8, 8);
    return word >> (8 * (8 - left));
  }
  for (size_t i = 0; i < left; i++)
    word |= (uint64_t)(unsigned char)at[i] << (8 * i);
  return word;
}

/* The hash of `bytes` bytes; `rounds` for each word of 8, `final` at the end. */
static inline uint64_t pl__siphash(const struct pl_siphash_seed *seed,
                                   const void *data, size_t bytes, int rounds,
                                   int final) {
  struct pl_siphash_state v = {
      seed->half[0] ^ 0x736f6d6570736575u, seed->half[1] ^ 0x646f72616e646f6du,
      seed->half[0] ^ 0x6c7967656e657261u, seed->half[1] ^ 0x7465646279746573u};
  const char *at = data;
  uint64_t last = pl__siphash_tail(at, bytes) | (uint64_t)bytes << 56;

  for (size_t left = bytes; left >= 8; left -= 8, at += 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    v = pl__siphash_word(v, word, rounds);
  }
  v = pl__siphash_word(v, last, rounds);
  v.c ^= 0xff;
  v = pl__siphash_rounds(v, final);
  return v.a ^ v.b ^ v.c ^ v.d;
}

#endif /* PL_BASE_SIPHASH_H */
