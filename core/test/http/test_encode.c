/* test/http/test_encode.c - responses as bytes. */
#include "http/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
#define FIELDS "Server: perilune\r\n" DATE
#define TEXT PL_SLICE("text/plain")

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

static void assert_bytes(const struct pl_buf *b, const char *wanted) {
  if (b->bytes != strlen(wanted) || memcmp(b->at, wanted, b->bytes) != 0)
    fail_msg("%.*s\nis not\n%s", (int)b->bytes, b->at ? b->at : "", wanted);
}

static void assert_set(const char *name, const char *value, int append,
                       int wanted) {
  assert_int_equal(pl__extra_set(&req, pl__slice(name, strlen(name)),
                                 pl__slice(value, strlen(value)), append),
                   wanted);
}

static void writes_head_and_body_in_one_go(void **state) {
  (void)state;
  assert_int_equal(pl__encode_reply(&req, 200, TEXT, PL_SLICE("Hello, World!")),
                   0);
  assert_bytes(&out, "HTTP/1.1 200 OK\r\n" FIELDS
                     "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n"
                     "Hello, World!");
  assert_int_equal(req.status, 200);
  assert_true(req.sent_bytes == 13);
  assert_int_equal(req.flags & (PL_REQ_HEAD_SENT | PL_REQ_DONE),
                   PL_REQ_HEAD_SENT | PL_REQ_DONE);
}

static void appends_behind_what_waits_to_be_sent(void **state) {
  (void)state;
  pl__buf_append(&out, "before", 6);
  assert_int_equal(pl__encode_reply(&req, 204, PL_SLICE(""), PL_SLICE("")), 0);
  assert_bytes(&out, "beforeHTTP/1.1 204 No Content\r\n" FIELDS "\r\n");
}

static void writes_each_status_line_whole(void **state) {
  (void)state;
  for (uint16_t status = 200; status <= 999; status++) {
    struct pl_slice reason = pl__reason(status);
    char wanted[80];
    uint32_t n = 9;
    memcpy(wanted, "HTTP/1.1 ", 9);
    n += pl__decimal(wanted + n, status);
    wanted[n++] = ' ';
    assert_in_range(reason.bytes, 2, 40);
    memcpy(wanted + n, reason.at, reason.bytes);
    n += reason.bytes;
    memcpy(wanted + n, "\r\nServer: ", 10);
    out.bytes = 0;
    req.flags &= ~(uint32_t)PL_REQ_HEAD_SENT;
    assert_int_equal(pl__encode_head(&req, status, TEXT, 0), 0);
    assert_memory_equal(out.at, wanted, n + 10);
  }
  assert_int_equal(pl__reason(404).bytes, 9);
  assert_memory_equal(pl__reason(404).at, "Not Found", 9);
  assert_memory_equal(pl__reason(299).at, "Unknown", 7);
  assert_memory_equal(pl__reason(700).at, "Unknown", 7);
}

static void answers_head_with_the_head_of_get(void **state) {
  (void)state;
  req.method = PL_METHOD_HEAD;
  assert_int_equal(pl__encode_reply(&req, 200, TEXT, PL_SLICE("Hello")), 0);
  assert_bytes(&out, "HTTP/1.1 200 OK\r\n" FIELDS
                     "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n");
  assert_true(req.sent_bytes == 0);
}

