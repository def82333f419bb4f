/* test/fabric/test_flights.c - what can be seen of requests from outside. */
#include "fabric/flights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "fabric/map.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS 1000u

static struct pl_fabric fabric;
static struct pl_flights *flights;

static int make_flights(void **state) {
  char error[PL_FABRIC_ERROR_BYTES];
  struct pl_fabric_section s = {"flights.0", PL_FLIGHTS_VERSION, 1, 0};
  void *at;

  (void)state;
  s.element_count = pl__flights_bytes(SLOTS);
  if (pl__fabric_open(&fabric, &s, 1, error) ||
      pl__fabric_find(&fabric, s.name, s.version, 1, &at, NULL))
    return -1;
  flights = at;
  pl__flights_init(flights, SLOTS);
  return 0;
}

static int free_flights(void **state) {
  (void)state;
  pl__fabric_close(&fabric);
  return 0;
}

static void begins_with_nothing_in_flight(void **state) {
  (void)state;
  assert_int_equal(flights->slot_count, SLOTS);
  assert_int_equal(atomic_load(&flights->running), PL_FLIGHT_NONE);
  for (uint32_t i = 0; i < SLOTS; i++)
    assert_int_equal(atomic_load(&flights->at[i].since_ns), 0);
}

static void names_the_request_that_begins(void **state) {
  (void)state;
  pl__flight_run(flights, PL_FLIGHT_NONE, PL_PHASE_LUA);
  pl__flight_begin(flights, 7, 0xabcdefull, 0, 3, 1000);
  assert_int_equal(atomic_load(&flights->running), 8);
  assert_int_equal(atomic_load(&flights->last), 8);
  assert_int_equal(atomic_load(&flights->phase), PL_PHASE_LUA);
  assert_int_equal(atomic_load(&flights->at[7].request_id), 0xabcdef);
  assert_int_equal(atomic_load(&flights->at[7].route), 3);
  assert_int_equal(atomic_load(&flights->at[7].since_ns), 1000);
}

/* Two generations are in one worker at once, and route ids are of one. */
static void tells_which_generation_a_route_is_of(void **state) {
  (void)state;
  pl__flight_begin(flights, 7, 1, 4, 3, 1000);
  pl__flight_begin(flights, 8, 2, 5, 3, 1000);
  assert_int_equal(atomic_load(&flights->at[7].generation), 4);
  assert_int_equal(atomic_load(&flights->at[8].generation), 5);
  pl__flight_end(flights, 7);
  assert_int_equal(atomic_load(&flights->at[7].generation), 4);
  pl__flight_begin(flights, 7, 3, 5, 3, 2000);
  assert_int_equal(atomic_load(&flights->at[7].generation), 5);
}

static void keeps_the_route_of_one_that_has_ended(void **state) {
  (void)state;
  pl__flight_begin(flights, 7, 1, 0, 3, 1000);
  pl__flight_run(flights, PL_FLIGHT_NONE, PL_PHASE_CORE);
  pl__flight_end(flights, 7);
  assert_int_equal(atomic_load(&flights->running), PL_FLIGHT_NONE);
  assert_int_equal(atomic_load(&flights->at[7].since_ns), 0);
  assert_int_equal(atomic_load(&flights->last), 8);
  assert_int_equal(atomic_load(&flights->at[7].route), 3);
}

static void takes_no_probe_over_into_the_next_request(void **state) {
  (void)state;
  pl__flight_begin(flights, 7, 1, 0, 3, 1000);
  atomic_store(&flights->at[7].is_probe, 1);
  pl__flight_end(flights, 7);
  pl__flight_begin(flights, 7, 2, 0, 3, 2000);
  assert_int_equal(atomic_load(&flights->at[7].is_probe), 0);
}

