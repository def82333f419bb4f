/* test/fabric/test_sampler.c - what is left out is known to the last one. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "fabric/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#include <stdio.h>
#include <sys/mman.h>

#define RING_BYTES 65536u

static struct pl_ring *ring;
static struct pl_ring_writer writer;
static struct pl_ring_reader reader;
static struct pl_sampler sampler;
static const struct pl_record head = {.worker = 2, .route = PL_RECORD_NO_ROUTE};

static int set_up(void **state) {
  (void)state;
  ring = mmap(NULL, pl__ring_section_bytes(RING_BYTES), PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ring == MAP_FAILED)
    return -1;
  pl__ring_init(ring, RING_BYTES);
  pl__ring_writer_init(&writer, ring, -1);
  pl__ring_reader_init(&reader, ring);
  pl__sampler_init(&sampler, 12345);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__sampler_deinit(&sampler);
  return munmap(ring, pl__ring_section_bytes(RING_BYTES));
}

/* How many of `count` records in that second are written. */
static int admitted(enum pl_level level, const char *message, int count,
                    int64_t second) {
  int n = 0;
  for (int i = 0; i < count; i++)
    n += pl__sampler_admit(&sampler, level, pl__slice(message, strlen(message)),
                           second * (int64_t)PL_NS_PER_S + i);
  return n;
}

/* The sum of all counts told, and of how many sites; the ring is read. */
static double told(int *sites) {
  double sum = 0;
  const void *at;
  uint32_t bytes;
  *sites = 0;
  while ((at = pl__ring_peek(&reader, &bytes))) {
    struct pl_record_log_view view;
    struct pl_field field;
    assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
    while (pl__record_field(&view, &field) == 1)
      if (field.type == PL_FIELD_NUMBER)
        sum += field.number;
    ++*sites;
    pl__ring_next(&reader);
  }
  pl__ring_release(&reader);
  return sum;
}

static void writes_all_until_it_is_set(void **state) {
  (void)state;
  assert_int_equal(admitted(PL_LEVEL_INFO, "m", 1000, 1), 1000);
  assert_null(sampler.sites);
}

static void writes_the_first_and_then_every_so_manieth(void **state) {
  (void)state;
  assert_int_equal(pl__sampler_set(&sampler, 10, 100), 0);
  assert_int_equal(admitted(PL_LEVEL_INFO, "m", 1010, 1), 10 + 10);
  assert_int_equal(admitted(PL_LEVEL_INFO, "m", 5, 2), 5);
  assert_int_equal(pl__sampler_set(&sampler, 10, 0), 0);
  assert_int_equal(admitted(PL_LEVEL_INFO, "m", 1000, 3), 10);
}

static void counts_each_level_and_message_for_itself(void **state) {
  (void)state;
  pl__sampler_set(&sampler, 3, 0);
  assert_int_equal(admitted(PL_LEVEL_INFO, "a", 10, 1), 3);
  assert_int_equal(admitted(PL_LEVEL_INFO, "b", 10, 1), 3);
  assert_int_equal(admitted(PL_LEVEL_DEBUG, "a", 10, 1), 3);
  assert_int_equal(admitted(PL_LEVEL_ERROR, "a", 10, 1), 10);
}

static void tells_what_was_left_out_once_a_second(void **state) {
  struct pl_record_log_view view;
  struct pl_record read;
  struct pl_field field;
  uint32_t bytes;
  int sites;
  (void)state;
  pl__sampler_set(&sampler, 3, 0);
  admitted(PL_LEVEL_WARN, "many of these", 10, 1);
  pl__sampler_tell(&sampler, &writer, &head, PL_NS_PER_S, false);
  const void *at = pl__ring_peek(&reader, &bytes);
  assert_non_null(at);
  assert_int_equal(pl__record_read(at, bytes, &read), 0);
  assert_int_equal(read.level, PL_LEVEL_WARN);
  assert_int_equal(read.worker, 2);
  assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
  assert_int_equal(pl__record_field(&view, &field), 1);
  assert_memory_equal(field.text.at, "many of these", field.text.bytes);
  assert_true(told(&sites) == 7);
  admitted(PL_LEVEL_WARN, "many of these", 10, 1);
  pl__sampler_tell(&sampler, &writer, &head, PL_NS_PER_S, false);
  assert_true(told(&sites) == 0);
  pl__sampler_tell(&sampler, &writer, &head, 2 * (int64_t)PL_NS_PER_S, false);
  assert_true(told(&sites) == 10);
  admitted(PL_LEVEL_WARN, "many of these", 10, 2);
  pl__sampler_tell(&sampler, &writer, &head, 2 * (int64_t)PL_NS_PER_S, true);
  assert_true(told(&sites) == 7);
  assert_int_equal(sampler.away, 0);
}

static void forgets_no_count_that_found_no_room(void **state) {
  int sites;
  (void)state;
  pl__sampler_set(&sampler, 1, 0);
  admitted(PL_LEVEL_INFO, "m", 50, 1);
  struct pl_record h = {.level = PL_LEVEL_ERROR};
  while (!pl__record_text(&writer, &h, PL_SLICE(""))) {
  }
  pl__sampler_tell(&sampler, &writer, &head, 0, true);
  assert_int_equal(sampler.away, 49);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_INFO), 0);
  told(&sites);
  pl__sampler_tell(&sampler, &writer, &head, 0, true);
  assert_true(told(&sites) == 49);
}

static void is_exact_with_more_messages_than_places(void **state) {
  double left_out = 0;
  int written = 0, sites;
  (void)state;
  pl__sampler_set(&sampler, 2, 10);
  for (int second = 1; second <= 5; second++) {
    for (int i = 0; i < 1000; i++) {
      char text[32];
      snprintf(text, sizeof text, "message %d", i);
      written += admitted(PL_LEVEL_INFO, text, 20, second);
    }
    pl__sampler_tell(&sampler, &writer, &head,
                     (second + 1) * (int64_t)PL_NS_PER_S, false);
    left_out += told(&sites);
    assert_in_range(sites, 1, PL_SAMPLER_SITES);
  }
  assert_true(written + left_out == 5 * 1000 * 20);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(writes_all_until_it_is_set),
      FACT(writes_the_first_and_then_every_so_manieth),
      FACT(counts_each_level_and_message_for_itself),
      FACT(tells_what_was_left_out_once_a_second),
      FACT(forgets_no_count_that_found_no_room),
      FACT(is_exact_with_more_messages_than_places),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
