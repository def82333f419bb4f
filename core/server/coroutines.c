/* server/coroutines.c - see coroutines.h. */
#include "server/coroutines.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/metrics.h"
#include "fabric/names.h"
#include "fabric/routes.h"
#include "fabric/waits.h"
#include "log/digits.h"
#include "log/pprof.h"
#include "server/layout.h"

#define LINE_BYTES 1024
#define SHOWN_MAX 50u /* of the lists in JSON */
#define PLACE_BYTES 512

/* Where a worker tells of its coroutines. */
struct source {
  const struct pl_waits *waits; /* NULL: nowhere */
  struct pl_names names;
  uint64_t asked_ms; /* monotonic, before anything was read */
  uint32_t entries;
};

struct row {
  struct pl_waits_seen seen;
  uint32_t worker;
  int64_t age_ns;
};

struct reading {
  const struct pl_fabric *fabric;
  const struct pl_routes *routes;
  struct source *sources; /* by worker */
  uint32_t worker_count;
  struct row *rows;
  uint32_t row_count;
  int64_t now_ns;
  struct pl_buf *out;
  int failed;
};

/* --- writing; what fails once stays failed -------------------------------- */

__attribute__((format(printf, 2, 3))) static void put(struct reading *r,
                                                      const char *format, ...) {
  char text[LINE_BYTES];
  va_list args;
  int n;

  va_start(args, format);
  n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n >= (int)sizeof text)
    n = sizeof text - 1;
  if (!r->failed)
    r->failed = pl__buf_append(r->out, text, (uint32_t)n);
}

/* `,"key":"text"` */
static void put_text(struct reading *r, const char *key, struct pl_slice text) {
  char *at;

  put(r, ",\"%s\":\"", key);
  if (!r->failed)
    r->failed = pl__buf_reserve(r->out, text.bytes * PL_DIGITS_JSON_FACTOR);
  if (r->failed)
    return;
  at = pl__put_json(r->out->at + r->out->bytes, text);
  r->out->bytes = (uint32_t)(at - r->out->at);
  put(r, "\"");
}

/* --- places ----------------------------------------------------------------- */

static struct pl_slice file_of(const struct pl_symbol *s) {
  if (s->chunk.bytes && (s->chunk.at[0] == '@' || s->chunk.at[0] == '='))
    return pl__slice(s->chunk.at + 1, s->chunk.bytes - 1);
  return s->chunk;
}

/* The symbols of a stack, without the frames of ours that every wait ends in:
 * but the innermost function that the app has called stays. */
static uint32_t stack_of(const struct source *s, uint32_t stack,
                         struct pl_symbol *out) {
  uint32_t depth =
      stack ? pl__names_find(&s->names, stack, s->asked_ms, out) : 0;
  uint32_t first = 0;

  while (first + 1 < depth && out[first].kind != PL_SYMBOL_LUA &&
         out[first + 1].kind != PL_SYMBOL_LUA)
    first++;
  if (first + 1 >= depth)
    return depth;
  memmove(out, out + first, (depth - first) * sizeof *out);
  return depth - first;
}

/* "file:line" of the innermost frame of the app's. */
static struct pl_slice place_of(const struct source *s, uint32_t stack,
                                char *out) {
  struct pl_symbol symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth = stack_of(s, stack, symbols);

  out[0] = '\0';
  for (uint32_t i = 0; i < depth; i++) {
    struct pl_slice file = file_of(&symbols[i]);
    if (symbols[i].kind != PL_SYMBOL_LUA)
      continue;
    snprintf(out, PLACE_BYTES, "%.*s:%u", (int)file.bytes, file.at,
             symbols[i].line);
    break;
  }
  return pl__slice_text(out);
}

static struct pl_slice pattern_of(const struct reading *r, uint32_t generation,
                                  uint32_t route) {
  if (route == PL_WAITS_NO_ROUTE)
    return PL_SLICE("");
  return pl__routes_lookup(r->routes, generation, route);
}

/* Who started it: a line, or a request. */
static struct pl_slice starter_of(const struct reading *r, uint32_t worker,
                                  uint32_t started, uint32_t generation,
                                  uint32_t route, char *out) {
  struct pl_slice place = place_of(&r->sources[worker], started, out);
  struct pl_slice pattern = pattern_of(r, generation, route);

  if (place.bytes || started || !pattern.bytes)
    return place;
  snprintf(out, PLACE_BYTES, "request %.*s", (int)pattern.bytes, pattern.at);
  return pl__slice_text(out);
}

