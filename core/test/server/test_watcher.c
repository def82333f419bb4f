/* test/server/test_watcher.c - what counts as a change, however it is made. */
#define _GNU_SOURCE /* utimensat, symlink */
#include "server/watcher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/bundle.h"

#define BUNDLE_BYTES 262144
#define QUEUE_ROUNDS 9000 /* of three events: more than the kernel keeps */

static char base[64], root[80];
static struct pl_watcher watcher;
static struct pl_bundle *bundle;
static int64_t now_ns;

/* --- files ---------------------------------------------------------------------- */

static const char *at(const char *name) {
  static char paths[4][256];
  static int turn;
  char *path = paths[turn++ % 4];

  snprintf(path, sizeof paths[0], "%s/%s", root, name);
  return path;
}

static void write_file(const char *name, const char *text) {
  FILE *f = fopen(at(name), "wb");

  assert_non_null(f);
  fputs(text, f);
  assert_int_equal(fclose(f), 0);
}

static void move(const char *from, const char *to) {
  assert_int_equal(rename(at(from), at(to)), 0);
}

static void make_folder(const char *name) {
  assert_int_equal(mkdir(at(name), 0700), 0);
}

static void load(const char *path, const char *text) {
  assert_int_equal(pl__bundle_add(bundle, pl__slice(path, strlen(path)),
                                  pl__slice(text, strlen(text))),
                   0);
}

/* --- a watcher ------------------------------------------------------------------- */

static int setup(void **state) {
  (void)state;
  snprintf(base, sizeof base, "/tmp/pl-watcher-XXXXXX");
  if (!mkdtemp(base))
    return -1;
  snprintf(root, sizeof root, "%s/app", base);
  bundle = pl__alloc_zero(BUNDLE_BYTES);
  pl__bundle_init(bundle, BUNDLE_BYTES);
  pl__bundle_begin(bundle, 1);
  now_ns = pl__clock_monotonic_ns();
  return mkdir(root, 0700);
}

static int teardown(void **state) {
  char command[128];

  (void)state;
  pl__watcher_close(&watcher);
  pl__free(bundle);
  snprintf(command, sizeof command, "rm -rf %s", base);
  return system(command);
}

/* With app.lua, loaded, and page.html, which was not. */
static void begin(bool polls) {
  write_file("app.lua", "return 1");
  write_file("page.html", "<p>");
  pl__watcher_open(&watcher, root, NULL, polls);
  load(at("app.lua"), "return 1");
  pl__bundle_publish(bundle);
  pl__watcher_add(&watcher, bundle);
}

/* What a turn tells that comes once all is at rest; time is ours. */
static uint32_t changes(void) {
  uint32_t told = pl__watcher_turn(&watcher, bundle, now_ns);

  now_ns += (int64_t)PL_WATCHER_POLL_MS * (int64_t)PL_NS_PER_MS;
  told |= pl__watcher_turn(&watcher, bundle, now_ns);
  now_ns += (int64_t)PL_WATCHER_BURST_MS * (int64_t)PL_NS_PER_MS;
  return told | pl__watcher_turn(&watcher, bundle, now_ns);
}

/* --- ways to save ------------------------------------------------------------------ */

static void save_in_place(void) { write_file("app.lua", "return 2"); }

/* vim, with 'backupcopy' at "no" and with 'writebackup'. */
static void save_as_vim(void) {
  write_file("4913", ""); /* may files be made here? */
  unlink(at("4913"));
  move("app.lua", "app.lua~");
  write_file("app.lua", "return 2");
  unlink(at("app.lua~"));
}

/* sed -i, and editors that write atomically. */
static void save_by_rename(void) {
  write_file("sedA1b2C3", "return 2");
  move("sedA1b2C3", "app.lua");
}

static void save_from_elsewhere(void) {
  char other[96];
  FILE *f;

  snprintf(other, sizeof other, "%s/other", base);
  f = fopen(other, "wb");
  assert_non_null(f);
  fputs("return 2", f);
  fclose(f);
  assert_int_equal(rename(other, at("app.lua")), 0);
}

static void save_anew(void) {
  unlink(at("app.lua"));
  write_file("app.lua", "return 2");
}

