/* fabric/dict.h - a dictionary in shared memory: keys and values of bytes.
 *
 *     bucket  [ next | slot slot slot slot slot slot slot ]    64 bytes
 *                 |     |
 *                 |     +-> entry block -> more of its value -> ...
 *                 +-------> block of 15 more slots -> ...
 *
 *     slot    chain (32 bits) | tag (8 bits of the hash) | version (24 bits)
 *
 * An entry is never changed, but for the number in it.  A new value is a new
 * chain of blocks (fabric/blocks.h) that one store into the slot shows; the
 * version counts these stores.
 *
 * Readers take no lock and write nothing that others wait for: they look a slot
 * up, copy what it leads to, and look at the slot again.  Unchanged: what was
 * copied is whole, as blocks are freed only after their slot has changed.
 * Changed: somebody else has got on, and they look again.  A writer that was
 * killed in the middle has shown nothing, so nobody waits for it.
 *
 * Writers lock the shard that the key's bucket belongs to.  What they return
 * with has happened, as a whole; what they were killed in has happened or not.
 *
 * When there are no free blocks, entries make room: the hand of a shard goes
 * round its buckets, takes what has expired and what was not read since it came
 * by last (CLOCK), first in the key's own shard.  Expired entries that nobody
 * touches stay until then.
 *
 * Times are monotonic milliseconds of the caller.  Knows no Lua.
 */
#ifndef PL_FABRIC_DICT_H
#define PL_FABRIC_DICT_H

#include "base/siphash.h"
#include "fabric/blocks.h"

#define PL_DICT_VERSION 1u
#define PL_DICT_BYTES_MIN 65536u
#define PL_DICT_BYTES_MAX (UINT64_C(1) << 37)
#define PL_DICT_LANES 32u                      /* of hits and misses */
#define PL_DICT_NEVER ((INT64_C(1) << 48) - 1) /* a time: not at all */

enum pl_dict_kind {
  PL_DICT_NONE,    /* there is no such key */
  PL_DICT_NUMBER,  /* a double */
  PL_DICT_BOOLEAN, /* 1 or 0, as a number */
  PL_DICT_STRING,
  PL_DICT_TABLE /* bytes, in the form of whoever has set it */
};

/* A value.  Of a number or a boolean `number` holds, else at and bytes. */
struct pl_dict_value {
  uint32_t kind;  /* enum pl_dict_kind */
  uint32_t bytes; /* of it */
  double number;
  const char *at; /* borrowed during the call */
};

/* Where pl__dict_get puts what it has found. */
struct pl_dict_found {
  uint32_t kind;  /* PL_DICT_NONE: nothing */
  uint32_t bytes; /* of a string or table; greater than `room`: not copied */
  double number;
  char *at;      /* the caller's; the last word may be written to its end */
  uint32_t room; /* bytes of it, a multiple of 8 */
};

enum pl_dict_mode {
  PL_DICT_SET,
  PL_DICT_ADD,    /* if there is none */
  PL_DICT_REPLACE /* if it equals `expected` (kind NONE: if there is none) */
};

enum pl_dict_outcome {
  PL_DICT_DONE = 0,
  PL_DICT_EXISTS = 1,    /* not added */
  PL_DICT_DIFFERS = 2,   /* not replaced */
  PL_DICT_ABSENT = 3,    /* nothing to delete or to increment */
  PL_DICT_NO_NUMBER = 4, /* not incremented */
  PL_DICT_LONG_KEY = 5,  /* longer than PL_LIMIT_DICT_KEY_BYTES */
  PL_DICT_TOO_LARGE = 6, /* more than PL_LIMIT_DICT_VALUE_BYTES, or a quarter */
  PL_DICT_FULL = 7,      /* nothing could be evicted */
  PL_DICT_BUSY = 8       /* a writer that holds the lock stands still */
};

struct pl_dict;

/* Who uses it: a process's, made after the fork.  Threads may share one. */
struct pl_dict_user {
  struct pl_dict *dict;
  uint64_t self; /* pl__lock_self */
  uint32_t lane; /* of PL_DICT_LANES: where its hits are counted */
};

struct pl_dict_key {
  const char *at;
  uint32_t bytes;
};

struct pl_dict_stats {
  uint64_t capacity; /* bytes of all of it */
  uint64_t bytes;    /* of blocks in use */
  uint64_t entries;  /* expired ones that are still there included */
  uint64_t hits;     /* of pl__dict_get; may miss some where workers */
  uint64_t misses;   /* share a lane: there are more than PL_DICT_LANES */
  uint64_t evictions;
  uint64_t expired;
};

/* Makes an empty one in `bytes` (from PL_DICT_BYTES_MIN) at `at`, aligned to
 * the page and zero.  Touches few pages.  Returns 0 or PL_EINVAL. */
int pl__dict_init(void *at, uint64_t bytes, struct pl_siphash_seed seed);

/* What the key holds at `now_ms`.  Never waits. */
void pl__dict_get(const struct pl_dict_user *u, struct pl_dict_key key,
                  int64_t now_ms, struct pl_dict_found *out);

/* Sets the key, as `mode` says, until `expires_ms` (PL_DICT_NEVER).  expected:
 * of PL_DICT_REPLACE.  DONE, EXISTS, DIFFERS, or from LONG_KEY on. */
enum pl_dict_outcome pl__dict_set(const struct pl_dict_user *u,
                                  struct pl_dict_key key,
                                  enum pl_dict_mode mode,
                                  const struct pl_dict_value *value,
                                  const struct pl_dict_value *expected,
                                  int64_t now_ms, int64_t expires_ms);

/* Adds `by` to a number; *result is the sum.  The time it expires at stays.  If
 * there is none and `init` is given it is set to *init + by, until expires_ms.
 * DONE, ABSENT, NO_NUMBER, or from LONG_KEY on. */
enum pl_dict_outcome pl__dict_incr(const struct pl_dict_user *u,
                                   struct pl_dict_key key, double by,
                                   const double *init, int64_t now_ms,
                                   int64_t expires_ms, double *result);

/* DONE, ABSENT, LONG_KEY, BUSY. */
enum pl_dict_outcome pl__dict_delete(const struct pl_dict_user *u,
                                     struct pl_dict_key key, int64_t now_ms);

/* Writes keys into `out`, each behind its length in two bytes, from bucket
 * *cursor on, and moves the cursor.  Never waits; at most some thousand
 * buckets.  Returns the bytes written; *cursor 0: that was all.  Keys that come
 * or go meanwhile are there or not. */
uint32_t pl__dict_keys(const struct pl_dict_user *u, uint32_t *cursor,
                       int64_t now_ms, char *out, uint32_t room);

/* Deletes everything in some hundred buckets from *cursor on, and moves the
 * cursor; 0: that was all.  DONE or BUSY. */
enum pl_dict_outcome pl__dict_clear(const struct pl_dict_user *u,
                                    uint32_t *cursor);

void pl__dict_stats(const struct pl_dict *d, struct pl_dict_stats *out);

/* Whether all is as it has to be: every block in one place, every count right.
 * For tests: nobody else may use it meanwhile. */
bool pl__dict_check(const struct pl_dict_user *u);

#endif /* PL_FABRIC_DICT_H */