static void sends_no_body_where_none_is_allowed(void **state) {
  (void)state;
  assert_int_equal(pl__encode_reply(&req, 304, PL_SLICE(""), PL_SLICE("x")), 0);
  assert_bytes(&out, "HTTP/1.1 304 Not Modified\r\n" FIELDS "\r\n");
  out.bytes = 0;
  req.flags = PL_REQ_KEEP_ALIVE;
  assert_int_equal(pl__encode_reply(&req, 205, PL_SLICE(""), PL_SLICE("x")), 0);
  assert_bytes(&out, "HTTP/1.1 205 Reset Content\r\n" FIELDS
                     "Content-Length: 0\r\n\r\n");
  out.bytes = 0;
  req.flags = PL_REQ_KEEP_ALIVE;
  assert_int_equal(pl__encode_head(&req, 204, PL_SLICE(""), -1), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" FIELDS "\r\n");
  assert_false(req.flags & PL_REQ_OUT_CHUNKED);
}

static void sends_a_body_of_unknown_length_in_chunks(void **state) {
  (void)state;
  assert_int_equal(pl__encode_head(&req, 200, TEXT, -1), 0);
  assert_int_equal(pl__encode_chunk(&out, PL_SLICE("hello")), 0);
  assert_int_equal(pl__encode_chunk(&out, PL_SLICE("")), 0);
  assert_int_equal(pl__encode_chunk(&out, PL_SLICE("0123456789abcdefg")), 0);
  assert_int_equal(pl__encode_chunk_last(&out), 0);
  assert_bytes(&out, "HTTP/1.1 200 OK\r\n" FIELDS "Content-Type: text/plain\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
                     "11\r\n0123456789abcdefg\r\n0\r\n\r\n");
  assert_true(req.flags & PL_REQ_OUT_CHUNKED);
  assert_false(req.flags & (PL_REQ_DONE | PL_REQ_CLOSE));
}

static void ends_it_with_the_connection_in_http_1_0(void **state) {
  (void)state;
  req.http_minor = 0;
  assert_int_equal(pl__encode_head(&req, 200, TEXT, -1), 0);
  assert_bytes(&out, "HTTP/1.1 200 OK\r\n" FIELDS
                     "Content-Type: text/plain\r\nConnection: close\r\n\r\n");
  assert_int_equal(req.flags & (PL_REQ_OUT_CHUNKED | PL_REQ_CLOSE),
                   PL_REQ_CLOSE);
}

static void says_what_becomes_of_the_connection(void **state) {
  (void)state;
#define NO_BODY PL_SLICE(""), PL_SLICE("")
  req.http_minor = 0;
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" FIELDS
                     "Connection: keep-alive\r\n\r\n");
  for (int i = 0; i < 2; i++) {
    out.bytes = 0;
    req.http_minor = 1;
    req.flags = i ? PL_REQ_KEEP_ALIVE | PL_REQ_CLOSE : 0;
    assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
    assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" FIELDS
                       "Connection: close\r\n\r\n");
  }
}

static void writes_one_head_only(void **state) {
  (void)state;
  assert_int_equal(pl__encode_reply(&req, 200, TEXT, PL_SLICE("a")), 0);
  uint32_t bytes = out.bytes;
  assert_int_equal(pl__encode_reply(&req, 200, TEXT, PL_SLICE("a")),
                   PL_ECONFLICT);
  assert_int_equal(pl__encode_head(&req, 200, TEXT, 1), PL_ECONFLICT);
  assert_int_equal(out.bytes, bytes);
}

static void refuses_statuses_out_of_range_and_control_characters(void **state) {
  (void)state;
  assert_int_equal(pl__encode_head(&req, 199, TEXT, 0), PL_EINVAL);
  assert_int_equal(pl__encode_head(&req, 0, TEXT, 0), PL_EINVAL);
  assert_int_equal(pl__encode_head(&req, 1000, TEXT, 0), PL_EINVAL);
  char type[] = "text/plain; charset=utf-8";
  for (size_t i = 0; i < sizeof(type) - 1; i++) {
    for (int c = 0; c < 256; c++) {
      char before = type[i];
      type[i] = (char)c;
      int bad = (c < 0x20 && c != '\t') || c == 0x7f;
      req.flags = PL_REQ_KEEP_ALIVE;
      out.bytes = 0;
      assert_int_equal(
          pl__encode_head(&req, 200, pl__slice(type, sizeof(type) - 1), 0),
          bad ? PL_EINVAL : 0);
      type[i] = before;
    }
  }
}

