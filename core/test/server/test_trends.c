/* test/server/test_trends.c - rates and latencies between two looks. */
#include "server/trends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define WORKERS 2u
#define SECOND ((int64_t)PL_NS_PER_S)

static struct pl_metrics metrics;
static struct pl_trends trends;
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
  return 0;
}

static int end(void **state) {
  (void)state;
  pl__trends_deinit(&trends);
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

static void look(double after_s) {
  now_ns += (int64_t)(after_s * PL_NS_PER_S);
  assert_int_equal(0, pl__trends_look(&trends, &metrics, 990 * SECOND, now_ns));
}

static void about(double wanted, double found) {
  if (found < wanted * 0.96 || found > wanted * 1.04)
    fail_msg("%g, not about %g", found, wanted);
}

static void tells_all_since_the_start_at_first(void **state) {
  (void)state;
  for (int i = 0; i < 99; i++)
    request(0, "/", "2xx", 0.010);
  request(1, "/", "5xx", 0.500);
  look(0);
  about(10, trends.window_s);
  about(10, trends.all.requests_per_s);
  about(0.1, trends.all.errors_per_s);
  about(0.010, trends.all.p50_s);
  assert_int_equal(1, trends.route_count);
  assert_int_equal(100, trends.routes[0].requests);
  about(9.9, trends.workers[0].requests_per_s);
  about(0.1, trends.workers[1].requests_per_s);
}

static void compares_with_some_seconds_ago(void **state) {
  (void)state;
  for (int i = 0; i < 1000; i++)
    request(0, "/", "5xx", 1.0);
  look(0);
  for (int i = 0; i < 50; i++)
    request(0, "/", "2xx", 0.001);
  look(1);
  about(1, trends.window_s);
  about(50, trends.all.requests_per_s);
  about(0.001, trends.all.p99_s);
  assert_true(trends.all.errors_per_s == 0);
  assert_int_equal(1050, trends.routes[0].requests);
  for (int second = 0; second < 10; second++) { /* windows stay short */
    for (int i = 0; i < 50; i++)
      request(1, "/", "2xx", 0.001);
    look(1);
    assert_true(trends.window_s <= 2 * PL_TRENDS_LEAST_S);
    about(50, trends.all.requests_per_s);
  }
  look(PL_TRENDS_LEAST_S);
  look(PL_TRENDS_LEAST_S);
  assert_true(trends.all.requests_per_s < 50);
  look(PL_TRENDS_MOST_S + 1); /* nobody has looked for too long */
  about((double)(now_ns - 990 * SECOND) / PL_NS_PER_S, trends.window_s);
}

static void keeps_those_that_take_most_time_and_sorts_by_rate(void **state) {
  char route[32];

  (void)state;
  for (unsigned i = 0; i < PL_TRENDS_ROUTES_MAX + 20; i++) {
    snprintf(route, sizeof route, "/%u", i);
    request(0, route, "2xx", 0.001 * (i + 1));
  }
  for (int i = 0; i < 5; i++)
    request(1, "/40", "5xx", 0.001);
  look(0);
  assert_int_equal(PL_TRENDS_ROUTES_MAX, trends.route_count);
  assert_int_equal(6, trends.routes[0].requests);
  about(0.5, trends.routes[0].trend.errors_per_s);
  for (uint32_t i = 0; i < trends.route_count; i++) {
    const struct pl_slice labels = trends.routes[i].labels;
    unsigned number;
    assert_int_equal(1, sscanf(labels.at, "route=\"/%u\"", &number));
    assert_true(number >= 20);
  }
}

/* Those that take little time are not shown; what fails there must be seen. */
static void tells_of_all_routes_together(void **state) {
  char route[32];

  (void)state;
  for (unsigned i = 0; i < PL_TRENDS_ROUTES_MAX; i++) {
    snprintf(route, sizeof route, "/%u", i);
    request(0, route, "2xx", 1);
  }
  look(0);
  for (unsigned i = 0; i < 100; i++) {
    snprintf(route, sizeof route, "/small/%u", i);
    request(1, route, "5xx", 0.002);
  }
  look(2);
  about(2, trends.window_s);
  about(50, trends.all.requests_per_s);
  about(50, trends.all.errors_per_s);
  about(0.002, trends.all.p99_s);
  about(50, trends.workers[1].requests_per_s);
  assert_int_equal(PL_TRENDS_ROUTES_MAX, trends.route_count);
}

static void tells_of_workers_loops_and_memory(void **state) {
  uint32_t lag = cell("perilune_loop_lag_seconds", PL_METRIC_HISTOGRAM, "", "");
  uint32_t busy =
      cell("perilune_loop_busy_seconds_total", PL_METRIC_COUNTER, "", "");
  uint32_t memory = cell("perilune_vm_memory_bytes", PL_METRIC_GAUGE, "", "");

  (void)state;
  pl__metrics_begin(metrics.table, &metrics.shards[1]);
  pl__shard_record(&metrics.shards[1], lag, 0.3);
  pl__shard_add(&metrics.shards[1], busy, 5);
  pl__shard_set(&metrics.shards[1], memory, 1e6);
  pl__shard_set(&metrics.shards[0], memory, 1e6); /* does not live */
  look(0);
  about(0.3, trends.workers[1].lag_p99_s);
  about(0.5, trends.workers[1].busy);
  about(1e6, trends.workers[1].memory_bytes);
  assert_true(trends.workers[0].memory_bytes == 0);
  pl__shard_add(&metrics.shards[1], busy, 1);
  look(4);
  about(0.25, trends.workers[1].busy);
  assert_true(trends.workers[1].lag_p99_s == 0);
}

static void survives_each_allocation_that_fails(void **state) {
  (void)state;
  request(0, "/", "2xx", 0.01);
  for (uint64_t n = 1; n <= 5; n++) {
    pl__alloc_fail_after(n, false);
    assert_int_not_equal(
        0, pl__trends_look(&trends, &metrics, 990 * SECOND, now_ns));
    pl__alloc_fail_after(0, false);
    pl__trends_deinit(&trends);
  }
  look(0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(tells_all_since_the_start_at_first),
      CASE(compares_with_some_seconds_ago),
      CASE(keeps_those_that_take_most_time_and_sorts_by_rate),
      CASE(tells_of_all_routes_together),
      CASE(tells_of_workers_loops_and_memory),
      CASE(survives_each_allocation_that_fails),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
