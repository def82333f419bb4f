/* test/fabric/test_dict_stress.c - two writers and two readers at once, and
 * writers that are killed (SIGKILL) at random moments, every few milliseconds.
 *
 * Values tell by their own bytes whether they are whole: each is made of its
 * key and a number.  What is counted is counted twice, in the dictionary and by
 * the writers themselves: a kill may lie between the two, so there may be one
 * more in the dictionary for each kill, and never one less.
 *
 * PL_STRESS_SECONDS says for how long; bench/soak.lua runs it for minutes.
 */
#include "fabric/shared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fabric/dict.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS 5 /* unless it is said otherwise */
#define WRITERS 2
#define READERS 2
#define PROCESSES (WRITERS + READERS)
#define MEMORY_BYTES (4u << 20)
#define CACHE_BYTES (1u << 20) /* too small for all its keys */
#define KEYS 2000
#define COUNTERS 8
#define VALUE_BYTES_MAX 4000u
#define STILL_S 20 /* who has done nothing for so long is stuck */
#define KILL_US_MAX 8000

/* What a process says of itself; it stays when another one takes its place. */
struct report {
  _Alignas(128) _Atomic uint64_t operations;
  _Atomic uint64_t counted;  /* additions that have returned */
  _Atomic uint32_t counting; /* in the middle of one */
  _Atomic uint64_t torn, wrong, busy, found, full;
};

struct stage {
  _Atomic bool over;
  struct report reports[PROCESSES];
  struct pl_shared shared;
};

static struct stage *stage;

struct actor {
  struct pl_dict_user cache, counts;
  struct pl_counter *counter;
  struct report *report;
  uint64_t self, random;
  char *room;
};

static uint32_t pick(struct actor *a, uint32_t below) {
  a->random = a->random * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(a->random >> 33) % below;
}

static void count(_Atomic uint64_t *n) { atomic_fetch_add(n, 1); }

/* --- values that tell whether they are whole ----------------------------- */

static uint32_t value_make(char *out, uint32_t key, uint64_t number) {
  uint32_t bytes = 16 + (uint32_t)(number % (VALUE_BYTES_MAX - 16));
  uint64_t word = number * 0x9e3779b97f4a7c15u ^ key;

  memcpy(out, &number, 8);
  for (uint32_t at = 8; at < bytes; at++) {
    out[at] = (char)(word >> (at % 8 * 8));
    if (at % 8 == 7)
      word = word * 5 + at;
  }
  return bytes;
}

static bool value_is_whole(const char *at, uint32_t bytes, uint32_t key) {
  static char wanted[VALUE_BYTES_MAX];
  uint64_t number;

  if (bytes < 16)
    return false;
  memcpy(&number, at, 8);
  return value_make(wanted, key, number) == bytes &&
         memcmp(wanted, at, bytes) == 0;
}

/* --- writers -------------------------------------------------------------- */

static struct pl_dict_key key_of(char *name, const char *stem, uint32_t i) {
  int bytes = snprintf(name, 32, "%s %u", stem, i);

  return (struct pl_dict_key){name, (uint32_t)bytes};
}

static void note(struct actor *a, enum pl_dict_outcome outcome) {
  if (outcome == PL_DICT_BUSY)
    count(&a->report->busy);
  else if (outcome == PL_DICT_FULL)
    count(&a->report->full);
  else if (outcome != PL_DICT_DONE && outcome != PL_DICT_ABSENT)
    count(&a->report->wrong);
}

static void write_value(struct actor *a) {
  uint32_t k = pick(a, KEYS);
  char name[32];
  struct pl_dict_value v = {.kind = PL_DICT_STRING, .at = a->room};

  v.bytes = value_make(a->room, k, pick(a, UINT32_MAX));
  note(a, pl__dict_set(&a->cache, key_of(name, "key", k), PL_DICT_SET, &v, NULL,
                       1, pick(a, 8) ? PL_DICT_NEVER : 1 + pick(a, 2)));
}

static void delete_value(struct actor *a) {
  char name[32];

  note(a, pl__dict_delete(&a->cache, key_of(name, "key", pick(a, KEYS)), 1));
}

/* One more, by compare-and-set. */
static enum pl_dict_outcome add_by_cas(struct actor *a,
                                       struct pl_dict_key key) {
  enum pl_dict_outcome outcome;

  do {
    struct pl_dict_found f = {.at = a->room, .room = VALUE_BYTES_MAX};
    struct pl_dict_value old, new;
    pl__dict_get(&a->counts, key, 1, &f);
    old = (struct pl_dict_value){.kind = f.kind, .number = f.number};
    new = (struct pl_dict_value){.kind = PL_DICT_NUMBER,
                                 .number = f.kind ? f.number + 1 : 1};
    outcome = pl__dict_set(&a->counts, key, PL_DICT_REPLACE, &new, &old, 1,
                           PL_DICT_NEVER);
  } while (outcome == PL_DICT_DIFFERS);
  return outcome;
}

