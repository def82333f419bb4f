/* server/imprints.c - a table by path, open addressing; see imprints.h. */
#define _GNU_SOURCE /* O_CLOEXEC */
#include "server/imprints.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

#define FNV_BASIS 14695981039346656037ull
#define FNV_PRIME 1099511628211ull
#define CHUNK_BYTES 16384
/* The coarsest time stamps that are met: FAT has two seconds. */
#define FRESH_NS (2 * (int64_t)PL_NS_PER_S)
/* One in eight stays free, so that a search ends. */
#define FILES_MAX (PL_IMPRINTS_MAX / 8 * 7)

static uint64_t fnv(uint64_t h, const void *at, size_t bytes) {
  const unsigned char *c = at;

  for (size_t i = 0; i < bytes; i++)
    h = (h ^ c[i]) * FNV_PRIME;
  return h;
}

/* --- what a file is like ------------------------------------------------------ */

static uint64_t bytes_hash(int fd) {
  uint64_t h = FNV_BASIS;
  char chunk[CHUNK_BYTES];
  ssize_t n;

  while ((n = read(fd, chunk, sizeof chunk)) > 0)
    h = fnv(h, chunk, (size_t)n);
  return h;
}

static int64_t mtime_of(const struct stat *st) {
  return (int64_t)st->st_mtim.tv_sec * (int64_t)PL_NS_PER_S +
         st->st_mtim.tv_nsec;
}

static uint64_t content_of(const char *path, const struct stat *st) {
  int64_t mtime_ns = mtime_of(st);
  uint64_t h = fnv(FNV_BASIS, &mtime_ns, sizeof mtime_ns);
  int fd;

  h = fnv(h, &st->st_ino, sizeof st->st_ino);
  if (st->st_size > PL_IMPRINTS_HASHED_BYTES_MAX)
    return h;
  fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return h;
  h = bytes_hash(fd);
  close(fd);
  return h;
}

static bool is_as_before(const struct pl_imprint *p, const struct stat *st) {
  return !p->is_gone && !p->is_fresh && p->mtime_ns == mtime_of(st) &&
         p->size == (uint64_t)st->st_size && p->inode == (uint64_t)st->st_ino;
}

/* --- the table ------------------------------------------------------------------ */

void pl__imprints_init(struct pl_imprints *i) {
  *i = (struct pl_imprints){
      .table = pl__alloc_zero(PL_IMPRINTS_MAX * sizeof *i->table)};
}

void pl__imprints_deinit(struct pl_imprints *i) {
  pl__free(i->table);
  i->table = NULL;
  i->count = 0;
}

/* The one of that path, or a free one. */
static struct pl_imprint *find(struct pl_imprints *i, uint64_t path) {
  uint64_t at = path;

  while (i->table[at % PL_IMPRINTS_MAX].path &&
         i->table[at % PL_IMPRINTS_MAX].path != path)
    at++;
  return &i->table[at % PL_IMPRINTS_MAX];
}

static uint32_t on_absence(struct pl_imprint *p) {
  if (!p->path || p->is_gone)
    return 0;
  p->is_gone = true;
  return p->kind;
}

static uint32_t on_presence(struct pl_imprint *p, const char *path,
                            const struct stat *st, uint32_t kind) {
  uint64_t content = content_of(path, st);
  bool is_same = !p->is_gone && p->kind && p->content == content &&
                 p->size == (uint64_t)st->st_size;
  int64_t mtime_ns = mtime_of(st);

  p->content = content;
  p->size = (uint64_t)st->st_size;
  p->inode = (uint64_t)st->st_ino;
  p->mtime_ns = mtime_ns;
  p->kind = kind;
  p->is_gone = false;
  p->is_fresh = pl__clock_realtime_ns() - mtime_ns < FRESH_NS;
  return is_same ? 0 : kind;
}

uint32_t pl__imprints_look(struct pl_imprints *i, const char *path,
                           uint32_t kind, bool closely) {
  uint64_t hash = fnv(FNV_BASIS, path, strlen(path)) | 1;
  struct pl_imprint *p = i->table ? find(i, hash) : NULL;
  struct stat st;

  if (!p || (!p->path && i->count == FILES_MAX))
    return closely ? kind : 0;
  if (stat(path, &st) || !S_ISREG(st.st_mode))
    return on_absence(p);
  i->count += !p->path;
  p->path = hash;
  p->round = i->round;
  return !closely && is_as_before(p, &st) ? 0 : on_presence(p, path, &st, kind);
}

void pl__imprints_round_begin(struct pl_imprints *i) { i->round++; }

uint32_t pl__imprints_round_end(struct pl_imprints *i) {
  uint32_t kinds = 0;

  for (uint32_t n = 0; i->table && n < PL_IMPRINTS_MAX; n++)
    if (i->table[n].path && i->table[n].round != i->round)
      kinds |= on_absence(&i->table[n]);
  return kinds;
}
