/* log/otlp_metrics.h - metrics as OTLP has them: what log/exposition.h walks
 * over, as messages instead of text.
 *
 * A counter is a monotonic sum, a gauge a gauge, a histogram one with explicit
 * bounds; sums and histograms are cumulative since the server's start, which
 * their points tell.  The name stays the one that is scraped, unit and all.
 *
 * A request that has grown past PL_OTLP_PART_BYTES ends, and the next one goes
 * on with the same metric: all of them lie behind each other in one buffer.
 */
#ifndef PL_LOG_OTLP_METRICS_H
#define PL_LOG_OTLP_METRICS_H

#include "fabric/metrics.h"
#include "log/otlp.h"

#define PL_OTLP_PART_BYTES (2u << 20)
#define PL_OTLP_PARTS_MAX 16u

/* One of the requests: where it ends in the buffer, and the points in it. */
struct pl_otlp_part {
  uint32_t end;
  uint32_t points;
};

/* An example of numbers in a bucket. */
struct pl_otlp_exemplar {
  double number;
  struct pl_origin origin;
};

/* A histogram as it is shown. */
struct pl_otlp_histogram {
  double sum;
  uint64_t count;
  const uint64_t *counts; /* of bucket_count buckets */
  const double *bounds;   /* their upper ends, one less */
  uint32_t bucket_count;
  const struct pl_otlp_exemplar *exemplars; /* `bucket_count`; now 0: none */
};

struct pl_otlp_metrics {
  struct pl_otlp request;
  struct pl_buf *out;       /* borrowed */
  struct pl_slice resource; /* likewise */
  struct pl_slice version;
  uint64_t start_ns, time_ns; /* since the epoch */
  /* Of the metric; its message is open if is_open. */
  struct pl_slice name, help;
  enum pl_metric_kind kind;
  bool is_open;
  uint32_t metric_at;     /* where it begins */
  uint32_t metric_points; /* in this request */
  struct pl_pb_mark of_metric, of_kind;
  uint32_t points; /* of the request */
  uint32_t part_count;
  struct pl_otlp_part parts[PL_OTLP_PARTS_MAX];
  int failed; /* 0, or the first error */
};

/* Begins behind what `out` has. */
void pl__otlp_metrics_begin(struct pl_otlp_metrics *m, struct pl_buf *out,
                            struct pl_slice resource, struct pl_slice version,
                            int64_t start_ns, int64_t time_ns);
/* A metric; it is there once it has a point.  Name and help live until the next
 * one. */
void pl__otlp_metrics_head(struct pl_otlp_metrics *m, struct pl_slice name,
                           struct pl_slice help, enum pl_metric_kind kind);
/* A point of it.  labels: as in `a="x",b="y"`, may be empty. */
void pl__otlp_metrics_number(struct pl_otlp_metrics *m, struct pl_slice labels,
                             double number);
void pl__otlp_metrics_histogram(struct pl_otlp_metrics *m,
                                struct pl_slice labels,
                                const struct pl_otlp_histogram *h);
/* The end.  Returns 0; or PL_EFULL (past all parts) or PL_ENOMEM: what was left
 * out is missing, and the parts that there are can be sent. */
int pl__otlp_metrics_end(struct pl_otlp_metrics *m);

#endif /* PL_LOG_OTLP_METRICS_H */
