/* test/server/test_config.c - how the four sources become one configuration. */
#include "log/format.h"
#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/cpus.h"
#include "base/err.h"
#include "server/keys.h"

static char folder[64];
static char file[96];
static struct pl_config config;
static char err[PL_CONFIG_ERROR_BYTES];

static void file_write(const char *name, const char *text) {
  char path[128];
  FILE *f;

  snprintf(path, sizeof(path), "%s/%s", folder, name);
  f = fopen(path, "w");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

static int folder_make(void **state) {
  (void)state;
  snprintf(folder, sizeof(folder), "/tmp/pl-config-XXXXXX");
  if (!mkdtemp(folder))
    return -1;
  snprintf(file, sizeof(file), "%s/config.lua", folder);
  file_write("app.lua", "return {}\n");
  memset(&config, 0, sizeof(config));
  return 0;
}

static int folder_remove(void **state) {
  char path[128];

  (void)state;
  pl__config_deinit(&config);
  snprintf(path, sizeof(path), "%s/app.lua", folder);
  unlink(path);
  unlink(file);
  return rmdir(folder);
}

static int resolve(const char *const *flags, const char *const *environment) {
  struct pl_config_input in = {
      .app = folder, .overrides = flags, .environment = environment};

  while (flags && flags[in.override_count])
    in.override_count++;
  pl__config_deinit(&config);
  return pl__config_resolve(&in, &config, err);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_says(const char *part) {
  if (!strstr(err, part))
    fail_msg("\"%s\" does not say \"%s\"", err, part);
}

static const char *origin(const char *name) {
  static char text[PL_CONFIG_PATH_BYTES];
  const struct pl_key *key = pl__key_find(name, strlen(name));

  assert_non_null(key);
  pl__config_origin(&config, key, text, sizeof(text));
  return text;
}

static void has_the_defaults_of_the_table(void **state) {
  (void)state;
  assert_int_equal(0, resolve(NULL, NULL));
  assert_int_equal(1, config.listen_count);
  assert_string_equal("127.0.0.1:8080", config.listen[0].text);
  assert_true(config.workers_auto);
  assert_true(config.workers >= 1);
  assert_true(config.timeout_header_s == 10 && config.timeout_body_s == 30);
  assert_true(config.timeout_pre_drain_s == 0);
  assert_int_equal(8192, config.limit_target_bytes);
  assert_int_equal(1 << 20, config.limit_body_bytes);
  assert_int_equal(10000, config.limit_connections);
  assert_int_equal(PL_VM_PREEMPT_LINE, config.vm_preempt);
  assert_true(config.vm_slice_s == 0.01);
  assert_int_equal(PL_CONFIG_INFO, config.log_level);
  assert_true(config.log_access);
  assert_true(config.log_access_sample == 1);
  assert_int_equal(UINT32_MAX, config.log_access_fields);
  assert_int_equal(0, config.log_sample_first);
  assert_false(config.admin_on);
  assert_string_equal("{}", config.settings_json);
  assert_string_equal("default", origin("listen"));
}

static void takes_the_name_of_the_folder(void **state) {
  (void)state;
  assert_int_equal(0, resolve(NULL, NULL));
  assert_string_equal(strrchr(folder, '/') + 1, config.name);
}

static void reads_nested_tables_of_the_file(void **state) {
  (void)state;
  file_write("config.lua",
             "return {\n"
             "  workers = 3,\n"
             "  listen = { '127.0.0.1:1', '[::1]:2' },\n"
             "  timeouts = { idle = '1m', header = 2.5 },\n"
             "  limits = { body = '10M' },\n"
             "  vm = { preempt = 'off' },\n"
             "  log = { access = false, access_sample = 0.25,\n"
             "          access_fields = { 'status', 'req_id' } },\n"
             "}\n");
  assert_int_equal(0, resolve(NULL, NULL));
  assert_int_equal(3, config.workers);
  assert_int_equal(2, config.listen_count);
  assert_int_equal(AF_INET6, config.listen[1].family);
  assert_true(config.timeout_idle_s == 60 && config.timeout_header_s == 2.5);
  assert_int_equal(10 << 20, config.limit_body_bytes);
  assert_int_equal(PL_VM_PREEMPT_OFF, config.vm_preempt);
  assert_false(config.log_access);
  assert_true(config.log_access_sample == 0.25);
  assert_int_equal(1 << PL_ACCESS_STATUS | 1 << PL_ACCESS_REQ_ID,
                   config.log_access_fields);
}

static void prefers_flags_to_environment_to_file(void **state) {
  const char *const *env = LIST("PERILUNE_WORKERS=4", "X=1");

  (void)state;
  file_write("config.lua", "return { workers = 3 }\n");
  assert_int_equal(0, resolve(NULL, NULL));
  assert_int_equal(3, config.workers);
  assert_int_equal(0, resolve(NULL, env));
  assert_int_equal(4, config.workers);
  assert_string_equal("PERILUNE_WORKERS", origin("workers"));
  assert_int_equal(0, resolve(LIST("workers=5"), env));
  assert_int_equal(5, config.workers);
  assert_string_equal("flag", origin("workers"));
}

static void tells_the_line_a_value_stands_in(void **state) {
  char expected[128];

  (void)state;
  file_write("config.lua", "-- idle = 1\nreturn {\n  idle_ = 0 and nil,\n"
                           "  timeouts = {\n    idle = 5,\n  },\n}\n");
  assert_int_equal(0, resolve(NULL, NULL));
  snprintf(expected, sizeof(expected), "%s:5", file);
  assert_string_equal(expected, origin("timeouts.idle"));
}

static void takes_port_to_mean_all_addresses(void **state) {
  (void)state;
  assert_int_equal(0, resolve(NULL, LIST("PORT=9000", "WEB_CONCURRENCY=2")));
  assert_string_equal("0.0.0.0:9000", config.listen[0].text);
  assert_int_equal(2, config.workers);
  assert_string_equal("PORT", origin("listen"));
}

static void prefers_its_own_variables_to_port(void **state) {
  (void)state;
  assert_int_equal(
      0, resolve(NULL, LIST("PORT=9000", "PERILUNE_LISTEN=127.0.0.1:7")));
  assert_string_equal("127.0.0.1:7", config.listen[0].text);
}

static void only_warns_of_unknown_variables(void **state) {
  (void)state;
  assert_int_equal(0, resolve(NULL, LIST("PERILUNE_PORT=tcp://10.0.0.1:80",
                                         "PERILUNE_WORKRES=2")));
  assert_int_equal(2, config.warning_count);
  assert_non_null(strstr(config.warnings[1], "PERILUNE_WORKERS?"));
}

static void treats_an_empty_variable_as_unset(void **state) {
  (void)state;
  assert_int_equal(0, resolve(NULL, LIST("PERILUNE_WORKERS=", "PORT=")));
  assert_string_equal("default", origin("workers"));
  assert_string_equal("default", origin("listen"));
}

static void suggests_the_key_that_was_meant(void **state) {
  char place[128];

  (void)state;
  file_write("config.lua", "return {\n  timeouts = { heder = 1 },\n}\n");
  assert_int_equal(PL_ECONFIG, resolve(NULL, NULL));
  snprintf(place, sizeof(place), "%s:2: unknown key timeouts.heder", file);
  assert_says(place);
  assert_says("did you mean timeouts.header?");
}

static void takes_an_empty_table_for_what_its_name_says(void **state) {
  (void)state;
  file_write("config.lua", "return { setings = {} }\n");
  assert_int_equal(PL_ECONFIG, resolve(NULL, NULL));
  assert_says("unknown key setings");
  file_write("config.lua", "return { listen = {} }\n");
  assert_int_equal(PL_ECONFIG, resolve(NULL, NULL));
  assert_says("listen");
  file_write("config.lua", "return { timeouts = {}, settings = {} }\n");
  assert_int_equal(0, resolve(NULL, NULL));
}

static void names_key_value_source_and_what_is_expected(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, resolve(LIST("workers=many"), NULL));
  assert_says("--set workers");
  assert_says("\"many\"");
  assert_says("auto or a whole number from 1 to 256");
  assert_int_equal(PL_ECONFIG,
                   resolve(NULL, LIST("PERILUNE_TIMEOUTS_IDLE=-5s")));
  assert_says("PERILUNE_TIMEOUTS_IDLE: timeouts.idle is \"-5s\"");
}

static void refuses_values_out_of_range(void **state) {
  static const char *const bad[] = {
      "workers=0",
      "workers=-1",
      "workers=300",
      "limits.body=1T",
      "limits.body=-1",
      "limits.target=1",
      "timeouts.idle=0",
      "timeouts.idle=",
      "timeouts.idle=25h",
      "vm.slice=0",
      "log.level=loud",
      "log.access=maybe",
      "log.level=",
      "log.access_sample=1.1",
      "log.access_sample=101%",
      "log.access_sample=-1",
      "log.access_sample=often",
      "log.access_fields=",
      "log.access_fields=status,",
      "log.access_fields=status route",
      "log.access_fields=state",
      "log.sample_first=-1",
      "log.output=",
      "listen=nowhere",
      "listen=1.2.3.4:x",
      "listen=",
      "listen=unix:relative",
      "name=../x",
      "name=.x",
      "limits.header_count=0",
      "nonsense",
      "=1",
      "limits.header_count=1001",
  };

  (void)state;
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    if (resolve(LIST(bad[i]), NULL) != PL_ECONFIG)
      fail_msg("%s was taken", bad[i]);
    assert_true(err[0] != '\0');
  }
}