static void put_frames(struct reading *r, uint32_t worker, uint32_t stack,
                       const char *lead) {
  struct pl_symbol symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth = stack_of(&r->sources[worker], stack, symbols);

  for (uint32_t i = 0; i < depth; i++) {
    const struct pl_symbol *s = &symbols[i];
    struct pl_slice file = file_of(s);
    struct pl_slice name = s->name.bytes ? s->name : PL_SLICE("(function)");
    put(r, "%s%.*s\n%s\t%.*s", lead, (int)name.bytes, name.at, lead,
        (int)file.bytes, file.at);
    if (s->line)
      put(r, ":%u", s->line);
    put(r, "\n");
  }
}

/* A worker's number as a label. */
static struct pl_slice number_text(uint32_t number, char out[16]) {
  snprintf(out, 16, "%u", number);
  return pl__slice_text(out);
}

/* --- reading ------------------------------------------------------------------ */

/* What it does: its reason if it waits. */
static const char *doing(const struct pl_waits_seen *s) {
  return s->state == PL_WAITS_PARKED ? pl__waits_reason_name(s->reason)
                                     : pl__waits_state_name(s->state);
}

static const char *bucket_of(int64_t age_ns) {
  static const struct {
    int64_t seconds;
    const char *name;
  } buckets[] = {{1, "<1s"},   {10, "<10s"},  {60, "<1m"},
                 {300, "<5m"}, {3600, "<1h"}, {INT64_MAX, ">=1h"}};
  size_t i = 0;

  while (buckets[i].seconds <= age_ns / PL_NS_PER_S)
    i++;
  return buckets[i].name;
}

static int sources_find(struct reading *r) {
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;
  struct pl_waits *waits;

  for (uint32_t i = 0; i < r->worker_count; i++) {
    struct source *s = &r->sources[i];
    int failed = pl__layout_waits(r->fabric, i, &waits, &s->entries);
    failed =
        failed ? failed : pl__layout_symbols(r->fabric, i, &symbols, &stacks);
    if (failed)
      return failed;
    s->waits = waits;
    s->names = (struct pl_names){symbols, stacks};
    s->asked_ms = (uint64_t)(r->now_ns / PL_NS_PER_MS);
  }
  return 0;
}

static int reading_open(struct reading *r, const struct pl_fabric *f,
                        struct pl_buf *out) {
  struct pl_metrics metrics;
  struct pl_routes *routes;
  int failed = pl__layout_metrics(f, &metrics);

  *r = (struct reading){
      .fabric = f, .out = out, .now_ns = pl__clock_monotonic_ns()};
  failed = failed ? failed : pl__layout_routes(f, &routes);
  if (failed)
    return failed;
  r->routes = routes;
  r->worker_count = metrics.worker_count;
  r->sources = pl__alloc_zero(r->worker_count * sizeof *r->sources);
  return r->sources ? sources_find(r) : PL_ENOMEM;
}

static int reading_close(struct reading *r) {
  pl__free(r->sources);
  pl__free(r->rows);
  return r->failed;
}

static void rows_of(struct reading *r, uint32_t worker, uint32_t bank) {
  const struct source *s = &r->sources[worker];
  uint32_t count = pl__waits_count(s->waits, s->entries, bank);

  for (uint32_t i = 0; i < count && r->row_count < PL_COROUTINES_MAX; i++) {
    struct row *row = &r->rows[r->row_count];
    if (!pl__waits_see(s->waits, s->entries, bank, i, &row->seen))
      continue;
    row->worker = worker;
    row->age_ns = r->now_ns - row->seen.since_ns;
    if (row->age_ns < 0)
      row->age_ns = 0;
    r->row_count++;
  }
}