static void writes_nothing_when_there_is_no_room(void **state) {
  struct pl_buf small;
  (void)state;
  pl__buf_init(&small, NULL, 100);
  req.out = &small;
  assert_int_equal(pl__encode_reply(&req, 200, TEXT, PL_SLICE("a")), PL_EFULL);
  assert_int_equal(small.bytes, 0);
  assert_int_equal(req.flags & PL_REQ_HEAD_SENT, 0);
  assert_int_equal(req.status, 0);
  pl__buf_release(&small);
}

static void allocates_nothing_once_the_output_has_room(void **state) {
  (void)state;
  pl__buf_reserve(&out, 4096);
  assert_set("X-A", "1", 0, 0);
  uint64_t before = pl__alloc_count();
  for (int i = 0; i < 100; i++) {
    out.bytes = 0;
    req.flags = PL_REQ_KEEP_ALIVE;
    assert_set("X-A", "2", 0, 0);
    assert_int_equal(pl__encode_reply(&req, 200, TEXT, PL_SLICE("a")), 0);
  }
  assert_true(pl__alloc_count() == before);
}

static void writes_the_date_anew_when_the_second_changes(void **state) {
  (void)state;
  pl__http_env_tick(&env, 784111777);
  assert_memory_equal(env.fields, FIELDS, PL_ENV_FIELDS_BYTES);
  pl__http_env_tick(&env, 784111778);
  assert_memory_equal(env.fields + 18,
                      "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n", 37);
}

static void sends_the_fields_that_were_set(void **state) {
  (void)state;
  assert_set("X-A", "1", 0, 0);
  assert_set("Content-Type", "a/b", 0, 0);
  assert_set("server", "me", 0, 0);
  assert_set("DATE", "never", 0, 0);
  assert_int_equal(pl__encode_reply(&req, 200, TEXT, PL_SLICE("a")), 0);
  assert_bytes(&out, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-A: 1\r\n"
                     "Content-Type: a/b\r\nserver: me\r\nDATE: never\r\n\r\n"
                     "a");
}

static void leaves_out_only_the_default_that_was_set(void **state) {
  (void)state;
  assert_set("Server", "me", 0, 0);
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" DATE "Server: me\r\n\r\n");
  out.bytes = 0;
  req.flags = PL_REQ_KEEP_ALIVE;
  pl__extra_clear(&req);
  assert_set("Date", "x", 0, 0);
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\nServer: perilune\r\n"
                     "Date: x\r\n\r\n");
}

#define LINES "Perilune-Generation: 2-0123abcd\r\n"

static void says_behind_the_date_what_was_set_for_all(void **state) {
  (void)state;
  pl__http_env_set(&env, PL_SLICE(LINES));
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" FIELDS LINES "\r\n");
}

static void says_it_also_when_the_date_was_set(void **state) {
  (void)state;
  pl__http_env_set(&env, PL_SLICE(LINES));
  assert_set("Date", "x", 0, 0);
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\nServer: perilune\r\n" LINES
                     "Date: x\r\n\r\n");
}

static void says_it_also_when_the_server_was_set(void **state) {
  (void)state;
  pl__http_env_set(&env, PL_SLICE(LINES));
  assert_set("Server", "me", 0, 0);
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out,
               "HTTP/1.1 204 No Content\r\n" DATE LINES "Server: me\r\n\r\n");
}

static void says_it_also_when_both_were_set(void **state) {
  (void)state;
  pl__http_env_set(&env, PL_SLICE(LINES));
  assert_set("Server", "me", 0, 0);
  assert_set("Date", "x", 0, 0);
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" LINES
                     "Server: me\r\nDate: x\r\n\r\n");
}

static void says_what_was_set_last(void **state) {
  (void)state;
  pl__http_env_set(&env, PL_SLICE(LINES "Perilune-Reload: failed\r\n"));
  pl__http_env_set(&env, PL_SLICE("A: b\r\n"));
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" FIELDS "A: b\r\n\r\n");
  out.bytes = 0;
  req.flags = PL_REQ_KEEP_ALIVE;
  pl__http_env_set(&env, PL_SLICE(""));
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\n" FIELDS "\r\n");
}

