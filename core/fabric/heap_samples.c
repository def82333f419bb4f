/* fabric/heap_samples.c - see heap_samples.h. */
#include "fabric/heap_samples.h"

#include "fabric/map.h"

#include <math.h>
#include <sched.h>
#include <string.h>

#define LIVE_MASK (PL_HEAP_LIVE_SLOTS - 1)
#define TOTALS_MASK (PL_HEAP_TOTALS_SLOTS - 1)
#define READ_TRIES 8 /* of an entry that is being written */

_Static_assert((PL_HEAP_LIVE_SLOTS & LIVE_MASK) == 0, "a power of two");
_Static_assert((PL_HEAP_TOTALS_SLOTS & TOTALS_MASK) == 0, "a power of two");

void pl__heap_renew(struct pl_heap_samples *s) {
  atomic_store_explicit(&s->lock, 0, memory_order_relaxed);
  atomic_store_explicit(&s->live_count, 0, memory_order_relaxed);
  for (unsigned i = 0; i < PL_HEAP_GAUGES; i++)
    atomic_store_explicit(&s->gauges[i], 0, memory_order_relaxed);
  if (pl__fabric_punch(s->live, sizeof s->live))
    memset(s->live, 0, sizeof s->live);
}

/* Held for some hundred nanoseconds, by two threads of one process at most. */
void pl__heap_lock(struct pl_heap_samples *s) {
  while (atomic_exchange_explicit(&s->lock, 1, memory_order_acquire))
    sched_yield();
}

void pl__heap_unlock(struct pl_heap_samples *s) {
  atomic_store_explicit(&s->lock, 0, memory_order_release);
}

static uint64_t bits_of(double number) {
  uint64_t bits;

  memcpy(&bits, &number, sizeof bits);
  return bits;
}

static double number_of(uint64_t bits) {
  double number;

  memcpy(&number, &bits, sizeof number);
  return number;
}

/* --- live blocks --------------------------------------------------------------- */

static uint32_t home_of(uint64_t address) {
  return (uint32_t)((address >> 4) * 0x9e3779b97f4a7c15u >> 32) & LIVE_MASK;
}

static void slot_write(struct pl_heap_live_slot *slot,
                       const struct pl_heap_live *b) {
  uint32_t version = atomic_load_explicit(&slot->version, memory_order_relaxed);

  atomic_store_explicit(&slot->version, version | 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  atomic_store_explicit(&slot->address, b->address, memory_order_relaxed);
  atomic_store_explicit(&slot->bytes, b->bytes, memory_order_relaxed);
  atomic_store_explicit(&slot->objects, bits_of(b->objects),
                        memory_order_relaxed);
  atomic_store_explicit(&slot->stack, b->stack, memory_order_relaxed);
  atomic_store_explicit(&slot->version, (version | 1) + 1,
                        memory_order_release);
}

static void slot_copy(const struct pl_heap_live_slot *slot,
                      struct pl_heap_live *out) {
  out->address = atomic_load_explicit(&slot->address, memory_order_relaxed);
  out->bytes = atomic_load_explicit(&slot->bytes, memory_order_relaxed);
  out->objects =
      number_of(atomic_load_explicit(&slot->objects, memory_order_relaxed));
  out->stack = atomic_load_explicit(&slot->stack, memory_order_relaxed);
}

static uint64_t address_at(const struct pl_heap_samples *s, uint32_t index) {
  return atomic_load_explicit(&s->live[index].address, memory_order_relaxed);
}

/* Where it lies, or the free slot where it would; a table that is nothing but
 * full, which no writer leaves, ends the search as well. */
static uint32_t find(const struct pl_heap_samples *s, uint64_t address) {
  uint32_t index = home_of(address);

  for (uint32_t i = 0; i < PL_HEAP_LIVE_SLOTS; i++) {
    uint64_t there = address_at(s, index);
    if (there == 0 || there == address)
      break;
    index = (index + 1) & LIVE_MASK;
  }
  return index;
}

bool pl__heap_live_put(struct pl_heap_samples *s,
                       const struct pl_heap_live *block) {
  uint32_t count = atomic_load_explicit(&s->live_count, memory_order_relaxed);
  uint32_t index;

  if (count >= PL_HEAP_LIVE_MAX) {
    atomic_fetch_add_explicit(&s->lost, 1, memory_order_relaxed);
    return false;
  }
  index = find(s, block->address);
  if (address_at(s, index) == 0)
    atomic_store_explicit(&s->live_count, count + 1, memory_order_relaxed);
  slot_write(&s->live[index], block);
  return true;
}

/* Moves back what lies behind the hole and could not have gone past it. */
static void close_gap(struct pl_heap_samples *s, uint32_t hole) {
  static const struct pl_heap_live nothing;
  uint32_t index = hole;

  for (uint32_t i = 1; i < PL_HEAP_LIVE_SLOTS; i++) {
    struct pl_heap_live next;
    index = (index + 1) & LIVE_MASK;
    slot_copy(&s->live[index], &next);
    if (next.address == 0)
      break;
    if (((index - home_of(next.address)) & LIVE_MASK) <
        ((index - hole) & LIVE_MASK))
      continue;
    slot_write(&s->live[hole], &next);
    hole = index;
  }
  slot_write(&s->live[hole], &nothing);
}

bool pl__heap_live_take(struct pl_heap_samples *s, uint64_t address,
                        struct pl_heap_live *out) {
  uint32_t index = find(s, address);
  uint32_t count;

  if (address_at(s, index) != address)
    return false;
  if (out)
    slot_copy(&s->live[index], out);
  close_gap(s, index);
  count = atomic_load_explicit(&s->live_count, memory_order_relaxed);
  atomic_store_explicit(&s->live_count, count ? count - 1 : 0,
                        memory_order_relaxed);
  return true;
}

static bool is_amount(double number) { return isfinite(number) && number >= 0; }

bool pl__heap_live_read(const struct pl_heap_samples *s, uint32_t index,
                        struct pl_heap_live *out) {
  const struct pl_heap_live_slot *slot = &s->live[index];

  for (int i = 0; i < READ_TRIES; i++) {
    uint32_t before =
        atomic_load_explicit(&slot->version, memory_order_acquire);
    uint32_t behind;

    slot_copy(slot, out);
    atomic_thread_fence(memory_order_acquire);
    behind = atomic_load_explicit(&slot->version, memory_order_relaxed);
    if (before == behind && before % 2 == 0)
      return out->address != 0 && is_amount(out->objects) &&
             find(s, out->address) == index;
  }
  return false;
}

/* --- totals -------------------------------------------------------------------- */

static void add(_Atomic uint64_t *to, double amount) {
  double before = number_of(atomic_load_explicit(to, memory_order_relaxed));

  atomic_store_explicit(to, bits_of(before + amount), memory_order_relaxed);
}

void pl__heap_count(struct pl_heap_samples *s, uint32_t stack, double objects,
                    double bytes) {
  uint32_t count = atomic_load_explicit(&s->totals_count, memory_order_relaxed);
  uint32_t index = stack * 0x9e3779b1u >> 16 & TOTALS_MASK, there;
  struct pl_heap_total_slot *slot = NULL, *forgotten = NULL;

  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    slot = &s->totals[index];
    if (!atomic_load_explicit(&slot->is_used, memory_order_relaxed))
      break;
    there = atomic_load_explicit(&slot->stack, memory_order_relaxed);
    if (there == stack) {
      add(&slot->objects, objects);
      add(&slot->bytes, bytes);
      return;
    }
    if (there == PL_HEAP_STACK_FREE && !forgotten)
      forgotten = slot;
    index = (index + 1) & TOTALS_MASK;
  }
  if (count >= PL_HEAP_TOTALS_MAX && stack != PL_HEAP_STACK_NONE) {
    pl__heap_count(s, PL_HEAP_STACK_NONE, objects, bytes);
    return;
  }
  slot = forgotten ? forgotten : slot;
  atomic_store_explicit(&slot->stack, stack, memory_order_relaxed);
  atomic_store_explicit(&slot->objects, bits_of(objects), memory_order_relaxed);
  atomic_store_explicit(&slot->bytes, bits_of(bytes), memory_order_relaxed);
  atomic_store_explicit(&slot->is_used, 1, memory_order_release);
  atomic_store_explicit(&s->totals_count, count + 1, memory_order_relaxed);
}

