/* server/watcher.c - see watcher.h. */
#define _GNU_SOURCE /* O_DIRECTORY */
#include "server/watcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/bundle.h"

#define EVENTS                                                                 \
  (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE)
#define CHUNK_BYTES 16384

/* --- which files matter ----------------------------------------------------------- */

static const struct {
  const char *end;
  enum pl_watcher_change change;
} kinds[] = {
    {".lua", PL_CHANGE_CODE},      {".etlua", PL_CHANGE_CODE},
    {".tpl", PL_CHANGE_CODE},      {".tmpl", PL_CHANGE_CODE},
    {".html", PL_CHANGE_CODE},     {".htm", PL_CHANGE_CODE},
    {".mustache", PL_CHANGE_CODE}, {".css", PL_CHANGE_STYLE},
    {".js", PL_CHANGE_PAGE},       {".svg", PL_CHANGE_PAGE},
    {".png", PL_CHANGE_PAGE},      {".jpg", PL_CHANGE_PAGE},
    {".webp", PL_CHANGE_PAGE},     {".ico", PL_CHANGE_PAGE},
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

static bool is_left_out(const char *name) {
  return name[0] == '.' || strcmp(name, "node_modules") == 0;
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
    if (strcmp(w->folders[i], path) == 0)
      return true;
  return false;
}

/* False: it is not, and cannot be, or was already. */
static bool folder_watch(struct pl_watcher *w, const char *path) {
  char *copy;
  int watch;

  if (w->fd < 0 || is_watched(w, path))
    return false;
  if (w->folder_count == PL_WATCHER_FOLDERS_MAX) {
    w->is_deaf = true; /* the rest is found by comparing */
    return false;
  }
  watch = inotify_add_watch(w->fd, path, EVENTS | IN_ONLYDIR);
  copy = watch < 0 ? NULL : pl__alloc(strlen(path) + 1);
  if (watch < 0 && errno == ENOSPC)
    w->is_deaf = true;
  if (!copy)
    return false;
  memcpy(copy, path, strlen(path) + 1);
  w->folders[w->folder_count] = copy;
  w->watches[w->folder_count++] = watch;
  return true;
}

static void tree_watch(struct pl_watcher *w, const char *path, int depth) {
  char below[PL_WATCHER_PATH_BYTES];
  const struct dirent *entry;
  DIR *folder;

  if (!folder_watch(w, path) || depth == PL_WATCHER_DEPTH_MAX)
    return;
  folder = opendir(path);
  while (folder && (entry = readdir(folder))) {
    if ((entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) ||
        is_left_out(entry->d_name))
      continue;
    if (snprintf(below, sizeof below, "%s/%s", path, entry->d_name) <
        (int)sizeof below)
      tree_watch(w, below, depth + 1);
  }
  if (folder)
    closedir(folder);
}

void pl__watcher_open(struct pl_watcher *w, const char *root, bool poll) {
  memset(w, 0, sizeof *w);
  snprintf(w->root, sizeof w->root, "%s", root);
  w->is_deaf = poll || is_deaf(root);
  w->fd = poll ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  w->is_deaf |= w->fd < 0;
  tree_watch(w, root, 0);
}

void pl__watcher_close(struct pl_watcher *w) {
  for (uint32_t i = 0; i < w->folder_count; i++)
    pl__free(w->folders[i]);
  w->folder_count = 0;
  if (w->fd >= 0)
    close(w->fd);
  w->fd = -1;
}

static bool is_below(struct pl_slice path, const char *folder) {
  size_t bytes = folder ? strlen(folder) : 0;

  return bytes && path.bytes > bytes && path.at[bytes] == '/' &&
         memcmp(path.at, folder, bytes) == 0;
}

void pl__watcher_add(struct pl_watcher *w, const struct pl_bundle *b,
                     const char *not_below) {
  struct pl_slice key, bytes;
  uint64_t at = 0;
  char path[PL_WATCHER_PATH_BYTES];

  while (pl__bundle_next(b, &at, &key, &bytes)) {
    char *end;
    if (!key.bytes || key.at[0] != '/' || key.bytes >= sizeof path ||
        is_below(key, not_below))
      continue;
    memcpy(path, key.at, key.bytes);
    path[key.bytes] = '\0';
    end = strrchr(path, '/');
    *end = '\0';
    folder_watch(w, path);
  }
}

/* --- comparing ------------------------------------------------------------------------ */

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

bool pl__watcher_differs(const struct pl_bundle *b, const char *not_below) {
  struct pl_slice key, bytes;
  uint64_t at = 0;
  char path[PL_WATCHER_PATH_BYTES];

  while (pl__bundle_next(b, &at, &key, &bytes)) {
    if (!key.bytes || key.at[0] != '/' || key.bytes >= sizeof path ||
        is_below(key, not_below))
      continue;
    memcpy(path, key.at, key.bytes);
    path[key.bytes] = '\0';
    if (!is_same(path, bytes))
      return true;
  }
  return false;
}

/* --- events ----------------------------------------------------------------------------- */

static const char *folder_of(const struct pl_watcher *w, int watch) {
  for (uint32_t i = 0; i < w->folder_count; i++)
    if (w->watches[i] == watch)
      return w->folders[i];
  return NULL;
}

static void forget_watch(struct pl_watcher *w, int watch) {
  for (uint32_t i = 0; i < w->folder_count; i++) {
    if (w->watches[i] != watch)
      continue;
    pl__free(w->folders[i]);
    w->folder_count--;
    w->folders[i] = w->folders[w->folder_count];
    w->watches[i] = w->watches[w->folder_count];
    return;
  }
}

/* Whether the file is another one than the app has loaded; a touch is not. */
static bool is_news(const struct pl_bundle *b, const char *path) {
  struct pl_slice known;

  return !b || !pl__bundle_find(b, pl__slice(path, strlen(path)), &known) ||
         !is_same(path, known);
}

static void on_event(struct pl_watcher *w, const struct pl_bundle *b,
                     const struct inotify_event *event, int64_t now_ns) {
  const char *folder = folder_of(w, event->wd);
  char path[PL_WATCHER_PATH_BYTES];
  uint32_t change;

  if (event->mask & IN_IGNORED)
    forget_watch(w, event->wd);
  if (!folder || !event->len ||
      snprintf(path, sizeof path, "%s/%s", folder, event->name) >=
          (int)sizeof path)
    return;
  if (event->mask & IN_ISDIR) {
    if (!is_left_out(event->name))
      tree_watch(w, path, 0);
    change = is_left_out(event->name) ? 0 : PL_CHANGE_CODE;
  } else {
    change = kind_of(event->name);
    /* One that was made is written to, and closed, in a moment. */
    if ((event->mask & IN_CREATE) ||
        (change == PL_CHANGE_CODE && !is_news(b, path)))
      change = 0;
  }
  if (!change)
    return;
  if (!w->changes)
    w->first_ns = now_ns;
  w->latest_ns = now_ns;
  w->changes |= change;
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
  if (w->is_deaf && now_ns >= w->poll_due_ns) {
    w->poll_due_ns = now_ns + PL_WATCHER_POLL_MS * (int64_t)PL_NS_PER_MS;
    if (b && !w->changes && pl__watcher_differs(b, NULL)) {
      w->changes = PL_CHANGE_CODE;
      w->first_ns = w->latest_ns = now_ns;
    }
  }
  if (!w->changes || now_ns < rest_ns(w))
    return 0;
  changes = w->changes;
  w->changes = 0;
  return changes;
}

int64_t pl__watcher_due(const struct pl_watcher *w) {
  int64_t due = w->changes ? rest_ns(w) : 0;

  if (w->is_deaf && (!due || w->poll_due_ns < due))
    due = w->poll_due_ns ? w->poll_due_ns : 1;
  return due;
}
