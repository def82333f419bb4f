/* server/profile.c - see profile.h.
 *
 *   samples of all workers -> rows of those that are alike -> a file or picture
 */
#include "server/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "fabric/flights.h"
#include "fabric/metrics.h"
#include "fabric/names.h"
#include "fabric/record.h"
#include "fabric/routes.h"
#include "fabric/samples.h"
#include "log/digits.h"
#include "log/flame.h"
#include "log/pprof.h"
#include "server/layout.h"

#define ROWS_FIRST 1024u
#define FRAMES_MAX (PL_STACKS_DEPTH_MAX + 1) /* what LuaJIT did on top */
#define TABLE_LINES_MAX 40u
#define SHARES_ROUTES_MAX 1024u

struct query {
  uint64_t seconds;
  uint64_t ago;
  enum pl_profile_form form;
};

/* Samples that are alike. */
struct row {
  uint64_t work; /* route and generation */
  uint64_t code; /* worker, phase, state, stack */
  uint64_t count;
  uint64_t weight_us;
};

struct profile {
  const struct pl_fabric *fabric;
  struct query query;
  const struct pl_routes *routes;
  struct row *rows; /* open addressing; count 0: free */
  uint32_t cap, row_count;
  uint64_t from_ms, to_ms; /* monotonic */
  uint64_t asked_ms;       /* before anything was read */
};

/* --- what is asked ------------------------------------------------------- */

static int number_take(struct pl_slice text, uint64_t min, uint64_t *out) {
  int failed = pl__text_number(text, PL_SAMPLES_S_MAX, out);

  return failed || *out < min ? PL_EBAD : 0;
}

static int form_take(struct pl_slice text, enum pl_profile_form *out) {
  static const char *const names[PL_PROFILE_FORMS] = {"pprof", "folded", "svg",
                                                      "text"};

  for (unsigned i = 0; i <= PL_PROFILE_FORMS; i++) {
    *out = (enum pl_profile_form)i;
    if (i < PL_PROFILE_FORMS && pl__slice_equal(text, pl__slice_text(names[i])))
      return 0;
  }
  return PL_EBAD;
}

static int pair_take(struct query *q, struct pl_slice pair) {
  const char *equals = memchr(pair.at, '=', pair.bytes);
  uint32_t bytes = equals ? (uint32_t)(equals - pair.at) : pair.bytes;
  struct pl_slice key = pl__slice(pair.at, bytes);
  struct pl_slice value =
      equals ? pl__slice(equals + 1, pair.bytes - bytes - 1) : PL_SLICE("");

  if (pl__slice_equal(key, PL_SLICE("seconds")))
    return number_take(value, 1, &q->seconds);
  if (pl__slice_equal(key, PL_SLICE("ago")))
    return number_take(value, 0, &q->ago);
  if (pl__slice_equal(key, PL_SLICE("format")))
    return form_take(value, &q->form);
  return 0; /* of somebody else's; pprof adds some */
}

static int query_take(struct query *q, struct pl_slice text) {
  const char *at = text.at, *end = text.at + text.bytes;

  while (text.bytes && at < end) {
    const char *stop = memchr(at, '&', (size_t)(end - at));
    size_t bytes = (size_t)((stop ? stop : end) - at);
    int failed = bytes ? pair_take(q, pl__slice(at, bytes)) : 0;
    if (failed)
      return failed;
    at += bytes + 1;
  }
  return 0;
}

enum pl_profile_form pl__profile_form(struct pl_slice query) {
  struct query q = {.form = PL_PROFILE_PPROF};

  query_take(&q, query); /* what is wrong elsewhere is told by the answer */
  return q.form;
}

/* --- rows ------------------------------------------------------------------ */

static uint32_t hash_of(uint64_t work, uint64_t code) {
  uint64_t h = (work ^ code >> 23) * 0x9e3779b97f4a7c15u;

  h = (h ^ h >> 32 ^ code) * 0xff51afd7ed558ccdu;
  return (uint32_t)(h >> 32);
}

static struct row *row_at(struct row *rows, uint32_t cap, uint64_t work,
                          uint64_t code) {
  for (uint32_t at = hash_of(work, code);; at++) {
    struct row *r = &rows[at & (cap - 1)];
    if (!r->count || (r->work == work && r->code == code))
      return r;
  }
}

static int rows_grow(struct profile *p) {
  uint32_t cap = p->cap ? p->cap * 2 : ROWS_FIRST;
  struct row *more = pl__alloc_zero(cap * sizeof *more);

  if (!more)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < p->cap; i++)
    if (p->rows[i].count)
      *row_at(more, cap, p->rows[i].work, p->rows[i].code) = p->rows[i];
  pl__free(p->rows);
  p->rows = more;
  p->cap = cap;
  return 0;
}

