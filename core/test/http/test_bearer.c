/* test/http/test_bearer.c - tokens that are right, nearly right, and none. */
#include "http/bearer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct pl_slice token = {"a-secret-of-16-and-more", 23};

static bool allows(const char *authorization) {
  return pl__bearer_allows(pl__slice_text(authorization), token);
}

static void takes_the_token_behind_the_scheme_in_any_case(void **state) {
  (void)state;
  assert_true(allows("Bearer a-secret-of-16-and-more"));
  assert_true(allows("bEARER a-secret-of-16-and-more"));
}

static void refuses_all_else(void **state) {
  static const char *const wrong[] = {"",
                                      "Bearer",
                                      "Bearer ",
                                      "a-secret-of-16-and-more",
                                      "Bearer a-secret-of-16-and-mor",
                                      "Bearer a-secret-of-16-and-more-",
                                      "Bearer a-secret-of-16-and-morf",
                                      "Bearer A-secret-of-16-and-more",
                                      "Basic  a-secret-of-16-and-more",
                                      "Bearer\ta-secret-of-16-and-more"};

  (void)state;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    assert_false(allows(wrong[i]));
}

static void asks_for_no_token_where_there_is_none(void **state) {
  (void)state;
  assert_true(pl__bearer_allows(PL_SLICE(""), PL_SLICE("")));
  assert_true(pl__bearer_allows(PL_SLICE("Bearer x"), PL_SLICE("")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(takes_the_token_behind_the_scheme_in_any_case),
      cmocka_unit_test(refuses_all_else),
      cmocka_unit_test(asks_for_no_token_where_there_is_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
