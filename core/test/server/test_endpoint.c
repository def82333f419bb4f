/* test/server/test_endpoint.c - addresses of collectors, and what is none. */
#include "server/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void assert_parts(const char *text, const char *suffix, const char *host,
                         const char *port, const char *authority,
                         const char *path) {
  struct pl_endpoint e;

  assert_int_equal(0, pl__endpoint_parse(text, suffix, &e));
  assert_string_equal(host, e.host);
  assert_string_equal(port, e.port);
  assert_string_equal(authority, e.authority);
  assert_string_equal(path, e.path);
}

static void an_address_is_taken_apart(void **state) {
  (void)state;
  assert_parts("http://127.0.0.1:4318", "/v1/logs", "127.0.0.1", "4318",
               "127.0.0.1:4318", "/v1/logs");
  assert_parts("HTTP://collector", "", "collector", "80", "collector", "/");
  assert_parts("http://a.b:81/x/", "/v1/logs", "a.b", "81", "a.b:81",
               "/x/v1/logs");
  assert_parts("http://a.b:81/x/?k=v", "", "a.b", "81", "a.b:81", "/x/?k=v");
  assert_parts("http://[::1]:4318/", "/v1/logs", "::1", "4318", "[::1]:4318",
               "/v1/logs");
  assert_parts("http://[::1]", "", "::1", "80", "[::1]", "/");
}

static void what_is_no_address_is_refused(void **state) {
  static const char *const bad[] = {
      "",
      "127.0.0.1:4318",
      "https://127.0.0.1:4318",
      "http://",
      "http:///v1",
      "http://a:0",
      "http://a:65536",
      "http://a:b",
      "http://user@a:80",
      "http://a b",
      "http://a/x y",
      "http://a/x#y",
      "http://a?x",
      "http://a/\r\nX: y",
  };

  (void)state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(PL_EINVAL, pl__endpoint_parse(bad[i], "", NULL));
}

static void long_ones_are_refused(void **state) {
  char text[2 * PL_ENDPOINT_BYTES];

  (void)state;
  memset(text, 'a', sizeof text);
  text[sizeof text - 1] = '\0';
  memcpy(text, "http://", 7);
  assert_int_equal(PL_EINVAL, pl__endpoint_parse(text, "", NULL));
  memcpy(text, "http://a/", 9);
  assert_int_equal(PL_EINVAL, pl__endpoint_parse(text, "", NULL));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_address_is_taken_apart),
      cmocka_unit_test(what_is_no_address_is_refused),
      cmocka_unit_test(long_ones_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
