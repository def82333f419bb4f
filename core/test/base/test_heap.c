/* test/base/test_heap.c - order under random use, limits. */
#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

#define COUNT 3000

static struct pl_heap_node nodes[COUNT];
static uint32_t seed;

static uint32_t next_random(void) {
  seed = seed * 1664525u + 1013904223u;
  return seed >> 8;
}

static void prepare(struct pl_heap *h, uint32_t count_max) {
  seed = 7;
  pl__heap_init(h, count_max);
  for (int i = 0; i < COUNT; i++)
    pl__heap_node_init(&nodes[i]);
}

static void assert_in_order(const struct pl_heap *h) {
  for (uint32_t i = 0; i < h->count; i++) {
    assert_int_equal(h->nodes[i]->index, i);
    if (i)
      assert_true(h->nodes[(i - 1) / 4]->due <= h->nodes[i]->due);
  }
}

static void gives_nodes_by_time(void **state) {
  (void)state;
  struct pl_heap h;
  prepare(&h, COUNT);
  for (int i = 0; i < COUNT; i++)
    assert_int_equal(pl__heap_push(&h, &nodes[i], next_random() % 1000), 0);
  assert_in_order(&h);
  double last = -1;
  for (int i = 0; i < COUNT; i++) {
    struct pl_heap_node *n = pl__heap_take_due(&h, 1e9);
    assert_non_null(n);
    assert_true(n->due >= last);
    assert_false(pl__heap_node_is_in(n));
    last = n->due;
  }
  assert_null(pl__heap_first(&h));
  pl__heap_deinit(&h);
}

static void gives_nothing_that_is_not_due(void **state) {
  (void)state;
  struct pl_heap h;
  prepare(&h, 2);
  pl__heap_push(&h, &nodes[0], 10);
  assert_null(pl__heap_take_due(&h, 9.9));
  assert_ptr_equal(pl__heap_take_due(&h, 10), &nodes[0]);
  pl__heap_deinit(&h);
}

static void stays_in_order_under_random_pushes_and_removals(void **state) {
  (void)state;
  struct pl_heap h;
  uint32_t in = 0;
  prepare(&h, COUNT);
  for (int i = 0; i < 20000; i++) {
    struct pl_heap_node *n = &nodes[next_random() % COUNT];
    double due = next_random() % 500;
    if (!pl__heap_node_is_in(n)) {
      assert_int_equal(pl__heap_push(&h, n, due), 0);
      in++;
    } else {
      pl__heap_remove(&h, n);
      in--;
    }
    if (i % 500 == 0)
      assert_in_order(&h);
  }
  assert_int_equal(h.count, in);
  assert_in_order(&h);
  pl__heap_deinit(&h);
  for (int i = 0; i < COUNT; i++)
    assert_false(pl__heap_node_is_in(&nodes[i]));
}

static void removing_a_node_twice_does_nothing(void **state) {
  (void)state;
  struct pl_heap h;
  prepare(&h, 10);
  pl__heap_push(&h, &nodes[0], 1);
  pl__heap_push(&h, &nodes[1], 2);
  pl__heap_remove(&h, &nodes[0]);
  pl__heap_remove(&h, &nodes[0]);
  assert_int_equal(h.count, 1);
  assert_ptr_equal(pl__heap_first(&h), &nodes[1]);
  pl__heap_deinit(&h);
}

static void takes_count_max_and_refuses_one_more(void **state) {
  (void)state;
  struct pl_heap h;
  prepare(&h, 100);
  for (int i = 0; i < 100; i++)
    assert_int_equal(pl__heap_push(&h, &nodes[i], i), 0);
  assert_int_equal(pl__heap_push(&h, &nodes[100], 0), PL_EFULL);
  assert_int_equal(pl__heap_reserve(&h, 101), PL_EFULL);
  assert_false(pl__heap_node_is_in(&nodes[100]));
  pl__heap_deinit(&h);
}

static void stays_as_it_was_without_memory(void **state) {
  (void)state;
  struct pl_heap h;
  prepare(&h, COUNT);
  pl__alloc_fail_after(1, true);
  assert_int_equal(pl__heap_push(&h, &nodes[0], 1), PL_ENOMEM);
  pl__alloc_fail_after(0, false);
  assert_int_equal(h.count, 0);
  assert_false(pl__heap_node_is_in(&nodes[0]));
  pl__heap_deinit(&h);
}

static void reserved_room_makes_pushing_free_of_allocations(void **state) {
  (void)state;
  struct pl_heap h;
  prepare(&h, COUNT);
  assert_int_equal(pl__heap_reserve(&h, COUNT), 0);
  uint64_t before = pl__alloc_count();
  for (int i = 0; i < COUNT; i++)
    assert_int_equal(pl__heap_push(&h, &nodes[i], i), 0);
  assert_int_equal(pl__alloc_count(), before);
  pl__heap_deinit(&h);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_nodes_by_time),
      cmocka_unit_test(gives_nothing_that_is_not_due),
      cmocka_unit_test(stays_in_order_under_random_pushes_and_removals),
      cmocka_unit_test(removing_a_node_twice_does_nothing),
      cmocka_unit_test(takes_count_max_and_refuses_one_more),
      cmocka_unit_test(stays_as_it_was_without_memory),
      cmocka_unit_test(reserved_room_makes_pushing_free_of_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
