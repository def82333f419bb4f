/* test/server/test_child.c - processes that start, speak and die. */
#include "server/child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS ((int64_t)PL_NS_PER_MS)
#define NOW (5000 * MS)

static struct pl_child child;

static int make_child(void **state) {
  (void)state;
  pl__child_init(&child);
  return 0;
}

static int speak(void *arg, int channel_fd) {
  pl__channel_say(channel_fd, PL_NEWS_STARTED, 5, *(int *)arg, "so it is");
  return 7;
}

static int say_nothing(void *arg, int channel_fd) {
  (void)arg, (void)channel_fd;
  return 8;
}

/* Waits until it speaks or closes its pipe. */
static int hear(struct pl_message *message) {
  struct pollfd p = {.fd = child.channel_fd, .events = POLLIN};

  assert_int_equal(poll(&p, 1, 10000), 1);
  return pl__child_hear(&child, message, NOW);
}

static int exit_code(void) {
  int status = 0;

  assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
  assert_true(WIFEXITED(status));
  pl__child_bury(&child);
  return WEXITSTATUS(status);
}

static void runs_in_a_process_of_its_own(void **state) {
  struct pl_message message;
  int code = 0;

  (void)state;
  assert_int_equal(pl__child_start(&child, speak, &code), 0);
  assert_true(child.pid > 0);
  assert_false(child.ready);
  assert_int_equal(hear(&message), 0);
  assert_true(child.ready);
  assert_int_equal(child.ready_ns, NOW);
  assert_int_equal(child.generation, 5);
  assert_true(child.channel_fd >= 0); /* it may say more */
  assert_int_equal(exit_code(), 7);
  assert_int_equal(child.pid, 0);
  assert_false(child.ready);
}

static void tells_why_it_does_not_start(void **state) {
  struct pl_message message;
  int code = PL_ESCRIPT;

  (void)state;
  assert_int_equal(pl__child_start(&child, speak, &code), 0);
  assert_int_equal(hear(&message), 0);
  assert_true(child.failed);
  assert_false(child.ready);
  assert_string_equal(message.text, "so it is");
  assert_int_equal(exit_code(), 7);
}

static void is_neither_ready_nor_failed_without_a_word(void **state) {
  struct pl_message message;

  (void)state;
  assert_int_equal(pl__child_start(&child, say_nothing, NULL), 0);
  assert_int_equal(hear(&message), PL_EGONE);
  assert_false(child.ready);
  assert_false(child.failed);
  assert_int_equal(child.channel_fd, -1);
  assert_int_equal(exit_code(), 8);
}

/* How long it waits after a death, that long after it was ready. */
static int64_t wait_ms(int64_t lived_ms) {
  child.ready_ns = lived_ms < 0 ? 0 : NOW - lived_ms * MS;
  pl__child_schedule(&child, NOW);
  return (child.due_ns - NOW) / MS;
}

static void starts_at_once_after_a_life(void **state) {
  (void)state;
  assert_int_equal(wait_ms(PL_CHILD_LIFE_MS_MIN), 0);
  assert_int_equal(wait_ms(PL_CHILD_LIFE_MS_MIN), 0);
}

static void waits_longer_with_each_start_that_comes_to_nothing(void **state) {
  static const int64_t waits[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000};

  (void)state;
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
    assert_int_equal(wait_ms(-1), waits[i]);
}

static void takes_a_short_life_for_none(void **state) {
  (void)state;
  assert_int_equal(wait_ms(PL_CHILD_LIFE_MS_MIN - 1), 100);
  assert_int_equal(wait_ms(0), 200);
}

static void begins_anew_once_it_has_lived(void **state) {
  (void)state;
  assert_int_equal(wait_ms(-1), 100);
  assert_int_equal(wait_ms(-1), 200);
  assert_int_equal(wait_ms(PL_CHILD_LIFE_MS_MIN), 0);
  assert_int_equal(wait_ms(-1), 100);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup(name, make_child)
  const struct CMUnitTest tests[] = {
      CASE(runs_in_a_process_of_its_own),
      CASE(tells_why_it_does_not_start),
      CASE(is_neither_ready_nor_failed_without_a_word),
      CASE(starts_at_once_after_a_life),
      CASE(waits_longer_with_each_start_that_comes_to_nothing),
      CASE(takes_a_short_life_for_none),
      CASE(begins_anew_once_it_has_lived),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
