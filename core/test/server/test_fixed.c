/* test/server/test_fixed.c - what of a configuration a reload cannot change. */
#include "server/fixed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/config.h"
#include "server/keys.h"

#include <stdio.h>
#include <string.h>

/* Every key with two values; which of them are fixed is said here once more. */
static const struct {
  const char *name, *before, *now;
  bool is_fixed;
} KEYS[] = {
    {"listen", "127.0.0.1:8080", "127.0.0.1:8081,127.0.0.1:8082", true},
    {"workers", "2", "3", true},
    {"workers_max", "0", "8", true},
    {"name", "one", "two", true},
    {"pid_file", "/tmp/one.pid", "/tmp/two.pid", true},
    {"user", "", "nobody", true},
    {"group", "", "nogroup", true},
    {"timeouts.header", "10s", "11s", false},
    {"timeouts.body", "10s", "11s", false},
    {"timeouts.idle", "10s", "11s", false},
    {"timeouts.write", "10s", "11s", false},
    {"timeouts.handler", "10s", "11s", false},
    {"timeouts.drain", "10s", "11s", false},
    {"timeouts.pre_drain", "10s", "11s", false},
    {"limits.output", "1M", "2M", false},
    {"limits.target", "8K", "4K", true},
    {"limits.headers", "32K", "16K", true},
    {"limits.header_count", "100", "50", true},
    {"limits.body", "1M", "2M", false},
    {"limits.connections", "10000", "1000", true},
    {"limits.requests_per_connection", "0", "10", false},
    {"limits.tasks", "100", "10", false},
    {"limits.tasks_per_worker", "100", "10", false},
    {"vm.preempt", "line", "off", false},
    {"vm.slice", "10ms", "5ms", false},
    {"vm.load_timeout", "10s", "5s", false},
    {"vm.memory_soft", "256M", "128M", false},
    {"vm.memory_hard", "512M", "300M", false},
    {"vm.stuck_timeout", "10s", "5s", false},
    {"vm.quarantine", "30s", "5s", false},
    {"trace.sample", "0.01", "0.5", false},
    {"trace.slow_factor", "2", "3", false},
    {"trace.slow_min", "1ms", "2ms", false},
    {"trace.anomaly_errors", "0.05", "0.1", false},
    {"trace.anomaly_p99", "1s", "2s", false},
    {"trace.anomaly_hold", "60s", "5s", false},
    {"trace.anomaly_per_second", "200", "100", false},
    {"trace.wished_per_second", "1000", "0", false},
    {"vm.heap_sample", "512K", "64K", false},
    {"leaks.collect", "60s", "5s", false},
    {"leaks.after", "5m", "5s", false},
    {"leaks.window", "60s", "5s", false},
    {"shared.memory", "64M", "32M", true},
    {"metrics.series_max", "1000", "2000", true},
    {"log.level", "info", "debug", false},
    {"log.format", "auto", "json", true},
    {"log.access", "true", "false", false},
    {"log.access_sample", "1", "0.5", false},
    {"log.access_fields", "all", "status,route", false},
    {"log.sample_first", "0", "10", false},
    {"log.sample_then", "100", "10", false},
    {"log.output", "stdout", "stderr", true},
    {"log.rotate_size", "0", "1M", true},
    {"log.rotate_keep", "5", "9", true},
    {"log.syslog_facility", "daemon", "local0", true},
    {"recorder.on", "true", "false", true},
    {"recorder.folder", "", "/tmp/x", true},
    {"recorder.keep", "10", "5", true},
    {"recorder.storm", "50", "5", true},
    {"actions.on", "true", "false", false},
    {"actions.p99", "150ms", "1s", false},
    {"actions.allocation", "1G", "2G", false},
    {"actions.workers_max", "0", "4", false},
    {"actions.stuck", "true", "false", false},
    {"context.trusted", "", "10.0.0.0/8,unix", false},
    {"context.trace_from", "all", "trusted", false},
    {"context.request_id_header", "X-Request-Id", "", false},
    {"context.reply_request_id", "false", "true", false},
    {"context.tenant_header", "X-Tenant", "X-Org", false},
    {"context.tier_header", "X-Tier", "", false},
    {"generation_header", "true", "false", false},
    {"otlp.endpoint", "", "http://a:4318", true},
    {"otlp.traces_endpoint", "", "http://a:4318/t", true},
    {"otlp.metrics_endpoint", "", "http://a:4318/m", true},
    {"otlp.logs_endpoint", "", "http://a:4318/l", true},
    {"otlp.traces", "true", "false", true},
    {"otlp.metrics", "true", "false", true},
    {"otlp.logs", "true", "false", true},
    {"otlp.headers", "", "a=b", true},
    {"otlp.compression", "none", "gzip", true},
    {"otlp.timeout", "10s", "5s", true},
    {"otlp.traces_headers", "", "a=b", true},
    {"otlp.traces_compression", "same", "gzip", true},
    {"otlp.traces_timeout", "0s", "5s", true},
    {"otlp.metrics_headers", "", "a=b", true},
    {"otlp.metrics_compression", "same", "gzip", true},
    {"otlp.metrics_timeout", "0s", "5s", true},
    {"otlp.logs_headers", "", "a=b", true},
    {"otlp.logs_compression", "same", "gzip", true},
    {"otlp.logs_timeout", "0s", "5s", true},
    {"otlp.service", "", "shop", true},
    {"otlp.resource", "", "a=b", true},
    {"otlp.queue", "2048", "4096", true},
    {"otlp.batch", "512", "100", true},
    {"otlp.delay", "5s", "1s", true},
    {"otlp.export_timeout", "30s", "5s", true},
    {"otlp.metrics_interval", "60s", "10s", true},
    {"admin.listen", "off", "127.0.0.1:9000", true},
    {"admin.token", "", "sixteen letters!", false},
};
#define COUNT (sizeof KEYS / sizeof *KEYS)

