/* server/outflow.h - what the files of the exporter share: exporter.c (its thread
 * and its life), outflow.c (sending and retry), batch.c (what is sent, and when),
 * intake.c (spans of the workers) and complaints.c (what the log says of it).
 * Nobody else includes this; all of it is of the exporter's thread.
 */
#ifndef PL_SERVER_OUTFLOW_H
#define PL_SERVER_OUTFLOW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/random.h"
#include "base/slice.h"
#include "fabric/exports.h"
#include "fabric/ring.h"
#include "fabric/routes.h"
#include "log/otlp.h"
#include "log/otlp_metrics.h"
#include "server/backlog.h"
#include "server/config.h"
#include "server/endpoint.h"
#include "server/exporter.h"
#include "server/post.h"

#define PL_OUTFLOW_WHY_BYTES 1024u /* room for an endpoint and a sentence */
/* Between what is said of a signal: what is lost, and that nothing arrives. */
#define PL_COMPLAINTS_EVERY_MS 60000u

/* What one kind of data goes by. */
struct pl_outflow {
  struct pl_exporter *e;
  enum pl_signal what;
  bool is_on;
  struct pl_endpoint to;
  const char *endpoint_key; /* of the configuration: whence `to` is */
  const char *headers_key;  /* whence `fields` are */
  struct pl_post post;
  char fields[PL_POST_FIELDS_BYTES];
  struct pl_exports_of *counts;
  struct pl_buf body;   /* of the batch; metrics: all parts */
  struct pl_buf packed; /* compressed */
  uint32_t items;       /* of the request that is to be sent; 0: RESTING */
  uint32_t tries;       /* that have failed */
  uint64_t due_ms;      /* WAITING: until then */
  uint64_t since_ms;    /* something waits for others since then; 0: nothing */
  uint64_t failing_ms;  /* nothing arrives since then; 0: it does */
  uint64_t said_ms;     /* when that, or a loss, was said; 0: never */
  uint64_t drops_said;
  char why[PL_OUTFLOW_WHY_BYTES]; /* the last failure */
};

struct pl_exporter {
  struct pl_exporter_args args;
  struct pl_exports *exports;
  const struct pl_routes *routes;
  struct pl_outflow signals[PL_SIGNALS];
  /* spans */
  struct pl_backlog backlog;
  struct pl_ring_reader *spans; /* by worker */
  /* logs */
  struct pl_ring_reader logs;
  struct pl_ring_writer logs_writer; /* the drain's thread's */
  /* metrics */
  struct pl_otlp_metrics metrics;
  uint32_t part;       /* that is to be sent */
  uint64_t metrics_ms; /* when they are due */
  bool has_last;       /* the last ones were taken, at the end */
  struct pl_buf resource;
  struct pl_ring_writer log; /* of its own records */
  struct pl_random random;
  uv_loop_t uv;
  uv_timer_t look_timer;
  uint32_t look_count;
  uv_async_t end;
  uv_timer_t end_timer;
  bool is_ending;
  uint32_t wait_ms; /* for the end; set before `end` is sent */
  pthread_t thread;
};

static inline const struct pl_config *
pl__exporter_config(const struct pl_exporter *e) {
  return e->args.config;
}

static inline uint64_t pl__outflow_ms(double seconds) {
  return seconds * 1000 < 1 ? 1 : (uint64_t)(seconds * 1000);
}

static inline void pl__outflow_drop(struct pl_outflow *s,
                                    enum pl_export_drop why, uint64_t count) {
  pl__exports_add(&s->counts->drops[why], count);
}

/* --- outflow.c ------------------------------------------------------------ */

/* Where the signal goes, if anywhere; e->uv, e->args and e->exports are there. */
void pl__outflow_init(struct pl_exporter *e, enum pl_signal what);
/* Makes the next request if there is none and it is time, and sends what is due. */
void pl__outflow_step(struct pl_outflow *s);
/* Nothing is under way, and nothing waits to be sent again. */
bool pl__outflow_is_at_rest(const struct pl_outflow *s);

/* --- batch.c -------------------------------------------------------------- */

/* Whether enough is there for a request, or it has waited long enough. */
bool pl__batch_is_due(struct pl_outflow *s);
/* Makes it: s->items says of how many, 0 that there is none. */
void pl__batch_fill(struct pl_outflow *s);
/* Its bytes, not compressed; valid until the next fill. */
struct pl_slice pl__batch_request(const struct pl_outflow *s);
/* The request is over, one way or the other. */
void pl__batch_leave(struct pl_outflow *s);
/* Shows how many spans wait. */
void pl__batch_count_queued(struct pl_exporter *e);

/* --- intake.c ------------------------------------------------------------- */

/* Takes what the workers have put; as far as there is room for what must arrive. */
void pl__intake_take(struct pl_exporter *e);

/* --- complaints.c --------------------------------------------------------- */

/* Nothing arrives, for the reason in s->why. */
void pl__complaints_say_failing(struct pl_outflow *s, uint64_t now);
/* Something has arrived again. */
void pl__complaints_say_recovered(struct pl_outflow *s, uint64_t now);
/* Losses that no failure goes with: a queue that is too short, what was refused. */
void pl__complaints_say_losses(struct pl_outflow *s, uint64_t now);
/* What was dropped so far is not for this exporter to say. */
void pl__complaints_forget(struct pl_outflow *s);

#endif /* PL_SERVER_OUTFLOW_H */