static void add_one(struct actor *a) {
  uint32_t which = pick(a, COUNTERS + 1);
  double zero = 0, sum;
  char name[32];
  enum pl_dict_outcome outcome = PL_DICT_DONE;

  atomic_store(&a->report->counting, 1);
  if (which == COUNTERS)
    pl__counter_add(a->counter, 1);
  else if (which % 2)
    outcome = add_by_cas(a, key_of(name, "count", which));
  else
    outcome = pl__dict_incr(&a->counts, key_of(name, "count", which), 1, &zero,
                            1, PL_DICT_NEVER, &sum);
  if (outcome == PL_DICT_DONE)
    count(&a->report->counted);
  atomic_store(&a->report->counting, 0);
  note(a, outcome);
}

static void publish(struct actor *a) {
  uint32_t bytes = value_make(a->room, 0, pick(a, UINT32_MAX)), version;

  if (pl__published_set(&stage->shared.published, a->self, a->room, bytes,
                        &version))
    count(&a->report->busy);
}

static void write_something(struct actor *a) {
  switch (pick(a, 8)) {
  case 0:
    delete_value(a);
    break;
  case 1:
  case 2:
    add_one(a);
    break;
  case 3:
    publish(a);
    break;
  default:
    write_value(a);
  }
}

/* --- readers -------------------------------------------------------------- */

static void read_value(struct actor *a) {
  uint32_t k = pick(a, KEYS);
  struct pl_dict_found f = {.at = a->room, .room = VALUE_BYTES_MAX};
  char name[32];

  pl__dict_get(&a->cache, key_of(name, "key", k), 0, &f);
  if (f.kind == PL_DICT_NONE)
    return;
  count(&a->report->found);
  if (f.kind != PL_DICT_STRING || !value_is_whole(f.at, f.bytes, k))
    count(&a->report->torn);
}

static void read_number(struct actor *a) {
  struct pl_dict_found f = {.at = a->room, .room = VALUE_BYTES_MAX};
  char name[32];

  pl__dict_get(&a->counts, key_of(name, "count", pick(a, COUNTERS)), 1, &f);
  if (f.kind != PL_DICT_NONE &&
      (f.kind != PL_DICT_NUMBER || f.number < 1 || f.number > 1e15))
    count(&a->report->torn);
}

static void read_published(struct actor *a) {
  uint32_t version,
      bytes = pl__published_get(&stage->shared.published, a->room, &version);

  if (version && !value_is_whole(a->room, bytes, 0))
    count(&a->report->torn);
}

static void read_keys(struct actor *a) {
  uint32_t cursor = 0;

  do {
    uint32_t bytes = pl__dict_keys(&a->cache, &cursor, 0, a->room, 65536);
    for (uint32_t at = 0; at < bytes;) {
      uint32_t length =
          (uint8_t)a->room[at] | (uint32_t)(uint8_t)a->room[at + 1] << 8;
      if (length > 31 || memcmp(a->room + at + 2, "key ", 4) != 0)
        count(&a->report->torn);
      at += 2 + length;
    }
  } while (cursor);
}

static void read_something(struct actor *a) {
  switch (pick(a, 1024)) {
  case 0:
    read_keys(a);
    break;
  case 1:
  case 2:
    read_published(a);
    break;
  case 3:
  case 4:
    read_number(a);
    break;
  default:
    read_value(a);
  }
}

/* --- processes ------------------------------------------------------------ */

static void dict_open(struct actor *a, const char *name, uint64_t bytes,
                      struct pl_dict_user *out) {
  *out = (struct pl_dict_user){.self = a->self};
  if (pl__shared_dict(&stage->shared, a->self, name, (uint32_t)strlen(name),
                      bytes, &out->dict))
    _exit(3);
}

