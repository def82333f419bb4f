/* test/server/test_casualty.c - the records about a dead worker, also one that
 * has written nonsense into the fabric.
 */
#include "server/casualty.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "fabric/flights.h"
#include "fabric/routes.h"
#include "log/format.h"
#include "server/crash.h"

#include <signal.h>
#include <string.h>

#define SLOTS 64u
#define MS ((int64_t)PL_NS_PER_MS)
#define NOW (100000 * MS)
#define RING_BYTES 262144u

static struct pl_crash crash;
static struct pl_routes routes[PL_ROUTES_TABLES];
static _Alignas(64) char memory[sizeof(struct pl_flights) +
                                SLOTS * sizeof(struct pl_flight)];
static struct pl_flights *flights = (void *)memory;
static _Alignas(128) char ring_memory[sizeof(struct pl_ring) + RING_BYTES];
static struct pl_ring_writer writer;
static struct pl_casualty casualty;
static char text[RING_BYTES]; /* the records, as lines of JSON */

static int make_all(void **state) {
  struct pl_slice patterns[] = {PL_SLICE("GET /first"),
                                PL_SLICE("GET /second")};

  (void)state;
  memset(&crash, 0, sizeof crash);
  memset(routes, 0, sizeof routes);
  pl__routes_publish(routes, patterns, 2);
  pl__flights_init(flights, SLOTS);
  pl__ring_init((void *)ring_memory, RING_BYTES);
  pl__ring_writer_init(&writer, (void *)ring_memory, -1);
  casualty = (struct pl_casualty){.worker = 3,
                                  .pid = 10,
                                  .signal = SIGSEGV,
                                  .now_ns = NOW,
                                  .flights = flights,
                                  .slot_count = SLOTS,
                                  .crash = &crash,
                                  .routes = routes};
  return 0;
}

/* A report that came to its end. */
static void report(int32_t signal, int32_t code, int32_t sender) {
  crash.pid = 10;
  crash.signal = signal;
  crash.code = code;
  crash.sender = sender;
  crash.address = 0x10;
  memcpy(crash.backtrace, "#0 a\n#1 b\n", sizeof "#0 a\n#1 b\n");
  memcpy(crash.traceback, "app.lua:7\n", sizeof "app.lua:7\n");
  atomic_store(&crash.stage, PL_CRASH_LUA);
}

/* The handler of route 1 runs in slot 2, for half a second. */
static void run_handler(void) {
  pl__flight_begin(flights, 2, 0xabc, 0, 1, NOW - 500 * MS);
  pl__flight_run(flights, 3, PL_PHASE_LUA);
}

/* Logs, and formats what was logged; returns how many records. */
static uint32_t log_lines(uint32_t level_min) {
  struct pl_formatter formatter;
  struct pl_ring_reader reader;
  struct pl_buf out;
  const void *record;
  uint32_t bytes, count = 0;

  pl__casualty_log(&casualty, &writer, level_min);
  pl__formatter_init(&formatter, PL_LOG_JSON, false, routes);
  pl__buf_init(&out, NULL, RING_BYTES - 1);
  pl__ring_reader_init(&reader, (void *)ring_memory);
  while ((record = pl__ring_peek(&reader, &bytes))) {
    assert_int_equal(pl__format_record(&formatter, record, bytes, &out), 0);
    pl__ring_next(&reader);
    count++;
  }
  memcpy(text, out.at, out.bytes);
  text[out.bytes] = '\0';
  pl__buf_release(&out);
  return count;
}

static void has(const char *part) {
  if (!strstr(text, part))
    fail_msg("%s\nis not in\n%s", part, text);
}

static void has_not(const char *part) {
  if (strstr(text, part))
    fail_msg("%s\nis in\n%s", part, text);
}

static uint32_t count_of(const char *part) {
  uint32_t count = 0;

  for (const char *at = text; (at = strstr(at, part)); at++)
    count++;
  return count;
}

static void names_the_request_that_ran(void **state) {
  (void)state;
  run_handler();
  report(SIGSEGV, SEGV_MAPERR, 0);
  assert_int_equal(pl__casualty_cause(&casualty), PL_CASUALTY_CRASHED);
  assert_int_equal(pl__casualty_blamed(&casualty), 1);
  assert_int_equal(log_lines(PL_LEVEL_DEBUG), 1);
  has("\"level\":\"error\",\"msg\":\"a worker crashed\"");
  has("\"req_id\":\"0000000000000abc\",\"route\":\"GET /second\",\"worker\":3");
  has("\"pid\":10,\"signal\":\"SIGSEGV\",\"address\":\"0x10\","
      "\"code\":\"SEGV_MAPERR\",\"phase\":\"lua\",\"age_ms\":500,"
      "\"in_flight\":1");
  has("\"traceback\":\"app.lua:7\"");
  has("\"backtrace\":\"#0 a\\n#1 b\"");
  has_not("last_route");
  has_not("sender");
}

static void blames_nobody_but_tells_the_last_when_nothing_ran(void **state) {
  (void)state;
  run_handler();
  pl__flight_end(flights, 2);
  pl__flight_run(flights, PL_FLIGHT_NONE, PL_PHASE_CORE);
  assert_int_equal(pl__casualty_blamed(&casualty), PL_RECORD_NO_ROUTE);
  assert_int_equal(log_lines(PL_LEVEL_DEBUG), 1);
  has("a worker crashed"); /* by a fault, though it has left no report */
  has("\"phase\":\"core\",\"in_flight\":0,\"last_route\":\"GET /second\"");
  has_not("req_id");
  has_not("\"route\"");
  has_not("backtrace");
}

