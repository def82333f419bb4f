/* fuzz/replay.c - runs a fuzz target over files, without a fuzzer.
 *
 *   fuzz_UNIT FILE-or-FOLDER...
 *
 * So that every crash that was ever found stays found: in ordinary builds each
 * target is linked with this main and run over its corpus and its regressions.
 * A folder that does not exist is skipped, as a unit may have no regressions;
 * no file at all is a failure.
 *
 * The bytes of each file end where an unreadable page begins, so reading past
 * them crashes also in a build without sanitizers.
 *
 * Knows nothing of the target but the two names libFuzzer calls.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLAY_FILE_BYTES_MAX (16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static int fail(const char *path) {
  fprintf(stderr, "%s: %s\n", path, strerror(errno));
  return -1;
}

/* Fills `into` with exactly `bytes` bytes of the file. Returns 0 or -1. */
static int read_all(int fd, char *into, size_t bytes) {
  size_t have = 0;
  while (have < bytes) {
    ssize_t got = read(fd, into + have, bytes - have);
    if (got <= 0)
      return -1;
    have += (size_t)got;
  }
  return 0;
}

/* Runs the target over one open file. Returns 0, or -1 with a message. */
static int replay_file(const char *path, int fd, size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t room = (bytes + page - 1) / page * page;
  char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED)
    return fail(path);

  int status = -1;
  char *at = map + room - bytes;
  if (mprotect(map + room, page, PROT_NONE) || read_all(fd, at, bytes)) {
    fail(path);
  } else {
    /* Named before it runs: if it crashes, this is the last line. */
    fprintf(stderr, "%s: %zu bytes\n", path, bytes);
    LLVMFuzzerTestOneInput((const uint8_t *)at, bytes);
    status = 0;
  }
  munmap(map, room + page);
  return status;
}

static int replay_path(const char *path, unsigned *count, int depth);

static int replay_folder(const char *path, unsigned *count, int depth) {
  DIR *folder = opendir(path);
  if (!folder)
    return fail(path);

  int status = 0;
  const struct dirent *entry;
  while ((entry = readdir(folder))) {
    char inner[PATH_MAX];
    int length = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
    if (entry->d_name[0] == '.')
      continue;
    if (length < 0 || (size_t)length >= sizeof inner) {
      errno = ENAMETOOLONG;
      status = fail(path);
    } else if (replay_path(inner, count, depth + 1)) {
      status = -1;
    }
  }
  closedir(folder);
  return status;
}

static int replay_path(const char *path, unsigned *count, int depth) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return errno == ENOENT && depth == 0 ? 0 : fail(path);

  int status = -1;
  struct stat about;
  if (fstat(fd, &about)) {
    fail(path);
  } else if (S_ISDIR(about.st_mode) && depth < 2) {
    status = replay_folder(path, count, depth);
  } else if (!S_ISREG(about.st_mode) || about.st_size > REPLAY_FILE_BYTES_MAX) {
    errno = EINVAL;
    fail(path);
  } else {
    status = replay_file(path, fd, (size_t)about.st_size);
    *count += 1;
  }
  close(fd);
  return status;
}

int main(int argc, char **argv) {
  unsigned count = 0;
  int status = 0;

  if (LLVMFuzzerInitialize)
    LLVMFuzzerInitialize(&argc, &argv);
  for (int i = 1; i < argc; i++)
    if (replay_path(argv[i], &count, 0))
      status = 1;
  if (!count) {
    fprintf(stderr, "%s: no input files\n", argv[0]);
    status = 1;
  }
  fprintf(stderr, "%u inputs replayed\n", count);
  return status;
}