static int rows_read(struct reading *r) {
  uint64_t count = 0;

  for (uint32_t i = 0; i < r->worker_count; i++)
    for (uint32_t bank = 0; bank < PL_WAITS_BANKS; bank++)
      count +=
          pl__waits_count(r->sources[i].waits, r->sources[i].entries, bank);
  count += 1024; /* that come meanwhile */
  if (count > PL_COROUTINES_MAX)
    count = PL_COROUTINES_MAX;
  r->rows =
      pl__alloc(PL_COROUTINES_MAX == count ? PL_COROUTINES_MAX * sizeof *r->rows
                                           : (size_t)count * sizeof *r->rows);
  if (!r->rows)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < r->worker_count; i++)
    for (uint32_t bank = 0; bank < PL_WAITS_BANKS; bank++)
      rows_of(r, i, bank);
  return 0;
}

/* --- those alike together ------------------------------------------------------ */

#define COMPARE(x, y)                                                          \
  if ((x) != (y))                                                              \
  return (x) < (y) ? -1 : 1

static int row_compare(const void *left, const void *right) {
  const struct row *a = left, *b = right;
  int by_age;

  COMPARE(a->worker, b->worker);
  COMPARE(a->seen.state, b->seen.state);
  COMPARE(a->seen.reason, b->seen.reason);
  COMPARE(a->seen.at, b->seen.at);
  COMPARE(a->seen.started, b->seen.started);
  COMPARE(a->seen.generation, b->seen.generation);
  COMPARE(a->seen.route, b->seen.route);
  by_age = strcmp(bucket_of(a->age_ns), bucket_of(b->age_ns));
  return by_age;
}

static int older_first(const void *left, const void *right) {
  const struct row *a = left, *b = right;

  COMPARE(b->age_ns, a->age_ns);
  COMPARE(a->seen.id, b->seen.id);
  return 0;
}

/* How many from `first` on are alike. */
static uint32_t alike(const struct reading *r, uint32_t first) {
  uint32_t next = first + 1;

  while (next < r->row_count && !row_compare(&r->rows[first], &r->rows[next]))
    next++;
  return next - first;
}

/* --- profiles -------------------------------------------------------------------- */

static uint32_t locate(struct reading *r, struct pl_pprof *p, uint32_t worker,
                       uint32_t stack, const char *otherwise,
                       uint64_t *locations) {
  struct pl_symbol symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth = stack_of(&r->sources[worker], stack, symbols);
  char name[64];

  for (uint32_t i = 0; i < depth; i++)
    locations[i] = pl__pprof_location(p, &symbols[i]);
  if (depth)
    return depth;
  snprintf(name, sizeof name, "(%s)", otherwise);
  locations[0] = pl__pprof_place(p, pl__slice_text(name), PL_SLICE(""), 0, 0);
  return 1;
}

static void profile_rows(struct reading *r, struct pl_pprof *p) {
  uint64_t locations[PL_STACKS_DEPTH_MAX];
  char started[PLACE_BYTES], worker[16];

  for (uint32_t i = 0, n; i < r->row_count; i += n) {
    const struct row *row = &r->rows[i];
    const struct pl_waits_seen *s = &row->seen;
    struct pl_pprof_label labels[] = {
        {.key = "reason", .text = pl__slice_text(doing(s))},
        {.key = "age", .text = pl__slice_text(bucket_of(row->age_ns))},
        {.key = "worker", .text = number_text(row->worker, worker)},
        {.key = "started",
         .text = starter_of(r, row->worker, s->started, s->generation, s->route,
                            started)}};
    int64_t count;

    n = alike(r, i);
    count = n;
    pl__pprof_sample(p, locations,
                     locate(r, p, row->worker, s->at, doing(s), locations),
                     &count, labels, labels[3].text.bytes ? 4 : 3);
  }
}

static int profile_list(struct reading *r) {
  static const struct pl_pprof_type types[] = {{"coroutine", "count"}};
  struct pl_pprof_options options = {.types = types,
                                     .type_count = 1,
                                     .period_type = types[0],
                                     .period = 1,
                                     .time_ns = pl__clock_realtime_ns()};
  struct pl_pprof p;
  int failed = pl__pprof_begin(&p, &options);

  if (failed) {
    pl__pprof_drop(&p);
    return failed;
  }
  profile_rows(r, &p);
  return pl__pprof_end(&p, r->out);
}

/* --- text ---------------------------------------------------------------------- */

