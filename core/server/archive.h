/* server/archive.h - the folder that records are kept in, and their names.
 *
 *   FOLDER/perilune-NAME@WHY-TIME.SUFFIX     mode 0600; the newest ones are kept
 *
 *   NAME    of the server; has no "@", so that nobody takes the records of
 *           another one for its own, whatever the names begin with
 *   WHY     a word of pl__archive_word, or several with dashes between
 *   TIME    20260131T235959.999Z
 *   SUFFIX  "json", "pb.gz"
 *
 * The folder is recorder.folder; without that $STATE_DIRECTORY, as systemd sets
 * it, or else /tmp/perilune-UID, which is made.  A file is called so once it is
 * complete and on the disk; until then it has ".part" behind its name, and it
 * goes if it does not become complete.
 *
 * All of this blocks for as long as the disk takes.  Knows no threads: one file
 * is written by one of them.
 */
#ifndef PL_SERVER_ARCHIVE_H
#define PL_SERVER_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "server/config.h"

#define PL_ARCHIVE_WHY_BYTES 128u   /* NUL included; longer ones are refused */
#define PL_ARCHIVE_SUFFIX_BYTES 16u /* likewise */
/* A whole path, NUL included; what is not the folder takes 250 bytes. */
#define PL_ARCHIVE_PATH_BYTES (PL_CONFIG_FOLDER_BYTES + 256u)

/* A file that is being written. */
struct pl_archive_file {
  const struct pl_config *config; /* borrowed */
  int fd;
  char path[PL_ARCHIVE_PATH_BYTES]; /* once complete; also when it failed */
};

/* Appends `word` to `why` (PL_ARCHIVE_WHY_BYTES, NUL-terminated): letters,
 * digits, "_", "." and "-" as they are, all others as %XX, so that two words
 * never become one.  Returns 0, or PL_EFULL with `why` unchanged. */
int pl__archive_word(char *why, struct pl_slice word);

/* Begins a file.
 *
 *   why     as in its name; PL_EINVAL when it is none
 *   suffix  without the dot in front
 *
 * Returns 0 or a negated errno, with the path in f->path all the same. */
int pl__archive_begin(struct pl_archive_file *f, const struct pl_config *config,
                      const char *why, const char *suffix);

/* Returns 0 or a negated errno; end it in both cases. */
int pl__archive_write(struct pl_archive_file *f, const char *at, size_t bytes);

/* Gives a file its name, or with `failed` (not 0) takes it away; the oldest
 * ones go.  Returns 0, or `failed`, or the negated errno of what stood in the
 * way: then no file is left. */
int pl__archive_end(struct pl_archive_file *f, int failed);

#endif /* PL_SERVER_ARCHIVE_H */
