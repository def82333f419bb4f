/* test/fabric/test_dict.c - entries, their times, and what makes room for them.
 * What happens when writers are killed is in test_dict_kill.c.
 */
#include "fabric/dict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/limits.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SMALL_BYTES PL_DICT_BYTES_MIN
#define ROOM (PL_LIMIT_DICT_VALUE_BYTES + 8)

static struct pl_dict_user user;
static uint64_t mapped_bytes;
static char *room;

static void make(uint64_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  assert_true(at != MAP_FAILED);
  assert_int_equal(pl__dict_init(at, bytes, (struct pl_siphash_seed){{1, 2}}),
                   0);
  user = (struct pl_dict_user){.dict = at, .self = pl__lock_self()};
  mapped_bytes = bytes;
  room = pl__alloc(ROOM);
}

static int make_small(void **state) {
  (void)state;
  make(SMALL_BYTES);
  return 0;
}

static int make_large(void **state) {
  (void)state;
  make(8 << 20);
  return 0;
}

static int unmake(void **state) {
  (void)state;
  assert_true(pl__dict_check(&user));
  munmap(user.dict, mapped_bytes);
  pl__free(room);
  return 0;
}

/* --- short forms -------------------------------------------------------- */

static struct pl_dict_key key(const char *text) {
  return (struct pl_dict_key){text, (uint32_t)strlen(text)};
}

static struct pl_dict_value text(const char *at, uint32_t bytes) {
  return (struct pl_dict_value){
      .kind = PL_DICT_STRING, .at = at, .bytes = bytes};
}

static struct pl_dict_value number(double n) {
  return (struct pl_dict_value){.kind = PL_DICT_NUMBER, .number = n};
}

static enum pl_dict_outcome set(const char *k, struct pl_dict_value v) {
  return pl__dict_set(&user, key(k), PL_DICT_SET, &v, NULL, 0, PL_DICT_NEVER);
}

static enum pl_dict_outcome set_text(const char *k, const char *v) {
  return set(k, text(v, (uint32_t)strlen(v)));
}

static struct pl_dict_found get_at(const char *k, int64_t now_ms) {
  struct pl_dict_found found = {.at = room, .room = ROOM};

  pl__dict_get(&user, key(k), now_ms, &found);
  return found;
}

static void assert_text(const char *k, const char *v) {
  struct pl_dict_found found = get_at(k, 0);

  assert_int_equal(found.kind, PL_DICT_STRING);
  assert_int_equal(found.bytes, strlen(v));
  assert_memory_equal(found.at, v, found.bytes);
}

static struct pl_dict_stats stats(void) {
  struct pl_dict_stats s;

  pl__dict_stats(user.dict, &s);
  return s;
}

/* --- facts -------------------------------------------------------------- */

static void is_empty_at_first(void **state) {
  (void)state;
  assert_int_equal(get_at("a", 0).kind, PL_DICT_NONE);
  assert_true(stats().entries == 0 && stats().bytes == 0);
  assert_true(stats().misses == 1 && stats().hits == 0);
}

static void refuses_a_size_that_is_too_small(void **state) {
  static char memory[64];

  (void)state;
  assert_int_equal(pl__dict_init(memory, PL_DICT_BYTES_MIN - 1,
                                 (struct pl_siphash_seed){{0, 0}}),
                   PL_EINVAL);
}

static void gives_back_each_kind_of_value(void **state) {
  struct pl_dict_value v = {.kind = PL_DICT_BOOLEAN, .number = 1};
  struct pl_dict_value t = {.kind = PL_DICT_TABLE, .at = "x\0y", .bytes = 3};

  (void)state;
  assert_int_equal(set_text("s", "value"), PL_DICT_DONE);
  assert_int_equal(set("n", number(-1.5)), PL_DICT_DONE);
  assert_int_equal(set("b", v), PL_DICT_DONE);
  assert_int_equal(set("t", t), PL_DICT_DONE);
  assert_text("s", "value");
  assert_true(get_at("n", 0).kind == PL_DICT_NUMBER &&
              get_at("n", 0).number == -1.5);
  assert_true(get_at("b", 0).kind == PL_DICT_BOOLEAN &&
              get_at("b", 0).number == 1);
  assert_int_equal(get_at("t", 0).kind, PL_DICT_TABLE);
  assert_memory_equal(room, "x\0y", 3);
  assert_true(stats().entries == 4);
}

