/* test/fabric/test_bundle.c - blobs of a generation: found, kept apart, never
 * half of another.
 */
#include "fabric/bundle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

#define BYTES 4096u

static _Alignas(64) char memory[BYTES];
static struct pl_bundle *bundle;

static int make_bundle(void **state) {
  (void)state;
  memset(memory, 0, sizeof memory);
  bundle = (void *)memory;
  pl__bundle_init(bundle, BYTES);
  pl__bundle_begin(bundle, 3);
  return 0;
}

static int add(const char *key, const char *text) {
  return pl__bundle_add(bundle, pl__slice(key, strlen(key)),
                        pl__slice(text, strlen(text)));
}

static void assert_blob(const char *key, const char *text) {
  struct pl_slice bytes;

  assert_true(pl__bundle_find(bundle, pl__slice(key, strlen(key)), &bytes));
  assert_int_equal(bytes.bytes, strlen(text));
  assert_memory_equal(bytes.at, text, bytes.bytes);
}

static void finds_what_was_added(void **state) {
  struct pl_slice bytes;

  (void)state;
  assert_int_equal(add("/a.lua", "return 1"), 0);
  assert_int_equal(add("/b.lua", ""), 0);
  assert_blob("/a.lua", "return 1");
  assert_blob("/b.lua", "");
  assert_false(pl__bundle_find(bundle, PL_SLICE("/a.lu"), &bytes));
}

static void keeps_the_first_of_a_key(void **state) {
  (void)state;
  assert_int_equal(add("/a.lua", "first"), 0);
  assert_int_equal(add("/a.lua", "second"), 0);
  assert_blob("/a.lua", "first");
}

static void is_of_a_generation_once_it_is_published(void **state) {
  (void)state;
  add("/a.lua", "x");
  assert_false(pl__bundle_is(bundle, 3));
  pl__bundle_publish(bundle);
  assert_true(pl__bundle_is(bundle, 3));
  assert_false(pl__bundle_is(bundle, 1));
  pl__bundle_begin(bundle, 5);
  assert_false(pl__bundle_is(bundle, 3));
  assert_false(pl__bundle_is(bundle, 5));
}

static void says_when_it_is_full_and_keeps_what_it_has(void **state) {
  char large[BYTES];

  (void)state;
  memset(large, 'x', sizeof large - 1);
  large[sizeof large - 1] = '\0';
  assert_int_equal(add("/a.lua", "small"), 0);
  assert_int_equal(add("/large.lua", large), PL_EFULL);
  assert_blob("/a.lua", "small");
  assert_int_equal(add("/b.lua", "small, too"), 0);
}

static uint64_t hash_of(const char *const *pairs) {
  pl__bundle_begin(bundle, 3);
  for (; *pairs; pairs += 2)
    pl__bundle_hash(bundle, pl__slice(pairs[0], strlen(pairs[0])),
                    pl__slice(pairs[1], strlen(pairs[1])));
  return bundle->hash;
}

static void hashes_names_and_bytes_in_any_order(void **state) {
  static const char *const ab[] = {"a", "1", "b", "2", NULL};
  static const char *const ba[] = {"b", "2", "a", "1", NULL};
  static const char *const other[] = {"a", "2", "b", "1", NULL};
  static const char *const moved[] = {"a1", "", "b", "2", NULL};

  (void)state;
  assert_true(hash_of(ab) == hash_of(ba));
  assert_true(hash_of(ab) != hash_of(other));
  assert_true(hash_of(ab) != hash_of(moved));
}

static void visits_each_blob_once(void **state) {
  struct pl_slice key, bytes;
  uint64_t at = 0;

  (void)state;
  add("/a", "1");
  add("/b", "22");
  assert_true(pl__bundle_next(bundle, &at, &key, &bytes));
  assert_int_equal(key.at[1], 'a');
  assert_true(pl__bundle_next(bundle, &at, &key, &bytes));
  assert_int_equal(bytes.bytes, 2);
  assert_false(pl__bundle_next(bundle, &at, &key, &bytes));
}

/* Somebody may read while another generation is being written. */
static void never_reads_outside_whatever_lies_in_it(void **state) {
  struct pl_slice bytes, key;

  (void)state;
  srand(1);
  for (int round = 0; round < 2000; round++) {
    uint64_t at = 0;
    for (size_t i = offsetof(struct pl_bundle, data); i < BYTES; i++)
      memory[i] = (char)(round % 2 ? rand() : rand() % 3);
    bundle->count = (uint32_t)rand();
    bundle->used = (uint32_t)rand() % (BYTES * 2);
    if (pl__bundle_find(bundle, PL_SLICE("/a.lua"), &bytes))
      assert_true(bytes.at + bytes.bytes <= memory + BYTES);
    while (pl__bundle_next(bundle, &at, &key, &bytes)) {
      assert_true(key.at + key.bytes <= memory + BYTES);
      assert_true(bytes.at + bytes.bytes <= memory + BYTES);
    }
  }
}

#define CASE(name) cmocka_unit_test_setup(name, make_bundle)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(finds_what_was_added),
      CASE(keeps_the_first_of_a_key),
      CASE(is_of_a_generation_once_it_is_published),
      CASE(says_when_it_is_full_and_keeps_what_it_has),
      CASE(hashes_names_and_bytes_in_any_order),
      CASE(visits_each_blob_once),
      CASE(never_reads_outside_whatever_lies_in_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
