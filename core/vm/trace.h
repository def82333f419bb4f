/* vm/trace.h - spans in the making, and whether they are kept.
 *
 * Of each request, and of each task that has a context of its own, it is noted
 * what it waits for and which spans its Lua names (P.span).  The notes lie in
 * memory of the VM, in parts of a pool, which a request takes only when it has
 * something to note: one that computes and answers has none.  At its end all of
 * it is written into the worker's ring (fabric/span.h), or forgotten:
 *
 *     kept: sampled by its trace id, or as its caller wishes; failed; slow; shed;
 *           or everything, within a cap, while the server does badly
 *
 *     request begins  --wait-->  note  --P.span-->  note ...  --> end: keep?
 *                                                           yes: spans.N
 *                                                           no:  parts go back
 *
 * A detached task may live as long as the worker.  So of it only what lies in a
 * P.span is noted, and that is decided on when its outermost span ends; its own
 * span follows at its end, if anything of it was kept.  The runs of a timer are
 * such tasks, one after the other.
 *
 * Which span a coroutine is in is known without all this, since logs and the
 * headers of outgoing requests tell it: also in tools, which keep no spans.
 *
 * One thread.  Knows no routes' figures: who ends a request says if it was slow.
 */
#ifndef PL_VM_TRACE_H
#define PL_VM_TRACE_H

#include "base/limits.h"
#include "base/random.h"
#include "base/slice.h"
#include "base/stopwatch.h"
#include "fabric/span.h"
#include "fabric/tracing.h"
#include "http/request.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_coro;
struct pl_vm;

#define PL_TRACE_PART_NOTES 20u
#define PL_TRACE_PART_BYTES (PL_TRACE_PART_NOTES * sizeof(struct pl_note))
/* Of a request: so many of notes, as a trace has room for, and of texts. */
#define PL_TRACE_NOTE_PARTS ((PL_LIMIT_SPAN_COUNT - 1) / PL_TRACE_PART_NOTES)
#define PL_TRACE_TEXT_PARTS 4u
#define PL_TRACE_PARTS_MAX 8192u /* of a VM: 7 MiB */
#define PL_TRACE_ROOT 0xffu      /* a text belongs to the request itself */

/* A span below the root. */
struct pl_note {
  uint64_t span_id;   /* 0: nobody has asked for it yet */
  uint64_t parent_id; /* 0: the root */
  double start;       /* monotonic seconds */
  double end;         /* 0: it goes on */
  uint8_t what;       /* enum pl_span_what */
  uint8_t kind;       /* enum pl_span_kind */
  uint8_t status;     /* enum pl_span_status */
  uint8_t has_text;   /* name, message, attributes */
  uint16_t serial;    /* tells notes of one place apart */
};

struct pl_trace_part {
  struct pl_trace_part *next;
  uint32_t used; /* bytes of text */
  union {
    struct pl_note notes[PL_TRACE_PART_NOTES];
    char text[PL_TRACE_PART_BYTES]; /* struct text_head, bytes; see trace.c */
  };
};

/* What is noted of one request or task. All zero: nothing. */
struct pl_trace {
  struct pl_trace_part *notes; /* the first ones first */
  struct pl_trace_part *texts; /* likewise */
  uint16_t count;              /* of notes */
  uint16_t left_out;           /* notes that found no room */
  bool has_failed;             /* anything of it */
  bool root_has_failed;        /* all of it */
  bool root_has_text;
  bool was_shed; /* refused, or ended for memory's sake */
};

/* Of a worker; its VMs use the same one. */
struct pl_tracer {
  struct pl_span_writer writer;
  const struct pl_stopwatch *watch;
  struct pl_tracing *tracing; /* what control says */
  uint64_t below;    /* ids whose lower 56 bits are below it are sampled */
  double weight;     /* of each of those: 1 / probability */
  int64_t offset_ns; /* the world's clock less the monotonic one */
  double carried;    /* requests that the cap has refused, for the next kept */
  double wish_s;     /* between two that callers may have sampled; 0: none */
  double wish_due;   /* when the next would be due; monotonic seconds */
  uint16_t worker;
  struct pl_trace_counts {
    uint64_t traces[PL_KEPT_REASONS]; /* kept, by bit; one may have several */
    uint64_t spans;                   /* written */
    uint64_t left_out;                /* of requests that had too many */
    uint64_t capped;                  /* not kept in an anomaly, for the cap */
    uint64_t unheard;                 /* whose caller had too many sampled */
  } counts;
};

