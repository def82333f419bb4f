/* server/exporter.h - traces, metrics and logs on their way to an OpenTelemetry
 * collector, by OTLP over HTTP.
 *
 * A thread of control with a loop of its own: neither the log's drain nor the
 * admin plane waits for a collector, and workers do not know that there is one.
 *
 *     spans.N (rings of the workers)     -> backlog -> batch --\
 *     otlp.logs (ring, filled by the drain)         -> batch ----> POST
 *     metrics, shards (read when it is time)        -> parts --/
 *
 *  (1) one request of a signal is under way at a time; signals do not wait for
 *      each other;
 *  (2) what the collector may take later (429, 502, 503, 504, no connection, no
 *      answer) is tried again, after 1 to 32 s or as Retry-After says; meanwhile
 *      what comes waits in the queue, and what finds no room there is dropped;
 *  (3) what it has refused, or partly refused, is never tried again;
 *  (4) whatever does not arrive is counted (fabric/exports.h);
 *  (5) records stay in their ring until they have arrived, so a control that is
 *      killed loses none of them (some may come twice); of spans it loses those
 *      that it had taken over, and the one after it counts them.
 *
 * It is also there when nothing is exported: it empties the rings of spans, which
 * has to be somebody's work.
 */
#ifndef PL_SERVER_EXPORTER_H
#define PL_SERVER_EXPORTER_H

#include <stdint.h>

struct pl_config;
struct pl_drain;
struct pl_exporter;
struct pl_fabric;

struct pl_exporter_args {
  const struct pl_config *config; /* borrowed, as all of these */
  const struct pl_fabric *fabric;
  uint32_t worker_count; /* that there is room for */
  int wake_fd;           /* of the reader of its log ring */
};

/* Starts the thread.  Returns 0, PL_ENOMEM, or what pl__layout_* and
 * pthread_create (negated) return. */
int pl__exporter_start(struct pl_exporter **out,
                       const struct pl_exporter_args *args);
/* Wants the records of this drain, if logs are exported. Of one thread. */
void pl__exporter_attach(struct pl_exporter *e, struct pl_drain *d);
/* Sends what there is, once, for at most `wait_ms`, and ends.  What blocks
 * longer is left alone: the process is about to end. */
void pl__exporter_stop(struct pl_exporter *e, uint32_t wait_ms);

#endif /* PL_SERVER_EXPORTER_H */
