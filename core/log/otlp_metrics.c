/* log/otlp_metrics.c - see otlp_metrics.h. */
#include "log/otlp_metrics.h"

#include "base/clock.h"
#include "base/err.h"
#include "log/otlp_request.h"

/* Fields: of a metric, and its own in a scope. */
enum {
  ITEM = 2,
  NAME = 1,
  DESCRIPTION = 2,
  UNIT = 3,
  GAUGE = 5,
  SUM = 7,
  HISTOGRAM = 9
};
enum { POINTS = 1, TEMPORALITY = 2, MONOTONIC = 3 };
enum { CUMULATIVE = 2 };
enum {
  NUMBER_START = 2,
  NUMBER_TIME = 3,
  NUMBER_DOUBLE = 4,
  NUMBER_LABELS = 7
};
enum {
  BUCKETS_START = 2,
  BUCKETS_TIME = 3,
  BUCKETS_COUNT = 4,
  BUCKETS_SUM = 5,
  BUCKETS_COUNTS = 6,
  BUCKETS_BOUNDS = 7,
  BUCKETS_EXEMPLAR = 8,
  BUCKETS_LABELS = 9
};
enum {
  EXEMPLAR_TIME = 2,
  EXEMPLAR_DOUBLE = 3,
  EXEMPLAR_TRACE = 5,
  EXEMPLAR_LABELS = 7
};

/* --- labels ------------------------------------------------------------------ */

/* Undoes \\, \" and \n up to the quote that ends a value; where that is, or
 * NULL. */
static const char *unquote(const char *at, const char *end, char *to,
                           uint32_t *bytes) {
  *bytes = 0;
  for (; at < end && *at != '"'; at++) {
    char c = *at;
    if (c == '\\' && at + 1 < end) {
      c = *++at;
      c = c == 'n' ? '\n' : c;
    }
    to[(*bytes)++] = c;
  }
  return at < end ? at : NULL;
}

static void put_labels(struct pl_pb *p, uint32_t field,
                       struct pl_slice labels) {
  char value[PL_METRICS_LABELS_BYTES + 32];
  const char *at = labels.at, *end = labels.at + labels.bytes;
  uint32_t bytes;

  if (labels.bytes > sizeof value)
    return;
  while (at < end) {
    const char *equals = memchr(at, '=', (size_t)(end - at));
    const char *quote;
    if (!equals || equals + 1 >= end)
      return;
    quote = unquote(equals + 2, end, value, &bytes);
    if (!quote)
      return;
    pl__otlp_pair_str(p, field, pl__slice(at, (size_t)(equals - at)),
                      pl__slice(value, bytes), 0);
    at = quote + 1 + (quote + 1 < end); /* the comma */
  }
}

/* --- metrics ------------------------------------------------------------------ */

static bool has_word(struct pl_slice name, const char *word) {
  size_t bytes = strlen(word);
  const char *end = name.at + name.bytes;

  for (const char *at = name.at; at + bytes <= end; at++)
    if (memcmp(at, word, bytes) == 0 && (at + bytes == end || at[bytes] == '_'))
      return true;
  return false;
}

static void metric_open(struct pl_otlp_metrics *m) {
  static const uint32_t kinds[] = {SUM, GAUGE, HISTOGRAM};
  struct pl_pb *p = &m->request.pb;

  m->metric_at = m->out->bytes;
  m->metric_points = 0;
  m->of_metric = pl__pb_begin(p, ITEM);
  pl__otlp_text(p, NAME, m->name, 0);
  pl__otlp_text(p, DESCRIPTION, m->help, 0);
  if (has_word(m->name, "_seconds"))
    pl__pb_text(p, UNIT, "s");
  else if (has_word(m->name, "_bytes"))
    pl__pb_text(p, UNIT, "By");
  m->of_kind = pl__pb_begin(p, kinds[m->kind]);
  if (m->kind != PL_METRIC_GAUGE)
    pl__pb_uint(p, TEMPORALITY, CUMULATIVE);
  if (m->kind == PL_METRIC_COUNTER)
    pl__pb_uint(p, MONOTONIC, 1);
  m->is_open = true;
}

static void metric_close(struct pl_otlp_metrics *m) {
  if (!m->is_open)
    return;
  pl__pb_end(&m->request.pb, m->of_kind);
  pl__pb_end(&m->request.pb, m->of_metric);
  m->is_open = false;
}

static uint32_t part_begin(const struct pl_otlp_metrics *m) {
  return m->part_count ? m->parts[m->part_count - 1].end : 0;
}

static void part_close(struct pl_otlp_metrics *m) {
  metric_close(m);
  pl__otlp_end(&m->request);
  m->parts[m->part_count++] =
      (struct pl_otlp_part){.end = m->out->bytes, .points = m->points};
  m->points = 0;
}