/* What would be cut later on is refused at once, with what to do. */
static void refuses_paths_that_are_too_long(void **state) {
  static const char *const keys[] = {"recorder.folder", "log.output"};
  static char flag[PL_CONFIG_PATH_BYTES];

  (void)state;
  for (size_t i = 0; i < 2; i++) {
    int n = snprintf(flag, sizeof flag, "%s=/", keys[i]);
    memset(flag + n, 'x', 1022);
    flag[n + 1022] = '\0';
    assert_int_equal(resolve(LIST(flag), NULL), 0);
    memset(flag + n, 'x', 1023);
    flag[n + 1023] = '\0';
    assert_int_equal(resolve(LIST(flag), NULL), PL_ECONFIG);
    assert_says(keys[i]);
    assert_says("to 1023 bytes; a symbolic link makes a longer one short");
  }
}

static void counts_the_folder_that_a_relative_one_lies_in(void **state) {
  static char flag[PL_CONFIG_PATH_BYTES];
  int n = snprintf(flag, sizeof flag, "recorder.folder=");

  (void)state;
  memset(flag + n, 'x', PL_CONFIG_FOLDER_BYTES - 2);
  flag[n + PL_CONFIG_FOLDER_BYTES - 2] = '\0';
  assert_int_equal(resolve(LIST(flag), NULL), PL_ECONFIG);
  assert_says("recorder.folder is ");
  assert_says("at most 1023 bytes for both: a symbolic link");
}