/* Begins in the ring of a worker. */
void pl__tracer_init(struct pl_tracer *t, struct pl_spans *spans,
                     struct pl_tracing *tracing,
                     const struct pl_stopwatch *watch, uint32_t worker);
/* That share of all traces is kept from now on, 0 to 1. */
void pl__tracer_sample(struct pl_tracer *t, double share);
/* So many traces in a second may be sampled for their callers' sake from now on,
 * by this worker and in all that has not come yet; 0: none. */
void pl__tracer_limit_wishes(struct pl_tracer *t, double per_second);
/* From time to time: follows the world's clock. */
void pl__tracer_tick(struct pl_tracer *t);

static inline double pl__tracer_now(const struct pl_tracer *t) {
  return pl__stopwatch_read(t->watch);
}

/* Whether an id is sampled: consistent over services. */
static inline bool pl__tracer_samples(const struct pl_tracer *t,
                                      const struct pl_context *c) {
  return (c->trace_id[1] & PL_TRACE_ID_MASK) < t->below;
}

/* A trace begins or comes in: says in its flags if it is sampled. */
static inline void pl__tracer_mark(const struct pl_tracer *t,
                                   struct pl_context *c) {
  if (pl__tracer_samples(t, c))
    c->trace_flags |= PL_TRACE_SAMPLED;
}

/* A sampled trace of a caller's, at the time `now`: past the limit it is none. */
void pl__tracer_hear_wish(struct pl_tracer *t, struct pl_context *c,
                          double now);

/* The same of a request, which a caller may have given its trace: both the flag
 * and the id are for the caller to choose.  A share of 1 keeps all anyway. */
static inline void pl__tracer_mark_caller(struct pl_tracer *t,
                                          struct pl_context *c, double now) {
  pl__tracer_mark(t, c);
  if (PL_UNLIKELY(c->trace_flags & PL_TRACE_SAMPLED) && c->parent_id &&
      t->below <= PL_TRACE_ID_MASK)
    pl__tracer_hear_wish(t, c, now);
}

/* --- notes ------------------------------------------------------------- */

enum pl_trace_text { PL_TRACE_NAME, PL_TRACE_MESSAGE, PL_TRACE_ATTRIBUTE };

/* What notes of a coroutine belong to; NULL: nothing that is traced. */
struct pl_trace *pl__coro_trace(const struct pl_coro *c);
/* Adds a note, which begins now; NULL: there is no room. *index is its number. */
struct pl_note *pl__trace_note(struct pl_vm *vm, struct pl_trace *trace,
                               uint32_t *index);
/* The note of that number, which there is. */
struct pl_note *pl__trace_at(const struct pl_trace *trace, uint32_t index);
/* Adds a text to a note, or to PL_TRACE_ROOT; one that finds no room is left
 * out. */
void pl__trace_text(struct pl_vm *vm, struct pl_trace *trace, uint32_t index,
                    enum pl_trace_text kind, struct pl_slice text);
/* The span that it is in; 0: it has no context. */
uint64_t pl__coro_span_id(const struct pl_coro *c);
/* The parent of that; 0: none. */
uint64_t pl__coro_parent_id(const struct pl_coro *c);
/* It begins to wait: PL_WAIT_*. */
void pl__trace_wait(struct pl_coro *c, unsigned wait);
/* It goes on after that. */
void pl__trace_waited(struct pl_coro *c);
/* What a request has waited for before its handler began: PL_SPAN_*. */
void pl__trace_waited_before(struct pl_vm *vm, const struct pl_req *req,
                             unsigned what, double from, double to);
/* Nothing was worth it. */
void pl__trace_forget(struct pl_vm *vm, struct pl_trace *trace);
/* The pool goes. */
void pl__trace_deinit(struct pl_vm *vm);

/* --- ends -------------------------------------------------------------- */

/* A request has ended. */
struct pl_trace_end {
  const struct pl_req *req;
  double end;          /* monotonic seconds */
  uint32_t route;      /* as in records */
  uint32_t generation; /* likewise */
  bool is_slow;
};

/* Keeps or forgets it.
 *
 *   vm  whose request it was; NULL: it was refused before it had one
 *
 * Returns whether it was kept. */
bool pl__trace_end_request(struct pl_tracer *t, struct pl_vm *vm,
                           const struct pl_trace_end *e);

/* A task that carries a context ends, or a run of a timer. */
void pl__trace_end_task(struct pl_coro *c);
/* The outermost span of such a task has ended: its notes are kept or go. */
void pl__trace_end_span(struct pl_coro *c);

#endif /* PL_VM_TRACE_H */