static void tells_keys_apart_by_all_their_bytes(void **state) {
  static const char *const keys[] = {"",         "a",         "a\x01",
                                     "12345678", "123456789", "1234567"};
  static const struct pl_dict_key zeros[] = {
      {"a\0", 2}, {"\0", 1}, {"\0\0", 2}, {"12345678\0", 9}};

  (void)state;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    assert_int_equal(set_text(keys[i], keys[i]), PL_DICT_DONE);
  for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) {
    struct pl_dict_value v = number((double)i);
    assert_int_equal(
        pl__dict_set(&user, zeros[i], PL_DICT_SET, &v, NULL, 0, PL_DICT_NEVER),
        PL_DICT_DONE);
  }
  assert_true(stats().entries == 10);
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    assert_text(keys[i], keys[i]);
}

static void gives_back_values_and_keys_of_every_length(void **state) {
  static char pattern[70000], name[PL_LIMIT_DICT_KEY_BYTES + 1];
  static const uint32_t lengths[] = {0,   1,   7,   8,    9,    95,   96,
                                     97,  103, 104, 105,  111,  112,  216,
                                     223, 224, 225, 1000, 4096, 65536};

  (void)state;
  for (size_t i = 0; i < sizeof pattern; i++)
    pattern[i] = (char)(i * 7 + i / 251);
  for (uint32_t k = 1; k <= PL_LIMIT_DICT_KEY_BYTES; k = k * 2 + k % 3) {
    memset(name, 'k', k);
    name[k] = '\0';
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
      struct pl_dict_found found;
      assert_int_equal(set(name, text(pattern, lengths[i])), PL_DICT_DONE);
      found = get_at(name, 0);
      assert_int_equal(found.kind, PL_DICT_STRING);
      assert_int_equal(found.bytes, lengths[i]);
      assert_memory_equal(found.at, pattern, lengths[i]);
    }
    assert_int_equal(set(name, number(k)), PL_DICT_DONE);
    assert_true(get_at(name, 0).number == (double)k);
  }
}

static void tells_the_length_of_what_finds_no_room(void **state) {
  struct pl_dict_found found = {.at = room, .room = 8};

  (void)state;
  set_text("k", "123456789");
  room[0] = 'x';
  pl__dict_get(&user, key("k"), 0, &found);
  assert_int_equal(found.kind, PL_DICT_STRING);
  assert_int_equal(found.bytes, 9);
  assert_int_equal(room[0], 'x');
}

static void refuses_what_is_too_long(void **state) {
  static char name[PL_LIMIT_DICT_KEY_BYTES + 2];
  static char big[PL_LIMIT_DICT_VALUE_BYTES + 1];
  double sum;

  (void)state;
  memset(name, 'k', sizeof name - 1);
  assert_int_equal(set_text(name, "v"), PL_DICT_LONG_KEY);
  assert_int_equal(get_at(name, 0).kind, PL_DICT_NONE);
  assert_int_equal(pl__dict_delete(&user, key(name), 0), PL_DICT_LONG_KEY);
  assert_int_equal(
      pl__dict_incr(&user, key(name), 1, NULL, 0, PL_DICT_NEVER, &sum),
      PL_DICT_LONG_KEY);
  assert_int_equal(set("k", text(big, sizeof big)), PL_DICT_TOO_LARGE);
  assert_int_equal(set("k", text(big, sizeof big - 1)), PL_DICT_DONE);
}

static void refuses_more_than_a_quarter_of_its_memory(void **state) {
  (void)state;
  assert_int_equal(set("k", text(room, SMALL_BYTES / 3)), PL_DICT_TOO_LARGE);
  assert_int_equal(set("k", text(room, SMALL_BYTES / 8)), PL_DICT_DONE);
}