static void actor_open(struct actor *a, uint32_t index) {
  a->self = pl__lock_self();
  a->random = (uint64_t)getpid() << 32 ^ (uint64_t)pl__clock_monotonic_ns();
  a->report = &stage->reports[index];
  a->room = mmap(NULL, PL_LIMIT_PUBLISHED_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  dict_open(a, "cache", CACHE_BYTES, &a->cache);
  dict_open(a, "counts", PL_DICT_BYTES_MIN, &a->counts);
  a->cache.lane = a->counts.lane = index;
  if (pl__counters_find(&stage->shared.counters, a->self, "c", 1, &a->counter))
    _exit(3);
}

static pid_t start(uint32_t index) {
  static struct actor a;
  pid_t child = fork();

  if (child)
    return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  actor_open(&a, index);
  while (!atomic_load_explicit(&stage->over, memory_order_relaxed)) {
    if (index < WRITERS)
      write_something(&a);
    else
      read_something(&a);
    count(&a.report->operations);
  }
  _exit(0);
}

struct run {
  pid_t pids[PROCESSES];
  uint64_t operations[PROCESSES]; /* when it was last seen to get on */
  int64_t seen_ns[PROCESSES];
  uint64_t kills, between; /* kills in the middle of an addition */
};

static void kill_one(struct run *r) {
  uint32_t i = (uint32_t)rand() % WRITERS;

  kill(r->pids[i], SIGKILL);
  waitpid(r->pids[i], NULL, 0);
  r->kills++;
  r->between += atomic_exchange(&stage->reports[i].counting, 0);
  r->pids[i] = start(i);
}

static void assert_all_get_on(struct run *r) {
  int64_t now_ns = pl__clock_monotonic_ns();

  for (uint32_t i = 0; i < PROCESSES; i++) {
    uint64_t operations = atomic_load(&stage->reports[i].operations);
    if (operations != r->operations[i] || !r->seen_ns[i])
      r->seen_ns[i] = now_ns;
    r->operations[i] = operations;
    if (now_ns - r->seen_ns[i] > (int64_t)STILL_S * PL_NS_PER_S)
      fail_msg("process %u stands still", i);
  }
}

static uint64_t counted_in_there(struct actor *a) {
  double sum = (double)pl__counter_get(a->counter);
  char name[32];

  for (uint32_t i = 0; i < COUNTERS; i++) {
    struct pl_dict_found f = {.at = a->room, .room = VALUE_BYTES_MAX};
    pl__dict_get(&a->counts, key_of(name, "count", i), 1, &f);
    sum += f.kind == PL_DICT_NUMBER ? f.number : 0;
  }
  return (uint64_t)sum;
}

static void assert_nothing_is_lost(struct run *r) {
  static struct actor a;
  struct report all = {0};
  struct pl_dict_stats s;
  uint64_t sum;

  actor_open(&a, 0);
  for (uint32_t i = 0; i < PROCESSES; i++) {
    struct report *one = &stage->reports[i];
    all.operations += one->operations;
    all.counted += one->counted;
    all.torn += one->torn;
    all.wrong += one->wrong;
    all.busy += one->busy;
    all.full += one->full;
    all.found += one->found;
  }
  sum = counted_in_there(&a);
  pl__dict_stats(a.cache.dict, &s);
  print_message("%lu operations, %lu kills, %lu values read, %lu torn, %lu "
                "waits in vain, %lu without room\n",
                all.operations, r->kills, all.found, all.torn, all.busy,
                all.full);
  print_message("counted: %lu by the writers, %lu in there, %lu kills in "
                "between; %lu evictions, %lu expired\n",
                all.counted, sum, r->between, s.evictions, s.expired);
  assert_true(all.torn == 0 && all.wrong == 0 && all.full == 0);
  assert_true(sum >= all.counted && sum <= all.counted + r->between);
  assert_true(all.found > 1000 && s.evictions > 100 && r->kills > 20);
  assert_true(pl__dict_check(&a.cache));
  assert_true(pl__dict_check(&a.counts));
}

static void
keeps_values_whole_and_counts_right_while_writers_are_killed(void **state) {
  const char *text = getenv("PL_STRESS_SECONDS");
  int64_t seconds = text ? strtol(text, NULL, 10) : SECONDS;
  int64_t end_ns = pl__clock_monotonic_ns() + seconds * PL_NS_PER_S;
  struct run r = {0};

  (void)state;
  stage = mmap(NULL, sizeof *stage + pl__shared_bytes(MEMORY_BYTES),
               PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(stage != MAP_FAILED);
  pl__shared_init(&stage->shared, MEMORY_BYTES);
  for (uint32_t i = 0; i < PROCESSES; i++)
    r.pids[i] = start(i);
  while (pl__clock_monotonic_ns() < end_ns) {
    usleep((useconds_t)rand() % KILL_US_MAX);
    kill_one(&r);
    assert_all_get_on(&r);
  }
  atomic_store(&stage->over, true);
  for (uint32_t i = 0; i < PROCESSES; i++) {
    int status = 0;
    waitpid(r.pids[i], &status, 0);
    assert_int_equal(status, 0);
  }
  assert_nothing_is_lost(&r);
  munmap(stage, sizeof *stage + pl__shared_bytes(MEMORY_BYTES));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(
          keeps_values_whole_and_counts_right_while_writers_are_killed),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