static void tells_what_a_killed_process_had_in_hand(void **state) {
  int status;
  pid_t pid = fork();

  (void)state;
  if (pid == 0) {
    for (uint32_t i = 0; i < SLOTS; i++)
      pl__flight_begin(flights, i, i + 1, 0, i, 1);
    kill(getpid(), SIGKILL);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(atomic_load(&flights->running), SLOTS);
  for (uint32_t i = 0; i < SLOTS; i++)
    assert_int_equal(atomic_load(&flights->at[i].request_id), i + 1);
}

static void forgets_everything_when_it_begins_anew(void **state) {
  uint64_t before, after;

  (void)state;
  assert_int_equal(pl__fabric_resident(&fabric, &before), 0);
  for (uint32_t i = 0; i < SLOTS; i++)
    pl__flight_begin(flights, i, i, 0, i, 1);
  pl__flight_run(flights, 5, PL_PHASE_COLLECT);
  pl__flights_init(flights, SLOTS);
  assert_int_equal(pl__fabric_resident(&fabric, &after), 0);
  assert_in_range(after, 0, before + 2 * PL_FABRIC_PAGE_BYTES);
  begins_with_nothing_in_flight(state);
  assert_int_equal(atomic_load(&flights->phase), PL_PHASE_CORE);
}

static void also_begins_in_memory_that_is_no_fabric(void **state) {
  size_t bytes = pl__flights_bytes(SLOTS);
  char *memory = pl__alloc(bytes + 64);
  struct pl_flights *own =
      (void *)(memory + (64 - (uintptr_t)memory % 64) % 64);

  (void)state;
  memset(memory, 0xff, bytes + 64);
  pl__flights_init(own, SLOTS);
  assert_int_equal(atomic_load(&own->at[0].since_ns), 0);
  assert_int_equal(atomic_load(&own->at[SLOTS - 1].since_ns), 0);
  pl__free(memory);
}

static void names_the_trace_and_the_callers_id(void **state) {
  const uint64_t trace_id[2] = {1, 2};
  char id[PL_LIMIT_REQUEST_ID_BYTES];
  char longest[PL_LIMIT_REQUEST_ID_BYTES];

  (void)state;
  memset(longest, 'x', sizeof longest);
  pl__flight_name(flights, 3, trace_id, 9, PL_SLICE("5c2d-11"));
  assert_int_equal(atomic_load(&flights->at[3].trace_id[0]), 1);
  assert_int_equal(atomic_load(&flights->at[3].trace_id[1]), 2);
  assert_int_equal(atomic_load(&flights->at[3].span_id), 9);
  assert_int_equal(pl__flight_caller_id(&flights->at[3], id), 7);
  assert_memory_equal(id, "5c2d-11", 7);
  pl__flight_name(flights, 3, trace_id, 9, pl__slice(longest, sizeof longest));
  assert_int_equal(pl__flight_caller_id(&flights->at[3], id), sizeof id);
  assert_memory_equal(id, longest, sizeof id);
  pl__flight_name(flights, 3, trace_id, 9, PL_SLICE(""));
  assert_int_equal(pl__flight_caller_id(&flights->at[3], id), 0);
  atomic_store(&flights->at[3].caller_id_bytes, 5000);
  assert_int_equal(pl__flight_caller_id(&flights->at[3], id), sizeof id);
}

int main(void) {
#define CASE(name)                                                             \
  cmocka_unit_test_setup_teardown(name, make_flights, free_flights)
  const struct CMUnitTest tests[] = {
      CASE(begins_with_nothing_in_flight),
      CASE(names_the_request_that_begins),
      CASE(tells_which_generation_a_route_is_of),
      CASE(keeps_the_route_of_one_that_has_ended),
      CASE(takes_no_probe_over_into_the_next_request),
      CASE(tells_what_a_killed_process_had_in_hand),
      CASE(names_the_trace_and_the_callers_id),
      CASE(forgets_everything_when_it_begins_anew),
      CASE(also_begins_in_memory_that_is_no_fabric),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
