/* test/log/test_format.c - whole lines, as they leave. */
#include "log/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RING_BYTES 131072u
/* 2025-03-09T12:34:56.789Z */
#define TIME_NS (1741523696789ll * 1000000)

static struct pl_ring *ring;
static struct pl_routes *routes;
static struct pl_ring_writer writer;
static struct pl_ring_reader reader;
static struct pl_formatter formatter;
static struct pl_buf out;
static _Alignas(8) char memory[PL_LIMIT_LOG_RECORD_BYTES];

static int make_all(void **state) {
  (void)state;
  static _Alignas(128) char ring_bytes[sizeof(struct pl_ring) + RING_BYTES];
  static struct pl_routes no_routes[PL_ROUTES_TABLES];
  static const struct pl_slice patterns[] = {{"/", 1}, {"/notes/:id<int>", 15}};
  setenv("TZ", "UTC", 1);
  tzset();
  ring = (void *)ring_bytes;
  routes = no_routes;
  pl__ring_init(ring, RING_BYTES);
  pl__ring_writer_init(&writer, ring, -1);
  pl__ring_reader_init(&reader, ring);
  pl__buf_init(&out, NULL, 1 << 20);
  pl__formatter_init(&formatter, PL_LOG_JSON, false, routes);
  return pl__routes_publish(routes, patterns, 2);
}

static int free_all(void **state) {
  (void)state;
  pl__buf_release(&out);
  return 0;
}

/* Formats the next record of the ring; the line is in `out`. */
static const char *line(void) {
  uint32_t bytes;
  const void *at = pl__ring_peek(&reader, &bytes);
  assert_non_null(at);
  out.bytes = 0;
  assert_int_equal(pl__format_record(&formatter, at, bytes, &out), 0);
  pl__ring_next(&reader);
  pl__ring_release(&reader);
  assert_int_equal(out.at[out.bytes - 1], '\n');
  assert_int_equal(pl__buf_append(&out, "", 1), 0);
  out.bytes--;
  return out.at;
}

static struct pl_access typical(void) {
  return (struct pl_access){
      .time_ns = TIME_NS,
      .request_id = 0x1f,
      .duration_ns = 1234567,
      .bytes_in = 100,
      .bytes_out = 250,
      .route = 1,
      .worker = 2,
      .status = 200,
      .method = 1,
      .http_minor = 1,
      .peer = {.port = 4711, .family = PL_PEER_IPV4, .address = {192, 0, 2, 7}},
      .target = PL_SLICE("/notes/7?a=\"b\"")};
}

static const struct pl_record head = {.level = PL_LEVEL_ERROR,
                                      .worker = 2,
                                      .route = PL_RECORD_NO_ROUTE,
                                      .time_ns = TIME_NS};

static void an_access_record_is_one_json_line(void **state) {
  (void)state;
  struct pl_access a = typical();
  pl__record_access(&writer, &a);
  assert_string_equal(
      line(), "{\"time\":\"2025-03-09T12:34:56.789Z\",\"level\":\"info\","
              "\"msg\":\"request\",\"req_id\":\"000000000000001f\","
              "\"route\":\"/notes/:id<int>\",\"method\":\"GET\","
              "\"target\":\"/notes/7?a=\\\"b\\\"\",\"status\":200,"
              "\"duration_ms\":1.234,\"bytes_in\":100,\"bytes_out\":250,"
              "\"remote\":\"192.0.2.7\",\"http\":\"1.1\",\"worker\":2}\n");
}

static void each_field_of_a_request_is_shown_when_asked_for(void **state) {
  (void)state;
  const char *name = PL_ACCESS_FIELD_NAMES;
  for (unsigned i = 0; *name; i++) {
    struct pl_access a = typical();
    char key[32];
    size_t bytes = strcspn(name, " ");
    snprintf(key, sizeof key, ",\"%.*s\":", (int)bytes, name);
    a.aborted = 1;
    a.generation = 1;
    a.trace_id[0] = a.span_id = 1;
    a.labels.tenant = PL_SLICE("acme");
    formatter.access_fields = 1u << i;
    pl__record_access(&writer, &a);
    const char *found = strstr(line(), key);
    assert_non_null(found);
    assert_ptr_equal(found, strstr(out.at, ",\"msg\":\"request\"") + 16);
    assert_null(strstr(found + 1, ",\""));
    name += bytes + (name[bytes] == ' ');
  }
  formatter.access_fields = 0;
  struct pl_access a = typical();
  pl__record_access(&writer, &a);
  assert_string_equal(line(), "{\"time\":\"2025-03-09T12:34:56.789Z\","
                              "\"level\":\"info\",\"msg\":\"request\"}\n");
}

