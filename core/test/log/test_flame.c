/* test/log/test_flame.c - stacks with values, for people. */
#include "log/flame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

static const struct pl_flame_unit unit = {"CPU time", "ms", 1000};
static struct pl_flame flame;
static struct pl_buf out;

static int begin(void **state) {
  (void)state;
  pl__buf_init(&out, NULL, PL_FLAME_BYTES_MAX);
  return pl__flame_open(&flame);
}

static int end(void **state) {
  (void)state;
  pl__flame_close(&flame);
  pl__buf_release(&out);
  return 0;
}

/* "inner<outer<outermost": a stack as it is handed over. */
static void add(const char *stack, int64_t value) {
  struct pl_flame_frame frames[PL_FLAME_DEPTH_MAX];
  uint32_t depth = 0;

  for (const char *at = stack, *stop; at; at = stop ? stop + 1 : NULL) {
    stop = strchr(at, '<');
    frames[depth].name = pl__slice(at, stop ? (size_t)(stop - at) : strlen(at));
    frames[depth++].kind = at[0] == '(' ? PL_SYMBOL_CORE : PL_SYMBOL_LUA;
  }
  assert_int_equal(0, pl__flame_add(&flame, frames, depth, value));
}

static const char *text(void) {
  assert_int_equal(0, pl__buf_append(&out, "", 1));
  return out.at;
}

static void folds_what_is_alike(void **state) {
  (void)state;
  add("b<a", 10);
  add("c<a", 5);
  add("b<a", 20);
  add("a", 1);
  assert_int_equal(0, pl__flame_folded(&flame, &out));
  assert_string_equal("a 1\na;b 30\na;c 5\n", text());
}

static void a_table_counts_recursion_once(void **state) {
  (void)state;
  add("f<f<f<main", 600000);
  add("g<f<main", 400000);
  assert_int_equal(0, pl__flame_text(&flame, &unit, 10, &out));
  assert_string_equal("1000.0 ms of CPU time\n"
                      "        flat   flat%    sum%          cum    cum%\n"
                      "    600.0 ms  60.00%  60.00%    1000.0 ms 100.00%  f\n"
                      "    400.0 ms  40.00% 100.00%     400.0 ms  40.00%  g\n"
                      "      0.0 ms   0.00% 100.00%    1000.0 ms 100.00%  "
                      "main\n",
                      text());
}

static void names_end_no_line_and_give_terminals_no_orders(void **state) {
  (void)state;
  add("a\n\x1b[31mb", 1000);
  assert_int_equal(0, pl__flame_folded(&flame, &out));
  assert_string_equal("a\\x0a\\x1b[31mb 1000\n", text());
  out.bytes = 0;
  assert_int_equal(0, pl__flame_text(&flame, &unit, 10, &out));
  assert_non_null(strstr(text(), "%  a\\x0a\\x1b[31mb\n"));
  out.bytes = 0;
  assert_int_equal(0, pl__flame_svg(&flame, &unit, "t", &out));
  assert_non_null(strstr(text(), ">a\\x0a\\x1b[31mb<"));
}

static void a_picture_has_exact_numbers_and_is_escaped(void **state) {
  const char *svg;

  (void)state;
  add("<a&\"b\"", 1); /* an empty name, and one that needs it */
  add("(poll)", 3);
  assert_int_equal(0, pl__flame_svg(&flame, &unit, "of <x>", &out));
  svg = text();
  assert_non_null(strstr(svg, "of &lt;x&gt;"));
  assert_non_null(strstr(svg, "<title>a&amp;&quot;b&quot;: 0.0 ms, 25.00%; "));
  assert_non_null(strstr(svg, "<title>(poll): 0.0 ms, 75.00%; itself"));
  assert_non_null(strstr(svg, "prefers-color-scheme:dark"));
  assert_null(strstr(svg, "<script"));
  assert_string_equal("</svg>\n", svg + strlen(svg) - 7);
}

static void nothing_is_fine_too(void **state) {
  (void)state;
  assert_int_equal(0, pl__flame_folded(&flame, &out));
  assert_int_equal(0, out.bytes);
  assert_int_equal(0, pl__flame_text(&flame, &unit, 10, &out));
  assert_int_equal(0, pl__flame_svg(&flame, &unit, "none", &out));
}

/* Past its limits a stack ends sooner; nothing is lost from the sum. */
static void limits_cut_stacks_and_not_sums(void **state) {
  int64_t sum = 0;
  long long value;
  char name[32];

  (void)state;
  for (uint32_t i = 0; i < PL_FLAME_NODES_MAX + 1000; i++) {
    snprintf(name, sizeof name, "f%u<root", i);
    add(name, 1);
  }
  assert_int_equal(0, pl__flame_folded(&flame, &out));
  for (const char *at = text(); *at; at = strchr(at, '\n') + 1) {
    assert_int_equal(1, sscanf(at, "%*s %lld", &value));
    sum += value;
  }
  assert_int_equal(PL_FLAME_NODES_MAX + 1000, sum);
}

static void no_memory_is_told(void **state) {
  (void)state;
  add("b<a", 1);
  pl__alloc_fail_after(1, true);
  assert_int_equal(PL_ENOMEM, pl__flame_text(&flame, &unit, 10, &out));
  assert_int_equal(PL_ENOMEM, pl__flame_folded(&flame, &out));
  assert_int_equal(PL_ENOMEM, pl__flame_svg(&flame, &unit, "x", &out));
  pl__alloc_fail_after(0, false);
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(folds_what_is_alike),
      test(names_end_no_line_and_give_terminals_no_orders),
      test(a_table_counts_recursion_once),
      test(a_picture_has_exact_numbers_and_is_escaped),
      test(nothing_is_fine_too),
      test(limits_cut_stacks_and_not_sums),
      test(no_memory_is_told),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