static void refuses_a_soft_cap_above_the_hard_one(void **state) {
  (void)state;
  assert_int_equal(PL_ECONFIG, resolve(LIST("vm.memory_soft=1G"), NULL));
  assert_says("vm.memory_soft");
}

static void refuses_values_of_another_type_in_the_file(void **state) {
  static const char *const bad[] = {"return { log = { access = 'true' } }",
                                    "return { workers = true }",
                                    "return { name = 7 }",
                                    "return { settings = 1 }",
                                    "return { [1] = 2, listen = 'x' }",
                                    "return { workers = { 1, 2 } }"};

  (void)state;
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    file_write("config.lua", bad[i]);
    if (resolve(NULL, NULL) != PL_ECONFIG)
      fail_msg("%s was taken", bad[i]);
  }
}

static void keeps_settings_as_json_with_flags_on_top(void **state) {
  (void)state;
  file_write("config.lua", "return { settings = { db = { host = 'a', port = 1 "
                           "}, list = { 1, 'x' }, on = true } }\n");
  assert_int_equal(
      0, resolve(LIST("settings.db.host=b \"c\"", "settings.new=0.25"), NULL));
  assert_string_equal("{\"db\":{\"host\":\"b \\u0022c\\u0022\",\"port\":1},"
                      "\"list\":[1,\"x\"],\"new\":0.25,\"on\":true}",
                      config.settings_json);
  assert_int_equal(strlen(config.settings_json), config.settings_bytes);
}