static void put_age(struct reading *r, int64_t age_ns) {
  int64_t seconds = age_ns / PL_NS_PER_S;
  int64_t n = seconds < 60     ? seconds
              : seconds < 7200 ? seconds / 60
                               : seconds / 3600;
  const char *unit = seconds < 60     ? "second"
                     : seconds < 7200 ? "minute"
                                      : "hour";

  put(r, "%" PRId64 " %s%s", n, unit, n == 1 ? "" : "s");
}

static void put_starter(struct reading *r, const struct row *row) {
  const struct pl_waits_seen *s = &row->seen;
  char text[PLACE_BYTES];
  struct pl_slice by =
      starter_of(r, row->worker, s->started, s->generation, s->route, text);

  if (by.bytes)
    put(r, "created by %.*s\n", (int)by.bytes, by.at);
}

static const char *object_kind(uint32_t reason) {
  return reason == PL_WAITS_TASK ? "task" : "channel";
}

static void put_each(struct reading *r, const struct row *row) {
  const struct pl_waits_seen *s = &row->seen;

  put(r, "coroutine %" PRIu64 " [%s, ", s->id - 1, doing(s));
  put_age(r, row->age_ns);
  put(r, "]: worker %u", row->worker);
  if (s->name.bytes)
    put(r, ", task \"%.*s\"", (int)s->name.bytes, s->name.at);
  if (s->parent)
    put(r, ", parent %" PRIu64, s->parent - 1);
  if (s->object && s->state == PL_WAITS_PARKED)
    put(r, ", waits for %s %" PRIu64, object_kind(s->reason), s->object);
  if (s->slot)
    put(r, ", request in slot %u, %.*s", s->slot - 1,
        (int)pattern_of(r, s->generation, s->route).bytes,
        pattern_of(r, s->generation, s->route).at);
  put(r, "\n");
  put_frames(r, row->worker, s->at, "");
  put_starter(r, row);
  put(r, "\n");
}

static void put_alike(struct reading *r) {
  put(r, "coroutine profile: total %u\n", r->row_count);
  for (uint32_t i = 0, n; i < r->row_count; i += n) {
    const struct row *row = &r->rows[i];
    n = alike(r, i);
    put(r, "%u [%s, %s] worker %u\n", n, doing(&row->seen),
        bucket_of(row->age_ns), row->worker);
    put_frames(r, row->worker, row->seen.at, "#\t");
    put(r, "#\t");
    put_starter(r, row);
    put(r, "\n");
  }
}

int pl__coroutines_list(const struct pl_fabric *f, struct pl_slice said,
                        struct pl_buf *out) {
  bool is_each = pl__slice_equal(said, PL_SLICE("2"));
  struct reading r;
  int failed = reading_open(&r, f, out);

  failed = failed ? failed : rows_read(&r);
  if (!failed) {
    qsort(r.rows, r.row_count, sizeof *r.rows,
          is_each ? older_first : row_compare);
    if (is_each)
      for (uint32_t i = 0; i < r.row_count; i++)
        put_each(&r, &r.rows[i]);
    else if (pl__slice_equal(said, PL_SLICE("1")))
      put_alike(&r);
    else
      r.failed = profile_list(&r);
  }
  reading_close(&r);
  return failed ? failed : r.failed;
}

/* --- block ---------------------------------------------------------------------- */

static uint64_t load(const _Atomic uint64_t *at) {
  return atomic_load_explicit(at, memory_order_relaxed);
}

static void profile_blocks(struct reading *r, struct pl_pprof *p,
                           uint32_t worker) {
  const struct pl_waits *waits = r->sources[worker].waits;
  uint64_t locations[PL_STACKS_DEPTH_MAX];
  char number[16];

  for (uint32_t i = 0; i < pl__waits_block_count(waits); i++) {
    const struct pl_waits_block *b = &waits->blocks[i];
    int64_t values[2] = {(int64_t)load(&b->count), (int64_t)load(&b->ns)};
    struct pl_pprof_label labels[] = {
        {.key = "reason",
         .text = pl__slice_text(pl__waits_reason_name(b->reason))},
        {.key = "worker", .text = number_text(worker, number)}};

    if (values[0] > 0)
      pl__pprof_sample(p, locations,
                       locate(r, p, worker, b->stack,
                              pl__waits_reason_name(b->reason), locations),
                       values, labels, 2);
  }
}

