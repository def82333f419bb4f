/* server/archive.c - see archive.h. */
#include "server/archive.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define PART ".part"
#define STAMP "-ddddddddTdddddd.dddZ." /* d: a digit */
#define FILES_MAX 4096   /* of ours in a folder, that are looked at */
#define PART_OLD_S 600   /* nobody writes at such a one any more */
#define TRIES_MAX 100    /* for a name that no other file has */
#define PREFIX_BYTES 128 /* "perilune-NAME@" */

/* --- the folder ----------------------------------------------------------- */

/* Nobody else may be able to plant files where everybody may write. */
static int own_folder(const char *path) {
  struct stat st;

  if (mkdir(path, 0700) && errno != EEXIST)
    return -errno;
  if (lstat(path, &st))
    return -errno;
  return S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
                 !(st.st_mode & (S_IWGRP | S_IWOTH))
             ? 0
             : -EPERM;
}

/* Others have to find it, too, so it is made absolute. */
static int configured_folder(const struct pl_config *c, char *out) {
  char whole[PATH_MAX];

  snprintf(out, PL_CONFIG_FOLDER_BYTES, "%s", c->recorder_folder);
  if (mkdir(out, 0700) && errno != EEXIST)
    return -errno;
  if (out[0] == '/')
    return 0;
  if (!realpath(c->recorder_folder, whole))
    return -errno;
  if (strlen(whole) >= PL_CONFIG_FOLDER_BYTES)
    return -ENAMETOOLONG;
  memcpy(out, whole, strlen(whole) + 1);
  return 0;
}

/* Where records go, made if it is not there.  Returns 0, or a negated errno with
 * as much as fits in `out` (PL_CONFIG_FOLDER_BYTES) all the same. */
static int folder_find(const struct pl_config *c, char *out) {
  const char *state = getenv("STATE_DIRECTORY");

  if (c->recorder_folder[0])
    return configured_folder(c, out);
  if (state && state[0] == '/') { /* of several the first */
    size_t bytes = strcspn(state, ":");
    snprintf(out, PL_CONFIG_FOLDER_BYTES, "%.*s", (int)bytes, state);
    return bytes < PL_CONFIG_FOLDER_BYTES ? 0 : -ENAMETOOLONG;
  }
  snprintf(out, PL_CONFIG_FOLDER_BYTES, "/tmp/perilune-%u",
           (unsigned)geteuid());
  return own_folder(out);
}

/* --- whose files are which ------------------------------------------------- */

static void prefix_of(const struct pl_config *c, char *out) {
  snprintf(out, PREFIX_BYTES, "perilune-%s@", c->name);
}

static bool is_stamp(const char *at) {
  const char *form = STAMP;

  for (; *form; form++, at++)
    if (*form == 'd' ? !isdigit((unsigned char)*at) : *at != *form)
      return false;
  return true;
}

/* What comes behind a stamp: a suffix of ours, of a file that is being written
 * with ".part". A copy that somebody has set aside is not ours to remove. */
static bool is_suffix(const char *at) {
  static const char *const all[] = {"json", "pb.gz"};

  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    size_t bytes = strlen(all[i]);
    if (strncmp(at, all[i], bytes) == 0 &&
        (!at[bytes] || strcmp(at + bytes, PART) == 0))
      return true;
  }
  return false;
}

/* Whether a name is one that we give to this server's records. */
static bool is_ours(const char *name, const char *prefix) {
  size_t bytes = strlen(prefix);

  if (strncmp(name, prefix, bytes) != 0)
    return false;
  for (const char *at = name + bytes; *at; at++)
    if (is_stamp(at))
      return at > name + bytes && is_suffix(at + sizeof STAMP - 1);
  return false;
}

static bool is_part(const char *name) {
  size_t bytes = strlen(name), part = sizeof PART - 1;

  return bytes > part && strcmp(name + bytes - part, PART) == 0;
}