static uint64_t code_of(uint32_t worker, const struct pl_sample *s) {
  return (uint64_t)worker << 48 | (uint64_t)s->phase << 40 |
         (uint64_t)s->state << 32 | s->stack;
}
static uint32_t worker_of(const struct row *r) {
  return (uint32_t)(r->code >> 48);
}
static uint32_t phase_of(const struct row *r) { return r->code >> 40 & 0xff; }
static uint32_t state_of(const struct row *r) { return r->code >> 32 & 0xff; }
static uint32_t stack_of(const struct row *r) { return (uint32_t)r->code; }
static uint32_t route_of(const struct row *r) {
  return (uint32_t)(r->work >> 32);
}
static uint32_t generation_of(const struct row *r) { return (uint32_t)r->work; }

static int sample_add(struct profile *p, uint32_t worker, struct pl_sample *s) {
  uint64_t work = (uint64_t)s->route << 32 | s->generation;
  struct row *r;
  int failed = p->row_count >= p->cap / 2 ? rows_grow(p) : 0;

  if (failed)
    return failed;
  r = row_at(p->rows, p->cap, work, code_of(worker, s));
  if (!r->count && p->row_count >= PL_PROFILE_ROWS_MAX) {
    s->stack = PL_STACK_OTHER;
    r = row_at(p->rows, p->cap, work, code_of(worker, s));
  }
  p->row_count += !r->count;
  r->work = work;
  r->code = code_of(worker, s);
  r->count++;
  r->weight_us += s->weight_us;
  return 0;
}

static int worker_add(struct profile *p, uint32_t worker) {
  struct pl_samples_reader reader;
  struct pl_samples *samples;
  struct pl_sample s;
  int failed = pl__layout_samples(p->fabric, worker, &samples);

  if (failed)
    return failed;
  pl__samples_reader_init(&reader, samples);
  while (!failed && pl__samples_next(&reader, &s) && s.time_ms >= p->from_ms)
    if (s.time_ms < p->to_ms)
      failed = sample_add(p, worker, &s);
  return failed;
}

/* With its rows; to be freed by profile_close, also on failure. */
static int profile_open(struct profile *p, const struct pl_fabric *f,
                        struct pl_slice query) {
  struct pl_metrics metrics;
  struct pl_routes *routes;
  uint64_t now_ms = (uint64_t)(pl__clock_monotonic_ns() / PL_NS_PER_MS);
  int failed = query_take(&p->query, query);

  failed = failed ? failed : pl__layout_metrics(f, &metrics);
  failed = failed ? failed : pl__layout_routes(f, &routes);
  failed = failed ? failed : rows_grow(p);
  if (failed)
    return failed;
  p->fabric = f;
  p->routes = routes;
  p->asked_ms = now_ms;
  p->to_ms = now_ms - p->query.ago * 1000;
  if (p->query.ago * 1000 > now_ms)
    p->to_ms = 0;
  p->from_ms = p->to_ms > p->query.seconds * 1000
                   ? p->to_ms - p->query.seconds * 1000
                   : 0;
  for (uint32_t i = 0; i < metrics.worker_count && !failed; i++)
    failed = worker_add(p, i);
  return failed;
}

static void profile_close(struct profile *p) { pl__free(p->rows); }

/* --- stacks ------------------------------------------------------------------ */

/* A frame that stands for no code of Lua's: "(poll)". */
static struct pl_symbol mark(const char *name) {
  return (struct pl_symbol){.name = pl__slice_text(name),
                            .kind = PL_SYMBOL_CORE};
}

static struct pl_symbol phase_mark(uint32_t phase) {
  static const char *const names[PL_PHASES] = {
      [PL_PHASE_CORE] = "(core)",       [PL_PHASE_LUA] = "(lua)",
      [PL_PHASE_COLLECT] = "(collect)", [PL_PHASE_POLL] = "(poll)",
      [PL_PHASE_READ] = "(read)",       [PL_PHASE_PARSE] = "(parse)",
      [PL_PHASE_ROUTE] = "(route)",     [PL_PHASE_WRITE] = "(write)",
      [PL_PHASE_LOG] = "(log)"};

  return mark(names[phase < PL_PHASES ? phase : PL_PHASE_CORE]);
}