static void leaves_out_lines_that_find_no_room(void **state) {
  char lines[PL_ENV_BYTES_MAX];
  uint32_t room = PL_ENV_BYTES_MAX - PL_ENV_FIELDS_BYTES;

  (void)state;
  memset(lines, 'x', sizeof lines);
  memcpy(lines, "A: ", 3);
  memcpy(lines + room - 2, "\r\n", 2);
  pl__http_env_set(&env, pl__slice(lines, room));
  assert_int_equal(env.bytes, PL_ENV_BYTES_MAX);
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_memory_equal(out.at + out.bytes - room - 2, lines, room);
  pl__http_env_set(&env, pl__slice(lines, room + 1));
  assert_int_equal(env.bytes, PL_ENV_FIELDS_BYTES);
}

static void keeps_what_was_set_when_the_second_changes(void **state) {
  (void)state;
  pl__http_env_set(&env, PL_SLICE(LINES));
  pl__http_env_tick(&env, 784111778);
  assert_int_equal(pl__encode_reply(&req, 204, NO_BODY), 0);
  assert_bytes(&out, "HTTP/1.1 204 No Content\r\nServer: perilune\r\n"
                     "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n" LINES "\r\n");
}

static void setting_replaces_in_any_case_and_adding_does_not(void **state) {
  (void)state;
  assert_set("X-A", "1", 0, 0);
  assert_set("X-B", "2", 0, 0);
  assert_set("x-a", "3", 1, 0);
  assert_bytes(&extra, "X-A: 1\r\nX-B: 2\r\nx-a: 3\r\n");
  assert_memory_equal(pl__extra_get(&req, PL_SLICE("X-a")).at, "1", 1);
  assert_set("X-a", "4", 0, 0);
  assert_bytes(&extra, "X-B: 2\r\nX-a: 4\r\n");
  assert_set("X-", "5", 0, 0);
  assert_set("X-B", "", 0, 0);
  assert_bytes(&extra, "X-a: 4\r\nX-: 5\r\nX-B: \r\n");
  struct pl_slice empty = pl__extra_get(&req, PL_SLICE("x-b"));
  assert_non_null(empty.at);
  assert_int_equal(empty.bytes, 0);
  assert_null(pl__extra_get(&req, PL_SLICE("x-c")).at);
  pl__extra_remove(&req, PL_SLICE("x-A"));
  pl__extra_remove(&req, PL_SLICE("x-c"));
  assert_bytes(&extra, "X-: 5\r\nX-B: \r\n");
}

static void removing_brings_the_default_back(void **state) {
  (void)state;
  assert_set("Content-Type", "a/b", 0, 0);
  assert_set("Date", "x", 0, 0);
  assert_int_equal(req.extra_flags, PL_EXTRA_TYPE | PL_EXTRA_DATE);
  pl__extra_remove(&req, PL_SLICE("content-type"));
  assert_int_equal(req.extra_flags, PL_EXTRA_DATE);
  pl__extra_clear(&req);
  assert_int_equal(req.extra_flags, 0);
  assert_int_equal(extra.bytes, 0);
}

static void refuses_fields_that_could_break_a_line(void **state) {
  (void)state;
  assert_set("", "v", 0, PL_EINVAL);
  assert_set("a b", "v", 0, PL_EINVAL);
  assert_set("a:", "v", 0, PL_EINVAL);
  assert_set("a\r\nb", "v", 0, PL_EINVAL);
  assert_set("a", "v\r\nb: c", 0, PL_EINVAL);
  assert_set("a", "v\n", 0, PL_EINVAL);
  assert_set("a", "v\r", 0, PL_EINVAL);
  assert_set("a", "\x01", 0, PL_EINVAL);
  assert_int_equal(pl__extra_set(&req, PL_SLICE("a"), pl__slice("b\0c", 3), 0),
                   PL_EINVAL);
  assert_int_equal(extra.bytes, 0);
}

