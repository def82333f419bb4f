/* server/heap_profile.c - see heap_profile.h. */
#include "server/heap_profile.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/heap_samples.h"
#include "fabric/map.h"
#include "fabric/metrics.h"
#include "fabric/names.h"
#include "log/pprof.h"
#include "server/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum value { ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE, VALUES };

/* What a stack of a worker has allocated and holds. */
struct row {
  uint32_t worker;
  uint32_t stack;
  double values[VALUES];
};

struct rows {
  struct row *at;
  uint32_t count;
  uint32_t cap;
};

/* --- what is there ------------------------------------------------------------ */

static int row_compare(const void *a, const void *b) {
  const struct row *x = a, *y = b;

  if (x->worker != y->worker)
    return x->worker < y->worker ? -1 : 1;
  return (x->stack > y->stack) - (x->stack < y->stack);
}

static int rows_reserve(struct rows *r, uint32_t more) {
  uint32_t cap = r->count + more;
  struct row *at;

  if (cap <= r->cap)
    return 0;
  at = pl__realloc(r->at, cap * sizeof *at);
  if (!at)
    return PL_ENOMEM;
  r->at = at;
  r->cap = cap;
  return 0;
}

static struct row *rows_find(const struct rows *r, uint32_t worker,
                             uint32_t stack) {
  struct row key = {.worker = worker, .stack = stack};

  return r->count ? bsearch(&key, r->at, r->count, sizeof *r->at, row_compare)
                  : NULL;
}

/* Rows of one worker, in order; the first is that of no stack. */
static void take_totals(struct rows *r, uint32_t worker,
                        const struct pl_heap_samples *s) {
  struct row *first = &r->at[r->count];

  r->at[r->count++] = (struct row){worker, PL_HEAP_STACK_NONE, {0}};
  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    struct pl_heap_total t;
    struct row *to = first;
    if (!pl__heap_total_read(s, i, &t))
      continue;
    if (t.stack != PL_HEAP_STACK_NONE) {
      to = &r->at[r->count++];
      *to = (struct row){worker, t.stack, {0}};
    }
    to->values[ALLOC_OBJECTS] += t.objects;
    to->values[ALLOC_SPACE] += t.bytes;
  }
  qsort(first, (size_t)(r->at + r->count - first), sizeof *first, row_compare);
}

static void take_live(struct rows *r, uint32_t worker,
                      const struct pl_heap_samples *s) {
  for (uint32_t i = 0; i < PL_HEAP_LIVE_SLOTS; i++) {
    struct pl_heap_live b;
    struct row *to;
    if (!pl__heap_live_read(s, i, &b))
      continue;
    to = rows_find(r, worker, b.stack);
    if (!to)
      to = rows_find(r, worker, PL_HEAP_STACK_NONE);
    if (!to)
      continue;
    to->values[INUSE_OBJECTS] += b.objects;
    to->values[INUSE_SPACE] += b.objects * (double)b.bytes;
  }
}

/* To read pages of the fabric that nobody has written would make them. */
static bool is_untouched(const struct pl_heap_samples *s) {
  return !atomic_load_explicit(&s->live_count, memory_order_relaxed) &&
         !atomic_load_explicit(&s->totals_count, memory_order_relaxed);
}

static int rows_take(struct rows *r, const struct pl_fabric *f,
                     uint32_t workers) {
  for (uint32_t i = 0; i < workers; i++) {
    struct pl_heap_samples *s;
    int failed = pl__layout_heap(f, i, &s);

    if (!failed && is_untouched(s))
      continue;
    failed = failed ? failed : rows_reserve(r, PL_HEAP_TOTALS_SLOTS + 1);
    if (failed)
      return failed;
    take_totals(r, i, s);
    take_live(r, i, s);
  }
  return 0;
}

/* --- differences ------------------------------------------------------------------ */

/* Takes a base off.  It was made by this program, but comes by way of Lua: what
 * isn't whole rows in order is refused. */
static int rows_subtract(struct rows *r, struct pl_slice base) {
  struct rows before = {.count = (uint32_t)(base.bytes / sizeof(struct row))};

  if (base.bytes % sizeof(struct row))
    return PL_EINVAL;
  before.at = pl__alloc(base.bytes);
  if (!before.at)
    return PL_ENOMEM;
  memcpy(before.at, base.at, base.bytes);
  for (uint32_t i = 0; i < r->count; i++) {
    struct row *now = &r->at[i];
    const struct row *then = rows_find(&before, now->worker, now->stack);
    for (unsigned v = 0; then && v < VALUES; v++)
      now->values[v] -= then->values[v];
  }
  pl__free(before.at);
  return 0;
}

