/* log/exposition.h - metrics as text, for those who scrape.
 *
 * Two formats: Prometheus text 0.0.4, and OpenMetrics 1.0, which also has
 * examples (exemplars).  They differ in small things only: counters are named
 * with _total everywhere, so OpenMetrics finds its rules kept.
 *
 * A histogram is shown at powers of two, which are the exact ends of its
 * buckets.  Which ones follows from its unit, the end of its name: _seconds
 * from 61 us to 32 s, _bytes from 64 to 256 MiB, others from 0.001 to 2^20.
 *
 * A third form is no text: the messages of log/otlp_metrics.h.
 *
 * Reads shards and the table, and asks no process.  What is not kept in shards
 * is put between: a head, its samples, and so on; what fails once stays failed.
 */
#ifndef PL_LOG_EXPOSITION_H
#define PL_LOG_EXPOSITION_H

#include "base/buf.h"
#include "fabric/metrics.h"

enum pl_exposition_format {
  PL_EXPOSITION_PROMETHEUS,
  PL_EXPOSITION_OPENMETRICS,
  PL_EXPOSITION_OTLP
};

struct pl_otlp_metrics;

struct pl_exposition {
  struct pl_buf *out;           /* borrowed; of text */
  struct pl_otlp_metrics *otlp; /* borrowed; NULL: text */
  enum pl_exposition_format format;
  int failed;           /* 0, or what pl__buf_append has returned */
  struct pl_slice name; /* of the family, valid until the next head */
  uint32_t head_at;     /* where its head begins */
  bool is_empty;        /* it has no sample yet: its head may go again */
};

/* The media type of the format, with its version. */
const char *pl__exposition_type(enum pl_exposition_format format);

void pl__exposition_begin(struct pl_exposition *e,
                          enum pl_exposition_format format, struct pl_buf *out);
/* The same for OTLP; `otlp` was begun, and its owner ends it. */
void pl__exposition_begin_otlp(struct pl_exposition *e,
                               struct pl_otlp_metrics *otlp);
/* All families and series that the table has. */
void pl__exposition_metrics(struct pl_exposition *e,
                            const struct pl_metrics *m);
/* A family of the caller's, shown if it has samples; `kind` is counter (the name ends in _total) or
 * gauge.  Name and help live until the next head; no name may come twice. */
void pl__exposition_head(struct pl_exposition *e, const char *name,
                         const char *help, enum pl_metric_kind kind);
/* One of its samples.  labels: as in `a="x",b="y"`, may be "". */
void pl__exposition_sample(struct pl_exposition *e, const char *labels,
                           double number);
/* The end.  Returns 0, PL_ENOMEM or PL_EFULL. */
int pl__exposition_end(struct pl_exposition *e);

#endif /* PL_LOG_EXPOSITION_H */
