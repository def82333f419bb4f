/* server/coroutines.c - see coroutines.h. */
#include "server/coroutines.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fabric/waits.h"
#include "log/pprof.h"
#include "server/leaks.h"
#include "server/reading.h"

#define SHOWN_MAX 50u /* of the lists in JSON */

/* --- those alike together ------------------------------------------------------ */

#define COMPARE(x, y)                                                          \
  if ((x) != (y))                                                              \
  return (x) < (y) ? -1 : 1

static int row_compare(const void *left, const void *right) {
  const struct pl_reading_row *a = left, *b = right;
  int by_age;

  COMPARE(a->worker, b->worker);
  COMPARE(a->seen.state, b->seen.state);
  COMPARE(a->seen.reason, b->seen.reason);
  COMPARE(a->seen.at, b->seen.at);
  COMPARE(a->seen.started, b->seen.started);
  COMPARE(a->seen.generation, b->seen.generation);
  COMPARE(a->seen.route, b->seen.route);
  by_age = strcmp(pl__reading_bucket(a->age_ns), pl__reading_bucket(b->age_ns));
  return by_age;
}

static int older_first(const void *left, const void *right) {
  const struct pl_reading_row *a = left, *b = right;

  COMPARE(b->age_ns, a->age_ns);
  COMPARE(a->seen.id, b->seen.id);
  return 0;
}

/* How many from `first` on are alike. */
static uint32_t alike(const struct pl_reading *r, uint32_t first) {
  uint32_t next = first + 1;

  while (next < r->row_count && !row_compare(&r->rows[first], &r->rows[next]))
    next++;
  return next - first;
}

/* --- profiles -------------------------------------------------------------------- */

static void profile_rows(struct pl_reading *r, struct pl_pprof *p) {
  uint64_t locations[PL_STACKS_DEPTH_MAX];
  char started[PL_READING_PLACE_BYTES], worker[16];

  for (uint32_t i = 0, n; i < r->row_count; i += n) {
    const struct pl_reading_row *row = &r->rows[i];
    const struct pl_waits_seen *s = &row->seen;
    struct pl_pprof_label labels[] = {
        {.key = "reason", .text = pl__slice_text(pl__reading_doing(s))},
        {.key = "age", .text = pl__slice_text(pl__reading_bucket(row->age_ns))},
        {.key = "worker", .text = pl__reading_number(row->worker, worker)},
        {.key = "started",
         .text = pl__reading_starter(r, row->worker, s->started, s->generation,
                                     s->route, started)}};
    int64_t count;

    n = alike(r, i);
    count = n;
    pl__pprof_sample(p, locations,
                     pl__reading_locate(r, p, row->worker, s->at,
                                        pl__reading_doing(s), locations),
                     &count, labels, labels[3].text.bytes ? 4 : 3);
  }
}

static int profile_list(struct pl_reading *r) {
  static const struct pl_pprof_type types[] = {{"coroutine", "count"}};
  struct pl_pprof p;
  int failed = pl__reading_profile(&p, types, sizeof types / sizeof *types);

  if (failed)
    return failed;
  profile_rows(r, &p);
  return pl__pprof_end(&p, r->out);
}

/* --- text ---------------------------------------------------------------------- */

static void put_starter(struct pl_reading *r,
                        const struct pl_reading_row *row) {
  const struct pl_waits_seen *s = &row->seen;
  char text[PL_READING_PLACE_BYTES];
  struct pl_slice by = pl__reading_starter(r, row->worker, s->started,
                                           s->generation, s->route, text);

  if (!by.bytes)
    return;
  pl__reading_put(r, "created by ");
  pl__reading_plain(r, by);
  pl__reading_put(r, "\n");
}

static void put_object(struct pl_reading *r, const struct pl_waits_seen *s) {
  char id[PL_WAITS_ID_TEXT_BYTES];

  if (s->reason == PL_WAITS_TASK)
    pl__reading_put(r, ", waits for task %s", pl__waits_id_text(s->object, id));
  else
    pl__reading_put(r, ", waits for channel %" PRIu64, s->object);
}

static void put_request(struct pl_reading *r, const struct pl_waits_seen *s) {
  pl__reading_put(r, ", request in slot %u, ", s->slot - 1);
  pl__reading_plain(r, pl__reading_pattern(r, s->generation, s->route));
}

