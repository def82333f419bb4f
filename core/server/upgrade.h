/* server/upgrade.h - replaces the program of a server while it serves (USR2).
 *
 *   IDLE --begin--> STARTING --it serves--> REPLACED: this server drains, the
 *    ^                 |                    sockets stay open with the new one
 *    +-- it dies, or takes too long: this server goes on
 *
 * The new master is executed with the arguments of the first start, from the
 * path that the program had then, and inherits listening sockets and the lock
 * of the name (server/inherit.h).  It loads the app as any server does; when it
 * serves it says so through a pipe.
 */
#ifndef PL_SERVER_UPGRADE_H
#define PL_SERVER_UPGRADE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pl_listeners;

#define PL_UPGRADE_PATH_BYTES 4096
#define PL_UPGRADE_ARGUMENT_BYTES 65536
#define PL_UPGRADE_ERROR_BYTES 256

/* What the new master gets of this one. */
struct pl_upgrade_handed {
  const struct pl_listeners *serving;
  const bool *listening; /* by worker: whether its sockets do */
  const struct pl_listeners *admin;
  int lock_fd;
};

struct pl_upgrade {
  pid_t pid;      /* of the new master; 0: none */
  int ready_fd;   /* its word; -1: none */
  int64_t due_ns; /* when it has to be ready */
  bool is_replaced;
  char program[PL_UPGRADE_PATH_BYTES];
  char arguments[PL_UPGRADE_ARGUMENT_BYTES]; /* each with its NUL */
  uint32_t argument_bytes;                   /* 0: not known */
  char error[PL_UPGRADE_ERROR_BYTES];        /* of the last one that failed */
};

/* Notes how this process was started. */
void pl__upgrade_init(struct pl_upgrade *u);
/* Starts the new master, which may take so many seconds to serve. Returns 0, or
 * PL_EFAIL with a sentence in u->error. */
int pl__upgrade_begin(struct pl_upgrade *u,
                      const struct pl_upgrade_handed *handed, double seconds);
/* Its pipe is readable.  True: it serves. */
bool pl__upgrade_hear(struct pl_upgrade *u);
/* It has died: a waitpid status. */
void pl__upgrade_on_death(struct pl_upgrade *u, int status);
/* This server ends: so does the new one, unless it serves already. */
void pl__upgrade_cancel(struct pl_upgrade *u);
/* It has taken too long: it is killed.  True: it has just been. */
bool pl__upgrade_on_time(struct pl_upgrade *u, int64_t now_ns);

#endif /* PL_SERVER_UPGRADE_H */
