/* test/server/test_edition.c - a configuration on its way through a bundle. */
#include "server/edition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "server/config.h"

#include <string.h>

#define BYTES (1u << 20)
#define SETTINGS "{\"greeting\":\"hello\",\"deep\":{\"list\":[1,2]}}"

static struct pl_bundle *bundle;
static struct pl_config config, other;

/* In memory of its own, as pl__config_resolve leaves them. */
static void set_settings(struct pl_config *c, const char *text) {
  pl__free(c->settings_json);
  c->settings_json = pl__alloc(strlen(text) + 1);
  assert_non_null(c->settings_json);
  memcpy(c->settings_json, text, strlen(text) + 1);
  c->settings_bytes = (uint32_t)strlen(text);
}

static void resolve(struct pl_config *out, const char *override) {
  struct pl_config_input in = {.overrides = &override,
                               .override_count = override ? 1 : 0};
  char err[PL_CONFIG_ERROR_BYTES];

  if (pl__config_resolve(&in, out, err))
    fail_msg("%s", err);
}

static int make_bundle(void **state) {
  (void)state;
  bundle = pl__alloc_zero(BYTES + 64);
  if (!bundle)
    return -1;
  *state = bundle;
  bundle = (void *)(((uintptr_t)bundle + 63) & ~(uintptr_t)63);
  pl__bundle_init(bundle, BYTES);
  pl__bundle_begin(bundle, 3);
  resolve(&config, "limits.body=12345");
  set_settings(&config, SETTINGS);
  memset(&other, 0, sizeof other);
  return 0;
}

static int free_bundle(void **state) {
  pl__config_deinit(&config);
  pl__config_deinit(&other);
  pl__free(*state);
  return 0;
}

static void publish(const struct pl_config *c) {
  assert_int_equal(pl__edition_write(bundle, c), 0);
  pl__bundle_publish(bundle);
}

static void gives_back_what_was_written(void **state) {
  (void)state;
  publish(&config);
  assert_int_equal(pl__edition_read(bundle, 3, &other), 0);
  assert_true(other.limit_body_bytes == 12345);
  assert_string_equal(other.name, config.name);
  assert_int_equal(other.listen_count, config.listen_count);
  assert_memory_equal(other.origins, config.origins, sizeof config.origins);
  assert_int_equal(other.settings_bytes, strlen(SETTINGS));
  assert_string_equal(other.settings_json, SETTINGS);
}

static void gives_settings_of_its_own(void **state) {
  (void)state;
  publish(&config);
  assert_int_equal(pl__edition_read(bundle, 3, &other), 0);
  assert_ptr_not_equal(other.settings_json, config.settings_json);
  set_settings(&config, "{}");
  pl__bundle_begin(bundle, 5);
  memset(bundle->data, 'x', 4096);
  assert_string_equal(other.settings_json, SETTINGS);
}

static void gives_an_empty_text_where_there_are_no_settings(void **state) {
  (void)state;
  pl__free(config.settings_json);
  config.settings_json = NULL;
  config.settings_bytes = 0;
  publish(&config);
  assert_int_equal(pl__edition_read(bundle, 3, &other), 0);
  assert_int_equal(other.settings_bytes, 0);
  assert_string_equal(other.settings_json, "");
}

static void is_not_there_before_it_is_published(void **state) {
  (void)state;
  assert_int_equal(pl__edition_write(bundle, &config), 0);
  assert_int_equal(pl__edition_read(bundle, 3, &other), PL_EGONE);
  assert_null(other.settings_json);
}

static void is_of_one_generation_only(void **state) {
  (void)state;
  publish(&config);
  assert_int_equal(pl__edition_read(bundle, 1, &other), PL_EGONE);
  assert_int_equal(pl__edition_read(bundle, 5, &other), PL_EGONE);
  pl__bundle_begin(bundle, 5);
  assert_int_equal(pl__edition_read(bundle, 3, &other), PL_EGONE);
  assert_int_equal(pl__edition_read(bundle, 5, &other), PL_EGONE);
  assert_null(other.settings_json);
}

static void is_not_there_in_a_bundle_of_files_alone(void **state) {
  (void)state;
  pl__bundle_add(bundle, PL_SLICE("/app.lua"), PL_SLICE("return 1"));
  pl__bundle_publish(bundle);
  assert_int_equal(pl__edition_read(bundle, 3, &other), PL_EGONE);
}

static void refuses_a_configuration_of_another_size(void **state) {
  (void)state;
  pl__bundle_add(bundle, PL_SLICE("\1config"), PL_SLICE("short"));
  pl__bundle_add(bundle, PL_SLICE("\1settings"), PL_SLICE("{}"));
  pl__bundle_publish(bundle);
  assert_int_equal(pl__edition_read(bundle, 3, &other), PL_EGONE);
  assert_null(other.settings_json);
}

static void says_when_the_bundle_is_full(void **state) {
  (void)state;
  bundle->cap = sizeof config - 1;
  assert_int_equal(pl__edition_write(bundle, &config), PL_EFULL);
  bundle->cap = sizeof config + 40; /* room for the first of two blobs */
  assert_int_equal(pl__edition_write(bundle, &config), PL_EFULL);
  assert_true(bundle->hash == 0);
}

static uint64_t hash_of(const struct pl_config *c) {
  pl__bundle_begin(bundle, 3);
  publish(c);
  return bundle->hash;
}

static void knows_whether_the_app_is_to_be_watched(void **state) {
  (void)state;
  publish(&config);
  assert_false(pl__edition_is_watched(bundle));
  pl__bundle_begin(bundle, 4);
  assert_int_equal(pl__edition_mark_watched(bundle), 0);
  publish(&config);
  assert_true(pl__edition_is_watched(bundle));
  assert_int_equal(pl__edition_read(bundle, 4, &other), 0);
}

static void makes_settings_part_of_the_hash(void **state) {
  uint64_t before = hash_of(&config);

  (void)state;
  set_settings(&config, "{}");
  assert_true(hash_of(&config) != before);
  set_settings(&config, SETTINGS);
  assert_true(hash_of(&config) == before);
}

/* The same app on another machine, with other limits, is the same. */
static void makes_no_other_key_part_of_the_hash(void **state) {
  uint64_t before = hash_of(&config);

  (void)state;
  resolve(&other, "limits.body=54321");
  set_settings(&other, SETTINGS);
  assert_true(hash_of(&other) == before);
}

#define CASE(name)                                                             \
  cmocka_unit_test_setup_teardown(name, make_bundle, free_bundle)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(gives_back_what_was_written),
      CASE(gives_settings_of_its_own),
      CASE(gives_an_empty_text_where_there_are_no_settings),
      CASE(is_not_there_before_it_is_published),
      CASE(is_of_one_generation_only),
      CASE(is_not_there_in_a_bundle_of_files_alone),
      CASE(refuses_a_configuration_of_another_size),
      CASE(says_when_the_bundle_is_full),
      CASE(knows_whether_the_app_is_to_be_watched),
      CASE(makes_settings_part_of_the_hash),
      CASE(makes_no_other_key_part_of_the_hash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
