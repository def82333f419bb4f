/* test/server/test_archive.c - the folder of records, and their names. */
#include "server/archive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct pl_config config;
static char folder[64];

static void path_of(const char *name, char *out, size_t bytes) {
  snprintf(out, bytes, "%s/%s", folder, name);
}

static int make_folder(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/perilune-archive-XXXXXX");
  memset(&config, 0, sizeof config);
  if (!mkdtemp(folder))
    return -1;
  snprintf(config.recorder_folder, sizeof config.recorder_folder, "%s", folder);
  snprintf(config.name, sizeof config.name, "a");
  config.recorder_keep = 2;
  return 0;
}

/* The names in the folder that contain `part`; removes them if told to. */
static int count(const char *part, bool removes) {
  DIR *dir = opendir(folder);
  struct dirent *e;
  char path[512];
  int found = 0;

  while ((e = readdir(dir))) {
    if (e->d_name[0] == '.' || !strstr(e->d_name, part))
      continue;
    found++;
    path_of(e->d_name, path, sizeof path);
    if (removes)
      unlink(path);
  }
  closedir(dir);
  return found;
}

static int remove_folder(void **state) {
  (void)state;
  count("", true);
  return rmdir(folder);
}

static void put(const char *why) {
  struct pl_archive_file f;

  assert_int_equal(pl__archive_begin(&f, &config, why, "json"), 0);
  assert_int_equal(pl__archive_write(&f, "[]", 2), 0);
  assert_int_equal(pl__archive_end(&f, 0), 0);
  assert_int_equal(access(f.path, F_OK), 0);
  usleep(2000); /* times in names have milliseconds */
}

static void put_as(const char *name, const char *why) {
  snprintf(config.name, sizeof config.name, "%s", name);
  put(why);
}

static void touch(const char *name) {
  char path[512];
  int fd;

  path_of(name, path, sizeof path);
  fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  assert_true(fd >= 0);
  close(fd);
}

static void keeps_the_newest_of_its_server_alone(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    put_as("a-b", "crash-0");
    put_as("a", "b-crash-0");
    put_as("a-b-crash", "0");
  }
  for (int i = 0; i < 3; i++)
    put_as("a", "b-crash-0");
  assert_int_equal(count("perilune-a@", false), 2);
  assert_int_equal(count("perilune-a-b@", false), 2);
  assert_int_equal(count("perilune-a-b-crash@", false), 2);
}

static void counts_all_kinds_together(void **state) {
  (void)state;
  put("signal");
  put("heap-rule.one");
  put("crash-0");
  assert_int_equal(count("", false), 2);
  assert_int_equal(count("@signal", false), 0);
}

static void leaves_files_alone_that_are_not_called_like_records(void **state) {
  (void)state;
  touch("perilune-a@notes.txt");
  touch("perilune-a@-20260101T000000.000Z.json");
  touch("perilune-a@crash-0-20260101T000000Z.json");
  touch("perilune-a-crash-0-20260101T000000.000Z.json");
  touch("perilune-a@crash-0-20260101T000000.000Z.json.bak");
  touch("perilune-a@crash-0-20260101T000000.000Z.json.part.bak");
  for (int i = 0; i < 3; i++)
    put("crash-0");
  assert_int_equal(count("", false), 6 + 2);
}

static void leaves_nothing_of_a_file_that_has_failed(void **state) {
  struct pl_archive_file f;

  (void)state;
  assert_int_equal(pl__archive_begin(&f, &config, "crash-0", "json"), 0);
  assert_int_equal(count(".part", false), 1);
  assert_int_equal(pl__archive_write(&f, "[", 1), 0);
  assert_int_equal(pl__archive_end(&f, -ENOSPC), -ENOSPC);
  assert_int_equal(count("", false), 0);
}

static void gives_the_name_only_at_the_end(void **state) {
  struct pl_archive_file f;

  (void)state;
  assert_int_equal(pl__archive_begin(&f, &config, "crash-0", "json"), 0);
  assert_int_not_equal(access(f.path, F_OK), 0);
  assert_int_equal(pl__archive_end(&f, 0), 0);
  assert_int_equal(access(f.path, F_OK), 0);
}

static void writes_over_no_other_record(void **state) {
  struct pl_archive_file open, f;

  (void)state;
  config.recorder_keep = 100;
  assert_int_equal(pl__archive_begin(&open, &config, "signal", "json"), 0);
  for (int i = 0; i < 30; i++) { /* several in a millisecond */
    assert_int_equal(pl__archive_begin(&f, &config, "signal", "json"), 0);
    assert_int_equal(pl__archive_end(&f, 0), 0);
  }
  assert_int_equal(pl__archive_end(&open, 0), 0);
  assert_int_equal(count("", false), 31);
}