static void refuses_framing_fields(void **state) {
  static const char *const names[] = {"Content-Length", "transfer-encoding",
                                      "Keep-Alive",     "Upgrade",
                                      "trailer",        "TE",
                                      "Connection",     "Proxy-Connection"};
  (void)state;
  for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
    assert_set(names[i], "5", 0, PL_ECONFLICT);
    assert_set(names[i], "5", 1, PL_ECONFLICT);
  }
  assert_int_equal(extra.bytes, 0);
  assert_set("Connection", "keep-alive", 0, PL_ECONFLICT);
  assert_false(req.flags & PL_REQ_CLOSE);
  assert_set("connection", "Close", 0, 0);
  assert_true(req.flags & PL_REQ_CLOSE);
  assert_int_equal(extra.bytes, 0);
}

static void bounds_the_fields_that_are_set(void **state) {
  char *value = pl__alloc(PL_LIMIT_EXTRA_BYTES);
  (void)state;
  assert_non_null(value);
  memset(value, 'v', PL_LIMIT_EXTRA_BYTES);
  struct pl_slice s = pl__slice(value, PL_LIMIT_EXTRA_BYTES - 5);
  assert_int_equal(pl__extra_set(&req, PL_SLICE("a"), s, 0), 0);
  assert_int_equal(extra.bytes, PL_LIMIT_EXTRA_BYTES);
  assert_set("b", "", 0, PL_EFULL);
  assert_int_equal(extra.bytes, PL_LIMIT_EXTRA_BYTES);
  pl__extra_clear(&req);
  s.bytes++;
  assert_int_equal(pl__extra_set(&req, PL_SLICE("a"), s, 0), PL_EFULL);
  pl__free(value);
}

static void writes_decimals(void **state) {
  char digits[20];
  (void)state;
  assert_int_equal(pl__decimal(digits, 0), 1);
  assert_memory_equal(digits, "0", 1);
  assert_int_equal(pl__decimal(digits, 1048576), 7);
  assert_memory_equal(digits, "1048576", 7);
  assert_int_equal(pl__decimal(digits, UINT64_MAX), 20);
  assert_memory_equal(digits, "18446744073709551615", 20);
}

static void writes_a_continue(void **state) {
  (void)state;
  assert_int_equal(pl__encode_continue(&out), 0);
  assert_bytes(&out, "HTTP/1.1 100 Continue\r\n\r\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(writes_head_and_body_in_one_go),
      TEST(appends_behind_what_waits_to_be_sent),
      TEST(writes_each_status_line_whole),
      TEST(answers_head_with_the_head_of_get),
      TEST(sends_no_body_where_none_is_allowed),
      TEST(sends_a_body_of_unknown_length_in_chunks),
      TEST(ends_it_with_the_connection_in_http_1_0),
      TEST(says_what_becomes_of_the_connection),
      TEST(writes_one_head_only),
      TEST(refuses_statuses_out_of_range_and_control_characters),
      TEST(writes_nothing_when_there_is_no_room),
      TEST(allocates_nothing_once_the_output_has_room),
      TEST(writes_the_date_anew_when_the_second_changes),
      TEST(sends_the_fields_that_were_set),
      TEST(leaves_out_only_the_default_that_was_set),
      TEST(says_behind_the_date_what_was_set_for_all),
      TEST(says_it_also_when_the_date_was_set),
      TEST(says_it_also_when_the_server_was_set),
      TEST(says_it_also_when_both_were_set),
      TEST(says_what_was_set_last),
      TEST(leaves_out_lines_that_find_no_room),
      TEST(keeps_what_was_set_when_the_second_changes),
      TEST(setting_replaces_in_any_case_and_adding_does_not),
      TEST(removing_brings_the_default_back),
      TEST(refuses_fields_that_could_break_a_line),
      TEST(refuses_framing_fields),
      TEST(bounds_the_fields_that_are_set),
      TEST(writes_decimals),
      TEST(writes_a_continue),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