static int block_profile(struct reading *r) {
  static const struct pl_pprof_type types[] = {{"contentions", "count"},
                                               {"delay", "nanoseconds"}};
  struct pl_pprof_options options = {.types = types,
                                     .type_count = 2,
                                     .period_type = types[0],
                                     .period = 1,
                                     .time_ns = pl__clock_realtime_ns()};
  struct pl_pprof p;
  int failed = pl__pprof_begin(&p, &options);

  if (failed) {
    pl__pprof_drop(&p);
    return failed;
  }
  for (uint32_t i = 0; i < r->worker_count; i++)
    profile_blocks(r, &p, i);
  return pl__pprof_end(&p, r->out);
}

static void put_blocks(struct reading *r, uint32_t worker) {
  const struct pl_waits *waits = r->sources[worker].waits;

  for (uint32_t i = 0; i < pl__waits_block_count(waits); i++) {
    const struct pl_waits_block *b = &waits->blocks[i];
    if (!load(&b->count))
      continue;
    put(r, "%" PRIu64 " waits, %.6f s [%s] worker %u\n", load(&b->count),
        (double)load(&b->ns) / PL_NS_PER_S, pl__waits_reason_name(b->reason),
        worker);
    put_frames(r, worker, b->stack, "#\t");
    put(r, "\n");
  }
}

int pl__coroutines_block(const struct pl_fabric *f, struct pl_slice said,
                         struct pl_buf *out) {
  struct reading r;
  int failed = reading_open(&r, f, out);

  if (!failed && pl__slice_equal(said, PL_SLICE("1")))
    for (uint32_t i = 0; i < r.worker_count; i++)
      put_blocks(&r, i);
  else if (!failed)
    r.failed = block_profile(&r);
  reading_close(&r);
  return failed ? failed : r.failed;
}

/* --- leaks ---------------------------------------------------------------------- */

/* A line of either kind. */
struct line {
  uint32_t worker, started, at, reason, route, generation, name;
  uint32_t kind;  /* of a leak */
  uint32_t level; /* of a suspect; 0: it is a leak */
  uint64_t count;
  int64_t age_ns; /* of the last leak; of the oldest suspect's wait */
};

typedef void (*line_fn)(struct reading *r, const struct line *line, void *arg);

static void each_leak(struct reading *r, line_fn fn, void *arg) {
  for (uint32_t w = 0; w < r->worker_count; w++) {
    const struct pl_waits *waits = r->sources[w].waits;
    for (uint32_t i = 0; i < pl__waits_leak_count(waits); i++) {
      const struct pl_waits_leak *l = &waits->leaks[i];
      struct line line = {
          .worker = w,
          .started = l->started,
          .at = l->at,
          .kind = l->kind,
          .reason = l->reason,
          .route = l->route,
          .generation = l->generation,
          .name = l->name,
          .count = load(&l->count),
          .age_ns = r->now_ns -
                    atomic_load_explicit(&l->last_ns, memory_order_relaxed)};
      if (line.count) /* else it was forgotten, or is being written */
        fn(r, &line, arg);
    }
  }
}

static void each_suspect(struct reading *r, line_fn fn, void *arg) {
  struct pl_waits_suspect suspects[PL_WAITS_SUSPECTS_MAX];

  for (uint32_t w = 0; w < r->worker_count; w++) {
    uint32_t count = pl__waits_suspects(r->sources[w].waits, suspects);
    for (uint32_t i = 0; i < count; i++) {
      const struct pl_waits_suspect *s = &suspects[i];
      struct line line = {.worker = w,
                          .started = s->started,
                          .at = s->at,
                          .reason = s->reason,
                          .route = s->route,
                          .generation = s->generation,
                          .name = s->name,
                          .level = s->level,
                          .count = s->count,
                          .age_ns = r->now_ns - s->since_ns};
      fn(r, &line, arg);
    }
  }
}

static const char *kind_name(const struct line *l) {
  if (l->level)
    return "suspect";
  return l->kind == PL_WAITS_KIND_TASK ? "task" : "request";
}

