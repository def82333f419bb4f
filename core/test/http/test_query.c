/* test/http/test_query.c - queries and forms. */
#include "http/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"

static struct pl_arena arena;
static struct pl_header *fields;
static uint32_t field_count;

static int set_up(void **state) {
  (void)state;
  pl__arena_init(&arena, NULL, PL_LIMIT_ARENA_BYTES);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__arena_reset(&arena, false);
  return 0;
}

static int parse(const char *text) {
  return pl__query_parse(pl__slice(text, strlen(text)), &arena, 4, &fields,
                         &field_count);
}

static void assert_field(uint32_t i, const char *name, const char *value) {
  assert_in_range(i, 0, field_count - 1);
  assert_int_equal(fields[i].name.bytes, strlen(name));
  assert_memory_equal(fields[i].name.at, name, strlen(name));
  assert_int_equal(fields[i].value.bytes, strlen(value));
  assert_memory_equal(fields[i].value.at, value, strlen(value));
}

static void splits_fields_in_order(void **state) {
  (void)state;
  assert_int_equal(parse("a=1&b=&a=2&c"), 0);
  assert_int_equal(field_count, 4);
  assert_field(0, "a", "1");
  assert_field(1, "b", "");
  assert_field(2, "a", "2");
  assert_field(3, "c", "");
}

static void decodes_plus_and_escapes(void **state) {
  (void)state;
  assert_int_equal(parse("a%20b=c+d&%26=%3d%00&x=1=2"), 0);
  assert_field(0, "a b", "c d");
  assert_int_equal(fields[1].value.bytes, 2);
  assert_memory_equal(fields[1].value.at, "=\0", 2);
  assert_field(2, "x", "1=2");
}

static void keeps_broken_escapes(void **state) {
  (void)state;
  assert_int_equal(parse("a=%&b=%4&c=%zz&d=%%41"), 0);
  assert_field(0, "a", "%");
  assert_field(1, "b", "%4");
  assert_field(2, "c", "%zz");
  assert_field(3, "d", "%A");
}

static void copies_nothing_when_there_is_nothing_to_decode(void **state) {
  const char *text = "ab=cd";
  (void)state;
  assert_int_equal(parse(text), 0);
  assert_ptr_equal(fields[0].name.at, text);
  assert_ptr_equal(fields[0].value.at, text + 3);
}

static void skips_empty_pieces(void **state) {
  (void)state;
  assert_int_equal(parse("&&a=1&&&=&"), 0);
  assert_int_equal(field_count, 2);
  assert_field(0, "a", "1");
  assert_field(1, "", "");
  assert_int_equal(parse(""), 0);
  assert_int_equal(field_count, 0);
  assert_int_equal(parse("&&"), 0);
  assert_int_equal(field_count, 0);
}

static void refuses_more_fields_than_allowed(void **state) {
  (void)state;
  assert_int_equal(parse("a&b&c&d"), 0);
  assert_int_equal(parse("a&b&c&d&"), 0);
  assert_int_equal(parse("a&b&c&d&e"), PL_EFULL);
}

static void reports_a_full_arena(void **state) {
  struct pl_arena none;
  (void)state;
  pl__arena_init(&none, NULL, 8);
  assert_int_equal(
      pl__query_parse(PL_SLICE("a=1"), &none, 4, &fields, &field_count),
      PL_ENOMEM);
  pl__arena_reset(&none, false);
}

static void splits_the_query_of_a_request_once(void **state) {
  struct pl_req req = {.query = PL_SLICE("a=1&b=2&b=3"), .arena = &arena};
  (void)state;
  assert_int_equal(pl__req_queries(&req), 0);
  struct pl_header *first = req.queries;
  req.query = PL_SLICE("c");
  assert_int_equal(pl__req_queries(&req), 0);
  assert_ptr_equal(req.queries, first);
  assert_int_equal(req.query_count, 3);
  assert_int_equal(pl__fields_find(first, 3, PL_SLICE("b"), 0), 1);
  assert_int_equal(pl__fields_find(first, 3, PL_SLICE("b"), 2), 2);
  assert_int_equal(pl__fields_find(first, 3, PL_SLICE("B"), 0), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_fields_in_order),
      cmocka_unit_test(decodes_plus_and_escapes),
      cmocka_unit_test(keeps_broken_escapes),
      cmocka_unit_test(copies_nothing_when_there_is_nothing_to_decode),
      cmocka_unit_test(skips_empty_pieces),
      cmocka_unit_test(refuses_more_fields_than_allowed),
      cmocka_unit_test(reports_a_full_arena),
      cmocka_unit_test(splits_the_query_of_a_request_once),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
