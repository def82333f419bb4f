/* fabric/flights.h - which requests a worker has in its hands, for those who
 * must name them when it no longer can.
 *
 * A worker writes an entry before a handler runs, and frees it when the request
 * has ended.  Entries are by slot, as the requests are.  `running` tells whose
 * Lua is being run at this moment, which is who is to blame when the worker
 * dies or stands still; a handler that waits is only a victim.  An entry that
 * was freed keeps its route and id until the slot is used again, so that `last`
 * names who was served last.
 *
 * One writer, the worker; any reader, also when the writer is dead.  Every
 * field is one word, and since_ns is stored last (release): an entry that
 * counts is complete.  The master zeroes the whole before it starts a worker.
 */
#ifndef PL_FABRIC_FLIGHTS_H
#define PL_FABRIC_FLIGHTS_H

#include "base/limits.h"
#include "base/slice.h"

#include <stdatomic.h>
#include <stdint.h>

#define PL_FLIGHTS_VERSION 3u
#define PL_FLIGHT_ID_WORDS (PL_LIMIT_REQUEST_ID_BYTES / 8)

/* Values of `running` and `last` that are no slot. */
#define PL_FLIGHT_NONE 0u         /* no Lua is being run */
#define PL_FLIGHT_TASK UINT32_MAX /* Lua that belongs to no request */

/* What a worker does.  Each is entered and left by a plain store, at few
 * places; ticks look at it (vm/sample.h), and whoever asks why it died. */
enum pl_phase {
  PL_PHASE_CORE,    /* none of the others: timers, turns */
  PL_PHASE_LUA,     /* a handler, a task */
  PL_PHASE_COLLECT, /* the garbage collector, finalizers with it */
  PL_PHASE_POLL,    /* waiting for events, and accepting connections */
  PL_PHASE_READ,    /* receiving */
  PL_PHASE_PARSE,   /* understanding what came */
  PL_PHASE_ROUTE,   /* finding out what a request asks for, and for whom */
  PL_PHASE_WRITE,   /* sending */
  PL_PHASE_LOG,     /* telling what was answered: records, counts */
  PL_PHASES
};

struct pl_flight {
  _Atomic int64_t since_ns; /* monotonic; 0: not in flight */
  _Atomic uint64_t request_id;
  _Atomic uint32_t route;      /* as in records; PL_RECORD_NO_ROUTE: none */
  _Atomic uint32_t generation; /* of the app, which the route's id is of */
  _Atomic uint32_t is_probe;   /* let through by a quarantine, to try */
  _Atomic uint32_t caller_id_bytes;
  _Atomic uint64_t trace_id[2]; /* as in records */
  _Atomic uint64_t span_id;
  _Atomic uint64_t caller_id[PL_FLIGHT_ID_WORDS]; /* likewise, a text */
};

struct pl_flights {
  _Alignas(64) _Atomic uint32_t running; /* slot + 1, or PL_FLIGHT_* */
  _Atomic uint32_t last;                 /* slot + 1 of who began last; or 0 */
  _Atomic uint32_t phase;                /* enum pl_phase */
  uint32_t slot_count;                   /* written by pl__flights_init */
  _Alignas(64) struct pl_flight at[];    /* slot_count of them */
};

/* From here on that is done. */
static inline void pl__phase_set(_Atomic uint32_t *word, enum pl_phase phase) {
  atomic_store_explicit(word, (uint32_t)phase, memory_order_relaxed);
}
/* Does something inside of another phase; what was done before is gone back to
 * by pl__phase_leave, with what this returns. */
static inline uint32_t pl__phase_enter(_Atomic uint32_t *word,
                                       enum pl_phase phase) {
  uint32_t before = atomic_load_explicit(word, memory_order_relaxed);

  atomic_store_explicit(word, (uint32_t)phase, memory_order_relaxed);
  return before;
}
static inline void pl__phase_leave(_Atomic uint32_t *word, uint32_t before) {
  atomic_store_explicit(word, before, memory_order_relaxed);
}

