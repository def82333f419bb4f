/* server/watcher.c - see watcher.h. */
#define _GNU_SOURCE /* O_DIRECTORY */
#include "server/watcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/bundle.h"
#include "server/snapshot.h"

#define EVENTS                                                                 \
  (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |      \
   IN_MOVE_SELF)
#define CHUNK_BYTES 16384
#define FNV_BASIS 14695981039346656037ull
#define FNV_PRIME 1099511628211ull

/* --- which files matter ----------------------------------------------------------- */

static const struct {
  const char *end;
  enum pl_watcher_change change;
} kinds[] = {
    {".lua", PL_CHANGE_CODE},      {".etlua", PL_CHANGE_CODE},
    {".tpl", PL_CHANGE_CODE},      {".tmpl", PL_CHANGE_CODE},
    {".html", PL_CHANGE_CODE},     {".htm", PL_CHANGE_CODE},
    {".mustache", PL_CHANGE_CODE}, {".css", PL_CHANGE_STYLE},
    {".js", PL_CHANGE_PAGE},       {".mjs", PL_CHANGE_PAGE},
    {".svg", PL_CHANGE_PAGE},      {".png", PL_CHANGE_PAGE},
    {".jpg", PL_CHANGE_PAGE},      {".jpeg", PL_CHANGE_PAGE},
    {".gif", PL_CHANGE_PAGE},      {".webp", PL_CHANGE_PAGE},
    {".avif", PL_CHANGE_PAGE},     {".ico", PL_CHANGE_PAGE},
    {".woff2", PL_CHANGE_PAGE},
};

static uint32_t kind_of(const char *name) {
  size_t bytes = strlen(name);

  if (name[0] == '.') /* editors keep things there */
    return 0;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    size_t end = strlen(kinds[i].end);
    if (bytes > end && strcmp(name + bytes - end, kinds[i].end) == 0)
      return kinds[i].change;
  }
  return 0;
}

static bool is_below(struct pl_slice path, const char *folder) {
  size_t bytes = folder ? strlen(folder) : 0;

  return bytes && path.bytes > bytes && path.at[bytes] == '/' &&
         memcmp(path.at, folder, bytes) == 0;
}

/* Whether a file that was not loaded lies where the app's files lie. */
static bool is_of_app(const struct pl_watcher *w, const char *path) {
  char name[NAME_MAX + 1];
  const char *at = path, *end;

  if (!is_below(pl__slice_text(path), w->root))
    return false;
  for (at += strlen(w->root); *at == '/'; at = end) {
    end = strchrnul(++at, '/');
    snprintf(name, sizeof name, "%.*s", (int)(end - at), at);
    if (pl__snapshot_leaves_out(name))
      return false;
  }
  return true;
}

/* --- folders ------------------------------------------------------------------------ */

/* Where changes that others make, or even our own, are not told. */
static bool is_deaf(const char *path) {
  static const unsigned long magics[] = {
      0x6969,     /* NFS */
      0x01021997, /* 9p */
      0x65735546, /* FUSE */
      0xff534d42, /* CIFS */
      0xfe534d42, /* SMB2 */
      0x786f4256, /* vboxsf */
  };
  struct statfs fs;

  if (statfs(path, &fs))
    return false;
  for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
    if ((unsigned long)fs.f_type == magics[i])
      return true;
  return false;
}

static bool is_watched(const struct pl_watcher *w, const char *path) {
  for (uint32_t i = 0; i < w->folder_count; i++)
    if (strcmp(w->folders[i].path, path) == 0)
      return true;
  return false;
}

/* What is past a limit is found by comparing. */
static void folder_watch(struct pl_watcher *w, const char *path,
                         bool is_alias) {
  char *copy;
  int watch;

  if (w->fd < 0 || is_watched(w, path))
    return;
  if (w->folder_count == PL_WATCHER_FOLDERS_MAX) {
    w->is_deaf = true;
    return;
  }
  watch = inotify_add_watch(w->fd, path, EVENTS | IN_ONLYDIR);
  if (watch < 0) {
    w->is_deaf |= errno == ENOSPC || errno == ENOMEM;
    return;
  }
  copy = pl__alloc(strlen(path) + 1);
  if (!copy) {
    inotify_rm_watch(w->fd, watch);
    w->is_deaf = true;
    return;
  }
  memcpy(copy, path, strlen(path) + 1);
  w->folders[w->folder_count++] =
      (struct pl_watcher_folder){copy, watch, is_alias};
}