static void save_by_link(void) {
  write_file("blob", "return 2");
  unlink(at("app.lua"));
  assert_int_equal(link(at("blob"), at("app.lua")), 0);
}

static void (*const saves[])(void) = {save_in_place,       save_as_vim,
                                      save_by_rename,      save_anew,
                                      save_from_elsewhere, save_by_link};

static void see_each_save(bool polls) {
  begin(polls);
  for (size_t i = 0; i < sizeof saves / sizeof *saves; i++) {
    saves[i]();
    assert_int_equal(changes(), PL_CHANGE_CODE);
    save_in_place(); /* as it was loaded again */
    write_file("app.lua", "return 1");
    changes();
    assert_int_equal(changes(), 0);
  }
}

static void sees_files_however_they_are_saved(void **state) {
  (void)state;
  see_each_save(false);
}

static void sees_them_by_comparing_too(void **state) {
  (void)state;
  see_each_save(true);
  assert_int_equal(watcher.fd, -1);
}

/* --- what is no change ----------------------------------------------------------------- */

static void passes_a_touch_over(void **state) {
  (void)state;
  begin(false);
  utime(at("app.lua"), NULL);
  write_file("app.lua", "return 1");
  write_file("page.html", "<p>");
  assert_int_equal(changes(), 0);
}

static void passes_over_what_is_not_of_the_app(void **state) {
  (void)state;
  make_folder("spec");
  make_folder(".git");
  make_folder("node_modules");
  begin(false);
  write_file("spec/app_spec.lua", "1");
  write_file(".git/x.lua", "1");
  write_file("node_modules/x.js", "1");
  write_file(".app.lua.swp", "1");
  write_file("app.lua~", "1");
  write_file("notes.txt", "1");
  write_file("data.db", "1");
  make_folder("empty");
  make_folder(".hidden");
  assert_int_equal(changes(), 0);
}

static void sees_a_spec_that_was_loaded(void **state) {
  (void)state;
  make_folder("spec");
  write_file("spec/support.lua", "1");
  load(at("spec/support.lua"), "1");
  begin(false);
  write_file("spec/support.lua", "2");
  assert_int_equal(changes(), PL_CHANGE_CODE);
  write_file("spec/app_spec.lua", "1"); /* beside it */
  assert_int_equal(changes(), 0);
}

static void passes_our_own_modules_over(void **state) {
  (void)state;
  make_folder("own");
  write_file("own/x.lua", "1");
  write_file("app.lua", "return 1");
  pl__watcher_open(&watcher, root, at("own"), false);
  load(at("own/x.lua"), "1");
  pl__watcher_add(&watcher, bundle);
  write_file("own/x.lua", "2");
  assert_int_equal(changes(), 0);
  assert_true(pl__watcher_difference(&watcher, bundle) == 0);
}

/* --- kinds --------------------------------------------------------------------------- */

static void tells_kinds_apart(void **state) {
  (void)state;
  begin(false);
  write_file("page.html", "<b>");
  assert_int_equal(changes(), PL_CHANGE_CODE);
  write_file("style.css", "a{}");
  assert_int_equal(changes(), PL_CHANGE_STYLE);
  write_file("script.js", "1");
  assert_int_equal(changes(), PL_CHANGE_PAGE);
  unlink(at("style.css"));
  unlink(at("script.js"));
  assert_int_equal(changes(), PL_CHANGE_STYLE | PL_CHANGE_PAGE);
}

static void tells_them_apart_by_comparing_too(void **state) {
  (void)state;
  begin(true);
  assert_int_equal(changes(), 0);
  write_file("style.css", "a{}");
  assert_int_equal(changes(), PL_CHANGE_STYLE);
  make_folder("parts");
  write_file("parts/one.lua", "1");
  assert_int_equal(changes(), PL_CHANGE_CODE);
  unlink(at("style.css"));
  assert_int_equal(changes(), PL_CHANGE_STYLE);
  assert_int_equal(changes(), 0);
}

/* --- folders ------------------------------------------------------------------------- */

