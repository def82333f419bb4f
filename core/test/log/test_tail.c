/* test/log/test_tail.c - the records that were logged last. */
#include "log/tail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "fabric/record.h"

static struct pl_tail *tail;
static struct pl_buf out;

static int begin(void **state) {
  (void)state;
  tail = pl__tail_new(NULL);
  pl__buf_init(&out, NULL, 8u << 20);
  return tail ? 0 : 1;
}

static int end(void **state) {
  (void)state;
  pl__tail_free(tail);
  pl__buf_release(&out);
  return 0;
}

static void put(enum pl_level level, const char *message, size_t filling) {
  _Alignas(8) static char memory[32768];
  static char text[16384];
  struct pl_record head = {.level = (uint8_t)level,
                           .route = PL_RECORD_NO_ROUTE};
  struct pl_record_draft draft;

  memset(text, 'x', sizeof text);
  pl__record_begin(&draft, memory, sizeof memory, &head,
                   pl__slice_text(message));
  for (size_t left = filling; left; left -= left < 4000 ? left : 4000)
    pl__record_str(&draft, PL_SLICE("filling"),
                   pl__slice(text, left < 4000 ? left : 4000));
  pl__tail_put(tail, draft.at, draft.bytes);
}

/* What there is from that number on, NUL-terminated. */
static const char *from(uint64_t number) {
  out.bytes = 0;
  assert_int_equal(0, pl__tail_json(tail, number, &out));
  assert_int_equal(0, pl__buf_append(&out, "", 1));
  return out.at;
}

static unsigned count(const char *text, const char *what) {
  unsigned n = 0;

  for (const char *at = text; (at = strstr(at, what)); at++)
    n++;
  return n;
}

static void tells_records_in_their_order_as_json(void **state) {
  const char *text;

  (void)state;
  assert_string_equal("{\"next\":1,\"records\":[]}", from(0));
  put(PL_LEVEL_WARN, "one", 0);
  put(PL_LEVEL_INFO, "two", 0);
  put(PL_LEVEL_ERROR, "three", 0);
  text = from(0);
  assert_non_null(strstr(text, "{\"next\":4,\"records\":[{\"number\":1,"));
  assert_true(strstr(text, "\"one\"") < strstr(text, "\"two\""));
  assert_true(strstr(text, "\"two\"") < strstr(text, "\"three\""));
  assert_null(strchr(text, '\n'));
}

static void tells_only_what_is_new_since_a_number(void **state) {
  (void)state;
  put(PL_LEVEL_INFO, "one", 0);
  put(PL_LEVEL_WARN, "two", 0);
  assert_int_equal(1, count(from(2), "\"number\""));
  assert_string_equal("{\"next\":3,\"records\":[]}", from(3));
  assert_int_equal(2, count(from(99), "\"number\"")); /* another server's */
}

static void keeps_warnings_when_others_are_pushed_out(void **state) {
  const char *text;

  (void)state;
  put(PL_LEVEL_WARN, "careful", 0);
  for (unsigned i = 0; i < 3 * PL_TAIL_LANE_RECORDS; i++)
    put(PL_LEVEL_INFO, "chatter", 0);
  text = from(0);
  assert_int_equal(1, count(text, "careful"));
  assert_int_equal(PL_TAIL_LANE_RECORDS, count(text, "chatter"));
}

static void drops_the_oldest_for_lack_of_bytes(void **state) {
  char message[32];
  const char *text;

  (void)state;
  for (unsigned i = 0; i < 500; i++) {
    snprintf(message, sizeof message, "n%u.", i);
    put(PL_LEVEL_INFO, message, 1000 + i * 7 % 3000);
  }
  text = from(0);
  assert_non_null(strstr(text, "n499."));
  assert_null(strstr(text, "\"n0.\""));
  assert_in_range(count(text, "\"number\""), 20, PL_TAIL_LANE_RECORDS);
}

static void leaves_out_what_is_too_large(void **state) {
  (void)state;
  put(PL_LEVEL_INFO, "large", PL_TAIL_RECORD_BYTES_MAX + 1000);
  assert_string_equal("{\"next\":1,\"records\":[]}", from(0));
  pl__tail_put(NULL, "", 0); /* nobody looks */
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)
  const struct CMUnitTest tests[] = {
      CASE(tells_records_in_their_order_as_json),
      CASE(tells_only_what_is_new_since_a_number),
      CASE(keeps_warnings_when_others_are_pushed_out),
      CASE(drops_the_oldest_for_lack_of_bytes),
      CASE(leaves_out_what_is_too_large),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
