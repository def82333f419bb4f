/* test/base/test_pairs.c - lists of a=b, and what is none. */
#include "base/pairs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

static char room[PL_PAIRS_VALUE_BYTES];
static struct pl_slice name, value;

static void assert_pair(struct pl_slice *list, const char *a, const char *b) {
  assert_int_equal(1, pl__pairs_take(list, &name, &value, room));
  assert_true(pl__slice_equal(pl__slice_text(a), name));
  assert_true(pl__slice_equal(pl__slice_text(b), value));
}

static void blanks_and_empty_elements_are_left_out(void **state) {
  struct pl_slice list = PL_SLICE(",a=1, b = two words ,,c=,");

  (void)state;
  assert_pair(&list, "a", "1");
  assert_pair(&list, "b", "two words");
  assert_pair(&list, "c", "");
  assert_int_equal(0, pl__pairs_take(&list, &name, &value, room));
  assert_int_equal(0, pl__pairs_take(&list, &name, &value, room));
}

static void values_are_unescaped(void **state) {
  struct pl_slice list = PL_SLICE("a=%2C%3d%25%e4,b=x=y");

  (void)state;
  assert_pair(&list, "a", ",=%\xe4");
  assert_pair(&list, "b", "x=y");
}

static void what_is_no_pair_is_bad(void **state) {
  static const char *const bad[] = {"a", "=1", " =1", "a=%", "a=%2", "a=%2g"};

  (void)state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct pl_slice list = pl__slice_text(bad[i]);
    assert_int_equal(PL_EBAD, pl__pairs_take(&list, &name, &value, room));
  }
}

static void a_value_has_a_limit(void **state) {
  static char text[PL_PAIRS_VALUE_BYTES + 3];
  struct pl_slice list = pl__slice(text, sizeof text - 1);

  (void)state;
  memset(text, 'x', sizeof text);
  text[1] = '=';
  assert_int_equal(1, pl__pairs_take(&list, &name, &value, room));
  assert_int_equal(PL_PAIRS_VALUE_BYTES, value.bytes);
  list = pl__slice(text, sizeof text);
  assert_int_equal(PL_EBAD, pl__pairs_take(&list, &name, &value, room));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(blanks_and_empty_elements_are_left_out),
      cmocka_unit_test(values_are_unescaped),
      cmocka_unit_test(what_is_no_pair_is_bad),
      cmocka_unit_test(a_value_has_a_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
