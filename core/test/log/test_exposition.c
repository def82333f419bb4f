/* test/log/test_exposition.c - metrics as text, in both formats. */
#include "log/exposition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define WORKERS 2u
#define SHARDS_BYTES ((WORKERS + PL_METRICS_OTHERS) * sizeof(struct pl_shard))

static struct pl_metrics metrics;
static struct pl_buf out;
static uint64_t self;

static void *map(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static int begin(void **state) {
  (void)state;
  metrics.table = map(sizeof *metrics.table);
  metrics.shards = map(SHARDS_BYTES);
  metrics.worker_count = WORKERS;
  self = pl__lock_self();
  pl__metrics_init(metrics.table, 100);
  for (uint32_t i = 0; i < WORKERS; i++)
    pl__metrics_begin(metrics.table, &metrics.shards[i]);
  pl__buf_init(&out, NULL, 1u << 20);
  return 0;
}

static int end(void **state) {
  (void)state;
  pl__buf_release(&out);
  munmap(metrics.shards, SHARDS_BYTES);
  return munmap(metrics.table, sizeof *metrics.table);
}

static uint32_t series(const char *name, const char *help,
                       enum pl_metric_kind kind, enum pl_metric_merge merge,
                       const char *a) {
  struct pl_metric m = {.name = pl__slice(name, strlen(name)),
                        .help = pl__slice(help, strlen(help)),
                        .kind = kind,
                        .merge = merge};
  struct pl_slice label = PL_SLICE("a");
  struct pl_slice value = a ? pl__slice(a, strlen(a)) : PL_SLICE("");
  uint32_t family;

  assert_int_equal(pl__metrics_family(metrics.table, self, &m, &family), 0);
  return pl__metrics_series(metrics.table, self, family, &label, &value,
                            a != NULL, NULL);
}

static const char *expose(enum pl_exposition_format format) {
  struct pl_exposition e;

  out.bytes = 0;
  pl__exposition_begin(&e, format, &out);
  pl__exposition_metrics(&e, &metrics);
  assert_int_equal(pl__exposition_end(&e), 0);
  assert_int_equal(pl__buf_append(&out, "", 1), 0);
  return out.at;
}

static void assert_has(const char *text, const char *line) {
  if (!strstr(text, line))
    fail_msg("no %s in:\n%s", line, text);
}

static void adds_up_what_workers_have_counted(void **state) {
  uint32_t x = series("x_total", "Xs.", PL_METRIC_COUNTER, PL_MERGE_SUM, NULL);

  (void)state;
  pl__shard_add(&metrics.shards[0], x, 1);
  pl__shard_add(&metrics.shards[1], x, 2.5);
  assert_string_equal(expose(PL_EXPOSITION_PROMETHEUS),
                      "# HELP x_total Xs.\n# TYPE x_total counter\n"
                      "x_total 3.5\n");
  assert_string_equal(expose(PL_EXPOSITION_OPENMETRICS),
                      "# HELP x Xs.\n# TYPE x counter\nx_total 3.5\n# EOF\n");
}

static void
keeps_what_a_dead_worker_has_counted_but_not_its_gauges(void **state) {
  uint32_t x = series("x_total", "Xs.", PL_METRIC_COUNTER, PL_MERGE_SUM, NULL);
  uint32_t g = series("g", "Gs.", PL_METRIC_GAUGE, PL_MERGE_SUM, NULL);

  (void)state;
  for (uint32_t i = 0; i < WORKERS; i++) {
    pl__shard_add(&metrics.shards[i], x, 4);
    pl__shard_set(&metrics.shards[i], g, 4);
  }
  pl__shard_leave(&metrics.shards[0]);
  assert_has(expose(PL_EXPOSITION_PROMETHEUS), "\nx_total 8\n");
  assert_has(out.at, "\ng 4\n");
}

static void takes_the_largest_or_shows_each(void **state) {
  struct pl_shard *master = &metrics.shards[WORKERS + PL_METRICS_MASTER];
  uint32_t most = series("most", "M.", PL_METRIC_GAUGE, PL_MERGE_MAX, NULL);
  uint32_t each = series("each", "E.", PL_METRIC_GAUGE, PL_MERGE_EACH, "v");
  uint32_t all =
      series("all_total", "A.", PL_METRIC_COUNTER, PL_MERGE_EACH, NULL);

  (void)state;
  for (uint32_t i = 0; i < WORKERS; i++) {
    pl__shard_set(&metrics.shards[i], most, -1.0 - i);
    pl__shard_set(&metrics.shards[i], each, i);
    pl__shard_add(&metrics.shards[i], all, i);
  }
  assert_has(expose(PL_EXPOSITION_PROMETHEUS), "\nmost -1\n");
  assert_has(out.at, "\neach{a=\"v\",worker=\"0\"} 0\n"
                     "each{a=\"v\",worker=\"1\"} 1\n");
  assert_has(out.at, "\nall_total{worker=\"0\"} 0\n"
                     "all_total{worker=\"1\"} 1\n");
  pl__metrics_begin(metrics.table, master);
  assert_null(strstr(expose(PL_EXPOSITION_PROMETHEUS), "master"));
  assert_has(out.at, "\nmost -1\n"); /* the master has none */
  pl__shard_add(master, all, 5);
  assert_has(expose(PL_EXPOSITION_PROMETHEUS),
             "\nall_total{worker=\"master\"} 5\n");
}

static void brings_the_series_of_a_family_together(void **state) {
  (void)state;
  series("x_total", "Xs.", PL_METRIC_COUNTER, PL_MERGE_SUM, "1");
  series("y_total", "Ys.", PL_METRIC_COUNTER, PL_MERGE_SUM, "1");
  series("x_total", "Xs.", PL_METRIC_COUNTER, PL_MERGE_SUM, "2");
  assert_string_equal(expose(PL_EXPOSITION_PROMETHEUS),
                      "# HELP x_total Xs.\n# TYPE x_total counter\n"
                      "x_total{a=\"1\"} 0\nx_total{a=\"2\"} 0\n"
                      "# HELP y_total Ys.\n# TYPE y_total counter\n"
                      "y_total{a=\"1\"} 0\n");
}

static void writes_numbers_so_that_they_read_back(void **state) {
  static const double numbers[] = {0,
                                   1,
                                   -1,
                                   0.1,
                                   0.25,
                                   1e-9,
                                   1e-10,
                                   1.0 / 3,
                                   2.0 / 3,
                                   123.456,
                                   1e21,
                                   -1e-300,
                                   4e6 + 0.5,
                                   1e15 + 0.5,
                                   0x1p53,
                                   0.30000000000000004,
                                   3999999.999999999,
                                   9007199254740993.0};
  uint32_t g = series("g", "G.", PL_METRIC_GAUGE, PL_MERGE_SUM, NULL);
  double read;

  (void)state;
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    pl__shard_set(&metrics.shards[0], g, numbers[i]);
    assert_int_equal(sscanf(strstr(expose(PL_EXPOSITION_PROMETHEUS), "\ng "),
                            " g %lf", &read),
                     1);
    assert_true(read == numbers[i]);
  }
  pl__shard_set(&metrics.shards[0], g, NAN);
  assert_has(expose(PL_EXPOSITION_PROMETHEUS), "\ng NaN\n");
  pl__shard_set(&metrics.shards[0], g, -INFINITY);
  assert_has(expose(PL_EXPOSITION_PROMETHEUS), "\ng -Inf\n");
}

