/* log/exposition.c - see exposition.h. */
#include "log/exposition.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "log/digits.h"
#include "log/otlp_metrics.h"

#define NUMBER_BYTES PL_DIGITS_DOUBLE_BYTES
#define EXEMPLAR_BYTES 160
/* What a line has beside name, labels, `le` and an exemplar. */
#define LINE_BYTES (2 * NUMBER_BYTES + 64)
#define NANO 1000000000u
#define FIXED_MAX 4000000.0 /* times NANO it is still exact in 2^53 */
#define BOUNDS_MAX 24u

const char *pl__exposition_type(enum pl_exposition_format format) {
  return format == PL_EXPOSITION_OPENMETRICS
             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
             : "text/plain; version=0.0.4; charset=utf-8";
}

/* --- pieces ------------------------------------------------------------------ */

static char *put(char *at, const char *text, size_t bytes) {
  memcpy(at, text, bytes);
  return at + bytes;
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

/* Room behind what is written; NULL: there is none, or it has failed before. */
static char *room(struct pl_exposition *e, size_t bytes) {
  if (!e->failed)
    e->failed = pl__buf_reserve(e->out, (uint32_t)bytes);
  return e->failed ? NULL : e->out->at + e->out->bytes;
}

static void written(struct pl_exposition *e, const char *end) {
  e->out->bytes = (uint32_t)(end - e->out->at);
  e->is_empty = false;
}

/* The family before has no samples: as if it had never been. */
static void drop_empty(struct pl_exposition *e) {
  if (e->is_empty)
    e->out->bytes = e->head_at;
  e->is_empty = false;
}

static char *put_fixed(char *at, uint64_t nanos) {
  char *end;

  at = pl__put_u64(at, nanos / NANO);
  *at++ = '.';
  end = pl__put_padded(at, nanos % NANO, 9);
  while (end[-1] == '0' && end - 1 > at)
    end--;
  return end;
}

/* Numbers of up to nine decimals are written without snprintf, which is what
 * scrapes spend most of their time in otherwise. */
static char *put_number(char *at, double n) {
  double whole = floor(n), nanos = n > 0 && n < FIXED_MAX ? n * NANO : 0;

  if (isnan(n))
    return PUT(at, "NaN");
  if (isinf(n))
    return n > 0 ? PUT(at, "+Inf") : PUT(at, "-Inf");
  if (n == whole && fabs(n) <= 9007199254740992.0)
    return pl__put_double(at, n);
  if (nanos > 0 && round(nanos) / NANO == n)
    return put_fixed(at, (uint64_t)round(nanos));
  at += snprintf(at, NUMBER_BYTES, "%.17g", n);
  return at;
}

static bool ends_in(struct pl_slice name, const char *tail) {
  size_t bytes = strlen(tail);

  return name.bytes > bytes &&
         memcmp(name.at + name.bytes - bytes, tail, bytes) == 0;
}

/* --- heads ------------------------------------------------------------------ */

static char *put_help(char *at, struct pl_slice help, bool quotes) {
  for (uint32_t i = 0; i < help.bytes; i++) {
    char c = help.at[i];
    if (c == '\\' || c == '\n' || (quotes && c == '"'))
      *at++ = '\\';
    *at++ = c == '\n' ? 'n' : c;
  }
  return at;
}

static const char *kind_name(enum pl_metric_kind kind) {
  return kind == PL_METRIC_COUNTER ? "counter"
         : kind == PL_METRIC_GAUGE ? "gauge"
                                   : "histogram";
}

static char *put_unit(char *at, struct pl_slice name) {
  static const char *const units[] = {"_seconds", "_bytes"};

  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (ends_in(name, units[i])) {
      at = PUT(at, "# UNIT ");
      at = put(at, name.at, name.bytes);
      *at++ = ' ';
      at = put(at, units[i] + 1, strlen(units[i] + 1));
      *at++ = '\n';
    }
  return at;
}

static void head(struct pl_exposition *e, struct pl_slice name,
                 struct pl_slice help, enum pl_metric_kind kind) {
  bool is_open = e->format == PL_EXPOSITION_OPENMETRICS;
  struct pl_slice base = name;
  char *at;

  if (e->otlp) {
    pl__otlp_metrics_head(e->otlp, name, help, kind);
    e->name = name;
    return;
  }
  drop_empty(e);
  e->name = name;
  at = room(e, 3 * name.bytes + 2 * help.bytes + LINE_BYTES);
  if (!at)
    return;
  e->head_at = e->out->bytes;
  if (is_open && kind == PL_METRIC_COUNTER)
    base.bytes -= 6; /* _total */
  at = PUT(at, "# HELP ");
  at = put(at, base.at, base.bytes);
  *at++ = ' ';
  at = put_help(at, help, is_open);
  at = PUT(at, "\n# TYPE ");
  at = put(at, base.at, base.bytes);
  *at++ = ' ';
  at = put(at, kind_name(kind), strlen(kind_name(kind)));
  *at++ = '\n';
  written(e, is_open ? put_unit(at, base) : at);
  e->is_empty = true;
}

/* --- samples ---------------------------------------------------------------- */

static const char *const others[PL_METRICS_OTHERS] = {"control", "master"};

static char *put_worker(char *at, const struct pl_metrics *m, uint32_t shard) {
  at = PUT(at, "worker=\"");
  if (shard < m->worker_count)
    at = pl__put_u64(at, shard);
  else
    at = put(at, others[shard - m->worker_count],
             strlen(others[shard - m->worker_count]));
  *at++ = '"';
  return at;
}

static char *put_subject(char *at, struct pl_slice name, const char *suffix,
                         struct pl_slice labels, const char *le) {
  at = put(at, name.at, name.bytes);
  at = put(at, suffix, strlen(suffix));
  if (labels.bytes || le) {
    *at++ = '{';
    at = put(at, labels.at, labels.bytes);
    if (le && labels.bytes)
      *at++ = ',';
    if (le)
      at = put(at, le, strlen(le));
    *at++ = '}';
  }
  *at++ = ' ';
  return at;
}

static void sample(struct pl_exposition *e, struct pl_slice labels,
                   double number) {
  char *at;

  if (e->otlp) {
    pl__otlp_metrics_number(e->otlp, labels, number);
    return;
  }
  at = room(e, e->name.bytes + labels.bytes + LINE_BYTES);
  if (!at)
    return;
  at = put_subject(at, e->name, "", labels, NULL);
  at = put_number(at, number);
  *at++ = '\n';
  written(e, at);
}

/* --- histograms ------------------------------------------------------------- */

/* Where histograms of one unit are cut: powers of two. */
struct bounds {
  int first, step;
  uint32_t count;
};

static struct bounds bounds_of(struct pl_slice name) {
  if (ends_in(name, "_seconds"))
    return (struct bounds){-14, 1, 20};
  if (ends_in(name, "_bytes"))
    return (struct bounds){6, 2, 12};
  return (struct bounds){-10, 2, 16};
}

/* `le` for each of them, made once for a family. */
struct cuts {
  struct bounds bounds;
  char le[BOUNDS_MAX + 1][32]; /* le="0.25" */
  double ends[BOUNDS_MAX];
};

static void cuts_make(struct cuts *c, struct pl_slice name) {
  c->bounds = bounds_of(name);
  for (uint32_t i = 0; i < c->bounds.count; i++) {
    char *at = PUT(c->le[i], "le=\"");
    double end = ldexp(1, c->bounds.first + (int)i * c->bounds.step);
    c->ends[i] = end;
    at = put_number(at, end);
    at = end >= 1 ? PUT(at, ".0\"") : PUT(at, "\"");
    *at = '\0';
  }
  memcpy(c->le[c->bounds.count], "le=\"+Inf\"", sizeof("le=\"+Inf\""));
}

static uint32_t cut_of(const struct cuts *c, double number) {
  uint32_t i = 0;

  while (i < c->bounds.count && number > c->ends[i])
    i++;
  return i;
}

static void choose_of_shard(const struct cuts *c, const struct pl_buckets *b,
                            struct pl_otlp_exemplar *chosen) {
  for (uint32_t i = 0; i < PL_SHARD_EXAMPLES; i++) {
    struct pl_otlp_exemplar one;
    if (!pl__example_get(&b->examples[i], &one.number, &one.origin))
      continue;
    uint32_t cut = cut_of(c, one.number);
    if (one.origin.now > chosen[cut].origin.now)
      chosen[cut] = one;
  }
}

/* ` # {trace_id="..."} 0.25 1700000000.123` */
static char *put_exemplar(char *at, const struct pl_otlp_exemplar *one) {
  const struct pl_origin *o = &one->origin;

  if (o->trace[0] || o->trace[1]) {
    at = PUT(at, " # {trace_id=\"");
    at = pl__put_hex(at, o->trace[0]);
    at = pl__put_hex(at, o->trace[1]);
  } else {
    at = PUT(at, " # {request_id=\"");
    at = pl__put_hex(at, o->request_id);
  }
  at = PUT(at, "\"} ");
  at = put_number(at, one->number);
  *at++ = ' ';
  return put_fixed(at, (uint64_t)(o->now * 1000) * (NANO / 1000));
}

static uint64_t octaves_sum(const struct pl_histogram *h, uint32_t from,
                            uint32_t to) {
  uint64_t sum = 0;

  for (uint32_t octave = from; octave < to; octave++) {
    if (!(h->octaves >> octave & 1))
      continue;
    for (uint32_t i = 0; i < PL_HISTOGRAM_STEPS; i++)
      sum += h->counts[octave * PL_HISTOGRAM_STEPS + i];
  }
  return sum;
}

/* What was counted up to each cut and above the one before it; returns the sum
 * of all. */
static uint64_t cut_counts(const struct cuts *c, const struct pl_histogram *h,
                           uint64_t *counts) {
  uint64_t sum = 0;
  uint32_t from = 0;

  for (uint32_t i = 0; i <= c->bounds.count; i++) {
    uint32_t to = PL_HISTOGRAM_OCTAVES;
    if (i < c->bounds.count)
      to = (uint32_t)(c->bounds.first + (int)i * c->bounds.step -
                      PL_HISTOGRAM_EXPONENT_MIN);
    counts[i] = octaves_sum(h, from, to);
    sum += counts[i];
    from = to;
  }
  return sum;
}

static char *put_buckets(struct pl_exposition *e, char *at,
                         struct pl_slice labels, const struct cuts *c,
                         const uint64_t *counts,
                         const struct pl_otlp_exemplar *chosen) {
  uint64_t sum = 0;

  for (uint32_t i = 0; i <= c->bounds.count; i++) {
    sum += counts[i];
    at = put_subject(at, e->name, "_bucket", labels, c->le[i]);
    at = pl__put_u64(at, sum);
    if (chosen[i].origin.now > 0)
      at = put_exemplar(at, &chosen[i]);
    *at++ = '\n';
  }
  return at;
}

static void histogram(struct pl_exposition *e, struct pl_slice labels,
                      const struct cuts *c, const struct pl_histogram *h,
                      const struct pl_otlp_exemplar *chosen) {
  size_t line = e->name.bytes + labels.bytes + LINE_BYTES + EXEMPLAR_BYTES;
  uint64_t counts[BOUNDS_MAX + 1], count = cut_counts(c, h, counts);
  char *at;

  if (e->otlp) {
    pl__otlp_metrics_histogram(
        e->otlp, labels,
        &(struct pl_otlp_histogram){.sum = h->sum,
                                    .count = count,
                                    .counts = counts,
                                    .bounds = c->ends,
                                    .bucket_count = c->bounds.count + 1,
                                    .exemplars = chosen});
    return;
  }
  at = room(e, line * (c->bounds.count + 3));
  if (!at)
    return;
  at = put_buckets(e, at, labels, c, counts, chosen);
  at = put_subject(at, e->name, "_sum", labels, NULL);
  at = put_number(at, h->sum);
  *at++ = '\n';
  at = put_subject(at, e->name, "_count", labels, NULL);
  at = pl__put_u64(at, count);
  *at++ = '\n';
  written(e, at);
}

/* --- what the table has ------------------------------------------------------ */

/* One scrape. */
struct scrape {
  struct pl_exposition *e;
  const struct pl_metrics *m;
  uint32_t shard_count;
  struct cuts cuts;        /* of the family */
  struct pl_histogram sum; /* of the series */
  uint32_t family_count;
  uint32_t *ends;  /* by family: where its series end in `order` */
  uint32_t *order; /* series, family by family */
};

/* Whether a process has a part in a series: workers have in all. */
static bool has_part(const struct scrape *s, uint32_t kind, uint32_t cell,
                     uint32_t shard) {
  const struct pl_shard *of = &s->m->shards[shard];
  enum pl_shard_life life = pl__shard_life(of);

  if (life == PL_SHARD_UNUSED ||
      (kind == PL_METRIC_GAUGE && life != PL_SHARD_LIVE))
    return false;
  return shard < s->m->worker_count || pl__shard_load(&of->cells[cell]) != 0;
}

static double merged(const struct scrape *s, uint32_t kind, uint32_t merge,
                     uint32_t cell) {
  double number = 0;
  bool is_first = true;

  for (uint32_t i = 0; i < s->shard_count; i++) {
    double one;
    if (!has_part(s, kind, cell, i))
      continue;
    one = pl__shard_get(&s->m->shards[i], cell);
    if (merge == PL_MERGE_SUM)
      number += one;
    else
      number = is_first ? one : fmax(number, one);
    is_first = false;
  }
  return number;
}

static void write_histogram(struct scrape *s, struct pl_slice labels,
                            uint32_t cell, uint32_t from, uint32_t to) {
  struct pl_otlp_exemplar chosen[BOUNDS_MAX + 1];

  memset(chosen, 0, sizeof chosen);
  for (uint32_t i = from; i < to; i++) {
    const struct pl_buckets *b = pl__shard_peek(&s->m->shards[i], cell);
    if (!b)
      continue;
    pl__shard_gather(&s->m->shards[i], cell, &s->sum);
    if (s->e->format != PL_EXPOSITION_PROMETHEUS)
      choose_of_shard(&s->cuts, b, chosen);
  }
  histogram(s->e, labels, &s->cuts, &s->sum, chosen);
  pl__histogram_clear(&s->sum);
}

/* A series for each process that has, or had, a part in it. */
static void write_each(struct scrape *s, uint32_t kind, struct pl_slice labels,
                       uint32_t cell) {
  char text[PL_METRICS_LABELS_BYTES + 32];

  for (uint32_t i = 0; i < s->shard_count; i++) {
    char *at = put(text, labels.at, labels.bytes);
    if (!has_part(s, kind, cell, i))
      continue;
    if (labels.bytes)
      *at++ = ',';
    at = put_worker(at, s->m, i);
    struct pl_slice all = pl__slice(text, (size_t)(at - text));
    if (kind == PL_METRIC_HISTOGRAM)
      write_histogram(s, all, cell, i, i + 1);
    else
      sample(s->e, all, pl__shard_get(&s->m->shards[i], cell));
  }
}

static void write_series(struct scrape *s, const struct pl_metric_family *f,
                         const struct pl_metric_series *one) {
  struct pl_slice labels =
      pl__slice(s->m->table->text + one->text_at, one->text_bytes);

  if (f->merge == PL_MERGE_EACH)
    write_each(s, f->kind, labels, one->cell);
  else if (f->kind == PL_METRIC_HISTOGRAM)
    write_histogram(s, labels, one->cell, 0, s->shard_count);
  else
    sample(s->e, labels, merged(s, f->kind, f->merge, one->cell));
}

static void write_family(struct scrape *s, uint32_t family) {
  const struct pl_metrics_table *t = s->m->table;
  const struct pl_metric_family *f = &t->families[family];
  uint32_t from = family ? s->ends[family - 1] : 0;

  if (from == s->ends[family])
    return;
  head(s->e, pl__slice(f->name, f->name_bytes),
       pl__slice(t->text + f->help_at, f->help_bytes),
       (enum pl_metric_kind)f->kind);
  if (f->kind == PL_METRIC_HISTOGRAM)
    cuts_make(&s->cuts, s->e->name);
  for (uint32_t i = from; i < s->ends[family]; i++)
    write_series(s, f, &t->series[s->order[i]]);
}

/* Series lie in the order they were made in; a family's have to come together.
 */
static void sort(struct scrape *s, uint32_t series_count) {
  const struct pl_metric_series *series = s->m->table->series;
  uint32_t at = 0;

  for (uint32_t i = 0; i < series_count; i++)
    if (pl__metrics_is_sound(s->m->table, &series[i]))
      s->ends[series[i].family]++;
  for (uint32_t i = 0; i < s->family_count; i++) {
    uint32_t count = s->ends[i];
    s->ends[i] = at; /* where it begins; raised to its end below */
    at += count;
  }
  for (uint32_t i = 0; i < series_count; i++)
    if (pl__metrics_is_sound(s->m->table, &series[i]))
      s->order[s->ends[series[i].family]++] = i;
}

/* How often label values found no place of their own. */
static void write_refused(struct scrape *s) {
  const struct pl_metrics_table *t = s->m->table;
  bool has_head = false;

  for (uint32_t i = 0; i < s->family_count; i++) {
    const struct pl_metric_family *f = &t->families[i];
    uint64_t refused = pl__shard_load(&f->refused);
    char labels[PL_METRICS_NAME_BYTES + 16];
    if (!refused)
      continue;
    if (!has_head)
      pl__exposition_head(s->e, "perilune_metrics_refused_total",
                          "Look-ups of label values that ended in the series "
                          "other, since there were metrics.series_max.",
                          PL_METRIC_COUNTER);
    has_head = true;
    snprintf(labels, sizeof labels, "metric=\"%.*s\"",
             (int)(PL_METRICS_NAME_BYTES - 1), f->name);
    pl__exposition_sample(s->e, labels, (double)refused);
  }
}

void pl__exposition_metrics(struct pl_exposition *e,
                            const struct pl_metrics *m) {
  const struct pl_metrics_table *t = m->table;
  /* Series first: the families of those that are seen are seen, too. */
  uint32_t series_count = pl__metrics_series_count(t);
  struct scrape *s = pl__alloc_zero(
      sizeof *s + (series_count + PL_METRICS_FAMILIES_MAX) * sizeof(uint32_t));

  if (!s) {
    e->failed = e->failed ? e->failed : PL_ENOMEM;
    return;
  }
  s->e = e;
  s->m = m;
  s->shard_count = m->worker_count + PL_METRICS_OTHERS;
  s->family_count = pl__metrics_family_count(t);
  s->ends = (uint32_t *)(s + 1);
  s->order = s->ends + PL_METRICS_FAMILIES_MAX;
  sort(s, series_count);
  for (uint32_t i = 0; i < s->family_count && !e->failed; i++)
    write_family(s, i);
  write_refused(s);
  pl__free(s);
}

/* --- what the caller has ------------------------------------------------------ */

void pl__exposition_begin(struct pl_exposition *e,
                          enum pl_exposition_format format,
                          struct pl_buf *out) {
  *e = (struct pl_exposition){.out = out, .format = format};
}

void pl__exposition_begin_otlp(struct pl_exposition *e,
                               struct pl_otlp_metrics *otlp) {
  *e = (struct pl_exposition){.otlp = otlp, .format = PL_EXPOSITION_OTLP};
}

void pl__exposition_head(struct pl_exposition *e, const char *name,
                         const char *help, enum pl_metric_kind kind) {
  head(e, pl__slice_text(name), pl__slice_text(help), kind);
}

void pl__exposition_sample(struct pl_exposition *e, const char *labels,
                           double number) {
  sample(e, pl__slice_text(labels), number);
}

int pl__exposition_end(struct pl_exposition *e) {
  drop_empty(e);
  if (!e->failed && e->format == PL_EXPOSITION_OPENMETRICS)
    e->failed = pl__buf_append(e->out, "# EOF\n", 6);
  return e->failed;
}
