/* fabric/samples.c - see samples.h. */
#include "fabric/samples.h"

#include "fabric/record.h"
#include "fabric/stacks.h"

#define MASK(bits) ((UINT64_C(1) << (bits)) - 1)
#define NO_ROUTE MASK(PL_SAMPLES_ROUTE_BITS)

_Static_assert(PL_SAMPLES_TIME_BITS + PL_SAMPLES_ROUTE_BITS +
                       PL_SAMPLES_PHASE_BITS + PL_SAMPLES_STATE_BITS ==
                   64,
               "one word");
_Static_assert(PL_SAMPLES_WEIGHT_BITS + PL_SAMPLES_GENERATION_BITS +
                       PL_SAMPLES_STACK_BITS ==
                   64,
               "one word");
_Static_assert(PL_STACKS_WORDS <= 1u << PL_SAMPLES_STACK_BITS, "has room");
_Static_assert(PL_PHASES <= 1u << PL_SAMPLES_PHASE_BITS, "has room");
_Static_assert(PL_SAMPLE_STATES <= 1u << PL_SAMPLES_STATE_BITS, "has room");

/* Appends a field to a word, from above. */
static uint64_t put(uint64_t word, unsigned bits, uint64_t value) {
  return word << bits | (value & MASK(bits));
}

static uint64_t take(uint64_t *word, unsigned bits) {
  uint64_t value = *word & MASK(bits);

  *word >>= bits;
  return value;
}

static void add(struct pl_samples *table, const struct pl_sample *s,
                uint64_t weight_us) {
  uint64_t n = atomic_load_explicit(&table->count, memory_order_relaxed);
  uint64_t when = s->time_ms, what = weight_us;

  when = put(when, PL_SAMPLES_ROUTE_BITS,
             s->route < NO_ROUTE ? s->route : NO_ROUTE);
  when = put(when, PL_SAMPLES_PHASE_BITS, (uint64_t)s->phase);
  when = put(when, PL_SAMPLES_STATE_BITS, (uint64_t)s->state);
  what = put(what, PL_SAMPLES_GENERATION_BITS, s->generation);
  what = put(what, PL_SAMPLES_STACK_BITS, s->stack);
  atomic_thread_fence(memory_order_release); /* behind the count before it */
  atomic_store_explicit(&table->at[n % PL_SAMPLES_MAX].when, when,
                        memory_order_relaxed);
  atomic_store_explicit(&table->at[n % PL_SAMPLES_MAX].what, what,
                        memory_order_relaxed);
  atomic_store_explicit(&table->count, n + 1, memory_order_release);
}

void pl__samples_add(struct pl_samples *table, const struct pl_sample *s) {
  uint64_t left = s->weight_us, most = MASK(PL_SAMPLES_WEIGHT_BITS);

  for (; left > most; left -= most)
    add(table, s, most);
  add(table, s, left);
}

void pl__samples_reader_init(struct pl_samples_reader *r,
                             const struct pl_samples *table) {
  uint64_t count = atomic_load_explicit(&table->count, memory_order_acquire);

  *r = (struct pl_samples_reader){
      .table = table,
      .next = count,
      .end = count > PL_SAMPLES_MAX ? count - PL_SAMPLES_MAX : 0};
}

bool pl__samples_next(struct pl_samples_reader *r, struct pl_sample *out) {
  const struct pl_samples *t = r->table;
  uint64_t i, when, what, now;

  if (r->next <= r->end)
    return false;
  i = --r->next;
  when = atomic_load_explicit(&t->at[i % PL_SAMPLES_MAX].when,
                              memory_order_relaxed);
  what = atomic_load_explicit(&t->at[i % PL_SAMPLES_MAX].what,
                              memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  now = atomic_load_explicit(&t->count, memory_order_relaxed);
  if (now - i >= PL_SAMPLES_MAX) { /* it may just be written over */
    r->next = r->end;
    return false;
  }
  out->state = (enum pl_sample_state)take(&when, PL_SAMPLES_STATE_BITS);
  out->phase = (enum pl_phase)take(&when, PL_SAMPLES_PHASE_BITS);
  out->route = (uint32_t)take(&when, PL_SAMPLES_ROUTE_BITS);
  out->time_ms = when;
  out->stack = (uint32_t)take(&what, PL_SAMPLES_STACK_BITS);
  out->generation = (uint32_t)take(&what, PL_SAMPLES_GENERATION_BITS);
  out->weight_us = (uint32_t)what;
  if (out->route == NO_ROUTE)
    out->route = PL_RECORD_NO_ROUTE;
  if (out->state >= PL_SAMPLE_STATES)
    out->state = PL_SAMPLE_IN_C;
  if (out->phase >= PL_PHASES)
    out->phase = PL_PHASE_CORE;
  return true;
}