static void blames_nobody_for_a_finalizer(void **state) {
  (void)state;
  run_handler();
  pl__flight_run(flights, 3, PL_PHASE_COLLECT);
  assert_null(pl__casualty_running(&casualty));
  assert_int_equal(log_lines(PL_LEVEL_DEBUG), 2);
  has("\"phase\":\"collect\"");
  has("a request was lost with its worker"); /* it waited meanwhile */
}

static void takes_no_blame_from_a_signal_that_somebody_sent(void **state) {
  (void)state;
  run_handler();
  report(SIGSEGV, SI_USER, 99);
  assert_int_equal(pl__casualty_cause(&casualty), PL_CASUALTY_KILLED);
  assert_int_equal(pl__casualty_blamed(&casualty), PL_RECORD_NO_ROUTE);
  log_lines(PL_LEVEL_DEBUG);
  has("a worker was killed");
  has("\"code\":\"SI_USER\",\"sender\":99");
  has_not("address");
}

static void takes_an_abort_of_its_own_for_a_crash(void **state) {
  (void)state;
  run_handler();
  report(SIGABRT, SI_TKILL, 10);
  assert_int_equal(pl__casualty_cause(&casualty), PL_CASUALTY_CRASHED);
  log_lines(PL_LEVEL_DEBUG);
  has_not("sender");
}

static void tells_that_it_stood_still(void **state) {
  (void)state;
  run_handler();
  report(SIGABRT, SI_TKILL, 1);
  casualty.stuck = true;
  assert_int_equal(pl__casualty_cause(&casualty), PL_CASUALTY_STUCK);
  assert_int_equal(pl__casualty_blamed(&casualty), 1);
  log_lines(PL_LEVEL_DEBUG);
  has("a worker stood still and was killed");
}

static void tells_the_signal_that_began_it(void **state) {
  (void)state;
  report(SIGSEGV, SEGV_MAPERR, 0);
  casualty.signal = SIGALRM; /* the handler's own watchdog */
  log_lines(PL_LEVEL_DEBUG);
  has("\"signal\":\"SIGSEGV\"");
}

static void ignores_the_report_of_another_process(void **state) {
  (void)state;
  report(SIGSEGV, SEGV_MAPERR, 0);
  casualty.pid = 11;
  casualty.signal = SIGKILL;
  assert_int_equal(pl__casualty_cause(&casualty), PL_CASUALTY_KILLED);
  log_lines(PL_LEVEL_DEBUG);
  has("\"signal\":\"SIGKILL\"");
  has_not("backtrace");
}

static void names_each_request_that_was_lost(void **state) {
  (void)state;
  for (uint32_t i = 10; i < 13; i++)
    pl__flight_begin(flights, i, i, 0, 0, NOW - i * MS);
  run_handler();
  assert_int_equal(log_lines(PL_LEVEL_DEBUG), 4);
  has("\"in_flight\":4");
  has("\"level\":\"warn\",\"msg\":\"a request was lost with its worker\","
      "\"req_id\":\"000000000000000b\",\"route\":\"GET /first\",\"worker\":3,"
      "\"age_ms\":11}");
  assert_int_equal(count_of("0000000000000abc"), 1); /* it is named already */
}

static void names_so_many_and_counts_the_others(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 40; i++)
    pl__flight_begin(flights, i, i, 0, 0, NOW);
  pl__flight_run(flights, PL_FLIGHT_NONE, PL_PHASE_CORE);
  assert_int_equal(log_lines(PL_LEVEL_DEBUG), 1 + PL_CASUALTY_LOST_MAX + 1);
  assert_int_equal(count_of("a request was lost"), PL_CASUALTY_LOST_MAX);
  has("\"msg\":\"more requests were lost with their worker\"");
  has("\"count\":8}");
}

static void leaves_warnings_out_below_their_level(void **state) {
  (void)state;
  pl__flight_begin(flights, 1, 1, 0, 0, NOW);
  pl__flight_run(flights, PL_FLIGHT_NONE, PL_PHASE_CORE);
  assert_int_equal(log_lines(PL_LEVEL_ERROR), 1);
}

/* All that a worker can write, full of one byte. */
static void fill_with(int byte) {
  memset(memory, byte, sizeof memory);
  memset(&crash, byte, sizeof crash);
  memset(routes, byte, sizeof routes);
}

static void believes_nothing_of_a_worker_that_went_wild(void **state) {
  static const int bytes[] = {0x01, 0x22, 0x7f, 0x80, 0xff};

  for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
    make_all(state);
    fill_with(bytes[i]);
    atomic_store(&routes[0].state, UINT64_MAX); /* as if it were published */
    crash.pid = 10;
    assert_true(log_lines(PL_LEVEL_DEBUG) >= 1);
    has("a worker ");
  }
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup(name, make_all)
  const struct CMUnitTest tests[] = {
      CASE(names_the_request_that_ran),
      CASE(blames_nobody_but_tells_the_last_when_nothing_ran),
      CASE(blames_nobody_for_a_finalizer),
      CASE(takes_no_blame_from_a_signal_that_somebody_sent),
      CASE(takes_an_abort_of_its_own_for_a_crash),
      CASE(tells_that_it_stood_still),
      CASE(tells_the_signal_that_began_it),
      CASE(ignores_the_report_of_another_process),
      CASE(names_each_request_that_was_lost),
      CASE(names_so_many_and_counts_the_others),
      CASE(leaves_warnings_out_below_their_level),
      CASE(believes_nothing_of_a_worker_that_went_wild),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