static struct pl_config old, fresh;
static char named[1024];

static const struct pl_key *key_of(const char *name) {
  const struct pl_key *key = pl__key_find(name, strlen(name));

  if (!key)
    fail_msg("%s is no key", name);
  return key;
}

static void set(struct pl_config *c, const char *name, const char *text) {
  if (pl__key_set(key_of(name), text, c))
    fail_msg("%s = %s", name, text);
}

static int make_both(void **state) {
  (void)state;
  memset(&old, 0, sizeof old);
  memset(&fresh, 0, sizeof fresh);
  memset(named, 'x', sizeof named);
  for (size_t i = 0; i < COUNT; i++) {
    set(&old, KEYS[i].name, KEYS[i].before);
    set(&fresh, KEYS[i].name, KEYS[i].before);
  }
  return 0;
}

static void keep(void) { pl__fixed_keep(&fresh, &old, named, sizeof named); }

static void assert_value(const char *name, const char *text) {
  char value[PL_KEY_VALUE_BYTES], wanted[PL_KEY_VALUE_BYTES];
  static struct pl_config c;

  c = old;
  set(&c, name, text);
  pl__config_value(&c, key_of(name), wanted, sizeof wanted);
  pl__config_value(&fresh, key_of(name), value, sizeof value);
  if (strcmp(value, wanted) != 0)
    fail_msg("%s is %s, not %s", name, value, wanted);
}

static void knows_all_keys_that_there_are(void **state) {
  (void)state;
  assert_int_equal(COUNT, pl__key_count);
}

static void names_nothing_when_nothing_is_other(void **state) {
  (void)state;
  keep();
  assert_string_equal(named, "");
}

static void keeps_and_names_each_fixed_key(void **state) {
  for (size_t i = 0; i < COUNT; i++) {
    if (!KEYS[i].is_fixed)
      continue;
    make_both(state);
    set(&fresh, KEYS[i].name, KEYS[i].now);
    keep();
    assert_string_equal(named, KEYS[i].name);
    assert_value(KEYS[i].name, KEYS[i].before);
  }
}

static void lets_each_other_key_change(void **state) {
  for (size_t i = 0; i < COUNT; i++) {
    if (KEYS[i].is_fixed)
      continue;
    make_both(state);
    set(&fresh, KEYS[i].name, KEYS[i].now);
    keep();
    assert_string_equal(named, "");
    assert_value(KEYS[i].name, KEYS[i].now);
  }
}

