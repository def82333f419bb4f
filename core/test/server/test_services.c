/* test/server/test_services.c - services and their states, from lines. */
#include "base/err.h"
#include "server/services.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int set_up(void **state) {
  static struct pl_services services;

  *state = &services;
  return pl__services_init(&services);
}

static int tear_down(void **state) {
  pl__services_deinit(*state);
  return 0;
}

static void nothing_is_ready_before_it_is_told(void **state) {
  struct pl_services *s = *state;

  assert_int_equal(PL_GRPC_NOT_SERVING, pl__services_status(s, PL_SLICE("")));
  assert_int_equal(PL_GRPC_NOT_SERVING,
                   pl__services_status(s, PL_SLICE("ready")));
  assert_int_equal(PL_GRPC_SERVING, pl__services_status(s, PL_SLICE("live")));
  assert_int_equal(PL_GRPC_SERVICE_UNKNOWN,
                   pl__services_status(s, PL_SLICE("db")));
  assert_null(pl__services_state(s));
}

static void finds_services_by_their_whole_name(void **state) {
  struct pl_services *s = *state;

  assert_int_equal(0,
                   pl__services_set(s, PL_SLICE("=degraded\n+\n-db\n+db.two")));
  assert_int_equal(PL_GRPC_SERVING, pl__services_status(s, PL_SLICE("")));
  assert_int_equal(PL_GRPC_NOT_SERVING, pl__services_status(s, PL_SLICE("db")));
  assert_int_equal(PL_GRPC_SERVING, pl__services_status(s, PL_SLICE("db.two")));
  assert_int_equal(PL_GRPC_SERVICE_UNKNOWN,
                   pl__services_status(s, PL_SLICE("d")));
  assert_int_equal(PL_GRPC_SERVICE_UNKNOWN,
                   pl__services_status(s, PL_SLICE("db.twoo")));
  assert_int_equal(PL_GRPC_SERVICE_UNKNOWN,
                   pl__services_status(s, PL_SLICE("live")));
}

static void tells_the_state_of_the_whole(void **state) {
  struct pl_services *s = *state;

  pl__services_set(s, PL_SLICE("=healthy\n+"));
  assert_string_equal("HEALTHY", pl__services_state(s));
  pl__services_set(s, PL_SLICE("=degraded\n+"));
  assert_string_equal("DEGRADED", pl__services_state(s));
  pl__services_set(s, PL_SLICE("=unhealthy\n-"));
  assert_string_equal("UNHEALTHY", pl__services_state(s));
  pl__services_set(s, PL_SLICE("=splendid\n-"));
  assert_null(pl__services_state(s));
}

static void counts_those_that_do_not_fit_a_list(void **state) {
  struct pl_services *s = *state;
  struct pl_grpc_health_entry entries[2];

  pl__services_set(s, PL_SLICE("=healthy\n+\n-a\n\n+b\n"));
  assert_int_equal(3, pl__services_list(s, entries, 2));
  assert_int_equal(0, entries[0].service.bytes);
  assert_int_equal(PL_GRPC_SERVING, entries[0].status);
  assert_true(pl__slice_equal(PL_SLICE("a"), entries[1].service));
  assert_int_equal(PL_GRPC_NOT_SERVING, entries[1].status);
}

static void keeps_what_it_knows_when_it_is_told_too_much(void **state) {
  static char much[PL_SERVICES_BYTES + 1];
  struct pl_services *s = *state;

  assert_int_equal(0, pl__services_set(s, PL_SLICE("+\n+db")));
  assert_int_equal(PL_EFULL, pl__services_set(s, pl__slice(much, sizeof much)));
  assert_int_equal(PL_GRPC_SERVING, pl__services_status(s, PL_SLICE("db")));
  assert_int_equal(0, pl__services_set(s, PL_SLICE("")));
  assert_int_equal(PL_GRPC_SERVICE_UNKNOWN,
                   pl__services_status(s, PL_SLICE("db")));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(nothing_is_ready_before_it_is_told),
      TEST(finds_services_by_their_whole_name),
      TEST(tells_the_state_of_the_whole),
      TEST(counts_those_that_do_not_fit_a_list),
      TEST(keeps_what_it_knows_when_it_is_told_too_much),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