static void whose_request_it_was_stands_behind_its_id(void **state) {
  (void)state;
  struct pl_access a = typical();
  a.trace_id[0] = 0x4bf92f3577b34da6;
  a.trace_id[1] = 0x0e0e4736;
  a.span_id = 0xf067aa0ba902b7;
  a.labels.tenant = PL_SLICE("ac\"me");
  pl__record_access(&writer, &a);
  assert_non_null(strstr(line(),
                         "\"req_id\":\"000000000000001f\","
                         "\"trace_id\":\"4bf92f3577b34da6000000000e0e4736\","
                         "\"span_id\":\"00f067aa0ba902b7\","
                         "\"tenant\":\"ac\\\"me\",\"route\":"));
}

static void the_id_that_a_peer_has_given_takes_the_place_of_ours(void **state) {
  (void)state;
  struct pl_access a = typical();
  a.labels.caller_id = PL_SLICE("7b44-1");
  pl__record_access(&writer, &a);
  assert_non_null(strstr(line(), ",\"req_id\":\"7b44-1\",\"route\""));
  formatter.format = PL_LOG_CONSOLE;
  pl__record_access(&writer, &a);
  assert_non_null(strstr(line(), " req_id=7b44-1 worker=2"));
  formatter.format = PL_LOG_JSON;
}

static void what_an_access_record_lacks_is_left_out(void **state) {
  (void)state;
  struct pl_access a = {.time_ns = TIME_NS,
                        .route = PL_RECORD_NO_ROUTE,
                        .status = 400,
                        .method = 77,
                        .aborted = 1};
  pl__record_access(&writer, &a);
  assert_string_equal(
      line(), "{\"time\":\"2025-03-09T12:34:56.789Z\",\"level\":\"info\","
              "\"msg\":\"request\",\"method\":\"?\",\"target\":\"\","
              "\"status\":400,\"duration_ms\":0.000,\"bytes_in\":0,"
              "\"bytes_out\":0,\"http\":\"1.0\",\"aborted\":true,"
              "\"worker\":0}\n");
}

static void a_route_without_a_known_pattern_shows_its_id(void **state) {
  (void)state;
  struct pl_access a = typical();
  a.route = 9;
  pl__record_access(&writer, &a);
  assert_non_null(strstr(line(), "\"route\":\"#9\""));
  formatter.routes = NULL;
  pl__record_access(&writer, &a);
  assert_non_null(strstr(line(), "\"route\":\"#9\""));
}

static void a_cut_target_says_how_much_is_missing(void **state) {
  (void)state;
  static char target[5000];
  struct pl_access a = typical();
  memset(target, 'x', sizeof target);
  a.target = pl__slice(target, sizeof target);
  pl__record_access(&writer, &a);
  assert_non_null(strstr(line(), "xxx...(+3976 bytes)\""));
}

static void a_log_record_has_its_fields_at_top_level(void **state) {
  (void)state;
  struct pl_record_draft d;
  struct pl_record h = head;
  h.request_id = 0xabc;
  h.route = 0;
  pl__record_begin(&d, memory, sizeof memory, &h, PL_SLICE("a \"b\"\n"));
  pl__record_str(&d, PL_SLICE("name"), PL_SLICE("x\\y"));
  pl__record_num(&d, PL_SLICE("count"), 12);
  pl__record_num(&d, PL_SLICE("ratio"), 0.25);
  pl__record_num(&d, PL_SLICE("none"), NAN);
  pl__record_bool(&d, PL_SLICE("yes"), 1);
  pl__record_bool(&d, PL_SLICE("no"), 0);
  pl__record_end(&d, &writer);
  assert_string_equal(
      line(), "{\"time\":\"2025-03-09T12:34:56.789Z\",\"level\":\"error\","
              "\"msg\":\"a \\\"b\\\"\\n\",\"req_id\":\"0000000000000abc\","
              "\"route\":\"/\",\"worker\":2,\"name\":\"x\\\\y\",\"count\":12,"
              "\"ratio\":0.25,\"none\":null,\"yes\":true,\"no\":false}\n");
}

