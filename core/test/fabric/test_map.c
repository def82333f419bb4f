/* test/fabric/test_map.c - sections, the forked child, and pages given back. */
#include "fabric/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/limits.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char error[PL_FABRIC_ERROR_BYTES];

static const struct pl_fabric_section three[] = {
    {"numbers.0", 1, sizeof(uint64_t), 1000},
    {"numbers.1", 1, sizeof(uint64_t), 1000},
    {"bytes", 7, 1, 1 << 20},
};

static struct pl_fabric open_three(void) {
  struct pl_fabric f;
  assert_int_equal(pl__fabric_open(&f, three, 3, error), 0);
  assert_string_equal(error, "");
  return f;
}

static void finds_each_section_by_name(void **state) {
  (void)state;
  struct pl_fabric f = open_three();
  void *a, *b, *c;
  uint64_t count;
  assert_int_equal(pl__fabric_find(&f, "numbers.0", 1, 8, &a, &count), 0);
  assert_int_equal(count, 1000);
  assert_int_equal(pl__fabric_find_number(&f, "numbers", 1, 1, 8, &b, NULL), 0);
  assert_int_equal(pl__fabric_find(&f, "bytes", 7, 1, &c, &count), 0);
  assert_int_equal(count, 1 << 20);
  assert_int_equal((uintptr_t)a % PL_FABRIC_PAGE_BYTES, 0);
  assert_int_equal((uintptr_t)b % PL_FABRIC_PAGE_BYTES, 0);
  memset(a, 1, 8000);
  memset(b, 2, 8000);
  memset(c, 3, 1 << 20);
  assert_int_equal(*((char *)a + 7999), 1);
  assert_int_equal(*((char *)b + 7999), 2);
  pl__fabric_close(&f);
}

static void refuses_another_version_or_layout(void **state) {
  (void)state;
  struct pl_fabric f = open_three();
  void *at = NULL;
  assert_int_equal(pl__fabric_find(&f, "bytes", 8, 1, &at, NULL), PL_EVERSION);
  assert_int_equal(pl__fabric_find(&f, "bytes", 7, 2, &at, NULL), PL_EVERSION);
  assert_int_equal(pl__fabric_find(&f, "byte", 7, 1, &at, NULL), PL_EINVAL);
  assert_null(at);
  pl__fabric_close(&f);
  assert_int_equal(pl__fabric_find(&f, "bytes", 7, 1, &at, NULL), PL_EINVAL);
  pl__fabric_close(&f);
}

static void lies_at_the_same_address_in_a_forked_child(void **state) {
  (void)state;
  struct pl_fabric f = open_three();
  void *at;
  assert_int_equal(pl__fabric_find(&f, "bytes", 7, 1, &at, NULL), 0);
  char **pointer = at;
  pid_t child = fork();
  if (child == 0) {
    void *mine;
    if (pl__fabric_find(&f, "bytes", 7, 1, &mine, NULL) || mine != at)
      _exit(1);
    *pointer = (char *)mine + 100;
    memcpy(*pointer, "from the child", 15);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_ptr_equal(*pointer, (char *)at + 100);
  assert_string_equal(*pointer, "from the child");
  pl__fabric_close(&f);
}

static void has_a_table_that_nobody_can_write_to(void **state) {
  struct pl_fabric_section s = {"one", 1, 1, 1};
  struct pl_fabric f;
  char error[PL_FABRIC_ERROR_BYTES];
  void *at;
  int status;

  (void)state;
  assert_int_equal(pl__fabric_open(&f, &s, 1, error), 0);
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGSEGV, SIG_DFL); /* not a sanitizer's */
    *(volatile char *)f.base = 1;
    _exit(0);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  assert_int_equal(pl__fabric_find(&f, "one", 1, 1, &at, NULL), 0);
  *(volatile char *)at = 1;
  pl__fabric_close(&f);
}

static void cannot_be_resized_by_anyone(void **state) {
  (void)state;
  struct pl_fabric f = open_three();
  assert_int_equal(ftruncate(f.fd, 0), -1);
  assert_int_equal(ftruncate(f.fd, (off_t)f.bytes * 2), -1);
  pl__fabric_close(&f);
}

