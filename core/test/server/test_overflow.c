/* test/server/test_overflow.c - errors that no ring has room for. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, F_SETPIPE_SZ */
#include "server/overflow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "server/config.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct pl_ring *ring;
static struct pl_ring_writer writer;
static struct pl_ring_reader reader;
static struct pl_overflow overflow;
static struct pl_config config;
static int ends[2];
static char text[1 << 20];

static const struct pl_record head = {
    .level = PL_LEVEL_ERROR, .route = PL_RECORD_NO_ROUTE, .worker = 3};

/* A ring that is full, and a pipe for what it has no room for. */
static int set_up(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  ring = mmap(NULL, pl__ring_section_bytes(PL_RING_BYTES_MIN),
              PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ring == MAP_FAILED || pipe(ends))
    return -1;
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  pl__ring_init(ring, PL_RING_BYTES_MIN);
  pl__ring_writer_init(&writer, ring, -1);
  pl__ring_reader_init(&reader, ring);
  while (!pl__record_text(&writer, &head, PL_SLICE(""))) {
  }
  memset(&config, 0, sizeof config);
  pl__overflow_attach(&overflow, &writer, ends[1], &config, NULL);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__overflow_detach(&overflow, &writer);
  close(ends[0]);
  close(ends[1]);
  return munmap(ring, pl__ring_section_bytes(PL_RING_BYTES_MIN));
}

static const char *written(void) {
  ssize_t n = read(ends[0], text, sizeof text - 1);
  text[n > 0 ? n : 0] = '\0';
  return text;
}

static void writes_the_line_at_once(void **state) {
  (void)state;
  assert_int_equal(pl__record_text(&writer, &head, PL_SLICE("no room")), 0);
  assert_non_null(strstr(
      written(), "\"level\":\"error\",\"msg\":\"no room\",\"worker\":3}"));
  assert_int_equal(text[strlen(text) - 1], '\n');
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_ERROR), 1); /* the filler */
}

static void writes_nothing_while_there_is_room(void **state) {
  (void)state;
  uint32_t bytes;
  assert_non_null(pl__ring_peek(&reader, &bytes));
  pl__ring_next(&reader);
  pl__ring_next(&reader);
  pl__ring_release(&reader);
  assert_int_equal(pl__record_text(&writer, &head, PL_SLICE("room")), 0);
  assert_string_equal(written(), "");
}

static void tells_in_the_log_how_many_lines_are_elsewhere(void **state) {
  (void)state;
  struct pl_record_log_view view;
  struct pl_field field;
  const void *at;
  uint32_t bytes;
  for (int i = 0; i < 3; i++)
    assert_int_equal(pl__record_text(&writer, &head, PL_SLICE("m")), 0);
  pl__overflow_tell(&overflow, &writer, 3);
  assert_int_equal(overflow.count, 3); /* no room yet */
  while (pl__ring_peek(&reader, &bytes))
    pl__ring_next(&reader);
  pl__ring_release(&reader);
  pl__overflow_tell(&overflow, &writer, 3);
  assert_non_null(at = pl__ring_peek(&reader, &bytes));
  assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
  assert_int_equal(pl__record_field(&view, &field), 1);
  assert_true(field.number == 3);
  pl__ring_next(&reader);
  pl__overflow_tell(&overflow, &writer, 3);
  assert_null(pl__ring_peek(&reader, &bytes));
}

static void counts_as_dropped_what_stderr_does_not_take(void **state) {
  (void)state;
  uint64_t before = pl__ring_drops(&reader, PL_LEVEL_ERROR), lost = 0;
  fcntl(ends[1], F_SETPIPE_SZ, 4096);
  for (int i = 0; i < 100; i++)
    lost += pl__record_text(&writer, &head, PL_SLICE("a hundred")) != 0;
  assert_in_range(lost, 1, 99);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_ERROR) - before, lost);
}

static void ends_a_line_that_was_cut(void **state) {
  (void)state;
  _Alignas(8) static char memory[PL_LIMIT_LOG_RECORD_BYTES];
  static char large[16000];
  struct pl_record_draft d;
  memset(large, 'x', sizeof large);
  fcntl(ends[1], F_SETPIPE_SZ, 4096);
  pl__record_begin(&d, memory, sizeof memory, &head,
                   pl__slice(large, sizeof large));
  assert_int_equal(pl__record_end(&d, &writer), PL_EFULL);
  assert_int_equal(strlen(written()), 4096);
  assert_int_equal(pl__record_text(&writer, &head, PL_SLICE("next")), 0);
  assert_memory_equal(written(), "\n{\"time\":", 9);
}

static void counts_as_dropped_what_nobody_reads(void **state) {
  (void)state;
  uint64_t before = pl__ring_drops(&reader, PL_LEVEL_ERROR);
  close(ends[0]);
  assert_int_equal(pl__record_text(&writer, &head, PL_SLICE("gone")), PL_EFULL);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_ERROR), before + 1);
}

static void a_descriptor_that_is_none_changes_nothing(void **state) {
  (void)state;
  pl__overflow_detach(&overflow, &writer);
  pl__overflow_attach(&overflow, &writer, -1, &config, NULL);
  assert_int_equal(pl__record_text(&writer, &head, PL_SLICE("lost")), PL_EFULL);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(writes_the_line_at_once),
      FACT(writes_nothing_while_there_is_room),
      FACT(tells_in_the_log_how_many_lines_are_elsewhere),
      FACT(counts_as_dropped_what_stderr_does_not_take),
      FACT(ends_a_line_that_was_cut),
      FACT(counts_as_dropped_what_nobody_reads),
      FACT(a_descriptor_that_is_none_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