/* --- the profile -------------------------------------------------------------------- */

struct profile {
  const struct pl_fabric *fabric;
  uint32_t workers;
  uint64_t asked_ms; /* monotonic, before anything was read */
  bool is_allocs;    /* values in that order */
  double seconds;    /* of a difference; 0: it is none */
  struct pl_slice base;
  struct pl_pprof pprof;
};

static const struct pl_pprof_type types[VALUES] = {{"alloc_objects", "count"},
                                                   {"alloc_space", "bytes"},
                                                   {"inuse_objects", "count"},
                                                   {"inuse_space", "bytes"}};

/* Where a value stands in samples: pprof shows the last one. */
static unsigned place_of(const struct profile *p, unsigned value) {
  return p->is_allocs ? (value + 2) % VALUES : value;
}

static void put_sample(struct profile *p, const uint64_t *locations,
                       uint32_t depth, const double *values, int64_t worker,
                       const char *kind) {
  char number[16];
  int bytes = snprintf(number, sizeof number, "%d", (int)worker);
  struct pl_pprof_label labels[] = {
      {.key = "kind", .text = pl__slice_text(kind)},
      {.key = "worker", .text = pl__slice(number, (size_t)bytes)}};
  int64_t out[VALUES];
  bool is_nothing = true;

  for (unsigned v = 0; v < VALUES; v++) {
    int64_t n = (int64_t)(values[v] < 0 ? values[v] - 0.5 : values[v] + 0.5);
    out[place_of(p, v)] = n;
    is_nothing = is_nothing && n == 0;
  }
  if (!is_nothing)
    pl__pprof_sample(&p->pprof, locations, depth, out, labels,
                     worker < 0 ? 1 : 2);
}

static void put_row(struct profile *p, const struct row *row,
                    const struct pl_names *names) {
  struct pl_symbol frames[PL_STACKS_DEPTH_MAX];
  uint64_t locations[PL_STACKS_DEPTH_MAX];
  uint32_t depth = pl__names_find(names, row->stack, p->asked_ms, frames);

  for (uint32_t i = 0; i < depth; i++)
    locations[i] = pl__pprof_location(&p->pprof, &frames[i]);
  put_sample(p, locations, depth, row->values, row->worker, "lua");
}

static int put_rows(struct profile *p) {
  struct rows rows = {0};
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;
  int failed = rows_take(&rows, p->fabric, p->workers);

  if (!failed && p->base.bytes)
    failed = rows_subtract(&rows, p->base);
  for (uint32_t i = 0; i < rows.count && !failed; i++) {
    failed =
        pl__layout_symbols(p->fabric, rows.at[i].worker, &symbols, &stacks);
    if (!failed)
      put_row(p, &rows.at[i], &(struct pl_names){symbols, stacks});
  }
  pl__free(rows.at);
  return failed;
}

/* Memory that isn't sampled, as one frame. */
static void put_whole(struct profile *p, const char *name, double bytes,
                      int64_t worker, const char *kind) {
  double values[VALUES] = {[INUSE_OBJECTS] = 1, [INUSE_SPACE] = bytes};
  uint64_t location =
      pl__pprof_place(&p->pprof, pl__slice_text(name), PL_SLICE(""), 0, 0);

  if (bytes > 0)
    put_sample(p, &location, 1, values, worker, kind);
}

static double gauge(const struct pl_heap_samples *s, enum pl_heap_gauge g) {
  return (double)atomic_load_explicit(&s->gauges[g], memory_order_relaxed);
}

static void put_gauges(struct profile *p, uint32_t worker,
                       const struct pl_heap_samples *s) {
  double allocated = gauge(s, PL_HEAP_ALLOCATED);
  double active = gauge(s, PL_HEAP_ACTIVE);

  put_whole(p, "(C heap)", allocated - gauge(s, PL_HEAP_LUA), worker, "c");
  put_whole(p, "(C heap: room in pages)", active - allocated, worker, "c");
  put_whole(p, "(C heap: pages kept)", gauge(s, PL_HEAP_RESIDENT) - active,
            worker, "c");
  put_whole(p, "(machine code of traces)", gauge(s, PL_HEAP_CODE), worker,
            "map");
}

static void put_fabric(struct profile *p) {
  struct pl_fabric_section section;
  char name[PL_FABRIC_NAME_BYTES + 16];
  uint64_t bytes;

  for (uint32_t i = 0; pl__fabric_section(p->fabric, i, &section, &bytes);
       i++) {
    snprintf(name, sizeof name, "(fabric: %s)", section.name);
    put_whole(p, name, (double)bytes, -1, "fabric");
  }
}

