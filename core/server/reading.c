/* server/reading.c - see reading.h. */
#include "server/reading.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/metrics.h"
#include "fabric/routes.h"
#include "fabric/waits.h"
#include "log/digits.h"
#include "server/layout.h"

/* --- writing; what fails once stays failed -------------------------------- */

__attribute__((format(printf, 2, 3))) void
pl__reading_put(struct pl_reading *r, const char *format, ...) {
  va_list args;

  va_start(args, format);
  if (!r->failed)
    r->failed = pl__buf_format(r->out, format, args);
  va_end(args);
}

/* `,"key":"text"` */
void pl__reading_text(struct pl_reading *r, const char *key,
                      struct pl_slice text) {
  char *at;

  pl__reading_put(r, ",\"%s\":\"", key);
  if (!r->failed)
    r->failed = pl__buf_reserve(r->out, text.bytes * PL_DIGITS_JSON_FACTOR);
  if (r->failed)
    return;
  at = pl__put_json(r->out->at + r->out->bytes, text);
  r->out->bytes = (uint32_t)(at - r->out->at);
  pl__reading_put(r, "\"");
}

static void append_plain(struct pl_reading *r, struct pl_slice text) {
  if (!r->failed)
    r->failed = pl__buf_reserve(r->out, text.bytes * PL_DIGITS_JSON_FACTOR);
  if (!r->failed)
    r->out->bytes =
        (uint32_t)(pl__put_plain(r->out->at + r->out->bytes, text, 0) -
                   r->out->at);
}

void pl__reading_plain(struct pl_reading *r, struct pl_slice text) {
  while (text.bytes) {
    const char *quote = memchr(text.at, '"', text.bytes);
    uint32_t n = quote ? (uint32_t)(quote - text.at) : text.bytes;
    append_plain(r, pl__slice(text.at, n));
    if (quote)
      pl__reading_put(r, "\\\"");
    n += quote ? 1 : 0;
    text = pl__slice(text.at + n, text.bytes - n);
  }
}

void pl__reading_task(struct pl_reading *r, struct pl_slice name) {
  if (!name.bytes)
    return;
  pl__reading_put(r, ", task \"");
  pl__reading_plain(r, name);
  pl__reading_put(r, "\"");
}

/* --- places ----------------------------------------------------------------- */

/* The symbols of a stack, without the frames of ours that every wait ends in:
 * but the innermost function that the app has called stays. */
