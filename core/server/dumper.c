/* server/dumper.c - see dumper.h. */
#include "server/dumper.h"

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
#include "perilune.h"
#include "server/config.h"
#include "server/recording.h"

#define AGO_S 10.0    /* that a record goes back */
#define FOLLOW_MS 100 /* between two looks at what has come */
#define SAMPLE_NS ((int64_t)PL_NS_PER_S)
#define PART ".part"
#define FILES_MAX 4096 /* of ours in a folder, that are looked at */

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

int pl__dumper_folder(const struct pl_config *config, char *out, size_t bytes) {
  const char *state = getenv("STATE_DIRECTORY");

  if (config->recorder_folder[0]) {
    snprintf(out, bytes, "%s", config->recorder_folder);
    return mkdir(out, 0700) && errno != EEXIST ? -errno : 0;
  }
  if (state && state[0] == '/') { /* of several the first */
    snprintf(out, bytes, "%.*s", (int)strcspn(state, ":"), state);
    return 0;
  }
  snprintf(out, bytes, "/tmp/perilune-%u", (unsigned)geteuid());
  return own_folder(out);
}

static void prefix_of(const struct pl_config *c, char *out, size_t bytes) {
  snprintf(out, bytes, "perilune-%s-", c->name);
}

/* Whether a file is of this server, and complete. */
static bool is_record(const char *name, const char *prefix) {
  size_t bytes = strlen(name), part = sizeof PART - 1;

  return strncmp(name, prefix, strlen(prefix)) == 0 && bytes > part &&
         strcmp(name + bytes - part, PART) != 0;
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
    if (!is_record(e->d_name, prefix) ||
        fstatat(dirfd(folder), e->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
        !S_ISREG(st.st_mode) || st.st_uid != geteuid())
      continue;
    if (count++ == 0 || st.st_mtim.tv_sec < oldest.tv_sec ||
        (st.st_mtim.tv_sec == oldest.tv_sec &&
         st.st_mtim.tv_nsec < oldest.tv_nsec)) {
      oldest = st.st_mtim;
      snprintf(name, bytes, "%s", e->d_name);
    }
  }
  return count;
}

/* Removes what processes that were killed have left half written. */
static void sweep(DIR *folder, const char *prefix) {
  time_t old = (time_t)(pl__clock_realtime_ns() / (int64_t)PL_NS_PER_S) -
               2 * PL_DUMPER_SECONDS_MAX;
  struct dirent *e;

  while ((e = readdir(folder))) {
    struct stat st;
    if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
        !is_record(e->d_name, prefix) &&
        !fstatat(dirfd(folder), e->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
        S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_mtime < old)
      unlinkat(dirfd(folder), e->d_name, 0);
  }
}

/* Keeps the newest ones. */
static void prune(const struct pl_config *c) {
  char path[PL_DUMPER_PATH_BYTES], prefix[128], name[NAME_MAX + 1];
  DIR *folder;

  if (pl__dumper_folder(c, path, sizeof path))
    return;
  prefix_of(c, prefix, sizeof prefix);
  folder = opendir(path);
  if (!folder)
    return;
  sweep(folder, prefix);
  while (oldest_find(folder, prefix, name, sizeof name) > c->recorder_keep)
    if (unlinkat(dirfd(folder), name, 0))
      break;
  closedir(folder);
}

/* --- one record ------------------------------------------------------------- */

/* `why` and `suffix` as in the file's name.  Returns 0 or a negated errno, with
 * the path in `out` all the same. */
static int path_make(const struct pl_config *c, const char *why,
                     const char *suffix, char *out) {
  int64_t now = pl__clock_realtime_ns();
  time_t seconds = (time_t)(now / (int64_t)PL_NS_PER_S);
  char folder[PL_DUMPER_PATH_BYTES], prefix[128], stamp[32];
  char whole[PATH_MAX]; /* others have to find it, too */
  struct tm utc;
  int failed = pl__dumper_folder(c, folder, sizeof folder);

  if (!failed && folder[0] != '/' && realpath(folder, whole))
    snprintf(folder, sizeof folder, "%.1000s", whole);
  gmtime_r(&seconds, &utc);
  strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &utc);
  prefix_of(c, prefix, sizeof prefix);
  snprintf(out, PL_DUMPER_PATH_BYTES, "%.700s/%s%.64s-%s.%03dZ%.16s", folder,
           prefix, why, stamp, (int)(now / (int64_t)PL_NS_PER_MS % 1000),
           suffix);
  return failed;
}