static void refuses_settings_that_json_cannot_hold(void **state) {
  (void)state;
  file_write("config.lua", "return { settings = { f = tostring } }\n");
  assert_int_equal(PL_ECONFIG, resolve(NULL, NULL));
  assert_says("function");
  file_write("config.lua", "local t = {}; t.t = t; return { settings = t }\n");
  assert_int_equal(PL_ECONFIG, resolve(NULL, NULL));
  assert_says("nested");
}

static void tells_where_the_file_fails(void **state) {
  char place[128];

  (void)state;
  file_write("config.lua", "return {\n  workers = ,\n}\n");
  assert_int_equal(PL_ECONFIG, resolve(NULL, NULL));
  snprintf(place, sizeof(place), "%s:2:", file);
  assert_says(place);
}

static void refuses_a_file_that_is_named_but_absent(void **state) {
  struct pl_config_input in = {.app = folder, .file = "/nonexistent/c.lua"};

  (void)state;
  assert_int_equal(PL_ECONFIG, pl__config_resolve(&in, &config, err));
  assert_says("/nonexistent/c.lua");
}

static void refuses_an_app_that_is_not_there(void **state) {
  struct pl_config_input in = {.app = "/nonexistent/app"};
  char empty[] = "/tmp/perilune-test-XXXXXX";

  (void)state;
  assert_int_equal(PL_ESCRIPT, pl__config_resolve(&in, &config, err));
  assert_non_null(mkdtemp(empty));
  in.app = empty;
  assert_int_equal(PL_ESCRIPT, pl__config_resolve(&in, &config, err));
  assert_says("has no app.lua");
  rmdir(empty);
}

static void wants_a_token_where_others_can_reach_the_admin_plane(void **state) {
  static const char *const local[] = {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1",
                                      "unix:/tmp/a.sock", "off"};
  static const char *const open[] = {":1", "0.0.0.0:1", "192.168.1.7:1",
                                     "[::]:1"};
  char set[64];

  (void)state;
  for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
    snprintf(set, sizeof set, "admin.listen=%s", local[i]);
    assert_int_equal(0, resolve(LIST(set), NULL));
  }
  for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
    snprintf(set, sizeof set, "admin.listen=%s", open[i]);
    assert_int_equal(PL_ECONFIG, resolve(LIST(set), NULL));
    assert_says("set admin.token");
    assert_int_equal(0,
                     resolve(LIST(set, "admin.token=sixteen letters!"), NULL));
  }
  assert_int_equal(PL_ECONFIG,
                   resolve(LIST("admin.token=fifteen letters"), NULL));
  assert_says("admin.token is shorter");
}

static void keeps_room_for_as_many_workers_as_workers_max_says(void **state) {
  (void)state;
  assert_int_equal(0, resolve(LIST("workers=1", "workers_max=32"), NULL));
  assert_int_equal(32, pl__config_capacity(&config, 0));
  assert_int_equal(0, resolve(LIST("workers=2", "workers_max=2"), NULL));
  assert_int_equal(2, pl__config_capacity(&config, 0));
  assert_int_equal(7, pl__config_capacity(&config, 7));
  assert_int_equal(PL_ECONFIG,
                   resolve(LIST("workers=3", "workers_max=2"), NULL));
  assert_says("workers is 3, and workers_max 2");
  assert_int_equal(PL_ECONFIG, resolve(LIST("workers=1", "workers_max=2",
                                            "actions.workers_max=3"),
                                       NULL));
  assert_says("actions.workers_max is 3, and workers_max 2");
  assert_int_equal(PL_ECONFIG, resolve(LIST("workers_max=257"), NULL));
}

static void keeps_room_for_what_may_be_asked_for_without_it(void **state) {
  uint32_t cpus = (uint32_t)pl__cpus_usable();

  (void)state;
  assert_int_equal(0, resolve(LIST("workers=1"), NULL));
  assert_int_equal(cpus > 4 ? cpus : 4, pl__config_capacity(&config, 0));
  assert_int_equal(0, resolve(LIST("workers=100"), NULL));
  assert_int_equal(cpus > 200 ? cpus : 200, pl__config_capacity(&config, 0));
  assert_int_equal(0, resolve(LIST("workers=200"), NULL));
  assert_int_equal(256, pl__config_capacity(&config, 0));
  assert_int_equal(0,
                   resolve(LIST("workers=1", "actions.workers_max=250"), NULL));
  assert_int_equal(cpus > 250 ? cpus : 250, pl__config_capacity(&config, 0));
}