static void put_each(struct pl_reading *r, const struct pl_reading_row *row) {
  const struct pl_waits_seen *s = &row->seen;
  char id[PL_WAITS_ID_TEXT_BYTES];

  pl__reading_put(r, "coroutine %s [%s, ", pl__waits_id_text(s->id - 1, id),
                  pl__reading_doing(s));
  pl__reading_age(r, row->age_ns);
  pl__reading_put(r, "]: worker %u", row->worker);
  pl__reading_task(r, s->name);
  if (s->parent)
    pl__reading_put(r, ", parent %s", pl__waits_id_text(s->parent - 1, id));
  if (s->object && s->state == PL_WAITS_PARKED)
    put_object(r, s);
  if (s->slot)
    put_request(r, s);
  pl__reading_put(r, "\n");
  pl__reading_frames(r, row->worker, s->at, "");
  put_starter(r, row);
  pl__reading_put(r, "\n");
}

static void put_alike(struct pl_reading *r) {
  pl__reading_put(r, "coroutine profile: total %u\n", r->row_count);
  for (uint32_t i = 0, n; i < r->row_count; i += n) {
    const struct pl_reading_row *row = &r->rows[i];
    n = alike(r, i);
    pl__reading_put(r, "%u [%s, %s] worker %u\n", n,
                    pl__reading_doing(&row->seen),
                    pl__reading_bucket(row->age_ns), row->worker);
    pl__reading_frames(r, row->worker, row->seen.at, "#\t");
    pl__reading_put(r, "#\t");
    put_starter(r, row);
    pl__reading_put(r, "\n");
  }
}

int pl__coroutines_list(const struct pl_fabric *f, struct pl_slice said,
                        struct pl_buf *out) {
  bool is_each = pl__slice_equal(said, PL_SLICE("2"));
  struct pl_reading r;
  int failed = pl__reading_open(&r, f, out);

  failed = failed ? failed : pl__reading_rows(&r);
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
  pl__reading_close(&r);
  return failed ? failed : r.failed;
}

/* --- JSON ------------------------------------------------------------------------- */

static void put_reasons(struct pl_reading *r) {
  uint64_t waiting[PL_WAITS_REASONS] = {0}, others[PL_WAITS_STATES] = {0};
  const char *comma = "";

  for (uint32_t i = 0; i < r->row_count; i++) {
    const struct pl_waits_seen *s = &r->rows[i].seen;
    if (s->state == PL_WAITS_PARKED)
      waiting[s->reason]++;
    else
      others[s->state]++;
  }
  pl__reading_put(r, "\"by_reason\":{");
  for (uint32_t i = 0; i < PL_WAITS_REASONS + PL_WAITS_STATES; i++) {
    bool is_reason = i < PL_WAITS_REASONS;
    uint32_t at = is_reason ? i : i - PL_WAITS_REASONS;
    uint64_t n = is_reason ? waiting[at] : others[at];
    if (!n)
      continue;
    pl__reading_put(
        r, "%s\"%s\":%" PRIu64, comma,
        is_reason ? pl__waits_reason_name(at) : pl__waits_state_name(at), n);
    comma = ",";
  }
  pl__reading_put(r, "}");
}

static void put_oldest(struct pl_reading *r) {
  char text[PL_READING_PLACE_BYTES], id[PL_WAITS_ID_TEXT_BYTES];

  for (uint32_t i = 0; i < r->row_count && i < SHOWN_MAX; i++) {
    const struct pl_reading_row *row = &r->rows[i];
    const struct pl_waits_seen *s = &row->seen;
    pl__reading_put(r, "%s{\"id\":\"%s\",\"worker\":%u,\"age_s\":%.3f",
                    i ? "," : "", pl__waits_id_text(s->id - 1, id), row->worker,
                    (double)row->age_ns / PL_NS_PER_S);
    pl__reading_text(r, "reason", pl__slice_text(pl__reading_doing(s)));
    pl__reading_text(r, "started_at",
                     pl__reading_starter(r, row->worker, s->started,
                                         s->generation, s->route, text));
    pl__reading_text(r, "at",
                     pl__reading_place(&r->sources[row->worker], s->at, text));
    pl__reading_text(r, "route",
                     pl__reading_pattern(r, s->generation, s->route));
    pl__reading_text(r, "task", s->name);
    pl__reading_put(r, "}");
  }
}

int pl__coroutines_waits(const struct pl_fabric *f, struct pl_slice said,
                         struct pl_buf *out) {
  struct pl_reading r;
  int failed = pl__reading_open(&r, f, out);

  (void)said;
  failed = failed ? failed : pl__reading_rows(&r);
  if (!failed) {
    qsort(r.rows, r.row_count, sizeof *r.rows, older_first);
    pl__reading_put(&r, "{\"coroutines\":%u,", r.row_count);
    put_reasons(&r);
    pl__reading_put(&r, ",\"oldest\":[");
    put_oldest(&r);
    pl__reading_put(&r, "],");
    pl__leaks_json(&r);
    pl__reading_put(&r, "}");
  }
  pl__reading_close(&r);
  return failed ? failed : r.failed;
}
