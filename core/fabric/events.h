/* fabric/events.h - the flight recorder: what a process has done last.
 *
 * A ring of events of 32 bytes for what happens all the time, and a small one
 * for what happens seldom, so that a flood of requests does not push out why
 * it came.  Nothing is ever waited for: the oldest event is overwritten.
 *
 *   positions   ... head - count | head - count + 1 ... head - 1 | head ...
 *                    being written, or torn     readable
 *
 * One writer, the process; any reader, also when the writer is dead: an event
 * counts once `head` has passed it (release), and the one that the next event
 * is written over does not count any more.  A process that takes the place of
 * another goes on behind it and says so (PL_EVENT_START).
 *
 * Readers believe no word of it: see pl__event_read and log/timeline.h.
 * Times are monotonic seconds, as the process's stopwatch tells them.
 */
#ifndef PL_FABRIC_EVENTS_H
#define PL_FABRIC_EVENTS_H

#include "base/slice.h"
#include "base/stopwatch.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define PL_EVENTS_VERSION 1u
#define PL_EVENTS_OFTEN 131072u /* 4 MiB; powers of two */
#define PL_EVENTS_AHEAD 4u      /* fetched into the cache before their turn */
#define PL_EVENTS_SELDOM 8192u  /* 256 KiB */
#define PL_EVENT_NO_ROUTE 0xffffffu /* as PL_RECORD_NO_ROUTE, cut */
#define PL_EVENT_MARK_BYTES 16u     /* of a text, in one event */
#define PL_EVENT_MARKS_MAX 3u       /* events that one text may take */

enum pl_event_kind {
  PL_EVENT_NONE,
  PL_EVENT_START,    /* a process begins; value: its pid */
  PL_EVENT_TRACE,    /* of the request that begins or ends next, if others know
                        it or it is kept; id, value: 16 bytes */
  PL_EVENT_BEGIN,    /* a handler begins; id: request, value: slot */
  PL_EVENT_END,      /* a request ends; likewise, code: status */
  PL_EVENT_RUN,      /* a coroutine goes on; id: request or 0, value: index,
                        detail: enum pl_event_run */
  PL_EVENT_PARK,     /* it stops; likewise, detail: enum pl_event_park */
  PL_EVENT_COLLECT,  /* the collector has run; value: ns, detail: its phase,
                        id: bytes of the heap behind it */
  PL_EVENT_PREEMPT,  /* a slice is used up; as PARK */
  PL_EVENT_DEADLINE, /* a request's; id, value: as BEGIN */
  PL_EVENT_DROP,     /* records found no room in the log; value: how many */
  PL_EVENT_LAG,      /* a turn of the loop was long; value: ns */
  PL_EVENT_RELOAD,   /* value: generation, detail: enum pl_event_reload */
  PL_EVENT_PROCESS,  /* id: worker, value: pid, code: signal or exit code,
                        detail: enum pl_event_process */
  PL_EVENT_MARK,     /* id, value: a text's bytes; code: how many it has left */
  PL_EVENT_KINDS
};

enum pl_event_run {
  PL_EVENT_RUN_BEGUN,      /* a task's first time */
  PL_EVENT_RUN_WOKEN,      /* what it waited for has happened */
  PL_EVENT_RUN_ENDING,     /* its wait has ended badly: deadline, gone, ... */
  PL_EVENT_RUN_PREEMPTED,  /* it was, and has its next slice */
  PL_EVENT_RUN_TASK = 0x80 /* a bit beside: it is a task */
};

enum pl_event_park {
  PL_EVENT_PARK_READY, /* waits for its turn */
  PL_EVENT_PARK_TIMER,
  PL_EVENT_PARK_BODY,
  PL_EVENT_PARK_WRITE,
  PL_EVENT_PARK_TASKS,
  PL_EVENT_PARK_EVENT,
  PL_EVENT_PARK_INJECTED,
  PL_EVENT_PARK_PREEMPTED,
  PL_EVENT_PARK_ENDED,
  PL_EVENT_PARK_FAILED,
  PL_EVENT_PARKS,
  PL_EVENT_PARK_TASK = 0x80 /* likewise */
};

enum pl_event_reload {
  PL_EVENT_RELOAD_BEGUN, /* the master's, as are the two at the end */
  PL_EVENT_RELOAD_PREPARE,
  PL_EVENT_RELOAD_PREPARED,
  PL_EVENT_RELOAD_FAILED,
  PL_EVENT_RELOAD_SERVES,
  PL_EVENT_RELOAD_RETIRED,
  PL_EVENT_RELOAD_COMMITTED,
  PL_EVENT_RELOAD_REJECTED,
  PL_EVENT_RELOADS
};

enum pl_event_process {
  PL_EVENT_PROCESS_STARTED,
  PL_EVENT_PROCESS_SILENT,
  PL_EVENT_PROCESS_STUCK,
  PL_EVENT_PROCESS_KILLED, /* by a signal */
  PL_EVENT_PROCESS_ENDED,  /* with a code */
  PL_EVENT_PROCESSES
};

