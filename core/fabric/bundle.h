/* fabric/bundle.h - the files that one generation of the app is made of.
 *
 * What is on disk can change between one worker's loading and the next's, and
 * half of a deployment may lie there when a worker has to be started again.  So
 * one process loads the app from disk and records every file that it reads; all
 * others read from here.  A bundle holds blobs by key, a path for files.
 *
 *     begin ---> EMPTY of generation N --add ...--> publish: readable as N
 *
 * One writer at a time, which the master sees to; it may die anywhere: what is
 * not published is not found.  Readers know which generation they want.  A
 * bundle that is begun anew while somebody reads shows by its number, which is
 * compared again behind every copy.
 *
 * Knows nothing of Lua, nor of what the blobs mean.
 */
#ifndef PL_FABRIC_BUNDLE_H
#define PL_FABRIC_BUNDLE_H

#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_BUNDLE_VERSION 1u

/* Lies in a section of PL_LIMIT_BUNDLE_BYTES, all zero at first. */
struct pl_bundle {
  _Alignas(64) _Atomic uint32_t generation; /* 0: being written, or nothing */
  uint32_t writing;                         /* the one that is being written */
  uint32_t count;                           /* blobs */
  uint32_t used;                            /* bytes of data */
  uint64_t hash; /* of what was hashed, whatever its order */
  uint64_t cap;  /* bytes of data there is room for */
  _Alignas(64) char data[];
};

/* By the master, when the section is made. */
void pl__bundle_init(struct pl_bundle *b, uint64_t section_bytes);

/* Empties it; from here until it is published nothing is found in it. */
void pl__bundle_begin(struct pl_bundle *b, uint32_t generation);
/* Adds a copy of a blob, unless there is one of that key, which stays.  Returns
 * 0, or PL_EFULL. */
int pl__bundle_add(struct pl_bundle *b, struct pl_slice key,
                   struct pl_slice bytes);
/* Makes a blob part of the hash, under a name that is the same wherever the app
 * lies. */
void pl__bundle_hash(struct pl_bundle *b, struct pl_slice name,
                     struct pl_slice bytes);
void pl__bundle_publish(struct pl_bundle *b);

/* Whether the blob is there, in a bundle that is being written or is of that
 * generation; *bytes is then where it lies, which is to be copied and the
 * generation asked for again. */
bool pl__bundle_find(const struct pl_bundle *b, struct pl_slice key,
                     struct pl_slice *bytes);
/* The blob at *at, from 0; *at then tells where the next one is.  False: there
 * are no more. */
bool pl__bundle_next(const struct pl_bundle *b, uint64_t *at,
                     struct pl_slice *key, struct pl_slice *bytes);
/* Whether it holds that generation (now, still). */
bool pl__bundle_is(const struct pl_bundle *b, uint32_t generation);

#endif /* PL_FABRIC_BUNDLE_H */
