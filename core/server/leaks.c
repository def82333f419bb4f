/* server/leaks.c - see leaks.h. */
#include "server/leaks.h"

#include <inttypes.h>

#include "base/clock.h"
#include "fabric/metrics.h"
#include "fabric/waits.h"
#include "log/pprof.h"
#include "server/layout.h"
#include "server/reading.h"

#define SHOWN_MAX 50u /* of each kind in JSON */

/* --- leaks ---------------------------------------------------------------------- */

/* A line of either kind. */
struct line {
  uint32_t worker, started, at, reason, route, generation, name;
  uint32_t kind;  /* of a leak */
  uint32_t level; /* of a suspect; 0: it is a leak */
  uint64_t count;
  int64_t age_ns; /* of the last leak; of the oldest suspect's wait */
};

typedef void (*line_fn)(struct pl_reading *r, const struct line *line,
                        void *arg);

static void each_leak(struct pl_reading *r, line_fn fn, void *arg) {
  for (uint32_t w = 0; w < r->worker_count; w++) {
    const struct pl_waits *waits = r->sources[w].waits;
    for (uint32_t i = 0; i < pl__waits_leak_count(waits); i++) {
      const struct pl_waits_leak *l = &waits->leaks[i];
      uint64_t count =
          atomic_load_explicit(&l->count, memory_order_acquire); /* first */
      struct line line = {
          .worker = w,
          .started = l->started,
          .at = l->at,
          .kind = l->kind,
          .reason = l->reason,
          .route = l->route,
          .generation = l->generation,
          .name = l->name,
          .count = count,
          .age_ns = r->now_ns -
                    atomic_load_explicit(&l->last_ns, memory_order_relaxed)};
      /* Else it was forgotten, or has become another line meanwhile. */
      if (count && pl__reading_load(&l->count) >= count)
        fn(r, &line, arg);
    }
  }
}

