/* test/fabric/test_waits.c - what can be seen of coroutines from outside. */
#include "fabric/waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fabric/map.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRIES 64u
#define KILLS 200

static struct pl_fabric fabric;
static struct pl_waits *waits;
static uint32_t entries;

static int make_waits(void **state) {
  char error[PL_FABRIC_ERROR_BYTES];
  struct pl_fabric_section s = {"waits.0", PL_WAITS_VERSION, 1, 0};
  uint64_t bytes;
  void *at;

  (void)state;
  s.element_count = pl__waits_bytes(ENTRIES);
  if (pl__fabric_open(&fabric, &s, 1, error) ||
      pl__fabric_find(&fabric, s.name, s.version, 1, &at, &bytes))
    return -1;
  waits = at;
  entries = pl__waits_entries(bytes);
  pl__waits_init(waits, entries);
  pl__waits_renew(waits, entries);
  return 0;
}

static int free_waits(void **state) {
  (void)state;
  pl__fabric_close(&fabric);
  return 0;
}

static void open_writer(struct pl_waits_writer *w, uint32_t generation) {
  assert_int_equal(pl__waits_writer_open(w, waits, generation), 0);
}

/* A worker that has gone wild may have left any number there. */
static void gives_the_next_worker_no_more_entries_than_there_are(void **state) {
  struct pl_waits_writer w;

  (void)state;
  waits->entries_max = UINT32_MAX;
  pl__waits_renew(waits, entries);
  open_writer(&w, 1);
  assert_non_null(pl__waits_take(&w, ENTRIES - 1));
  assert_null(pl__waits_take(&w, ENTRIES));
  pl__waits_writer_close(&w);
}

static void a_generation_that_is_closed_late_leaves_the_bank_alone(void **s) {
  struct pl_waits_writer first, third;

  (void)s;
  open_writer(&first, 1);
  open_writer(&third, 3);
  assert_non_null(pl__waits_take(&third, 4));
  pl__waits_writer_close(&first);
  assert_int_equal(pl__waits_count(waits, entries, 1), 5);
  pl__waits_writer_close(&third);
  assert_int_equal(pl__waits_count(waits, entries, 1), 0);
}

static void shows_who_waits_for_what(void **state) {
  struct pl_waits_writer w;
  struct pl_waits_entry *e;
  struct pl_waits_seen seen;

  (void)state;
  open_writer(&w, 7);
  assert_int_equal(pl__waits_count(waits, entries, 1), 0);
  e = pl__waits_take(&w, 3);
  atomic_store(&e->id, 42);
  pl__waits_park(e, PL_WAITS_SLEEP, 9, 1000);
  assert_int_equal(pl__waits_count(waits, entries, 1), 4);
  assert_int_equal(pl__waits_count(waits, entries, 0), 0);
  assert_false(pl__waits_see(waits, entries, 1, 2, &seen));
  assert_true(pl__waits_see(waits, entries, 1, 3, &seen));
  assert_int_equal(seen.id, 42);
  assert_int_equal(seen.state, PL_WAITS_PARKED);
  assert_int_equal(seen.reason, PL_WAITS_SLEEP);
  assert_int_equal(seen.object, 9);
  assert_int_equal(seen.since_ns, 1000);
  assert_int_equal(seen.generation, 7);
  pl__waits_set_state(e, PL_WAITS_FREE);
  assert_false(pl__waits_see(waits, entries, 1, 3, &seen));
  pl__waits_writer_close(&w);
  assert_int_equal(pl__waits_count(waits, entries, 1), 0);
}

static void refuses_coroutines_past_its_end(void **state) {
  struct pl_waits_writer w;

  (void)state;
  open_writer(&w, 1);
  assert_non_null(pl__waits_take(&w, ENTRIES - 1));
  assert_null(pl__waits_take(&w, ENTRIES));
  assert_int_equal(atomic_load(&waits->refused), 1);
  pl__waits_writer_close(&w);
}