static void sees_files_in_folders_that_come_later(void **state) {
  (void)state;
  begin(false);
  make_folder("a");
  make_folder("a/b");
  write_file("a/b/c.lua", "1"); /* before we can have watched it */
  assert_int_equal(changes(), PL_CHANGE_CODE);
  write_file("a/b/c.lua", "2");
  assert_int_equal(changes(), PL_CHANGE_CODE);
}

static void sees_folders_that_take_the_place_of_others(void **state) {
  (void)state;
  make_folder("parts");
  write_file("parts/one.lua", "1");
  load(at("parts/one.lua"), "1");
  begin(false);
  move("parts", "old");
  make_folder("parts");
  write_file("parts/one.lua", "1");
  assert_int_equal(changes(), PL_CHANGE_CODE); /* old/one.lua is new */
  write_file("parts/one.lua", "2");
  assert_int_equal(changes(), PL_CHANGE_CODE);
  write_file("old/one.lua", "2"); /* watched under its new name */
  assert_int_equal(changes(), PL_CHANGE_CODE);
}

static void finds_the_root_again_when_it_was_away(void **state) {
  char away[96];

  (void)state;
  begin(false);
  snprintf(away, sizeof away, "%s/away", base);
  assert_int_equal(rename(root, away), 0);
  assert_int_equal(changes(), PL_CHANGE_CODE);
  assert_int_equal(changes(), 0); /* told once */
  assert_int_equal(mkdir(root, 0700), 0);
  write_file("app.lua", "return 3");
  assert_int_equal(changes(), PL_CHANGE_CODE);
  write_file("app.lua", "return 4");
  assert_int_equal(changes(), PL_CHANGE_CODE);
}