/* Whether a point may be written; what is before it is set up. */
static bool point_open(struct pl_otlp_metrics *m) {
  if (m->failed)
    return false;
  if (m->out->bytes - part_begin(m) > PL_OTLP_PART_BYTES) {
    if (m->part_count + 1 == PL_OTLP_PARTS_MAX) {
      m->failed = PL_EFULL;
      return false;
    }
    part_close(m);
    pl__otlp_begin(&m->request, m->out, m->resource, m->version);
  }
  if (!m->is_open)
    metric_open(m);
  return true;
}

/* A point that does not fit goes again, with its metric if it is the only one, and
 * it is the last one. */
static void point_close(struct pl_otlp_metrics *m, uint32_t before) {
  int status = pl__pb_status(&m->request.pb);

  if (m->metric_points == 0)
    before = m->metric_at;
  if (pl__otlp_keep(&m->request, before)) {
    m->metric_points++;
    m->points++;
    return;
  }
  m->is_open = m->metric_points > 0;
  m->failed = status;
}

void pl__otlp_metrics_begin(struct pl_otlp_metrics *m, struct pl_buf *out,
                            struct pl_slice resource, struct pl_slice version,
                            int64_t start_ns, int64_t time_ns) {
  *m = (struct pl_otlp_metrics){.out = out,
                                .resource = resource,
                                .version = version,
                                .start_ns = (uint64_t)start_ns,
                                .time_ns = (uint64_t)time_ns};
  pl__otlp_begin(&m->request, out, resource, version);
  m->failed = pl__pb_status(&m->request.pb);
}

void pl__otlp_metrics_head(struct pl_otlp_metrics *m, struct pl_slice name,
                           struct pl_slice help, enum pl_metric_kind kind) {
  if (m->failed)
    return;
  metric_close(m);
  m->name = name;
  m->help = help;
  m->kind = kind;
}

void pl__otlp_metrics_number(struct pl_otlp_metrics *m, struct pl_slice labels,
                             double number) {
  struct pl_pb *p = &m->request.pb;
  struct pl_pb_mark point;
  uint32_t before;

  if (!point_open(m))
    return;
  before = m->out->bytes;
  point = pl__pb_begin(p, POINTS);
  if (m->kind == PL_METRIC_COUNTER)
    pl__pb_fixed64(p, NUMBER_START, m->start_ns);
  pl__pb_fixed64(p, NUMBER_TIME, m->time_ns);
  pl__pb_double(p, NUMBER_DOUBLE, number);
  put_labels(p, NUMBER_LABELS, labels);
  pl__pb_end(p, point);
  point_close(m, before);
}

static void put_exemplar(struct pl_pb *p, const struct pl_otlp_exemplar *e) {
  const struct pl_origin *o = &e->origin;
  struct pl_pb_mark mark = pl__pb_begin(p, BUCKETS_EXEMPLAR);

  pl__pb_fixed64(p, EXEMPLAR_TIME, (uint64_t)(o->now * PL_NS_PER_S));
  pl__pb_double(p, EXEMPLAR_DOUBLE, e->number);
  if (o->trace[0] | o->trace[1])
    pl__otlp_trace_id(p, EXEMPLAR_TRACE, o->trace);
  else
    pl__otlp_request_id(p, EXEMPLAR_LABELS, o->request_id, pl__slice("", 0));
  pl__pb_end(p, mark);
}

static void put_buckets(struct pl_pb *p, const struct pl_otlp_histogram *h) {
  struct pl_pb_mark mark = pl__pb_begin(p, BUCKETS_COUNTS);

  for (uint32_t i = 0; i < h->bucket_count; i++)
    pl__pb_packed_fixed64(p, h->counts[i]);
  pl__pb_end(p, mark);
  mark = pl__pb_begin(p, BUCKETS_BOUNDS);
  for (uint32_t i = 0; i + 1 < h->bucket_count; i++)
    pl__pb_packed_double(p, h->bounds[i]);
  pl__pb_end(p, mark);
  for (uint32_t i = 0; i < h->bucket_count; i++)
    if (h->exemplars[i].origin.now > 0)
      put_exemplar(p, &h->exemplars[i]);
}

void pl__otlp_metrics_histogram(struct pl_otlp_metrics *m,
                                struct pl_slice labels,
                                const struct pl_otlp_histogram *h) {
  struct pl_pb *p = &m->request.pb;
  struct pl_pb_mark point;
  uint32_t before;

  if (!point_open(m))
    return;
  before = m->out->bytes;
  point = pl__pb_begin(p, POINTS);
  pl__pb_fixed64(p, BUCKETS_START, m->start_ns);
  pl__pb_fixed64(p, BUCKETS_TIME, m->time_ns);
  pl__pb_fixed64(p, BUCKETS_COUNT, h->count);
  pl__pb_double(p, BUCKETS_SUM, h->sum);
  put_buckets(p, h);
  put_labels(p, BUCKETS_LABELS, labels);
  pl__pb_end(p, point);
  point_close(m, before);
}

int pl__otlp_metrics_end(struct pl_otlp_metrics *m) {
  if (m->points)
    part_close(m);
  m->out->bytes = part_begin(m);
  return m->failed;
}
