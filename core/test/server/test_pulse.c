/* test/server/test_pulse.c - who counts as silent, and who looks late. */
#include "server/pulse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"

#define MS ((int64_t)PL_NS_PER_MS)
#define START (1000 * MS)

static struct pl_pulse pulse;

/* Looks as often as the master does, up to that time. */
static void look_until(int64_t from_ns, int64_t to_ns) {
  for (int64_t at = from_ns; at < to_ns; at += PL_PULSE_LOOK_MS * MS)
    pl__pulse_look(&pulse, at);
  pl__pulse_look(&pulse, to_ns);
}

static int make_pulse(void **state) {
  (void)state;
  pl__pulse_init(&pulse, 10);
  pl__pulse_look(&pulse, START);
  return 0;
}

#define JUDGES(beat_ns, now_ns, verdict)                                       \
  assert_int_equal(pl__pulse_judge(&pulse, (beat_ns), (now_ns)), (verdict))

static void finds_a_worker_silent_after_a_second(void **state) {
  int64_t now = START + 999 * MS;

  (void)state;
  look_until(START, now);
  JUDGES(START, now, PL_PULSE_BEATING);
  look_until(now, now + MS);
  JUDGES(START, now + MS, PL_PULSE_SILENT);
  JUDGES(now, now + MS, PL_PULSE_BEATING);
}

static void finds_it_stuck_after_the_time_for_that(void **state) {
  int64_t now = START + 9999 * MS;

  (void)state;
  look_until(START, now);
  JUDGES(START, now, PL_PULSE_SILENT);
  look_until(now, now + MS);
  JUDGES(START, now + MS, PL_PULSE_STUCK);
}

static void takes_no_beat_yet_for_no_silence(void **state) {
  (void)state;
  look_until(START, START + 20000 * MS);
  JUDGES(0, START + 20000 * MS, PL_PULSE_BEATING);
}

static void forgives_silence_when_it_looks_late_itself(void **state) {
  int64_t now = START + 3000 * MS;

  (void)state;
  pl__pulse_look(&pulse, now); /* 3 s later */
  JUDGES(START, now, PL_PULSE_BEATING);
  look_until(now, now + 999 * MS);
  JUDGES(START, now + 999 * MS, PL_PULSE_BEATING);
  look_until(now + 999 * MS, now + 1000 * MS);
  JUDGES(START, now + 1000 * MS, PL_PULSE_SILENT);
}

static void gives_the_whole_time_anew_after_a_long_pause(void **state) {
  int64_t now = START + 60000 * MS;

  (void)state;
  pl__pulse_look(&pulse, now);
  look_until(now, now + 9999 * MS);
  JUDGES(START, now + 9999 * MS, PL_PULSE_SILENT);
  look_until(now + 9999 * MS, now + 10000 * MS);
  JUDGES(START, now + 10000 * MS, PL_PULSE_STUCK);
}

static void a_short_time_comes_before_silence(void **state) {
  (void)state;
  pl__pulse_init(&pulse, 0.3);
  assert_int_equal(pl__pulse_due(&pulse, START), START + 75 * MS);
  for (int64_t at = START; at <= START + 300 * MS; at += 75 * MS)
    pl__pulse_look(&pulse, at);
  JUDGES(START, START + 299 * MS, PL_PULSE_BEATING);
  JUDGES(START, START + 300 * MS, PL_PULSE_STUCK);
}

static void looks_four_times_a_second_else(void **state) {
  (void)state;
  assert_int_equal(pl__pulse_due(&pulse, START), START + 250 * MS);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup(name, make_pulse)
  const struct CMUnitTest tests[] = {
      CASE(finds_a_worker_silent_after_a_second),
      CASE(finds_it_stuck_after_the_time_for_that),
      CASE(takes_no_beat_yet_for_no_silence),
      CASE(forgives_silence_when_it_looks_late_itself),
      CASE(gives_the_whole_time_anew_after_a_long_pause),
      CASE(a_short_time_comes_before_silence),
      CASE(looks_four_times_a_second_else),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
