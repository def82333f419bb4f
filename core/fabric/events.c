/* fabric/events.c - see events.h. */
#include "fabric/events.h"

#include <math.h>

void pl__recorder_open(struct pl_recorder *r, struct pl_event_rings *events,
                       const struct pl_stopwatch *watch) {
  *r = (struct pl_recorder){.events = events, .watch = watch};
  if (!events)
    return;
  r->often_head = pl__event_head(events, PL_EVENTS_LANE_OFTEN);
  r->seldom_head = pl__event_head(events, PL_EVENTS_LANE_SELDOM);
}

void pl__recorder_mark(struct pl_recorder *r, struct pl_slice text) {
  uint32_t most = PL_EVENT_MARKS_MAX * PL_EVENT_MARK_BYTES;
  uint32_t left = text.bytes < most ? text.bytes : most;
  double at = pl__recorder_now(r);

  for (const char *from = text.at; left > 0; from += PL_EVENT_MARK_BYTES) {
    uint32_t bytes = left < PL_EVENT_MARK_BYTES ? left : PL_EVENT_MARK_BYTES;
    uint64_t words[2] = {0};

    memcpy(words, from, bytes);
    pl__recorder_often(r, at, words[0], words[1],
                       pl__event_word(PL_EVENT_MARK, 0, left, 0, 0));
    left -= bytes;
  }
}

void pl__recorder_deadline(struct pl_recorder *r, double at, uint64_t request,
                           uint32_t slot, uint32_t route, uint32_t generation) {
  _Atomic uint64_t *count = &r->events->deadlines;
  uint64_t n = atomic_load_explicit(count, memory_order_relaxed);

  atomic_store_explicit(count, n + 1, memory_order_relaxed);
  pl__recorder_seldom(
      r, at, request, slot,
      pl__event_word(PL_EVENT_DEADLINE, 0, 0, route, generation));
}

/* --- readers ----------------------------------------------------------- */

static uint64_t count_of(enum pl_event_lane lane) {
  return lane == PL_EVENTS_LANE_OFTEN ? PL_EVENTS_OFTEN : PL_EVENTS_SELDOM;
}

uint64_t pl__event_head(const struct pl_event_rings *e,
                        enum pl_event_lane lane) {
  return atomic_load_explicit(lane == PL_EVENTS_LANE_OFTEN ? &e->often_head
                                                           : &e->seldom_head,
                              memory_order_acquire);
}

uint64_t pl__event_first(enum pl_event_lane lane, uint64_t head) {
  uint64_t count = count_of(lane);

  return head < count ? 0 : head - count + 1;
}

static bool is_sane(const struct pl_event_said *s) {
  return s->kind > PL_EVENT_NONE && s->kind < PL_EVENT_KINDS &&
         isfinite(s->at) && s->at >= 0 &&
         s->at < 1e9; /* its ns fit into a word */
}

bool pl__event_read(const struct pl_event_rings *e, enum pl_event_lane lane,
                    uint64_t position, struct pl_event_said *out) {
  const struct pl_event *at = lane == PL_EVENTS_LANE_OFTEN
                                  ? &e->often[position % PL_EVENTS_OFTEN]
                                  : &e->seldom[position % PL_EVENTS_SELDOM];
  uint64_t words[4];

  for (unsigned i = 0; i < 4; i++)
    words[i] = atomic_load_explicit(&at->words[i], memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  if (pl__event_first(lane, pl__event_head(e, lane)) > position)
    return false;
  memcpy(&out->at, &words[0], sizeof out->at);
  out->id = words[1];
  out->value = words[2];
  out->kind = (uint8_t)words[3];
  out->detail = (uint8_t)(words[3] >> 8);
  out->code = (uint16_t)(words[3] >> 16);
  out->route = (uint32_t)(words[3] >> 32) & 0xffffff;
  out->generation = (uint8_t)(words[3] >> 56);
  return is_sane(out);
}
