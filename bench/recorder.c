/* bench/recorder.c - what the flight recorder costs in C: nanoseconds for an
 * event whose time is known, for one that reads the processor's counter, and
 * for all three of a request that never waits; and milliseconds for the trace of
 * a ring that is full.
 *
 * Usage: recorder ROUNDS; prints "known NS", "read NS", "request NS" and
 * "dump MS", each the least of all rounds.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "fabric/events.h"
#include "log/timeline.h"

#define COUNT 5000000

static struct pl_event_rings *rings;
static struct pl_stopwatch watch;
static struct pl_recorder recorder;

static void look(int i) {
  if ((i & 255) == 0) /* as a worker does, once per turn */
    pl__stopwatch_look(&watch);
}

static void known(void) {
  for (int i = 0; i < COUNT; i++)
    pl__recorder_often(&recorder, i * 1e-6, (uint64_t)i, 7,
                       pl__event_word(PL_EVENT_PARK, 1, 0, 3, 1));
}

static void read_time(void) {
  for (int i = 0; i < COUNT; i++) {
    look(i);
    pl__recorder_often(&recorder, pl__recorder_now(&recorder), (uint64_t)i, 7,
                       pl__event_word(PL_EVENT_PARK, 1, 0, 3, 1));
  }
}

static void request(void) {
  for (int i = 0; i < COUNT; i++) {
    double now = recorder.last + 1e-6;
    pl__recorder_often(&recorder, now, (uint64_t)i, (uint64_t)i,
                       pl__event_word(PL_EVENT_TRACE, 0, 0, 0, 0));
    pl__recorder_often(&recorder, now, (uint64_t)i + 1, (uint64_t)i & 1023,
                       pl__event_word(PL_EVENT_BEGIN, 0, 1, 3, 1));
    pl__recorder_often(&recorder, now, (uint64_t)i + 1, (uint64_t)i & 1023,
                       pl__event_word(PL_EVENT_END, 0, 200, 3, 1));
  }
}

static double least_ns(void (*work)(void), int rounds) {
  double least = 1e9;

  for (int i = 0; i < rounds; i++) {
    int64_t begin = pl__clock_thread_cpu_ns();
    work();
    double ns = (double)(pl__clock_thread_cpu_ns() - begin) / COUNT;
    least = ns < least ? ns : least;
  }
  return least;
}

/* Of what `request` has left. */
static double dump_ms(int rounds) {
  struct pl_timeline_source source = {.events = rings, .name = "worker 0"};
  struct pl_timeline_options options = {
      .sources = &source, .source_count = 1, .name = "bench"};
  double least = 1e9;

  for (int i = 0; i < rounds; i++) {
    int64_t begin = pl__clock_thread_cpu_ns();
    struct pl_timeline *t;
    struct pl_buf out;
    double ms;
    pl__buf_init(&out, NULL, PL_TIMELINE_PIECE_BYTES + PL_TIMELINE_OVER_BYTES);
    if (pl__timeline_open(&t, &options))
      exit(1);
    while (pl__timeline_write(t, PL_TIMELINE_PIECE_BYTES, &out) == 1)
      out.bytes = 0;
    pl__timeline_close(t);
    pl__buf_release(&out);
    ms = (double)(pl__clock_thread_cpu_ns() - begin) / PL_NS_PER_MS;
    least = ms < least ? ms : least;
  }
  return least;
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 5;

  rings = mmap(NULL, sizeof *rings, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (rings == MAP_FAILED)
    return 1;
  pl__recorder_open(&recorder, rings, &watch);
  for (int i = 0; i < 100; i++) { /* it learns how fast the counter counts */
    pl__stopwatch_look(&watch);
    usleep(1000);
  }
  printf("read %.2f\n", least_ns(read_time, rounds));
  recorder.last = 0;
  printf("known %.2f\n", least_ns(known, rounds));
  printf("request %.2f\n", least_ns(request, rounds));
  printf("dump %.2f\n", dump_ms(rounds));
  return 0;
}
