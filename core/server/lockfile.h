/* server/lockfile.h - the file that says a server of some name runs, and as
 * which process.
 *
 * It holds the master's pid, and the master holds a lock on it for as long as
 * it lives: whether a server runs is asked of the lock, never of the pid, as a
 * pid may belong to somebody else by now.
 */
#ifndef PL_SERVER_LOCKFILE_H
#define PL_SERVER_LOCKFILE_H

#include <sys/types.h>

#define PL_LOCKFILE_PATH_BYTES 4096
#define PL_LOCKFILE_ERROR_BYTES 512

struct pl_lockfile {
  int fd; /* -1: not held */
  char path[PL_LOCKFILE_PATH_BYTES];
};

/* Takes the lock.
 *
 *   path   "" or NULL: $XDG_RUNTIME_DIR/perilune/NAME.pid, else
 *          /run/perilune/NAME.pid, else /tmp/perilune-UID/NAME.pid; a folder is
 *          made with mode 0700, and one that belongs to another user is refused
 *   error  PL_LOCKFILE_ERROR_BYTES; on failure what stands in the way
 *
 * Returns 0, or with nothing held: PL_ECONFLICT (another server has it),
 * PL_EFAIL (it cannot be written). */
int pl__lockfile_take(struct pl_lockfile *l, const char *path, const char *name,
                      char *error);

/* Takes over the lock that the server before this one holds, whose descriptor
 * was handed over; that stays its process in the file until
 * pl__lockfile_sign. */
int pl__lockfile_inherit(struct pl_lockfile *l, int fd, const char *path,
                         const char *name, char *error);
/* Writes our pid into the file. */
void pl__lockfile_sign(struct pl_lockfile *l);

/* In a forked child: lets go without ending the master's lock. */
void pl__lockfile_forget(struct pl_lockfile *l);

/* Removes the file and gives the lock back. */
void pl__lockfile_give(struct pl_lockfile *l);

/* Finds the process that holds the lock; places are those of
 * pl__lockfile_take. Returns 0 with *pid set and `found` (PL_LOCKFILE_PATH_BYTES)
 * the path, or PL_ENOTRUNNING. */
int pl__lockfile_holder(const char *path, const char *name, pid_t *pid,
                        char *found);

#endif /* PL_SERVER_LOCKFILE_H */
