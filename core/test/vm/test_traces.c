/* test/vm/test_traces.c - addresses in machine code as lines, on code made up. */
#include "vm/traces.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"
#include "vm/frames.h"

#include <string.h>

#define CODE_AT 0x10000000u
#define OUTER 100u /* symbols; what they mean is of no matter here */
#define START 1u

static struct pl_symbols *symbols;
static struct pl_stacks *stacks;
static struct pl_frames *frames;
static struct pl_traces *traces;

static int begin(void **state) {
  (void)state;
  symbols = pl__alloc_zero(sizeof *symbols);
  stacks = pl__alloc_zero(sizeof *stacks);
  return pl__frames_open(&frames, symbols, stacks, 1, "lua") ||
         pl__traces_open(&traces, frames);
}

static int end(void **state) {
  (void)state;
  pl__traces_close(traces);
  pl__frames_close(frames);
  pl__free(symbols);
  pl__free(stacks);
  return 0;
}

/* Code in which a check stands at each of `offsets`, which end with 0. */
static void put_checks(uint8_t *code, size_t bytes, const size_t *offsets) {
  static const uint8_t check[] = {0x41, 0xf6, 0x86, 0x12, 0xff,
                                  0xff, 0xff, 0x80, 0x0f, 0x85};

  memset(code, 0x90, bytes);
  for (; *offsets; offsets++)
    memcpy(code + *offsets, check, sizeof check);
}

/* The symbols of the stack at `offset` of the code; returns how many. */
static uint32_t at(uint32_t offset, uint32_t *out) {
  uintptr_t words[PL_TRACE_SCAN_WORDS] = {[40] = CODE_AT + offset};
  uint32_t stack = pl__traces_stack(traces, words);

  return stack == PL_STACK_OTHER ? 0 : pl__stacks_find(stacks, stack, out);
}

static void expect_top(uint32_t offset, uint32_t symbol) {
  uint32_t out[PL_STACKS_DEPTH_MAX];

  assert_true(at(offset, out) > 0);
  assert_int_equal(out[0], symbol);
}

static void begin_trace(void) {
  static const uint32_t stack[] = {START, OUTER};

  pl__traces_begin(traces, stack, 2);
}

#ifdef __x86_64__
static void tells_the_line_of_each_part(void **state) {
  static const size_t checks[] = {20, 60, 100, 0};
  uint8_t code[200];

  (void)state;
  put_checks(code, sizeof code, checks);
  begin_trace();
  pl__traces_line(traces, 11, 0, 1);
  pl__traces_line(traces, 12, 0, 9);
  pl__traces_line(traces, 13, 0, 15);
  pl__traces_end(traces, code, sizeof code, CODE_AT, 0, NULL, 0);
  expect_top(10, START);
  expect_top(35, 11);
  expect_top(60, 11); /* a call before it returns to there */
  expect_top(75, 12);
  expect_top(199, 13);
}

static void takes_the_later_of_two_lines_with_nothing_between(void **state) {
  static const size_t checks[] = {20, 60, 0};
  uint8_t code[100];

  (void)state;
  put_checks(code, sizeof code, checks);
  begin_trace();
  pl__traces_line(traces, 11, 0, 1);
  pl__traces_line(traces, 12, 0, 2); /* the compiler drops its check */
  pl__traces_line(traces, 13, 0, 7);
  pl__traces_end(traces, code, sizeof code, CODE_AT, 0, NULL, 0);
  expect_top(35, 12);
  expect_top(75, 13);
}

static void tells_who_has_called_within_the_trace(void **state) {
  static const size_t checks[] = {20, 60, 100, 0};
  uint32_t out[PL_STACKS_DEPTH_MAX];
  uint8_t code[200];

  (void)state;
  put_checks(code, sizeof code, checks);
  begin_trace();
  pl__traces_line(traces, 11, 0, 1);
  pl__traces_line(traces, 21, 1, 9);
  pl__traces_line(traces, 31, -1, 15); /* it has returned to who began it */
  pl__traces_end(traces, code, sizeof code, CODE_AT, 0, NULL, 0);
  assert_int_equal(at(75, out), 3);
  assert_int_equal(out[0], 21);
  assert_int_equal(out[1], 11);
  assert_int_equal(out[2], OUTER);
  assert_int_equal(at(150, out), 1);
  assert_int_equal(out[0], 31);
}

static void tells_what_a_loop_repeats(void **state) {
  static const size_t checks[] = {20, 60, 120, 160, 0};
  static const uint16_t parts[] = {2, 1};
  uint8_t code[200];

  (void)state;
  put_checks(code, sizeof code, checks);
  begin_trace();
  pl__traces_line(traces, 11, 0, 1);
  pl__traces_line(traces, 12, 0, 9);
  pl__traces_end(traces, code, sizeof code, CODE_AT, 100, parts, 2);
  expect_top(75, 12);
  expect_top(135, 12);
  expect_top(190, 11);
}
#endif