static void folder_drop(struct pl_watcher *w, uint32_t i) {
  pl__free(w->folders[i].path);
  w->folders[i] = w->folders[--w->folder_count];
}

/* The kernel has ended a watch. */
static void forget_watch(struct pl_watcher *w, int watch) {
  for (uint32_t i = w->folder_count; i-- > 0;)
    if (w->folders[i].watch == watch) {
      folder_drop(w, i);
      w->is_unsure = true;
    }
}

/* A folder was moved: its watches and those below go on under paths that are
 * not theirs any more. */
static void forget_below(struct pl_watcher *w, const char *path) {
  for (uint32_t i = w->folder_count; i-- > 0;) {
    const char *folder = w->folders[i].path;
    if (strcmp(folder, path) != 0 && !is_below(pl__slice_text(folder), path))
      continue;
    inotify_rm_watch(w->fd, w->folders[i].watch);
    folder_drop(w, i);
  }
}

/* Watches a folder and all below it, and looks at the files. Returns what has
 * changed since they were looked at last. */
static uint32_t tree_take(struct pl_watcher *w, const char *path, int depth) {
  char below[PL_WATCHER_PATH_BYTES];
  const struct dirent *entry;
  uint32_t changes = 0, kind;
  DIR *folder;

  folder_watch(w, path, false); /* first: what comes later is told */
  folder = opendir(path);
  while (folder && (entry = readdir(folder))) {
    if (pl__snapshot_leaves_out(entry->d_name) ||
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name) >=
            (int)sizeof below)
      continue;
    kind = kind_of(entry->d_name);
    if (kind && entry->d_type != DT_DIR)
      changes |= pl__imprints_look(&w->imprints, below, kind, false);
    else if ((entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN) &&
             depth < PL_WATCHER_DEPTH_MAX)
      changes |= tree_take(w, below, depth + 1);
  }
  if (folder)
    closedir(folder);
  return changes;
}

static uint32_t tree_compare(struct pl_watcher *w) {
  uint32_t changes;

  pl__imprints_round_begin(&w->imprints);
  changes = tree_take(w, w->root, 0);
  return changes | pl__imprints_round_end(&w->imprints);
}

void pl__watcher_open(struct pl_watcher *w, const char *root,
                      const char *not_below, bool poll) {
  memset(w, 0, sizeof *w);
  snprintf(w->root, sizeof w->root, "%s", root);
  w->not_below = not_below;
  w->is_deaf = poll || is_deaf(root);
  w->fd = poll ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  w->is_deaf |= w->fd < 0;
  pl__imprints_init(&w->imprints);
  tree_compare(w);
}

void pl__watcher_close(struct pl_watcher *w) {
  for (uint32_t i = 0; i < w->folder_count; i++)
    pl__free(w->folders[i].path);
  w->folder_count = 0;
  pl__imprints_deinit(&w->imprints);
  if (w->fd >= 0)
    close(w->fd);
  w->fd = -1;
}

/* --- what was loaded ------------------------------------------------------------------ */

/* The next file of a bundle that counts, as a path with a NUL. */
static bool next_file(const struct pl_watcher *w, const struct pl_bundle *b,
                      uint64_t *at, char *path, struct pl_slice *bytes) {
  struct pl_slice key;

  while (pl__bundle_next(b, at, &key, bytes)) {
    if (!key.bytes || key.at[0] != '/' || key.bytes >= PL_WATCHER_PATH_BYTES ||
        is_below(key, w->not_below))
      continue;
    memcpy(path, key.at, key.bytes);
    path[key.bytes] = '\0';
    return true;
  }
  return false;
}