/* The frames of a row, the innermost first; returns how many. */
static uint32_t frames_of(const struct profile *p, const struct row *r,
                          struct pl_symbol out[FRAMES_MAX]) {
  struct pl_names names;
  uint32_t count = 0;
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;

  if (phase_of(r) != PL_PHASE_LUA || stack_of(r) == PL_STACK_OTHER ||
      pl__layout_symbols(p->fabric, worker_of(r), &symbols, &stacks)) {
    out[0] = phase_mark(phase_of(r));
    return 1;
  }
  if (state_of(r) == PL_SAMPLE_COLLECTOR)
    out[count++] = mark("(collector)");
  if (state_of(r) == PL_SAMPLE_COMPILER)
    out[count++] = mark("(compiler)");
  names = (struct pl_names){symbols, stacks};
  return count + pl__names_find(&names, stack_of(r), p->asked_ms, &out[count]);
}

static struct pl_slice pattern_of(const struct profile *p,
                                  const struct row *r) {
  if (route_of(r) == PL_RECORD_NO_ROUTE)
    return PL_SLICE("");
  return pl__routes_lookup(p->routes, generation_of(r), route_of(r));
}

/* --- pprof ---------------------------------------------------------------------- */

static void pprof_add(struct pl_pprof *out, const struct profile *p,
                      const struct row *r) {
  static const char *const codes[PL_SAMPLE_STATES] = {
      "compiled", "interpreted", "c", "collector", "compiler"};
  struct pl_symbol frames[FRAMES_MAX];
  uint64_t locations[FRAMES_MAX];
  uint32_t depth = frames_of(p, r, frames), n = 0;
  int64_t values[] = {(int64_t)r->count, (int64_t)r->weight_us * 1000};
  char worker[16], generation[16];
  struct pl_pprof_label labels[5];
  struct pl_slice pattern = pattern_of(p, r);

  for (uint32_t i = 0; i < depth; i++)
    locations[i] = pl__pprof_location(out, &frames[i]);
  snprintf(worker, sizeof worker, "%u", worker_of(r));
  snprintf(generation, sizeof generation, "%u", generation_of(r));
  labels[n++] =
      (struct pl_pprof_label){.key = "worker", .text = pl__slice_text(worker)};
  labels[n++] = (struct pl_pprof_label){.key = "generation",
                                        .text = pl__slice_text(generation)};
  labels[n++] = (struct pl_pprof_label){
      .key = "phase", .text = pl__slice_text(pl__phase_name(phase_of(r)))};
  if (pattern.bytes)
    labels[n++] = (struct pl_pprof_label){.key = "route", .text = pattern};
  if (phase_of(r) == PL_PHASE_LUA && stack_of(r) != PL_STACK_OTHER)
    labels[n++] = (struct pl_pprof_label){
        .key = "code", .text = pl__slice_text(codes[state_of(r)])};
  pl__pprof_sample(out, locations, depth, values, labels, n);
}

static int write_pprof(const struct profile *p, struct pl_buf *out) {
  static const struct pl_pprof_type types[] = {{"samples", "count"},
                                               {"cpu", "nanoseconds"}};
  uint64_t now_ms = (uint64_t)(pl__clock_monotonic_ns() / PL_NS_PER_MS);
  struct pl_pprof_options options = {
      .types = types,
      .type_count = 2,
      .period_type = {"cpu", "nanoseconds"},
      .period = 4 * PL_NS_PER_MS,
      .time_ns = pl__clock_realtime_ns() -
                 (int64_t)(now_ms - p->from_ms) * PL_NS_PER_MS,
      .duration_ns = (int64_t)(p->to_ms - p->from_ms) * PL_NS_PER_MS};
  struct pl_pprof file;

  pl__pprof_begin(&file, &options);
  for (uint32_t i = 0; i < p->cap; i++)
    if (p->rows[i].count)
      pprof_add(&file, p, &p->rows[i]);
  return pl__pprof_end(&file, out);
}

/* --- for people ------------------------------------------------------------------- */

static int flame_add(struct pl_flame *flame, const struct profile *p,
                     const struct row *r) {
  struct pl_symbol frames[FRAMES_MAX];
  struct pl_flame_frame named[FRAMES_MAX];
  char names[FRAMES_MAX][PL_PPROF_NAME_BYTES];
  uint32_t depth = frames_of(p, r, frames);

  for (uint32_t i = 0; i < depth; i++)
    named[i] = (struct pl_flame_frame){pl__pprof_name(&frames[i], names[i]),
                                       frames[i].kind};
  return pl__flame_add(flame, named, depth, (int64_t)r->weight_us);
}

