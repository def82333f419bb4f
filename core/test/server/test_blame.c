/* test/server/test_blame.c - when a route is refused for what it did. */
#include "server/blame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fabric/flights.h"
#include "fabric/quarantine.h"
#include "server/crash.h"

#include <signal.h>
#include <string.h>

#define S ((int64_t)PL_NS_PER_S)
#define SLOTS 8u
#define NOBODY PL_RECORD_NO_ROUTE

static struct pl_blame blame;
static struct pl_quarantine quarantine;
static struct pl_crash crash;
static _Alignas(64) char memory[sizeof(struct pl_flights) +
                                SLOTS * sizeof(struct pl_flight)];
static struct pl_flights *flights = (void *)memory;

static int make_blame(void **state) {
  (void)state;
  memset(&quarantine, 0, sizeof quarantine);
  memset(&crash, 0, sizeof crash);
  pl__flights_init(flights, SLOTS);
  pl__blame_init(&blame, &quarantine, 30);
  return 0;
}

/* A worker dies while it runs the handler of `route` in slot 2. */
static uint32_t dies(uint32_t route, int64_t now_ns, int32_t signal) {
  struct pl_casualty c = {.pid = 10,
                          .signal = signal,
                          .now_ns = now_ns,
                          .flights = flights,
                          .slot_count = SLOTS,
                          .crash = &crash};

  pl__flight_run(flights, PL_FLIGHT_NONE, PL_PHASE_LUA);
  pl__flight_begin(flights, 2, 1, 0, route, now_ns);
  return pl__blame_death(&blame, &c);
}

#define ADMITS(route, now_ns, outcome)                                         \
  assert_int_equal(pl__quarantine_admit(&quarantine, (route), (now_ns)),       \
                   (outcome))

static void refuses_a_route_that_kills_three_times(void **state) {
  (void)state;
  assert_int_equal(dies(5, 1 * S, SIGSEGV), NOBODY);
  assert_int_equal(dies(5, 2 * S, SIGSEGV), NOBODY);
  ADMITS(5, 2 * S, PL_QUARANTINE_FREE);
  assert_int_equal(dies(5, 11 * S, SIGSEGV), 5);
  ADMITS(5, 41 * S - 1, PL_QUARANTINE_REFUSED);
  ADMITS(5, 41 * S, PL_QUARANTINE_PROBE);
}

static void forgets_kills_that_lie_far_apart(void **state) {
  (void)state;
  assert_int_equal(dies(5, 1 * S, SIGSEGV), NOBODY);
  assert_int_equal(dies(5, 2 * S, SIGSEGV), NOBODY);
  assert_int_equal(dies(5, 11 * S + 1, SIGSEGV), NOBODY);
  assert_int_equal(dies(5, 12 * S, SIGSEGV), 5); /* 2, 11, 12 */
}

static void counts_each_route_for_itself(void **state) {
  (void)state;
  for (uint32_t route = 0; route < PL_BLAME_ROUTES_MAX; route++)
    for (int i = 0; i < 2; i++)
      assert_int_equal(dies(route, 1 * S, SIGSEGV), NOBODY);
  assert_int_equal(dies(7, 1 * S, SIGSEGV), 7);
}

static void remembers_the_latest_when_there_are_too_many(void **state) {
  (void)state;
  dies(1000, 1 * S, SIGSEGV);
  dies(1000, 1 * S, SIGSEGV);
  for (uint32_t route = 0; route < PL_BLAME_ROUTES_MAX; route++)
    dies(route, 2 * S + route, SIGSEGV);
  assert_int_equal(dies(1000, 3 * S, SIGSEGV), NOBODY);
  dies(63, 3 * S, SIGSEGV);
  assert_int_equal(dies(63, 3 * S, SIGSEGV), 63);
}

static void counts_no_kill_from_outside(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++)
    assert_int_equal(dies(5, 1 * S, SIGKILL), NOBODY);
  crash = (struct pl_crash){.pid = 10, .signal = SIGSEGV, .sender = 1};
  atomic_store(&crash.stage, PL_CRASH_RAW);
  for (int i = 0; i < 5; i++)
    assert_int_equal(dies(5, 1 * S, SIGSEGV), NOBODY);
}

static void counts_no_death_between_handlers(void **state) {
  struct pl_casualty c = {.pid = 10,
                          .signal = SIGSEGV,
                          .now_ns = S,
                          .flights = flights,
                          .slot_count = SLOTS,
                          .crash = &crash};

  (void)state;
  pl__flight_begin(flights, 2, 1, 0, 5, S);
  for (int i = 0; i < 5; i++) {
    pl__flight_run(flights, 3, PL_PHASE_COLLECT);
    assert_int_equal(pl__blame_death(&blame, &c), NOBODY);
    pl__flight_run(flights, PL_FLIGHT_TASK, PL_PHASE_LUA);
    assert_int_equal(pl__blame_death(&blame, &c), NOBODY);
  }
  assert_int_equal(dies(NOBODY, 1 * S, SIGSEGV), NOBODY);
  assert_true(pl__quarantine_is_empty(&quarantine));
}

/* As dies, let through as a probe. */
static uint32_t dies_as_probe(uint32_t route, int64_t now_ns) {
  struct pl_casualty c = {.pid = 10,
                          .signal = SIGSEGV,
                          .now_ns = now_ns,
                          .flights = flights,
                          .slot_count = SLOTS,
                          .crash = &crash};

  pl__flight_run(flights, PL_FLIGHT_NONE, PL_PHASE_LUA);
  pl__flight_begin(flights, 2, 1, 0, route, now_ns);
  atomic_store(&flights->at[2].is_probe, 1);
  return pl__blame_death(&blame, &c);
}

static void refuses_again_after_one_probe_that_kills(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++)
    dies(5, S, SIGSEGV);
  ADMITS(5, 31 * S, PL_QUARANTINE_PROBE);
  assert_int_equal(dies_as_probe(5, 31 * S), 5);
  ADMITS(5, 61 * S - 1, PL_QUARANTINE_REFUSED);
  ADMITS(5, 61 * S, PL_QUARANTINE_PROBE);
}

static void lets_a_probe_try_again_that_was_a_victim(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++)
    dies(5, S, SIGSEGV);
  ADMITS(5, 31 * S, PL_QUARANTINE_PROBE);
  pl__flight_begin(flights, 4, 2, 0, 5, 31 * S); /* it waits meanwhile */
  atomic_store(&flights->at[4].is_probe, 1);
  assert_int_equal(dies(6, 31 * S, SIGSEGV), NOBODY);
  ADMITS(5, 31 * S, PL_QUARANTINE_PROBE);
}

static void can_be_switched_off(void **state) {
  (void)state;
  pl__blame_init(&blame, &quarantine, 0);
  for (int i = 0; i < 5; i++)
    assert_int_equal(dies(5, S, SIGSEGV), NOBODY);
  assert_true(pl__quarantine_is_empty(&quarantine));
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup(name, make_blame)
  const struct CMUnitTest tests[] = {
      CASE(refuses_a_route_that_kills_three_times),
      CASE(forgets_kills_that_lie_far_apart),
      CASE(counts_each_route_for_itself),
      CASE(remembers_the_latest_when_there_are_too_many),
      CASE(counts_no_kill_from_outside),
      CASE(counts_no_death_between_handlers),
      CASE(refuses_again_after_one_probe_that_kills),
      CASE(lets_a_probe_try_again_that_was_a_victim),
      CASE(can_be_switched_off),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
