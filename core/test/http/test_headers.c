/* test/http/test_headers.c - field look-up, lists and media types. */
#include "http/headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct pl_slice text(const char *s) { return pl__slice(s, strlen(s)); }

static void assert_slice(struct pl_slice s, const char *wanted) {
  assert_int_equal(s.bytes, strlen(wanted));
  assert_memory_equal(s.at, wanted, s.bytes);
}

static void finds_fields_in_any_case_and_in_order(void **state) {
  struct pl_header h[] = {{PL_SLICE("Accept"), PL_SLICE("a")},
                          {PL_SLICE("X-B"), PL_SLICE("")},
                          {PL_SLICE("aCCEPT"), PL_SLICE("c")}};
  struct pl_req req = {.headers = h, .header_count = 3};
  (void)state;
  assert_int_equal(pl__headers_find(&req, text("accept"), 0), 0);
  assert_int_equal(pl__headers_find(&req, text("ACCEPT"), 1), 2);
  assert_int_equal(pl__headers_find(&req, text("accept"), 3), -1);
  assert_int_equal(pl__headers_find(&req, text("accep"), 0), -1);
  assert_slice(pl__headers_get(&req, text("accept")), "a");
  assert_non_null(pl__headers_get(&req, text("x-b")).at);
  assert_null(pl__headers_get(&req, text("x-c")).at);
}

static void does_not_take_other_bytes_for_letters(void **state) {
  struct pl_header h = {PL_SLICE("a[b"), PL_SLICE("")};
  struct pl_req req = {.headers = &h, .header_count = 1};
  (void)state;
  assert_int_equal(pl__headers_find(&req, text("a{b"), 0), -1);
  assert_int_equal(pl__headers_find(&req, text("A[B"), 0), 0);
}

static void tells_tokens_and_values(void **state) {
  (void)state;
  assert_true(pl__field_name_is_valid(text("x-A_1~")));
  assert_false(pl__field_name_is_valid(text("")));
  assert_false(pl__field_name_is_valid(text("a b")));
  assert_false(pl__field_name_is_valid(text("a:")));
  assert_false(pl__field_name_is_valid(text("a\n")));
  assert_false(pl__field_name_is_valid(text("\xc3\xa4")));
  assert_true(pl__field_value_is_valid(text("")));
  assert_true(pl__field_value_is_valid(text("a \t\xc3\xa4")));
  assert_false(pl__field_value_is_valid(text("a\r")));
  assert_false(pl__field_value_is_valid(text("a\nb")));
  assert_false(pl__field_value_is_valid(pl__slice("a\0b", 3)));
  assert_false(pl__field_value_is_valid(text("a\x7f")));
}

static void takes_lists_apart(void **state) {
  struct pl_slice rest = text(" a ,, \"b,\\\"c\" d,\t,e"), element;
  (void)state;
  assert_true(pl__list_take(&rest, &element));
  assert_slice(element, "a");
  assert_true(pl__list_take(&rest, &element));
  assert_slice(element, "\"b,\\\"c\" d");
  assert_true(pl__list_take(&rest, &element));
  assert_slice(element, "e");
  assert_false(pl__list_take(&rest, &element));
  rest = text(" ,,");
  assert_false(pl__list_take(&rest, &element));
}

static void finds_tokens_in_lists(void **state) {
  (void)state;
  assert_true(pl__list_has(text("Close"), text("close")));
  assert_true(pl__list_has(text("x ,CLOSE"), text("close")));
  assert_false(pl__list_has(text("closed"), text("close")));
  assert_false(pl__list_has(text("\"close\""), text("close")));
  assert_false(pl__list_has(text("\"a, close\""), text("close")));
  assert_false(pl__list_has(text(""), text("close")));
}

static void names_methods_both_ways(void **state) {
  (void)state;
  assert_slice(pl__method_name(PL_METHOD_PATCH), "PATCH");
  assert_int_equal(pl__method_name(8).bytes, 0);
  assert_int_equal(pl__method_name(255).bytes, 0);
  assert_int_equal(pl__method_find(text("DELETE")), PL_METHOD_DELETE);
  assert_int_equal(pl__method_find(text("get")), -1);
  assert_int_equal(pl__method_find(text("")), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_fields_in_any_case_and_in_order),
      cmocka_unit_test(does_not_take_other_bytes_for_letters),
      cmocka_unit_test(tells_tokens_and_values),
      cmocka_unit_test(takes_lists_apart),
      cmocka_unit_test(finds_tokens_in_lists),
      cmocka_unit_test(names_methods_both_ways),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
