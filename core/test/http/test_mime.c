/* test/http/test_mime.c - media types by extension. */
#include "http/mime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void assert_type(const char *path, const char *wanted) {
  struct pl_slice s = pl__mime_find(pl__slice(path, strlen(path)));
  assert_int_equal(s.bytes, strlen(wanted));
  assert_memory_equal(s.at, wanted, s.bytes);
}

static void knows_types_by_extension_in_any_case(void **state) {
  (void)state;
  assert_type("/a/index.html", "text/html; charset=utf-8");
  assert_type("X.PNG", "image/png");
  assert_type("a.b.json", "application/json");
  assert_type(".css", "text/css; charset=utf-8");
}

static void takes_the_rest_for_bytes(void **state) {
  (void)state;
  assert_type("", "application/octet-stream");
  assert_type("Makefile", "application/octet-stream");
  assert_type("a.", "application/octet-stream");
  assert_type("a.unknown", "application/octet-stream");
  assert_type("a.html/b", "application/octet-stream");
  assert_type("html", "application/octet-stream");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(knows_types_by_extension_in_any_case),
      cmocka_unit_test(takes_the_rest_for_bytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