/* What was not sampled has no past: differences leave it out. */
static void put_others(struct profile *p) {
  for (uint32_t i = 0; i < p->workers; i++) {
    struct pl_heap_samples *s;
    if (!pl__layout_heap(p->fabric, i, &s))
      put_gauges(p, i, s);
  }
  put_fabric(p);
}

static int64_t mean_bytes(const struct profile *p) {
  struct pl_heap_samples *s;

  return p->workers && !pl__layout_heap(p->fabric, 0, &s)
             ? atomic_load_explicit(&s->mean_bytes, memory_order_relaxed)
             : 0;
}

static int put_profile(struct profile *p, struct pl_buf *out) {
  struct pl_pprof_type ordered[VALUES];
  struct pl_pprof_options options = {
      .types = ordered,
      .type_count = VALUES,
      .period_type = {"space", "bytes"},
      .period = mean_bytes(p),
      .time_ns = pl__clock_realtime_ns() - (int64_t)(p->seconds * PL_NS_PER_S),
      .duration_ns = (int64_t)(p->seconds * PL_NS_PER_S)};
  int failed;

  for (unsigned v = 0; v < VALUES; v++)
    ordered[place_of(p, v)] = types[v];
  failed = pl__pprof_begin(&p->pprof, &options);
  failed = failed ? failed : put_rows(p);
  if (failed) {
    pl__pprof_drop(&p->pprof);
    return failed;
  }
  if (!p->is_allocs && p->seconds == 0)
    put_others(p);
  return pl__pprof_end(&p->pprof, out);
}

/* --- collections --------------------------------------------------------------------- */

static void collect(const struct profile *p) {
  for (uint32_t i = 0; i < p->workers; i++) {
    struct pl_heap_samples *s;
    if (!pl__layout_heap(p->fabric, i, &s))
      atomic_fetch_add_explicit(&s->wanted, 1, memory_order_release);
  }
}

static bool is_collected(const struct profile *p,
                         const struct pl_metrics *metrics) {
  for (uint32_t i = 0; i < p->workers; i++) {
    struct pl_heap_samples *s;
    if (pl__shard_life(&metrics->shards[i]) != PL_SHARD_LIVE ||
        pl__layout_heap(p->fabric, i, &s))
      continue;
    if (atomic_load_explicit(&s->done, memory_order_acquire) !=
        atomic_load_explicit(&s->wanted, memory_order_relaxed))
      return false;
  }
  return true;
}

/* --- what is asked -------------------------------------------------------------------- */

static struct pl_slice line_take(struct pl_slice *rest) {
  const char *end = rest->bytes ? memchr(rest->at, '\n', rest->bytes) : NULL;
  struct pl_slice line =
      end ? pl__slice(rest->at, (size_t)(end - rest->at)) : *rest;

  *rest =
      end ? pl__slice(end + 1, rest->bytes - line.bytes - 1) : pl__slice("", 0);
  return line;
}

static int put_base(const struct profile *p, struct pl_buf *out) {
  struct rows rows = {0};
  int failed = rows_take(&rows, p->fabric, p->workers);

  if (!failed)
    failed =
        pl__buf_append(out, rows.at, rows.count * (uint32_t)sizeof(struct row));
  pl__free(rows.at);
  return failed;
}

int pl__heap_profile_answer(const struct pl_fabric *f, struct pl_slice said,
                            struct pl_buf *out) {
  struct profile p = {.fabric = f};
  struct pl_metrics metrics;
  struct pl_slice what = line_take(&said), seconds = line_take(&said);
  char number[32];
  int failed = pl__layout_metrics(f, &metrics);

  if (failed)
    return failed;
  p.workers = metrics.worker_count;
  p.asked_ms = (uint64_t)(pl__clock_monotonic_ns() / PL_NS_PER_MS);
  p.base = said;
  snprintf(number, sizeof number, "%.*s", (int)seconds.bytes, seconds.at);
  p.seconds = strtod(number, NULL);
  p.is_allocs = pl__slice_equal(what, PL_SLICE("allocs"));
  if (p.is_allocs || pl__slice_equal(what, PL_SLICE("heap")))
    return put_profile(&p, out);
  if (pl__slice_equal(what, PL_SLICE("base")))
    return put_base(&p, out);
  if (pl__slice_equal(what, PL_SLICE("collect"))) {
    collect(&p);
    return 0;
  }
  if (pl__slice_equal(what, PL_SLICE("collected")))
    return pl__buf_append(out, "yes", is_collected(&p, &metrics) ? 3 : 0);
  return PL_EINVAL;
}