static void is_its_beginning_where_checks_are_not_as_many(void **state) {
  static const size_t checks[] = {20, 40, 60, 0};
  uint8_t code[100];

  (void)state;
  put_checks(code, sizeof code, checks);
  begin_trace();
  pl__traces_line(traces, 11, 0, 1);
  pl__traces_end(traces, code, sizeof code, CODE_AT, 0, NULL, 0);
  expect_top(70, START);
}

static void takes_the_outermost_address(void **state) {
  uint8_t code[100] = {0};
  uintptr_t words[PL_TRACE_SCAN_WORDS] = {
      [10] = CODE_AT + 50, [50] = CODE_AT + 0x1050, [60] = CODE_AT + 0x2050};
  uint32_t out[PL_STACKS_DEPTH_MAX];

  (void)state;
  for (uint32_t i = 0; i < 2; i++) {
    uint32_t stack[] = {START + i};
    pl__traces_begin(traces, stack, 1);
    pl__traces_end(traces, code, sizeof code, CODE_AT + i * 0x1000u, 0, NULL,
                   0);
  }
  assert_int_equal(
      pl__stacks_find(stacks, pl__traces_stack(traces, words), out), 1);
  assert_int_equal(out[0], START + 1);
}

static void knows_none_after_a_flush(void **state) {
  uint32_t out[PL_STACKS_DEPTH_MAX], by_line;
  uint8_t code[100] = {0};

  (void)state;
  begin_trace();
  pl__traces_end(traces, code, sizeof code, CODE_AT, 0, NULL, 0);
  expect_top(50, START);
  pl__traces_flush(traces);
  assert_int_equal(at(50, out), 0);
  assert_int_equal(pl__traces_count(traces, &by_line), 0);
}

/* The generation that ends runs on when names are begun anew: what its traces know
 * are numbers of symbols before that. */
static void tells_no_symbols_that_mean_others_by_now(void **state) {
  uint32_t out[PL_STACKS_DEPTH_MAX];
  uint8_t code[100] = {0};

  (void)state;
  begin_trace();
  pl__traces_end(traces, code, sizeof code, CODE_AT, 0, NULL, 0);
  begin_trace();
  assert_int_equal(0, pl__frames_renew(frames, 0, 1));
  pl__traces_end(traces, code, sizeof code, CODE_AT + 0x1000, 0, NULL, 0);
  assert_int_equal(at(50, out), 0);
  assert_int_equal(at(0x1050, out), 0);
  begin_trace();
  pl__traces_end(traces, code, sizeof code, CODE_AT + 0x2000, 0, NULL, 0);
  expect_top(0x2050, START);
}

static void finds_many(void **state) {
  uint8_t code[16] = {0};
  uint32_t by_line;

  (void)state;
  for (uint32_t i = 0; i < PL_TRACES_MAX + 10; i++) {
    uint32_t n = i * 7919u % PL_TRACES_MAX, stack[] = {n};
    if (i >= PL_TRACES_MAX)
      n = i;
    pl__traces_begin(traces, stack, 1);
    pl__traces_end(traces, code, sizeof code, CODE_AT + n * 32u, 0, NULL, 0);
  }
  assert_int_equal(pl__traces_count(traces, &by_line), PL_TRACES_MAX);
  for (uint32_t n = 0; n < PL_TRACES_MAX; n += 97)
    expect_top(n * 32 + 5, n);
}

static void keeps_lines_within_their_limit(void **state) {
  uint8_t code[100] = {0};

  (void)state;
  begin_trace();
  for (uint32_t i = 0; i < PL_TRACE_LINES_MAX + 10; i++)
    pl__traces_line(traces, 1000 + i, (int)(i % 400) - 200, 3 * i + 1);
  pl__traces_end(traces, code, sizeof code, CODE_AT, 0, NULL, 0);
  expect_top(50, START);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
  const struct CMUnitTest tests[] = {
#ifdef __x86_64__
      CASE(tells_the_line_of_each_part),
      CASE(takes_the_later_of_two_lines_with_nothing_between),
      CASE(tells_who_has_called_within_the_trace),
      CASE(tells_what_a_loop_repeats),
#endif
      CASE(is_its_beginning_where_checks_are_not_as_many),
      CASE(takes_the_outermost_address),
      CASE(knows_none_after_a_flush),
      CASE(tells_no_symbols_that_mean_others_by_now),
      CASE(finds_many),
      CASE(keeps_lines_within_their_limit),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
