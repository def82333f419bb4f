/* bench/metrics.c - what counting costs in C: nanoseconds for one addition to a
 * counter, and for one number in a histogram.
 *
 * Usage: metrics ROUNDS; prints "add NS" and "record NS", each the least of all
 * rounds.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "fabric/shard.h"

#define COUNT 10000000
#define CELL 8u
#define HISTOGRAM 16u

static struct pl_shard *shard;

static void add(void) {
  for (int i = 0; i < COUNT; i++)
    pl__shard_add(shard, CELL, 1);
}

static void record(void) {
  for (int i = 0; i < COUNT; i++)
    pl__shard_record(shard, HISTOGRAM, (i & 4095) * 1e-6);
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

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 5;

  shard = mmap(NULL, sizeof *shard, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (shard == MAP_FAILED)
    return 1;
  printf("add %.2f\n", least_ns(add, rounds));
  printf("record %.2f\n", least_ns(record, rounds));
  return 0;
}
