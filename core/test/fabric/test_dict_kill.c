/* test/fabric/test_dict_kill.c - a writer that is killed at any instruction.
 *
 * A child makes a change, one machine instruction at a time (ptrace).  After
 * each of them its memory is copied, as it would have been left by kill -9, and
 * the copy is what somebody else finds: all blocks are in one place, the entry
 * is the old or the new one, and everything can still be changed.
 */
#include "fabric/dict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES PL_DICT_BYTES_MIN
#define ROOM 16384u
#define STEPS_MAX 2000000u

/* Half of it the dictionary, half of it what a dead one would have left. */
static char *memory;
static struct pl_dict_user alive, heir;
static _Atomic uint64_t *child_self;
static uint64_t dead_self;
static char room[ROOM];

/* --- short forms -------------------------------------------------------- */

static struct pl_dict_key key(const char *text) {
  return (struct pl_dict_key){text, (uint32_t)strlen(text)};
}

static void set(const struct pl_dict_user *u, const char *k, char fill,
                uint32_t bytes) {
  static char text[ROOM];
  struct pl_dict_value v = {.kind = PL_DICT_STRING, .at = text, .bytes = bytes};

  memset(text, fill, bytes);
  pl__dict_set(u, key(k), PL_DICT_SET, &v, NULL, 0, PL_DICT_NEVER);
}

static struct pl_dict_found get(const struct pl_dict_user *u, const char *k) {
  struct pl_dict_found found = {.at = room, .room = sizeof room};

  pl__dict_get(u, key(k), 0, &found);
  return found;
}

/* Whether all of it is that one byte. */
static bool is_text(const struct pl_dict_user *u, const char *k, char fill,
                    uint32_t bytes) {
  struct pl_dict_found found = get(u, k);
  bool same = found.kind == PL_DICT_STRING && found.bytes == bytes;

  for (uint32_t i = 0; same && i < bytes; i++)
    same = found.at[i] == fill;
  return same;
}

static bool is_absent(const struct pl_dict_user *u, const char *k) {
  return get(u, k).kind == PL_DICT_NONE;
}

/* --- the kill ----------------------------------------------------------- */

struct scenario {
  void (*prepare)(void);
  void (*change)(const struct pl_dict_user *u);
  bool (*is_good)(const struct pl_dict_user *u); /* before, or after */
};

static uint64_t dead_process(void) {
  pid_t child = fork();

  if (child == 0) {
    atomic_store(child_self, pl__lock_self());
    _exit(0);
  }
  waitpid(child, NULL, 0);
  return atomic_load(child_self);
}

static int map(void **state) {
  (void)state;
  memory = mmap(NULL, 2 * BYTES + 4096, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return 1;
  child_self = (void *)(memory + 2 * BYTES);
  alive = (struct pl_dict_user){.dict = (void *)memory, pl__lock_self(), 0};
  heir = alive;
  heir.dict = (void *)(memory + BYTES);
  dead_self = dead_process();
  return 0;
}

static int unmap(void **state) {
  (void)state;
  return munmap(memory, 2 * BYTES + 4096);
}

/* What the child holds is held by one that is dead. */
static void copy_as_left(void) {
  uint64_t self = atomic_load(child_self), word;

  memcpy(memory + BYTES, memory, BYTES);
  for (size_t at = BYTES; at < 2 * BYTES; at += sizeof word) {
    memcpy(&word, memory + at, sizeof word);
    if (word == self)
      memcpy(memory + at, &dead_self, sizeof dead_self);
  }
}

static void assert_survives(const struct scenario *s, uint32_t step) {
  copy_as_left();
  if (!s->is_good(&heir)) /* readers do not mend */
    fail_msg("a reader sees nonsense after %u instructions", step);
  if (!pl__dict_check(&heir))
    fail_msg("blocks or counts are wrong after %u instructions", step);
  set(&heir, "another", 'n', 300);
  if (!is_text(&heir, "another", 'n', 300) || !pl__dict_check(&heir))
    fail_msg("it cannot be used after %u instructions", step);
}

static pid_t start(const struct scenario *s) {
  pid_t child = fork();

  if (child == 0) {
    struct pl_dict_user u = alive;
    u.self = pl__lock_self();
    atomic_store(child_self, u.self);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
      _exit(1);
    raise(SIGSTOP);
    s->change(&u);
    _exit(0);
  }
  return child;
}

/* Copies that are the same as the one before need no second look. */
static void step_through(const struct scenario *s) {
  static char before[BYTES];
  uint32_t steps = 0, looks = 0;
  int status;
  pid_t child;

  memset(memory, 0, 2 * BYTES);
  pl__dict_init(memory, BYTES, (struct pl_siphash_seed){{1, 2}});
  s->prepare();
  assert_true(pl__dict_check(&alive));
  child = start(s);
  waitpid(child, &status, 0);
  if (!WIFSTOPPED(status))
    skip(); /* no ptrace here */
  for (; steps < STEPS_MAX; steps++) {
    if (steps == 0 || memcmp(before, memory, BYTES) != 0) {
      memcpy(before, memory, BYTES);
      assert_survives(s, steps);
      looks++;
    }
    if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL))
      break;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) || WIFSIGNALED(status))
      break;
  }
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  assert_true(looks > 3);
  print_message("%u instructions, %u states\n", steps, looks);
}

/* --- what is done ------------------------------------------------------- */

static void prepare_nothing(void) {}

