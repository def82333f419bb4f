/* test/fabric/test_aborts.c - what the compiler gave up, by reason and place. */
#include "fabric/aborts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static struct pl_aborts aborts;

static int begin(void **state) {
  (void)state;
  memset(&aborts, 0, sizeof aborts);
  return 0;
}

static void note(const char *reason, const char *at, uint32_t blacklisted) {
  struct pl_abort_note n = {.reason = pl__slice_text(reason),
                            .at = pl__slice_text(at),
                            .from = PL_SLICE("app.lua:1"),
                            .route = 7,
                            .generation = 3,
                            .blacklisted = blacklisted};

  pl__aborts_note(&aborts, &n);
}

/* The one whose place that is; false: there is none. */
static bool find(const char *at, struct pl_abort_note *out, uint32_t *count) {
  for (uint32_t i = 0; i < PL_ABORTS_COUNT; i++)
    if (pl__aborts_get(&aborts, i, out, count) &&
        pl__slice_equal(out->at, pl__slice_text(at)))
      return true;
  return false;
}

static void counts_what_is_the_same_in_one_entry(void **state) {
  struct pl_abort_note n;
  uint32_t count;

  (void)state;
  note("NYI: bytecode FNEW", "app.lua:4", PL_ABORT_NOT_BLACKLISTED);
  note("NYI: bytecode FNEW", "app.lua:4", PL_ABORT_LOOP);
  note("NYI: bytecode FNEW", "app.lua:4", PL_ABORT_NOT_BLACKLISTED);
  note("blacklisted", "app.lua:5", PL_ABORT_NOT_BLACKLISTED);
  assert_true(find("app.lua:4", &n, &count));
  assert_int_equal(3, count);
  assert_int_equal(PL_ABORT_LOOP, n.blacklisted); /* and so it stays */
  assert_true(pl__slice_equal(n.reason, PL_SLICE("NYI: bytecode FNEW")));
  assert_true(pl__slice_equal(n.from, PL_SLICE("app.lua:1")));
  assert_int_equal(7, n.route);
  assert_int_equal(3, n.generation);
  assert_true(find("app.lua:5", &n, &count));
  assert_int_equal(1, count);
}

static void cuts_places_in_front_so_that_the_line_stays(void **state) {
  char at[PL_ABORT_PLACE_BYTES + 40], reason[PL_ABORT_REASON_BYTES + 40];
  struct pl_abort_note n;
  uint32_t count;

  (void)state;
  memset(at, 'x', sizeof at);
  memcpy(at + sizeof at - 4, ":42", 4);
  memset(reason, 'r', sizeof reason);
  reason[sizeof reason - 1] = '\0';
  note(reason, at, PL_ABORT_NOT_BLACKLISTED);
  assert_true(find(at + sizeof at - 1 - PL_ABORT_PLACE_BYTES, &n, &count));
  assert_int_equal(PL_ABORT_REASON_BYTES, n.reason.bytes);
}

static void counts_as_lost_what_finds_no_room(void **state) {
  uint32_t seen = 0, count;
  struct pl_abort_note n;
  char at[32];

  (void)state;
  for (uint32_t i = 0; i < 2 * PL_ABORTS_COUNT; i++) {
    snprintf(at, sizeof at, "app.lua:%u", i);
    note("blacklisted", at, PL_ABORT_NOT_BLACKLISTED);
  }
  for (uint32_t i = 0; i < PL_ABORTS_COUNT; i++)
    seen += pl__aborts_get(&aborts, i, &n, &count);
  assert_true(seen > PL_ABORTS_COUNT / 2);
  assert_int_equal(2 * PL_ABORTS_COUNT, seen + aborts.lost);
}

static void forgets_all_when_it_is_cleared(void **state) {
  struct pl_abort_note n;
  uint32_t count;

  (void)state;
  note("blacklisted", "app.lua:5", PL_ABORT_NOT_BLACKLISTED);
  pl__aborts_clear(&aborts);
  assert_false(find("app.lua:5", &n, &count));
  note("blacklisted", "app.lua:5", PL_ABORT_NOT_BLACKLISTED);
  assert_true(find("app.lua:5", &n, &count));
  assert_int_equal(1, count);
}

/* A worker that ran wild may have written anything. */
static void reads_no_further_than_its_texts(void **state) {
  struct pl_abort_note n;
  uint32_t count;

  (void)state;
  memset(&aborts.at[9], 0xff, sizeof aborts.at[9]);
  assert_true(pl__aborts_get(&aborts, 9, &n, &count));
  assert_int_equal(PL_ABORT_REASON_BYTES, n.reason.bytes);
  assert_int_equal(PL_ABORT_PLACE_BYTES, n.at.bytes);
  assert_int_equal(PL_ABORT_PLACE_BYTES, n.from.bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(counts_what_is_the_same_in_one_entry, begin),
      cmocka_unit_test_setup(cuts_places_in_front_so_that_the_line_stays,
                             begin),
      cmocka_unit_test_setup(counts_as_lost_what_finds_no_room, begin),
      cmocka_unit_test_setup(forgets_all_when_it_is_cleared, begin),
      cmocka_unit_test_setup(reads_no_further_than_its_texts, begin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
