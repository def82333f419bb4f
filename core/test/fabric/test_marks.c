/* test/fabric/test_marks.c - a set in memory that processes share. */
#include "fabric/marks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUMBERS 5000u
#define PROCESSES 4

static struct pl_marks *map(size_t extra) {
  void *at = mmap(NULL, sizeof(struct pl_marks) + extra, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  assert_true(at != MAP_FAILED);
  return at;
}

static void adds_each_number_once(void **state) {
  struct pl_marks *m = map(0);

  (void)state;
  assert_true(pl__marks_add(m, 0));
  assert_true(pl__marks_add(m, 63));
  assert_true(pl__marks_add(m, 64));
  assert_true(pl__marks_add(m, PL_MARKS_COUNT - 1));
  assert_false(pl__marks_add(m, 0));
  assert_false(pl__marks_add(m, 64));
  assert_false(pl__marks_add(m, PL_MARKS_COUNT - 1));
  assert_true(pl__marks_add(m, 1));
  munmap(m, sizeof *m);
}

static void takes_what_is_too_large_for_news(void **state) {
  struct pl_marks *m = map(0);

  (void)state;
  assert_true(pl__marks_add(m, PL_MARKS_COUNT));
  assert_true(pl__marks_add(m, PL_MARKS_COUNT));
  assert_true(pl__marks_add(m, UINT32_MAX));
  munmap(m, sizeof *m);
}

static void begins_anew_when_it_is_cleared(void **state) {
  struct pl_marks *m = map(0);

  (void)state;
  for (uint32_t n = 0; n < PL_MARKS_COUNT; n++)
    pl__marks_add(m, n);
  pl__marks_clear(m);
  for (uint32_t n = 0; n < PL_MARKS_COUNT; n++)
    assert_true(pl__marks_add(m, n));
  munmap(m, sizeof *m);
}

/* All add the same numbers; together they must have been first once each. */
static void lets_one_process_be_the_first(void **state) {
  struct pl_marks *m = map(sizeof(_Atomic uint32_t));
  _Atomic uint32_t *firsts = (_Atomic uint32_t *)(void *)(m + 1);

  (void)state;
  for (int i = 0; i < PROCESSES; i++) {
    if (fork() == 0) {
      for (uint32_t n = 0; n < NUMBERS; n++)
        if (pl__marks_add(m, n * 7 % NUMBERS))
          atomic_fetch_add(firsts, 1);
      _exit(0);
    }
  }
  for (int i = 0; i < PROCESSES; i++)
    assert_true(wait(NULL) > 0);
  assert_int_equal(*firsts, NUMBERS);
  munmap(m, sizeof *m + sizeof(_Atomic uint32_t));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(adds_each_number_once),
      cmocka_unit_test(takes_what_is_too_large_for_news),
      cmocka_unit_test(begins_anew_when_it_is_cleared),
      cmocka_unit_test(lets_one_process_be_the_first),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