static void deletes(void **state) {
  (void)state;
  set_text("a", "1");
  set_text("b", "2");
  assert_int_equal(pl__dict_delete(&user, key("a"), 0), PL_DICT_DONE);
  assert_int_equal(pl__dict_delete(&user, key("a"), 0), PL_DICT_ABSENT);
  assert_int_equal(get_at("a", 0).kind, PL_DICT_NONE);
  assert_text("b", "2");
  assert_true(stats().entries == 1);
}

static void forgets_what_has_expired(void **state) {
  struct pl_dict_value v = number(1);

  (void)state;
  pl__dict_set(&user, key("k"), PL_DICT_SET, &v, NULL, 1000, 1500);
  assert_int_equal(get_at("k", 1499).kind, PL_DICT_NUMBER);
  assert_int_equal(get_at("k", 1500).kind, PL_DICT_NONE);
  assert_int_equal(pl__dict_delete(&user, key("k"), 1500), PL_DICT_ABSENT);
  assert_true(stats().entries == 0);
}

static void adds_only_what_is_not_there(void **state) {
  struct pl_dict_value v = number(1), w = number(2);

  (void)state;
#define ADD(v, now, expires)                                                   \
  pl__dict_set(&user, key("k"), PL_DICT_ADD, &(v), NULL, (now), (expires))
  assert_int_equal(ADD(v, 0, 100), PL_DICT_DONE);
  assert_int_equal(ADD(w, 99, PL_DICT_NEVER), PL_DICT_EXISTS);
  assert_true(get_at("k", 99).number == 1);
  assert_int_equal(ADD(w, 100, PL_DICT_NEVER), PL_DICT_DONE);
  assert_true(get_at("k", 100).number == 2);
  assert_true(stats().entries == 1);
#undef ADD
}

static void replaces_only_what_is_as_expected(void **state) {
  struct pl_dict_value none = {.kind = PL_DICT_NONE}, one = number(1),
                       two = number(2), word = text("two words 123", 13),
                       other = text("two words 124", 13);

  (void)state;
#define CAS(old, new)                                                          \
  pl__dict_set(&user, key("k"), PL_DICT_REPLACE, &(new), &(old), 0,            \
               PL_DICT_NEVER)
  assert_int_equal(CAS(one, two), PL_DICT_DIFFERS);
  assert_int_equal(CAS(none, one), PL_DICT_DONE);
  assert_int_equal(CAS(none, two), PL_DICT_DIFFERS);
  assert_int_equal(CAS(two, one), PL_DICT_DIFFERS);
  assert_int_equal(CAS(one, word), PL_DICT_DONE);
  assert_int_equal(CAS(one, word), PL_DICT_DIFFERS);
  assert_int_equal(CAS(other, one), PL_DICT_DIFFERS);
  assert_int_equal(CAS(word, other), PL_DICT_DONE);
  assert_text("k", "two words 124");
#undef CAS
}

static void increments_numbers_in_place(void **state) {
  double sum = 0, ten = 10;

  (void)state;
#define INCR(k, by, init, now, expires)                                        \
  pl__dict_incr(&user, key(k), (by), (init), (now), (expires), &sum)
  assert_int_equal(INCR("n", 1, NULL, 0, PL_DICT_NEVER), PL_DICT_ABSENT);
  assert_int_equal(INCR("n", 1, &ten, 0, 100), PL_DICT_DONE);
  assert_true(sum == 11);
  assert_int_equal(INCR("n", -1.5, &ten, 50, PL_DICT_NEVER), PL_DICT_DONE);
  assert_true(sum == 9.5 && get_at("n", 99).number == 9.5);
  assert_int_equal(INCR("n", 1, &ten, 100, PL_DICT_NEVER), PL_DICT_DONE);
  assert_true(sum == 11); /* the first one had expired */
  set_text("s", "1");
  assert_int_equal(INCR("s", 1, &ten, 0, PL_DICT_NEVER), PL_DICT_NO_NUMBER);
#undef INCR
}