static void shows_no_entry_that_is_being_written(void **state) {
  struct pl_waits_writer w;
  struct pl_waits_entry *e;
  struct pl_waits_seen seen;

  (void)state;
  open_writer(&w, 2);
  e = pl__waits_take(&w, 0);
  pl__waits_park(e, PL_WAITS_TASK, 1, 1);
  pl__waits_begin_write(e);
  assert_false(pl__waits_see(waits, entries, 0, 0, &seen));
  pl__waits_begin_write(e); /* by one that takes the place of the dead writer */
  pl__waits_end_write(e);
  assert_true(pl__waits_see(waits, entries, 0, 0, &seen));
  pl__waits_writer_close(&w);
}

static void adds_waits_up_and_goes_on_after_a_restart(void **state) {
  struct pl_waits_writer w;

  (void)state;
  open_writer(&w, 1);
  pl__waits_block(&w, 5, PL_WAITS_SLEEP, 1, 100);
  pl__waits_block(&w, 5, PL_WAITS_BODY, 1, 10);
  pl__waits_writer_close(&w);
  pl__waits_renew(waits, entries);
  open_writer(&w, 1);
  pl__waits_block(&w, 5, PL_WAITS_SLEEP, 2, 200);
  assert_int_equal(pl__waits_block_count(waits), 2);
  assert_int_equal(atomic_load(&waits->blocks[0].count), 3);
  assert_int_equal(atomic_load(&waits->blocks[0].ns), 300);
  pl__waits_writer_close(&w);
}

static void loses_no_wait_when_stacks_are_too_many(void **state) {
  struct pl_waits_writer w;
  uint64_t count = 0, ns = 0;

  (void)state;
  open_writer(&w, 1);
  for (uint32_t i = 1; i <= 2 * PL_WAITS_BLOCKS_MAX; i++)
    pl__waits_block(&w, i, (enum pl_waits_reason)(i % PL_WAITS_REASONS), 1, 3);
  for (uint32_t i = 0; i < pl__waits_block_count(waits); i++) {
    count += atomic_load(&waits->blocks[i].count);
    ns += atomic_load(&waits->blocks[i].ns);
  }
  assert_int_equal(count, 2 * PL_WAITS_BLOCKS_MAX);
  assert_int_equal(ns, 6 * PL_WAITS_BLOCKS_MAX);
  pl__waits_writer_close(&w);
}

static void keeps_names_once(void **state) {
  struct pl_waits_writer w;
  struct pl_slice name;

  (void)state;
  open_writer(&w, 1);
  assert_int_equal(pl__waits_name(&w, PL_SLICE("sweep")), 1);
  assert_int_equal(pl__waits_name(&w, PL_SLICE("other")), 2);
  assert_int_equal(pl__waits_name(&w, PL_SLICE("sweep")), 1);
  assert_int_equal(pl__waits_name(&w, PL_SLICE("")), 0);
  name = pl__waits_name_of(waits, 2);
  assert_int_equal(name.bytes, 5);
  assert_memory_equal(name.at, "other", 5);
  assert_int_equal(pl__waits_name_of(waits, 3).bytes, 0);
  pl__waits_writer_close(&w);
}

static void counts_leaks_by_their_line(void **state) {
  struct pl_waits_leak leak = {.started = 4, .kind = PL_WAITS_KIND_TASK};
  struct pl_waits_writer w;

  (void)state;
  open_writer(&w, 1);
  pl__waits_leak(&w, &leak, 1);
  pl__waits_leak(&w, &leak, 2);
  leak.at = 1;
  pl__waits_leak(&w, &leak, 3);
  for (uint32_t i = 0; i < PL_WAITS_LEAKS_MAX; i++) {
    leak.at = 2 + i;
    pl__waits_leak(&w, &leak, 4);
  }
  assert_int_equal(pl__waits_leak_count(waits), PL_WAITS_LEAKS_MAX);
  assert_int_equal(atomic_load(&waits->leaks[0].count), 2);
  assert_int_equal(atomic_load(&waits->leaked[PL_WAITS_KIND_TASK]),
                   3 + PL_WAITS_LEAKS_MAX);
  pl__waits_writer_close(&w);
}