static void profile_line(struct reading *r, const struct line *l, void *arg) {
  uint64_t locations[PL_STACKS_DEPTH_MAX];
  char started[PLACE_BYTES], worker[16];
  int64_t values[2] = {l->level ? (int64_t)l->count : 0,
                       l->level ? 0 : (int64_t)l->count};
  struct pl_pprof_label labels[] = {
      {.key = "kind", .text = pl__slice_text(kind_name(l))},
      {.key = "reason",
       .text = pl__slice_text(pl__waits_reason_name(l->reason))},
      {.key = "worker", .text = number_text(l->worker, worker)},
      {.key = "started",
       .text = starter_of(r, l->worker, l->started, l->generation, l->route,
                          started)}};

  pl__pprof_sample(arg, locations,
                   locate(r, arg, l->worker, l->at,
                          pl__waits_reason_name(l->reason), locations),
                   values, labels, labels[3].text.bytes ? 4 : 3);
}

/* What pprof shows unless it is asked for another one is the last type. */
static int leaks_profile(struct reading *r) {
  static const struct pl_pprof_type types[] = {{"suspects", "count"},
                                               {"leaks", "count"}};
  struct pl_pprof_options options = {.types = types,
                                     .type_count = 2,
                                     .period_type = types[0],
                                     .period = 1,
                                     .time_ns = pl__clock_realtime_ns()};
  struct pl_pprof p;
  int failed = pl__pprof_begin(&p, &options);

  if (failed) {
    pl__pprof_drop(&p);
    return failed;
  }
  each_leak(r, profile_line, &p);
  each_suspect(r, profile_line, &p);
  return pl__pprof_end(&p, r->out);
}

static void put_line(struct reading *r, const struct line *l, void *arg) {
  char text[PLACE_BYTES];
  struct pl_slice by =
      starter_of(r, l->worker, l->started, l->generation, l->route, text);
  struct pl_slice name =
      pl__waits_name_of(r->sources[l->worker].waits, l->name);

  (void)arg;
  put(r, "%" PRIu64 " [%s, %s", l->count, kind_name(l),
      pl__waits_reason_name(l->reason));
  if (l->level)
    put(r, ", level %u", l->level);
  put(r, "] worker %u", l->worker);
  if (name.bytes)
    put(r, ", task \"%.*s\"", (int)name.bytes, name.at);
  put(r, l->level ? ", the oldest waits since " : ", the last one ended ");
  put_age(r, l->age_ns < 0 ? 0 : l->age_ns);
  put(r, l->level ? "\n" : " ago\n");
  put_frames(r, l->worker, l->at, "#\t");
  if (by.bytes)
    put(r, "#\tcreated by %.*s\n", (int)by.bytes, by.at);
  put(r, "\n");
}

static void put_leaks(struct reading *r) {
  put(r, "proven: nobody could wake these, and they were ended\n\n");
  each_leak(r, put_line, NULL);
  put(r, "suspected: more and more wait here\n\n");
  each_suspect(r, put_line, NULL);
}

int pl__coroutines_leaks(const struct pl_fabric *f, struct pl_slice said,
                         struct pl_buf *out) {
  struct reading r;
  int failed = reading_open(&r, f, out);

  if (!failed && pl__slice_equal(said, PL_SLICE("1")))
    put_leaks(&r);
  else if (!failed)
    r.failed = leaks_profile(&r);
  reading_close(&r);
  return failed ? failed : r.failed;
}

/* --- JSON ------------------------------------------------------------------------- */

static void put_reasons(struct reading *r) {
  uint64_t waiting[PL_WAITS_REASONS] = {0}, others[PL_WAITS_STATES] = {0};
  const char *comma = "";

  for (uint32_t i = 0; i < r->row_count; i++) {
    const struct pl_waits_seen *s = &r->rows[i].seen;
    if (s->state == PL_WAITS_PARKED)
      waiting[s->reason]++;
    else
      others[s->state]++;
  }
  put(r, "\"by_reason\":{");
  for (uint32_t i = 0; i < PL_WAITS_REASONS + PL_WAITS_STATES; i++) {
    bool is_reason = i < PL_WAITS_REASONS;
    uint32_t at = is_reason ? i : i - PL_WAITS_REASONS;
    uint64_t n = is_reason ? waiting[at] : others[at];
    if (!n)
      continue;
    put(r, "%s\"%s\":%" PRIu64, comma,
        is_reason ? pl__waits_reason_name(at) : pl__waits_state_name(at), n);
    comma = ",";
  }
  put(r, "}");
}

