/* server/privileges.c - see privileges.h. */
#define _GNU_SOURCE /* initgroups, setresuid */
#include "server/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/text.h"

/* A number in the place of a name. */
static bool is_number(const char *text, uint64_t *out) {
  return pl__text_number(pl__slice_text(text), UINT32_MAX - 1, out) == 0;
}

static int fail(char *error, const char *format, const char *what) {
  snprintf(error, PL_PRIVILEGES_ERROR_BYTES, format, what);
  return PL_ECONFIG;
}

static int user_find(struct pl_privileges *p, const char *user, char *error) {
  uint64_t number = 0;
  const struct passwd *entry =
      is_number(user, &number) ? getpwuid((uid_t)number) : getpwnam(user);

  if (!entry && !number)
    return fail(error, "user: there is no user %.100s on this machine", user);
  p->uid = entry ? entry->pw_uid : (uid_t)number;
  p->gid = entry ? entry->pw_gid : (gid_t)number;
  snprintf(p->name, sizeof p->name, "%.63s", entry ? entry->pw_name : "");
  return 0;
}

static int group_find(struct pl_privileges *p, const char *group, char *error) {
  uint64_t number = 0;
  const struct group *entry =
      is_number(group, &number) ? getgrgid((gid_t)number) : getgrnam(group);

  if (!entry && !number)
    return fail(error, "group: there is no group %.100s on this machine",
                group);
  p->gid = entry ? entry->gr_gid : (gid_t)number;
  return 0;
}

int pl__privileges_find(struct pl_privileges *p, const char *user,
                        const char *group, char *error) {
  int failed;

  memset(p, 0, sizeof *p);
  error[0] = '\0';
  if (!*user)
    return *group ? fail(error, "group: needs %s beside it", "user") : 0;
  failed = user_find(p, user, error);
  if (!failed && *group)
    failed = group_find(p, group, error);
  if (failed)
    return failed;
  if (geteuid() == p->uid && geteuid() != 0)
    return 0; /* so it is already */
  if (geteuid() != 0)
    return fail(error, "user: only root can become %.100s", user);
  p->is_wanted = true;
  return 0;
}

void pl__privileges_own(const struct pl_privileges *p, const char *path) {
  if (p->is_wanted && *path && lchown(path, p->uid, p->gid))
    return; /* what is not there, or not ours to give, stays as it is */
}

void pl__privileges_own_log(const struct pl_privileges *p, const char *path) {
  int fd;

  if (!p->is_wanted || path[0] != '/')
    return;
  fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd < 0)
    return; /* control says so when it cannot open it */
  if (fchown(fd, p->uid, p->gid) == 0)
    fchmod(fd, 0640);
  close(fd);
}

int pl__privileges_drop(const struct pl_privileges *p, char *error) {
  bool failed;

  if (!p->is_wanted)
    return 0;
  failed = p->name[0] ? initgroups(p->name, p->gid) != 0
                      : setgroups(1, &p->gid) != 0;
  failed = failed || setresgid(p->gid, p->gid, p->gid) != 0 ||
           setresuid(p->uid, p->uid, p->uid) != 0;
  if (failed) {
    snprintf(error, PL_PRIVILEGES_ERROR_BYTES, "cannot become user %u: %s",
             (unsigned)p->uid, strerror(errno));
    return PL_EFAIL;
  }
  if (p->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0)) {
    snprintf(error, PL_PRIVILEGES_ERROR_BYTES,
             "the rights of root could be taken back");
    return PL_EFAIL;
  }
  return 0;
}