static void sorts_out_all_keys_at_once(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT; i++)
    set(&fresh, KEYS[i].name, KEYS[i].now);
  keep();
  for (size_t i = 0; i < COUNT; i++)
    assert_value(KEYS[i].name, KEYS[i].is_fixed ? KEYS[i].before : KEYS[i].now);
  assert_string_equal(
      named, "listen, workers, workers_max, name, pid_file, limits.target, "
             "limits.headers, limits.header_count, "
             "limits.connections, log.format, log.output, "
             "log.rotate_size, log.rotate_keep, "
             "log.syslog_facility, "
             "recorder.on, recorder.folder, "
             "recorder.keep, recorder.storm, "
             "admin.listen, user, group, shared.memory, "
             "metrics.series_max, "
             "otlp.endpoint, otlp.traces_endpoint, "
             "otlp.metrics_endpoint, otlp.logs_endpoint, "
             "otlp.traces, otlp.metrics, otlp.logs, "
             "otlp.headers, otlp.compression, otlp.timeout, "
             "otlp.traces_headers, otlp.traces_compression, "
             "otlp.traces_timeout, otlp.metrics_headers, "
             "otlp.metrics_compression, otlp.metrics_timeout, "
             "otlp.logs_headers, otlp.logs_compression, "
             "otlp.logs_timeout, "
             "otlp.service, otlp.resource, otlp.queue, "
             "otlp.batch, otlp.delay, otlp.export_timeout, "
             "otlp.metrics_interval");
}

static void keeps_every_address(void **state) {
  (void)state;
  set(&old, "listen", "127.0.0.1:1001,127.0.0.1:1002,127.0.0.1:1003");
  set(&fresh, "listen", "127.0.0.1:2001");
  keep();
  assert_int_equal(fresh.listen_count, 3);
  assert_memory_equal(fresh.listen, old.listen, 3 * sizeof *old.listen);
}

static void keeps_an_admin_plane_that_is_on(void **state) {
  (void)state;
  set(&old, "admin.listen", "127.0.0.1:9001");
  set(&fresh, "admin.listen", "off");
  keep();
  assert_true(fresh.admin_on);
  assert_string_equal(named, "admin.listen");
}

/* The address stays; so does what it needs. */
static void keeps_a_token_that_cannot_be_missed(void **state) {
  (void)state;
  set(&old, "admin.listen", "0.0.0.0:9001");
  set(&old, "admin.token", "sixteen letters!");
  set(&fresh, "admin.token", "");
  keep();
  assert_string_equal(fresh.admin_token, "sixteen letters!");
  assert_string_equal(named, "admin.listen, admin.token");
  set(&fresh, "admin.token", "another token of 16");
  keep();
  assert_string_equal(fresh.admin_token, "another token of 16");
}

/* `auto` is the same as long as the machine is. */
static void keeps_the_number_of_workers_that_was_found(void **state) {
  (void)state;
  old.workers = 5;
  old.workers_auto = true;
  fresh.workers = 7;
  fresh.workers_auto = true;
  keep();
  assert_int_equal(fresh.workers, 5);
  assert_true(fresh.workers_auto);
}

static void keeps_what_perilune_dev_has_set(void **state) {
  (void)state;
  old.dev = true;
  old.dev_port = 4321;
  keep();
  assert_true(fresh.dev);
  assert_int_equal(fresh.dev_port, 4321);
}

static void leaves_the_app_and_its_settings_alone(void **state) {
  char settings[] = "{}";

  (void)state;
  snprintf(fresh.app_file, sizeof fresh.app_file, "/new/app.lua");
  fresh.settings_json = settings;
  fresh.settings_bytes = 2;
  keep();
  assert_string_equal(fresh.app_file, "/new/app.lua");
  assert_ptr_equal(fresh.settings_json, settings);
}

static void leaves_a_name_out_that_does_not_fit(void **state) {
  char little[16];

  (void)state;
  set(&fresh, "name", "two");
  set(&fresh, "limits.connections", "1000");
  set(&fresh, "user", "nobody");
  pl__fixed_keep(&fresh, &old, little, sizeof little);
  assert_string_equal(little, "name, user");
  assert_value("limits.connections", "10000");
}

#define CASE(name) cmocka_unit_test_setup(name, make_both)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(knows_all_keys_that_there_are),
      CASE(names_nothing_when_nothing_is_other),
      CASE(keeps_and_names_each_fixed_key),
      CASE(lets_each_other_key_change),
      CASE(sorts_out_all_keys_at_once),
      CASE(keeps_every_address),
      CASE(keeps_an_admin_plane_that_is_on),
      CASE(keeps_a_token_that_cannot_be_missed),
      CASE(keeps_the_number_of_workers_that_was_found),
      CASE(keeps_what_perilune_dev_has_set),
      CASE(leaves_the_app_and_its_settings_alone),
      CASE(leaves_a_name_out_that_does_not_fit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
