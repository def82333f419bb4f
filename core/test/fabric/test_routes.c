/* test/fabric/test_routes.c - publishing once, whoever else tries; a table for
 * each of the last generations.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "fabric/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct pl_routes *routes; /* PL_ROUTES_TABLES of them */

#define TABLES_BYTES (PL_ROUTES_TABLES * sizeof(struct pl_routes))

static int make_routes(void **state) {
  (void)state;
  routes = mmap(NULL, TABLES_BYTES, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return routes == MAP_FAILED ? -1 : 0;
}

static int free_routes(void **state) {
  (void)state;
  return munmap(routes, TABLES_BYTES);
}

static const struct pl_slice three[] = {
    {"/", 1}, {"/notes/:id<int>", 15}, {"", 0}};

static void assert_pattern(uint32_t route, const char *pattern) {
  struct pl_slice s = pl__routes_find(routes, route);
  assert_int_equal(s.bytes, strlen(pattern));
  assert_memory_equal(s.at, pattern, s.bytes);
}

static void knows_no_pattern_before_they_are_published(void **state) {
  (void)state;
  assert_pattern(0, "");
}

static void gives_the_pattern_of_an_id(void **state) {
  (void)state;
  assert_int_equal(pl__routes_publish(routes, three, 3), 0);
  assert_pattern(0, "/");
  assert_pattern(1, "/notes/:id<int>");
  assert_pattern(2, "");
  assert_pattern(3, "");
  assert_pattern(UINT32_MAX, "");
}

static void the_same_may_be_published_again_and_nothing_else(void **state) {
  (void)state;
  struct pl_slice other[] = {{"/", 1}, {"/other", 6}, {"", 0}};
  assert_int_equal(pl__routes_publish(routes, three, 3), 0);
  assert_int_equal(pl__routes_publish(routes, three, 3), 0);
  assert_int_equal(pl__routes_publish(routes, other, 3), PL_ECONFLICT);
  assert_int_equal(pl__routes_publish(routes, three, 2), PL_ECONFLICT);
  assert_pattern(1, "/notes/:id<int>");
}

static void keeps_the_first_ones_when_there_are_too_many(void **state) {
  (void)state;
  static char texts[4000][100];
  static struct pl_slice patterns[4000];
  for (int i = 0; i < 4000; i++) {
    snprintf(texts[i], sizeof texts[i], "/route/%d/%070d", i, i);
    patterns[i] = pl__slice(texts[i], strlen(texts[i]));
  }
  assert_int_equal(pl__routes_publish(routes, patterns, 4000), 0);
  assert_in_range(routes->kept, 2500, 3999);
  for (uint32_t i = 0; i < routes->kept; i++)
    assert_pattern(i, texts[i]);
  assert_pattern(routes->kept, "");
  assert_int_equal(pl__routes_publish(routes, patterns, 4000), 0);
}

static void a_claim_of_a_dead_process_is_taken_over(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0)
    _exit(0);
  assert_int_equal(waitpid(child, NULL, 0), child);
  atomic_store(&routes->state, (uint64_t)child); /* it died while writing */
  assert_int_equal(pl__routes_publish(routes, three, 3), 0);
  assert_pattern(1, "/notes/:id<int>");
}

static void a_claim_of_a_living_process_is_left_alone(void **state) {
  (void)state;
  atomic_store(&routes->state, (uint64_t)getppid());
  assert_int_equal(pl__routes_publish(routes, three, 3), 0);
  assert_pattern(1, "");
}

static void a_claim_of_a_process_we_may_not_signal_is_left_alone(void **state) {
  (void)state;
  atomic_store(&routes->state, 1ull); /* init */
  pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setuid(65534))
      _exit(2);
    pl__routes_publish(routes, three, 3);
    _exit(atomic_load(&routes->state) == 1 ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void processes_that_race_publish_one_whole_table(void **state) {
  (void)state;
  pid_t children[8];
  for (int i = 0; i < 8; i++)
    if ((children[i] = fork()) == 0)
      _exit(pl__routes_publish(routes, three, 3) ? 1 : 0);
  for (int i = 0; i < 8; i++) {
    int status;
    assert_int_equal(waitpid(children[i], &status, 0), children[i]);
    assert_int_equal(status, 0);
  }
  assert_pattern(1, "/notes/:id<int>");
}

/* --- generations -------------------------------------------------------- */

static void begin_with(uint32_t generation, const char *pattern) {
  struct pl_slice one = pl__slice(pattern, strlen(pattern));

  pl__routes_begin(routes, generation);
  assert_int_equal(
      pl__routes_publish(pl__routes_of(routes, generation), &one, 1), 0);
}

static void assert_looked_up(uint32_t generation, const char *pattern) {
  struct pl_slice s = pl__routes_lookup(routes, generation, 0);

  assert_int_equal(s.bytes, strlen(pattern));
  assert_memory_equal(s.at, pattern, s.bytes);
}

static void knows_the_patterns_of_the_last_generations(void **state) {
  (void)state;
  begin_with(1, "/one");
  begin_with(2, "/two");
  begin_with(3, "/three");
  begin_with(4, "/four");
  assert_looked_up(1, "/one");
  assert_looked_up(2, "/two");
  assert_looked_up(3, "/three");
  assert_looked_up(4, "/four");
}

static void forgets_a_generation_when_its_table_is_needed(void **state) {
  (void)state;
  begin_with(1, "/one");
  begin_with(2, "/two");
  pl__routes_begin(routes, 1 + PL_ROUTES_TABLES);
  assert_looked_up(1, "");
  assert_looked_up(1 + PL_ROUTES_TABLES, ""); /* not published yet */
  begin_with(1 + PL_ROUTES_TABLES, "/five");
  assert_looked_up(1, "");
  assert_looked_up(1 + PL_ROUTES_TABLES, "/five");
  assert_looked_up(2, "/two");
}

static void lets_a_generation_that_is_begun_again_publish_others(void **state) {
  (void)state;
  begin_with(2, "/rejected");
  begin_with(2, "/two");
  assert_looked_up(2, "/two");
}

static void does_not_know_generations_that_never_began(void **state) {
  (void)state;
  assert_looked_up(0, "");
  begin_with(3, "/three");
  assert_looked_up(2, "");
  assert_looked_up(3 + PL_ROUTES_TABLES, "");
  assert_looked_up(UINT32_MAX, ""); /* of the same table as 3 */
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_routes, free_routes)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(knows_no_pattern_before_they_are_published),
      FACT(gives_the_pattern_of_an_id),
      FACT(the_same_may_be_published_again_and_nothing_else),
      FACT(keeps_the_first_ones_when_there_are_too_many),
      FACT(a_claim_of_a_dead_process_is_taken_over),
      FACT(a_claim_of_a_living_process_is_left_alone),
      FACT(a_claim_of_a_process_we_may_not_signal_is_left_alone),
      FACT(processes_that_race_publish_one_whole_table),
      FACT(knows_the_patterns_of_the_last_generations),
      FACT(forgets_a_generation_when_its_table_is_needed),
      FACT(lets_a_generation_that_is_begun_again_publish_others),
      FACT(does_not_know_generations_that_never_began),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
