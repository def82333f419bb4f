/* test/fabric/test_slabs.c - the stack of slabs, and memory that goes back. */
#include "fabric/slabs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/map.h"

#include <stdbool.h>
#include <string.h>

#define COUNT 64u
#define SLAB_BYTES 65536u

static struct pl_fabric fabric;
static struct pl_slabs slabs;
static void *section;

static int make_slabs(void **state) {
  (void)state;
  char error[PL_FABRIC_ERROR_BYTES];
  struct pl_fabric_section s = {"slabs.0", PL_SLABS_VERSION, SLAB_BYTES, COUNT};
  if (pl__fabric_open(&fabric, &s, 1, error) ||
      pl__fabric_find(&fabric, "slabs.0", PL_SLABS_VERSION, SLAB_BYTES,
                      &section, NULL))
    return -1;
  return pl__slabs_init(&slabs, section, SLAB_BYTES, COUNT);
}

static int free_slabs(void **state) {
  (void)state;
  pl__slabs_deinit(&slabs);
  pl__fabric_close(&fabric);
  return 0;
}

/* Takes `count` slabs and writes all over them; the indices are returned. */
static void take_and_touch(uint32_t *indices, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    char *at = pl__slabs_take(&slabs, &indices[i]);
    assert_non_null(at);
    memset(at, 'x', SLAB_BYTES);
  }
}

static void give_all(const uint32_t *indices, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    pl__slabs_give(&slabs, indices[i]);
}

static uint64_t resident(void) {
  uint64_t bytes = 0;
  assert_int_equal(pl__fabric_resident(&fabric, &bytes), 0);
  return bytes;
}

static void gives_each_slab_once_until_none_is_left(void **state) {
  (void)state;
  bool seen[COUNT] = {false};
  uint32_t index;
  for (uint32_t i = 0; i < COUNT; i++) {
    void *at = pl__slabs_take(&slabs, &index);
    assert_non_null(at);
    assert_in_range(index, 0, COUNT - 1);
    assert_false(seen[index]);
    seen[index] = true;
    assert_ptr_equal(at, pl__slabs_at(&slabs, index));
  }
  assert_null(pl__slabs_take(&slabs, &index));
  assert_int_equal(slabs.full_count, 1);
  assert_int_equal(slabs.in_use, COUNT);
}

static void takes_the_warmest_slab_first(void **state) {
  (void)state;
  uint32_t indices[3], index;
  take_and_touch(indices, 3);
  pl__slabs_give(&slabs, indices[2]);
  pl__slabs_give(&slabs, indices[0]);
  pl__slabs_take(&slabs, &index);
  assert_int_equal(index, indices[0]);
  pl__slabs_take(&slabs, &index);
  assert_int_equal(index, indices[2]);
}

static void memory_goes_back_after_a_peak(void **state) {
  (void)state;
  uint32_t indices[COUNT];
  uint64_t before = resident();
  take_and_touch(indices, COUNT);
  assert_int_equal(resident() - before, COUNT * SLAB_BYTES);
  give_all(indices, COUNT);
  assert_int_equal(pl__slabs_trim(&slabs, 0, COUNT), 0); /* still a peak */
  pl__slabs_tick(&slabs);
  assert_int_equal(pl__slabs_trim(&slabs, 0, COUNT), 0);
  pl__slabs_tick(&slabs);
  assert_int_equal(pl__slabs_trim(&slabs, 4, 10), 10);
  assert_int_equal(pl__slabs_trim(&slabs, 4, COUNT), COUNT - 14);
  assert_int_equal(pl__slabs_trim(&slabs, 4, COUNT), 0);
  assert_int_equal(resident() - before, 4 * SLAB_BYTES);
  assert_int_equal(pl__slabs_dirty(&slabs), 4);
}

static void slabs_in_use_are_never_punched(void **state) {
  (void)state;
  uint32_t indices[COUNT];
  take_and_touch(indices, COUNT);
  give_all(indices + 5, COUNT - 5);
  for (int i = 0; i < 3; i++)
    pl__slabs_tick(&slabs);
  assert_int_equal(pl__slabs_trim(&slabs, 0, COUNT), COUNT - 5);
  for (uint32_t i = 0; i < 5; i++) {
    const char *at = pl__slabs_at(&slabs, indices[i]);
    assert_int_equal(at[0], 'x');
    assert_int_equal(at[SLAB_BYTES - 1], 'x');
  }
}

static void the_warm_ones_stay_when_the_cold_ones_go(void **state) {
  (void)state;
  uint32_t indices[10], index;
  take_and_touch(indices, 10);
  give_all(indices, 10);
  for (int i = 0; i < 2; i++)
    pl__slabs_tick(&slabs);
  assert_int_equal(pl__slabs_trim(&slabs, 2, COUNT), 8);
  const char *at = pl__slabs_take(&slabs, &index);
  assert_int_equal(index, indices[9]);
  assert_int_equal(at[0], 'x');
}

static void a_steady_load_keeps_its_pages(void **state) {
  (void)state;
  uint32_t indices[8];
  uint64_t before;
  take_and_touch(indices, 8);
  give_all(indices, 8);
  before = resident();
  for (int i = 0; i < 10; i++) {
    take_and_touch(indices, 8);
    give_all(indices, 8);
    pl__slabs_tick(&slabs);
    assert_int_equal(pl__slabs_trim(&slabs, 0, COUNT), 0);
  }
  assert_int_equal(resident(), before);
}

static void a_new_worker_begins_with_clean_slabs(void **state) {
  (void)state;
  uint32_t indices[COUNT];
  uint64_t before = resident();
  take_and_touch(indices, COUNT);
  pl__slabs_deinit(&slabs); /* the worker died: nothing was given back */
  assert_int_equal(pl__slabs_init(&slabs, section, SLAB_BYTES, COUNT), 0);
  assert_int_equal(resident(), before);
  take_and_touch(indices, COUNT);
}

static void stays_empty_without_memory(void **state) {
  (void)state;
  struct pl_slabs other;
  pl__alloc_fail_after(1, false);
  assert_int_equal(pl__slabs_init(&other, section, SLAB_BYTES, COUNT),
                   PL_ENOMEM);
  pl__alloc_fail_after(0, false);
}

static void taking_and_giving_allocates_nothing(void **state) {
  (void)state;
  uint32_t index;
  uint64_t before = pl__alloc_count();
  for (int i = 0; i < 1000; i++) {
    pl__slabs_take(&slabs, &index);
    pl__slabs_give(&slabs, index);
  }
  assert_int_equal(pl__alloc_count(), before);
  assert_int_equal(pl__slabs_dirty(&slabs), 1);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_slabs, free_slabs)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(gives_each_slab_once_until_none_is_left),
      FACT(takes_the_warmest_slab_first),
      FACT(memory_goes_back_after_a_peak),
      FACT(slabs_in_use_are_never_punched),
      FACT(the_warm_ones_stay_when_the_cold_ones_go),
      FACT(a_steady_load_keeps_its_pages),
      FACT(a_new_worker_begins_with_clean_slabs),
      FACT(stays_empty_without_memory),
      FACT(taking_and_giving_allocates_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
