/* test/log/test_timeline.c - traces of what processes have recorded. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, memmem */
#include "log/timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"

#define TEXT_BYTES_MAX (256u << 20)
#define TEXT_BYTES (64u << 20)
#define PIECE 4096u

static struct pl_event_rings *rings;
static struct pl_stopwatch watch;
static struct pl_recorder recorder;
static struct pl_timeline *timeline;
static struct pl_buf text;

static int make_rings(void **state) {
  (void)state;
  rings = mmap(NULL, sizeof *rings, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (rings == MAP_FAILED)
    return -1;
  pl__recorder_open(&recorder, rings, &watch);
  pl__buf_init(&text, NULL, TEXT_BYTES_MAX);
  return pl__buf_reserve(&text, TEXT_BYTES); /* or growing copies it all */
}

static int free_rings(void **state) {
  (void)state;
  pl__timeline_close(timeline);
  timeline = NULL;
  pl__buf_release(&text);
  return munmap(rings, sizeof *rings);
}

static void open_from(double from_s) {
  struct pl_timeline_source source = {
      .events = rings, .tid = 3, .name = "worker 3"};
  struct pl_timeline_options options = {.sources = &source,
                                        .source_count = 1,
                                        .name = "na\"me",
                                        .pid = 77,
                                        .from_s = from_s};

  assert_int_equal(pl__timeline_open(&timeline, &options), 0);
}

static void write_all(void) {
  int status;

  while ((status = pl__timeline_write(timeline, PIECE, &text)) == 1)
    continue;
  assert_int_equal(status, 0);
}

static void end_all(void) {
  int status;

  while ((status = pl__timeline_end(timeline, PIECE, &text)) == 1)
    continue;
  assert_int_equal(status, 0);
  assert_int_equal(pl__buf_append(&text, "", 1), 0);
}

/* Of the whole ring, from a time on, as a string in `text`. */
static void dump(double from_s) {
  open_from(from_s);
  write_all();
  end_all();
}

/* Not strstr: sanitizers measure the whole text for each call of it. */
static uint32_t count_of(const char *what) {
  size_t bytes = strlen(what);
  uint32_t count = 0;

  for (const char *at = text.at; at + bytes < text.at + text.bytes; at++)
    count += *at == *what && memcmp(at, what, bytes) == 0;
  return count;
}

/* Strings end, and brackets match. */
static void assert_is_json(void) {
  char open[64];
  uint32_t depth = 0;
  bool in_string = false;

  for (const char *at = text.at; *at; at++) {
    if (in_string) {
      if (*at == '\\')
        at++;
      else
        in_string = *at != '"';
    } else if (*at == '"') {
      in_string = true;
    } else if (*at == '{' || *at == '[') {
      assert_true(depth < sizeof open);
      open[depth++] = *at;
    } else if (*at == '}' || *at == ']') {
      assert_true(depth > 0);
      assert_int_equal(open[--depth], *at == '}' ? '{' : '[');
    }
  }
  assert_false(in_string);
  assert_int_equal(depth, 0);
}

static void assert_is_balanced(void) {
  assert_is_json();
  assert_int_equal(count_of("\"ph\":\"B\""), count_of("\"ph\":\"E\""));
  assert_int_equal(count_of("\"ph\":\"b\""), count_of("\"ph\":\"e\""));
}

static void assert_has(const char *what) {
  if (!strstr(text.at, what))
    fail_msg("%s is not in %s", what, text.at);
}

static void begin(double at, uint64_t id, uint32_t slot) {
  pl__recorder_often(&recorder, at, 0x1111, 0x2222,
                     pl__event_word(PL_EVENT_TRACE, 0, 0, 0, 0));
  pl__recorder_often(
      &recorder, at, id, slot,
      pl__event_word(PL_EVENT_BEGIN, 0, 0, PL_EVENT_NO_ROUTE, 1));
}

static void end(double at, uint64_t id, uint32_t slot) {
  pl__recorder_often(
      &recorder, at, id, slot,
      pl__event_word(PL_EVENT_END, 0, 200, PL_EVENT_NO_ROUTE, 1));
}

static void park(double at, uint64_t id, unsigned why) {
  pl__recorder_often(&recorder, at, id, 0,
                     pl__event_word(PL_EVENT_PARK, why, 0, 0, 1));
}

static void run(double at, uint64_t id) {
  pl__recorder_often(&recorder, at, id, 0,
                     pl__event_word(PL_EVENT_RUN, PL_EVENT_RUN_WOKEN, 0, 0, 1));
}

/* --- facts ---------------------------------------------------------------- */

static void tells_a_request_that_never_waits(void **state) {
  (void)state;
  begin(1.0, 0xabc, 0);
  end(1.25, 0xabc, 0);
  dump(0);
  assert_is_balanced();
  assert_int_equal(count_of("\"ph\":\"B\""), 1);
  assert_has("\"ts\":1000000.000,\"pid\":77,\"tid\":3");
  assert_has("\"ts\":1250000.000");
  assert_has("\"request\":\"0000000000000abc\"");
  assert_has("\"trace\":\"00000000000011110000000000002222\"");
  assert_has("\"status\":200");
  assert_has("\"name\":\"perilune na\\\"me\"");
  assert_has("\"name\":\"worker 3\"");
}

/* Of one that nobody else knows, when it is kept; not what a process that has
 * died in between has told. */
static void tells_a_trace_that_comes_with_the_end(void **state) {
  const uint64_t word = pl__event_word(PL_EVENT_TRACE, 0, 0, 0, 0);

  (void)state;
  pl__recorder_often(
      &recorder, 1, 0xabc, 0,
      pl__event_word(PL_EVENT_BEGIN, 0, 0, PL_EVENT_NO_ROUTE, 1));
  pl__recorder_often(&recorder, 2, 0x1111, 0x2222, word);
  end(2, 0xabc, 0);
  pl__recorder_often(&recorder, 3, 0x3333, 0x4444, word);
  pl__recorder_often(&recorder, 4, 0, 4711,
                     pl__event_word(PL_EVENT_START, 0, 0, 0, 0));
  pl__recorder_often(
      &recorder, 5, 0xdef, 0,
      pl__event_word(PL_EVENT_BEGIN, 0, 0, PL_EVENT_NO_ROUTE, 1));
  end(6, 0xdef, 0);
  dump(0);
  assert_is_balanced();
  assert_int_equal(count_of("\"trace\":\"00000000000011110000000000002222\""),
                   1);
  assert_int_equal(count_of("\"trace\""), 1);
}

static void tells_why_one_waits_and_the_other_that_runs_meanwhile(void **s) {
  (void)s;
  begin(1, 1, 0);
  park(2, 1, PL_EVENT_PARK_TIMER);
  begin(3, 2, 1);
  end(4, 2, 1);
  run(5, 1);
  end(6, 1, 0);
  dump(0);
  assert_is_balanced();
  assert_int_equal(count_of("\"ph\":\"B\""), 3);
  assert_int_equal(count_of("\"ph\":\"b\""), 2);
  assert_has("\"end\":\"sleeps\"");
  assert_has("\"why\":\"woken\"");
}

static void ends_what_a_dead_process_has_not(void **state) {
  (void)state;
  begin(1, 1, 0);
  park(2, 1, PL_EVENT_PARK_BODY);
  begin(3, 2, 1);
  pl__recorder_often(&recorder, 4, 0, 4711,
                     pl__event_word(PL_EVENT_START, 0, 0, 0, 0));
  begin(5, 3, 0);
  end(6, 3, 0);
  dump(0);
  assert_is_balanced();
  assert_int_equal(count_of("\"end\":\"the worker is gone\""), 3);
  assert_has("\"args\":{\"pid\":4711}");
}

static void ends_what_is_still_under_way(void **state) {
  (void)state;
  begin(1, 1, 0);
  dump(0);
  assert_is_balanced();
  assert_has("\"end\":\"the end of the record\"");
  assert_has("\"end\":\"not yet\"");
}

static void shows_what_had_begun_before_the_window(void **state) {
  (void)state;
  begin(1, 1, 0);
  park(2, 1, PL_EVENT_PARK_TIMER);
  begin(3, 2, 1);
  end(4, 2, 1);
  run(20, 1);
  end(21, 1, 0);
  dump(10);
  assert_is_balanced();
  assert_int_equal(count_of("\"ph\":\"b\""), 1);
  assert_int_equal(count_of("\"ph\":\"B\""), 1);
  assert_has("\"ph\":\"b\",\"ts\":10000000.000");
}

/* As a worker that is stuck in C does: for as long as the window, or longer. */
static void shows_what_has_stood_still_for_all_of_the_window(void **state) {
  (void)state;
  begin(1, 2, 1);
  park(2, 2, PL_EVENT_PARK_TIMER);
  begin(3, 1, 0);
  dump(10);
  assert_is_balanced();
  assert_int_equal(count_of("\"ph\":\"b\",\"ts\":10000000.000"), 2);
  assert_int_equal(count_of("\"end\":\"not yet\""), 2);
  assert_int_equal(count_of("\"ph\":\"B\",\"ts\":10000000.000"), 1);
  assert_has("\"end\":\"the end of the record\"");
}

static void shows_what_ran_before_the_window_and_in_it(void **state) {
  (void)state;
  begin(3, 1, 0);
  end(20, 1, 0);
  dump(10);
  assert_is_balanced();
  assert_has("\"ph\":\"B\",\"ts\":10000000.000");
  assert_has("\"end\":\"answered\"");
}

static void
ends_what_has_died_before_anything_else_in_the_window(void **state) {
  (void)state;
  begin(3, 1, 0);
  pl__recorder_often(&recorder, 20, 0, 4711,
                     pl__event_word(PL_EVENT_START, 0, 0, 0, 0));
  begin(21, 2, 1);
  end(22, 2, 1);
  dump(10);
  assert_is_balanced();
  assert_int_equal(count_of("\"end\":\"the worker is gone\""), 2);
  assert_int_equal(count_of("\"end\":\"not yet\""), 0);
}

static void is_balanced_where_the_ring_has_cut_off_the_beginning(void **s) {
  (void)s;
  for (uint64_t n = 0; n < PL_EVENTS_OFTEN; n++) {
    begin((double)n / 1e4, n + 1, (uint32_t)(n % 16));
    if (n % 3 == 0)
      park(((double)n + 0.1) / 1e4, n + 1, PL_EVENT_PARK_WRITE);
    else
      end(((double)n + 0.2) / 1e4, n + 1, (uint32_t)(n % 16));
  }
  dump(0);
  assert_is_balanced();
  assert_true(count_of("\"ph\":\"B\"") > PL_EVENTS_OFTEN / 4);
}

static void puts_what_is_seldom_between_by_time(void **state) {
  const char *collect, *deadline;

  (void)state;
  begin(1, 1, 0);
  pl__recorder_deadline(&recorder, 2, 1, 0, PL_EVENT_NO_ROUTE, 1);
  end(2, 1, 0);
  pl__recorder_seldom(&recorder, 4, 5000, 500000000,
                      pl__event_word(PL_EVENT_COLLECT, 1, 0, 0, 0));
  dump(0);
  assert_is_balanced();
  deadline = strstr(text.at, "\"name\":\"deadline\"");
  collect = strstr(text.at, "\"name\":\"collect\"");
  assert_non_null(deadline);
  assert_non_null(collect);
  assert_true(deadline < collect);
  assert_has("\"ph\":\"X\",\"ts\":3500000.000,\"pid\":77,\"tid\":3,"
             "\"dur\":500000.000");
}

static void puts_a_mark_together(void **state) {
  (void)state;
  pl__recorder_mark(&recorder,
                    pl__slice("a \"text\" of 26 bytes\n\x01\xff..", 25));
  dump(0);
  assert_is_balanced();
  assert_has("a \\\"text\\\" of 26 bytes\\n");
}

static void follows_what_comes(void **state) {
  (void)state;
  begin(1, 1, 0);
  open_from(0);
  write_all();
  end(2, 1, 0);
  begin(3, 2, 0);
  end(4, 2, 0);
  write_all();
  pl__timeline_look(timeline);
  write_all();
  end_all();
  assert_is_balanced();
  assert_int_equal(count_of("\"ph\":\"B\""), 2);
  assert_int_equal(count_of("\"status\":200"), 4);
}

static void says_what_it_has_missed(void **state) {
  (void)state;
  begin(1, 1, 0);
  open_from(0);
  for (uint64_t n = 0; n < PL_EVENTS_OFTEN; n++)
    run(2, 1);
  pl__timeline_look(timeline);
  write_all();
  end_all();
  assert_is_balanced();
  assert_has("events lost");
}

/* Or one event of a wild worker would take all behind it along. */
static void leaves_out_what_has_not_happened_yet(void **state) {
  (void)state;
  begin(1, 1, 0);
  end(2, 1, 0);
  recorder.last = 0;
  pl__recorder_seldom(&recorder, 9e8, 0, 1,
                      pl__event_word(PL_EVENT_LAG, 0, 0, 0, 0));
  recorder.last = 0;
  pl__recorder_seldom(&recorder, 9e11, 0, 1,
                      pl__event_word(PL_EVENT_LAG, 0, 0, 0, 0));
  recorder.last = 2;
  begin(3, 2, 0);
  end(4, 2, 0);
  dump(0);
  assert_is_balanced();
  assert_int_equal(count_of("a long turn"), 0);
  assert_has("\"ph\":\"e\",\"ts\":4000000.000");
}

/* A worker that has gone wild may have left anything. */
static void survives_any_bytes_at_all(void **state) {
  (void)state;
  srand(7);
  for (uint32_t round = 0; round < 4; round++) {
    for (uint32_t n = 0; n < 20000; n++)
      for (unsigned i = 0; i < 4; i++) {
        uint64_t word =
            (uint64_t)rand() << 33 ^ (uint64_t)rand() << 11 ^ (uint64_t)rand();
        if (i == 3 && round % 2) /* kinds that there are */
          word = (word & ~0xffull) | (word & 0xff) % PL_EVENT_KINDS;
        if (i == 0 && round % 2) {
          double at = (double)(rand() % 1000);
          memcpy(&word, &at, sizeof word);
        }
        if (i == 2 && round > 1)
          word %= 70000;
        atomic_store(&rings->often[n].words[i], word);
        atomic_store(&rings->seldom[n % PL_EVENTS_SELDOM].words[i], word);
      }
    atomic_store(&rings->often_head, 20000);
    atomic_store(&rings->seldom_head, UINT64_MAX - 5);
    pl__buf_release(&text);
    dump(0);
    assert_is_balanced();
    pl__timeline_close(timeline);
    timeline = NULL;
  }
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, make_rings, free_rings)

int main(void) {
  const struct CMUnitTest tests[] = {
      EACH(tells_a_request_that_never_waits),
      EACH(tells_a_trace_that_comes_with_the_end),
      EACH(tells_why_one_waits_and_the_other_that_runs_meanwhile),
      EACH(ends_what_a_dead_process_has_not),
      EACH(ends_what_is_still_under_way),
      EACH(shows_what_had_begun_before_the_window),
      EACH(shows_what_has_stood_still_for_all_of_the_window),
      EACH(shows_what_ran_before_the_window_and_in_it),
      EACH(ends_what_has_died_before_anything_else_in_the_window),
      EACH(is_balanced_where_the_ring_has_cut_off_the_beginning),
      EACH(puts_what_is_seldom_between_by_time),
      EACH(puts_a_mark_together),
      EACH(follows_what_comes),
      EACH(says_what_it_has_missed),
      EACH(leaves_out_what_has_not_happened_yet),
      EACH(survives_any_bytes_at_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
