/* test/server/test_standing.c - what the master tells of the server: readers
 * get it whole, whatever the writer does, even one that dies in between.
 */
#include "server/standing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

static struct pl_standing standing;
static struct pl_standing_facts facts, seen;

static int clear(void **state) {
  (void)state;
  memset(&standing, 0, sizeof standing);
  memset(&facts, 0, sizeof facts);
  memset(&seen, 0, sizeof seen);
  return 0;
}

static void gives_what_was_written(void **state) {
  (void)state;
  memcpy(facts.name, "shop", 5);
  facts.generation = 7;
  facts.worker_count = 2;
  memcpy(facts.workers[1].state, "serving", 8);
  pl__standing_write(&standing, &facts);
  pl__standing_read(&standing, &seen);
  assert_memory_equal(&seen, &facts, sizeof facts);
}

static void writes_only_what_is_new(void **state) {
  uint32_t serial;

  (void)state;
  pl__standing_write(&standing, &facts);
  serial = atomic_load(&standing.serial);
  assert_int_not_equal(serial, 0);
  pl__standing_write(&standing, &facts);
  assert_int_equal(serial, atomic_load(&standing.serial));
  facts.generation = 2;
  pl__standing_write(&standing, &facts);
  assert_int_equal(serial + 2, atomic_load(&standing.serial));
}

static void reads_on_when_the_writer_died_while_it_wrote(void **state) {
  (void)state;
  facts.generation = 3;
  pl__standing_write(&standing, &facts);
  atomic_fetch_add(&standing.serial, 1);
  memset(standing.facts.name, 'x', sizeof standing.facts.name);
  standing.facts.worker_count = UINT32_MAX;
  standing.facts.address_count = UINT32_MAX;
  pl__standing_read(&standing, &seen);
  assert_int_equal(seen.generation, 3);
  assert_true(memchr(seen.name, '\0', sizeof seen.name) != NULL);
  assert_int_equal(seen.worker_count, PL_STANDING_WORKERS_MAX);
  assert_int_equal(seen.address_count, PL_CONFIG_LISTEN_MAX);
  facts.generation = 4; /* the next writer puts it right */
  pl__standing_write(&standing, &facts);
  assert_int_equal(atomic_load(&standing.serial) % 2, 0);
  pl__standing_read(&standing, &seen);
  assert_memory_equal(&seen, &facts, sizeof facts);
}

#define ROUNDS 20000u

static void *write_all(void *arg) {
  static struct pl_standing_facts f;

  (void)arg;
  for (uint32_t i = 1; i <= ROUNDS; i++) {
    f.generation = f.workers[PL_STANDING_WORKERS_MAX - 1].restarts = i;
    pl__standing_write(&standing, &f);
  }
  return NULL;
}

static void is_never_torn_for_readers(void **state) {
  pthread_t writer;
  uint32_t last = 0;

  (void)state;
  assert_int_equal(0, pthread_create(&writer, NULL, write_all, NULL));
  while (last < ROUNDS) {
    uint32_t before = atomic_load(&standing.serial);
    pl__standing_read(&standing, &seen);
    if (before % 2 || atomic_load(&standing.serial) != before)
      continue; /* it may have given up */
    assert_int_equal(seen.generation,
                     seen.workers[PL_STANDING_WORKERS_MAX - 1].restarts);
    assert_true(seen.generation >= last);
    last = seen.generation;
  }
  pthread_join(writer, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(gives_what_was_written, clear),
      cmocka_unit_test_setup(writes_only_what_is_new, clear),
      cmocka_unit_test_setup(reads_on_when_the_writer_died_while_it_wrote,
                             clear),
      cmocka_unit_test_setup(is_never_torn_for_readers, clear),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
