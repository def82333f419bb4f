/* bench/spans/host.c - what spans cost in the core: noting a wait, forgetting
 * and keeping a request with and without notes.
 *
 * Prints one line per case: name, nanoseconds of CPU, bytes in the ring; medians
 * of rounds.  Built and run by bench/spans.lua. */
#include "base/alloc.h"
#include "vm/coro.h"
#include "vm/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define ROUNDS_MAX 99
#define REQUESTS 20000
#define NOTES 48u

static struct pl_vm vm;
static struct pl_vm_slot slot;
static struct pl_tracer tracer;
static struct pl_tracing tracing;
static struct pl_stopwatch watch;
static struct pl_coro coro;
static struct pl_req req;
static struct pl_spans *spans;

static double now_ns(void) {
  struct timespec t;

  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void set_up(void) {
  spans = mmap(NULL, pl__spans_section_bytes(PL_LIMIT_SPAN_RING_BYTES),
               PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (spans == MAP_FAILED || pl__spans_init(spans, PL_LIMIT_SPAN_RING_BYTES))
    exit(1);
  pl__stopwatch_look(&watch);
  for (int i = 0; i < 50; i++) { /* it learns */
    struct timespec pause = {.tv_nsec = 2000000};
    nanosleep(&pause, NULL);
    pl__stopwatch_look(&watch);
  }
  pl__tracer_init(&tracer, spans, &tracing, &watch, 0);
  pl__tracer_sample(&tracer, 0.01);
  pl__random_seed(&vm.random);
  vm.slots = &slot;
  vm.options.slot_count = 1;
  vm.options.tracer = &tracer;
  coro.vm = &vm;
  coro.req = &req;
  req.status = 200;
  req.received = pl__tracer_now(&tracer);
  req.target = PL_SLICE("/notes/7?page=1");
  req.context.trace_id[0] = 1;
  req.context.trace_id[1] = PL_TRACE_ID_MASK;
  req.context.span_id = 3;
}

/* One request with so many waits; the ring is emptied as if it were read. */
static void one(uint32_t notes, bool keep) {
  struct pl_trace_end e = {.req = &req, .end = req.received + 0.001};
  struct pl_ring *ring = pl__spans_ring(spans);

  req.context.trace_flags = keep ? PL_TRACE_SAMPLED : 0;
  for (uint32_t i = 0; i < notes; i++) {
    pl__trace_wait(&coro, PL_WAIT_TIMER);
    pl__trace_waited(&coro);
  }
  pl__trace_end_request(&tracer, &vm, &e);
  atomic_store_explicit(&ring->head,
                        atomic_load_explicit(&ring->tail, memory_order_relaxed),
                        memory_order_release);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;

  return x < y ? -1 : x > y;
}

/* ns of a request, the median of the rounds. */
static double measure(int rounds, uint32_t notes, bool keep) {
  double seen[ROUNDS_MAX];

  for (int round = 0; round < rounds; round++) {
    double from;
    pl__stopwatch_look(&watch);
    from = now_ns();
    for (int i = 0; i < REQUESTS; i++) {
      one(notes, keep);
      if (i % 100 == 0)
        pl__stopwatch_look(&watch);
    }
    seen[round] = (now_ns() - from) / REQUESTS;
  }
  qsort(seen, (size_t)rounds, sizeof *seen, compare);
  return seen[rounds / 2];
}

static double ring_bytes(uint32_t notes) {
  struct pl_ring *ring = pl__spans_ring(spans);
  uint64_t from = atomic_load(&ring->tail);

  one(notes, true);
  return (double)(atomic_load(&ring->tail) - from);
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 9;
  double forgotten, kept, forgotten_many, kept_many, bytes;

  if (rounds < 1 || rounds > ROUNDS_MAX)
    return 2;
  set_up();
  forgotten = measure(rounds, 0, false);
  kept = measure(rounds, 0, true);
  forgotten_many = measure(rounds, NOTES, false);
  kept_many = measure(rounds, NOTES, true);
  bytes = ring_bytes(0);
  printf("name=request_forgotten ns=%.1f bytes=0\n", forgotten);
  printf("name=request_kept ns=%.1f bytes=%.0f\n", kept, bytes);
  printf("name=wait_forgotten ns=%.1f bytes=0\n",
         (forgotten_many - forgotten) / NOTES);
  printf("name=wait_kept ns=%.1f bytes=%.0f\n", (kept_many - kept) / NOTES,
         (ring_bytes(NOTES) - bytes) / NOTES);
  return 0;
}
