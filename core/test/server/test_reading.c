/* test/server/test_reading.c - coroutines are read while workers write. */
#include "server/reading.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "fabric/map.h"
#include "server/config.h"
#include "server/layout.h"

#define WORKERS 1u
#define SECONDS_MAX 5.0

static struct pl_fabric fabric;
static struct pl_config config;
static struct pl_waits *waits;
static uint32_t entries;
static _Atomic bool is_over;

static int begin(void **state) {
  struct pl_config_input input = {.app = NULL};
  char error[PL_CONFIG_ERROR_BYTES];

  (void)state;
  atomic_store(&is_over, false);
  return pl__config_resolve(&input, &config, error) ||
         pl__layout_open(&fabric, &config, WORKERS, error) ||
         pl__layout_waits(&fabric, 0, &waits, &entries);
}

static int end(void **state) {
  (void)state;
  pl__fabric_close(&fabric);
  pl__config_deinit(&config);
  return 0;
}

/* All coroutines of the worker come and go at once. */
static void *flicker(void *arg) {
  (void)arg;
  while (!atomic_load(&is_over)) {
    atomic_store(&waits->banks[0].count, entries);
    sched_yield();
    atomic_store(&waits->banks[0].count, 0);
    sched_yield();
  }
  return NULL;
}

static void reads_no_more_than_it_has_room_for(void **state) {
  double due = pl__clock_monotonic_s() + SECONDS_MAX;
  uint32_t fewer = 0;
  pthread_t thread;

  (void)state;
  assert_true(entries > 4096);
  for (uint32_t i = 0; i < entries; i++)
    pl__waits_park(&waits->entries[i], PL_WAITS_SLEEP, 0, 1);
  atomic_store(&waits->banks[0].generation, 1);
  assert_int_equal(0, pthread_create(&thread, NULL, flicker, NULL));
  /* Until it was seen: there was room for few, and there were more. */
  while (pl__clock_monotonic_s() < due && fewer < 3) {
    struct pl_reading r;
    struct pl_buf out;
    pl__buf_init(&out, NULL, 4096);
    assert_int_equal(0, pl__reading_open(&r, &fabric, &out));
    assert_int_equal(0, pl__reading_rows(&r));
    assert_true(r.row_count <= r.row_max);
    fewer += r.row_count == r.row_max && r.row_max < entries;
    assert_int_equal(0, pl__reading_close(&r));
    pl__buf_release(&out);
  }
  atomic_store(&is_over, true);
  pthread_join(thread, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
      reads_no_more_than_it_has_room_for, begin, end)};

  return cmocka_run_group_tests(tests, NULL, NULL);
}
