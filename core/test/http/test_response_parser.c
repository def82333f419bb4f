/* test/http/test_response_parser.c - answers, whole and byte by byte. */
#include "http/response_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct pl_response_parser p;

/* Reads `text` in pieces of `step` bytes; what it ends with. */
static enum pl_response_outcome read_in(const char *text, size_t step) {
  size_t bytes = strlen(text);
  enum pl_response_outcome outcome = PL_RESPONSE_MORE;

  pl__response_parser_init(&p);
  for (size_t at = 0; at < bytes && outcome == PL_RESPONSE_MORE; at += step)
    outcome = pl__response_parser_run(
        &p, pl__slice(text + at, bytes - at < step ? bytes - at : step));
  return outcome;
}

static void assert_answer(const char *text, unsigned status, const char *body,
                          bool keep_alive) {
  for (size_t step = 1; step <= strlen(text); step++) {
    assert_int_equal(PL_RESPONSE_DONE, read_in(text, step));
    assert_int_equal(status, p.status);
    assert_int_equal(strlen(body), p.body_bytes);
    assert_memory_equal(body, p.body, p.body_bytes);
    assert_int_equal(keep_alive, p.keep_alive);
  }
}

static void length_and_chunks_frame_a_body(void **state) {
  (void)state;
  assert_answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, "abc",
                true);
  assert_answer("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n"
                "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                503, "abc", true);
  assert_answer("HTTP/1.1 204 None\r\n\r\n", 204, "", true);
  assert_answer("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", false);
  assert_answer(
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 200,
      "", false);
}

static void interim_answers_are_passed_over(void **state) {
  (void)state;
  assert_answer("HTTP/1.1 100 Continue\r\nRetry-After: 9\r\n\r\n"
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
                200, "x", true);
  assert_int_equal(PL_RESPONSE_RETRY_NONE, p.retry);
}

static void retry_after_is_seconds_or_a_date(void **state) {
  (void)state;
  assert_answer("HTTP/1.1 503 No\r\nretry-AFTER: 17 \r\nContent-Length: "
                "0\r\n\r\n",
                503, "", true);
  assert_int_equal(17, p.retry);
  assert_false(p.retry_is_at);
  assert_answer("HTTP/1.1 429 No\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 "
                "GMT\r\nContent-Length: 0\r\n\r\n",
                429, "", true);
  assert_int_equal(784111777, p.retry);
  assert_true(p.retry_is_at);
  assert_answer("HTTP/1.1 429 No\r\nRetry-After: soon\r\nContent-Length: "
                "0\r\n\r\n",
                429, "", true);
  assert_int_equal(PL_RESPONSE_RETRY_NONE, p.retry);
}

static void the_end_of_the_connection_may_end_an_answer(void **state) {
  (void)state;
  assert_int_equal(PL_RESPONSE_MORE, read_in("HTTP/1.1 200 OK\r\n\r\nabc", 4));
  assert_int_equal(PL_RESPONSE_DONE, pl__response_parser_finish(&p));
  assert_int_equal(3, p.body_bytes);
  assert_false(p.keep_alive);

  assert_int_equal(
      PL_RESPONSE_MORE,
      read_in("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", 100));
  assert_int_equal(PL_RESPONSE_BAD, pl__response_parser_finish(&p));
  assert_int_equal(PL_RESPONSE_MORE, read_in("HTTP/1.1 2", 100));
  assert_int_equal(PL_RESPONSE_BAD, pl__response_parser_finish(&p));
}

static void what_is_no_answer_is_bad(void **state) {
  (void)state;
  assert_int_equal(PL_RESPONSE_BAD, read_in("SSH-2.0-OpenSSH\r\n", 100));
  assert_int_equal(PL_RESPONSE_BAD, read_in("GET / HTTP/1.1\r\n\r\n", 100));
  assert_int_equal(PL_RESPONSE_BAD,
                   read_in("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 1));
}

static void bytes_behind_an_answer_end_the_connection(void **state) {
  (void)state;
  assert_int_equal(
      PL_RESPONSE_DONE,
      read_in("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP", 100));
  assert_false(p.keep_alive);
}

static void a_head_has_a_limit(void **state) {
  static char line[1024];

  (void)state;
  pl__response_parser_init(&p);
  assert_int_equal(PL_RESPONSE_MORE, pl__response_parser_run(
                                         &p, PL_SLICE("HTTP/1.1 200 OK\r\n")));
  memset(line, 'a', sizeof line);
  memcpy(line, "x: ", 3);
  memcpy(line + sizeof line - 2, "\r\n", 2);
  for (int i = 0; i < 15; i++)
    assert_int_equal(PL_RESPONSE_MORE,
                     pl__response_parser_run(&p, pl__slice(line, sizeof line)));
  assert_int_equal(PL_RESPONSE_MORE,
                   pl__response_parser_run(&p, pl__slice(line, 900)));
  assert_int_equal(PL_RESPONSE_BAD,
                   pl__response_parser_run(&p, pl__slice(line + 900, 124)));
}

static void of_a_long_body_the_beginning_is_kept(void **state) {
  static char piece[8192];
  enum pl_response_outcome outcome;

  (void)state;
  memset(piece, 'b', sizeof piece);
  pl__response_parser_init(&p);
  assert_int_equal(
      PL_RESPONSE_MORE,
      pl__response_parser_run(
          &p, PL_SLICE("HTTP/1.1 200 OK\r\nContent-Length: 8192\r\n\r\n")));
  outcome = pl__response_parser_run(&p, pl__slice(piece, sizeof piece));
  assert_int_equal(PL_RESPONSE_DONE, outcome);
  assert_int_equal(PL_RESPONSE_BODY_BYTES, p.body_bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(length_and_chunks_frame_a_body),
      cmocka_unit_test(interim_answers_are_passed_over),
      cmocka_unit_test(retry_after_is_seconds_or_a_date),
      cmocka_unit_test(the_end_of_the_connection_may_end_an_answer),
      cmocka_unit_test(what_is_no_answer_is_bad),
      cmocka_unit_test(bytes_behind_an_answer_end_the_connection),
      cmocka_unit_test(a_head_has_a_limit),
      cmocka_unit_test(of_a_long_body_the_beginning_is_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