static void says_the_path_when_there_is_no_such_folder(void **state) {
  struct pl_archive_file f;

  (void)state;
  snprintf(config.recorder_folder, sizeof config.recorder_folder,
           "%s/none/none", folder);
  assert_int_equal(pl__archive_begin(&f, &config, "crash-0", "json"), -ENOENT);
  assert_non_null(strstr(f.path, "/none/none/perilune-a@crash-0-"));
  assert_int_equal(pl__archive_end(&f, -ENOENT), -ENOENT);
}

static void never_cuts_a_path(void **state) {
  struct pl_archive_file f;
  char longest[PL_ARCHIVE_WHY_BYTES];

  (void)state;
  for (int i = 0; i < 4; i++) { /* parts of 240 bytes, some 1,000 in all */
    size_t used = strlen(config.recorder_folder);
    config.recorder_folder[used] = '/';
    memset(config.recorder_folder + used + 1, 'x', 230);
    config.recorder_folder[used + 231] = '\0';
    assert_int_equal(mkdir(config.recorder_folder, 0700), 0);
  }
  memset(longest, 'w', sizeof longest - 1);
  longest[sizeof longest - 1] = '\0';
  memset(config.name, 'n', 60);
  assert_int_equal(pl__archive_begin(&f, &config, longest, "pb.gz"), 0);
  assert_int_equal(pl__archive_end(&f, 0), 0);
  assert_string_equal(f.path + strlen(f.path) - 7, "Z.pb.gz");
  assert_int_equal(unlink(f.path), 0);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(rmdir(config.recorder_folder), 0);
    *strrchr(config.recorder_folder, '/') = '\0';
  }
}

static void refuses_a_state_directory_that_is_too_long(void **state) {
  static char path[PL_CONFIG_FOLDER_BYTES + 8];
  struct pl_archive_file f;

  (void)state;
  memset(path, 'x', sizeof path - 1);
  path[0] = '/';
  config.recorder_folder[0] = '\0';
  setenv("STATE_DIRECTORY", path, 1);
  assert_int_equal(pl__archive_begin(&f, &config, "crash-0", "json"),
                   -ENAMETOOLONG);
  unsetenv("STATE_DIRECTORY");
}

static const char *word(const char *text) {
  static char why[PL_ARCHIVE_WHY_BYTES];

  snprintf(why, sizeof why, "heap-");
  assert_int_equal(pl__archive_word(why, pl__slice_text(text)), 0);
  return why + 5;
}

static void makes_one_word_of_one_name(void **state) {
  (void)state;
  assert_string_equal(word("a.b-c_1"), "a.b-c_1");
  assert_string_equal(word("a b"), "a%20b");
  assert_string_equal(word("a/../b"), "a%2F..%2Fb");
  assert_string_equal(word("a%20b"), "a%2520b");
  assert_string_equal(word("a@b"), "a%40b");
  assert_string_equal(word("\xc3\xbc\n"), "%C3%BC%0A");
}

static void refuses_a_word_rather_than_cut_it(void **state) {
  char why[PL_ARCHIVE_WHY_BYTES] = "heap-", text[PL_ARCHIVE_WHY_BYTES];
  struct pl_archive_file f;

  (void)state;
  memset(text, ' ', sizeof text);
  assert_int_equal(pl__archive_word(why, pl__slice(text, 45)), PL_EFULL);
  assert_string_equal(why, "heap-");
  assert_int_equal(pl__archive_word(why, pl__slice(text, 40)), 0);
  assert_int_equal(pl__archive_begin(&f, &config, "a/b", "json"), PL_EINVAL);
  assert_int_equal(pl__archive_begin(&f, &config, "", "json"), PL_EINVAL);
  assert_int_equal(pl__archive_begin(&f, &config, "a", "/x"), PL_EINVAL);
}

#define CASE(name)                                                             \
  cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(keeps_the_newest_of_its_server_alone),
      CASE(counts_all_kinds_together),
      CASE(leaves_files_alone_that_are_not_called_like_records),
      CASE(leaves_nothing_of_a_file_that_has_failed),
      CASE(gives_the_name_only_at_the_end),
      CASE(writes_over_no_other_record),
      CASE(says_the_path_when_there_is_no_such_folder),
      CASE(never_cuts_a_path),
      CASE(refuses_a_state_directory_that_is_too_long),
      CASE(makes_one_word_of_one_name),
      CASE(refuses_a_word_rather_than_cut_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
