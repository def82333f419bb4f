/* test/server/test_dumper.c - the thread that writes records, and its queues. */
#include "server/dumper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/map.h"
#include "server/layout.h"

#include <dirent.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 1
#define PATIENCE_MS 20000

static struct pl_config config;
static struct pl_fabric fabric;
static struct pl_server_state *counts;
static struct pl_dumper *dumper;
static struct pl_message message;
static char folder[64], text[PL_DUMPER_TEXT_BYTES];
static int channel[2];

static int start(void **state) {
  struct pl_config_input in = {.app = NULL};
  char error[PL_CONFIG_ERROR_BYTES];

  (void)state;
  snprintf(folder, sizeof folder, "/tmp/perilune-dumper-XXXXXX");
  if (!mkdtemp(folder) || pl__config_resolve(&in, &config, error))
    return -1;
  snprintf(config.recorder_folder, sizeof config.recorder_folder, "%s", folder);
  config.recorder_keep = 100;
  return pl__layout_open(&fabric, &config, WORKERS, error) ||
         pl__layout_state(&fabric, &counts) || pl__channel_open(channel) ||
         pl__dumper_start(&dumper, &config, &fabric, channel[1]);
}

static int files(void) {
  DIR *dir = opendir(folder);
  struct dirent *e;
  int count = 0;

  while ((e = readdir(dir)))
    count += e->d_name[0] != '.';
  closedir(dir);
  return count;
}

static void stop_dumper(void) {
  assert_true(pl__dumper_stop(dumper, PATIENCE_MS));
  pl__dumper_free(dumper);
  dumper = NULL;
}

static int stop(void **state) {
  char command[128];

  (void)state;
  if (dumper)
    stop_dumper();
  close(channel[0]);
  close(channel[1]);
  pl__fabric_close(&fabric);
  pl__config_deinit(&config);
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}

static int save(const char *why, const char *bytes, uint32_t *ticket) {
  return pl__dumper_save(dumper, pl__slice_text(why), PL_SLICE("pb.gz"),
                         pl__slice_text(bytes), ticket);
}

static int await(uint32_t ticket) {
  int status = 1;

  for (int ms = 0; status == 1 && ms < PATIENCE_MS; ms += 5) {
    status = pl__dumper_saved(dumper, ticket, text);
    if (status == 1)
      poll(NULL, 0, 5);
  }
  return status;
}

static void order(const char *why, int seconds, uint32_t asker) {
  struct pl_message m = {
      .kind = PL_ORDER_RECORD, .generation = asker, .code = seconds};

  snprintf(m.text, sizeof m.text, "%s", why);
  pl__dumper_order(dumper, &m);
}

static void hear(void) {
  struct pollfd fd = {.fd = channel[0], .events = POLLIN};

  assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
  assert_int_equal(pl__channel_read(channel[0], &message), 0);
  assert_int_equal(message.kind, PL_NEWS_RECORDED);
}

static void saves_bytes_and_says_where(void **state) {
  char got[8] = "";
  uint32_t ticket;
  FILE *file;

  (void)state;
  assert_int_equal(save("heap-a.b", "bytes", &ticket), 0);
  assert_int_equal(await(ticket), 0);
  assert_non_null(strstr(text, "@heap-a.b-"));
  file = fopen(text, "r");
  assert_non_null(file);
  assert_int_equal(fread(got, 1, sizeof got, file), 5);
  fclose(file);
  assert_string_equal(got, "bytes");
  assert_int_equal(pl__dumper_saved(dumper, ticket, text), PL_EGONE);
}

static void goes_on_though_nobody_asks_what_became_of_files(void **state) {
  uint32_t ticket = 0;

  (void)state;
  for (uint32_t i = 0; i < 3 * PL_DUMPER_SAVES_MAX; i++) {
    uint64_t before = atomic_load(&counts->records_written);
    assert_int_equal(save("heap-x", "x", &ticket), 0);
    for (int ms = 0;
         atomic_load(&counts->records_written) == before && ms < PATIENCE_MS;
         ms++)
      poll(NULL, 0, 1);
  }
  assert_int_equal(await(ticket), 0);
  assert_int_equal(files(), 3 * PL_DUMPER_SAVES_MAX);
}

static void drops_and_counts_what_is_too_much(void **state) {
  char *much = pl__alloc_zero(PL_DUMPER_SAVES_BYTES_MAX + 1);
  uint32_t ticket;

  (void)state;
  assert_non_null(much);
  assert_int_equal(
      pl__dumper_save(dumper, PL_SLICE("heap-x"), PL_SLICE("pb.gz"),
                      pl__slice(much, PL_DUMPER_SAVES_BYTES_MAX + 1), &ticket),
      PL_EFULL);
  pl__free(much);
  assert_int_equal(atomic_load(&counts->records_dropped), 1);
  assert_int_equal(files(), 0);
}

static void says_why_a_file_is_not_there(void **state) {
  uint32_t ticket;

  (void)state;
  snprintf(config.recorder_folder, sizeof config.recorder_folder,
           "/proc/no/such/folder");
  assert_int_equal(save("heap-x", "x", &ticket), 0);
  assert_true(await(ticket) < 0);
  assert_non_null(strstr(text, "/proc/no/such/folder/"));
  assert_non_null(strstr(text, "no such file"));
  order("crash-0", 0, 0);
  hear();
  assert_true(message.code < 0);
  assert_int_equal(atomic_load(&counts->records_failed), 2);
}

static void tells_the_master_once_a_record_has_its_name(void **state) {
  (void)state;
  order("action-a.b", 0, 7);
  hear();
  assert_int_equal(message.code, 0);
  assert_int_equal(message.generation, 7);
  assert_non_null(strstr(message.text, "@action-a.b-"));
  assert_int_equal(access(message.text, F_OK), 0);
  assert_int_equal(files(), 1);
}

/* One follows what comes for minutes, so the others wait. */
static void drops_orders_past_its_limit_and_saves_go_on(void **state) {
  uint32_t ticket;

  (void)state;
  order("asked", 300, 1);
  for (int ms = 0; files() == 0 && ms < PATIENCE_MS; ms += 5)
    poll(NULL, 0, 5); /* it is being written, and waits no more */
  for (uint32_t i = 0; i < PL_DUMPER_ORDERS_MAX; i++)
    order("signal", 0, 10 + i);
  order("crash-0", 0, 99);
  hear();
  assert_int_equal(message.code, PL_EFULL);
  assert_int_equal(message.generation, 99);
  assert_string_equal(message.text,
                      "crash-0: too many records are waiting to be written");
  assert_int_equal(atomic_load(&counts->records_dropped), 1);
  assert_int_equal(save("heap-x", "x", &ticket), 0);
  assert_int_equal(await(ticket), 0);
  stop_dumper(); /* which writes all that waits */
  for (uint32_t i = 0; i < 1 + PL_DUMPER_ORDERS_MAX; i++) {
    hear();
    assert_int_equal(message.code, 0);
    assert_int_equal(message.generation, i ? 9 + i : 1);
  }
  assert_int_equal(files(), 2 + PL_DUMPER_ORDERS_MAX);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(saves_bytes_and_says_where),
      CASE(goes_on_though_nobody_asks_what_became_of_files),
      CASE(drops_and_counts_what_is_too_much),
      CASE(says_why_a_file_is_not_there),
      CASE(tells_the_master_once_a_record_has_its_name),
      CASE(drops_orders_past_its_limit_and_saves_go_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
