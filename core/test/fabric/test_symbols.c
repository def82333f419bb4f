/* test/fabric/test_symbols.c - places of code and rows of them, kept once, and
 * read by somebody who believes nothing. */
#include "fabric/stacks.h"
#include "fabric/symbols.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static struct pl_symbols *symbols;
static struct pl_stacks *stacks;
static struct pl_symbols_writer writer;
static struct pl_stacks_writer rows;

static void *map(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  assert_true(at != MAP_FAILED);
  return at;
}

static int begin(void **state) {
  (void)state;
  symbols = map(sizeof *symbols);
  stacks = map(sizeof *stacks);
  assert_int_equal(0, pl__symbols_writer_open(&writer, symbols));
  assert_int_equal(0, pl__stacks_writer_open(&rows, stacks));
  return 0;
}

static int end(void **state) {
  (void)state;
  pl__symbols_writer_close(&writer);
  pl__stacks_writer_close(&rows);
  munmap(symbols, sizeof *symbols);
  munmap(stacks, sizeof *stacks);
  return 0;
}

static struct pl_symbol lua(const char *chunk, const char *name,
                            uint32_t first_line, uint32_t line) {
  return (struct pl_symbol){.chunk = pl__slice_text(chunk),
                            .name = pl__slice_text(name),
                            .first_line = first_line,
                            .line = line,
                            .kind = PL_SYMBOL_LUA};
}

static uint32_t add(const char *chunk, const char *name, uint32_t first_line,
                    uint32_t line) {
  struct pl_symbol s = lua(chunk, name, first_line, line);

  return pl__symbols_add(&writer, &s);
}

static void assert_symbol(uint32_t id, const char *chunk, const char *name,
                          uint32_t first_line, uint32_t line) {
  struct pl_symbol s;

  assert_true(pl__symbols_find(symbols, id, &s));
  assert_true(pl__slice_equal(pl__slice_text(chunk), s.chunk));
  assert_true(pl__slice_equal(pl__slice_text(name), s.name));
  assert_int_equal(first_line, s.first_line);
  assert_int_equal(line, s.line);
}

static void gives_what_was_added(void **state) {
  uint32_t a = add("@app.lua", "sum", 10, 12);
  uint32_t b = add("@app.lua", "sum", 10, 13);

  (void)state;
  assert_int_not_equal(a, b);
  assert_int_not_equal(PL_SYMBOL_OTHER, a);
  assert_symbol(a, "@app.lua", "sum", 10, 12);
  assert_symbol(b, "@app.lua", "sum", 10, 13);
  assert_symbol(PL_SYMBOL_OTHER, "", "(other)", 0, 0);
}

static void adds_the_same_once_also_after_the_writer_has_died(void **state) {
  uint32_t a = add("@app.lua", "sum", 10, 12), texts = symbols->text_count;

  (void)state;
  assert_int_equal(a, add("@app.lua", "sum", 10, 12));
  pl__symbols_writer_close(&writer);
  assert_int_equal(0, pl__symbols_writer_open(&writer, symbols));
  assert_int_equal(a, add("@app.lua", "sum", 10, 12));
  assert_int_equal(texts, symbols->text_count);
}

static void a_function_of_lua_keeps_its_first_name(void **state) {
  uint32_t a = add("@app.lua", "", 10, 12);

  (void)state;
  assert_symbol(a, "@app.lua", "", 10, 12);
  assert_int_equal(a, add("@app.lua", "sum", 10, 12));
  assert_symbol(a, "@app.lua", "sum", 10, 12);
  assert_int_equal(a, add("@app.lua", "add", 10, 12));
  assert_symbol(a, "@app.lua", "sum", 10, 12);
}

static void functions_of_c_are_told_apart_by_name(void **state) {
  struct pl_symbol s = {.name = PL_SLICE("gsub"), .kind = PL_SYMBOL_C};
  uint32_t a = pl__symbols_add(&writer, &s);

  (void)state;
  s.name = PL_SLICE("sort");
  assert_int_not_equal(a, pl__symbols_add(&writer, &s));
}

static void cuts_texts_that_are_too_long(void **state) {
  char text[PL_SYMBOLS_TEXT_BYTES_MAX * 2];
  struct pl_symbol s;

  (void)state;
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  assert_true(pl__symbols_find(symbols, add(text, text, 1, 1), &s));
  assert_int_equal(PL_SYMBOLS_TEXT_BYTES_MAX, s.chunk.bytes);
}

static void a_full_table_gives_the_other_and_counts(void **state) {
  uint32_t i, last = 1;

  (void)state;
  for (i = 0; last != PL_SYMBOL_OTHER; i++)
    last = add("@app.lua", "f", 1, i + 1);
  assert_int_equal(PL_SYMBOLS_MAX - 1, i - 1);
  assert_int_equal(1, symbols->refused);
  assert_symbol(PL_SYMBOLS_MAX - 1, "@app.lua", "f", 1, PL_SYMBOLS_MAX - 1);
  assert_int_equal(1, add("@app.lua", "f", 1, 1));
}

