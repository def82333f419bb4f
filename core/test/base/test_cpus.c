/* test/base/test_cpus.c - quotas in a made-up folder of control groups. */
#define _GNU_SOURCE /* mkdtemp, nftw */
#include "base/cpus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static int make_root(void **state) {
  (void)state;
  snprintf(root, sizeof root, "/tmp/perilune-cpus-XXXXXX");
  return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw) {
  (void)st, (void)type, (void)ftw;
  return remove(path);
}

static int remove_root(void **state) {
  (void)state;
  return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes ROOT/path, with all folders on the way. */
static void put_file(const char *path, const char *text) {
  char full[PATH_MAX];
  snprintf(full, sizeof full, "%s/%s", root, path);
  for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/'));
       slash++) {
    *slash = 0;
    assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
    *slash = '/';
  }
  FILE *f = fopen(full, "w");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

static void no_files_set_no_limit(void **state) {
  (void)state;
  assert_int_equal(pl__cpus_granted(root), 0);
  put_file("proc/self/cgroup", "0::/\n");
  assert_int_equal(pl__cpus_granted(root), 0);
}

static void rounds_a_v2_quota_up(void **state) {
  (void)state;
  put_file("proc/self/cgroup", "0::/a\n");
  put_file("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  assert_int_equal(pl__cpus_granted(root), 2);
  put_file("sys/fs/cgroup/a/cpu.max", "100000 100000\n");
  assert_int_equal(pl__cpus_granted(root), 1);
  put_file("sys/fs/cgroup/a/cpu.max", "1000 100000\n");
  assert_int_equal(pl__cpus_granted(root), 1);
}

static void max_is_no_v2_limit(void **state) {
  (void)state;
  put_file("proc/self/cgroup", "0::/a\n");
  put_file("sys/fs/cgroup/a/cpu.max", "max 100000\n");
  assert_int_equal(pl__cpus_granted(root), 0);
}

static void the_smallest_quota_on_the_way_up_counts(void **state) {
  (void)state;
  put_file("proc/self/cgroup", "0::/a/b/c\n");
  put_file("sys/fs/cgroup/a/cpu.max", "300000 100000\n");
  put_file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  put_file("sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n");
  assert_int_equal(pl__cpus_granted(root), 3);
}

static void a_group_of_the_outside_falls_back_to_the_mount(void **state) {
  (void)state;
  put_file("proc/self/cgroup", "0::/docker/0123\n");
  put_file("sys/fs/cgroup/cpu.max", "400000 100000\n");
  assert_int_equal(pl__cpus_granted(root), 4);
}

static void reads_v1_quotas(void **state) {
  (void)state;
  put_file("proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/x\n1:name=a:/\n");
  put_file("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "250000\n");
  put_file("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  assert_int_equal(pl__cpus_granted(root), 3);
  put_file("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
  assert_int_equal(pl__cpus_granted(root), 0);
}

static void a_v1_group_without_cpu_is_passed_over(void **state) {
  (void)state;
  put_file("proc/self/cgroup", "4:cpuacct,cpuset:/\n");
  put_file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  put_file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  assert_int_equal(pl__cpus_granted(root), 0);
}

static void nonsense_sets_no_limit(void **state) {
  (void)state;
  static const char *const cases[] = {
      "",    "\n",  "100000",    "100000 0",
      "0 1", "a b", "-5 100000", "99999999999999999999 1"};
  put_file("proc/self/cgroup", "0::/\n:\n::\n4\n4:cpu\n\n");
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    put_file("sys/fs/cgroup/cpu.max", cases[i]);
    assert_int_equal(pl__cpus_granted(root), 0);
  }
}

static void affinity_bounds_what_is_usable(void **state) {
  (void)state;
  cpu_set_t all, one;
  assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
  assert_in_range(pl__cpus_usable(), 1, CPU_COUNT(&all));
  CPU_ZERO(&one);
  for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
    if (CPU_ISSET(i, &all))
      CPU_SET(i, &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  assert_int_equal(pl__cpus_usable(), 1);
  sched_setaffinity(0, sizeof all, &all);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(no_files_set_no_limit),
      FACT(rounds_a_v2_quota_up),
      FACT(max_is_no_v2_limit),
      FACT(the_smallest_quota_on_the_way_up_counts),
      FACT(a_group_of_the_outside_falls_back_to_the_mount),
      FACT(reads_v1_quotas),
      FACT(a_v1_group_without_cpu_is_passed_over),
      FACT(nonsense_sets_no_limit),
      FACT(affinity_bounds_what_is_usable),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
