/* base/cpus.c - affinity, and the quotas of control groups v1 and v2. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/cpus.h"

#include "base/slice.h"
#include "base/text.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* A group may be nested this deep before we stop looking further up. */
#define GROUP_DEPTH_MAX 64
#define GROUP_FILE_BYTES 8192
#define CPUS_MAX 1024

/* Reads a small file into `out`, NUL-terminated; false when it can't be had. */
static bool read_file(const char *path, char *out, size_t cap) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return false;
  size_t n = 0;
  ssize_t got;
  while (n < cap - 1 && (got = read(fd, out + n, cap - 1 - n)) > 0)
    n += (size_t)got;
  close(fd);
  out[n] = 0;
  return n > 0;
}

/* CPUs that a quota per period comes to, rounded up; 0 for no limit. */
static int quota_cpus(uint64_t quota, uint64_t period) {
  if (quota == 0 || period == 0)
    return 0;
  uint64_t cpus = quota / period + (quota % period != 0);
  return cpus > CPUS_MAX ? CPUS_MAX : (int)cpus;
}

/* Takes the word at *at, up to white space. */
static struct pl_slice take_word(const char **at) {
  const char *from = *at + strspn(*at, " \t\n");
  size_t n = strcspn(from, " \t\n");
  *at = from + n;
  return pl__slice(from, n);
}

/* "max 100000" or "150000 100000". */
static int read_v2(const char *folder) {
  char path[PATH_MAX], text[128];
  uint64_t quota, period;
  snprintf(path, sizeof path, "%s/cpu.max", folder);
  if (!read_file(path, text, sizeof text))
    return 0;
  const char *at = text;
  if (pl__text_number(take_word(&at), 1ull << 53, &quota) ||
      pl__text_number(take_word(&at), 1ull << 53, &period))
    return 0; /* "max" is no number */
  return quota_cpus(quota, period);
}

static bool read_number(const char *folder, const char *name, uint64_t *n) {
  char path[PATH_MAX], text[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  const char *at = text;
  return read_file(path, text, sizeof text) &&
         pl__text_number(take_word(&at), 1ull << 53, n) == 0;
}

/* A quota of -1 is no number either: no limit. */
static int read_v1(const char *folder) {
  uint64_t quota, period;
  if (!read_number(folder, "cpu.cfs_quota_us", &quota) ||
      !read_number(folder, "cpu.cfs_period_us", &period))
    return 0;
  return quota_cpus(quota, period);
}

static int smaller(int a, int b) { return a == 0 || (b && b < a) ? b : a; }

/* The smallest grant from `mount` + `group` up to `mount` itself.  In a
 * container the group's path may be one of the machine outside and not be
 * there; its parents are not either, and the mount itself is the group. */
static int read_up(const char *mount, const char *group,
                   int (*read_one)(const char *folder)) {
  char folder[PATH_MAX];
  size_t mount_bytes = strlen(mount);
  int n = snprintf(folder, sizeof folder, "%s%s", mount, group);
  if (n < 0 || (size_t)n >= sizeof folder - 32)
    return 0;
  int grant = 0;
  for (int depth = 0; depth < GROUP_DEPTH_MAX; depth++) {
    grant = smaller(grant, read_one(folder));
    char *slash = strrchr(folder, '/');
    if (!slash || (size_t)(slash - folder) < mount_bytes)
      break;
    *slash = 0;
  }
  return grant;
}

/* Whether "cpu" is one of the comma-separated names. */
static bool names_cpu(const char *names, size_t bytes) {
  while (bytes) {
    const char *comma = memchr(names, ',', bytes);
    size_t n = comma ? (size_t)(comma - names) : bytes;
    if (n == 3 && memcmp(names, "cpu", 3) == 0)
      return true;
    names += n;
    bytes -= n;
    if (comma)
      names++, bytes--;
  }
  return false;
}

/* The grant behind one line of /proc/self/cgroup: "0::/group" (version 2) or
 * "4:cpu,cpuacct:/group" (version 1).  Each is looked for where systems mount
 * it. */
static int read_line(const char *root, const char *line) {
  static const char *const v1[] = {"cpu", "cpu,cpuacct", "cpuacct,cpu"};
  char mount[PATH_MAX];
  const char *names = strchr(line, ':');
  const char *group = names ? strchr(names + 1, ':') : NULL;
  int grant = 0;
  if (!group)
    return 0;
  names++;
  size_t names_bytes = (size_t)(group - names);
  group++;
  if (names_bytes == 0) {
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
    grant = read_up(mount, group, read_v2);
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/unified", root);
    return smaller(grant, read_up(mount, group, read_v2));
  }
  if (!names_cpu(names, names_bytes))
    return 0;
  for (unsigned i = 0; i < sizeof v1 / sizeof *v1; i++) {
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, v1[i]);
    grant = smaller(grant, read_up(mount, group, read_v1));
  }
  return grant;
}

int pl__cpus_granted(const char *root) {
  char path[PATH_MAX], text[GROUP_FILE_BYTES];
  int grant = 0;
  snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
  if (!read_file(path, text, sizeof text))
    return 0;
  for (char *line = text; *line;) {
    char *end = line + strcspn(line, "\n");
    char *next = *end ? end + 1 : end;
    *end = 0;
    grant = smaller(grant, read_line(root, line));
    line = next;
  }
  return grant;
}

/* Machines with more CPUs than cpu_set_t has bits fail here with EINVAL; what
 * is online then stands in. */
static int affinity_cpus(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    return CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : online > CPUS_MAX ? CPUS_MAX : (int)online;
}

int pl__cpus_usable(void) {
  int cpus = smaller(affinity_cpus(), pl__cpus_granted(""));
  return cpus < 1 ? 1 : cpus;
}