static uint32_t stack_of(const struct pl_reading_source *s, uint32_t stack,
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
struct pl_slice pl__reading_place(const struct pl_reading_source *s,
                                  uint32_t stack, char *out) {
  struct pl_symbol symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth = stack_of(s, stack, symbols);

  out[0] = '\0';
  for (uint32_t i = 0; i < depth; i++) {
    struct pl_slice file = pl__symbol_file(&symbols[i]);
    if (symbols[i].kind != PL_SYMBOL_LUA)
      continue;
    snprintf(out, PL_READING_PLACE_BYTES, "%.*s:%u", (int)file.bytes, file.at,
             symbols[i].line);
    break;
  }
  return pl__slice_text(out);
}

struct pl_slice pl__reading_pattern(const struct pl_reading *r,
                                    uint32_t generation, uint32_t route) {
  if (route == PL_WAITS_NO_ROUTE)
    return PL_SLICE("");
  return pl__routes_lookup(r->routes, generation, route);
}

/* Who started it: a line, or a request. */
struct pl_slice pl__reading_starter(const struct pl_reading *r, uint32_t worker,
                                    uint32_t started, uint32_t generation,
                                    uint32_t route, char *out) {
  struct pl_slice place = pl__reading_place(&r->sources[worker], started, out);
  struct pl_slice pattern = pl__reading_pattern(r, generation, route);

  if (place.bytes || started || !pattern.bytes)
    return place;
  snprintf(out, PL_READING_PLACE_BYTES, "request %.*s", (int)pattern.bytes,
           pattern.at);
  return pl__slice_text(out);
}

void pl__reading_frames(struct pl_reading *r, uint32_t worker, uint32_t stack,
                        const char *lead) {
  struct pl_symbol symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth = stack_of(&r->sources[worker], stack, symbols);

  for (uint32_t i = 0; i < depth; i++) {
    const struct pl_symbol *s = &symbols[i];
    struct pl_slice file = pl__symbol_file(s);
    struct pl_slice name = s->name.bytes ? s->name : PL_SLICE("(function)");
    pl__reading_put(r, "%s", lead);
    pl__reading_plain(r, name);
    pl__reading_put(r, "\n%s\t", lead);
    pl__reading_plain(r, file);
    if (s->line)
      pl__reading_put(r, ":%u", s->line);
    pl__reading_put(r, "\n");
  }
}

/* A worker's number as a label. */
struct pl_slice pl__reading_number(uint32_t number, char out[16]) {
  snprintf(out, 16, "%u", number);
  return pl__slice_text(out);
}

void pl__reading_age(struct pl_reading *r, int64_t age_ns) {
  int64_t seconds = age_ns / PL_NS_PER_S;
  int64_t n = seconds < 60     ? seconds
              : seconds < 7200 ? seconds / 60
                               : seconds / 3600;
  const char *unit = seconds < 60     ? "second"
                     : seconds < 7200 ? "minute"
                                      : "hour";

  pl__reading_put(r, "%" PRId64 " %s%s", n, unit, n == 1 ? "" : "s");
}

/* --- reading ------------------------------------------------------------------ */

/* What it does: its reason if it waits. */
const char *pl__reading_doing(const struct pl_waits_seen *s) {
  return s->state == PL_WAITS_PARKED ? pl__waits_reason_name(s->reason)
                                     : pl__waits_state_name(s->state);
}

const char *pl__reading_bucket(int64_t age_ns) {
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

static int sources_find(struct pl_reading *r) {
  struct pl_symbols *symbols;
  struct pl_stacks *stacks;
  struct pl_waits *waits;

  for (uint32_t i = 0; i < r->worker_count; i++) {
    struct pl_reading_source *s = &r->sources[i];
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

int pl__reading_open(struct pl_reading *r, const struct pl_fabric *f,
                     struct pl_buf *out) {
  struct pl_metrics metrics;
  struct pl_routes *routes;
  int failed = pl__layout_metrics(f, &metrics);

  *r = (struct pl_reading){
      .fabric = f, .out = out, .now_ns = pl__clock_monotonic_ns()};
  failed = failed ? failed : pl__layout_routes(f, &routes);
  if (failed)
    return failed;
  r->routes = routes;
  r->worker_count = metrics.worker_count;
  r->sources = pl__alloc_zero(r->worker_count * sizeof *r->sources);
  return r->sources ? sources_find(r) : PL_ENOMEM;
}

int pl__reading_close(struct pl_reading *r) {
  pl__free(r->sources);
  pl__free(r->rows);
  return r->failed;
}

static void rows_of(struct pl_reading *r, uint32_t worker, uint32_t bank) {
  const struct pl_reading_source *s = &r->sources[worker];
  uint32_t count = pl__waits_count(s->waits, s->entries, bank);

  for (uint32_t i = 0; i < count && r->row_count < r->row_max; i++) {
    struct pl_reading_row *row = &r->rows[r->row_count];
    if (!pl__waits_see(s->waits, s->entries, bank, i, &row->seen))
      continue;
    row->worker = worker;
    row->age_ns = r->now_ns - row->seen.since_ns;
    if (row->age_ns < 0)
      row->age_ns = 0;
    r->row_count++;
  }
}

int pl__reading_rows(struct pl_reading *r) {
  uint64_t count = 0;

  for (uint32_t i = 0; i < r->worker_count; i++)
    for (uint32_t bank = 0; bank < PL_WAITS_BANKS; bank++)
      count +=
          pl__waits_count(r->sources[i].waits, r->sources[i].entries, bank);
  count += 1024; /* that come meanwhile */
  if (count > PL_COROUTINES_MAX)
    count = PL_COROUTINES_MAX;
  r->rows = pl__alloc((size_t)count * sizeof *r->rows);
  if (!r->rows)
    return PL_ENOMEM;
  r->row_max = (uint32_t)count; /* whatever is counted from here on */
  for (uint32_t i = 0; i < r->worker_count; i++)
    for (uint32_t bank = 0; bank < PL_WAITS_BANKS; bank++)
      rows_of(r, i, bank);
  return 0;
}

/* --- profiles ------------------------------------------------------------------ */

int pl__reading_profile(struct pl_pprof *p, const struct pl_pprof_type *types,
                        uint32_t count) {
  struct pl_pprof_options options = {.types = types,
                                     .type_count = count,
                                     .period_type = types[0],
                                     .period = 1,
                                     .time_ns = pl__clock_realtime_ns()};
  int failed = pl__pprof_begin(p, &options);

  if (failed)
    pl__pprof_drop(p);
  return failed;
}

uint32_t pl__reading_locate(struct pl_reading *r, struct pl_pprof *p,
                            uint32_t worker, uint32_t stack,
                            const char *otherwise, uint64_t *locations) {
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