static void shows_histograms_at_powers_of_two(void **state) {
  uint32_t h =
      series("h_seconds", "H.", PL_METRIC_HISTOGRAM, PL_MERGE_SUM, "v");

  (void)state;
  pl__shard_record(&metrics.shards[0], h, 0.25);
  pl__shard_record(&metrics.shards[1], h, 0.2500001);
  pl__shard_record(&metrics.shards[1], h, 1000);
  pl__shard_record(&metrics.shards[1], h, 0);
  expose(PL_EXPOSITION_PROMETHEUS);
  assert_has(out.at, "# TYPE h_seconds histogram\n"
                     "h_seconds_bucket{a=\"v\",le=\"6.103515625e-05\"} 1\n");
  assert_has(out.at, "\nh_seconds_bucket{a=\"v\",le=\"0.125\"} 1\n"
                     "h_seconds_bucket{a=\"v\",le=\"0.25\"} 2\n"
                     "h_seconds_bucket{a=\"v\",le=\"0.5\"} 3\n"
                     "h_seconds_bucket{a=\"v\",le=\"1.0\"} 3\n");
  assert_has(out.at, "\nh_seconds_bucket{a=\"v\",le=\"32.0\"} 3\n"
                     "h_seconds_bucket{a=\"v\",le=\"+Inf\"} 4\n"
                     "h_seconds_sum{a=\"v\"} 1000.5000001\n"
                     "h_seconds_count{a=\"v\"} 4\n");
  assert_null(strstr(out.at, "UNIT"));
  assert_has(expose(PL_EXPOSITION_OPENMETRICS), "\n# UNIT h_seconds seconds\n");
}