static void insert(const struct pl_dict_user *u) { set(u, "k", 'a', 500); }

static bool is_none_or_inserted(const struct pl_dict_user *u) {
  return is_absent(u, "k") || is_text(u, "k", 'a', 500);
}

static void leaves_a_new_entry_whole_or_not_at_all(void **state) {
  static const struct scenario s = {prepare_nothing, insert,
                                    is_none_or_inserted};
  (void)state;
  step_through(&s);
}

static void prepare_old(void) { set(&alive, "k", 'o', 300); }

static bool is_old_or_inserted(const struct pl_dict_user *u) {
  return is_text(u, "k", 'o', 300) || is_text(u, "k", 'a', 500);
}

static void leaves_the_old_value_or_the_new_one(void **state) {
  static const struct scenario s = {prepare_old, insert, is_old_or_inserted};

  (void)state;
  step_through(&s);
}

static void prepare_large(void) { set(&alive, "k", 'l', ROOM / 2); }

static void delete (const struct pl_dict_user *u) {
  pl__dict_delete(u, key("k"), 0);
}

static bool is_large_or_none(const struct pl_dict_user *u) {
  return is_absent(u, "k") || is_text(u, "k", 'l', ROOM / 2);
}

/* Its blocks go back to the pool. */
static void deletes_an_entry_of_many_blocks_or_not(void **state) {
  static const struct scenario s = {prepare_large, delete, is_large_or_none};

  (void)state;
  step_through(&s);
}

static void prepare_number(void) {
  struct pl_dict_value v = {.kind = PL_DICT_NUMBER, .number = 41};

  pl__dict_set(&alive, key("k"), PL_DICT_SET, &v, NULL, 0, PL_DICT_NEVER);
}

static void increment(const struct pl_dict_user *u) {
  double sum;

  pl__dict_incr(u, key("k"), 1, NULL, 0, PL_DICT_NEVER, &sum);
}

static bool is_41_or_42(const struct pl_dict_user *u) {
  struct pl_dict_found found = get(u, "k");

  return found.kind == PL_DICT_NUMBER &&
         (found.number == 41 || found.number == 42);
}

static void increments_a_number_or_not(void **state) {
  static const struct scenario s = {prepare_number, increment, is_41_or_42};

  (void)state;
  step_through(&s);
}

#define FILL_COUNT 600

static void prepare_full(void) {
  char name[32];

  for (int i = 0; i < FILL_COUNT; i++) {
    snprintf(name, sizeof name, "key %d", i);
    set(&alive, name, (char)('a' + i % 26), 40);
  }
}

/* Each that is still there has its own value. */
static bool are_own_values(const struct pl_dict_user *u) {
  char name[32];
  int count = 0;

  for (int i = 0; i < FILL_COUNT; i++) {
    snprintf(name, sizeof name, "key %d", i);
    if (is_absent(u, name))
      continue;
    if (!is_text(u, name, (char)('a' + i % 26), 40))
      return false;
    count++;
  }
  return count > 100 && (is_absent(u, "k") || is_text(u, "k", 'a', 500));
}

/* Evicts, with more blocks of slots for some buckets. */
static void leaves_no_gap_when_it_makes_room(void **state) {
  static const struct scenario s = {prepare_full, insert, are_own_values};

  (void)state;
  step_through(&s);
}

static void insert_large(const struct pl_dict_user *u) {
  set(u, "large", 'l', 8000);
}

static bool are_own_values_or_large(const struct pl_dict_user *u) {
  return are_own_values(u) &&
         (is_absent(u, "large") || is_text(u, "large", 'l', 8000));
}

static void leaves_no_gap_when_other_shards_make_room(void **state) {
  static const struct scenario s = {prepare_full, insert_large,
                                    are_own_values_or_large};

  (void)state;
  step_through(&s);
}

/* Seven slots of a bucket are taken, and an eighth key comes. */
static void prepare_nearly_full(void) {
  char name[32];

  for (int i = 0; i < 300; i++) {
    snprintf(name, sizeof name, "key %d", i);
    set(&alive, name, (char)('a' + i % 26), 40);
  }
}

static void insert_many(const struct pl_dict_user *u) {
  char name[32];

  for (int i = 300; i < 315; i++) {
    snprintf(name, sizeof name, "key %d", i);
    set(u, name, (char)('a' + i % 26), 40);
  }
}

static void leaves_no_gap_when_a_bucket_grows(void **state) {
  static const struct scenario s = {prepare_nearly_full, insert_many,
                                    are_own_values};

  (void)state;
  step_through(&s);
}

static void clear(const struct pl_dict_user *u) {
  uint32_t cursor = 0;

  pl__dict_clear(u, &cursor);
}

static bool is_anything(const struct pl_dict_user *u) {
  return is_absent(u, "k");
}

static void clears_entry_by_entry(void **state) {
  static const struct scenario s = {prepare_nearly_full, clear, is_anything};

  (void)state;
  step_through(&s);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, map, unmap)
  const struct CMUnitTest tests[] = {
      TEST(leaves_a_new_entry_whole_or_not_at_all),
      TEST(leaves_the_old_value_or_the_new_one),
      TEST(deletes_an_entry_of_many_blocks_or_not),
      TEST(increments_a_number_or_not),
      TEST(leaves_no_gap_when_it_makes_room),
      TEST(leaves_no_gap_when_other_shards_make_room),
      TEST(leaves_no_gap_when_a_bucket_grows),
      TEST(clears_entry_by_entry),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
