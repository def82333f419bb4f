/* test/server/test_channel.c - messages between the master and a child. */
#include "server/channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define HEAD_BYTES offsetof(struct pl_message, text)

static int ends[2];
static struct pl_message message;

static int make_channel(void **state) {
  (void)state;
  return pl__channel_open(ends);
}

static int free_channel(void **state) {
  (void)state;
  close(ends[0]);
  return close(ends[1]) * 0; /* a test may have closed it */
}

static void carries_whole_messages_in_order_both_ways(void **state) {
  (void)state;
  assert_int_equal(pl__channel_say(ends[1], PL_NEWS_STARTED, 7, 0, NULL), 0);
  assert_int_equal(
      pl__channel_say(ends[1], PL_NEWS_PREPARED, 8, PL_ESCRIPT, "why not"), 0);
  assert_int_equal(pl__channel_say(ends[0], PL_ORDER_COMMIT, 9, 0, ""), 0);
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_int_equal(message.kind, PL_NEWS_STARTED);
  assert_int_equal(message.generation, 7);
  assert_string_equal(message.text, "");
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_int_equal(message.code, PL_ESCRIPT);
  assert_string_equal(message.text, "why not");
  assert_int_equal(pl__channel_read(ends[0], &message), -EAGAIN);
  assert_int_equal(pl__channel_read(ends[1], &message), 0);
  assert_int_equal(message.kind, PL_ORDER_COMMIT);
}

static void cuts_a_text_that_is_too_long(void **state) {
  static char text[PL_MESSAGE_TEXT_BYTES * 2];

  (void)state;
  memset(text, 'x', sizeof text - 1);
  assert_int_equal(pl__channel_say(ends[1], PL_NEWS_TRIED, 1, 0, text), 0);
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_int_equal(strlen(message.text), PL_MESSAGE_TEXT_BYTES - 1);
}

static void tells_that_the_other_side_is_gone(void **state) {
  (void)state;
  pl__channel_say(ends[1], PL_NEWS_RETIRED, 1, 0, "last");
  close(ends[1]);
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_int_equal(pl__channel_read(ends[0], &message), PL_EGONE);
  assert_true(pl__channel_say(ends[0], PL_ORDER_ABORT, 1, 0, NULL) < 0);
}

/* The kernel then tells of a reset before it gives what is there. */
static void hears_the_last_words_of_one_that_has_not_read_all(void **state) {
  (void)state;
  pl__channel_say(ends[0], PL_ORDER_LOOK, 1, 0, NULL);
  pl__channel_say(ends[1], PL_NEWS_PREPARED, 2, PL_ESCRIPT, "why");
  close(ends[1]);
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_string_equal(message.text, "why");
  assert_int_equal(pl__channel_read(ends[0], &message), PL_EGONE);
}

static void carries_the_longest_text_whole(void **state) {
  static char text[PL_MESSAGE_TEXT_BYTES];

  (void)state;
  memset(text, 'x', sizeof text - 1);
  assert_int_equal(pl__channel_say(ends[1], PL_NEWS_TRIED, 1, 0, text), 0);
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_string_equal(message.text, text);
}

static void has_none_yet_before_anything_was_said(void **state) {
  (void)state;
  assert_int_equal(pl__channel_read(ends[0], &message), -EAGAIN);
  assert_int_equal(pl__channel_read(ends[1], &message), -EAGAIN);
}

static void takes_nonsense_for_an_end(void **state) {
  (void)state;
  assert_int_equal(write(ends[1], "x", 1), 1);
  assert_int_equal(pl__channel_read(ends[0], &message), PL_EGONE);
}

static void takes_a_head_without_a_text_for_an_end(void **state) {
  (void)state;
  assert_int_equal(write(ends[1], &message, HEAD_BYTES), HEAD_BYTES);
  assert_int_equal(pl__channel_read(ends[0], &message), PL_EGONE);
}

static void ends_a_text_that_has_no_end(void **state) {
  static char much[sizeof message + 100];

  (void)state;
  memset(much, 'x', sizeof much);
  assert_int_equal(write(ends[1], much, HEAD_BYTES + 5), HEAD_BYTES + 5);
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_string_equal(message.text, "xxxx");
  assert_int_equal(write(ends[1], much, sizeof much), sizeof much);
  assert_int_equal(pl__channel_read(ends[0], &message), 0);
  assert_int_equal(strlen(message.text), PL_MESSAGE_TEXT_BYTES - 1);
}

static void is_closed_on_exec_and_does_not_wait(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    assert_true(fcntl(ends[i], F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(ends[i], F_GETFL) & O_NONBLOCK);
  }
}

#define CASE(name)                                                             \
  cmocka_unit_test_setup_teardown(name, make_channel, free_channel)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(carries_whole_messages_in_order_both_ways),
      CASE(cuts_a_text_that_is_too_long),
      CASE(tells_that_the_other_side_is_gone),
      CASE(hears_the_last_words_of_one_that_has_not_read_all),
      CASE(carries_the_longest_text_whole),
      CASE(has_none_yet_before_anything_was_said),
      CASE(takes_nonsense_for_an_end),
      CASE(takes_a_head_without_a_text_for_an_end),
      CASE(ends_a_text_that_has_no_end),
      CASE(is_closed_on_exec_and_does_not_wait),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