static void a_field_cannot_stand_in_for_a_fixed_key(void **state) {
  (void)state;
  static const char *const keys[] = {
      "time",      "level",          "msg",    "req_id",      "route",
      "method",    "target",         "status", "duration_ms", "bytes_in",
      "bytes_out", "remote",         "http",   "aborted",     "worker",
      "process",   "fields_left_out"};
  for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) {
    struct pl_record_draft d;
    char expected[64] = ",\"field.";
    pl__record_begin(&d, memory, sizeof memory, &head, PL_SLICE("m"));
    pl__record_bool(&d, pl__slice(keys[i], strlen(keys[i])), 1);
    pl__record_end(&d, &writer);
    strncat(expected, keys[i], 32);
    strncat(expected, "\":true}", 8);
    assert_non_null(strstr(line(), expected));
  }
}

static void cut_texts_and_missing_fields_are_told(void **state) {
  (void)state;
  static char text[5000];
  struct pl_record_draft d;
  memset(text, 'x', sizeof text);
  pl__record_begin(&d, memory, sizeof memory, &head, PL_SLICE("m"));
  for (unsigned i = 0; i < PL_LIMIT_LOG_FIELD_COUNT + 3; i++)
    pl__record_str(&d, PL_SLICE("k"), pl__slice(text, i ? 1 : 5000));
  pl__record_end(&d, &writer);
  const char *at = line();
  assert_non_null(strstr(at, "x...(+904 bytes)\""));
  assert_non_null(strstr(at, ",\"fields_left_out\":3}"));
}

static void master_and_control_have_process_instead_of_worker(void **state) {
  (void)state;
  struct pl_record h = head;
  h.worker = PL_RECORD_MASTER;
  pl__record_text(&writer, &h, PL_SLICE("m"));
  assert_non_null(strstr(line(), ",\"process\":\"master\"}"));
  h.worker = PL_RECORD_CONTROL;
  pl__record_text(&writer, &h, PL_SLICE("m"));
  assert_non_null(strstr(line(), ",\"process\":\"control\"}"));
}

static void the_time_follows_from_record_to_record(void **state) {
  (void)state;
  static const struct {
    int64_t ns;
    const char *text;
  } cases[] = {{0, "\"1970-01-01T00:00:00.000Z\""},
               {TIME_NS, "\"2025-03-09T12:34:56.789Z\""},
               {TIME_NS + 1000000000, "\"2025-03-09T12:34:57.789Z\""},
               {951782400000000000, "\"2000-02-29T00:00:00.000Z\""},
               {-1, "\"1969-12-31T23:59:59.999Z\""},
               {INT64_MAX, "\"2262-04-11T23:47:16.854Z\""},
               {INT64_MIN, "\"1677-09-21T00:12:43.145Z\""}};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct pl_access a = typical();
    uint32_t bytes;
    pl__record_access(&writer, &a);
    struct pl_record *r = (void *)(uintptr_t)pl__ring_peek(&reader, &bytes);
    r->time_ns = cases[i].ns;
    assert_non_null(strstr(line(), cases[i].text));
  }
}

static void the_console_shows_the_same_for_people(void **state) {
  (void)state;
  struct pl_access a = typical();
  struct pl_record_draft d;
  pl__formatter_init(&formatter, PL_LOG_CONSOLE, false, routes);
  pl__record_access(&writer, &a);
  assert_string_equal(line(),
                      "12:34:56.789 INFO  200 GET /notes/7?a=\"b\" 1.234 ms "
                      "250 B 192.0.2.7 req_id=000000000000001f worker=2\n");
  pl__record_begin(&d, memory, sizeof memory, &head,
                   PL_SLICE("failed\nat line 2\x1b[2J"));
  pl__record_str(&d, PL_SLICE("name"), PL_SLICE("x"));
  pl__record_num(&d, PL_SLICE("n"), 3);
  pl__record_end(&d, &writer);
  assert_string_equal(line(),
                      "12:34:56.789 ERROR failed\n  at line 2\\x1b[2J name=x "
                      "n=3 worker=2\n");
}