static void put_oldest(struct reading *r) {
  char text[PLACE_BYTES];

  for (uint32_t i = 0; i < r->row_count && i < SHOWN_MAX; i++) {
    const struct row *row = &r->rows[i];
    const struct pl_waits_seen *s = &row->seen;
    put(r, "%s{\"id\":%" PRIu64 ",\"worker\":%u,\"age_s\":%.3f", i ? "," : "",
        s->id - 1, row->worker, (double)row->age_ns / PL_NS_PER_S);
    put_text(r, "reason", pl__slice_text(doing(s)));
    put_text(
        r, "started_at",
        starter_of(r, row->worker, s->started, s->generation, s->route, text));
    put_text(r, "at", place_of(&r->sources[row->worker], s->at, text));
    put_text(r, "route", pattern_of(r, s->generation, s->route));
    put_text(r, "task", s->name);
    put(r, "}");
  }
}

/* arg: how many were written. */
static void json_line(struct reading *r, const struct line *l, void *arg) {
  uint32_t *count = arg;
  char text[PLACE_BYTES];

  if (*count >= SHOWN_MAX)
    return;
  put(r, "%s{\"worker\":%u,\"count\":%" PRIu64 ",\"age_s\":%.3f",
      (*count)++ ? "," : "", l->worker, l->count,
      (double)(l->age_ns < 0 ? 0 : l->age_ns) / PL_NS_PER_S);
  if (l->level)
    put(r, ",\"level\":%u", l->level);
  put_text(r, "kind", pl__slice_text(kind_name(l)));
  put_text(r, "reason", pl__slice_text(pl__waits_reason_name(l->reason)));
  put_text(r, "started_at",
           starter_of(r, l->worker, l->started, l->generation, l->route, text));
  put_text(r, "at", place_of(&r->sources[l->worker], l->at, text));
  put(r, "}");
}

int pl__coroutines_waits(const struct pl_fabric *f, struct pl_slice said,
                         struct pl_buf *out) {
  struct reading r;
  uint32_t leaks = 0, suspects = 0;
  int failed = reading_open(&r, f, out);

  (void)said;
  failed = failed ? failed : rows_read(&r);
  if (!failed) {
    qsort(r.rows, r.row_count, sizeof *r.rows, older_first);
    put(&r, "{\"coroutines\":%u,", r.row_count);
    put_reasons(&r);
    put(&r, ",\"oldest\":[");
    put_oldest(&r);
    put(&r, "],\"leaks\":[");
    each_leak(&r, json_line, &leaks);
    put(&r, "],\"suspects\":[");
    each_suspect(&r, json_line, &suspects);
    put(&r, "]}");
  }
  reading_close(&r);
  return failed ? failed : r.failed;
}

/* --- metrics ----------------------------------------------------------------------- */

void pl__coroutines_figures(const struct pl_fabric *f, uint32_t worker_count,
                            struct pl_exposition *e) {
  struct pl_waits_suspect suspects[PL_WAITS_SUSPECTS_MAX];
  uint64_t leaked[PL_WAITS_KINDS] = {0}, suspected = 0;
  struct pl_waits *waits;
  uint32_t entries;

  for (uint32_t i = 0; i < worker_count; i++) {
    if (pl__layout_waits(f, i, &waits, &entries))
      continue;
    for (unsigned kind = 0; kind < PL_WAITS_KINDS; kind++)
      leaked[kind] += load(&waits->leaked[kind]);
    for (uint32_t n = pl__waits_suspects(waits, suspects); n > 0; n--)
      suspected += suspects[n - 1].count;
  }
  pl__exposition_head(e, "perilune_coroutine_leaks_total",
                      "Coroutines that nobody could wake any more, and that "
                      "were ended.",
                      PL_METRIC_COUNTER);
  pl__exposition_sample(e, "kind=\"request\"",
                        (double)leaked[PL_WAITS_KIND_REQUEST]);
  pl__exposition_sample(e, "kind=\"task\"", (double)leaked[PL_WAITS_KIND_TASK]);
  pl__exposition_head(e, "perilune_coroutine_suspects",
                      "Coroutines that have waited for long at a line where "
                      "more and more do.",
                      PL_METRIC_GAUGE);
  pl__exposition_sample(e, "", (double)suspected);
}
