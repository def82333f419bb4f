/* test/server/test_lockfile.c - one server of a name. */
#include "server/lockfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

static char folder[64];
static char path[PL_LOCKFILE_PATH_BYTES];
static char found[PL_LOCKFILE_PATH_BYTES];
static char error[PL_LOCKFILE_ERROR_BYTES];

static int setup(void **state) {
  (void)state;
  snprintf(folder, sizeof(folder), "/tmp/pl-lock-XXXXXX");
  if (!mkdtemp(folder))
    return -1;
  snprintf(path, sizeof(path), "%s/x.pid", folder);
  return setenv("XDG_RUNTIME_DIR", folder, 1);
}

static int teardown(void **state) {
  char inner[128];

  (void)state;
  unlink(path);
  snprintf(inner, sizeof(inner), "%s/perilune", folder);
  rmdir(inner);
  return rmdir(folder);
}

static void tells_who_holds_it(void **state) {
  struct pl_lockfile l;
  pid_t pid = 0;

  (void)state;
  assert_int_equal(0, pl__lockfile_take(&l, path, "x", error));
  assert_int_equal(0, pl__lockfile_holder(path, "x", &pid, found));
  assert_int_equal(getpid(), pid);
  assert_string_equal(path, found);
  pl__lockfile_give(&l);
  assert_int_equal(-1, access(path, F_OK));
  assert_int_equal(PL_ENOTRUNNING, pl__lockfile_holder(path, "x", &pid, found));
}

static void is_had_by_one_only(void **state) {
  struct pl_lockfile one, two;

  (void)state;
  assert_int_equal(0, pl__lockfile_take(&one, path, "x", error));
  assert_int_equal(PL_ECONFLICT, pl__lockfile_take(&two, path, "x", error));
  assert_non_null(strstr(error, "runs already"));
  pl__lockfile_give(&one);
  assert_int_equal(0, pl__lockfile_take(&two, path, "x", error));
  pl__lockfile_give(&two);
}

static void is_free_again_when_its_holder_was_killed(void **state) {
  struct pl_lockfile l;
  pid_t pid = fork();

  (void)state;
  assert_true(pid >= 0);
  if (pid == 0)
    _exit(pl__lockfile_take(&l, path, "x", error) ? 1 : 0); /* gives nothing */
  assert_int_equal(pid, waitpid(pid, NULL, 0));
  assert_int_equal(0, access(path, F_OK));
  assert_int_equal(PL_ENOTRUNNING, pl__lockfile_holder(path, "x", &pid, found));
  assert_int_equal(0, pl__lockfile_take(&l, path, "x", error));
  pl__lockfile_give(&l);
}

static void stays_held_when_a_child_forgets_it(void **state) {
  struct pl_lockfile l;
  pid_t pid;

  (void)state;
  assert_int_equal(0, pl__lockfile_take(&l, path, "x", error));
  pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    pl__lockfile_forget(&l);
    _exit(0);
  }
  assert_int_equal(pid, waitpid(pid, NULL, 0));
  assert_int_equal(0, pl__lockfile_holder(path, "x", &pid, found));
  pl__lockfile_give(&l);
}

static void lies_in_the_runtime_folder_of_the_user(void **state) {
  struct pl_lockfile l;
  char expected[128];
  struct stat st;
  pid_t pid;

  (void)state;
  assert_int_equal(0, pl__lockfile_take(&l, "", "notes", error));
  snprintf(expected, sizeof(expected), "%s/perilune/notes.pid", folder);
  assert_string_equal(expected, l.path);
  snprintf(expected, sizeof(expected), "%s/perilune", folder);
  assert_int_equal(0, stat(expected, &st));
  assert_int_equal(0700, st.st_mode & 0777);
  assert_int_equal(0, pl__lockfile_holder(NULL, "notes", &pid, found));
  pl__lockfile_give(&l);
}

static void tells_that_the_file_cannot_be_written(void **state) {
  struct pl_lockfile l;

  (void)state;
  assert_int_equal(PL_EFAIL,
                   pl__lockfile_take(&l, "/nonexistent/x.pid", "x", error));
  assert_non_null(strstr(error, "/nonexistent/x.pid"));
}

static void does_not_follow_a_link(void **state) {
  struct pl_lockfile l;

  (void)state;
  assert_int_equal(0, symlink("/tmp/pl-lock-target", path));
  assert_int_equal(PL_EFAIL, pl__lockfile_take(&l, path, "x", error));
  assert_int_equal(-1, access("/tmp/pl-lock-target", F_OK));
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      CASE(tells_who_holds_it),
      CASE(is_had_by_one_only),
      CASE(is_free_again_when_its_holder_was_killed),
      CASE(stays_held_when_a_child_forgets_it),
      CASE(lies_in_the_runtime_folder_of_the_user),
      CASE(tells_that_the_file_cannot_be_written),
      CASE(does_not_follow_a_link),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