static void keeps_what_is_in_it_until_there_is_no_room(void **state) {
  char name[32];
  int i = 0;

  (void)state;
  for (; stats().evictions == 0; i++) {
    snprintf(name, sizeof name, "key %d", i);
    assert_int_equal(set_text(name, name), PL_DICT_DONE);
  }
  /* 390 blocks beside its tables, less what the shards have in hand. */
  assert_true(i > 300 && i < 400);
  assert_true(stats().entries == (uint64_t)i - stats().evictions);
}

static void evicts_what_was_not_read_lately(void **state) {
  char name[32];
  int kept = 0;

  (void)state;
  for (int i = 0; i < 100; i++) {
    snprintf(name, sizeof name, "hot %d", i);
    set_text(name, "x");
  }
  for (int i = 0; i < 5000; i++) {
    snprintf(name, sizeof name, "cold %d", i);
    assert_int_equal(set_text(name, "x"), PL_DICT_DONE);
    snprintf(name, sizeof name, "hot %d", i % 100);
    get_at(name, 0);
  }
  for (int i = 0; i < 100; i++) {
    snprintf(name, sizeof name, "hot %d", i);
    kept += get_at(name, 0).kind != PL_DICT_NONE;
  }
  assert_true(kept >= 95);
  assert_true(stats().evictions > 4000);
}

static void takes_what_has_expired_before_what_is_read(void **state) {
  struct pl_dict_value v = number(1);
  char name[32];

  (void)state;
  for (int i = 0; i < 250; i++) {
    snprintf(name, sizeof name, "short %d", i);
    pl__dict_set(&user, key(name), PL_DICT_SET, &v, NULL, 0, 10);
    get_at(name, 5);
  }
  for (int i = 0; i < 200; i++) {
    snprintf(name, sizeof name, "long %d", i);
    pl__dict_set(&user, key(name), PL_DICT_SET, &v, NULL, 20, PL_DICT_NEVER);
    get_at(name, 20);
  }
  assert_true(stats().expired > 50);
  assert_true(stats().evictions < 5);
}

/* A large value needs more blocks than the shard of its key has entries. */
static void makes_room_for_a_large_value_among_small_ones(void **state) {
  char name[32];

  (void)state;
  for (int i = 0; i < 600; i++) {
    snprintf(name, sizeof name, "key %d", i);
    set_text(name, name);
  }
  memset(room, 'v', SMALL_BYTES / 8);
  assert_int_equal(set("large", text(room, SMALL_BYTES / 8)), PL_DICT_DONE);
  memset(room, 0, SMALL_BYTES / 8);
  assert_int_equal(get_at("large", 0).bytes, SMALL_BYTES / 8);
  assert_int_equal(room[SMALL_BYTES / 8 - 1], 'v');
  assert_true(stats().entries > 100);
}

static void lists_its_keys(void **state) {
  static char out[65536];
  uint32_t cursor = 0, count = 0;
  bool seen[1000] = {false};
  char name[32];
  struct pl_dict_value v = number(1);

  (void)state;
  for (int i = 0; i < 1000; i++) {
    snprintf(name, sizeof name, "key %d", i);
    set_text(name, name);
  }
  pl__dict_set(&user, key("expired"), PL_DICT_SET, &v, NULL, 0, 10);
  do {
    uint32_t bytes = pl__dict_keys(&user, &cursor, 10, out, 2048);
    for (uint32_t at = 0; at < bytes; count++) {
      uint32_t length = (uint8_t)out[at] | (uint32_t)(uint8_t)out[at + 1] << 8;
      int i = -1;
      snprintf(name, sizeof name, "%.*s", (int)length, out + at + 2);
      assert_int_equal(sscanf(name, "key %d", &i), 1);
      assert_true(i >= 0 && i < 1000 && !seen[i]);
      seen[i] = true;
      at += 2 + length;
    }
  } while (cursor);
  assert_int_equal(count, 1000);
}

