/* test/server/test_makings.c - answers that are made beside the loop. */
#include "server/makings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

static uv_loop_t loop;
static struct pl_makings makings;
static struct pl_buf out;
static uv_sem_t may_go; /* posted: one "slow" may end */
static _Atomic uint32_t made;

/* "slow TEXT" waits to be let go, "many N" is N bytes long, "none" fails. */
static int make(const struct pl_fabric *fabric, struct pl_slice topic,
                struct pl_slice argument, struct pl_buf *to) {
  uint32_t count;

  assert_null(fabric);
  atomic_fetch_add(&made, 1);
  if (pl__slice_equal(topic, PL_SLICE("none")))
    return PL_EBAD;
  if (pl__slice_equal(topic, PL_SLICE("slow")))
    uv_sem_wait(&may_go);
  if (!pl__slice_equal(topic, PL_SLICE("many")))
    return pl__buf_append_slice(to, argument);
  count = (uint32_t)strtoul(argument.at, NULL, 10);
  if (pl__buf_reserve(to, count))
    return PL_ENOMEM;
  memset(to->at, 'x', count);
  to->bytes = count;
  return 0;
}

static int begin(void **state) {
  (void)state;
  atomic_store(&made, 0);
  pl__buf_init(&out, NULL, PL_MAKINGS_BYTES_MAX);
  pl__makings_init(&makings, &loop, NULL, make);
  return uv_loop_init(&loop) || uv_sem_init(&may_go, 0);
}

static int end(void **state) {
  (void)state;
  assert_false(pl__makings_is_busy(&makings));
  pl__makings_deinit(&makings);
  pl__buf_release(&out);
  uv_sem_destroy(&may_go);
  return uv_loop_close(&loop);
}

/* What is answered, NUL-terminated; NULL: *status says why not. */
static const char *ask(const char *line, int *status) {
  out.bytes = 0;
  *status = pl__makings_answer(&makings, pl__slice_text(line), &out);
  if (*status || pl__buf_append(&out, "", 1))
    return NULL;
  return out.at;
}

static unsigned open_one(const char *what) {
  char line[64];
  int status;

  snprintf(line, sizeof line, "open %s", what);
  assert_non_null(ask(line, &status));
  return (unsigned)strtoul(out.at, NULL, 10);
}

static const char *ask_one(const char *verb, unsigned number, int *status) {
  char line[64];

  snprintf(line, sizeof line, "%s %u", verb, number);
  return ask(line, status);
}

static void is_taken(unsigned number, const char *text) {
  int status;

  assert_string_equal(ask_one("next", number, &status), text);
  assert_string_equal(ask_one("next", number, &status), "");
  assert_null(ask_one("next", number, &status));
  assert_int_equal(status, PL_EINVAL);
}

static void is_there_once_it_is_made(void **state) {
  unsigned number = open_one("slow some\ntext of it");
  int status;

  (void)state;
  assert_string_equal(ask_one("look", number, &status), "");
  assert_null(ask_one("next", number, &status));
  uv_sem_post(&may_go);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_string_equal(ask_one("look", number, &status), "15");
  is_taken(number, "some\ntext of it");
}

static void shares_what_was_not_begun(void **state) {
  unsigned first = open_one("slow a"), second = open_one("slow a"),
           third = open_one("slow a"), other = open_one("slow b");

  (void)state;
  for (int i = 0; i < 3; i++)
    uv_sem_post(&may_go);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(made, 3); /* the first had been begun */
  is_taken(first, "a");
  is_taken(third, "a");
  is_taken(second, "a");
  is_taken(other, "b");
}

static void tells_what_failed_to_each(void **state) {
  unsigned slow = open_one("slow a"), first = open_one("none x"),
           second = open_one("none x");
  int status;

  (void)state;
  uv_sem_post(&may_go);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_null(ask_one("look", first, &status));
  assert_int_equal(status, PL_EBAD);
  assert_null(ask_one("look", second, &status));
  assert_int_equal(status, PL_EBAD);
  is_taken(slow, "a");
}

static void forgets_what_is_given_up(void **state) {
  unsigned running = open_one("slow a"), waiting = open_one("slow b");
  int status;

  (void)state;
  assert_non_null(ask_one("drop", waiting, &status));
  assert_non_null(ask_one("drop", running, &status));
  assert_true(pl__makings_is_busy(&makings));
  uv_sem_post(&may_go);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(made, 1);
  assert_null(makings.first);
}

static void refuses_more_than_its_limits(void **state) {
  unsigned numbers[PL_MAKINGS_MAX];
  struct pl_slice line;
  char *text;
  int status;

  (void)state;
  for (uint32_t i = 0; i < PL_MAKINGS_MAX; i++)
    numbers[i] = open_one("echo a");
  assert_null(ask("open echo b", &status));
  assert_int_equal(status, PL_EFULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(made, 2);
  for (uint32_t i = 0; i < PL_MAKINGS_MAX; i++)
    is_taken(numbers[i], "a");
  text = pl__alloc_zero(PL_MAKINGS_HELD_BYTES + 64u);
  assert_non_null(text);
  memcpy(text, "open echo ", 10);
  line = pl__slice(text, PL_MAKINGS_HELD_BYTES + 11u);
  assert_int_equal(pl__makings_answer(&makings, line, &out), PL_EFULL);
  pl__free(text);
}

static void begins_nothing_while_too_much_is_held(void **state) {
  unsigned first = open_one("many 60000000"),
           second = open_one("many 60000001"), third = open_one("echo c");
  char line[32];
  int status;

  (void)state;
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(made, 2); /* the second was begun with less than that held */
  snprintf(line, sizeof line, "%u", 60000001u);
  assert_string_equal(ask_one("look", second, &status), line);
  assert_string_equal(ask_one("look", third, &status), "");
  ask_one("next", first, &status);
  assert_int_equal(out.bytes, PL_MAKINGS_PIECE_BYTES + 1);
  ask_one("drop", first, &status);
  uv_run(&loop, UV_RUN_DEFAULT);
  is_taken(third, "c");
  ask_one("drop", second, &status);
}

static void gives_up_what_nobody_asks_for(void **state) {
  unsigned left = open_one("echo a"), next;
  int status;

  (void)state;
  uv_run(&loop, UV_RUN_DEFAULT);
  makings.tickets[0].asked_ns -= (PL_MAKINGS_IDLE_S + 1) * INT64_C(1000000000);
  next = open_one("echo b");
  uv_run(&loop, UV_RUN_DEFAULT);
  is_taken(next, "b");
  assert_null(ask_one("look", left, &status));
}

static void refuses_what_it_does_not_know(void **state) {
  static const char *const lines[] = {"",        "look",   "look 7", "look x",
                                      "next -1", "shut 1", "drop 9"};
  int status;

  (void)state;
  for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
    assert_null(ask(lines[i], &status));
    assert_int_equal(status, PL_EINVAL);
  }
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      test(is_there_once_it_is_made),
      test(shares_what_was_not_begun),
      test(tells_what_failed_to_each),
      test(forgets_what_is_given_up),
      test(refuses_more_than_its_limits),
      test(begins_nothing_while_too_much_is_held),
      test(gives_up_what_nobody_asks_for),
      test(refuses_what_it_does_not_know),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
