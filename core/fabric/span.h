/* fabric/span.h - what a worker has seen of traces that are kept: the layout of
 * a span, and the ring that spans lie in.
 *
 * A span is a piece of work with a beginning and an end: a request, a task of
 * its own, a wait, or what a handler has named (P.span).  While the work goes
 * on it is drafted in memory of the worker (vm/trace.h); at the end of the
 * request it is decided whether it is kept, and only then it comes here.  So a
 * record here is complete, and is never changed.
 *
 * A record is a fixed head, texts and attributes:
 *
 *     struct pl_span | name | message | tenant | caller's id | target | state |
 *     attributes: [type, key bytes, value bytes | key | value]...
 *
 * Section `spans.N`: struct pl_spans, then a ring (fabric/ring.h) of
 * PL_LIMIT_SPAN_RING_BYTES.  One writer, worker N; one reader, control, which
 * takes spans out (pl__ring_peek, pl__span_read).  Whoever only wants to look
 * at the last ones does so beside the reader, also when they were read long
 * ago (pl__spans_recent): what the ring has not overwritten is still there.
 *
 * Invariants:
 *  (1) the spans of a request are published by one store, in the order in which
 *      they have ended, the request's own last: all of them are there or none;
 *  (2) spans that find no room are counted in the lanes of the ring;
 *  (3) times are the clock of the world's: ns since the epoch, the start and the
 *      end of a span by the same offset to the monotonic clock;
 *  (4) readers check every length: a worker may have gone wild.
 */
#ifndef PL_FABRIC_SPAN_H
#define PL_FABRIC_SPAN_H

#include "base/limits.h"
#include "base/slice.h"
#include "fabric/ring.h"

#include <stdatomic.h>
#include <stdint.h>

#define PL_SPANS_VERSION 2u
#define PL_SPANS_SLOTS 512u /* a power of two */
/* Spans that can be looked at beside the reader: slots of those that are being
 * pushed are changing. */
#define PL_SPANS_RECENT (PL_SPANS_SLOTS - PL_LIMIT_SPAN_COUNT)

/* As OTLP numbers them, so that nobody translates. */
enum pl_span_kind { PL_SPAN_INTERNAL = 1, PL_SPAN_SERVER, PL_SPAN_CLIENT };
enum pl_span_status { PL_SPAN_UNSET, PL_SPAN_OK, PL_SPAN_ERROR };

/* What it is of; those that wait have no other name than this. */
enum pl_span_what {
  PL_SPAN_REQUEST,  /* named by its route: fabric/routes.h */
  PL_SPAN_TASK,     /* a detached task, from its start to its end */
  PL_SPAN_TIMER,    /* one run of a timer */
  PL_SPAN_USER,     /* P.span; it has a name */
  PL_SPAN_SLEEP,    /* waits: for a time */
  PL_SPAN_BODY,     /* for more of the request's body */
  PL_SPAN_WRITE,    /* until the client has taken some of the response */
  PL_SPAN_TASKS,    /* for the tasks of the request */
  PL_SPAN_EVENT,    /* for another coroutine: a lock, a channel, a task */
  PL_SPAN_INJECTED, /* specs: for an answer of the app under test */
  PL_SPAN_QUEUE,    /* for a handler to begin, while others had their turn */
  PL_SPAN_WHATS
};

/* "request", "task", "timer", "span", and of waits "sleep", "body", "write",
 * "tasks", "event", "injected", "queue"; "?" of a number that is none. */
const char *pl__span_what_name(unsigned what);

/* Why a trace is kept; bits. */
enum {
  PL_KEPT_SAMPLED = 1, /* its id is below the threshold, or the caller wished */
  PL_KEPT_ERROR = 2,   /* it has failed: status >= 500, or an error */
  PL_KEPT_SLOW = 4,    /* slower than its route is usually */
  PL_KEPT_SHED = 8,    /* refused, or ended at its deadline or for memory */
  PL_KEPT_ANOMALY = 16, /* more is kept now, as the server does badly */
  PL_KEPT_REASONS = 5   /* bits */
};

/* Drops of the ring, in spans; by why they would have been kept. */
enum { PL_SPAN_LANE_ANOMALY, PL_SPAN_LANE_SAMPLED, PL_SPAN_LANE_FAILED };

enum pl_attribute_type {
  PL_ATTRIBUTE_STRING = 1, /* bytes as they came, perhaps no UTF-8 */
  PL_ATTRIBUTE_NUMBER,     /* a double, 8 bytes */
  PL_ATTRIBUTE_BOOL        /* 1 byte, 0 or 1 */
};

/* The head of every span. */
struct pl_span {
  uint64_t trace_id[2]; /* high, low */
  uint64_t span_id;
  uint64_t parent_id;  /* 0: none */
  uint64_t request_id; /* 0: it belongs to no request */
  int64_t start_ns;    /* since the epoch */
  int64_t end_ns;
  double adjusted; /* how many requests like it there were, itself among them:
                      1 / probability; 0: not to be counted (the caller's wish) */
  uint32_t route;  /* of the request, or PL_RECORD_NO_ROUTE */
  uint32_t generation;  /* of the app, which the route's id is of */
  uint16_t worker;      /* as in records */
  uint16_t http_status; /* of a request; 0: none */
  uint16_t kept;        /* PL_KEPT_*, of the trace */
  uint16_t left_out;    /* of a root: spans below it that found no room */
  uint8_t kind;         /* enum pl_span_kind */
  uint8_t what;         /* enum pl_span_what */
  uint8_t status;       /* enum pl_span_status */
  uint8_t method;       /* enum pl_method; of a request */
  uint8_t tier;         /* PL_TIER_* */
  uint8_t trace_flags;  /* PL_TRACE_* */
  uint8_t is_local;     /* 1: its parent is a span of this worker */
  uint8_t attribute_count;
  uint16_t attribute_bytes;
  /* Bytes of the texts, in their order. */
  uint16_t message_bytes; /* why it has failed */
  uint16_t target_bytes;  /* of a request: path and query, as sent */
  uint16_t state_bytes;   /* of a request: tracestate, as it is passed on */
  uint8_t name_bytes;     /* of PL_SPAN_USER; of a task or timer perhaps */
  uint8_t tenant_bytes;
  uint8_t caller_id_bytes; /* the request id, if a peer has given another */
  uint8_t zero[5];
};