static void colour_comes_only_when_asked_for(void **state) {
  (void)state;
  struct pl_access a = typical();
  pl__formatter_init(&formatter, PL_LOG_CONSOLE, false, routes);
  pl__record_access(&writer, &a);
  assert_null(strchr(line(), '\x1b'));
  pl__formatter_init(&formatter, PL_LOG_CONSOLE, true, routes);
  pl__record_access(&writer, &a);
  assert_non_null(strstr(line(), "\x1b[32m200\x1b[0m"));
  pl__formatter_init(&formatter, PL_LOG_JSON, true, routes);
  pl__record_access(&writer, &a);
  assert_null(strchr(line(), '\x1b'));
}

static void the_longest_record_has_room_in_its_line(void **state) {
  (void)state;
  static char text[PL_LIMIT_LOG_RECORD_BYTES];
  struct pl_record_draft d;
  for (int format = 0; format < 2; format++)
    for (int byte = 0; byte < 256; byte += 3) {
      memset(text, byte, sizeof text);
      pl__formatter_init(&formatter, (enum pl_log_format)format, true, routes);
      pl__record_begin(&d, memory, sizeof memory, &head,
                       pl__slice(text, sizeof text));
      for (int i = 0; i < 70; i++)
        pl__record_str(&d, pl__slice(text, i % 2 ? 200 : 0),
                       pl__slice(text, (uint32_t)i * 60));
      pl__record_end(&d, &writer);
      pl__buf_release(&out);
      line();
    }
}

static void refuses_what_is_no_record(void **state) {
  (void)state;
  char bytes[64] = {0};
  assert_int_equal(pl__format_record(&formatter, bytes, 10, &out), PL_EBAD);
  assert_int_equal(pl__format_record(&formatter, bytes, 64, &out), PL_EBAD);
  bytes[0] = PL_RECORD_ACCESS;
  assert_int_equal(pl__format_record(&formatter, bytes, 64, &out), PL_EBAD);
  bytes[0] = PL_RECORD_LOG;
  bytes[1] = 9;
  assert_int_equal(pl__format_record(&formatter, bytes, 64, &out), PL_EBAD);
  assert_int_equal(out.bytes, 0);
}

static void appends_nothing_without_memory(void **state) {
  (void)state;
  struct pl_access a = typical();
  uint32_t bytes;
  pl__record_access(&writer, &a);
  const void *at = pl__ring_peek(&reader, &bytes);
  pl__alloc_fail_after(1, true);
  assert_int_equal(pl__format_record(&formatter, at, bytes, &out), PL_ENOMEM);
  pl__alloc_fail_after(0, false);
  assert_int_equal(out.bytes, 0);
  line();
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_all, free_all)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(an_access_record_is_one_json_line),
      FACT(each_field_of_a_request_is_shown_when_asked_for),
      FACT(whose_request_it_was_stands_behind_its_id),
      FACT(the_id_that_a_peer_has_given_takes_the_place_of_ours),
      FACT(what_an_access_record_lacks_is_left_out),
      FACT(a_route_without_a_known_pattern_shows_its_id),
      FACT(a_cut_target_says_how_much_is_missing),
      FACT(a_log_record_has_its_fields_at_top_level),
      FACT(a_field_cannot_stand_in_for_a_fixed_key),
      FACT(cut_texts_and_missing_fields_are_told),
      FACT(master_and_control_have_process_instead_of_worker),
      FACT(the_time_follows_from_record_to_record),
      FACT(the_console_shows_the_same_for_people),
      FACT(colour_comes_only_when_asked_for),
      FACT(the_longest_record_has_room_in_its_line),
      FACT(refuses_what_is_no_record),
      FACT(appends_nothing_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
