/* fabric/map.c - one memfd: a page of sections' names, then the sections. */
#define _GNU_SOURCE /* memfd_create, mincore */
#include "fabric/map.h"

#include "base/err.h"
#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x31656e756c697265ull /* tells a fabric from other memory */

/* A section as it stands in the table. */
struct entry {
  char name[PL_FABRIC_NAME_BYTES];
  uint32_t version;
  uint32_t element_bytes;
  uint64_t element_count;
  uint64_t offset; /* from the base */
};

struct head {
  uint64_t magic;
  uint64_t bytes;
  uint32_t section_count;
  uint32_t zero;
  struct entry entries[];
};

/* Writes the sentence that goes with a failure, and passes its status on. */
__attribute__((format(printf, 3, 4))) static int fail(char *error, int status,
                                                      const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(error, PL_FABRIC_ERROR_BYTES, format, args);
  va_end(args);
  return status;
}

static int fail_errno(char *error, const char *what) {
  int saved = errno;
  return fail(error, -saved, "cannot get shared memory: %s: %s", what,
              strerror(saved));
}

int pl__fabric_name(struct pl_fabric_section *s, const char *stem, int number) {
  int n = number < 0 ? snprintf(s->name, sizeof s->name, "%s", stem)
                     : snprintf(s->name, sizeof s->name, "%s.%d", stem, number);
  return n > 0 && (size_t)n < sizeof s->name ? 0 : PL_EINVAL;
}

/* Adds `more`, rounded up to pages, to *bytes; false when that overflows. */
static bool add_pages(uint64_t *bytes, uint64_t more) {
  uint64_t page = PL_FABRIC_PAGE_BYTES;
  if (more > INT64_MAX - page)
    return false;
  more = (more + page - 1) & ~(page - 1);
  if (more > INT64_MAX - *bytes)
    return false;
  *bytes += more;
  return true;
}

static uint64_t head_bytes(uint32_t count) {
  return sizeof(struct head) + (uint64_t)count * sizeof(struct entry);
}

static bool is_named_before(const struct pl_fabric_section *sections,
                            uint32_t i) {
  for (uint32_t j = 0; j < i; j++)
    if (strcmp(sections[j].name, sections[i].name) == 0)
      return true;
  return false;
}

/* Adds one section to the size, if it is sound. */
static int add_section(const struct pl_fabric_section *sections, uint32_t i,
                       uint64_t *bytes, char *error) {
  const struct pl_fabric_section *s = &sections[i];
  if (!memchr(s->name, 0, sizeof s->name) || !s->name[0])
    return fail(error, PL_EINVAL, "section %u of the fabric has no name", i);
  if (is_named_before(sections, i))
    return fail(error, PL_EINVAL, "section %s is there twice", s->name);
  if (s->element_bytes == 0 || s->element_count == 0)
    return fail(error, PL_EINVAL, "section %s is empty", s->name);
  if (s->element_count > INT64_MAX / s->element_bytes ||
      !add_pages(bytes, s->element_count * s->element_bytes))
    return fail(error, PL_EFULL, "section %s is too large", s->name);
  return 0;
}

static int measure(const struct pl_fabric_section *sections, uint32_t count,
                   uint64_t *bytes, char *error) {
  *bytes = 0;
  if (count > PL_LIMIT_SECTION_COUNT)
    return fail(error, PL_EFULL, "%u sections, at most %u", count,
                PL_LIMIT_SECTION_COUNT);
  add_pages(bytes, head_bytes(count));
  for (uint32_t i = 0; i < count; i++) {
    int status = add_section(sections, i, bytes, error);
    if (status)
      return status;
  }
  return 0;
}

static void fill_head(struct head *h, uint64_t bytes,
                      const struct pl_fabric_section *sections,
                      uint32_t count) {
  uint64_t offset = 0;
  add_pages(&offset, head_bytes(count));
  h->magic = MAGIC;
  h->bytes = bytes;
  h->section_count = count;
  for (uint32_t i = 0; i < count; i++) {
    const struct pl_fabric_section *s = &sections[i];
    struct entry *e = &h->entries[i];
    memcpy(e->name, s->name, sizeof e->name);
    e->version = s->version;
    e->element_bytes = s->element_bytes;
    e->element_count = s->element_count;
    e->offset = offset;
    add_pages(&offset, s->element_count * s->element_bytes);
  }
}

/* Nobody writes to the table any more: a process that goes wild there dies of
 * it, instead of misleading the others.  Where pages are larger than ours, a
 * section shares the last one with the table. */
static void head_protect(void *base, uint32_t count) {
  uint64_t bytes = 0;
  add_pages(&bytes, head_bytes(count));
  if (sysconf(_SC_PAGESIZE) == (long)PL_FABRIC_PAGE_BYTES)
    mprotect(base, bytes, PROT_READ); /* else it stays as it is */
}

