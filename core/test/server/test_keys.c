/* test/server/test_keys.c - the table of keys, and what is near a word. */
#include "base/err.h"
#include "server/config.h"
#include "server/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void names_every_variable_after_its_key(void **state) {
  char expected[PL_KEY_NAME_BYTES + 16];

  (void)state;
  for (uint32_t i = 0; i < pl__key_count; i++) {
    size_t bytes = strlen(pl__keys[i].name);
    memcpy(expected, PL_KEY_ENV_PREFIX, 9);
    for (size_t j = 0; j <= bytes; j++) {
      char c = pl__keys[i].name[j];
      expected[9 + j] = c == '.' ? '_' : c;
      if (c >= 'a' && c <= 'z')
        expected[9 + j] = (char)(c - 'a' + 'A');
    }
    assert_string_equal(expected, pl__keys[i].env);
    assert_ptr_equal(&pl__keys[i],
                     pl__key_find_env(expected, strlen(expected)));
  }
}

static void has_no_key_that_kubernetes_would_set(void **state) {
  (void)state;
  assert_null(pl__key_find("port", 4));
  assert_null(pl__key_find("service", 7));
}

static void finds_what_was_meant(void **state) {
  (void)state;
  assert_string_equal("workers", pl__key_near("worker"));
  assert_string_equal("workers", pl__key_near("wokrers"));
  assert_string_equal("timeouts.header", pl__key_near("timeouts.heder"));
  assert_string_equal("timeouts.header", pl__key_near("timeout.header"));
  assert_string_equal("vm.memory_soft", pl__key_near("memory_soft"));
  assert_string_equal("settings", pl__key_near("setings"));
}

static void does_not_guess_wildly(void **state) {
  (void)state;
  assert_null(pl__key_near("banana"));
  assert_null(pl__key_near(""));
  assert_null(pl__key_near("a.very.long.key.that.is.longer.than.any.of.the."
                           "keys.that.there.are.in.the.table"));
}

static void says_what_is_expected_of_every_key(void **state) {
  char text[PL_KEY_EXPECTED_BYTES];

  (void)state;
  for (uint32_t i = 0; i < pl__key_count; i++) {
    text[0] = '\0';
    pl__key_expected(&pl__keys[i], text, sizeof(text));
    assert_true(text[0] != '\0');
    assert_true(pl__key_type_name(&pl__keys[i])[0] != '\0');
    assert_true(pl__keys[i].doc[0] != '\0');
  }
  pl__key_expected(pl__key_find("log.level", 9), text, sizeof(text));
  assert_string_equal("debug, info, warn or error", text);
}

static void writes_durations_and_sizes_shortly(void **state) {
  char text[32];

  (void)state;
  pl__key_format_duration(0.25, text, sizeof(text));
  assert_string_equal("250ms", text);
  pl__key_format_duration(90, text, sizeof(text));
  assert_string_equal("90s", text);
  pl__key_format_duration(120, text, sizeof(text));
  assert_string_equal("2m", text);
  pl__key_format_duration(0, text, sizeof(text));
  assert_string_equal("0s", text);
  pl__key_format_size(65536, text, sizeof(text));
  assert_string_equal("64K", text);
  pl__key_format_size(1000, text, sizeof(text));
  assert_string_equal("1000", text);
  pl__key_format_size(0, text, sizeof(text));
  assert_string_equal("0", text);
}

static void writes_shares_and_names_as_they_are_read(void **state) {
  static const char *const shares[] = {"0", "1", "0.5", "0.01", "0.00001"};
  static const char *const names[] = {"all", "req_id", "status",
                                      "route,aborted,generation"};
  static struct pl_config config;
  char text[PL_KEY_VALUE_BYTES];

  (void)state;
  for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
    const struct pl_key *key = pl__key_find("log.access_sample", 17);
    assert_int_equal(0, pl__key_set(key, shares[i], &config));
    pl__key_format_share(config.log_access_sample, text, sizeof(text));
    assert_string_equal(shares[i], text);
  }
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    const struct pl_key *key = pl__key_find("log.access_fields", 17);
    assert_int_equal(0, pl__key_set(key, names[i], &config));
    pl__key_format_names(key->choices, config.log_access_fields, text,
                         sizeof(text));
    assert_string_equal(names[i], text);
  }
}

/* 0, or what pl__key_set says. */
static int set(const char *name, const char *text) {
  static struct pl_config c;

  return pl__key_set(pl__key_find(name, strlen(name)), text, &c);
}

static void takes_networks_and_names_of_fields_and_nothing_else(void **state) {
  char long_list[2000] = "";

  (void)state;
  assert_int_equal(0, set("context.trusted", ""));
  assert_int_equal(0, set("context.trusted", "10.0.0.0/8, fd00::/8,unix"));
  assert_int_equal(PL_EINVAL, set("context.trusted", "10.0.0.1/8"));
  assert_int_equal(PL_EINVAL, set("context.trusted", "proxy.example"));
  memset(long_list, ' ', sizeof long_list - 1);
  assert_int_equal(PL_EINVAL, set("context.trusted", long_list));
  assert_int_equal(0, set("context.tenant_header", ""));
  assert_int_equal(0, set("context.tenant_header", "X-Org"));
  assert_int_equal(PL_EINVAL, set("context.tenant_header", "X Org"));
  assert_int_equal(PL_EINVAL, set("context.tenant_header", "X-Org:"));
  assert_int_equal(PL_EINVAL, set("context.trace_from", "nobody"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_every_variable_after_its_key),
      cmocka_unit_test(has_no_key_that_kubernetes_would_set),
      cmocka_unit_test(finds_what_was_meant),
      cmocka_unit_test(does_not_guess_wildly),
      cmocka_unit_test(says_what_is_expected_of_every_key),
      cmocka_unit_test(writes_durations_and_sizes_shortly),
      cmocka_unit_test(writes_shares_and_names_as_they_are_read),
      cmocka_unit_test(takes_networks_and_names_of_fields_and_nothing_else),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