static void folder_of_file_watch(struct pl_watcher *w, char *path,
                                 bool is_alias) {
  *strrchr(path, '/') = '\0';
  if (*path)
    folder_watch(w, path, is_alias);
}

void pl__watcher_add(struct pl_watcher *w, const struct pl_bundle *b) {
  char path[PL_WATCHER_PATH_BYTES], real[PATH_MAX];
  struct pl_slice bytes;
  uint64_t at = 0;

  while (w->fd >= 0 && next_file(w, b, &at, path, &bytes)) {
    bool is_linked = realpath(path, real) && strcmp(path, real) != 0;
    folder_of_file_watch(w, path, false);
    if (is_linked)
      folder_of_file_watch(w, real, true);
  }
}

static bool is_same(const char *path, struct pl_slice known) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  char chunk[CHUNK_BYTES];
  uint32_t at = 0;
  ssize_t n = 0;

  if (fd < 0)
    return false;
  while ((n = read(fd, chunk, sizeof chunk)) > 0) {
    if ((size_t)n > known.bytes - at || memcmp(chunk, known.at + at, (size_t)n))
      break;
    at += (uint32_t)n;
  }
  close(fd);
  return n == 0 && at == known.bytes;
}

static uint64_t fnv(uint64_t h, const void *at, size_t bytes) {
  const unsigned char *c = at;

  for (size_t i = 0; i < bytes; i++)
    h = (h ^ c[i]) * FNV_PRIME;
  return h;
}

/* With the path and, if it is there, the bytes of a file. */
static uint64_t file_hash(uint64_t h, const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  char chunk[CHUNK_BYTES];
  ssize_t n;

  h = fnv(h, path, strlen(path) + 1);
  while (fd >= 0 && (n = read(fd, chunk, sizeof chunk)) > 0)
    h = fnv(h, chunk, (size_t)n);
  if (fd >= 0)
    close(fd);
  return h;
}

uint64_t pl__watcher_difference(const struct pl_watcher *w,
                                const struct pl_bundle *b) {
  char path[PL_WATCHER_PATH_BYTES];
  struct pl_slice bytes;
  uint64_t at = 0, h = 0;

  while (next_file(w, b, &at, path, &bytes))
    if (!is_same(path, bytes))
      h = file_hash(h ? h : FNV_BASIS, path);
  return h;
}

/* --- events ----------------------------------------------------------------------------- */

static void change_note(struct pl_watcher *w, uint32_t changes,
                        int64_t now_ns) {
  if (!changes)
    return;
  if (!w->changes)
    w->first_ns = now_ns;
  w->latest_ns = now_ns;
  w->changes |= changes;
}

/* Whether a file that an event names is another one than before, and of which
 * kind. */
static uint32_t change_of(struct pl_watcher *w, const struct pl_bundle *b,
                          const char *path, const char *name) {
  uint32_t kind = kind_of(name), change;
  struct pl_slice known, key = pl__slice_text(path);

  if (!kind || is_below(key, w->not_below))
    return 0;
  if (!is_of_app(w, path)) {
    if (b && pl__bundle_find(b, key, &known))
      return is_same(path, known) ? 0 : kind;
    return b && pl__bundle_is(b, b->writing) ? 0 : kind;
  }
  change = pl__imprints_look(&w->imprints, path, kind, true);
  if (b && pl__bundle_find(b, key, &known))
    change = is_same(path, known) ? 0 : kind;
  return change;
}

/* A name that has come with its content, not to be written and closed. */
static bool is_link(const char *path) {
  struct stat st;

  return lstat(path, &st) == 0 && (S_ISLNK(st.st_mode) || st.st_nlink > 1);
}

