/* test/fabric/test_quarantine.c - routes that are refused, tried and freed. */
#include "fabric/quarantine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#include <pthread.h>
#include <string.h>

#define S PL_NS_PER_S
#define NO_ROUTE UINT32_MAX

static struct pl_quarantine q;

static int make_empty(void **state) {
  (void)state;
  memset(&q, 0, sizeof q);
  return 0;
}

#define ADMITS(route, now_ns, outcome)                                         \
  assert_int_equal(pl__quarantine_admit(&q, (route), (now_ns)), (outcome))

static void lets_every_route_through_at_first(void **state) {
  (void)state;
  assert_true(pl__quarantine_is_empty(&q));
  ADMITS(0, 1, PL_QUARANTINE_FREE);
  ADMITS(NO_ROUTE, 1, PL_QUARANTINE_FREE);
}

static void refuses_a_route_until_its_time_is_over(void **state) {
  (void)state;
  assert_true(pl__quarantine_add(&q, 0, 10 * (int64_t)S));
  assert_false(pl__quarantine_is_empty(&q));
  ADMITS(0, 1, PL_QUARANTINE_REFUSED);
  ADMITS(0, 10 * (int64_t)S - 1, PL_QUARANTINE_REFUSED);
  ADMITS(1, 1, PL_QUARANTINE_FREE);
  ADMITS(NO_ROUTE, 1, PL_QUARANTINE_FREE);
}

static void lets_one_request_try_and_refuses_the_others(void **state) {
  (void)state;
  pl__quarantine_add(&q, 4, 10);
  ADMITS(4, 10, PL_QUARANTINE_PROBE);
  ADMITS(4, 11, PL_QUARANTINE_REFUSED);
  ADMITS(4, S, PL_QUARANTINE_REFUSED);
}

static void frees_a_route_whose_probe_ends_well(void **state) {
  uint32_t route = 0;

  (void)state;
  pl__quarantine_add(&q, 4, 10);
  ADMITS(4, 10, PL_QUARANTINE_PROBE);
  assert_false(pl__quarantine_take(&q, &route));
  pl__quarantine_lift(&q, 4);
  ADMITS(4, 11, PL_QUARANTINE_FREE);
  assert_true(pl__quarantine_take(&q, &route));
  assert_int_equal(route, 4);
  assert_false(pl__quarantine_take(&q, &route));
  assert_true(pl__quarantine_is_empty(&q));
  ADMITS(4, 12, PL_QUARANTINE_FREE);
}

static void refuses_again_when_the_probe_kills(void **state) {
  (void)state;
  pl__quarantine_add(&q, 4, 10);
  ADMITS(4, 10, PL_QUARANTINE_PROBE);
  assert_true(pl__quarantine_add(&q, 4, 100));
  assert_int_equal(atomic_load(&q.count), 1);
  ADMITS(4, 99, PL_QUARANTINE_REFUSED);
  pl__quarantine_lift(&q, 4); /* somebody who was let through before */
  ADMITS(4, 99, PL_QUARANTINE_REFUSED);
  ADMITS(4, 100, PL_QUARANTINE_PROBE);
}

static void lets_another_try_when_the_probe_died_of_something_else(void **s) {
  (void)s;
  pl__quarantine_add(&q, 4, 10);
  ADMITS(4, 10, PL_QUARANTINE_PROBE);
  pl__quarantine_retry(&q, 4);
  ADMITS(4, 11, PL_QUARANTINE_PROBE);
  ADMITS(4, 12, PL_QUARANTINE_REFUSED);
}

static void leaves_a_route_refused_that_is_not_probed(void **state) {
  (void)state;
  pl__quarantine_add(&q, 4, 10);
  pl__quarantine_retry(&q, 4);
  pl__quarantine_retry(&q, 5);
  pl__quarantine_lift(&q, 4);
  ADMITS(4, 9, PL_QUARANTINE_REFUSED);
}

static void lets_another_try_when_a_probe_is_never_heard_of(void **state) {
  int64_t over = 10 + (int64_t)PL_QUARANTINE_PROBE_S * S;

  (void)state;
  pl__quarantine_add(&q, 4, 10);
  ADMITS(4, 10, PL_QUARANTINE_PROBE);
  ADMITS(4, over - 1, PL_QUARANTINE_REFUSED);
  ADMITS(4, over, PL_QUARANTINE_PROBE);
  ADMITS(4, over, PL_QUARANTINE_REFUSED);
}

static void tells_whole_seconds_and_never_none(void **state) {
  (void)state;
  pl__quarantine_add(&q, 4, 30 * (int64_t)S);
  assert_int_equal(pl__quarantine_left_s(&q, 4, 0), 30);
  assert_int_equal(pl__quarantine_left_s(&q, 4, 1), 30);
  assert_int_equal(pl__quarantine_left_s(&q, 4, S), 29);
  assert_int_equal(pl__quarantine_left_s(&q, 4, 30 * (int64_t)S - 1), 1);
  assert_int_equal(pl__quarantine_left_s(&q, 4, 31 * (int64_t)S), 1);
  ADMITS(4, 30 * (int64_t)S, PL_QUARANTINE_PROBE);
  assert_int_equal(pl__quarantine_left_s(&q, 4, 30 * (int64_t)S), 1);
  assert_int_equal(pl__quarantine_left_s(&q, 5, 0), 1);
}

