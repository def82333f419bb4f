/* server/watcher.h - notices that files of the app have changed (inotify).
 *
 * Directories are watched, not files: editors write a new file and rename it
 * over the old one.  The app's folder is watched with all below it, and the
 * folders of other files that were loaded.  Where inotify is deaf (network file
 * systems, some virtual machines) or has no watches left, the files that were
 * loaded are compared from time to time instead.
 *
 * What has changed is told by kind; whether that matters is for others to say.
 */
#ifndef PL_SERVER_WATCHER_H
#define PL_SERVER_WATCHER_H

#include <stdbool.h>
#include <stdint.h>

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

struct pl_watcher {
  int fd; /* of inotify; -1: files are compared */
  char root[PL_WATCHER_PATH_BYTES];
  char *folders[PL_WATCHER_FOLDERS_MAX]; /* by order; paths, owned */
  int watches[PL_WATCHER_FOLDERS_MAX];
  uint32_t folder_count;
  uint32_t changes;  /* enum pl_watcher_change, not yet told */
  int64_t first_ns;  /* of them */
  int64_t latest_ns; /* of them */
  int64_t poll_due_ns;
  bool is_deaf;
};

/* Begins with the app's folder. poll: compare, whatever the file system is. */
void pl__watcher_open(struct pl_watcher *w, const char *root, bool poll);
void pl__watcher_close(struct pl_watcher *w);
/* Watches the folders of what is in a bundle, too, but for those below `not`:
 * our own modules. */
void pl__watcher_add(struct pl_watcher *w, const struct pl_bundle *b,
                     const char *not_below);
/* Reads what there is.  Returns the changes once they have come to rest. */
uint32_t pl__watcher_turn(struct pl_watcher *w, const struct pl_bundle *b,
                          int64_t now_ns);
int64_t pl__watcher_due(const struct pl_watcher *w);

/* Whether a file in the bundle, but for those below `not_below`, is not on disk
 * as it was read. */
bool pl__watcher_differs(const struct pl_bundle *b, const char *not_below);

#endif /* PL_SERVER_WATCHER_H */
