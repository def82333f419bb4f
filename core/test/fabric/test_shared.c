/* test/fabric/test_shared.c - names of dictionaries and counters, and what is
 * published. */
#include "fabric/shared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "fabric/dict.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY_BYTES (2u << 20)

static struct pl_shared *shared;
static uint64_t self;

static int map(void **state) {
  (void)state;
  shared = mmap(NULL, pl__shared_bytes(MEMORY_BYTES), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (shared == MAP_FAILED)
    return 1;
  pl__shared_init(shared, MEMORY_BYTES);
  self = pl__lock_self();
  return 0;
}

static int unmap(void **state) {
  (void)state;
  return munmap(shared, pl__shared_bytes(MEMORY_BYTES));
}

static int open_dict(const char *name, uint64_t capacity,
                     struct pl_dict **out) {
  return pl__shared_dict(shared, self, name, (uint32_t)strlen(name), capacity,
                         out);
}

static void gives_each_name_its_own_dictionary(void **state) {
  struct pl_dict *a, *b, *again;

  (void)state;
  assert_int_equal(open_dict("a", 1 << 20, &a), 0);
  assert_int_equal(open_dict("b", PL_DICT_BYTES_MIN, &b), 0);
  assert_int_equal(open_dict("a", 1 << 20, &again), 0);
  assert_ptr_equal(a, again);
  assert_ptr_not_equal(a, b);
  assert_true(pl__shared_left(shared) ==
              MEMORY_BYTES - (1 << 20) - PL_DICT_BYTES_MIN);
}

static void keeps_the_capacity_of_the_first_time(void **state) {
  struct pl_dict *a, *again;
  struct pl_dict_stats s;

  (void)state;
  assert_int_equal(open_dict("a", 1 << 20, &a), 0);
  assert_int_equal(open_dict("a", 1 << 19, &again), 0);
  assert_ptr_equal(a, again);
  pl__dict_stats(a, &s);
  assert_true(s.capacity == 1 << 20);
}

static void refuses_what_has_no_room_or_no_name(void **state) {
  static const char long_name[] =
      "0123456789012345678901234567890123456789012345678901234567890123";
  struct pl_dict *a;

  (void)state;
  assert_int_equal(open_dict("a", MEMORY_BYTES + 1, &a), PL_EFULL);
  assert_int_equal(open_dict("", 1 << 20, &a), PL_EINVAL);
  assert_int_equal(open_dict(long_name, 1 << 20, &a), PL_EINVAL);
  assert_int_equal(open_dict(long_name + 1, 1 << 20, &a), 0);
  assert_int_equal(open_dict("a", PL_DICT_BYTES_MIN - 1, &a), PL_EINVAL);
  assert_int_equal(open_dict("b", 1 << 20, &a), 0);
  assert_int_equal(open_dict("c", PL_DICT_BYTES_MIN, &a), PL_EFULL);
}

static void has_counters_by_name(void **state) {
  struct pl_counter *a, *b, *again;

  (void)state;
  assert_int_equal(pl__counters_find(&shared->counters, self, "a", 1, &a), 0);
  assert_int_equal(pl__counters_find(&shared->counters, self, "b", 1, &b), 0);
  assert_int_equal(pl__counters_find(&shared->counters, self, "a", 1, &again),
                   0);
  assert_ptr_equal(a, again);
  assert_true(pl__counter_add(a, 5) == 5 && pl__counter_add(again, -7) == -2);
  assert_true(pl__counter_get(b) == 0);
  pl__counter_set(b, INT64_C(1) << 53);
  assert_true(pl__counter_add(b, 1) == (INT64_C(1) << 53) + 1);
}

static void refuses_more_counters_than_the_limit(void **state) {
  struct pl_counter *c;
  char name[32];

  (void)state;
  for (uint32_t i = 0; i <= PL_LIMIT_COUNTER_COUNT; i++) {
    int bytes = snprintf(name, sizeof name, "counter %u", i);
    assert_int_equal(
        pl__counters_find(&shared->counters, self, name, (uint32_t)bytes, &c),
        i == PL_LIMIT_COUNTER_COUNT ? PL_EFULL : 0);
  }
  assert_int_equal(pl__counters_find(&shared->counters, self, "", 0, &c),
                   PL_EINVAL);
}

static void publishes_texts_and_counts_them(void **state) {
  static char out[PL_LIMIT_PUBLISHED_BYTES], big[PL_LIMIT_PUBLISHED_BYTES + 1];
  struct pl_published *p = &shared->published;
  uint32_t version = 9;

  (void)state;
  assert_int_equal(pl__published_get(p, out, &version), 0);
  assert_int_equal(version, 0);
  for (uint32_t i = 1; i < 10; i++) {
    memset(big, (char)('a' + i), sizeof big);
    assert_int_equal(pl__published_set(p, self, big, i * 1001, &version), 0);
    assert_int_equal(version, i);
    assert_int_equal(pl__published_get(p, out, &version), i * 1001);
    assert_int_equal(version, i);
    assert_memory_equal(out, big, i * 1001);
  }
  assert_int_equal(pl__published_set(p, self, big, sizeof big, &version),
                   PL_EFULL);
  assert_int_equal(pl__published_set(p, self, big, sizeof big - 1, &version),
                   0);
  assert_int_equal(pl__published_get(p, out, &version), sizeof big - 1);
}

/* As one that was killed before it raised the version leaves it. */
static void shows_nothing_of_a_publication_that_was_cut_off(void **state) {
  static char out[PL_LIMIT_PUBLISHED_BYTES];
  struct pl_published *p = &shared->published;
  uint32_t version;

  (void)state;
  pl__published_set(p, self, "first", 5, &version);
  memset((void *)&p->slots[(version + 1) % PL_PUBLISHED_SLOTS], 'x', 100);
  atomic_store(&p->lock.owner, (uint64_t)1 << 62 | 1); /* nobody alive */
  assert_int_equal(pl__published_get(p, out, &version), 5);
  assert_memory_equal(out, "first", 5);
  assert_int_equal(pl__published_set(p, self, "second", 6, &version), 0);
  assert_int_equal(version, 2);
  assert_int_equal(pl__published_get(p, out, &version), 6);
  assert_memory_equal(out, "second", 6);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, map, unmap)
  const struct CMUnitTest tests[] = {
      TEST(gives_each_name_its_own_dictionary),
      TEST(keeps_the_capacity_of_the_first_time),
      TEST(refuses_what_has_no_room_or_no_name),
      TEST(has_counters_by_name),
      TEST(refuses_more_counters_than_the_limit),
      TEST(publishes_texts_and_counts_them),
      TEST(shows_nothing_of_a_publication_that_was_cut_off),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
