/* test/http/test_target.c - targets, decoding and dot segments. */
#include "http/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/err.h"

static char scratch[256];

static int parse(struct pl_req *req, uint8_t method, const char *target) {
  memset(req, 0, sizeof(*req));
  req->method = method;
  req->target = pl__slice(target, strlen(target));
  req->host = PL_SLICE("field");
  return pl__target_parse(req, scratch, sizeof(scratch));
}

static void assert_slice(struct pl_slice s, const char *text) {
  if (s.bytes != strlen(text) || (s.bytes && memcmp(s.at, text, s.bytes)))
    fail_msg("\"%.*s\" is not \"%s\"", (int)s.bytes, s.at, text);
}

static void assert_path(const char *target, const char *path) {
  struct pl_req req;
  if (parse(&req, PL_METHOD_GET, target))
    fail_msg("refused: %s", target);
  assert_slice(req.path, path);
}

static void assert_refused(const char *target) {
  struct pl_req req;
  if (parse(&req, PL_METHOD_GET, target) != PL_EBAD)
    fail_msg("taken: %s", target);
  assert_null(req.path.at);
  assert_slice(req.host, "field");
}

static void splits_path_and_query(void **state) {
  struct pl_req req;
  (void)state;
  assert_int_equal(parse(&req, PL_METHOD_GET, "/a/b?c=d?e/../%zz"), 0);
  assert_slice(req.path, "/a/b");
  assert_slice(req.query, "c=d?e/../%zz");
  assert_slice(req.host, "field");
  assert_int_equal(parse(&req, PL_METHOD_GET, "/?"), 0);
  assert_slice(req.path, "/");
  assert_slice(req.query, "");
}

static void copies_nothing_when_there_is_nothing_to_decode(void **state) {
  const char *target = "/a/b.c?d=%20";
  struct pl_req req;
  (void)state;
  req = (struct pl_req){.target = pl__slice(target, strlen(target))};
  assert_int_equal(pl__target_parse(&req, NULL, 0), 0);
  assert_ptr_equal(req.path.at, target);
  target = "/a%20b";
  req = (struct pl_req){.target = pl__slice(target, strlen(target))};
  assert_int_equal(pl__target_parse(&req, scratch, 5), PL_EFULL);
  assert_int_equal(pl__target_parse(&req, scratch, 6), 0);
  assert_ptr_equal(req.path.at, scratch);
}

static void decodes_a_path_once(void **state) {
  (void)state;
  assert_path("/a%20b", "/a b");
  assert_path("/%41%e4%C3", "/A\xe4\xc3");
  assert_path("/a+b", "/a+b");
  assert_path("/%2541", "/%41");
  assert_path("/%252e%252e/x", "/%2e%2e/x");
  assert_path("/a%3Fb%23c", "/a?b#c");
  assert_path("/a%0d%0ab", "/a\r\nb");
}

static void keeps_an_escaped_slash_escaped(void **state) {
  (void)state;
  assert_path("/a%2Fb", "/a%2Fb");
  assert_path("/a%2fb", "/a%2fb");
  assert_path("/..%2f..%2fetc", "/..%2f..%2fetc");
}

static void removes_dot_segments(void **state) {
  (void)state;
  assert_path("/a/./b", "/a/b");
  assert_path("/./a", "/a");
  assert_path("/a/.", "/a/");
  assert_path("/.", "/");
  assert_path("/a/../b", "/b");
  assert_path("/a/b/../../c", "/c");
  assert_path("/a/..", "/");
  assert_path("/a/b/..", "/a/");
  assert_path("/a/../", "/");
  assert_path("/a//../b", "/a/b");
  assert_path("/a/%2e/b", "/a/b");
  assert_path("/a/%2e%2E/b", "/b");
  assert_path("/a/.%2e/b", "/b");
}

static void keeps_what_only_looks_like_dot_segments(void **state) {
  (void)state;
  assert_path("/.well-known/x", "/.well-known/x");
  assert_path("/...", "/...");
  assert_path("/..a/.b", "/..a/.b");
  assert_path("/a./b..", "/a./b..");
  assert_path("/..\\..\\etc", "/..\\..\\etc");
  assert_path("/a/..;/b", "/a/..;/b");
}

static void keeps_empty_segments_case_and_trailing_slash(void **state) {
  (void)state;
  assert_path("//", "//");
  assert_path("//a//B//", "//a//B//");
}