static uint64_t leaks_of(uint32_t generation) {
  uint64_t count = 0;

  for (uint32_t i = 0; i < pl__waits_leak_count(waits); i++)
    if (waits->leaks[i].generation == generation)
      count += waits->leaks[i].count;
  return count;
}

static void has_room_for_leaks_of_later_generations(void **state) {
  struct pl_waits_leak leak = {.kind = PL_WAITS_KIND_TASK, .generation = 1};
  struct pl_waits_writer w;

  (void)state;
  open_writer(&w, 1);
  for (uint32_t i = 0; i < PL_WAITS_LEAKS_MAX; i++) {
    leak.started = i + 1;
    pl__waits_leak(&w, &leak, 1000 - i);
  }
  leak.started = 10000; /* of the same: all is taken */
  pl__waits_leak(&w, &leak, 2000);
  assert_int_equal(leaks_of(1), PL_WAITS_LEAKS_MAX);
  leak.generation = 2;
  pl__waits_leak(&w, &leak, 3000);
  pl__waits_leak(&w, &leak, 3001);
  assert_int_equal(leaks_of(1), PL_WAITS_LEAKS_MAX - 1);
  assert_int_equal(leaks_of(2), 2);
  assert_int_equal(waits->leaks[PL_WAITS_LEAKS_MAX - 1].count, 2); /* oldest */
  assert_int_equal(waits->leaked[PL_WAITS_KIND_TASK], PL_WAITS_LEAKS_MAX + 3);
  pl__waits_writer_close(&w);
}

static void forgets_stacks_and_loses_no_wait(void **state) {
  struct pl_waits_leak leak = {.kind = PL_WAITS_KIND_TASK, .started = 2000};
  struct pl_waits_writer w;
  struct pl_waits_entry *e;
  uint64_t count = 0, kept = 0;

  (void)state;
  open_writer(&w, 1);
  e = pl__waits_take(&w, 0);
  e->at = 1001;
  e->started = 7;
  pl__waits_leak(&w, &leak, 1);
  for (int round = 0; round < 4; round++) {
    for (uint32_t i = 0; i < 3000; i++)
      pl__waits_block(&w, 1000 + i, PL_WAITS_SLEEP, 1, 10);
    pl__waits_block(&w, 7, PL_WAITS_SLEEP, 1, 10);
    pl__waits_forget(waits, 1000, 4000);
  }
  for (uint32_t i = 0; i < pl__waits_block_count(waits); i++) {
    count += waits->blocks[i].count;
    kept += waits->blocks[i].stack == 7 ? waits->blocks[i].count : 0;
    assert_true(waits->blocks[i].stack == 7 || waits->blocks[i].stack == 0 ||
                waits->blocks[i].stack == PL_WAITS_STACK_FREE);
  }
  assert_int_equal(count, 4 * 3001);
  assert_int_equal(kept, 4);
  assert_true(pl__waits_block_count(waits) <= 3002); /* places are used again */
  assert_int_equal(e->at, 0);
  assert_int_equal(e->started, 7);
  assert_int_equal(waits->leaks[0].count, 0);
  pl__waits_writer_close(&w);
}

static void shows_the_suspects_of_the_last_look(void **state) {
  struct pl_waits_suspect rows[2] = {{.at = 1, .level = 1}, {.at = 2}};
  struct pl_waits_suspect seen[PL_WAITS_SUSPECTS_MAX];
  struct pl_waits_writer w;

  (void)state;
  open_writer(&w, 1);
  pl__waits_suspect(&w, rows, 2);
  assert_int_equal(pl__waits_suspects(waits, seen), 2);
  assert_int_equal(seen[1].at, 2);
  pl__waits_suspect(&w, rows, 1);
  assert_int_equal(pl__waits_suspects(waits, seen), 1);
  atomic_fetch_add(&waits->suspects_version, 1);
  assert_int_equal(pl__waits_suspects(waits, seen), 0);
  pl__waits_writer_close(&w);
}