/* words: the time, as a double; id; value; and in the last one from below
 * kind (8 bits), detail (8), code (16), route (24), generation (8, cut) */
struct pl_event {
  _Atomic uint64_t words[4];
};

struct pl_event_rings {
  _Alignas(64) _Atomic uint64_t often_head;
  _Alignas(64) _Atomic uint64_t seldom_head;
  _Atomic uint64_t deadlines; /* that were missed, since the server's start */
  _Alignas(64) struct pl_event seldom[PL_EVENTS_SELDOM];
  struct pl_event often[PL_EVENTS_OFTEN];
};

/* What an event says, for those who write and those who read. */
struct pl_event_said {
  double at; /* monotonic seconds */
  uint64_t id, value;
  uint8_t kind, detail;
  uint16_t code;
  uint32_t route; /* 24 bits */
  uint8_t generation;
};

/* --- the writer ------------------------------------------------------- */

struct pl_recorder {
  struct pl_event_rings *events; /* NULL: nothing is recorded */
  const struct pl_stopwatch *watch;
  uint64_t often_head, seldom_head;
  double last; /* no event is older than the one before it */
};

/* Goes on where the process before us has ended.  `events` may be NULL. */
void pl__recorder_open(struct pl_recorder *r, struct pl_event_rings *events,
                       const struct pl_stopwatch *watch);

static inline bool pl__recorder_is_on(const struct pl_recorder *r) {
  return r && r->events;
}

static inline double pl__recorder_now(const struct pl_recorder *r) {
  return pl__stopwatch_read(r->watch);
}

static inline uint64_t pl__event_word(unsigned kind, unsigned detail,
                                      unsigned code, uint32_t route,
                                      uint32_t generation) {
  return (uint64_t)(kind & 0xff) | (uint64_t)(detail & 0xff) << 8 |
         (uint64_t)(code & 0xffff) << 16 | (uint64_t)(route & 0xffffff) << 32 |
         (uint64_t)(generation & 0xff) << 56;
}

static inline void pl__event_put(struct pl_event *e, double at, uint64_t id,
                                 uint64_t value, uint64_t word) {
  uint64_t time;

  memcpy(&time, &at, sizeof time);
  atomic_thread_fence(memory_order_release); /* behind the head before it */
  atomic_store_explicit(&e->words[0], time, memory_order_relaxed);
  atomic_store_explicit(&e->words[1], id, memory_order_relaxed);
  atomic_store_explicit(&e->words[2], value, memory_order_relaxed);
  atomic_store_explicit(&e->words[3], word, memory_order_relaxed);
}

/* One event of those that happen all the time; the recorder is on. `word` is of
 * pl__event_word. */
static inline void pl__recorder_often(struct pl_recorder *r, double at,
                                      uint64_t id, uint64_t value,
                                      uint64_t word) {
  struct pl_event *e = &r->events->often[r->often_head % PL_EVENTS_OFTEN];

  r->last = at > r->last ? at : r->last;
  pl__event_put(e, r->last, id, value, word);
  atomic_store_explicit(&r->events->often_head, ++r->often_head,
                        memory_order_release);
  __builtin_prefetch(
      &r->events->often[(r->often_head + PL_EVENTS_AHEAD) % PL_EVENTS_OFTEN],
      1);
}

/* One of those that happen seldom, likewise. */
static inline void pl__recorder_seldom(struct pl_recorder *r, double at,
                                       uint64_t id, uint64_t value,
                                       uint64_t word) {
  struct pl_event *e = &r->events->seldom[r->seldom_head % PL_EVENTS_SELDOM];

  r->last = at > r->last ? at : r->last;
  pl__event_put(e, r->last, id, value, word);
  atomic_store_explicit(&r->events->seldom_head, ++r->seldom_head,
                        memory_order_release);
}

/* What the user says; cut past PL_EVENT_MARKS_MAX events. */
void pl__recorder_mark(struct pl_recorder *r, struct pl_slice text);

/* A request has missed its deadline. */
void pl__recorder_deadline(struct pl_recorder *r, double at, uint64_t request,
                           uint32_t slot, uint32_t route, uint32_t generation);

/* --- readers ---------------------------------------------------------- */

enum pl_event_lane { PL_EVENTS_LANE_OFTEN, PL_EVENTS_LANE_SELDOM };
#define PL_EVENTS_LANES 2u

/* Position behind the last event of a lane. */
uint64_t pl__event_head(const struct pl_event_rings *e,
                        enum pl_event_lane lane);
/* The oldest position that can be read, given that head. */
uint64_t pl__event_first(enum pl_event_lane lane, uint64_t head);
/* Reads the event at a position below the head.  False: it is not there any
 * more, or makes no sense. */
bool pl__event_read(const struct pl_event_rings *e, enum pl_event_lane lane,
                    uint64_t position, struct pl_event_said *out);

#endif /* PL_FABRIC_EVENTS_H */
