/* fabric/shared.h - the section of what apps share: dictionaries by name,
 * counters, the published configuration.
 *
 *     [ names | counters | published ][ dictionary | dictionary | free ... ]
 *                                      <----------- memory ------------->
 *
 * A dictionary gets its share of the memory when it is opened first, and keeps
 * it as long as the fabric: whoever opens it later gets the same, whatever
 * capacity they ask for.  It is made under a lock and shown by the count of
 * names, last; one that was half made when its maker died is made anew.
 */
#ifndef PL_FABRIC_SHARED_H
#define PL_FABRIC_SHARED_H

#include "base/siphash.h"
#include "fabric/counters.h"
#include "fabric/published.h"

#define PL_SHARED_VERSION 1u

struct pl_dict;

struct pl_shared_name {
  uint64_t offset; /* of the dictionary, from the memory */
  uint64_t bytes;
  uint32_t name_bytes;
  char name[PL_LIMIT_SHARED_NAME_BYTES];
};

struct pl_shared {
  struct pl_lock lock;
  _Atomic uint32_t count;      /* of names */
  uint64_t memory_bytes;       /* for dictionaries */
  struct pl_siphash_seed seed; /* of all of them; nobody outside knows it */
  struct pl_shared_name names[PL_LIMIT_DICT_COUNT];
  struct pl_counters counters;
  struct pl_published published;
};

/* Bytes of a section with so much memory for dictionaries. */
uint64_t pl__shared_bytes(uint64_t memory_bytes);

/* Makes it empty, in a section of pl__shared_bytes, aligned to the page and
 * zero.  Before the fork. */
void pl__shared_init(struct pl_shared *s, uint64_t memory_bytes);

/* Opens a dictionary, or makes it with `capacity` bytes.  Returns 0, or
 * PL_EINVAL (a name that is empty or too long, a capacity that is too small or
 * too large), PL_EFULL (too many names, or no memory left), PL_ETIMEOUT. */
int pl__shared_dict(struct pl_shared *s, uint64_t self, const char *name,
                    uint32_t name_bytes, uint64_t capacity,
                    struct pl_dict **out);

/* Bytes that no dictionary has. */
uint64_t pl__shared_left(const struct pl_shared *s);

#endif /* PL_FABRIC_SHARED_H */