static void punching_gives_memory_back_and_leaves_zeros(void **state) {
  (void)state;
  struct pl_fabric f = open_three();
  void *at;
  uint64_t before, touched, after;
  pl__fabric_find(&f, "bytes", 7, 1, &at, NULL);
  char *bytes = at;
  pl__fabric_resident(&f, &before);
  memset(bytes, 'x', 1 << 20);
  pl__fabric_resident(&f, &touched);
  assert_true(touched - before >= 1 << 20);
  /* only whole pages go: the edges stay as they are */
  assert_int_equal(pl__fabric_punch(bytes + 1, (1 << 20) - 2), 0);
  pl__fabric_resident(&f, &after);
  assert_int_equal(after - before, 2 * PL_FABRIC_PAGE_BYTES);
  assert_int_equal(bytes[0], 'x');
  assert_int_equal(bytes[PL_FABRIC_PAGE_BYTES - 1], 'x');
  assert_int_equal(bytes[PL_FABRIC_PAGE_BYTES], 0);
  assert_int_equal(bytes[(1 << 20) - 1], 'x');
  assert_int_equal(pl__fabric_punch(bytes + 1, 100), 0);
  assert_int_equal(bytes[1], 'x');
  pl__fabric_close(&f);
}

static void punching_other_memory_is_an_error(void **state) {
  (void)state;
  void *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(at != MAP_FAILED);
  assert_true(pl__fabric_punch(at, 8192) < 0);
  munmap(at, 8192);
}

static void refuses_bad_sections_with_a_sentence(void **state) {
  (void)state;
  struct pl_fabric f;
  const struct pl_fabric_section twice[] = {{"a", 1, 1, 1}, {"a", 1, 1, 1}};
  const struct pl_fabric_section unnamed[] = {{"", 1, 1, 1}};
  const struct pl_fabric_section empty[] = {{"a", 1, 1, 0}};
  const struct pl_fabric_section huge[] = {{"a", 1, 16, UINT64_MAX / 2}};
  assert_int_equal(pl__fabric_open(&f, twice, 2, error), PL_EINVAL);
  assert_string_equal(error, "section a is there twice");
  assert_int_equal(pl__fabric_open(&f, unnamed, 1, error), PL_EINVAL);
  assert_int_equal(pl__fabric_open(&f, empty, 1, error), PL_EINVAL);
  assert_int_equal(pl__fabric_open(&f, huge, 1, error), PL_EFULL);
  assert_int_equal(
      pl__fabric_open(&f, twice, PL_LIMIT_SECTION_COUNT + 1, error), PL_EFULL);
  assert_null(f.base);
  pl__fabric_close(&f);
}

static void tells_what_is_missing_when_memory_cannot_be_had(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    struct pl_fabric f;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_NOFILE, &none);
    int status = pl__fabric_open(&f, three, 3, error);
    _exit(status == -EMFILE && strstr(error, "memfd_create") && !f.base ? 0
                                                                        : 1);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void an_address_space_too_small_is_an_error(void **state) {
  (void)state;
  struct pl_fabric f;
  const struct pl_fabric_section huge[] = {{"a", 1, 1, 1ull << 60}};
  assert_true(pl__fabric_open(&f, huge, 1, error) < 0);
  assert_non_null(strstr(error, "cannot get shared memory"));
  assert_null(f.base);
  assert_int_equal(f.fd, -1);
}

static void a_name_that_is_too_long_is_refused(void **state) {
  (void)state;
  struct pl_fabric_section s;
  assert_int_equal(pl__fabric_name(&s, "log", 12), 0);
  assert_string_equal(s.name, "log.12");
  assert_int_equal(pl__fabric_name(&s, "routes", -1), 0);
  assert_string_equal(s.name, "routes");
  assert_int_equal(pl__fabric_name(&s, "twenty-two-characters-", 10),
                   PL_EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_each_section_by_name),
      cmocka_unit_test(refuses_another_version_or_layout),
      cmocka_unit_test(lies_at_the_same_address_in_a_forked_child),
      cmocka_unit_test(has_a_table_that_nobody_can_write_to),
      cmocka_unit_test(cannot_be_resized_by_anyone),
      cmocka_unit_test(punching_gives_memory_back_and_leaves_zeros),
      cmocka_unit_test(punching_other_memory_is_an_error),
      cmocka_unit_test(refuses_bad_sections_with_a_sentence),
      cmocka_unit_test(tells_what_is_missing_when_memory_cannot_be_had),
      cmocka_unit_test(an_address_space_too_small_is_an_error),
      cmocka_unit_test(a_name_that_is_too_long_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