/* The file beside the path, that is not complete yet; or a negated errno. */
static int part_open(const char *path) {
  char part[PL_DUMPER_PATH_BYTES + 8];
  int fd;

  snprintf(part, sizeof part, "%s" PART, path);
  fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  return fd < 0 ? -errno : fd;
}

/* It is complete, or has failed and goes away.  Returns 0 or a negated errno. */
static int part_close(int fd, const char *path, int failed) {
  char part[PL_DUMPER_PATH_BYTES + 8];

  snprintf(part, sizeof part, "%s" PART, path);
  if (close(fd) && !failed)
    failed = -errno;
  if (!failed && rename(part, path))
    failed = -errno;
  if (failed)
    unlink(part);
  return failed;
}

/* The next order of the queue. */
static void next(struct pl_dumper *d) {
  d->queue_count--;
  memmove(d->queue, d->queue + 1, d->queue_count * sizeof d->queue[0]);
}

/* A record is over: `failed` is a negated errno, or 0. */
static void end(struct pl_dumper *d, int failed) {
  char text[PL_DUMPER_PATH_BYTES + 64];

  if (d->fd >= 0)
    failed = part_close(d->fd, d->path, failed);
  d->fd = -1;
  pl__timeline_close(d->timeline);
  d->timeline = NULL;
  pl__buf_release(&d->piece);
  if (failed)
    snprintf(text, sizeof text, "%s: %s", d->path, pl_strerror(failed));
  else
    snprintf(text, sizeof text, "%s", d->path);
  pl__channel_say(d->channel_fd, PL_NEWS_RECORDED, d->queue[0].asker, failed,
                  text);
  next(d);
  prune(d->config);
}

static int file_open(struct pl_dumper *d) {
  int failed = path_make(d->config, d->queue[0].why, ".json", d->path);

  if (failed)
    return failed;
  d->fd = part_open(d->path);
  return d->fd < 0 ? d->fd : 0;
}

static void begin(struct pl_dumper *d) {
  const struct pl_dumper_order *o = &d->queue[0];
  int failed = file_open(d);

  d->is_ending = false;
  d->until_ns =
      pl__clock_monotonic_ns() + (int64_t)o->seconds * (int64_t)PL_NS_PER_S;
  pl__buf_init(&d->piece, NULL,
               PL_TIMELINE_PIECE_BYTES + PL_TIMELINE_OVER_BYTES);
  if (!failed)
    failed = pl__recording_open(&d->timeline, d->fabric, d->config->name,
                                d->master_pid, o->seconds ? 0 : AGO_S);
  if (failed)
    end(d, failed);
}

static int write_all(int fd, const char *at, size_t bytes) {
  while (bytes) {
    ssize_t n = write(fd, at, bytes);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EIO;
    at += n;
    bytes -= (size_t)n;
  }
  return 0;
}

/* One piece; returns ms until the next. */
static int step(struct pl_dumper *d) {
  bool follows = pl__clock_monotonic_ns() < d->until_ns;
  int status, failed;

  if (d->queue[0].seconds && !d->is_ending)
    pl__timeline_look(d->timeline);
  status =
      d->is_ending
          ? pl__timeline_end(d->timeline, PL_TIMELINE_PIECE_BYTES, &d->piece)
          : pl__timeline_write(d->timeline, PL_TIMELINE_PIECE_BYTES, &d->piece);
  failed = status < 0 ? status : 0;
  failed = failed ? failed : write_all(d->fd, d->piece.at, d->piece.bytes);
  d->piece.bytes = 0;
  if (failed || (status == 0 && d->is_ending)) {
    end(d, failed);
    return 0;
  }
  if (status == 0 && follows)
    return FOLLOW_MS;
  d->is_ending =
      d->is_ending || status == 0 || (d->queue[0].seconds && !follows);
  return 0;
}

