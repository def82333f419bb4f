/* test/fabric/test_metrics.c - families and series, their limits, several
 * processes that make them at once, and what shards keep.
 */
#include "fabric/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERIES_MAX 100u
#define SHARDS 2u

static struct pl_metrics_table *table;
static struct pl_shard *shards;
static uint64_t self;

static void *map(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static int begin(void **state) {
  (void)state;
  table = map(sizeof *table);
  shards = map(SHARDS * sizeof *shards);
  self = pl__lock_self();
  if (!table || !shards)
    return 1;
  pl__metrics_init(table, SERIES_MAX);
  return 0;
}

static int end(void **state) {
  (void)state;
  munmap(shards, SHARDS * sizeof *shards);
  return munmap(table, sizeof *table);
}

static int open_family(const char *name, enum pl_metric_kind kind,
                       uint32_t *out) {
  struct pl_metric m = {.name = pl__slice(name, strlen(name)),
                        .help = PL_SLICE("Help."),
                        .kind = kind};
  return pl__metrics_family(table, self, &m, out);
}

static uint32_t family_of(const char *name, enum pl_metric_kind kind) {
  uint32_t family = UINT32_MAX;

  assert_int_equal(open_family(name, kind, &family), 0);
  return family;
}

/* The cell of a series with the one label `a`. */
static uint32_t series_of(uint32_t family, const char *value, bool *is_own) {
  struct pl_slice name = PL_SLICE("a");
  struct pl_slice v = pl__slice(value, strlen(value));

  return pl__metrics_series(table, self, family, &name, &v, 1, is_own);
}

static struct pl_slice labels_of(uint32_t cell) {
  for (uint32_t i = 0; i < pl__metrics_series_count(table); i++)
    if (table->series[i].cell == cell)
      return pl__slice(table->text + table->series[i].text_at,
                       table->series[i].text_bytes);
  return PL_SLICE("no such series");
}

static void assert_labels(uint32_t cell, const char *text) {
  struct pl_slice s = labels_of(cell);

  assert_int_equal(s.bytes, strlen(text));
  assert_memory_equal(s.at, text, s.bytes);
}

/* --- names ------------------------------------------------------------------ */

static void finds_a_family_again_and_refuses_another_kind(void **state) {
  uint32_t a = family_of("a_total", PL_METRIC_COUNTER), other;

  (void)state;
  assert_int_equal(family_of("a_total", PL_METRIC_COUNTER), a);
  assert_int_not_equal(family_of("b_total", PL_METRIC_COUNTER), a);
  /* One name in OpenMetrics. */
  assert_int_equal(open_family("a", PL_METRIC_GAUGE, &other), PL_ECONFLICT);
  assert_int_equal(other, a);
  assert_int_equal(open_family("ab", PL_METRIC_GAUGE, &other), 0);
}

static void takes_names_that_can_be_shown(void **state) {
  static const char *const bad[] = {"",        "1a",       "a-b",      "a b",
                                    "a.b",     "a\n",      "a_bucket", "a_sum",
                                    "a_count", "\xc3\xa4", "a_created"};
  char longest[PL_METRICS_NAME_BYTES + 1];
  uint32_t family;

  (void)state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(open_family(bad[i], PL_METRIC_GAUGE, &family), PL_EINVAL);
  assert_int_equal(open_family("a", PL_METRIC_COUNTER, &family), PL_EINVAL);
  assert_int_equal(open_family("a_total", PL_METRIC_HISTOGRAM, &family),
                   PL_EINVAL);
  assert_int_equal(open_family("_total", PL_METRIC_COUNTER, &family),
                   PL_EINVAL);
  memset(longest, 'a', sizeof longest);
  longest[PL_METRICS_NAME_BYTES] = '\0';
  assert_int_equal(open_family(longest, PL_METRIC_GAUGE, &family), PL_EINVAL);
  longest[PL_METRICS_NAME_BYTES - 1] = '\0';
  assert_int_equal(open_family(longest, PL_METRIC_GAUGE, &family), 0);
  assert_true(pl__metric_is_label(PL_SLICE("method")));
  assert_false(pl__metric_is_label(PL_SLICE("le")));
  assert_false(pl__metric_is_label(PL_SLICE("__name__")));
  assert_false(pl__metric_is_label(PL_SLICE("a-b")));
  assert_false(pl__metric_is_label(PL_SLICE("")));
}

static void writes_labels_as_exposition_has_them(void **state) {
  uint32_t f = family_of("a", PL_METRIC_GAUGE);
  struct pl_slice names[] = {PL_SLICE("one"), PL_SLICE("two")};
  struct pl_slice values[] = {PL_SLICE("x\"y\\z\n"), PL_SLICE("")};
  char longest[1000];

  (void)state;
  assert_labels(pl__metrics_series(table, self, f, names, values, 2, NULL),
                "one=\"x\\\"y\\\\z\\n\",two=\"\"");
  assert_labels(pl__metrics_series(table, self, f, NULL, NULL, 0, NULL), "");
  assert_labels(
      series_of(f, "\xff\xc3\xa4\xed\xa0\x80", NULL),
      "a=\"\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
  memset(longest, 'v', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  assert_int_equal(labels_of(series_of(f, longest, NULL)).bytes,
                   PL_METRICS_VALUE_BYTES + 4);
  assert_labels(pl__metrics_series(table, self, f, names,
                                   &(struct pl_slice){"a\0b", 3}, 1, NULL),
                "one=\"a\xef\xbf\xbd"
                "b\"");
}

static void keeps_help_that_parsers_take(void **state) {
  struct pl_metric m = {.name = PL_SLICE("a"), .kind = PL_METRIC_GAUGE};
  char longest[PL_METRICS_HELP_BYTES + 2];
  const struct pl_metric_family *f = &table->families[0];
  uint32_t family;

  (void)state;
  m.help = (struct pl_slice){"\xff a\0b \xc3", 7};
  assert_int_equal(pl__metrics_family(table, self, &m, &family), 0);
  assert_int_equal(f->help_bytes, 13);
  assert_memory_equal(table->text + f->help_at,
                      "\xef\xbf\xbd a\xef\xbf\xbd"
                      "b \xef\xbf\xbd",
                      13);
  /* Cut between characters. */
  memset(longest, 'h', sizeof longest);
  memcpy(longest + PL_METRICS_HELP_BYTES - 1, "\xc3\xa4", 2);
  m.name = PL_SLICE("b");
  m.help = pl__slice(longest, sizeof longest);
  assert_int_equal(pl__metrics_family(table, self, &m, &family), 0);
  assert_int_equal(f[1].help_bytes, PL_METRICS_HELP_BYTES - 1);
}

/* --- series ------------------------------------------------------------------ */

static void gives_each_set_of_labels_its_own_cell(void **state) {
  uint32_t f = family_of("a_total", PL_METRIC_COUNTER);
  uint32_t g = family_of("b_total", PL_METRIC_COUNTER);
  uint32_t x = series_of(f, "x", NULL);

  (void)state;
  assert_int_equal(series_of(f, "x", NULL), x);
  assert_int_not_equal(series_of(f, "y", NULL), x);
  assert_int_not_equal(series_of(g, "x", NULL), x);
  assert_true(x >= PL_SHARD_HEAD_CELLS);
}

static void counts_together_what_is_past_the_limit(void **state) {
  uint32_t f = family_of("a_total", PL_METRIC_COUNTER);
  uint32_t g = family_of("b_total", PL_METRIC_COUNTER), other;
  char value[16];
  bool is_own;

  (void)state;
  for (uint32_t i = 0; i < SERIES_MAX; i++) {
    snprintf(value, sizeof value, "v%u", i);
    series_of(f, value, &is_own);
    assert_true(is_own);
  }
  other = series_of(f, "one more", &is_own);
  assert_false(is_own);
  assert_labels(other, "a=\"other\"");
  assert_int_equal(series_of(f, "and another", &is_own), other);
  assert_int_equal(table->families[f].refused, 2);
  series_of(f, "v7", &is_own);
  assert_true(is_own);
  series_of(g, "one more", &is_own);
  assert_true(is_own);
}

static void has_ten_thousand_series_and_then_counts_nowhere(void **state) {
  char name[32], value[16];
  uint32_t cells = 0;
  bool is_own = true;

  (void)state;
  table->series_max = 5000;
  for (uint32_t i = 0; is_own; i++) {
    snprintf(name, sizeof name, "m%u_total", i / 5000);
    snprintf(value, sizeof value, "%u", i);
    series_of(family_of(name, PL_METRIC_COUNTER), value, &is_own);
    cells += is_own;
  }
  assert_int_equal(cells, PL_SHARD_SERIES_MAX);
  assert_true(cells > 10000);
  assert_int_equal(
      series_of(family_of("new_total", PL_METRIC_COUNTER), "x", &is_own),
      PL_SHARD_NOWHERE);
  pl__shard_add(shards, PL_SHARD_NOWHERE, 1); /* harms nobody */
}

static void has_a_limit_of_histograms(void **state) {
  uint32_t f = family_of("h", PL_METRIC_HISTOGRAM), cell;
  char value[16];
  bool is_own = true;

  (void)state;
  table->families[f].series_max = PL_SHARD_SERIES_MAX;
  for (uint32_t i = 0; is_own; i++) {
    snprintf(value, sizeof value, "%u", i);
    cell = series_of(f, value, &is_own);
    assert_true(cell + PL_SHARD_HEAD_CELLS <= PL_SHARD_CELLS);
    assert_int_equal(cell % PL_SHARD_HEAD_CELLS, 0);
    pl__shard_record(shards, cell, 1);
    if (!is_own)
      assert_int_equal(i, PL_SHARD_HISTOGRAMS_MAX);
  }
}

/* Each process asks for the same series in another order. */
static void agrees_between_processes(void **state) {
  uint32_t *found = map(4 * 64 * sizeof *found);

  (void)state;
  for (uint32_t p = 0; p < 4; p++) {
    if (fork())
      continue;
    self = pl__lock_self();
    for (uint32_t i = 0; i < 64; i++) {
      uint32_t n = (i * (2 * p + 1) + p) % 64, family;
      char name[16], value[16];
      snprintf(name, sizeof name, "f%u_total", n / 16);
      snprintf(value, sizeof value, "v%u", n);
      if (open_family(name, PL_METRIC_COUNTER, &family))
        _exit(1);
      found[p * 64 + n] = series_of(family, value, NULL);
    }
    _exit(0);
  }
  for (uint32_t p = 0; p < 4; p++) {
    int status;
    assert_true(wait(&status) > 0);
    assert_int_equal(status, 0);
  }
  for (uint32_t p = 1; p < 4; p++)
    assert_memory_equal(found, found + p * 64, 64 * sizeof *found);
  assert_int_equal(pl__metrics_series_count(table), 64);
  assert_int_equal(pl__metrics_family_count(table), 4);
  munmap(found, 4 * 64 * sizeof *found);
}

/* kill -9 in the midst of making series: the next one goes on, and no label
 * set is there twice. */
static void goes_on_after_a_maker_was_killed(void **state) {
  uint32_t f = family_of("a_total", PL_METRIC_COUNTER);
  bool is_own;

  (void)state;
  table->families[f].series_max = PL_SHARD_SERIES_MAX;
  for (int round = 0; round < 40; round++) {
    pid_t pid = fork();
    if (pid == 0) {
      self = pl__lock_self();
      for (uint32_t i = 0;; i++) {
        char value[32];
        snprintf(value, sizeof value, "%d.%u", round, i % 300);
        series_of(f, value, NULL);
      }
    }
    usleep((useconds_t)(rand() % 2000));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    series_of(f, "after", &is_own);
    assert_true(is_own);
  }
  uint32_t count = pl__metrics_series_count(table);
  for (uint32_t i = 0; i < count; i++) {
    const struct pl_metric_series *s = &table->series[i];
    uint32_t cell, at = 0;
    assert_true(pl__metrics_is_sound(table, s));
    for (cell = table->heads[s->hash % PL_METRICS_HEADS]; cell;
         cell = table->series[cell - 1].next)
      at += table->series[cell - 1].hash == s->hash &&
            table->series[cell - 1].text_bytes == s->text_bytes &&
            memcmp(table->text + table->series[cell - 1].text_at,
                   table->text + s->text_at, s->text_bytes) == 0;
    assert_int_equal(at, 1);
  }
}

static void is_not_led_astray_by_what_was_written_over(void **state) {
  struct pl_metric_series s;
  uint32_t f = family_of("a_total", PL_METRIC_COUNTER);

  (void)state;
  series_of(f, "x", NULL);
  s = table->series[0];
  assert_true(pl__metrics_is_sound(table, &s));
  s.cell = UINT32_MAX;
  assert_false(pl__metrics_is_sound(table, &s));
  s = table->series[0], s.family = PL_METRICS_FAMILIES_MAX;
  assert_false(pl__metrics_is_sound(table, &s));
  s = table->series[0], s.text_bytes = UINT32_MAX;
  assert_false(pl__metrics_is_sound(table, &s));
  s = table->series[0], s.text_at = UINT32_MAX;
  assert_false(pl__metrics_is_sound(table, &s));
  table->families[f].help_bytes = UINT32_MAX;
  assert_false(pl__metrics_is_sound(table, &table->series[0]));
}

/* --- shards ------------------------------------------------------------------ */

static void adds_sets_and_records(void **state) {
  uint32_t c = series_of(family_of("c_total", PL_METRIC_COUNTER), "", NULL);
  uint32_t g = series_of(family_of("g", PL_METRIC_GAUGE), "", NULL);
  uint32_t h = series_of(family_of("h", PL_METRIC_HISTOGRAM), "", NULL);
  struct pl_histogram sum = {0};

  (void)state;
  pl__shard_add(&shards[0], c, 1.5);
  pl__shard_add(&shards[0], c, 2);
  pl__shard_set(&shards[0], g, 7);
  pl__shard_add(&shards[0], g, -9);
  assert_true(pl__shard_get(&shards[0], c) == 3.5);
  assert_true(pl__shard_get(&shards[0], g) == -2);
  assert_true(pl__shard_get(&shards[1], c) == 0);
  pl__shard_gather(&shards[0], h, &sum);
  assert_int_equal(pl__histogram_count(&sum), 0);
  pl__shard_record(&shards[0], h, 0.5);
  pl__shard_record(&shards[0], h, 3000);
  pl__shard_record(&shards[1], h, 0.5);
  pl__shard_gather(&shards[0], h, &sum);
  pl__shard_gather(&shards[1], h, &sum);
  assert_int_equal(pl__histogram_count(&sum), 3);
  assert_int_equal(sum.counts[pl__histogram_index(0.5)], 2);
  assert_true(sum.sum == 3001);
}

static void begins_anew_with_gauges_and_goes_on_with_the_rest(void **state) {
  uint32_t c = series_of(family_of("c_total", PL_METRIC_COUNTER), "", NULL);
  uint32_t g = series_of(family_of("g", PL_METRIC_GAUGE), "", NULL);

  (void)state;
  assert_int_equal(pl__shard_life(shards), PL_SHARD_UNUSED);
  pl__shard_leave(shards);
  assert_int_equal(pl__shard_life(shards), PL_SHARD_UNUSED);
  pl__metrics_begin(table, shards);
  pl__shard_add(shards, c, 5);
  pl__shard_set(shards, g, 5);
  pl__shard_leave(shards);
  assert_int_equal(pl__shard_life(shards), PL_SHARD_LEFT);
  pl__metrics_begin(table, shards);
  assert_int_equal(pl__shard_life(shards), PL_SHARD_LIVE);
  assert_true(pl__shard_get(shards, c) == 5);
  assert_true(pl__shard_get(shards, g) == 0);
}

static void folds_one_shard_into_another(void **state) {
  uint32_t c = series_of(family_of("c_total", PL_METRIC_COUNTER), "", NULL);
  uint32_t g = series_of(family_of("g", PL_METRIC_GAUGE), "", NULL);
  uint32_t same = series_of(family_of("same", PL_METRIC_GAUGE), "", NULL);
  uint32_t h = series_of(family_of("h", PL_METRIC_HISTOGRAM), "", NULL);
  struct pl_histogram sum = {0};

  (void)state;
  pl__shard_add(&shards[0], c, 1), pl__shard_add(&shards[1], c, 2);
  pl__shard_set(&shards[0], g, 1), pl__shard_set(&shards[1], g, 2);
  pl__shard_set(&shards[0], same, 3);
  pl__shard_record(&shards[0], h, 1), pl__shard_record(&shards[1], h, 100);
  pl__metrics_fold(table, &shards[0], &shards[1]);
  assert_true(pl__shard_get(&shards[0], c) == 3);
  assert_true(pl__shard_get(&shards[0], g) == 2);
  assert_true(pl__shard_get(&shards[0], same) == 3);
  pl__shard_gather(&shards[0], h, &sum);
  assert_int_equal(pl__histogram_count(&sum), 2);
  assert_true(sum.sum == 101);
}

static void keeps_where_a_number_came_from(void **state) {
  uint32_t h = series_of(family_of("h", PL_METRIC_HISTOGRAM), "", NULL);
  struct pl_origin origin = {.now = 10, .trace = {1, 2}, .request_id = 3}, out;
  struct pl_example *e = pl__shard_record(shards, h, 0.3);
  double number;

  (void)state;
  assert_false(pl__example_get(e, &number, &out));
  assert_true(pl__shard_wants_example(shards, h, 0.3, 10));
  pl__example_put(e, 0.3, &origin);
  assert_false(pl__shard_wants_example(shards, h, 0.31, 10.9));
  assert_true(pl__shard_wants_example(shards, h, 3, 10.9)); /* much longer */
  assert_true(pl__shard_wants_example(shards, h, 3, 11));
  assert_true(pl__example_get(e, &number, &out));
  assert_true(number == 0.3 && out.now == 10 && out.request_id == 3);
  assert_true(out.trace[0] == 1 && out.trace[1] == 2);
  e->serial++; /* its writer has died in the midst of it */
  assert_false(pl__example_get(e, &number, &out));
  origin.now = 11;
  pl__example_put(e, 0.4, &origin);
  assert_true(pl__example_get(e, &number, &out) && number == 0.4);
  /* Octaves beside each other have examples of their own. */
  assert_ptr_not_equal(pl__shard_record(shards, h, 0.6), e);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(finds_a_family_again_and_refuses_another_kind),
      FACT(takes_names_that_can_be_shown),
      FACT(writes_labels_as_exposition_has_them),
      FACT(keeps_help_that_parsers_take),
      FACT(gives_each_set_of_labels_its_own_cell),
      FACT(counts_together_what_is_past_the_limit),
      FACT(has_ten_thousand_series_and_then_counts_nowhere),
      FACT(has_a_limit_of_histograms),
      FACT(agrees_between_processes),
      FACT(goes_on_after_a_maker_was_killed),
      FACT(is_not_led_astray_by_what_was_written_over),
      FACT(adds_sets_and_records),
      FACT(begins_anew_with_gauges_and_goes_on_with_the_rest),
      FACT(folds_one_shard_into_another),
      FACT(keeps_where_a_number_came_from),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