/* The size is sealed: nobody who has the descriptor can shrink the file below
 * what is mapped, which would kill whoever touches it (SIGBUS). */
static int seal(int fd) {
  return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

int pl__fabric_open(struct pl_fabric *f,
                    const struct pl_fabric_section *sections, uint32_t count,
                    char *error) {
  uint64_t bytes;
  *f = (struct pl_fabric){.fd = -1};
  error[0] = 0;
  int status = measure(sections, count, &bytes, error);
  if (status)
    return status;
  int fd = memfd_create("perilune", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0)
    return fail_errno(error, "memfd_create");
  if (ftruncate(fd, (off_t)bytes)) {
    status = fail_errno(error, "ftruncate");
    goto fail_fd;
  }
  if (seal(fd)) {
    status = fail_errno(error, "seal");
    goto fail_fd;
  }
  void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (base == MAP_FAILED) {
    status = fail_errno(error, "mmap");
    goto fail_fd;
  }
  fill_head(base, bytes, sections, count);
  head_protect(base, count);
  *f = (struct pl_fabric){.base = base, .bytes = bytes, .fd = fd};
  return 0;

fail_fd:
  close(fd);
  return status;
}

void pl__fabric_close(struct pl_fabric *f) {
  if (f->base)
    munmap(f->base, f->bytes);
  if (f->fd >= 0)
    close(f->fd);
  *f = (struct pl_fabric){.fd = -1};
}

int pl__fabric_find(const struct pl_fabric *f, const char *name,
                    uint32_t version, uint32_t element_bytes, void **at,
                    uint64_t *count) {
  const struct head *h = (const void *)f->base;
  if (!h || h->magic != MAGIC)
    return PL_EINVAL;
  for (uint32_t i = 0; i < h->section_count; i++) {
    const struct entry *e = &h->entries[i];
    if (strcmp(e->name, name) != 0)
      continue;
    if (e->version != version || e->element_bytes != element_bytes)
      return PL_EVERSION;
    *at = f->base + e->offset;
    if (count)
      *count = e->element_count;
    return 0;
  }
  return PL_EINVAL;
}

int pl__fabric_find_number(const struct pl_fabric *f, const char *stem,
                           int number, uint32_t version, uint32_t element_bytes,
                           void **at, uint64_t *count) {
  struct pl_fabric_section s;
  int status = pl__fabric_name(&s, stem, number);
  return status ? status
                : pl__fabric_find(f, s.name, version, element_bytes, at, count);
}

/* MADV_REMOVE punches a hole into the file behind the mapping, so the pages go
 * from all processes; MADV_DONTNEED would only unmap them here. */
int pl__fabric_punch(void *at, size_t bytes) {
  uintptr_t page = PL_FABRIC_PAGE_BYTES;
  uintptr_t from = ((uintptr_t)at + page - 1) & ~(page - 1);
  uintptr_t to = ((uintptr_t)at + bytes) & ~(page - 1);
  if (from >= to)
    return 0;
  char *first = (char *)at + (from - (uintptr_t)at);
  return madvise(first, to - from, MADV_REMOVE) ? -errno : 0;
}

int pl__fabric_resident(const struct pl_fabric *f, uint64_t *bytes) {
  struct stat st;
  if (fstat(f->fd, &st))
    return -errno;
  *bytes = (uint64_t)st.st_blocks * 512; /* stat's unit, whatever the file's */
  return 0;
}

#define RESIDENT_PAGES 4096u /* asked for at once */

static bool count_resident(char *at, uint64_t bytes, uint64_t *resident) {
  unsigned char is_in[RESIDENT_PAGES];
  uint64_t page = PL_FABRIC_PAGE_BYTES, left = (bytes + page - 1) / page;

  *resident = 0;
  while (left > 0) {
    uint64_t pages = left < RESIDENT_PAGES ? left : RESIDENT_PAGES;
    if (mincore(at, pages * page, is_in))
      return false;
    for (uint64_t i = 0; i < pages; i++)
      *resident += (is_in[i] & 1) * page;
    at += pages * page;
    left -= pages;
  }
  return true;
}

bool pl__fabric_section(const struct pl_fabric *f, uint32_t index,
                        struct pl_fabric_section *s, uint64_t *resident_bytes) {
  const struct head *h = (const void *)f->base;
  const struct entry *e;

  if (!h || h->magic != MAGIC || index >= h->section_count)
    return false;
  e = &h->entries[index];
  memcpy(s->name, e->name, sizeof s->name);
  s->version = e->version;
  s->element_bytes = e->element_bytes;
  s->element_count = e->element_count;
  return count_resident(f->base + e->offset,
                        e->element_bytes * e->element_count, resident_bytes);
}