static void many_functions_and_texts_fill_it_as_well(void **state) {
  char name[32];

  (void)state;
  for (uint32_t i = 0; i < 2 * PL_SYMBOLS_TEXTS_MAX; i++) {
    snprintf(name, sizeof name, "@file%u.lua", i);
    add(name, "f", 1, 1);
  }
  assert_true(symbols->refused >= PL_SYMBOLS_TEXTS_MAX);
  assert_symbol(add("@file1.lua", "f", 1, 1), "@file1.lua", "f", 1, 1);
}

static void readers_stay_inside_whatever_is_written(void **state) {
  uint32_t a = add("@app.lua", "sum", 10, 12);
  uint32_t stack = pl__stacks_add(&rows, &a, 1), out[PL_STACKS_DEPTH_MAX];
  struct pl_symbol s;

  (void)state;
  assert_false(pl__symbols_find(symbols, a + 1, &s));
  assert_true(pl__slice_equal(PL_SLICE("(other)"), s.name));
  memset((char *)symbols + 64, 0xff, sizeof *symbols - 64);
  assert_false(pl__symbols_find(symbols, a, &s));
  symbols->count = UINT32_MAX;
  assert_false(pl__symbols_find(symbols, UINT32_MAX - 1, &s));
  assert_int_equal(1, pl__stacks_find(stacks, UINT32_MAX, out));
  assert_int_equal(PL_SYMBOL_OTHER, out[0]);
  memset(stacks->words, 0xff, sizeof stacks->words);
  assert_int_equal(1, pl__stacks_find(stacks, stack, out));
  stacks->count = UINT32_MAX;
  assert_int_equal(1, pl__stacks_find(stacks, stack, out));
  assert_int_equal(1, pl__stacks_find(stacks, PL_STACKS_WORDS, out));
}

static void a_writer_empties_what_makes_no_sense(void **state) {
  uint32_t one = 1;

  (void)state;
  memset(symbols, 0xff, sizeof *symbols);
  memset(stacks, 0xff, sizeof *stacks);
  end(NULL);
  begin(NULL);
  memset(symbols, 0xff, sizeof *symbols);
  memset(stacks, 0xff, sizeof *stacks);
  pl__symbols_writer_close(&writer);
  pl__stacks_writer_close(&rows);
  assert_int_equal(0, pl__symbols_writer_open(&writer, symbols));
  assert_int_equal(0, pl__stacks_writer_open(&rows, stacks));
  assert_symbol(add("@app.lua", "sum", 10, 12), "@app.lua", "sum", 10, 12);
  assert_int_equal(2, pl__stacks_add(&rows, &one, 1));
}

static void stacks_are_kept_once_also_after_the_writer_has_died(void **state) {
  uint32_t deep[PL_STACKS_DEPTH_MAX], out[PL_STACKS_DEPTH_MAX], a, b;

  (void)state;
  for (uint32_t i = 0; i < PL_STACKS_DEPTH_MAX; i++)
    deep[i] = i * 7;
  a = pl__stacks_add(&rows, deep, PL_STACKS_DEPTH_MAX);
  b = pl__stacks_add(&rows, deep, 3);
  assert_int_not_equal(a, b);
  assert_int_equal(PL_STACKS_DEPTH_MAX, pl__stacks_find(stacks, a, out));
  assert_memory_equal(deep, out, sizeof deep);
  assert_int_equal(3, pl__stacks_find(stacks, b, out));
  pl__stacks_writer_close(&rows);
  assert_int_equal(0, pl__stacks_writer_open(&rows, stacks));
  assert_int_equal(a, pl__stacks_add(&rows, deep, PL_STACKS_DEPTH_MAX));
  assert_int_equal(b, pl__stacks_add(&rows, deep, 3));
}

static void a_table_nearly_full_keeps_the_innermost_frames(void **state) {
  uint32_t deep[PL_STACKS_DEPTH_MAX] = {5, 6, 7}, out[PL_STACKS_DEPTH_MAX], id;

  (void)state;
  for (uint32_t i = 0; stacks->count <= PL_STACKS_WORDS_WHOLE; i++) {
    deep[PL_STACKS_DEPTH_MAX - 1] = i;
    pl__stacks_add(&rows, deep, PL_STACKS_DEPTH_MAX);
  }
  deep[0] = 77;
  id = pl__stacks_add(&rows, deep, PL_STACKS_DEPTH_MAX);
  assert_int_equal(PL_STACKS_DEPTH_WHEN_NEARLY_FULL,
                   pl__stacks_find(stacks, id, out));
  assert_int_equal(77, out[0]);
  for (uint32_t i = 0; id != PL_STACK_OTHER; i++)
    id = pl__stacks_add(&rows, &i, 1);
  assert_true(stacks->refused > 0);
  deep[0] = 77;
  assert_int_not_equal(PL_STACK_OTHER, pl__stacks_add(&rows, deep, 2));
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(gives_what_was_added),
      test(adds_the_same_once_also_after_the_writer_has_died),
      test(a_function_of_lua_keeps_its_first_name),
      test(functions_of_c_are_told_apart_by_name),
      test(cuts_texts_that_are_too_long),
      test(a_full_table_gives_the_other_and_counts),
      test(many_functions_and_texts_fill_it_as_well),
      test(readers_stay_inside_whatever_is_written),
      test(a_writer_empties_what_makes_no_sense),
      test(stacks_are_kept_once_also_after_the_writer_has_died),
      test(a_table_nearly_full_keeps_the_innermost_frames),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
