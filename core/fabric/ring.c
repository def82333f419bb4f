/* fabric/ring.c - the paths of the ring that are not taken for each record. */
#include "fabric/ring.h"

#include "base/clock.h"
#include "base/err.h"

#include <stddef.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_NS 100000

_Static_assert(offsetof(struct pl_ring, data) % 128 == 0,
               "records are aligned");
_Static_assert(offsetof(struct pl_ring, head) -
                       offsetof(struct pl_ring, tail) >=
                   128,
               "the two sides share no pair of cache lines");

int pl__ring_init(struct pl_ring *r, uint64_t bytes) {
  if (bytes < PL_RING_BYTES_MIN || bytes > PL_RING_BYTES_MAX ||
      (bytes & (bytes - 1)) != 0)
    return PL_EINVAL;
  r->bytes = bytes;
  atomic_init(&r->tail, 0);
  atomic_init(&r->head, 0);
  atomic_init(&r->sleep, 0);
  for (unsigned i = 0; i < PL_RING_LANES; i++) {
    atomic_init(&r->drops[i], 0);
    r->drops_told[i] = 0;
  }
  r->broken_count = 0;
  return 0;
}

void pl__ring_writer_init(struct pl_ring_writer *w, struct pl_ring *r,
                          int wake_fd) {
  /* Rounded up should the writer before us have gone wild. */
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
  tail = (tail + 7) & ~7ull;
  *w = (struct pl_ring_writer){
      .ring = r,
      .mask = r->bytes - 1,
      .tail = tail,
      .next = tail,
      .head = atomic_load_explicit(&r->head, memory_order_acquire),
      .wake_fd = wake_fd,
  };
}

/* Puts a marker over what is left at the end.  It is not visible before the
 * record behind it is published. */
static void write_skip(struct pl_ring_writer *w, uint64_t at, uint64_t skip) {
  struct pl_ring_prefix *prefix = (void *)(w->ring->data + at);
  prefix->bytes = (uint32_t)(skip - sizeof *prefix);
  prefix->mark = PL_RING_SKIP;
}

void *pl__ring_reserve_slow(struct pl_ring_writer *w, uint32_t bytes,
                            uint64_t fill_max) {
  uint64_t size = w->mask + 1, at = w->tail & w->mask;
  uint64_t need =
      sizeof(struct pl_ring_prefix) + (((uint64_t)bytes + 7) & ~7ull);
  uint64_t skip = at + need > size ? size - at : 0;
  if (fill_max > size)
    fill_max = size;
  if (need > size)
    return NULL;
  if (w->tail + skip + need - w->head > fill_max) {
    /* The reader can only make room for what it sees. */
    pl__ring_publish(w);
    w->head = atomic_load_explicit(&w->ring->head, memory_order_acquire);
    if (w->tail + skip + need - w->head > fill_max)
      return NULL;
  }
  if (skip)
    write_skip(w, at, skip);
  w->next = w->tail + skip;
  return w->ring->data + (w->next & w->mask) + sizeof(struct pl_ring_prefix);
}

void *pl__ring_reserve_patiently(struct pl_ring_writer *w, uint32_t bytes) {
  const struct timespec pause = {.tv_nsec = PAUSE_NS};
  int64_t patience = PL_RING_PATIENCE_MS * PL_NS_PER_MS, end = 0;
  uint64_t head = w->head;
  void *at;

  while (!(at = pl__ring_reserve(w, bytes, w->mask + 1))) {
    int64_t now = pl__clock_monotonic_ns();
    if (w->is_stuck && w->head == w->stuck_head)
      return NULL;
    if (w->head != head || !end) {
      head = w->head;
      end = now + patience;
    } else if (now > end) {
      w->is_stuck = true;
      w->stuck_head = head;
      return NULL;
    }
    pl__ring_wake(w);
    nanosleep(&pause, NULL);
  }
  w->is_stuck = false;
  return at;
}

/* The sleep word: which sleep it is in the upper half, and in the lower one
 * with how many bytes to be woken; 0 there says awake.  Only the reader stores
 * it: were the writer to clear it, a writer killed before its system call
 * would leave a reader that sleeps and a word that says it doesn't. */
