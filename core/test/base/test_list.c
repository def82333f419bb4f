/* test/base/test_list.c - order and removal. */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
  int number;
  struct pl_list link;
};

static void gives_back_what_was_pushed_in_order(void **state) {
  (void)state;
  struct pl_list head;
  struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 0}};
  pl__list_init(&head);
  assert_true(pl__list_is_empty(&head));
  pl__list_push_back(&head, &items[0].link);
  pl__list_push_back(&head, &items[1].link);
  pl__list_push_front(&head, &items[2].link);
  for (int i = 0; i < 3; i++) {
    struct pl_list *link = pl__list_take_front(&head);
    assert_int_equal(PL_LIST_ENTRY(link, struct item, link)->number, i);
  }
  assert_null(pl__list_take_front(&head));
}

static void removing_a_link_twice_does_nothing(void **state) {
  (void)state;
  struct pl_list head;
  struct item items[2];
  pl__list_init(&head);
  pl__list_push_back(&head, &items[0].link);
  pl__list_push_back(&head, &items[1].link);
  pl__list_remove(&items[0].link);
  pl__list_remove(&items[0].link);
  assert_ptr_equal(pl__list_first(&head), &items[1].link);
  assert_ptr_equal(head.prev, &items[1].link);
}

static void the_current_link_may_be_removed_in_a_walk(void **state) {
  (void)state;
  struct pl_list head, *link, *after;
  struct item items[10];
  int count = 0;
  pl__list_init(&head);
  for (int i = 0; i < 10; i++) {
    items[i].number = i;
    pl__list_push_back(&head, &items[i].link);
  }
  PL_LIST_EACH(link, after, &head)
  if (PL_LIST_ENTRY(link, struct item, link)->number % 2)
    pl__list_remove(link);
  PL_LIST_EACH(link, after, &head) {
    assert_int_equal(PL_LIST_ENTRY(link, struct item, link)->number, 2 * count);
    count++;
  }
  assert_int_equal(count, 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_back_what_was_pushed_in_order),
      cmocka_unit_test(removing_a_link_twice_does_nothing),
      cmocka_unit_test(the_current_link_may_be_removed_in_a_walk),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