static void refuses_to_go_above_the_root(void **state) {
  (void)state;
  assert_refused("/..");
  assert_refused("/../");
  assert_refused("/../etc/passwd");
  assert_refused("/a/../../b");
  assert_refused("/%2e%2e/etc");
  assert_refused("/./../x");
  assert_refused("/a/..//../../b");
}

static void refuses_malformed_targets(void **state) {
  (void)state;
  assert_refused("");
  assert_refused("a");
  assert_refused("a/b");
  assert_refused("/a b");
  assert_refused("/a#b");
  assert_refused("/a?b#c");
  assert_refused("/a\x7f");
  assert_refused("/\xc3\xa4");
  assert_refused("/a?\xc3\xa4");
  assert_refused("/%");
  assert_refused("/%2");
  assert_refused("/%zz");
  assert_refused("/%2z");
  assert_refused("/a%00b");
  assert_refused("?a");
  assert_refused("*");
  assert_refused("host:80");
}

static void reads_absolute_targets(void **state) {
  struct pl_req req;
  (void)state;
  assert_int_equal(parse(&req, PL_METHOD_GET, "http://h.x:80/a/../b?c"), 0);
  assert_slice(req.host, "h.x:80");
  assert_slice(req.path, "/b");
  assert_slice(req.query, "c");
  assert_int_equal(parse(&req, PL_METHOD_GET, "HTTPS://[::1]"), 0);
  assert_slice(req.host, "[::1]");
  assert_slice(req.path, "/");
  assert_int_equal(parse(&req, PL_METHOD_GET, "http://h?/a"), 0);
  assert_slice(req.path, "/");
  assert_slice(req.query, "/a");
}

static void refuses_absolute_targets_it_does_not_serve(void **state) {
  (void)state;
  assert_refused("ftp://h/");
  assert_refused("http:/h/");
  assert_refused("http:///a");
  assert_refused("http://");
  assert_refused("http://u@h/");
  assert_refused("http://u:p@h/");
  assert_refused("http://h:x/");
  assert_refused("http://h/../..");
  assert_refused("httpx://h/");
}

static void takes_an_asterisk_for_options_only(void **state) {
  struct pl_req req;
  (void)state;
  assert_int_equal(parse(&req, PL_METHOD_OPTIONS, "*"), 0);
  assert_true(req.flags & PL_REQ_ASTERISK);
  assert_slice(req.path, "/");
  assert_int_equal(parse(&req, PL_METHOD_OPTIONS, "/x"), 0);
  assert_false(req.flags & PL_REQ_ASTERISK);
  assert_int_equal(parse(&req, PL_METHOD_GET, "*"), PL_EBAD);
  assert_int_equal(parse(&req, PL_METHOD_OPTIONS, "**"), PL_EBAD);
}

static int is_host(const char *s) {
  return pl__target_is_host(pl__slice(s, strlen(s)));
}

static void tells_hosts_from_what_is_none(void **state) {
  static const char *const good[] = {
      "a",         "a.b-c", "a:80",       "a:",
      "127.0.0.1", "[::1]", "[::1]:8080", "[::ffff:1.2.3.4]",
      "x_y~z",     "%41",   "a:65535"};
  static const char *const bad[] = {
      "",     ":80",     "a b",      "a/b",  "a?b",          "a#b", "u@a",
      "a:b",  "a:65536", "a:80:80",  "[::1", "[]",           "[x]", "[::1]x",
      "::1",  "a%4",     "a%zz",     "a\\b", "[::1%25eth0]", "a\"", "a,b:c",
      "a:-1", "<a>",     "\xc3\xa4", "[:]",  "a:000080"};
  (void)state;
  for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
    if (!is_host(good[i]))
      fail_msg("refused: %s", good[i]);
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
    if (is_host(bad[i]))
      fail_msg("taken: %s", bad[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_path_and_query),
      cmocka_unit_test(copies_nothing_when_there_is_nothing_to_decode),
      cmocka_unit_test(decodes_a_path_once),
      cmocka_unit_test(keeps_an_escaped_slash_escaped),
      cmocka_unit_test(removes_dot_segments),
      cmocka_unit_test(keeps_what_only_looks_like_dot_segments),
      cmocka_unit_test(keeps_empty_segments_case_and_trailing_slash),
      cmocka_unit_test(refuses_to_go_above_the_root),
      cmocka_unit_test(refuses_malformed_targets),
      cmocka_unit_test(reads_absolute_targets),
      cmocka_unit_test(refuses_absolute_targets_it_does_not_serve),
      cmocka_unit_test(takes_an_asterisk_for_options_only),
      cmocka_unit_test(tells_hosts_from_what_is_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