static void cuts_bytes_and_others_elsewhere(void **state) {
  (void)state;
  series("h_bytes", "H.", PL_METRIC_HISTOGRAM, PL_MERGE_SUM, NULL);
  series("other", "H.", PL_METRIC_HISTOGRAM, PL_MERGE_SUM, NULL);
  expose(PL_EXPOSITION_PROMETHEUS);
  assert_has(out.at, "\nh_bytes_bucket{le=\"64.0\"} 0\n"
                     "h_bytes_bucket{le=\"256.0\"} 0\n");
  assert_has(out.at, "\nh_bytes_bucket{le=\"268435456.0\"} 0\n"
                     "h_bytes_bucket{le=\"+Inf\"} 0\n");
  assert_has(out.at, "\nother_bucket{le=\"0.0009765625\"} 0\n"
                     "other_bucket{le=\"0.00390625\"} 0\n");
  assert_has(out.at, "\nother_bucket{le=\"1048576.0\"} 0\n");
}

static void example(uint32_t worker, uint32_t h, double number,
                    struct pl_origin origin) {
  pl__example_put(pl__shard_record(&metrics.shards[worker], h, number), number,
                  &origin);
}

static void adds_the_latest_examples_in_openmetrics(void **state) {
  uint32_t h =
      series("h_seconds", "H.", PL_METRIC_HISTOGRAM, PL_MERGE_SUM, NULL);

  (void)state;
  example(0, h, 0.2, (struct pl_origin){.now = 1700000000.5, .request_id = 1});
  example(1, h, 0.24, (struct pl_origin){.now = 1700000001, .request_id = 2});
  example(1, h, 3,
          (struct pl_origin){.now = 1700000002.125, .trace = {0xabc, 0xdef}});
  expose(PL_EXPOSITION_OPENMETRICS);
  assert_has(out.at, "\nh_seconds_bucket{le=\"0.25\"} 2 # "
                     "{request_id=\"0000000000000002\"} 0.24 1700000001.0\n"
                     "h_seconds_bucket{le=\"0.5\"} 2\n");
  assert_has(out.at,
             "\nh_seconds_bucket{le=\"4.0\"} 3 # {trace_id="
             "\"0000000000000abc0000000000000def\"} 3 1700000002.125\n");
  assert_null(strstr(expose(PL_EXPOSITION_PROMETHEUS), " # "));
}