static void believes_no_number_in_it(void **state) {
  struct pl_waits_suspect suspects[PL_WAITS_SUSPECTS_MAX];
  struct pl_waits_seen seen;

  (void)state;
  memset((void *)waits, 0xff, (size_t)pl__waits_bytes(ENTRIES));
  for (uint32_t bank = 0; bank < PL_WAITS_BANKS; bank++)
    for (uint32_t i = 0; i < pl__waits_count(waits, entries, bank); i++)
      assert_false(pl__waits_see(waits, entries, bank, i, &seen));
  assert_int_equal(pl__waits_count(waits, entries, 0), ENTRIES);
  assert_int_equal(pl__waits_block_count(waits), PL_WAITS_BLOCKS_MAX);
  assert_int_equal(pl__waits_leak_count(waits), PL_WAITS_LEAKS_MAX);
  assert_int_equal(pl__waits_name_of(waits, 1).bytes, PL_WAITS_NAME_BYTES);
  pl__waits_suspects(waits, suspects);
  assert_string_equal(pl__waits_reason_name(1000), "unknown");
  assert_string_equal(pl__waits_state_name(1000), "unknown");
}

/* Parks again and again, with an object and a time that belong together. */
static void write_for_ever(void) {
  struct pl_waits_writer w;
  struct pl_waits_entry *e;

  if (pl__waits_writer_open(&w, waits, 1))
    _exit(1);
  e = pl__waits_take(&w, 0);
  for (uint64_t i = 1;; i++)
    pl__waits_park(e, PL_WAITS_SLEEP, i, (int64_t)(i * 3));
}

static void can_be_read_when_its_writer_was_killed(void **state) {
  struct pl_waits_seen seen;
  uint64_t whole = 0;

  (void)state;
  for (int i = 0; i < KILLS; i++) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
      write_for_ever();
    usleep((unsigned)(500 + i * 7 % 300));
    for (int n = 0; n < 100; n++) /* while it lives, too */
      if (pl__waits_see(waits, entries, 1, 0, &seen) && ++whole)
        assert_int_equal((uint64_t)seen.since_ns, seen.object * 3);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (pl__waits_count(waits, entries, 1) &&
        pl__waits_see(waits, entries, 1, 0, &seen))
      assert_int_equal((uint64_t)seen.since_ns, seen.object * 3);
  }
  assert_true(whole > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(
          gives_the_next_worker_no_more_entries_than_there_are, make_waits,
          free_waits),
      cmocka_unit_test_setup_teardown(
          a_generation_that_is_closed_late_leaves_the_bank_alone, make_waits,
          free_waits),
      cmocka_unit_test_setup_teardown(shows_who_waits_for_what, make_waits,
                                      free_waits),
      cmocka_unit_test_setup_teardown(refuses_coroutines_past_its_end,
                                      make_waits, free_waits),
      cmocka_unit_test_setup_teardown(shows_no_entry_that_is_being_written,
                                      make_waits, free_waits),
      cmocka_unit_test_setup_teardown(adds_waits_up_and_goes_on_after_a_restart,
                                      make_waits, free_waits),
      cmocka_unit_test_setup_teardown(loses_no_wait_when_stacks_are_too_many,
                                      make_waits, free_waits),
      cmocka_unit_test_setup_teardown(keeps_names_once, make_waits, free_waits),
      cmocka_unit_test_setup_teardown(counts_leaks_by_their_line, make_waits,
                                      free_waits),
      cmocka_unit_test_setup_teardown(has_room_for_leaks_of_later_generations,
                                      make_waits, free_waits),
      cmocka_unit_test_setup_teardown(forgets_stacks_and_loses_no_wait,
                                      make_waits, free_waits),
      cmocka_unit_test_setup_teardown(shows_the_suspects_of_the_last_look,
                                      make_waits, free_waits),
      cmocka_unit_test_setup_teardown(believes_no_number_in_it, make_waits,
                                      free_waits),
      cmocka_unit_test_setup_teardown(can_be_read_when_its_writer_was_killed,
                                      make_waits, free_waits),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
