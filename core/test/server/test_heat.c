/* test/server/test_heat.c - columns of what was counted. */
#include "server/heat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define WORKERS 2u
#define SECOND ((int64_t)PL_NS_PER_S)

static struct pl_metrics metrics;
static struct pl_heat heat;
static struct pl_buf out;
static uint64_t self;
static int64_t now_ns;

static void *map(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static int begin(void **state) {
  (void)state;
  metrics.table = map(sizeof *metrics.table);
  metrics.shards = map(WORKERS * sizeof *metrics.shards);
  metrics.worker_count = WORKERS;
  self = pl__lock_self();
  now_ns = 1000 * SECOND;
  if (!metrics.table || !metrics.shards)
    return 1;
  pl__metrics_init(metrics.table, 1000);
  memset(&heat, 0, sizeof heat);
  pl__buf_init(&out, NULL, 1u << 20);
  return 0;
}

static int end(void **state) {
  (void)state;
  pl__buf_release(&out);
  munmap(metrics.shards, WORKERS * sizeof *metrics.shards);
  return munmap(metrics.table, sizeof *metrics.table);
}

/* The cell of a series; the first labels of route, method and status. */
static uint32_t cell(const char *name, enum pl_metric_kind kind,
                     const char *route, const char *status) {
  const struct pl_slice names[] = {PL_SLICE("route"), PL_SLICE("method"),
                                   PL_SLICE("status")};
  struct pl_slice values[] = {pl__slice(route, strlen(route)), PL_SLICE("GET"),
                              pl__slice(status, strlen(status))};
  struct pl_metric m = {.name = pl__slice(name, strlen(name)),
                        .help = PL_SLICE("Help."),
                        .kind = kind};
  uint32_t family, count = *status ? 3 : *route ? 2 : 0;

  assert_int_equal(0, pl__metrics_family(metrics.table, self, &m, &family));
  return pl__metrics_series(metrics.table, self, family, names, values, count,
                            NULL);
}

static void request(unsigned worker, const char *route, const char *status,
                    double seconds) {
  struct pl_shard *s = &metrics.shards[worker];

  pl__shard_record(s,
                   cell("perilune_http_request_duration_seconds",
                        PL_METRIC_HISTOGRAM, route, ""),
                   seconds);
  pl__shard_add(
      s, cell("perilune_http_requests_total", PL_METRIC_COUNTER, route, status),
      1);
}

static void look(int64_t seconds) {
  now_ns += seconds * SECOND;
  pl__heat_look(&heat, &metrics, now_ns);
}

static const struct pl_heat_column *last(void) {
  return &heat.columns[(heat.count - 1) % PL_HEAT_COLUMNS];
}

static const char *from(uint64_t number) {
  out.bytes = 0;
  assert_int_equal(0, pl__heat_json(&heat, number, &out));
  assert_int_equal(0, pl__buf_append(&out, "", 1));
  return out.at;
}

static void makes_a_column_of_what_came_since_the_last(void **state) {
  (void)state;
  request(0, "/a", "2xx", 0.001);
  look(0);
  assert_int_equal(0, heat.count);
  request(0, "/a", "2xx", 0.001);
  request(1, "/b", "5xx", 0.5);
  request(1, "/b", "4xx", 0.5);
  look(4);
  assert_int_equal(0, heat.count);
  look(1);
  assert_int_equal(1, heat.count);
  assert_int_equal(5, last()->took_s);
  assert_int_equal(1, last()->classes[2]);
  assert_int_equal(1, last()->classes[4]);
  assert_int_equal(1, last()->classes[5]);
  assert_true(last()->p99_s > 0.48 && last()->p99_s < 0.52);
  look(5);
  assert_int_equal(0, last()->classes[2]);
  assert_true(last()->p99_s <= 0);
}

/* From 2^-15 s on there are two rows for each power: up to 1.5 times, up to 2. */
static void puts_latencies_into_rows(void **state) {
  static const struct {
    double seconds;
    uint32_t row;
  } cases[] = {
      {1e-9, 0},       {0.00004, 0},   {0.00005, 1},    {0x1p-14, 1},
      {0x1.01p-14, 2}, {0x1.8p-14, 2}, {0x1.82p-14, 3}, {1, 29},
      {1.4, 30},       {2, 31},        {8, 35},         {11, 36},
      {13, 37},        {1e6, 37},
  };

  (void)state;
  look(0);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    request(0, "/a", "2xx", cases[i].seconds);
    look(5);
    for (uint32_t row = 0; row < PL_HEAT_ROWS; row++)
      assert_int_equal(row == cases[i].row, last()->rows[row]);
  }
}

static void tells_what_is_new_since_a_number(void **state) {
  (void)state;
  look(0);
  for (unsigned i = 0; i < PL_HEAT_COLUMNS + 3; i++)
    look(5);
  request(0, "/a", "2xx", 0.00004);
  look(5);
  assert_non_null(strstr(from(0), "\"columns\":[{\"number\":4,"));
  assert_non_null(strstr(from(120), "\"columns\":[{\"number\":120,"));
  assert_non_null(strstr(out.at, "\"next\":124,"));
  assert_non_null(strstr(out.at, "\"cells\":[0,1]}]}"));
  assert_non_null(strstr(from(124), "\"columns\":[]}"));
  /* another server's number */
  assert_non_null(strstr(from(125), "\"columns\":[{\"number\":4,"));
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)
  const struct CMUnitTest tests[] = {
      CASE(makes_a_column_of_what_came_since_the_last),
      CASE(puts_latencies_into_rows),
      CASE(tells_what_is_new_since_a_number),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
