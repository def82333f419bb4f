/* test/vm/test_config_file.c - the sandbox of configuration files. */
#include "vm/config_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

static char err[512];
static char values[1024];

static int on_value(void *arg, const char *key, enum pl_config_file_type type,
                    const char *text) {
  size_t used = strlen(values);

  (void)arg;
  snprintf(values + used, sizeof(values) - used, "%s:%d=%s;", key, (int)type,
           text);
  return 0;
}

static int load(const char *text, double seconds) {
  char path[] = "/tmp/pl-config-file-XXXXXX";
  struct pl_config_file *f = NULL;
  int fd = mkstemp(path);
  int status;

  assert_true(fd >= 0);
  assert_int_equal((ssize_t)strlen(text), write(fd, text, strlen(text)));
  close(fd);
  values[0] = err[0] = '\0';
  assert_int_equal(0, pl__config_file_new(&f));
  status = pl__config_file_load(f, path, seconds, err, sizeof(err));
  if (!status)
    status = pl__config_file_visit(f, on_value, NULL, err, sizeof(err));
  pl__config_file_free(f);
  unlink(path);
  return status;
}

static void visits_values_with_dotted_keys(void **state) {
  (void)state;
  assert_int_equal(0, load("return { a = { b = { c = 0.1 } } }", 5));
  assert_string_equal("a.b.c:1=0.1;", values);
  assert_int_equal(0, load("return { l = { 'x', 2 } }", 5));
  assert_string_equal("l:3=x,2;", values);
}

static void does_not_visit_settings(void **state) {
  (void)state;
  assert_int_equal(0, load("return { settings = { a = 1 } }", 5));
  assert_string_equal("", values);
}

static void reaches_nothing_outside_the_sandbox(void **state) {
  static const char *const names[] = {
      "io",           "os",        "require",      "package",
      "debug",        "ffi",       "jit",          "load",
      "loadstring",   "dofile",    "pcall",        "xpcall",
      "loadfile",     "getfenv",   "setmetatable", "setfenv",
      "rawset",       "coroutine", "bit",          "newproxy",
      "getmetatable", "module",    "print",        "collectgarbage",
      "string.dump",  "('x').dump"};
  char text[128];

  (void)state;
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    snprintf(text, sizeof(text), "return { v = %s == nil }", names[i]);
    assert_int_equal(0, load(text, 5));
    if (strcmp("v:2=true;", values) != 0)
      fail_msg("%s is in reach", names[i]);
  }
}

static void ends_an_endless_loop(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, load("while true do end", 0.05));
  assert_non_null(strstr(err, "takes too long"));
  assert_int_equal(PL_ECONFIG,
                   load("local n = 0 for i = 1, 1e18 do n = n + i end", 0.05));
}

static void ends_a_file_that_eats_memory(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, load("return { v = ('x'):rep(1e8) }", 5));
  assert_non_null(strstr(err, "memory"));
  assert_int_equal(
      PL_ECONFIG,
      load("local t = {} for i = 1, 1e9 do t[i] = { i } end return t", 30));
  assert_non_null(strstr(err, "memory"));
}

static void refuses_bytecode(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, load("\033LJ\002", 5));
}

static void refuses_what_is_no_table(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, load("return 1", 5));
  assert_non_null(strstr(err, "not a table"));
  assert_int_equal(PL_ECONFIG, load("", 5));
  assert_int_equal(PL_ECONFIG, load("error({})", 5));
  assert_int_equal(PL_ECONFIG, load("return { v = tostring }", 5));
}

static void refuses_tables_that_contain_themselves(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, load("local t = {} t.t = t return t", 5));
}

static void refuses_keys_and_values_that_are_too_long(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, load("return { [('k'):rep(300)] = 1 }", 5));
  assert_int_equal(PL_ECONFIG, load("return { v = ('x'):rep(5000) }", 5));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(visits_values_with_dotted_keys),
      cmocka_unit_test(does_not_visit_settings),
      cmocka_unit_test(reaches_nothing_outside_the_sandbox),
      cmocka_unit_test(ends_an_endless_loop),
      cmocka_unit_test(ends_a_file_that_eats_memory),
      cmocka_unit_test(refuses_bytecode),
      cmocka_unit_test(refuses_what_is_no_table),
      cmocka_unit_test(refuses_tables_that_contain_themselves),
      cmocka_unit_test(refuses_keys_and_values_that_are_too_long),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
