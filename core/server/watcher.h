/* server/watcher.h - notices that files of the app have changed (inotify).
 *
 * Directories are watched, not files: editors write a new file and rename it
 * over the old one.  The app's folder is watched with all below it, and the
 * folders of other files that were loaded.  Where inotify is deaf (network file
 * systems, some virtual machines) or has no watches left, and while the app's
 * folder is away, files are compared from time to time instead.
 *
 * A change is one of the bytes.  What was loaded is compared with the bundle it
 * was recorded in, all else with what it was like before (server/imprints.h).
 * Not the app's, unless loaded: what server/snapshot.h leaves out, and files
 * elsewhere while the app loads well.
 *
 * What has changed is told by kind; whether that matters is for others to say.
 */
#ifndef PL_SERVER_WATCHER_H
#define PL_SERVER_WATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "server/imprints.h"

struct pl_bundle;

#define PL_WATCHER_FOLDERS_MAX 512u
#define PL_WATCHER_DEPTH_MAX 8
#define PL_WATCHER_PATH_BYTES 4096
#define PL_WATCHER_QUIET_MS 12 /* without another change, then it is told */
#define PL_WATCHER_BURST_MS 60 /* but no later than that */
#define PL_WATCHER_POLL_MS 250

enum pl_watcher_change {
  PL_CHANGE_CODE = 1, /* what the app may have loaded: Lua, templates */
  PL_CHANGE_PAGE = 2, /* what browsers load: scripts, pictures */
  PL_CHANGE_STYLE = 4
};

struct pl_watcher_folder {
  char *path; /* owned */
  int watch;
  bool is_alias; /* files in it were loaded by another path */
};

struct pl_watcher {
  int fd; /* of inotify; -1: files are compared */
  char root[PL_WATCHER_PATH_BYTES];
  const char *not_below; /* borrowed; see pl__watcher_open */
  struct pl_watcher_folder folders[PL_WATCHER_FOLDERS_MAX];
  uint32_t folder_count;
  struct pl_imprints imprints; /* of what lies below the root */
  uint32_t changes;            /* enum pl_watcher_change, not yet told */
  int64_t first_ns;            /* of them */
  int64_t latest_ns;           /* of them */
  int64_t poll_due_ns;
  uint64_t differed; /* pl__watcher_difference when last told by comparing */
  bool is_deaf;
  bool is_unsure; /* folders have come or gone, or events were lost */
};

/* Begins with the app's folder.
 *
 *   not_below  a folder whose files never count: our own modules; or NULL.
 *              Borrowed until the watcher is closed
 *   poll       compare, whatever the file system is */
void pl__watcher_open(struct pl_watcher *w, const char *root,
                      const char *not_below, bool poll);
void pl__watcher_close(struct pl_watcher *w);
/* Watches the folders of what is in a bundle, too; where a path leads over a
 * symbolic link, also the folder that the file really lies in. */
void pl__watcher_add(struct pl_watcher *w, const struct pl_bundle *b);
/* Reads what there is.  Returns the changes once they have come to rest.
 *
 *   b   of what was loaded last, or is being loaded; NULL: nothing yet */
uint32_t pl__watcher_turn(struct pl_watcher *w, const struct pl_bundle *b,
                          int64_t now_ns);
int64_t pl__watcher_due(const struct pl_watcher *w);

/* Stands for the files of the bundle that are not on disk as they were read,
 * and for what they are like now; 0: all are.  The same as the last time: no
 * sense in loading again what changes while it is loaded. */
uint64_t pl__watcher_difference(const struct pl_watcher *w,
                                const struct pl_bundle *b);

#endif /* PL_SERVER_WATCHER_H */
