/* server/complaints.c - what the log says of a collector: that it takes nothing,
 * that it does again, and how much is lost.  See outflow.h.
 */
#include "base/clock.h"
#include "fabric/record.h"
#include "server/figures.h"
#include "server/outflow.h"

#define DRAFT_BYTES (PL_OUTFLOW_WHY_BYTES + 1024u)

static void draft_begin(struct pl_record_draft *draft, void *memory,
                        uint32_t bytes, enum pl_level level,
                        const struct pl_outflow *s, const char *message) {
  struct pl_record head = {.level = (uint8_t)level,
                           .worker = PL_RECORD_CONTROL,
                           .route = PL_RECORD_NO_ROUTE};

  pl__record_begin(draft, memory, bytes, &head, pl__slice_text(message));
  pl__record_str(draft, PL_SLICE("signal"),
                 pl__slice_text(pl__signal_name(s->what)));
}

static void draft_end(struct pl_exporter *e, struct pl_record_draft *draft) {
  pl__record_end(draft, &e->log);
  pl__ring_wake(&e->log);
}

/* All that was dropped and not said yet. */
static uint64_t drops_new(struct pl_outflow *s) {
  uint64_t sum = 0, last = s->drops_said;

  for (unsigned i = 0; i < PL_EXPORT_DROPS; i++)
    sum += pl__figures_export_drops(s->e->args.fabric, s->what,
                                    (enum pl_export_drop)i);
  s->drops_said = sum;
  return sum - last;
}

void pl__complaints_say_failing(struct pl_outflow *s, uint64_t now) {
  _Alignas(8) char memory[DRAFT_BYTES];
  struct pl_record_draft draft;
  uint64_t drops;

  if (s->said_ms && now - s->said_ms < PL_COMPLAINTS_EVERY_MS)
    return;
  s->said_ms = now;
  drops = drops_new(s);
  draft_begin(&draft, memory, sizeof memory, PL_LEVEL_WARN, s,
              "the collector does not take what is sent");
  pl__record_str(&draft, PL_SLICE("reason"), pl__slice_text(s->why));
  pl__record_str(&draft, PL_SLICE("host"), pl__slice_text(s->to.authority));
  if (drops)
    pl__record_num(&draft, PL_SLICE("dropped"), (double)drops);
  draft_end(s->e, &draft);
}

void pl__complaints_say_recovered(struct pl_outflow *s, uint64_t now) {
  _Alignas(8) char memory[DRAFT_BYTES];
  struct pl_record_draft draft;

  draft_begin(&draft, memory, sizeof memory, PL_LEVEL_INFO, s,
              "the collector takes what is sent again");
  pl__record_num(&draft, PL_SLICE("seconds"),
                 (double)(now - s->failing_ms) / 1000);
  pl__record_num(&draft, PL_SLICE("dropped"), (double)drops_new(s));
  draft_end(s->e, &draft);
}

void pl__complaints_say_losses(struct pl_outflow *s, uint64_t now) {
  _Alignas(8) char memory[DRAFT_BYTES];
  struct pl_record_draft draft;
  uint64_t drops;

  if (s->said_ms && now - s->said_ms < PL_COMPLAINTS_EVERY_MS)
    return;
  drops = drops_new(s);
  if (!drops)
    return;
  s->said_ms = now;
  draft_begin(&draft, memory, sizeof memory, PL_LEVEL_WARN, s,
              "some of what was to be exported is lost");
  pl__record_num(&draft, PL_SLICE("dropped"), (double)drops);
  if (s->why[0])
    pl__record_str(&draft, PL_SLICE("reason"), pl__slice_text(s->why));
  draft_end(s->e, &draft);
  s->why[0] = '\0';
}

void pl__complaints_forget(struct pl_outflow *s) { drops_new(s); }