static void on_name(struct pl_watcher *w, const struct pl_bundle *b,
                    const struct inotify_event *event,
                    const struct pl_watcher_folder *folder, int64_t now_ns) {
  char path[PL_WATCHER_PATH_BYTES];

  if (snprintf(path, sizeof path, "%s/%s", folder->path, event->name) >=
      (int)sizeof path)
    return;
  if (event->mask & IN_ISDIR) {
    if (event->mask & IN_MOVED_FROM) /* before it comes elsewhere */
      forget_below(w, path);
    w->is_unsure |= is_of_app(w, path);
  } else if ((event->mask & IN_CREATE) && !is_link(path)) {
    return;
  } else if (folder->is_alias) {
    w->is_unsure |= kind_of(event->name) != 0;
  } else {
    change_note(w, change_of(w, b, path, event->name), now_ns);
  }
}

/* The folder itself was moved, or events were lost. */
static void on_loss(struct pl_watcher *w, const struct inotify_event *event) {
  char path[PL_WATCHER_PATH_BYTES];

  if (event->mask & IN_Q_OVERFLOW)
    w->is_unsure = true;
  if (event->mask & IN_IGNORED)
    forget_watch(w, event->wd);
  for (uint32_t i = 0; (event->mask & IN_MOVE_SELF) && i < w->folder_count; i++)
    if (w->folders[i].watch == event->wd) {
      snprintf(path, sizeof path, "%s", w->folders[i].path);
      forget_below(w, path);
      w->is_unsure = true;
      return;
    }
}

/* Folders may lie in the table under two paths, and leave it on the way. */
static void on_event(struct pl_watcher *w, const struct pl_bundle *b,
                     const struct inotify_event *event, int64_t now_ns) {
  on_loss(w, event);
  for (uint32_t i = w->folder_count; event->len && i-- > 0;)
    if (i < w->folder_count && w->folders[i].watch == event->wd)
      on_name(w, b, event, &w->folders[i], now_ns);
}

static void events_read(struct pl_watcher *w, const struct pl_bundle *b,
                        int64_t now_ns) {
  _Alignas(struct inotify_event) char chunk[CHUNK_BYTES];
  ssize_t n;

  while (w->fd >= 0 && (n = read(w->fd, chunk, sizeof chunk)) > 0)
    for (ssize_t at = 0; at < n;) {
      const struct inotify_event *event = (const void *)(chunk + at);
      on_event(w, b, event, now_ns);
      at += (ssize_t)(sizeof *event + event->len);
    }
}

/* --- comparing ------------------------------------------------------------------------ */

static bool is_blind(const struct pl_watcher *w) {
  return w->is_deaf || !is_watched(w, w->root);
}

/* All there is, with what was loaded. */
static void compare(struct pl_watcher *w, const struct pl_bundle *b,
                    int64_t now_ns) {
  uint64_t difference = b ? pl__watcher_difference(w, b) : 0;
  uint32_t changes = tree_compare(w);

  if (difference && difference != w->differed)
    changes |= PL_CHANGE_CODE;
  w->differed = difference;
  change_note(w, changes, now_ns);
}

/* When the changes are told, if no other comes. */
static int64_t rest_ns(const struct pl_watcher *w) {
  int64_t quiet = w->latest_ns + PL_WATCHER_QUIET_MS * (int64_t)PL_NS_PER_MS;
  int64_t last = w->first_ns + PL_WATCHER_BURST_MS * (int64_t)PL_NS_PER_MS;

  return quiet < last ? quiet : last;
}

uint32_t pl__watcher_turn(struct pl_watcher *w, const struct pl_bundle *b,
                          int64_t now_ns) {
  uint32_t changes;

  events_read(w, b, now_ns);
  if (w->is_unsure || (is_blind(w) && now_ns >= w->poll_due_ns)) {
    w->is_unsure = false;
    w->poll_due_ns = now_ns + PL_WATCHER_POLL_MS * (int64_t)PL_NS_PER_MS;
    compare(w, b, now_ns);
  }
  if (!w->changes || now_ns < rest_ns(w))
    return 0;
  changes = w->changes;
  w->changes = 0;
  return changes;
}

int64_t pl__watcher_due(const struct pl_watcher *w) {
  int64_t due = w->changes ? rest_ns(w) : 0;

  if (is_blind(w) && (!due || w->poll_due_ns < due))
    due = w->poll_due_ns ? w->poll_due_ns : 1;
  return due;
}
