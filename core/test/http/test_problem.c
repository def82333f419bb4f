/* test/http/test_problem.c - problem documents. */
#include "http/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "http/encode.h"

static struct pl_http_env env;
static struct pl_buf out, extra;
static struct pl_req req;

static int set_up(void **state) {
  (void)state;
  pl__http_env_init(&env, 784111777);
  pl__buf_init(&out, NULL, 1u << 20);
  pl__buf_init(&extra, NULL, 1u << 20);
  req = (struct pl_req){.method = PL_METHOD_GET,
                        .http_minor = 1,
                        .flags = PL_REQ_KEEP_ALIVE | PL_REQ_BODY_DONE,
                        .out = &out,
                        .extra = &extra,
                        .env = &env};
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__buf_release(&out);
  pl__buf_release(&extra);
  return 0;
}

static void assert_bytes(const char *wanted) {
  if (out.bytes != strlen(wanted) || memcmp(out.at, wanted, out.bytes) != 0)
    fail_msg("%.*s\nis not\n%s", (int)out.bytes, out.at, wanted);
}

static void assert_string(const char *s, size_t bytes, const char *wanted) {
  out.bytes = 0;
  assert_int_equal(pl__problem_string(&out, pl__slice(s, bytes)), 0);
  assert_bytes(wanted);
}

static int answer_has(const char *text) {
  pl__buf_append(&out, "", 1);
  return strstr(out.at, text) != NULL;
}

static void writes_documents(void **state) {
  (void)state;
  assert_int_equal(pl__problem_encode(&out, 404, PL_SLICE("no note 7"),
                                      PL_SLICE("/notes/7")),
                   0);
  assert_bytes("{\"type\":\"about:blank\",\"title\":\"Not Found\","
               "\"status\":404,\"detail\":\"no note 7\","
               "\"instance\":\"/notes/7\"}");
  out.bytes = 0;
  assert_int_equal(pl__problem_encode(&out, 500, PL_SLICE(""), PL_SLICE("")),
                   0);
  assert_bytes("{\"type\":\"about:blank\","
               "\"title\":\"Internal Server Error\",\"status\":500}");
}

