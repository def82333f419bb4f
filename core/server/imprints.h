/* server/imprints.h - what files were like when they were looked at last.
 *
 * Small files are known by a hash of their bytes, so that a touch is no change;
 * large ones by time, size and inode.  Paths are kept as hashes only.  Tells
 * changes from one look to the next; what a file means is for others to say.
 *
 * The table is bounded: files past it count as changed whenever an event names
 * them, and are not seen by comparing.
 */
#ifndef PL_SERVER_IMPRINTS_H
#define PL_SERVER_IMPRINTS_H

#include <stdbool.h>
#include <stdint.h>

#define PL_IMPRINTS_MAX 8192u               /* files; a power of two */
#define PL_IMPRINTS_HASHED_BYTES_MAX 262144 /* larger ones are not read */

struct pl_imprint {
  uint64_t path; /* hash; 0: free */
  uint64_t content;
  uint64_t size;
  uint64_t inode;
  int64_t mtime_ns;
  uint32_t kind;  /* as it was given; never 0 */
  uint32_t round; /* the last one that has seen it */
  bool is_gone;
  bool is_fresh; /* looked at so soon that the time may not tell the next
                    change */
};

struct pl_imprints {
  struct pl_imprint *table; /* NULL: no memory; all counts as changed */
  uint32_t count;
  uint32_t round;
};

void pl__imprints_init(struct pl_imprints *i);
void pl__imprints_deinit(struct pl_imprints *i);

/* Looks at a file, and remembers what it is like.  Returns `kind` (not 0) if it
 * has come, gone or changed since the last look, else 0.  `closely`: an event
 * has named it, so its bytes are read even if its times are the same. */
uint32_t pl__imprints_look(struct pl_imprints *i, const char *path,
                           uint32_t kind, bool closely);

/* Around looks at everything: the end returns the kinds, or-ed, of those that
 * nobody has looked at. They are gone. */
void pl__imprints_round_begin(struct pl_imprints *i);
uint32_t pl__imprints_round_end(struct pl_imprints *i);

#endif /* PL_SERVER_IMPRINTS_H */
