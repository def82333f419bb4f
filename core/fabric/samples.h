/* fabric/samples.h - where the processor's time of a worker went: one sample for
 * every few milliseconds of it.
 *
 * One ring per worker, in the section "samples.N", which keeps the last
 * PL_SAMPLES_MAX: 17 minutes of a worker that is never idle, hours of others.
 * A sample is two words, so that a signal handler writes it in a few stores;
 * it is published by a release store of the count.  What a stack's number
 * means is in fabric/stacks.h.
 *
 * One writer, the worker's loop thread; any reader, also when the writer is
 * dead.  Readers copy, and then look whether what they have copied was
 * overwritten meanwhile.
 */
#ifndef PL_FABRIC_SAMPLES_H
#define PL_FABRIC_SAMPLES_H

#include "base/clock.h"
#include "fabric/flights.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_SAMPLES_VERSION 1u
#define PL_SAMPLES_MAX 262144u /* a power of two */
#define PL_SAMPLES_S_MAX 900   /* how far back profiles may reach */

/* What LuaJIT was doing: PL_SAMPLE_LETTERS has a letter for each. */
enum pl_sample_state {
  PL_SAMPLE_COMPILED,
  PL_SAMPLE_INTERPRETED,
  PL_SAMPLE_IN_C,
  PL_SAMPLE_COLLECTOR,
  PL_SAMPLE_COMPILER,
  PL_SAMPLE_STATES
};
#define PL_SAMPLE_LETTERS "NICGJ"

struct pl_sample {
  uint64_t time_ms;    /* monotonic */
  uint32_t weight_us;  /* of the processor's time, that it stands for */
  uint32_t stack;      /* of fabric/stacks.h; PL_STACK_OTHER: not known */
  uint32_t route;      /* as in records; PL_RECORD_NO_ROUTE: none */
  uint32_t generation; /* of the app, which the route's id is of */
  enum pl_phase phase;
  enum pl_sample_state state; /* of PL_PHASE_LUA */
};

/* Lies in the section, all zero at first. */
struct pl_samples {
  _Alignas(64) _Atomic uint64_t count; /* written so far */
  _Alignas(64) struct {
    _Atomic uint64_t when; /* time, route, phase, state */
    _Atomic uint64_t what; /* weight, generation, stack */
  } at[PL_SAMPLES_MAX];
};

/* How much of each there is room for; what is more is cut or becomes none; of a
 * weight it becomes more samples. */
#define PL_SAMPLES_TIME_BITS 38 /* eight years */
#define PL_SAMPLES_ROUTE_BITS 19
#define PL_SAMPLES_PHASE_BITS 4
#define PL_SAMPLES_STATE_BITS 3
#define PL_SAMPLES_WEIGHT_BITS 24 /* 16 seconds */
#define PL_SAMPLES_GENERATION_BITS 20
#define PL_SAMPLES_STACK_BITS 20

/* Writes one.  Fit for signal handlers, but not while another call is under way.
 */
void pl__samples_add(struct pl_samples *table, const struct pl_sample *s);

/* Reads backwards, from the newest one. */
struct pl_samples_reader {
  const struct pl_samples *table;
  uint64_t next; /* the one behind the next; counted from 1 */
  uint64_t end;  /* where to stop */
};

void pl__samples_reader_init(struct pl_samples_reader *r,
                             const struct pl_samples *table);
/* The next older one; false: there is none. */
bool pl__samples_next(struct pl_samples_reader *r, struct pl_sample *out);

#endif /* PL_FABRIC_SAMPLES_H */
