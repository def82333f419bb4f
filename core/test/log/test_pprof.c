/* test/log/test_pprof.c - profiles as pprof reads them.  That pprof does read
 * them is for spec/system/profile_spec.lua to show; here: what is written once,
 * and names. */
#include "log/pprof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <zlib.h>

#include "base/alloc.h"
#include "base/err.h"

static struct pl_buf out;
static struct pl_pprof p;

static const struct pl_pprof_type types[] = {{"samples", "count"},
                                             {"cpu", "nanoseconds"}};
static const struct pl_pprof_options options = {
    .types = types,
    .type_count = 2,
    .period_type = {"cpu", "nanoseconds"},
    .period = 4000000,
    .time_ns = 1,
    .duration_ns = 2};

static int begin(void **state) {
  (void)state;
  pl__buf_init(&out, NULL, 1 << 20);
  assert_int_equal(0, pl__pprof_begin(&p, &options));
  return 0;
}

static int end(void **state) {
  (void)state;
  pl__buf_release(&out);
  return 0;
}

static const struct pl_symbol sum = {.chunk = {"@/srv/app.lua", 13},
                                     .name = {"sum", 3},
                                     .first_line = 10,
                                     .line = 12,
                                     .kind = PL_SYMBOL_LUA};

static const char *name_of(struct pl_symbol s) {
  static char name[PL_PPROF_NAME_BYTES + 1];
  struct pl_slice made = pl__pprof_name(&s, name);

  if (made.at != name)
    memcpy(name, made.at, made.bytes);
  name[made.bytes] = '\0';
  return name;
}

/* Unpacks the file; returns how often `text` is in it. */
static int count_of(const char *text, uint32_t bytes) {
  static unsigned char plain[1 << 20];
  z_stream z = {.next_in = (Bytef *)out.at,
                .avail_in = out.bytes,
                .next_out = plain,
                .avail_out = sizeof plain};
  int n = 0;

  assert_int_equal(Z_OK, inflateInit2(&z, 15 + 16));
  assert_int_equal(Z_STREAM_END, inflate(&z, Z_FINISH));
  inflateEnd(&z);
  for (uLong i = 0; i + bytes <= z.total_out; i++)
    n += !memcmp(plain + i, text, bytes);
  return n;
}

static void what_repeats_is_written_once(void **state) {
  struct pl_pprof_label label = {.key = "route", .text = PL_SLICE("GET /")};
  int64_t values[] = {1, 4000000};
  uint64_t at = pl__pprof_location(&p, &sum), other;
  struct pl_symbol next = sum;

  (void)state;
  next.line = 13;
  other = pl__pprof_location(&p, &next);
  assert_int_equal(1, at);
  assert_int_equal(2, other);
  for (int i = 0; i < 1000; i++) {
    assert_int_equal(at, pl__pprof_location(&p, &sum));
    pl__pprof_sample(&p, &at, 1, values, &label, 1);
  }
  assert_int_equal(0, pl__pprof_end(&p, &out));
  assert_int_equal(1, count_of("sum app.lua:10", 14));
  assert_int_equal(1, count_of("/srv/app.lua", 12));
  assert_int_equal(1, count_of("GET /", 5));
  assert_int_equal(1, count_of("nanoseconds", 11));
}

static void many_places_have_numbers_of_their_own(void **state) {
  struct pl_symbol s = sum;

  (void)state;
  for (uint32_t i = 1; i <= 20000; i++) {
    s.line = i;
    s.first_line = i / 10;
    assert_int_equal(i, pl__pprof_location(&p, &s));
  }
  s.line = 5;
  s.first_line = 0;
  assert_int_equal(5, pl__pprof_location(&p, &s));
  assert_int_equal(0, pl__pprof_end(&p, &out));
}

static void names_say_what_and_where(void **state) {
  (void)state;
  pl__pprof_drop(&p);
  assert_string_equal("sum app.lua:10", name_of(sum));
  assert_string_equal("app.lua:10", name_of((struct pl_symbol){
                                        .chunk = sum.chunk, .first_line = 10}));
  assert_string_equal("gsub",
                      name_of((struct pl_symbol){.chunk = PL_SLICE("=[C]"),
                                                 .name = PL_SLICE("gsub"),
                                                 .kind = PL_SYMBOL_C}));
  assert_string_equal("?", name_of((struct pl_symbol){.kind = PL_SYMBOL_C}));
  assert_string_equal(
      "route GET /notes/:id",
      name_of((struct pl_symbol){.chunk = PL_SLICE("=route GET /notes/:id")}));
}

static void names_are_fit_for_every_format(void **state) {
  char text[1000];

  (void)state;
  pl__pprof_drop(&p);
  assert_string_equal(
      "a?b?c?d\xc3\xa9? x",
      name_of((struct pl_symbol){.name = PL_SLICE("a;b\nc\x80"
                                                  "d\xc3\xa9\xc3"),
                                 .chunk = PL_SLICE("=x")}));
  memset(text, 'x', sizeof text);
  assert_true(strlen(name_of((struct pl_symbol){.name = {text, sizeof text},
                                                .chunk = {"@y.lua", 6},
                                                .first_line = UINT32_MAX})) <
              PL_PPROF_NAME_BYTES);
}

static void no_memory_is_told_at_the_end(void **state) {
  int failed = PL_ENOMEM;

  (void)state;
  pl__pprof_drop(&p);
  for (uint64_t n = 1; failed; n++) {
    int64_t values[] = {1, 2};
    uint64_t at;

    assert_true(n < 100);
    out.bytes = 0;
    pl__alloc_fail_after(n, false);
    pl__pprof_begin(&p, &options);
    at = pl__pprof_location(&p, &sum);
    pl__pprof_sample(&p, &at, 1, values, NULL, 0);
    failed = pl__pprof_end(&p, &out);
    if (failed)
      assert_int_equal(PL_ENOMEM, failed);
  }
  pl__alloc_fail_after(0, false);
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(what_repeats_is_written_once),
      test(many_places_have_numbers_of_their_own),
      test(names_say_what_and_where),
      test(names_are_fit_for_every_format),
      test(no_memory_is_told_at_the_end),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
