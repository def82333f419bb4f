/* fabric/published.h - a text that one process publishes and all read.
 *
 *     version 7:   slots  [ 4 | 5 | 6 | 7 ]   the next one is written over 4
 *
 * Each publication goes into the slot after the last one's, and is shown by the
 * version, last.  Who is killed before that has published nothing.  Readers
 * take no lock: what they copied is whole if the version has not come round to
 * their slot meanwhile.  Whether there is anything new is one load.
 */
#ifndef PL_FABRIC_PUBLISHED_H
#define PL_FABRIC_PUBLISHED_H

#include "base/limits.h"
#include "fabric/lock.h"

#include <stdatomic.h>
#include <stdint.h>

#define PL_PUBLISHED_SLOTS 4u

struct pl_published_slot {
  _Atomic uint64_t bytes;
  _Atomic uint64_t words[PL_LIMIT_PUBLISHED_BYTES / 8];
};

/* All zero at first: version 0, nothing. */
struct pl_published {
  _Alignas(128) _Atomic uint32_t version; /* raised by each publication */
  struct pl_lock lock;                    /* of those who publish */
  struct pl_published_slot slots[PL_PUBLISHED_SLOTS];
};

/* Publishes the text; *version is its number.  Returns 0; PL_EFULL (longer than
 * PL_LIMIT_PUBLISHED_BYTES), PL_ETIMEOUT (another one publishes and does not
 * get on). */
int pl__published_set(struct pl_published *p, uint64_t self, const char *text,
                      uint32_t bytes, uint32_t *version);

/* Copies the text of now; `out` has room for PL_LIMIT_PUBLISHED_BYTES.  Returns
 * its bytes; *version is its number, 0 with nothing published. */
uint32_t pl__published_get(const struct pl_published *p, char *out,
                           uint32_t *version);

#endif /* PL_FABRIC_PUBLISHED_H */
