/* test/http/test_cookies.c - cookies in and out. */
#include "http/cookies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

static struct pl_arena arena;
static struct pl_buf out;

static int set_up(void **state) {
  (void)state;
  pl__arena_init(&arena, NULL, PL_LIMIT_ARENA_BYTES);
  pl__buf_init(&out, NULL, 4096);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__arena_reset(&arena, false);
  pl__buf_release(&out);
  return 0;
}

static void assert_pair(const struct pl_header *h, const char *name,
                        const char *value) {
  assert_int_equal(h->name.bytes, strlen(name));
  assert_memory_equal(h->name.at, name, strlen(name));
  assert_int_equal(h->value.bytes, strlen(value));
  assert_memory_equal(h->value.at, value, strlen(value));
}

static void splits_all_cookie_fields_once(void **state) {
  struct pl_header h[] = {{PL_SLICE("Cookie"), PL_SLICE("a=1; b=\"x y\";c=")},
                          {PL_SLICE("X"), PL_SLICE("n=1")},
                          {PL_SLICE("cookie"), PL_SLICE(" a = 2=3 ; ; =x; y")}};
  struct pl_req req = {.headers = h, .header_count = 3, .arena = &arena};
  (void)state;
  assert_int_equal(pl__req_cookies(&req), 0);
  assert_int_equal(req.cookie_count, 4);
  assert_pair(&req.cookies[0], "a", "1");
  assert_pair(&req.cookies[1], "b", "x y");
  assert_pair(&req.cookies[2], "c", "");
  assert_pair(&req.cookies[3], "a", "2=3");
  req.header_count = 0;
  assert_int_equal(pl__req_cookies(&req), 0);
  assert_int_equal(req.cookie_count, 4);
}

static void refuses_more_cookies_than_allowed(void **state) {
  static char value[(PL_LIMIT_COOKIES + 1) * 4];
  struct pl_header h = {PL_SLICE("Cookie"), {value, PL_LIMIT_COOKIES * 4}};
  struct pl_req req = {.headers = &h, .header_count = 1, .arena = &arena};
  (void)state;
  for (uint32_t i = 0; i <= PL_LIMIT_COOKIES; i++)
    memcpy(value + i * 4, "a=b;", 4);
  assert_int_equal(pl__req_cookies(&req), 0);
  assert_int_equal(req.cookie_count, PL_LIMIT_COOKIES);
  req.parsed = 0;
  h.value.bytes += 4;
  assert_int_equal(pl__req_cookies(&req), PL_EFULL);
  assert_int_equal(req.cookie_count, 0);
}

static void assert_line(const struct pl_cookie *cookie, const char *wanted) {
  const char *detail = "";
  out.bytes = 0;
  if (pl__cookie_encode(&out, cookie, &detail))
    fail_msg("%s", detail);
  assert_int_equal(out.bytes, strlen(wanted));
  assert_memory_equal(out.at, wanted, out.bytes);
}

static void writes_all_attributes(void **state) {
  struct pl_cookie c = {.name = PL_SLICE("id"), .value = PL_SLICE("7")};
  (void)state;
  assert_line(&c, "id=7");
  c = (struct pl_cookie){.name = PL_SLICE("__Host-id"),
                         .value = PL_SLICE(""),
                         .path = PL_SLICE("/"),
                         .max_age_s = -1,
                         .has_max_age = 1,
                         .has_expires = 1,
                         .secure = 1,
                         .http_only = 1,
                         .same_site = PL_SAME_SITE_NONE};
  assert_line(&c, "__Host-id=; Path=/; Max-Age=-1; Expires=Thu, 01 Jan 1970 "
                  "00:00:00 GMT; Secure; HttpOnly; SameSite=None");
  c = (struct pl_cookie){.name = PL_SLICE("a"),
                         .value = PL_SLICE("b"),
                         .domain = PL_SLICE("x.y"),
                         .max_age_s = 3600,
                         .has_max_age = 1,
                         .same_site = PL_SAME_SITE_LAX};
  assert_line(&c, "a=b; Domain=x.y; Max-Age=3600; SameSite=Lax");
  c = (struct pl_cookie){.name = PL_SLICE("a"),
                         .value = PL_SLICE("b"),
                         .max_age_s = INT64_MIN,
                         .has_max_age = 1,
                         .same_site = PL_SAME_SITE_STRICT};
  assert_line(&c, "a=b; Max-Age=-9223372036854775808; SameSite=Strict");
}

static void refuses_what_would_break_the_line(void **state) {
  const struct pl_slice n = PL_SLICE("n"), v = PL_SLICE("v");
  const struct pl_cookie bad[] = {
      {.name = PL_SLICE(""), .value = v},
      {.name = PL_SLICE("a=b"), .value = v},
      {.name = PL_SLICE("a;"), .value = v},
      {.name = n, .value = PL_SLICE("a b")},
      {.name = n, .value = PL_SLICE("a;b")},
      {.name = n, .value = PL_SLICE("a,b")},
      {.name = n, .value = PL_SLICE("\"a\"")},
      {.name = n, .value = PL_SLICE("a\\b")},
      {.name = n, .value = PL_SLICE("a\r\nb")},
      {.name = n, .value = PL_SLICE("\xc3\xa4")},
      {.name = n, .value = v, .path = PL_SLICE("/;x")},
      {.name = n, .value = v, .path = PL_SLICE("/\n")},
      {.name = n, .value = v, .domain = PL_SLICE("a;b")},
      {.name = n, .value = v, .domain = PL_SLICE("a\tb")},
      {.name = n, .value = v, .same_site = PL_SAME_SITE_NONE},
      {.name = n, .value = v, .same_site = 9},
      {.name = PL_SLICE("__Secure-a"), .value = v},
      {.name = PL_SLICE("__Host-a"), .value = v, .secure = 1},
      {.name = PL_SLICE("__host-a"), .value = v, .path = PL_SLICE("/")},
      {.name = PL_SLICE("__Host-a"),
       .value = v,
       .secure = 1,
       .path = PL_SLICE("/"),
       .domain = PL_SLICE("a")},
  };
  (void)state;
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    const char *detail = "";
    out.bytes = 0;
    if (pl__cookie_encode(&out, &bad[i], &detail) != PL_EINVAL)
      fail_msg("taken: number %zu", i);
    assert_true(strlen(detail) > 10);
    assert_int_equal(out.bytes, 0);
  }
}

static void appends_nothing_when_there_is_no_room(void **state) {
  struct pl_cookie c = {.name = PL_SLICE("name"), .value = PL_SLICE("value")};
  struct pl_buf small;
  const char *detail;
  (void)state;
  pl__buf_init(&small, NULL, 8);
  assert_int_equal(pl__cookie_encode(&small, &c, &detail), PL_EFULL);
  assert_int_equal(small.bytes, 0);
  pl__buf_release(&small);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_all_cookie_fields_once),
      cmocka_unit_test(refuses_more_cookies_than_allowed),
      cmocka_unit_test(writes_all_attributes),
      cmocka_unit_test(refuses_what_would_break_the_line),
      cmocka_unit_test(appends_nothing_when_there_is_no_room),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