/* --- other files ------------------------------------------------------------ */

int pl__dumper_save(const struct pl_config *config, struct pl_slice name,
                    struct pl_slice bytes, char *path) {
  char why[80], suffix[16];
  size_t dot;
  int failed, fd;

  snprintf(why, sizeof why, "%.*s", (int)name.bytes, name.at);
  dot = strcspn(why, ".");
  snprintf(suffix, sizeof suffix, "%.15s", why + dot);
  why[dot] = '\0';
  failed = path_make(config, why, suffix, path);
  if (failed || strchr(why, '/'))
    return failed ? failed : PL_EINVAL;
  fd = part_open(path);
  failed = fd < 0 ? fd : write_all(fd, bytes.at, bytes.bytes);
  if (fd >= 0)
    failed = part_close(fd, path, failed);
  prune(config);
  return failed;
}

/* --- storms ---------------------------------------------------------------- */

static void refuse(struct pl_dumper *d, uint32_t asker, const char *why) {
  pl__channel_say(d->channel_fd, PL_NEWS_RECORDED, asker, PL_EFULL, why);
}

static void add(struct pl_dumper *d, const char *why, int seconds,
                uint32_t asker) {
  struct pl_dumper_order *o = &d->queue[d->queue_count];

  if (d->queue_count == PL_DUMPER_QUEUE_MAX) {
    refuse(d, asker, "too many records are waiting to be written");
    return;
  }
  *o = (struct pl_dumper_order){.asker = asker, .seconds = seconds};
  if (seconds < 0 || seconds > PL_DUMPER_SECONDS_MAX)
    o->seconds = PL_DUMPER_SECONDS_MAX;
  for (size_t i = 0; why[i] && i + 1 < sizeof o->why; i++)
    o->why[i] = isalnum((unsigned char)why[i]) ? why[i] : '-';
  if (!o->why[0])
    snprintf(o->why, sizeof o->why, "asked");
  d->queue_count++;
}

static bool may_tell_storm(const struct pl_dumper *d, int64_t now) {
  return !d->stormed_ns ||
         now - d->stormed_ns > PL_DUMPER_STORM_S * (int64_t)PL_NS_PER_S;
}

/* Once a second: how many have missed their deadline within the window. */
static void look_for_storm(struct pl_dumper *d) {
  uint64_t most = d->config->recorder_storm, now_count, before;
  int64_t now = pl__clock_monotonic_ns();

  if (!most || now - d->sampled_ns < SAMPLE_NS)
    return;
  d->sampled_ns = now;
  now_count = pl__recording_deadlines(d->fabric);
  before = d->samples < PL_DUMPER_WINDOW_S
               ? d->missed[0]
               : d->missed[d->samples % PL_DUMPER_WINDOW_S];
  if (d->samples == 0)
    before = now_count;
  d->missed[d->samples++ % PL_DUMPER_WINDOW_S] = now_count;
  if (now_count - before < most || now_count < before ||
      !may_tell_storm(d, now))
    return;
  d->stormed_ns = now;
  add(d, "deadlines", 0, 0);
}

/* --- turns ------------------------------------------------------------------ */

void pl__dumper_init(struct pl_dumper *d, const struct pl_config *config,
                     const struct pl_fabric *fabric, int channel_fd) {
  *d = (struct pl_dumper){.config = config,
                          .fabric = fabric,
                          .channel_fd = channel_fd,
                          .master_pid = (int)getppid(),
                          .fd = -1};
}

void pl__dumper_deinit(struct pl_dumper *d) {
  if (d->timeline)
    end(d, -ECANCELED);
}

void pl__dumper_order(struct pl_dumper *d, const struct pl_message *order) {
  add(d, order->text, order->code, order->generation);
}

int pl__dumper_turn(struct pl_dumper *d, int most) {
  int wait;

  look_for_storm(d);
  if (!d->timeline && d->queue_count)
    begin(d);
  if (!d->timeline)
    return d->queue_count ? 0 : most;
  wait = step(d);
  return wait < most ? wait : most;
}
