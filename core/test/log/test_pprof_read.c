/* test/log/test_pprof_read.c - profiles that were written are read back; what is
 * none of ours is refused, whatever it is. */
#include "log/pprof_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "log/gzip.h"
#include "log/pprof.h"

static struct pl_buf file, out;
static struct pl_flame flame;
static struct pl_pprof_read told;

static const struct pl_symbol inner = {.chunk = {"@/srv/app.lua", 13},
                                       .name = {"inner", 5},
                                       .first_line = 1,
                                       .line = 2,
                                       .kind = PL_SYMBOL_LUA};
static const struct pl_symbol outer = {.chunk = {"@/srv/app.lua", 13},
                                       .name = {"outer", 5},
                                       .first_line = 4,
                                       .line = 5,
                                       .kind = PL_SYMBOL_LUA};

static void write(void) {
  static const struct pl_pprof_type types[] = {{"inuse_objects", "count"},
                                               {"inuse_space", "bytes"}};
  struct pl_pprof_options options = {.types = types, .type_count = 2};
  struct pl_pprof_label label = {.key = "kind", .text = PL_SLICE("lua")};
  uint64_t at[2];
  struct pl_pprof p;

  pl__pprof_begin(&p, &options);
  at[0] = pl__pprof_location(&p, &inner);
  at[1] = pl__pprof_location(&p, &outer);
  pl__pprof_sample(&p, at, 2, (int64_t[]){3, 4096}, &label, 1);
  pl__pprof_sample(&p, at + 1, 1, (int64_t[]){1, 100}, &label, 1);
  pl__pprof_sample(&p, at + 1, 1, (int64_t[]){-1, -100}, &label, 1);
  assert_int_equal(0, pl__pprof_end(&p, &file));
}

static int begin(void **state) {
  (void)state;
  pl__buf_init(&file, NULL, 1 << 20);
  pl__buf_init(&out, NULL, 1 << 20);
  write();
  return pl__flame_open(&flame);
}

static int end(void **state) {
  (void)state;
  pl__flame_close(&flame);
  pl__buf_release(&file);
  pl__buf_release(&out);
  return 0;
}

static int read_it(void) {
  return pl__pprof_read(pl__slice(file.at, file.bytes), &flame, &told);
}

static void what_was_written_is_read(void **state) {
  (void)state;
  assert_int_equal(0, read_it());
  assert_string_equal("inuse_space", told.type);
  assert_string_equal("bytes", told.unit);
  assert_int_equal(0, pl__flame_folded(&flame, &out));
  assert_int_equal(0, pl__buf_append(&out, "", 1));
  assert_string_equal("outer app.lua:4 100\n"
                      "outer app.lua:4;inner app.lua:1 4096\n",
                      out.at);
}

static void what_is_no_gzip_or_not_whole_is_refused(void **state) {
  (void)state;
  file.bytes--;
  assert_int_equal(PL_EBAD, read_it());
  file.at[0] = 'x';
  assert_int_equal(PL_EBAD, read_it());
  file.bytes = 0;
  assert_int_equal(PL_EBAD, read_it());
}

/* Every byte of a profile, changed: an error or other numbers, no more. */
static void broken_profiles_are_survived(void **state) {
  struct pl_buf plain;

  (void)state;
  pl__buf_init(&plain, NULL, 1 << 20);
  assert_int_equal(0, pl__gunzip(pl__slice(file.at, file.bytes), &plain));
  for (uint32_t i = 0; i < plain.bytes * 8; i++) {
    plain.at[i / 8] = (char)(plain.at[i / 8] ^ 1 << i % 8);
    file.bytes = 0;
    assert_int_equal(0, pl__gzip(pl__slice(plain.at, plain.bytes), &file));
    read_it();
    plain.at[i / 8] = (char)(plain.at[i / 8] ^ 1 << i % 8);
  }
  pl__buf_release(&plain);
}

static void no_memory_is_told(void **state) {
  int failed = PL_ENOMEM;

  (void)state;
  for (uint64_t n = 1; failed; n++) {
    assert_true(n < 100);
    pl__alloc_fail_after(n, false);
    failed = read_it();
    if (failed)
      assert_int_equal(PL_ENOMEM, failed);
  }
  pl__alloc_fail_after(0, false);
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(what_was_written_is_read),
      test(what_is_no_gzip_or_not_whole_is_refused),
      test(broken_profiles_are_survived),
      test(no_memory_is_told),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