static void escapes_strings(void **state) {
  (void)state;
  assert_string("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
  assert_string("\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"");
  assert_string("\0\x1f\x7f", 3, "\"\\u0000\\u001f\\u007f\"");
  assert_string("", 0, "\"\"");
}

static void keeps_utf8_and_replaces_what_is_none(void **state) {
  (void)state;
#define BAD "\xef\xbf\xbd"
  assert_string("\xc3\xa4\xe2\x82\xac\xf0\x9f\x8c\x99", 9,
                "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x8c\x99\"");
  assert_string("\xff", 1, "\"" BAD "\"");
  assert_string("a\xc3", 2, "\"a" BAD "\"");
  assert_string("\xc0\xaf", 2, "\"" BAD BAD "\"");
  assert_string("\xe0\x80\xaf", 3, "\"" BAD BAD BAD "\"");
  assert_string("\xed\xa0\x80", 3, "\"" BAD BAD BAD "\"");
  assert_string("\xf4\x90\x80\x80", 4, "\"" BAD BAD BAD BAD "\"");
  assert_string("\xe2\x82x", 3, "\"" BAD BAD "x\"");
}

static void appends_nothing_when_there_is_no_room(void **state) {
  struct pl_buf small;
  (void)state;
  pl__buf_init(&small, NULL, 40);
  assert_int_equal(
      pl__problem_encode(&small, 404, PL_SLICE("detail"), PL_SLICE("")),
      PL_EFULL);
  assert_int_equal(small.bytes, 0);
  pl__buf_release(&small);
}

static void answers_with_a_document(void **state) {
  (void)state;
  pl__extra_set(&req, PL_SLICE("content-type"), PL_SLICE("a/b"), 0);
  pl__extra_set(&req, PL_SLICE("X-A"), PL_SLICE("1"), 0);
  assert_int_equal(pl__encode_problem(&req, 404, PL_SLICE("gone")), 0);
  assert_bytes("HTTP/1.1 404 Not Found\r\nServer: perilune\r\n"
               "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
               "Content-Type: application/problem+json\r\n"
               "Content-Length: 71\r\nX-A: 1\r\n\r\n"
               "{\"type\":\"about:blank\",\"title\":\"Not Found\","
               "\"status\":404,\"detail\":\"gone\"}");
  assert_true(req.flags & PL_REQ_DONE);
  assert_false(req.flags & PL_REQ_CLOSE);
}

static void needs_no_memory_for_its_document(void **state) {
  (void)state;
  pl__buf_reserve(&out, 16384);
  pl__alloc_fail_after(1, true);
  int status = pl__encode_problem(&req, 500, PL_SLICE("x"));
  pl__alloc_fail_after(0, false);
  assert_int_equal(status, 0);
}

static void names_the_methods_that_are_allowed(void **state) {
  (void)state;
  req.allow = (double)(1 << PL_METHOD_GET | 1 << PL_METHOD_HEAD |
                       1 << PL_METHOD_OPTIONS | 1 << PL_METHOD_PATCH);
  assert_int_equal(pl__encode_problem(&req, 405, PL_SLICE("")), 0);
  assert_true(answer_has("\r\nAllow: GET, HEAD, OPTIONS, PATCH\r\n"));
}

static void closes_where_the_rest_of_the_request_cannot_be_found(void **state) {
  static const uint16_t closing[] = {400, 408, 413, 414, 431};
  (void)state;
  for (size_t i = 0; i < sizeof(closing) / sizeof(*closing); i++) {
    out.bytes = 0;
    req.flags = PL_REQ_KEEP_ALIVE;
    assert_int_equal(pl__encode_problem(&req, closing[i], PL_SLICE("")), 0);
    assert_true(req.flags & PL_REQ_CLOSE);
    assert_true(answer_has("\r\nConnection: close\r\n"));
    out.bytes = 0;
    req.flags = PL_REQ_KEEP_ALIVE | PL_REQ_BODY_DONE;
    assert_int_equal(pl__encode_problem(&req, closing[i], PL_SLICE("")), 0);
    assert_false(req.flags & PL_REQ_CLOSE);
  }
  out.bytes = 0;
  req.flags = PL_REQ_KEEP_ALIVE;
  assert_int_equal(pl__encode_problem(&req, 404, PL_SLICE("")), 0);
  assert_false(req.flags & PL_REQ_CLOSE);
}

static void cuts_long_details_between_characters(void **state) {
  static char detail[PL_LIMIT_PROBLEM_DETAIL_BYTES + 64];
  (void)state;
  memset(detail, '\x01', sizeof(detail));
  assert_int_equal(
      pl__encode_problem(&req, 400, pl__slice(detail, sizeof(detail))), 0);
  assert_in_range(out.bytes, 6 * PL_LIMIT_PROBLEM_DETAIL_BYTES,
                  6 * PL_LIMIT_PROBLEM_DETAIL_BYTES + 400);
  out.bytes = 0;
  req.flags = PL_REQ_KEEP_ALIVE;
  memset(detail, 'x', sizeof(detail));
  memcpy(detail + PL_LIMIT_PROBLEM_DETAIL_BYTES - 1, "\xc3\xa4", 2);
  assert_int_equal(
      pl__encode_problem(&req, 400, pl__slice(detail, sizeof(detail))), 0);
  assert_false(answer_has(BAD));
  assert_false(answer_has("\xc3"));
}

static void writes_no_second_answer(void **state) {
  (void)state;
  assert_int_equal(pl__encode_problem(&req, 404, PL_SLICE("")), 0);
  uint32_t bytes = out.bytes;
  assert_int_equal(pl__encode_problem(&req, 500, PL_SLICE("")), PL_ECONFLICT);
  assert_int_equal(out.bytes, bytes);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(writes_documents),
      TEST(escapes_strings),
      TEST(keeps_utf8_and_replaces_what_is_none),
      TEST(appends_nothing_when_there_is_no_room),
      TEST(answers_with_a_document),
      TEST(needs_no_memory_for_its_document),
      TEST(names_the_methods_that_are_allowed),
      TEST(closes_where_the_rest_of_the_request_cannot_be_found),
      TEST(cuts_long_details_between_characters),
      TEST(writes_no_second_answer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