static void each_suspect(struct pl_reading *r, line_fn fn, void *arg) {
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

static void profile_line(struct pl_reading *r, const struct line *l,
                         void *arg) {
  uint64_t locations[PL_STACKS_DEPTH_MAX];
  char started[PL_READING_PLACE_BYTES], worker[16];
  int64_t values[2] = {l->level ? (int64_t)l->count : 0,
                       l->level ? 0 : (int64_t)l->count};
  struct pl_pprof_label labels[] = {
      {.key = "kind", .text = pl__slice_text(kind_name(l))},
      {.key = "reason",
       .text = pl__slice_text(pl__waits_reason_name(l->reason))},
      {.key = "worker", .text = pl__reading_number(l->worker, worker)},
      {.key = "started",
       .text = pl__reading_starter(r, l->worker, l->started, l->generation,
                                   l->route, started)}};

  pl__pprof_sample(arg, locations,
                   pl__reading_locate(r, arg, l->worker, l->at,
                                      pl__waits_reason_name(l->reason),
                                      locations),
                   values, labels, labels[3].text.bytes ? 4 : 3);
}

/* What pprof shows unless it is asked for another one is the last type. */
static int leaks_profile(struct pl_reading *r) {
  static const struct pl_pprof_type types[] = {{"suspects", "count"},
                                               {"leaks", "count"}};
  struct pl_pprof p;
  int failed = pl__reading_profile(&p, types, sizeof types / sizeof *types);

  if (failed)
    return failed;
  each_leak(r, profile_line, &p);
  each_suspect(r, profile_line, &p);
  return pl__pprof_end(&p, r->out);
}

static void put_line(struct pl_reading *r, const struct line *l, void *arg) {
  char text[PL_READING_PLACE_BYTES];
  struct pl_slice by = pl__reading_starter(r, l->worker, l->started,
                                           l->generation, l->route, text);
  struct pl_slice name =
      pl__waits_name_of(r->sources[l->worker].waits, l->name);

  (void)arg;
  pl__reading_put(r, "%" PRIu64 " [%s, %s", l->count, kind_name(l),
                  pl__waits_reason_name(l->reason));
  if (l->level)
    pl__reading_put(r, ", level %u", l->level);
  pl__reading_put(r, "] worker %u", l->worker);
  pl__reading_task(r, name);
  pl__reading_put(r, l->level ? ", the oldest waits since "
                              : ", the last one ended ");
  pl__reading_age(r, l->age_ns < 0 ? 0 : l->age_ns);
  pl__reading_put(r, l->level ? "\n" : " ago\n");
  pl__reading_frames(r, l->worker, l->at, "#\t");
  if (by.bytes) {
    pl__reading_put(r, "#\tcreated by ");
    pl__reading_plain(r, by);
    pl__reading_put(r, "\n");
  }
  pl__reading_put(r, "\n");
}

static void put_leaks(struct pl_reading *r) {
  pl__reading_put(r,
                  "proven: nobody could wake these, and they were ended\n\n");
  each_leak(r, put_line, NULL);
  pl__reading_put(r, "suspected: more and more wait here\n\n");
  each_suspect(r, put_line, NULL);
}

int pl__leaks_answer(const struct pl_fabric *f, struct pl_slice said,
                     struct pl_buf *out) {
  struct pl_reading r;
  int failed = pl__reading_open(&r, f, out);

  if (!failed && pl__slice_equal(said, PL_SLICE("1")))
    put_leaks(&r);
  else if (!failed)
    r.failed = leaks_profile(&r);
  pl__reading_close(&r);
  return failed ? failed : r.failed;
}

/* --- JSON ------------------------------------------------------------------------- */

/* arg: how many were written. */
static void json_line(struct pl_reading *r, const struct line *l, void *arg) {
  uint32_t *count = arg;
  char text[PL_READING_PLACE_BYTES];

  if (*count >= SHOWN_MAX)
    return;
  pl__reading_put(r, "%s{\"worker\":%u,\"count\":%" PRIu64 ",\"age_s\":%.3f",
                  (*count)++ ? "," : "", l->worker, l->count,
                  (double)(l->age_ns < 0 ? 0 : l->age_ns) / PL_NS_PER_S);
  if (l->level)
    pl__reading_put(r, ",\"level\":%u", l->level);
  pl__reading_text(r, "kind", pl__slice_text(kind_name(l)));
  pl__reading_text(r, "reason",
                   pl__slice_text(pl__waits_reason_name(l->reason)));
  pl__reading_text(r, "started_at",
                   pl__reading_starter(r, l->worker, l->started, l->generation,
                                       l->route, text));
  pl__reading_text(r, "at",
                   pl__reading_place(&r->sources[l->worker], l->at, text));
  pl__reading_text(r, "task",
                   pl__waits_name_of(r->sources[l->worker].waits, l->name));
  pl__reading_put(r, "}");
}

void pl__leaks_json(struct pl_reading *r) {
  uint32_t leaks = 0, suspects = 0;

  pl__reading_put(r, "\"leaks\":[");
  each_leak(r, json_line, &leaks);
  pl__reading_put(r, "],\"suspects\":[");
  each_suspect(r, json_line, &suspects);
  pl__reading_put(r, "]");
}

/* --- metrics ----------------------------------------------------------------------- */

void pl__leaks_figures(const struct pl_fabric *f, uint32_t worker_count,
                       struct pl_exposition *e) {
  struct pl_waits_suspect suspects[PL_WAITS_SUSPECTS_MAX];
  uint64_t leaked[PL_WAITS_KINDS] = {0}, suspected = 0;
  struct pl_waits *waits;
  uint32_t entries;

  for (uint32_t i = 0; i < worker_count; i++) {
    if (pl__layout_waits(f, i, &waits, &entries))
      continue;
    for (unsigned kind = 0; kind < PL_WAITS_KINDS; kind++)
      leaked[kind] += pl__reading_load(&waits->leaked[kind]);
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
