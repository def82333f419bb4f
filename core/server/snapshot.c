/* server/snapshot.c - walks the app's folder; see snapshot.h. */
#define _GNU_SOURCE /* O_NOFOLLOW, O_DIRECTORY */
#include "server/snapshot.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fabric/bundle.h"

#define PATH_BYTES 4096

struct walk {
  struct pl_bundle *bundle;
  size_t root_bytes; /* of the folder's path, with the slash behind it */
  uint32_t entries;
  uint64_t bytes;
  char path[PATH_BYTES];
};

bool pl__snapshot_leaves_out(const char *name) {
  static const char *const names[] = {"node_modules", "spec", "test"};

  if (name[0] == '.')
    return true;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(name, names[i]) == 0)
      return true;
  return false;
}

static bool is_lua(const char *name) {
  size_t bytes = strlen(name);

  return bytes > 4 && strcmp(name + bytes - 4, ".lua") == 0;
}

static void add(struct walk *w, const char *text, size_t bytes) {
  struct pl_slice path = pl__slice_text(w->path), known;
  struct pl_slice name =
      pl__slice(w->path + w->root_bytes, strlen(w->path) - w->root_bytes);

  if (pl__bundle_find(w->bundle, path, &known) ||
      pl__bundle_add(w->bundle, path, pl__slice(text, bytes)))
    return;
  pl__bundle_hash(w->bundle, name, pl__slice(text, bytes));
  w->bytes += bytes;
}

static void file_take(struct walk *w, int folder_fd, const char *name) {
  int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat st;
  char *text;
  ssize_t n;

  if (fd < 0)
    return;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
      st.st_size <= (off_t)PL_SNAPSHOT_FILE_BYTES &&
      w->bytes + (uint64_t)st.st_size <= PL_SNAPSHOT_BYTES_MAX) {
    text = pl__alloc((size_t)st.st_size + 1);
    n = text ? read(fd, text, (size_t)st.st_size) : -1;
    if (n == st.st_size)
      add(w, text, (size_t)n);
    pl__free(text);
  }
  close(fd);
}

static void folder_walk(struct walk *w, int fd, int depth);

static void entry_take(struct walk *w, int fd, const struct dirent *entry,
                       int depth) {
  size_t used = strlen(w->path);
  int n = snprintf(w->path + used, sizeof w->path - used, "/%s", entry->d_name);
  int inner;

  if (n > 0 && (size_t)n < sizeof w->path - used) {
    inner = is_lua(entry->d_name)
                ? -1
                : openat(fd, entry->d_name,
                         O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW);
    if (inner >= 0)
      folder_walk(w, inner, depth + 1);
    else if (is_lua(entry->d_name))
      file_take(w, fd, entry->d_name);
  }
  w->path[used] = '\0';
}

/* Takes the descriptor over. */
static void folder_walk(struct walk *w, int fd, int depth) {
  DIR *folder = depth > PL_SNAPSHOT_DEPTH_MAX ? NULL : fdopendir(fd);
  const struct dirent *entry;

  if (!folder) {
    close(fd);
    return;
  }
  while (w->entries++ < PL_SNAPSHOT_ENTRIES_MAX && (entry = readdir(folder)))
    if (!pl__snapshot_leaves_out(entry->d_name) &&
        (is_lua(entry->d_name) || entry->d_type == DT_DIR ||
         entry->d_type == DT_UNKNOWN))
      entry_take(w, fd, entry, depth);
  closedir(folder);
}

void pl__snapshot(struct pl_bundle *b, const char *folder) {
  struct walk w = {.bundle = b, .root_bytes = strlen(folder) + 1};
  int fd = open(folder, O_RDONLY | O_CLOEXEC | O_DIRECTORY);

  if (fd < 0 || snprintf(w.path, sizeof w.path, "%s", folder) >= PATH_BYTES) {
    if (fd >= 0)
      close(fd);
    return;
  }
  folder_walk(&w, fd, 0);
}
