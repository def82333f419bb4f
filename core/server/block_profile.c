/* server/block_profile.c - see block_profile.h. */
#include "server/block_profile.h"

#include <inttypes.h>

#include "base/clock.h"
#include "fabric/waits.h"
#include "log/pprof.h"
#include "server/reading.h"

/* --- block ---------------------------------------------------------------------- */

static void profile_blocks(struct pl_reading *r, struct pl_pprof *p,
                           uint32_t worker) {
  const struct pl_waits *waits = r->sources[worker].waits;
  uint64_t locations[PL_STACKS_DEPTH_MAX];
  char number[16];

  for (uint32_t i = 0; i < pl__waits_block_count(waits); i++) {
    const struct pl_waits_block *b = &waits->blocks[i];
    int64_t values[2] = {(int64_t)pl__reading_load(&b->count),
                         (int64_t)pl__reading_load(&b->ns)};
    struct pl_pprof_label labels[] = {
        {.key = "reason",
         .text = pl__slice_text(pl__waits_reason_name(b->reason))},
        {.key = "worker", .text = pl__reading_number(worker, number)}};

    if (values[0] > 0)
      pl__pprof_sample(p, locations,
                       pl__reading_locate(r, p, worker, b->stack,
                                          pl__waits_reason_name(b->reason),
                                          locations),
                       values, labels, 2);
  }
}

static int block_profile(struct pl_reading *r) {
  static const struct pl_pprof_type types[] = {{"contentions", "count"},
                                               {"delay", "nanoseconds"}};
  struct pl_pprof p;
  int failed = pl__reading_profile(&p, types, sizeof types / sizeof *types);

  if (failed)
    return failed;
  for (uint32_t i = 0; i < r->worker_count; i++)
    profile_blocks(r, &p, i);
  return pl__pprof_end(&p, r->out);
}

static void put_blocks(struct pl_reading *r, uint32_t worker) {
  const struct pl_waits *waits = r->sources[worker].waits;

  for (uint32_t i = 0; i < pl__waits_block_count(waits); i++) {
    const struct pl_waits_block *b = &waits->blocks[i];
    if (!pl__reading_load(&b->count))
      continue;
    pl__reading_put(r, "%" PRIu64 " waits, %.6f s [%s] worker %u\n",
                    pl__reading_load(&b->count),
                    (double)pl__reading_load(&b->ns) / PL_NS_PER_S,
                    pl__waits_reason_name(b->reason), worker);
    pl__reading_frames(r, worker, b->stack, "#\t");
    pl__reading_put(r, "\n");
  }
}

int pl__block_profile_answer(const struct pl_fabric *f, struct pl_slice said,
                             struct pl_buf *out) {
  struct pl_reading r;
  int failed = pl__reading_open(&r, f, out);

  if (!failed && pl__slice_equal(said, PL_SLICE("1")))
    for (uint32_t i = 0; i < r.worker_count; i++)
      put_blocks(&r, i);
  else if (!failed)
    r.failed = block_profile(&r);
  pl__reading_close(&r);
  return failed ? failed : r.failed;
}