static bool is_regular(DIR *folder, const char *name, struct stat *st) {
  return fstatat(dirfd(folder), name, st, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG(st->st_mode) && st->st_uid == geteuid();
}

static bool is_older(const struct timespec *a, const struct timespec *b) {
  return a->tv_sec < b->tv_sec ||
         (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* Looks at those in the folder; the oldest one's name, and how many. */
static uint32_t oldest_find(DIR *folder, const char *prefix, char *name,
                            size_t bytes) {
  struct timespec oldest = {0};
  uint32_t count = 0;
  struct dirent *e;

  rewinddir(folder);
  while ((e = readdir(folder)) && count < FILES_MAX) {
    struct stat st;
    if (!is_ours(e->d_name, prefix) || is_part(e->d_name) ||
        !is_regular(folder, e->d_name, &st))
      continue;
    if (count++ == 0 || is_older(&st.st_mtim, &oldest)) {
      oldest = st.st_mtim;
      snprintf(name, bytes, "%s", e->d_name);
    }
  }
  return count;
}

/* Removes what processes that were killed have left half written. */
static void sweep(DIR *folder, const char *prefix) {
  time_t old =
      (time_t)(pl__clock_realtime_ns() / (int64_t)PL_NS_PER_S) - PART_OLD_S;
  struct dirent *e;

  while ((e = readdir(folder))) {
    struct stat st;
    if (is_ours(e->d_name, prefix) && is_part(e->d_name) &&
        is_regular(folder, e->d_name, &st) && st.st_mtime < old)
      unlinkat(dirfd(folder), e->d_name, 0);
  }
}

/* Keeps the newest ones. */
static void prune(const struct pl_config *c) {
  char path[PL_CONFIG_FOLDER_BYTES], prefix[PREFIX_BYTES], name[NAME_MAX + 1];
  DIR *folder;

  if (folder_find(c, path))
    return;
  prefix_of(c, prefix);
  folder = opendir(path);
  if (!folder)
    return;
  sweep(folder, prefix);
  while (oldest_find(folder, prefix, name, sizeof name) > c->recorder_keep)
    if (unlinkat(dirfd(folder), name, 0))
      break;
  closedir(folder);
}

/* --- names ------------------------------------------------------------------ */

static bool is_plain(char c) {
  return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-';
}

int pl__archive_word(char *why, struct pl_slice word) {
  size_t before = strlen(why), used = before;

  for (size_t i = 0; i < word.bytes; i++) {
    unsigned char c = (unsigned char)word.at[i];
    size_t bytes = is_plain(word.at[i]) ? 1 : 3;
    if (used + bytes >= PL_ARCHIVE_WHY_BYTES) {
      why[before] = '\0';
      return PL_EFULL;
    }
    snprintf(why + used, bytes + 1, bytes == 1 ? "%c" : "%%%02X", c);
    used += bytes;
  }
  why[used] = '\0';
  return 0;
}

static bool is_name(const char *text, size_t room) {
  size_t bytes = strspn(text, "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-%");

  return bytes > 0 && text[bytes] == '\0' && bytes < room;
}

/* now: realtime ns */
static int path_make(const struct pl_config *c, const char *why,
                     const char *suffix, int64_t now, char *out) {
  time_t seconds = (time_t)(now / (int64_t)PL_NS_PER_S);
  char folder[PL_CONFIG_FOLDER_BYTES], prefix[PREFIX_BYTES], stamp[32];
  struct tm utc;
  int failed = folder_find(c, folder);

  gmtime_r(&seconds, &utc);
  strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &utc);
  prefix_of(c, prefix);
  snprintf(out, PL_ARCHIVE_PATH_BYTES, "%s/%s%s-%s.%03dZ.%s", folder, prefix,
           why, stamp, (int)(now / (int64_t)PL_NS_PER_MS % 1000), suffix);
  return failed;
}

/* --- one file ---------------------------------------------------------------- */

static void part_name(const struct pl_archive_file *f, char *out,
                      size_t bytes) {
  snprintf(out, bytes, "%s" PART, f->path);
}

/* The file, under the name that it has until it is complete.  That no other has
 * its name is only known once nobody else can open this one. */
static int part_open(struct pl_archive_file *f) {
  char part[sizeof f->path + sizeof PART];
  struct stat st;

  part_name(f, part, sizeof part);
  f->fd =
      open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (f->fd < 0)
    return -errno;
  if (lstat(f->path, &st))
    return 0;
  close(f->fd);
  f->fd = -1;
  unlink(part);
  return -EEXIST;
}

int pl__archive_begin(struct pl_archive_file *f, const struct pl_config *config,
                      const char *why, const char *suffix) {
  int64_t now = pl__clock_realtime_ns();
  int failed = -EEXIST;

  f->config = config;
  f->fd = -1;
  f->path[0] = '\0';
  if (!is_name(why, PL_ARCHIVE_WHY_BYTES) ||
      !is_name(suffix, PL_ARCHIVE_SUFFIX_BYTES))
    return PL_EINVAL;
  for (int i = 0; i < TRIES_MAX && failed == -EEXIST; i++) {
    failed = path_make(config, why, suffix, now, f->path);
    failed = failed ? failed : part_open(f);
    now += (int64_t)PL_NS_PER_MS;
  }
  return failed;
}

int pl__archive_write(struct pl_archive_file *f, const char *at, size_t bytes) {
  while (bytes) {
    ssize_t n = write(f->fd, at, bytes);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EIO;
    at += n;
    bytes -= (size_t)n;
  }
  return 0;
}

/* The bytes are on the disk before the name says that they are: what a disk has
 * taken into its cache it may still have no room for. */
static int complete(struct pl_archive_file *f, const char *part, int failed) {
  if (!failed && fsync(f->fd) && errno != EINVAL)
    failed = -errno;
  if (close(f->fd) && !failed)
    failed = -errno;
  f->fd = -1;
  if (!failed && rename(part, f->path))
    failed = -errno;
  if (failed)
    unlink(part);
  return failed;
}

int pl__archive_end(struct pl_archive_file *f, int failed) {
  char part[sizeof f->path + sizeof PART];

  part_name(f, part, sizeof part);
  if (f->fd >= 0)
    failed = complete(f, part, failed);
  prune(f->config);
  return failed;
}