static void write_outside(const char *path, const char *text) {
  FILE *f = fopen(path, "wb");

  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

/* Loaded by a link that leads elsewhere: `name` to `target`.  `beside`: what a
 * file tells that comes there, and was not loaded. */
static void see_through(const char *target, const char *name,
                        const char *loaded, uint32_t beside) {
  char lib[96], file[128];

  snprintf(lib, sizeof lib, "%s/lib", base);
  snprintf(file, sizeof file, "%s/one.lua", lib);
  assert_int_equal(mkdir(lib, 0700), 0);
  write_outside(file, "1");
  assert_int_equal(symlink(target, at(name)), 0);
  load(at(loaded), "1");
  begin(false);
  assert_int_equal(changes(), 0);
  write_outside(file, "2");
  assert_int_equal(changes(), PL_CHANGE_CODE);
  write_outside(file, "1");
  changes();
  snprintf(file, sizeof file, "%s/two.lua", lib);
  write_outside(file, "1");
  assert_int_equal(changes(), beside);
}

static void sees_through_links_to_files(void **state) {
  (void)state;
  see_through("../lib/one.lua", "one.lua", "one.lua", 0);
}

static void sees_through_links_to_folders(void **state) {
  (void)state;
  /* All that lies there has a path in the app. */
  see_through("../lib", "all", "all/one.lua", PL_CHANGE_CODE);
}

static void sees_a_file_that_comes_as_a_link(void **state) {
  (void)state;
  write_file("blob", "1");
  begin(false);
  assert_int_equal(link(at("blob"), at("hard.lua")), 0);
  assert_int_equal(changes(), PL_CHANGE_CODE);
  assert_int_equal(symlink("blob", at("soft.lua")), 0);
  assert_int_equal(changes(), PL_CHANGE_CODE);
}

/* Times of some file systems are coarse. */
static void sees_a_change_that_times_do_not_tell(void **state) {
  struct stat st;

  (void)state;
  begin(true);
  assert_int_equal(stat(at("page.html"), &st), 0);
  write_file("page.html", "<b>");
  assert_int_equal(utimensat(AT_FDCWD, at("page.html"),
                             (struct timespec[]){st.st_atim, st.st_mtim}, 0),
                   0);
  assert_int_equal(changes(), PL_CHANGE_CODE);
}

/* --- limits --------------------------------------------------------------------------- */

static void looks_for_itself_when_events_were_lost(void **state) {
  (void)state;
  begin(false);
  for (int i = 0; i < QUEUE_ROUNDS; i++) {
    int fd = open(at(i % 2 ? "x" : "y"), O_CREAT | O_WRONLY, 0600);
    close(fd);
    unlink(at(i % 2 ? "x" : "y"));
  }
  write_file("page.html", "<b>");
  assert_int_equal(changes(), PL_CHANGE_CODE);
  assert_int_equal(changes(), 0);
}

static void compares_when_there_are_more_folders_than_watches(void **state) {
  char name[32];

  (void)state;
  for (unsigned i = 0; i <= PL_WATCHER_FOLDERS_MAX; i++) {
    snprintf(name, sizeof name, "f%03u", i);
    make_folder(name);
    snprintf(name, sizeof name, "f%03u/x.lua", i);
    write_file(name, "1");
  }
  begin(false);
  assert_true(watcher.is_deaf);
  assert_int_equal(watcher.folder_count, PL_WATCHER_FOLDERS_MAX);
  changes();
  for (unsigned i = 0; i <= PL_WATCHER_FOLDERS_MAX; i += 64) {
    snprintf(name, sizeof name, "f%03u/x.lua", i);
    write_file(name, "2");
    assert_int_equal(changes(), PL_CHANGE_CODE);
  }
}

static void waits_for_rest_but_not_for_ever(void **state) {
  const int64_t ms = (int64_t)PL_NS_PER_MS;
  int64_t begun_ns = now_ns;
  uint32_t told = 0;

  (void)state;
  begin(false);
  for (int i = 0; !told && i < 100; i++, now_ns += 5 * ms) {
    write_file("app.lua", i % 2 ? "return 3" : "return 4");
    told = pl__watcher_turn(&watcher, bundle, now_ns);
    if (!told)
      assert_true(pl__watcher_due(&watcher) > now_ns);
  }
  assert_in_range((uint64_t)((now_ns - begun_ns) / ms), PL_WATCHER_BURST_MS,
                  PL_WATCHER_BURST_MS + 10);
}

static void says_nothing_is_due_while_nothing_happens(void **state) {
  struct pollfd fd;

  (void)state;
  begin(false);
  assert_int_equal(changes(), 0);
  assert_true(pl__watcher_due(&watcher) == 0);
  fd = (struct pollfd){.fd = watcher.fd, .events = POLLIN};
  assert_int_equal(poll(&fd, 1, 0), 0);
  write_file("app.lua", "return 2");
  assert_int_equal(poll(&fd, 1, 1000), 1);
}

/* --- what was loaded -------------------------------------------------------------------- */

static void knows_a_difference_from_another(void **state) {
  uint64_t one, two;

  (void)state;
  begin(false);
  assert_true(pl__watcher_difference(&watcher, bundle) == 0);
  write_file("app.lua", "return 2");
  one = pl__watcher_difference(&watcher, bundle);
  assert_true(one != 0);
  assert_true(pl__watcher_difference(&watcher, bundle) == one);
  write_file("app.lua", "return 3");
  two = pl__watcher_difference(&watcher, bundle);
  assert_true(two != 0 && two != one);
  unlink(at("app.lua"));
  assert_true(pl__watcher_difference(&watcher, bundle) != two);
  write_file("app.lua", "return 1");
  assert_true(pl__watcher_difference(&watcher, bundle) == 0);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      CASE(sees_files_however_they_are_saved),
      CASE(sees_them_by_comparing_too),
      CASE(passes_a_touch_over),
      CASE(passes_over_what_is_not_of_the_app),
      CASE(sees_a_spec_that_was_loaded),
      CASE(passes_our_own_modules_over),
      CASE(tells_kinds_apart),
      CASE(tells_them_apart_by_comparing_too),
      CASE(sees_files_in_folders_that_come_later),
      CASE(sees_folders_that_take_the_place_of_others),
      CASE(finds_the_root_again_when_it_was_away),
      CASE(sees_through_links_to_files),
      CASE(sees_through_links_to_folders),
      CASE(sees_a_file_that_comes_as_a_link),
      CASE(sees_a_change_that_times_do_not_tell),
      CASE(looks_for_itself_when_events_were_lost),
      CASE(compares_when_there_are_more_folders_than_watches),
      CASE(waits_for_rest_but_not_for_ever),
      CASE(says_nothing_is_due_while_nothing_happens),
      CASE(knows_a_difference_from_another),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