static void shows_no_secret(void **state) {
  struct pl_buf out;

  (void)state;
  assert_int_equal(0, resolve(LIST("admin.token=sixteen letters!"), NULL));
  for (int json = 0; json < 2; json++) {
    pl__buf_init(&out, NULL, 1 << 20);
    assert_int_equal(0, pl__config_dump(&config, json, &out));
    assert_int_equal(0, pl__buf_append(&out, "", 1));
    assert_null(strstr(out.at, "sixteen"));
    assert_non_null(strstr(out.at, "(set)"));
    pl__buf_release(&out);
  }
}

static void survives_each_allocation_that_fails(void **state) {
  uint64_t n = 0;
  int status;

  (void)state;
  file_write("config.lua",
             "return { workers = 2, settings = { a = { 1 } } }\n");
  do {
    pl__alloc_fail_after(++n, false);
    status = resolve(LIST("settings.b=1"), LIST("PERILUNE_WORKERS=3"));
    if (status)
      assert_true(err[0] != '\0');
  } while (pl__alloc_fail_count() > 0);
  pl__alloc_fail_after(0, false);
  assert_int_equal(0, status);
  assert_true(n > 10);
}

static void dumps_every_key_as_lines_and_as_json(void **state) {
  struct pl_buf out;

  (void)state;
  assert_int_equal(0, resolve(NULL, NULL));
  for (int json = 0; json < 2; json++) {
    pl__buf_init(&out, NULL, 1 << 20);
    assert_int_equal(0, pl__config_dump(&config, json, &out));
    assert_int_equal(0, pl__buf_append(&out, "", 1));
    for (uint32_t i = 0; i < pl__key_count; i++)
      assert_non_null(strstr(out.at, pl__keys[i].name));
    pl__buf_release(&out);
  }
}

static void values_are_written_as_they_are_read(void **state) {
  char text[PL_KEY_VALUE_BYTES];

  (void)state;
  assert_int_equal(0, resolve(NULL, NULL));
  for (uint32_t i = 0; i < pl__key_count; i++) {
    if (pl__keys[i].type == PL_KEY_WORKERS || pl__keys[i].offset == 0)
      continue;
    pl__config_value(&config, &pl__keys[i], text, sizeof(text));
    if (pl__key_set(&pl__keys[i], text, &config))
      fail_msg("%s: %s", pl__keys[i].name, text);
  }
}

int main(void) {
#define CASE(name)                                                             \
  cmocka_unit_test_setup_teardown(name, folder_make, folder_remove)
  const struct CMUnitTest tests[] = {
      CASE(has_the_defaults_of_the_table),
      CASE(takes_the_name_of_the_folder),
      CASE(reads_nested_tables_of_the_file),
      CASE(prefers_flags_to_environment_to_file),
      CASE(tells_the_line_a_value_stands_in),
      CASE(takes_port_to_mean_all_addresses),
      CASE(prefers_its_own_variables_to_port),
      CASE(only_warns_of_unknown_variables),
      CASE(treats_an_empty_variable_as_unset),
      CASE(suggests_the_key_that_was_meant),
      CASE(takes_an_empty_table_for_what_its_name_says),
      CASE(names_key_value_source_and_what_is_expected),
      CASE(refuses_values_out_of_range),
      CASE(refuses_paths_that_are_too_long),
      CASE(counts_the_folder_that_a_relative_one_lies_in),
      CASE(refuses_a_soft_cap_above_the_hard_one),
      CASE(refuses_values_of_another_type_in_the_file),
      CASE(keeps_settings_as_json_with_flags_on_top),
      CASE(refuses_settings_that_json_cannot_hold),
      CASE(tells_where_the_file_fails),
      CASE(refuses_a_file_that_is_named_but_absent),
      CASE(refuses_an_app_that_is_not_there),
      CASE(wants_a_token_where_others_can_reach_the_admin_plane),
      CASE(keeps_room_for_as_many_workers_as_workers_max_says),
      CASE(keeps_room_for_what_may_be_asked_for_without_it),
      CASE(shows_no_secret),
      CASE(survives_each_allocation_that_fails),
      CASE(dumps_every_key_as_lines_and_as_json),
      CASE(values_are_written_as_they_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