static bool is_within(const _Atomic uint32_t *stack, uint32_t first,
                      uint32_t end) {
  uint32_t there = atomic_load_explicit(stack, memory_order_relaxed);

  return there >= first && there < end && there != PL_HEAP_STACK_NONE;
}

static void forget_totals(struct pl_heap_samples *s, uint32_t first,
                          uint32_t end) {
  double objects = 0, bytes = 0;

  for (uint32_t i = 0; i < PL_HEAP_TOTALS_SLOTS; i++) {
    struct pl_heap_total_slot *slot = &s->totals[i];
    struct pl_heap_total there;
    if (!pl__heap_total_read(s, i, &there) ||
        !is_within(&slot->stack, first, end))
      continue;
    objects += there.objects;
    bytes += there.bytes;
    atomic_store_explicit(&slot->objects, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->stack, PL_HEAP_STACK_FREE,
                          memory_order_release);
    atomic_fetch_sub_explicit(&s->totals_count, 1, memory_order_relaxed);
  }
  if (objects > 0)
    pl__heap_count(s, PL_HEAP_STACK_NONE, objects, bytes);
}

void pl__heap_forget(struct pl_heap_samples *s, uint32_t first, uint32_t end) {
  forget_totals(s, first, end);
  for (uint32_t i = 0; i < PL_HEAP_LIVE_SLOTS; i++)
    if (is_within(&s->live[i].stack, first, end))
      atomic_store_explicit(&s->live[i].stack, PL_HEAP_STACK_NONE,
                            memory_order_relaxed);
}

bool pl__heap_total_read(const struct pl_heap_samples *s, uint32_t index,
                         struct pl_heap_total *out) {
  const struct pl_heap_total_slot *slot = &s->totals[index];

  if (!atomic_load_explicit(&slot->is_used, memory_order_acquire))
    return false;
  out->stack = atomic_load_explicit(&slot->stack, memory_order_relaxed);
  out->objects =
      number_of(atomic_load_explicit(&slot->objects, memory_order_relaxed));
  out->bytes =
      number_of(atomic_load_explicit(&slot->bytes, memory_order_relaxed));
  return out->stack != PL_HEAP_STACK_FREE && is_amount(out->objects) &&
         is_amount(out->bytes);
}