static void is_empty_once_it_was_cleared(void **state) {
  uint32_t cursor = 0;
  char name[32];

  (void)state;
  for (int i = 0; i < 5000; i++) {
    snprintf(name, sizeof name, "key %d", i);
    set_text(name, name);
  }
  do
    assert_int_equal(pl__dict_clear(&user, &cursor), PL_DICT_DONE);
  while (cursor);
  assert_true(stats().entries == 0);
  assert_int_equal(get_at("key 7", 0).kind, PL_DICT_NONE);
  assert_int_equal(set_text("key 7", "again"), PL_DICT_DONE);
  assert_text("key 7", "again");
}

static void stays_sound_through_changes_of_all_kinds(void **state) {
  uint32_t seed = 1;
  char name[32];
  double sum, zero = 0;

  (void)state;
  for (int i = 0; i < 200000; i++) {
    seed = seed * 1664525 + 1013904223;
    snprintf(name, sizeof name, "key %u", seed >> 8 & 511);
    switch (seed >> 20 & 7) {
    case 0:
      pl__dict_delete(&user, key(name), i);
      break;
    case 1:
      pl__dict_incr(&user, key(name), 1, &zero, i, i + 100, &sum);
      break;
    default:
      assert_int_equal(
          set(name, text(room, (seed >> 24 & 15) * (seed >> 28) * 8)),
          PL_DICT_DONE);
    }
  }
  assert_true(pl__dict_check(&user));
}

#define THREADS 4
#define THREAD_ROUNDS 20000

/* Two write and two read the same few keys; each value is one byte, many times.
 */
static void *use(void *arg) {
  uint32_t seed = (uint32_t)(uintptr_t)arg;
  bool writes = seed % 2;
  char name[32], mine[304];
  uintptr_t wrong = 0;

  for (int i = 0; i < THREAD_ROUNDS; i++) {
    seed = seed * 1664525 + 1013904223;
    snprintf(name, sizeof name, "key %u", seed >> 8 & 15);
    if (writes) {
      uint32_t bytes = 1 + (seed >> 12) % 299;
      memset(mine, (char)(seed >> 24), bytes);
      wrong += set(name, text(mine, bytes)) != PL_DICT_DONE;
    } else {
      struct pl_dict_found found = {.at = mine, .room = sizeof mine};
      pl__dict_get(&user, key(name), 0, &found);
      for (uint32_t at = 1; found.kind && at < found.bytes; at++)
        wrong += mine[at] != mine[0];
    }
  }
  return (void *)wrong;
}

static void is_shared_by_threads(void **state) {
  pthread_t threads[THREADS];

  (void)state;
  for (uintptr_t i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, use, (void *)i), 0);
  for (int i = 0; i < THREADS; i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    assert_null(wrong);
  }
}

int main(void) {
#define SMALL(f) cmocka_unit_test_setup_teardown(f, make_small, unmake)
#define LARGE(f) cmocka_unit_test_setup_teardown(f, make_large, unmake)
  const struct CMUnitTest tests[] = {
      SMALL(is_empty_at_first),
      SMALL(refuses_a_size_that_is_too_small),
      SMALL(gives_back_each_kind_of_value),
      SMALL(tells_keys_apart_by_all_their_bytes),
      LARGE(gives_back_values_and_keys_of_every_length),
      SMALL(tells_the_length_of_what_finds_no_room),
      LARGE(refuses_what_is_too_long),
      SMALL(refuses_more_than_a_quarter_of_its_memory),
      SMALL(deletes),
      SMALL(forgets_what_has_expired),
      SMALL(adds_only_what_is_not_there),
      SMALL(replaces_only_what_is_as_expected),
      SMALL(increments_numbers_in_place),
      SMALL(keeps_what_is_in_it_until_there_is_no_room),
      SMALL(evicts_what_was_not_read_lately),
      SMALL(takes_what_has_expired_before_what_is_read),
      SMALL(makes_room_for_a_large_value_among_small_ones),
      LARGE(lists_its_keys),
      LARGE(is_empty_once_it_was_cleared),
      SMALL(stays_sound_through_changes_of_all_kinds),
      SMALL(is_shared_by_threads),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
