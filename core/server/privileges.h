/* server/privileges.h - gives up the rights of root once nothing needs them any
 * more: `user` and `group` of the configuration.
 *
 * After the sockets are bound and before any process is forked: master, workers
 * and control all run as that user.  What they need later is made theirs first.
 */
#ifndef PL_SERVER_PRIVILEGES_H
#define PL_SERVER_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

#define PL_PRIVILEGES_ERROR_BYTES 256

struct pl_privileges {
  bool is_wanted; /* else nothing changes */
  uid_t uid;
  gid_t gid;
  char name[64]; /* of the user, for its other groups */
};

/* Resolves names, or numbers; an empty group is the user's own.
 *
 *   error  PL_PRIVILEGES_ERROR_BYTES; a sentence on failure
 *
 * Returns 0, or PL_ECONFIG: there is no such user, or we are not root and not
 * that user either. */
int pl__privileges_find(struct pl_privileges *p, const char *user,
                        const char *group, char *error);
/* Makes a file theirs; "" or one that is not there does nothing. */
void pl__privileges_own(const struct pl_privileges *p, const char *path);
/* Makes sure that they can append to the file. */
void pl__privileges_own_log(const struct pl_privileges *p, const char *path);
/* For good. Returns 0 or PL_EFAIL with a sentence. */
int pl__privileges_drop(const struct pl_privileges *p, char *error);

#endif /* PL_SERVER_PRIVILEGES_H */
