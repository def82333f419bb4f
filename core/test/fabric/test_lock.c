/* test/fabric/test_lock.c - a lock, and owners that are killed or stand still.
 */
#include "fabric/lock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared {
  struct pl_lock lock;
  _Atomic int step;
  uint64_t sum;
};

static struct shared *shared;

static int map(void **state) {
  (void)state;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return shared == MAP_FAILED;
}

static int unmap(void **state) {
  (void)state;
  return munmap(shared, sizeof *shared);
}

/* A child that takes the lock and never gives it back. */
static pid_t hold_in_child(void) {
  pid_t child = fork();

  if (child == 0) {
    pl__lock_take(&shared->lock, pl__lock_self());
    atomic_store(&shared->step, 1);
    for (;;)
      pause();
  }
  while (atomic_load(&shared->step) == 0)
    usleep(100);
  return child;
}

static void is_taken_and_given(void **state) {
  uint64_t self = pl__lock_self();

  (void)state;
  assert_true(self != 0);
  assert_true(self == pl__lock_self());
  assert_int_equal(pl__lock_take(&shared->lock, self), PL_LOCK_TAKEN);
  assert_true(atomic_load(&shared->lock.owner) == self);
  pl__lock_give(&shared->lock);
  assert_int_equal(pl__lock_take(&shared->lock, self), PL_LOCK_TAKEN);
}

static void is_not_given_up_while_its_owner_lives(void **state) {
  pid_t child = hold_in_child();
  int64_t begin = pl__clock_monotonic_ns(), took;

  (void)state;
  assert_int_equal(pl__lock_take(&shared->lock, pl__lock_self()), PL_LOCK_BUSY);
  took = pl__clock_monotonic_ns() - begin;
  assert_true(took >= (int64_t)PL_LOCK_WAIT_MS * PL_NS_PER_MS);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
}

static void is_inherited_from_one_that_was_killed(void **state) {
  pid_t child = hold_in_child();

  (void)state;
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  assert_int_equal(pl__lock_take(&shared->lock, pl__lock_self()),
                   PL_LOCK_INHERITED);
  pl__lock_give(&shared->lock);
  assert_int_equal(pl__lock_take(&shared->lock, pl__lock_self()),
                   PL_LOCK_TAKEN);
}

static void is_inherited_from_a_zombie(void **state) {
  pid_t child = hold_in_child();
  siginfo_t info;

  (void)state;
  kill(child, SIGKILL);
  waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
  assert_int_equal(pl__lock_take(&shared->lock, pl__lock_self()),
                   PL_LOCK_INHERITED);
  waitpid(child, NULL, 0);
}

/* The pid is in use, by a process that was started at another time. */
static void is_inherited_from_a_pid_that_was_used_again(void **state) {
  uint64_t self = pl__lock_self();

  (void)state;
  atomic_store(&shared->lock.owner, self - (UINT64_C(1) << 22));
  assert_int_equal(pl__lock_take(&shared->lock, self), PL_LOCK_INHERITED);
}

#define ROUNDS 200000

static void *add(void *arg) {
  uint64_t self = pl__lock_self();

  (void)arg;
  for (int i = 0; i < ROUNDS; i++) {
    while (pl__lock_take(&shared->lock, self) == PL_LOCK_BUSY)
      continue;
    shared->sum++;
    pl__lock_give(&shared->lock);
  }
  return NULL;
}

static void lets_one_thread_in_at_a_time(void **state) {
  pthread_t other;

  (void)state;
  assert_int_equal(pthread_create(&other, NULL, add, NULL), 0);
  add(NULL);
  pthread_join(other, NULL);
  assert_true(shared->sum == 2 * ROUNDS);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, map, unmap)
  const struct CMUnitTest tests[] = {
      TEST(is_taken_and_given),
      TEST(is_not_given_up_while_its_owner_lives),
      TEST(is_inherited_from_one_that_was_killed),
      TEST(is_inherited_from_a_zombie),
      TEST(is_inherited_from_a_pid_that_was_used_again),
      TEST(lets_one_thread_in_at_a_time),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
