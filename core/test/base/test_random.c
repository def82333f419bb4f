/* test/base/test_random.c - the numbers of the reference, and a seed for each
 * process. */
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first ones of xoshiro256++ from the state 1, 2, 3, 4. */
static void gives_the_numbers_of_the_reference(void **state) {
  (void)state;
  struct pl_random r = {{1, 2, 3, 4}};
  assert_true(pl__random_next(&r) == 41943041u);
  assert_true(pl__random_next(&r) == 58720359u);
  assert_true(pl__random_next(&r) == 3588806011781223u);
  assert_true(pl__random_next(&r) == 3591011842654386u);
  assert_true(pl__random_next(&r) == 9228616714210784205u);
}

static void two_that_are_seeded_differ(void **state) {
  (void)state;
  struct pl_random a, b;
  pl__random_seed(&a);
  pl__random_seed(&b);
  assert_memory_not_equal(&a, &b, sizeof a);
}

static void a_child_that_seeds_its_own_gives_others(void **state) {
  (void)state;
  struct pl_random r;
  uint64_t theirs = 0;
  int pipes[2];
  pl__random_seed(&r);
  assert_int_equal(pipe(pipes), 0);
  pid_t child = fork();
  if (child == 0) {
    pl__random_seed(&r);
    uint64_t n = pl__random_next(&r);
    _exit(write(pipes[1], &n, sizeof n) != (ssize_t)sizeof n);
  }
  assert_int_equal(read(pipes[0], &theirs, sizeof theirs), sizeof theirs);
  assert_int_equal(waitpid(child, NULL, 0), child);
  assert_true(theirs != pl__random_next(&r));
  close(pipes[0]);
  close(pipes[1]);
}

static void an_id_is_never_zero(void **state) {
  (void)state;
  /* The next number of this state is 0: rotl(s0 + s3, 23) + s0. */
  struct pl_random r = {{0, 1, 2, 0}};
  struct pl_random same = r;
  assert_true(pl__random_next(&same) == 0);
  assert_true(pl__random_id(&r) != 0);
}

static void every_bit_comes_up_about_half_of_the_time(void **state) {
  (void)state;
  struct pl_random r = {{1, 2, 3, 4}};
  int counts[64] = {0};
  for (int n = 0; n < 20000; n++) {
    uint64_t x = pl__random_next(&r);
    for (int bit = 0; bit < 64; bit++)
      counts[bit] += (int)(x >> bit & 1);
  }
  for (int bit = 0; bit < 64; bit++)
    assert_in_range(counts[bit], 9500, 10500);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_the_numbers_of_the_reference),
      cmocka_unit_test(two_that_are_seeded_differ),
      cmocka_unit_test(a_child_that_seeds_its_own_gives_others),
      cmocka_unit_test(an_id_is_never_zero),
      cmocka_unit_test(every_bit_comes_up_about_half_of_the_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