static int render(const struct profile *p, const struct pl_flame *flame,
                  struct pl_buf *out) {
  static const struct pl_flame_unit unit = {"CPU time", "ms", 1000};
  char title[96];

  if (p->query.form == PL_PROFILE_FOLDED)
    return pl__flame_folded(flame, out);
  if (p->query.form == PL_PROFILE_TEXT)
    return pl__flame_text(flame, &unit, TABLE_LINES_MAX, out);
  snprintf(title, sizeof title, "CPU of all workers, %u seconds%s",
           (unsigned)p->query.seconds, p->query.ago ? ", some time ago" : "");
  return pl__flame_svg(flame, &unit, title, out);
}

static int write_for_people(const struct profile *p, struct pl_buf *out) {
  struct pl_flame flame;
  int failed = pl__flame_open(&flame);

  if (failed)
    return failed;
  for (uint32_t i = 0; i < p->cap && !failed; i++)
    if (p->rows[i].count)
      failed = flame_add(&flame, p, &p->rows[i]);
  failed = failed ? failed : render(p, &flame, out);
  pl__flame_close(&flame);
  return failed;
}

int pl__profile_answer(const struct pl_fabric *f, struct pl_slice query,
                       struct pl_buf *out) {
  struct profile p = {.query = {.seconds = PL_PROFILE_SECONDS}};
  int failed = profile_open(&p, f, query);

  if (!failed)
    failed = p.query.form == PL_PROFILE_PPROF ? write_pprof(&p, out)
                                              : write_for_people(&p, out);
  profile_close(&p);
  return failed;
}

/* --- shares ------------------------------------------------------------------------ */

struct shares {
  struct pl_slice route;
  uint64_t of[PL_SAMPLE_STATES];
  uint64_t all;
};

static void shares_add(struct shares *list, uint32_t *count,
                       const struct profile *p, const struct row *r) {
  struct pl_slice route = pattern_of(p, r);
  uint32_t i;

  if (phase_of(r) != PL_PHASE_LUA)
    return;
  if (!route.bytes)
    route = PL_SLICE("(task)");
  for (i = 0; i < *count && !pl__slice_equal(list[i].route, route); i++)
    ;
  if (i == SHARES_ROUTES_MAX)
    return;
  if (i == *count)
    list[(*count)++] = (struct shares){.route = route};
  list[i].of[state_of(r)] += r->count;
  list[i].all += r->count;
}

static int by_all(const void *a, const void *b) {
  const struct shares *x = a, *y = b;

  return x->all < y->all ? 1 : x->all > y->all ? -1 : 0;
}

static int put(struct pl_buf *out, const char *text) {
  return pl__buf_append(out, text, (uint32_t)strlen(text));
}

static int put_shares(const struct shares *s, bool first, struct pl_buf *out) {
  static const char *const keys[PL_SAMPLE_STATES] = {
      "compiled", "interpreted", "c", "collector", "compiler"};
  char text[64], *at;
  int failed = put(out, first ? "{\"route\":\"" : ",{\"route\":\"");

  failed = failed
               ? failed
               : pl__buf_reserve(out, s->route.bytes * PL_DIGITS_JSON_FACTOR);
  if (failed)
    return failed;
  at = pl__put_json(out->at + out->bytes, s->route);
  out->bytes = (uint32_t)(at - out->at);
  failed = put(out, "\"");
  for (uint32_t i = 0; i < PL_SAMPLE_STATES && !failed; i++) {
    snprintf(text, sizeof text, ",\"%s\":%llu", keys[i],
             (unsigned long long)s->of[i]);
    failed = put(out, text);
  }
  snprintf(text, sizeof text, ",\"samples\":%llu}", (unsigned long long)s->all);
  return failed ? failed : put(out, text);
}

static int write_shares(const struct profile *p, struct shares *list,
                        struct pl_buf *out) {
  uint32_t count = 0;
  char text[64];
  int failed;

  for (uint32_t i = 0; i < p->cap; i++)
    if (p->rows[i].count)
      shares_add(list, &count, p, &p->rows[i]);
  qsort(list, count, sizeof *list, by_all);
  snprintf(text, sizeof text, "{\"seconds\":%u,\"routes\":[",
           (unsigned)p->query.seconds);
  failed = put(out, text);
  for (uint32_t i = 0; i < count && !failed; i++)
    failed = put_shares(&list[i], i == 0, out);
  return failed ? failed : put(out, "]}");
}

int pl__profile_shares(const struct pl_fabric *f, struct pl_slice query,
                       struct pl_buf *out) {
  struct profile p = {.query = {.seconds = PL_SAMPLES_S_MAX}};
  struct shares *list = pl__alloc(SHARES_ROUTES_MAX * sizeof *list);
  int failed = list ? profile_open(&p, f, query) : PL_ENOMEM;

  failed = failed ? failed : write_shares(&p, list, out);
  profile_close(&p);
  pl__free(list);
  return failed;
}