static void escapes_help(void **state) {
  (void)state;
  series("g", "a\\b \"c\"\nd", PL_METRIC_GAUGE, PL_MERGE_SUM, NULL);
  assert_has(expose(PL_EXPOSITION_PROMETHEUS), "# HELP g a\\\\b \"c\"\\nd\n");
  assert_has(expose(PL_EXPOSITION_OPENMETRICS),
             "# HELP g a\\\\b \\\"c\\\"\\nd\n");
}

/* Parsers refuse a unit that is no word of its own. */
static void names_units_that_are_words(void **state) {
  (void)state;
  series("a_seconds", "As.", PL_METRIC_GAUGE, PL_MERGE_SUM, NULL);
  series("b_milliseconds", "Bs.", PL_METRIC_GAUGE, PL_MERGE_SUM, NULL);
  series("c_kilobytes_total", "Cs.", PL_METRIC_COUNTER, PL_MERGE_SUM, NULL);
  assert_has(expose(PL_EXPOSITION_OPENMETRICS), "\n# UNIT a_seconds seconds\n");
  assert_null(strstr(out.at, "# UNIT b"));
  assert_null(strstr(out.at, "# UNIT c"));
}

static void tells_how_often_there_was_no_room(void **state) {
  char value[16];

  (void)state;
  for (int i = 0; i < 103; i++) {
    snprintf(value, sizeof value, "%d", i);
    series("x_total", "Xs.", PL_METRIC_COUNTER, PL_MERGE_SUM, value);
  }
  expose(PL_EXPOSITION_PROMETHEUS);
  assert_has(out.at, "\nx_total{a=\"other\"} 0\n");
  assert_has(out.at,
             "\nperilune_metrics_refused_total{metric=\"x_total\"} 3\n");
}

static void takes_families_of_the_caller(void **state) {
  struct pl_exposition e;

  (void)state;
  pl__exposition_begin(&e, PL_EXPOSITION_OPENMETRICS, &out);
  pl__exposition_head(&e, "none", "Without samples.", PL_METRIC_GAUGE);
  pl__exposition_head(&e, "a_total", "As.", PL_METRIC_COUNTER);
  pl__exposition_sample(&e, "x=\"1\"", 2);
  pl__exposition_sample(&e, "", 3);
  pl__exposition_head(&e, "none", "Without samples.", PL_METRIC_GAUGE);
  assert_int_equal(pl__exposition_end(&e), 0);
  assert_int_equal(pl__buf_append(&out, "", 1), 0);
  assert_string_equal(out.at, "# HELP a As.\n# TYPE a counter\n"
                              "a_total{x=\"1\"} 2\na_total 3\n# EOF\n");
}

static void stops_at_the_limit_of_the_buffer(void **state) {
  struct pl_exposition e;
  struct pl_buf small;

  (void)state;
  series("h", "H.", PL_METRIC_HISTOGRAM, PL_MERGE_SUM, NULL);
  pl__buf_init(&small, NULL, 512);
  pl__exposition_begin(&e, PL_EXPOSITION_OPENMETRICS, &small);
  pl__exposition_metrics(&e, &metrics);
  pl__exposition_sample(&e, "", 1);
  assert_int_equal(pl__exposition_end(&e), PL_EFULL);
  pl__buf_release(&small);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(adds_up_what_workers_have_counted),
      FACT(keeps_what_a_dead_worker_has_counted_but_not_its_gauges),
      FACT(takes_the_largest_or_shows_each),
      FACT(brings_the_series_of_a_family_together),
      FACT(writes_numbers_so_that_they_read_back),
      FACT(shows_histograms_at_powers_of_two),
      FACT(cuts_bytes_and_others_elsewhere),
      FACT(adds_the_latest_examples_in_openmetrics),
      FACT(escapes_help),
      FACT(names_units_that_are_words),
      FACT(tells_how_often_there_was_no_room),
      FACT(takes_families_of_the_caller),
      FACT(stops_at_the_limit_of_the_buffer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