void pl__ring_wake(struct pl_ring_writer *w) {
  struct pl_ring *r = w->ring;
  if (w->wake_fd < 0)
    return;
  /* An operation on tail in the one total order, after which the sleep word
   * is read: pl__ring_sleep does the same the other way round, so one of the
   * two sees the other. */
  uint64_t tail = atomic_fetch_add(&r->tail, 0);
  uint64_t sleep = atomic_load(&r->sleep);
  uint32_t bytes = (uint32_t)sleep;
  if (bytes == 0 || sleep == w->woken)
    return;
  w->head = atomic_load_explicit(&r->head, memory_order_acquire);
  if (tail - w->head < bytes)
    return;
  uint64_t one = 1;
  if (write(w->wake_fd, &one, sizeof one) == (ssize_t)sizeof one)
    w->woken = sleep;
}

void pl__ring_reader_init(struct pl_ring_reader *r, struct pl_ring *ring) {
  *r = (struct pl_ring_reader){
      .ring = ring,
      .mask = ring->bytes - 1,
      .head = atomic_load_explicit(&ring->head, memory_order_relaxed),
      .tail = atomic_load_explicit(&ring->tail, memory_order_acquire),
      .sleeps = atomic_load_explicit(&ring->sleep, memory_order_relaxed) >> 32,
  };
  pl__ring_awake(r);
}

/* Gives up what is unread: its shape makes no sense. */
static const void *skip_broken(struct pl_ring_reader *r) {
  r->ring->broken_count++;
  r->head = r->tail = (r->tail + 7) & ~7ull; /* as the next writer rounds it */
  return NULL;
}

const void *pl__ring_peek(struct pl_ring_reader *r, uint32_t *bytes) {
  uint64_t size = r->mask + 1;
  for (;;) {
    if (r->head == r->tail) {
      r->tail = atomic_load_explicit(&r->ring->tail, memory_order_acquire);
      if (r->head == ((r->tail + 7) & ~7ull)) {
        r->tail = r->head;
        return NULL;
      }
    }
    uint64_t there = r->tail - r->head, at = r->head & r->mask;
    if (there > size || ((r->head | r->tail) & 7) != 0)
      return skip_broken(r);
    const struct pl_ring_prefix *prefix = (const void *)(r->ring->data + at);
    uint64_t need = sizeof *prefix + (((uint64_t)prefix->bytes + 7) & ~7ull);
    if (need > there || at + need > size)
      return skip_broken(r);
    if (prefix->mark == PL_RING_RECORD) {
      *bytes = prefix->bytes;
      return prefix + 1;
    }
    if (prefix->mark != PL_RING_SKIP || at + need != size)
      return skip_broken(r);
    r->head += need;
  }
}

void pl__ring_next(struct pl_ring_reader *r) {
  uint64_t at = r->head & r->mask;
  const struct pl_ring_prefix *prefix = (const void *)(r->ring->data + at);
  PL_ASSERT(r->head != r->tail && prefix->mark == PL_RING_RECORD);
  r->head += sizeof *prefix + (((uint64_t)prefix->bytes + 7) & ~7ull);
}

bool pl__ring_sleep(struct pl_ring_reader *r, uint32_t bytes) {
  PL_ASSERT(bytes > 0);
  r->sleeps++;
  atomic_store(&r->ring->sleep, r->sleeps << 32 | bytes);
  uint64_t tail = atomic_load(&r->ring->tail);
  uint64_t head = atomic_load_explicit(&r->ring->head, memory_order_relaxed);
  if (tail - head < bytes)
    return true;
  pl__ring_awake(r);
  return false;
}

void pl__ring_awake(struct pl_ring_reader *r) {
  atomic_store_explicit(&r->ring->sleep, r->sleeps << 32, memory_order_relaxed);
}

uint64_t pl__ring_drops(const struct pl_ring_reader *r, unsigned lane) {
  const struct pl_ring *ring = r->ring;
  lane %= PL_RING_LANES;
  return atomic_load_explicit(&ring->drops[lane], memory_order_relaxed) -
         ring->drops_told[lane];
}

void pl__ring_drops_tell(struct pl_ring_reader *r, unsigned lane,
                         uint64_t count) {
  r->ring->drops_told[lane % PL_RING_LANES] += count;
}
