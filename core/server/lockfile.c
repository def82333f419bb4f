/* server/lockfile.c - takes, gives and asks the lock of a server's name. */
#include "server/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/text.h"

#define PLACE_COUNT 3
#define TAKE_TRIES 8 /* a file that is removed under us: try the new one */
#define PID_TRIES 50 /* a holder that has not written its pid yet */
#define PID_PAUSE_US 10000

/* The folder at one of the places, in order of preference; false when there is
 * no such place for this user. */
static bool place_folder(int place, char *out, size_t bytes) {
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  int n = 0;

  switch (place) {
  case 0:
    if (!runtime || runtime[0] != '/')
      return false;
    n = snprintf(out, bytes, "%s/perilune", runtime);
    break;
  case 1:
    n = snprintf(out, bytes, "/run/perilune");
    break;
  default:
    n = snprintf(out, bytes, "/tmp/perilune-%u", (unsigned)geteuid());
  }
  return n > 0 && (size_t)n < bytes;
}

/* Whether this user may keep a lock file in the folder, and nobody else can
 * plant one there. */
static bool folder_is_ours(const char *folder) {
  struct stat st;

  return lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) &&
         st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Root also looks where a server that has given up its rights (`user`) keeps
 * its files; nobody else can have made a folder in /run. */
static bool folder_is_trusted(const char *folder) {
  struct stat st;

  return folder_is_ours(folder) ||
         (geteuid() == 0 && strncmp(folder, "/run/", 5) == 0 &&
          lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) &&
          (st.st_mode & (S_IWGRP | S_IWOTH)) == 0);
}

static bool path_join(char *out, const char *folder, const char *name) {
  int n = snprintf(out, PL_LOCKFILE_PATH_BYTES, "%s/%s.pid", folder, name);
  return n > 0 && n < PL_LOCKFILE_PATH_BYTES;
}

static int path_choose(const char *name, char *out, char *error) {
  char folder[PL_LOCKFILE_PATH_BYTES];

  for (int place = 0; place < PLACE_COUNT; place++) {
    if (!place_folder(place, folder, sizeof(folder)))
      continue;
    if (mkdir(folder, 0700) && errno != EEXIST)
      continue;
    if (folder_is_trusted(folder) && path_join(out, folder, name))
      return 0;
  }
  snprintf(error, PL_LOCKFILE_ERROR_BYTES,
           "no place for a pid file: %.200s is not a folder of this user alone",
           folder);
  return PL_EFAIL;
}

static bool is_same_file(int fd, const char *path) {
  struct stat a, b;

  return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
         a.st_dev == b.st_dev;
}

/* A locked descriptor of the file that stands at the path now, or -errno. The
 * server that had the lock before may remove its file between our open and our
 * lock; what we hold then is no name any more, so we look again. */
static int path_lock(const char *path) {
  for (int i = 0; i < TAKE_TRIES; i++) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int code;

    if (fd < 0)
      return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB)) {
      code = errno;
      close(fd);
      return -code;
    }
    if (is_same_file(fd, path))
      return fd;
    close(fd);
  }
  return -EAGAIN;
}

static int pid_write(int fd) {
  char text[24];
  int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

  if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
    return errno ? -errno : PL_EFAIL;
  return 0;
}

static pid_t pid_read(int fd) {
  char text[24];
  ssize_t n = pread(fd, text, sizeof(text), 0);
  uint64_t pid = 0;

  while (n > 0 && text[n - 1] == '\n')
    n--;
  if (n <= 0 || pl__text_number(pl__slice(text, (size_t)n), INT32_MAX, &pid))
    return 0;
  return (pid_t)pid;
}

int pl__lockfile_take(struct pl_lockfile *l, const char *path, const char *name,
                      char *error) {
  pid_t holder;
  int fd;

  l->fd = -1;
  error[0] = '\0';
  if (!path || !*path) {
    int status = path_choose(name, l->path, error);
    if (status)
      return status;
  } else if (snprintf(l->path, sizeof(l->path), "%s", path) >=
             (int)sizeof(l->path)) {
    snprintf(error, PL_LOCKFILE_ERROR_BYTES, "the pid file's path is too long");
    return PL_EFAIL;
  }
  fd = path_lock(l->path);
  if (fd == -EAGAIN || fd == -EWOULDBLOCK) {
    char found[PL_LOCKFILE_PATH_BYTES];
    if (pl__lockfile_holder(l->path, name, &holder, found))
      holder = 0;
    snprintf(error, PL_LOCKFILE_ERROR_BYTES,
             "a server named %s runs already (pid %ld, %.300s); stop it, or "
             "give this one another --name",
             name, (long)holder, l->path);
    return PL_ECONFLICT;
  }
  if (fd < 0 || pid_write(fd)) {
    snprintf(error, PL_LOCKFILE_ERROR_BYTES, "cannot write %.300s: %s", l->path,
             strerror(fd < 0 ? -fd : errno));
    if (fd >= 0)
      close(fd);
    return PL_EFAIL;
  }
  l->fd = fd;
  return 0;
}

int pl__lockfile_inherit(struct pl_lockfile *l, int fd, const char *path,
                         const char *name, char *error) {
  int status = 0;

  l->fd = -1;
  error[0] = '\0';
  if (!path || !*path)
    status = path_choose(name, l->path, error);
  else
    snprintf(l->path, sizeof(l->path), "%s", path);
  if (!status && !is_same_file(fd, l->path)) {
    snprintf(error, PL_LOCKFILE_ERROR_BYTES,
             "the lock of the server before this one is not %.300s: name and "
             "pid_file cannot change when it is replaced",
             l->path);
    status = PL_ECONFLICT;
  }
  if (status)
    close(fd);
  else
    l->fd = fd;
  return status;
}

void pl__lockfile_sign(struct pl_lockfile *l) { pid_write(l->fd); }

void pl__lockfile_forget(struct pl_lockfile *l) {
  if (l->fd >= 0)
    close(l->fd);
  l->fd = -1;
}

void pl__lockfile_give(struct pl_lockfile *l) {
  if (l->fd < 0)
    return;
  /* Removed first: who opens it afterwards makes a new one, who waits for the
   * lock of the old one finds that it has no name (path_lock). */
  unlink(l->path);
  pl__lockfile_forget(l);
}

static int holder_at(const char *path, pid_t *pid) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  int status = PL_ENOTRUNNING;

  if (fd < 0)
    return status;
  for (int i = 0; i < PID_TRIES && flock(fd, LOCK_SH | LOCK_NB); i++) {
    *pid = pid_read(fd);
    if (*pid > 0) {
      status = 0;
      break;
    }
    usleep(PID_PAUSE_US);
  }
  close(fd); /* with it goes the shared lock, if we got one */
  return status;
}

int pl__lockfile_holder(const char *path, const char *name, pid_t *pid,
                        char *found) {
  char folder[PL_LOCKFILE_PATH_BYTES];

  if (path && *path) {
    snprintf(found, PL_LOCKFILE_PATH_BYTES, "%s", path);
    return holder_at(found, pid);
  }
  for (int place = 0; place < PLACE_COUNT; place++)
    if (place_folder(place, folder, sizeof(folder)) &&
        folder_is_trusted(folder) && path_join(found, folder, name) &&
        holder_at(found, pid) == 0)
      return 0;
  return PL_ENOTRUNNING;
}