/* The texts of a span, as the writer hands them over; cut at their limits. */
struct pl_span_texts {
  struct pl_slice name;       /* PL_LIMIT_SPAN_NAME_BYTES */
  struct pl_slice message;    /* PL_LIMIT_SPAN_VALUE_BYTES */
  struct pl_slice tenant;     /* PL_LIMIT_TENANT_BYTES */
  struct pl_slice caller_id;  /* PL_LIMIT_REQUEST_ID_BYTES */
  struct pl_slice target;     /* PL_LIMIT_SPAN_VALUE_BYTES */
  struct pl_slice state;      /* PL_LIMIT_TRACESTATE_BYTES */
  struct pl_slice attributes; /* as pl__attribute_put has made them */
};

struct pl_spans {
  /* The writer's: where the records lie that were pushed last, as positions of
   * the ring plus 1, by their number; 0: none. */
  _Alignas(128) _Atomic uint64_t count; /* pushed and published so far */
  _Atomic uint64_t reserved; /* position up to which the ring may be changed */
  _Alignas(128) _Atomic uint64_t recent[PL_SPANS_SLOTS];
  /* the ring follows */
};

static inline struct pl_ring *pl__spans_ring(struct pl_spans *s) {
  return (struct pl_ring *)(void *)(s + 1);
}

/* Section bytes for a ring of `bytes` data. */
static inline uint64_t pl__spans_section_bytes(uint64_t bytes) {
  return sizeof(struct pl_spans) + pl__ring_section_bytes(bytes);
}

/* Before the fork: empty, with a ring of `bytes`.  As pl__ring_init. */
int pl__spans_init(struct pl_spans *s, uint64_t bytes);

/* --- the writer ------------------------------------------------------- */

struct pl_span_writer {
  struct pl_spans *spans;
  struct pl_ring_writer ring;
  uint64_t count; /* pushed so far */
};

/* Begins where the writer before it had published. */
void pl__span_writer_init(struct pl_span_writer *w, struct pl_spans *s);

/* Begins a trace of `count` spans, at most PL_LIMIT_SPAN_COUNT, whose texts and
 * attributes together have at most `bytes`.  What is kept for an error or for
 * being slow or shed may fill the ring, sampled ones three quarters of it, what
 * an anomaly keeps one half.  Returns 0, or PL_EFULL: all are counted as
 * dropped. */
int pl__spans_begin(struct pl_span_writer *w, unsigned kept, uint32_t count,
                    uint32_t bytes);
/* Adds one of them; the lengths in the head are filled in. */
void pl__spans_push(struct pl_span_writer *w, const struct pl_span *head,
                    const struct pl_span_texts *texts);
/* Shows them to the reader. */
void pl__spans_publish(struct pl_span_writer *w);

/* Adds an attribute behind `*used` bytes in `out`, which has room for `cap`.
 * Keys past PL_LIMIT_SPAN_KEY_BYTES and texts past PL_LIMIT_SPAN_VALUE_BYTES
 * are cut.  Returns 0, or PL_EFULL with nothing changed. */
int pl__attribute_put_str(char *out, uint32_t cap, uint32_t *used,
                          struct pl_slice key, struct pl_slice value);
int pl__attribute_put_num(char *out, uint32_t cap, uint32_t *used,
                          struct pl_slice key, double value);
int pl__attribute_put_bool(char *out, uint32_t cap, uint32_t *used,
                           struct pl_slice key, int value);

/* --- readers ---------------------------------------------------------- */

/* A view into a record; its slices point into it. */
struct pl_span_view {
  struct pl_span span;
  struct pl_span_texts texts;
  const char *next; /* attribute, for pl__span_attribute */
  uint32_t left;    /* attributes behind it */
};

struct pl_attribute {
  struct pl_slice key;
  struct pl_slice text; /* PL_ATTRIBUTE_STRING */
  double number;        /* PL_ATTRIBUTE_NUMBER; PL_ATTRIBUTE_BOOL: 0 or 1 */
  uint8_t type;         /* enum pl_attribute_type */
};

/* Reads what pl__ring_peek has given.  Returns 0, or PL_EBAD: it is no span. */
int pl__span_read(const void *at, uint32_t bytes, struct pl_span_view *view);
/* Takes the next attribute off the view.  Returns 1, 0 when there is none, or
 * PL_EBAD. */
int pl__span_attribute(struct pl_span_view *view, struct pl_attribute *out);

/* How many spans were published so far. */
static inline uint64_t pl__spans_count(const struct pl_spans *s) {
  return atomic_load_explicit(&s->count, memory_order_acquire);
}

/* Copies the span of that number, 0 .. pl__spans_count - 1, into `out`, which
 * has room for PL_LIMIT_SPAN_BYTES and is aligned to 8.  Beside a writer that
 * goes on.  Returns its bytes, for pl__span_read; 0: it is there no more. */
uint32_t pl__spans_recent(struct pl_spans *s, uint64_t number, void *out);

#endif /* PL_FABRIC_SPAN_H */
