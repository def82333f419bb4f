/* test/server/test_otel.c - OpenTelemetry's variables in terms of our keys. */
#include "server/otel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "server/keys.h"

static char out[PL_KEY_VALUE_BYTES];

static int translate(enum pl_otel_form form, const char *value) {
  struct pl_otel_variable v = {.name = "OTEL_X", .key = "otlp.x", .form = form};
  const char *expected;

  out[0] = '\0';
  return pl__otel_translate(&v, value, out, sizeof out, &expected);
}

static void every_key_is_there(void **state) {
  (void)state;
  for (uint32_t i = 0; i < pl__otel_variable_count; i++) {
    const struct pl_otel_variable *v = &pl__otel_variables[i];
    if (v->key)
      assert_non_null(pl__key_find(v->key, strlen(v->key)));
    assert_int_equal(0, strncmp(v->name, "OTEL_", 5));
  }
}

static void numbers_are_milliseconds(void **state) {
  (void)state;
  assert_int_equal(1, translate(PL_OTEL_MS, "5000"));
  assert_string_equal("5000ms", out);
  assert_int_equal(PL_EINVAL, translate(PL_OTEL_MS, "5s"));
  assert_int_equal(PL_EINVAL, translate(PL_OTEL_MS, "-1"));
  assert_int_equal(PL_EINVAL, translate(PL_OTEL_MS, "99999999999"));
}

static void exporters_switch_a_signal(void **state) {
  (void)state;
  assert_int_equal(1, translate(PL_OTEL_EXPORTER, "none"));
  assert_string_equal("false", out);
  assert_int_equal(1, translate(PL_OTEL_EXPORTER, "otlp"));
  assert_string_equal("true", out);
  assert_int_equal(PL_EINVAL, translate(PL_OTEL_EXPORTER, "zipkin"));
}

static void only_true_disables(void **state) {
  (void)state;
  assert_int_equal(1, translate(PL_OTEL_DISABLED, "True"));
  assert_string_equal("false", out);
  assert_int_equal(0, translate(PL_OTEL_DISABLED, "1"));
  assert_int_equal(0, translate(PL_OTEL_DISABLED, "false"));
}

static void samplers_are_shares(void **state) {
  (void)state;
  assert_int_equal(1, translate(PL_OTEL_SAMPLER, "parentbased_always_on"));
  assert_string_equal("1", out);
  assert_int_equal(1, translate(PL_OTEL_SAMPLER, "always_off"));
  assert_string_equal("0", out);
  assert_int_equal(0, translate(PL_OTEL_SAMPLER, "parentbased_traceidratio"));
  assert_int_equal(PL_EINVAL, translate(PL_OTEL_SAMPLER, "jaeger_remote"));
}

static void there_is_one_protocol(void **state) {
  (void)state;
  assert_int_equal(0, translate(PL_OTEL_PROTOCOL, "http/protobuf"));
  assert_int_equal(PL_EINVAL, translate(PL_OTEL_PROTOCOL, "grpc"));
}

static void long_values_are_refused(void **state) {
  static char text[PL_KEY_VALUE_BYTES + 1];

  (void)state;
  memset(text, 'a', PL_KEY_VALUE_BYTES);
  assert_int_equal(PL_EINVAL, translate(PL_OTEL_AS_IT_IS, text));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_key_is_there),
      cmocka_unit_test(numbers_are_milliseconds),
      cmocka_unit_test(exporters_switch_a_signal),
      cmocka_unit_test(only_true_disables),
      cmocka_unit_test(samplers_are_shares),
      cmocka_unit_test(there_is_one_protocol),
      cmocka_unit_test(long_values_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