/* "poll", "lua", ...; "core" of a number that is none. */
const char *pl__phase_name(uint32_t phase);

/* Bytes of a section for so many slots. */
static inline uint64_t pl__flights_bytes(uint32_t slot_count) {
  return sizeof(struct pl_flights) +
         (uint64_t)slot_count * sizeof(struct pl_flight);
}

/* By the master, before each start of the worker: nothing is in flight. */
void pl__flights_init(struct pl_flights *f, uint32_t slot_count);

/* From which trace the request in `slot` is, and the id that its caller gave it,
 * of at most PL_LIMIT_REQUEST_ID_BYTES; before pl__flight_begin. */
static inline void pl__flight_name(struct pl_flights *f, uint32_t slot,
                                   const uint64_t *trace_id, uint64_t span_id,
                                   struct pl_slice caller_id) {
  struct pl_flight *e = &f->at[slot];
  uint64_t words[PL_FLIGHT_ID_WORDS] = {0};

  atomic_store_explicit(&e->trace_id[0], trace_id[0], memory_order_relaxed);
  atomic_store_explicit(&e->trace_id[1], trace_id[1], memory_order_relaxed);
  atomic_store_explicit(&e->span_id, span_id, memory_order_relaxed);
  atomic_store_explicit(&e->caller_id_bytes, caller_id.bytes,
                        memory_order_relaxed);
  if (!caller_id.bytes)
    return;
  memcpy(words, caller_id.at, caller_id.bytes);
  for (uint32_t i = 0; i < PL_FLIGHT_ID_WORDS; i++)
    atomic_store_explicit(&e->caller_id[i], words[i], memory_order_relaxed);
}

/* Reads that id into `out`, which has room for PL_LIMIT_REQUEST_ID_BYTES.  What
 * a process left that had gone wild is cut.  Returns how many bytes. */
static inline uint32_t pl__flight_caller_id(const struct pl_flight *e,
                                            char *out) {
  uint32_t bytes =
      atomic_load_explicit(&e->caller_id_bytes, memory_order_relaxed);

  for (uint32_t i = 0; i < PL_FLIGHT_ID_WORDS; i++) {
    uint64_t word =
        atomic_load_explicit(&e->caller_id[i], memory_order_relaxed);
    memcpy(out + 8 * i, &word, 8);
  }
  return bytes <= PL_LIMIT_REQUEST_ID_BYTES ? bytes : PL_LIMIT_REQUEST_ID_BYTES;
}

/* A handler is about to run for the request in `slot`. */
static inline void pl__flight_begin(struct pl_flights *f, uint32_t slot,
                                    uint64_t request_id, uint32_t generation,
                                    uint32_t route, int64_t now_ns) {
  struct pl_flight *e = &f->at[slot];

  atomic_store_explicit(&e->request_id, request_id, memory_order_relaxed);
  atomic_store_explicit(&e->route, route, memory_order_relaxed);
  atomic_store_explicit(&e->generation, generation, memory_order_relaxed);
  atomic_store_explicit(&e->is_probe, 0, memory_order_relaxed);
  atomic_store_explicit(&e->since_ns, now_ns, memory_order_release);
  atomic_store_explicit(&f->running, slot + 1, memory_order_release);
  atomic_store_explicit(&f->last, slot + 1, memory_order_relaxed);
}

/* The request has ended. */
static inline void pl__flight_end(struct pl_flights *f, uint32_t slot) {
  atomic_store_explicit(&f->at[slot].since_ns, 0, memory_order_release);
}

/* What is being run from here on: slot + 1, or PL_FLIGHT_*. */
static inline void pl__flight_run(struct pl_flights *f, uint32_t running,
                                  enum pl_phase phase) {
  atomic_store_explicit(&f->running, running, memory_order_release);
  atomic_store_explicit(&f->phase, (uint32_t)phase, memory_order_relaxed);
}

#endif /* PL_FABRIC_FLIGHTS_H */
