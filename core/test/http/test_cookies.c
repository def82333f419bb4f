/* test/http/test_cookies.c - Cookie fields, split. */
#include "http/cookies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"

static struct pl_arena arena;

static int set_up(void **state) {
  (void)state;
  pl__arena_init(&arena, NULL, PL_LIMIT_ARENA_BYTES);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__arena_reset(&arena, false);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_all_cookie_fields_once),
      cmocka_unit_test(refuses_more_cookies_than_allowed),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