static void lets_routes_through_for_which_there_is_no_room(void **state) {
  (void)state;
  for (uint32_t i = 0; i < PL_QUARANTINE_ROUTES_MAX; i++)
    assert_true(pl__quarantine_add(&q, i, 10));
  assert_false(pl__quarantine_add(&q, PL_QUARANTINE_ROUTES_MAX, 10));
  ADMITS(PL_QUARANTINE_ROUTES_MAX, 1, PL_QUARANTINE_FREE);
  ADMITS(PL_QUARANTINE_ROUTES_MAX - 1, 1, PL_QUARANTINE_REFUSED);
  assert_false(pl__quarantine_add(&q, NO_ROUTE, 10));
}

/* --- generations -------------------------------------------------------- */

static void frees_all_routes_when_it_is_cleared(void **state) {
  uint32_t route;

  (void)state;
  pl__quarantine_add(&q, 4, 1000); /* refused */
  pl__quarantine_add(&q, 5, 10);   /* being tried */
  ADMITS(5, 10, PL_QUARANTINE_PROBE);
  pl__quarantine_add(&q, 6, 10); /* lifted, and not taken */
  ADMITS(6, 10, PL_QUARANTINE_PROBE);
  pl__quarantine_lift(&q, 6);
  pl__quarantine_clear(&q);
  assert_true(pl__quarantine_is_empty(&q));
  for (uint32_t i = 4; i <= 6; i++)
    ADMITS(i, 11, PL_QUARANTINE_FREE);
  assert_false(pl__quarantine_take(&q, &route));
}

static void refuses_as_before_once_it_was_cleared(void **state) {
  (void)state;
  for (uint32_t i = 0; i < PL_QUARANTINE_ROUTES_MAX; i++)
    pl__quarantine_add(&q, i, 10);
  pl__quarantine_clear(&q);
  for (uint32_t i = 0; i < PL_QUARANTINE_ROUTES_MAX; i++)
    assert_true(pl__quarantine_add(&q, i, 10));
  ADMITS(4, 9, PL_QUARANTINE_REFUSED);
  ADMITS(4, 10, PL_QUARANTINE_PROBE);
}

/* A worker of the generation before comes back to an entry that is gone. */
static void a_late_end_of_a_probe_frees_nothing_of_the_next(void **state) {
  (void)state;
  pl__quarantine_add(&q, 4, 10);
  ADMITS(4, 10, PL_QUARANTINE_PROBE);
  pl__quarantine_clear(&q);
  pl__quarantine_add(&q, 4, 100);
  pl__quarantine_lift(&q, 4);
  ADMITS(4, 99, PL_QUARANTINE_REFUSED);
}

static void refuses_in_one_of_two_generations(void **state) {
  struct pl_quarantine both[2];

  (void)state;
  memset(both, 0, sizeof both);
  assert_true(pl__quarantine_of(both, 2) != pl__quarantine_of(both, 3));
  assert_ptr_equal(pl__quarantine_of(both, 2), pl__quarantine_of(both, 4));
  pl__quarantine_add(pl__quarantine_of(both, 2), 7, 10);
  assert_int_equal(pl__quarantine_admit(pl__quarantine_of(both, 2), 7, 1),
                   PL_QUARANTINE_REFUSED);
  assert_int_equal(pl__quarantine_admit(pl__quarantine_of(both, 3), 7, 1),
                   PL_QUARANTINE_FREE);
  pl__quarantine_clear(pl__quarantine_of(both, 3));
  assert_int_equal(pl__quarantine_admit(pl__quarantine_of(both, 2), 7, 1),
                   PL_QUARANTINE_REFUSED);
}

#define THREADS 4
#define ROUNDS 2000

static pthread_barrier_t barrier;
static _Atomic uint32_t probes;

static void *admit_once_per_round(void *arg) {
  (void)arg;
  for (int64_t i = 1; i <= ROUNDS; i++) {
    pthread_barrier_wait(&barrier);
    if (pl__quarantine_admit(&q, 4, i) == PL_QUARANTINE_PROBE)
      atomic_fetch_add(&probes, 1);
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}

static void elects_one_probe_among_workers_that_ask_at_once(void **state) {
  pthread_t threads[THREADS];

  (void)state;
  atomic_store(&probes, 0);
  pthread_barrier_init(&barrier, NULL, THREADS + 1);
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(
        pthread_create(&threads[i], NULL, admit_once_per_round, NULL), 0);
  for (int64_t i = 1; i <= ROUNDS; i++) {
    pl__quarantine_add(&q, 4, i);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    assert_int_equal(atomic_load(&probes), i);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&barrier);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup(name, make_empty)
  const struct CMUnitTest tests[] = {
      CASE(lets_every_route_through_at_first),
      CASE(refuses_a_route_until_its_time_is_over),
      CASE(lets_one_request_try_and_refuses_the_others),
      CASE(frees_a_route_whose_probe_ends_well),
      CASE(refuses_again_when_the_probe_kills),
      CASE(lets_another_try_when_the_probe_died_of_something_else),
      CASE(leaves_a_route_refused_that_is_not_probed),
      CASE(lets_another_try_when_a_probe_is_never_heard_of),
      CASE(tells_whole_seconds_and_never_none),
      CASE(lets_routes_through_for_which_there_is_no_room),
      CASE(frees_all_routes_when_it_is_cleared),
      CASE(refuses_as_before_once_it_was_cleared),
      CASE(a_late_end_of_a_probe_frees_nothing_of_the_next),
      CASE(refuses_in_one_of_two_generations),
      CASE(elects_one_probe_among_workers_that_ask_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
