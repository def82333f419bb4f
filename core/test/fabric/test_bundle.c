/* test/fabric/test_bundle.c - blobs of a generation: found, kept apart, never
 * half of another.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "fabric/bundle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void takes_no_room_for_what_it_has_already(void **state) {
  uint32_t used;

  (void)state;
  add("/a.lua", "first");
  used = bundle->used;
  add("/a.lua", "second, and longer");
  assert_int_equal(bundle->used, used);
  assert_int_equal(bundle->count, 1);
}

static void tells_keys_apart_that_begin_alike(void **state) {
  (void)state;
  add("/a", "1");
  add("/a.lua", "2");
  add("", "3");
  assert_blob("/a", "1");
  assert_blob("/a.lua", "2");
  assert_blob("", "3");
}

static void finds_nothing_of_the_one_before(void **state) {
  struct pl_slice bytes;
  uint64_t at = 0;

  (void)state;
  add("/a.lua", "x");
  pl__bundle_publish(bundle);
  pl__bundle_begin(bundle, 5);
  assert_false(pl__bundle_find(bundle, PL_SLICE("/a.lua"), &bytes));
  assert_false(pl__bundle_next(bundle, &at, &bytes, &bytes));
  assert_int_equal(bundle->hash, 0);
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

/* Keys and bytes of 8: 32 of each blob. */
static void has_room_to_its_last_byte(void **state) {
  char key[] = "/00.lua_";
  uint64_t count = bundle->cap / 32;

  (void)state;
  assert_int_equal(bundle->cap % 32, 0);
  for (uint64_t i = 0; i < count; i++) {
    key[1] = (char)('0' + i / 64);
    key[2] = (char)('0' + i % 64);
    assert_int_equal(add(key, "8 bytes."), 0);
  }
  assert_int_equal(bundle->used, bundle->cap);
  assert_int_equal(add("/more", ""), PL_EFULL);
  assert_blob(key, "8 bytes.");
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

static void hashes_no_keys(void **state) {
  uint64_t before;

  (void)state;
  pl__bundle_hash(bundle, PL_SLICE("a.lua"), PL_SLICE("x"));
  before = bundle->hash;
  add("/one/place/a.lua", "x");
  add("/another/a.lua", "y");
  assert_true(before != 0);
  assert_true(bundle->hash == before);
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

/* What lies behind the section cannot be read, and no count can be trusted. */
static void reads_no_byte_behind_its_section(void **state) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), room;
  char *pages = mmap(NULL, page * 2, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct pl_bundle *b = (void *)pages;
  struct pl_slice key, bytes;

  (void)state;
  assert_true(pages != MAP_FAILED);
  assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
  pl__bundle_init(b, page);
  pl__bundle_begin(b, 3);
  room = (size_t)b->cap - 16 - 8; /* the next one would lie 8 before the end */
  memset(b->data + 16, 'x', room);
  memcpy(b->data + 12, &(uint32_t){(uint32_t)room}, sizeof(uint32_t));
  b->count = b->used = UINT32_MAX;
  assert_false(pl__bundle_find(b, PL_SLICE("/a.lua"), &bytes));
  assert_false(pl__bundle_next(b, &(uint64_t){b->cap - 8}, &key, &bytes));
  munmap(pages, page * 2);
}

/* --- a reader beside a writer ------------------------------------------ */

#define GENERATIONS 20000u
#define TEXT_BYTES 200u

/* Each generation has a text of its own: of another length, of another byte. */
static uint32_t text_of(uint32_t generation, char *out) {
  uint32_t bytes = 1 + generation * 7 % (TEXT_BYTES - 1);

  memset(out, 'a' + (int)(generation % 26), bytes);
  return bytes;
}

static void write_generations(struct pl_bundle *b) {
  char text[TEXT_BYTES];

  for (uint32_t i = 1; i <= GENERATIONS; i++) {
    uint32_t bytes = text_of(i, text);
    pl__bundle_begin(b, i);
    pl__bundle_add(b, pl__slice(text, 1 + i % 9), pl__slice(text, bytes));
    pl__bundle_add(b, PL_SLICE("/a.lua"), pl__slice(text, bytes));
    pl__bundle_publish(b);
  }
}

/* As vm/sources.c reads. True: what was read is said to be of `generation`. */
static bool read_one(const struct pl_bundle *b, uint32_t generation, char *to,
                     uint32_t *bytes) {
  struct pl_slice found;

  if (!pl__bundle_is(b, generation) ||
      !pl__bundle_find(b, PL_SLICE("/a.lua"), &found))
    return false;
  *bytes = found.bytes < BYTES ? found.bytes : BYTES;
  memcpy(to, found.at, *bytes);
  return pl__bundle_is(b, generation);
}

static void gives_a_reader_nothing_of_two_generations(void **state) {
  struct pl_bundle *b = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  char text[TEXT_BYTES], copy[BYTES];
  uint32_t generation = 0, bytes;
  int status;
  pid_t writer;

  (void)state;
  assert_true(b != MAP_FAILED);
  pl__bundle_init(b, BYTES);
  writer = fork();
  if (writer == 0) {
    write_generations(b);
    _exit(0);
  }
  while (generation < GENERATIONS) {
    uint32_t there = atomic_load(&b->generation);
    if (there && read_one(b, there, copy, &bytes)) {
      assert_int_equal(bytes, text_of(there, text));
      assert_memory_equal(copy, text, bytes);
      generation = there;
    }
  }
  assert_int_equal(waitpid(writer, &status, 0), writer);
  assert_int_equal(status, 0);
  munmap(b, BYTES);
}

#define CASE(name) cmocka_unit_test_setup(name, make_bundle)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(finds_what_was_added),
      CASE(keeps_the_first_of_a_key),
      CASE(takes_no_room_for_what_it_has_already),
      CASE(tells_keys_apart_that_begin_alike),
      CASE(finds_nothing_of_the_one_before),
      CASE(is_of_a_generation_once_it_is_published),
      CASE(says_when_it_is_full_and_keeps_what_it_has),
      CASE(has_room_to_its_last_byte),
      CASE(hashes_names_and_bytes_in_any_order),
      CASE(hashes_no_keys),
      CASE(visits_each_blob_once),
      CASE(never_reads_outside_whatever_lies_in_it),
      CASE(reads_no_byte_behind_its_section),
      CASE(gives_a_reader_nothing_of_two_generations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
