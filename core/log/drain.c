/* log/drain.c - one batch at a time, and the rings released behind it.
 *
 *            rings have records        all of it written
 *     EMPTY -------------------> HELD --------------------> EMPTY
 *                                 |  ^                  rings released,
 *                                 +--+                  drops noted as told
 *                          output blocked or failing
 *
 * EMPTY is out.bytes == 0.  Nothing is read from the rings in HELD.
 */
#include "log/drain.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* A batch grows past its limit by one line at most, and the longest text that
 * a record can hold may become six times as long. */
#define OUT_BYTES_MAX                                                          \
  (PL_LIMIT_LOG_BATCH_BYTES + 8u * PL_LIMIT_LOG_RECORD_BYTES +                 \
   8u * PL_LIMIT_ROUTES_BYTES)
#define DROPS_EVERY_NS PL_NS_PER_S /* drops are told once a second */
#define TORN 1u                    /* a note: the output may end in a line */
#define RETRY_MS 10                /* pl__drain_finish, when the output fails */

void pl__drain_init(struct pl_drain *d, struct pl_sink *sink,
                    enum pl_log_format format, bool colour, unsigned level,
                    const struct pl_routes *routes) {
  memset(d, 0, sizeof *d);
  d->sink = sink;
  d->level = level;
  pl__formatter_init(&d->formatter, format, colour, routes);
  pl__buf_init(&d->out, NULL, OUT_BYTES_MAX);
}

void pl__drain_deinit(struct pl_drain *d) {
  pl__buf_release(&d->out);
  d->ring_count = d->written = 0;
}

int pl__drain_add(struct pl_drain *d, struct pl_ring *ring, uint16_t worker) {
  if (d->ring_count == PL_DRAIN_RINGS_MAX)
    return PL_EFULL;
  if (d->ring_count == 0)
    d->torn = atomic_load_explicit(&ring->note, memory_order_relaxed) == TORN;
  struct pl_drain_ring *r = &d->rings[d->ring_count++];
  memset(r, 0, sizeof *r);
  pl__ring_reader_init(&r->reader, ring);
  r->worker = worker;
  r->broken_told = ring->broken_count;
  return 0;
}

/* --- lines of our own ---------------------------------------------------- */

static void begin_own(struct pl_record_draft *draft, void *memory,
                      uint32_t bytes, unsigned worker, enum pl_level level,
                      struct pl_slice message) {
  struct pl_record head = {.level = (uint8_t)level,
                           .worker = (uint16_t)worker,
                           .route = PL_RECORD_NO_ROUTE};
  pl__record_begin(draft, memory, bytes, &head, message);
}

/* Adds the line; false without memory: then it is told another time. */
static bool end_own(struct pl_drain *d, const struct pl_record_draft *draft) {
  if (pl__format_record(&d->formatter, draft->at, draft->bytes, &d->out))
    return false;
  d->batch_lines++;
  return true;
}

/* Tells how many records of a ring found no room, per level. */
static void tell_drops(struct pl_drain *d, struct pl_drain_ring *r) {
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;
  uint64_t sum = 0;
  for (unsigned i = 0; i < PL_RING_LANES; i++)
    sum += r->drops[i] = pl__ring_drops(&r->reader, i);
  if (sum == 0)
    return;
  begin_own(&draft, memory, sizeof memory, r->worker, PL_LEVEL_WARN,
            PL_SLICE("log records dropped: the ring was full"));
  for (unsigned i = 0; i < PL_RING_LANES; i++)
    if (r->drops[i]) {
      const char *name = pl__level_name(i);
      pl__record_num(&draft, pl__slice(name, strlen(name)),
                     (double)r->drops[i]);
    }
  r->drops_pending = end_own(d, &draft);
}

static void tell_broken(struct pl_drain *d, struct pl_drain_ring *r) {
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;
  if (r->reader.ring->broken_count == r->broken_told)
    return;
  begin_own(&draft, memory, sizeof memory, r->worker, PL_LEVEL_ERROR,
            PL_SLICE("log ring was damaged: what was unread in it is lost"));
  if (end_own(d, &draft))
    r->broken_told = r->reader.ring->broken_count;
}

/* Tells that the output had failed and takes lines again. */
static void tell_failed(struct pl_drain *d) {
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;
  if (!d->failed)
    return;
  const char *text = strerror(-d->failed);
  begin_own(&draft, memory, sizeof memory, PL_RECORD_CONTROL, PL_LEVEL_WARN,
            PL_SLICE("log output had failed and works again"));
  pl__record_str(&draft, PL_SLICE("error"), pl__slice(text, strlen(text)));
  pl__record_num(&draft, PL_SLICE("seconds"),
                 (double)d->failed_ns / PL_NS_PER_S);
  if (end_own(d, &draft))
    d->failed = 0;
}

static void tell_losses(struct pl_drain *d, bool now) {
  int64_t clock = pl__clock_monotonic_coarse_ns();
  tell_failed(d);
  if (!now && d->drops_ns && clock - d->drops_ns < DROPS_EVERY_NS)
    return;
  d->drops_ns = clock;
  for (uint32_t i = 0; i < d->ring_count; i++) {
    tell_drops(d, &d->rings[i]);
    tell_broken(d, &d->rings[i]);
  }
}

/* --- filling the batch --------------------------------------------------- */

/* Looks at the next record of a ring. */
static void look(struct pl_drain_ring *r) {
  r->record = pl__ring_peek(&r->reader, &r->bytes);
  r->time_ns = INT64_MIN; /* too short to have a time: out with it first */
  if (r->record && r->bytes >= sizeof(struct pl_record))
    r->time_ns = ((const struct pl_record *)r->record)->time_ns;
}

/* The ring whose next record is the oldest, or NULL; *until is the time of the
 * oldest one of all others. */
static struct pl_drain_ring *oldest(struct pl_drain *d, int64_t *until) {
  struct pl_drain_ring *best = NULL;
  *until = INT64_MAX;
  for (uint32_t i = 0; i < d->ring_count; i++) {
    struct pl_drain_ring *r = &d->rings[i];
    if (!r->record)
      continue;
    if (!best || r->time_ns < best->time_ns) {
      if (best)
        *until = best->time_ns;
      best = r;
    } else if (r->time_ns < *until) {
      *until = r->time_ns;
    }
  }
  return best;
}

/* Adds the line of one record.  False when it must wait for the next batch. */
static bool take_record(struct pl_drain *d, const struct pl_drain_ring *r) {
  const struct pl_record *head = r->record;
  if (r->bytes >= sizeof *head && head->level < d->level)
    return true;
  int status = pl__format_record(&d->formatter, r->record, r->bytes, &d->out);
  if (status == 0)
    d->batch_lines++;
  else if (status == PL_EBAD || (status == PL_EFULL && d->out.bytes == 0))
    d->bad_count++; /* full: it would not fit into an empty batch either */
  else
    return false;
  return true;
}

/* Fills the batch; returns how many records were taken up. */
static uint32_t fill(struct pl_drain *d) {
  uint32_t count = 0;
  int64_t until;
  for (uint32_t i = 0; i < d->ring_count; i++)
    look(&d->rings[i]);
  for (;;) {
    struct pl_drain_ring *r = oldest(d, &until);
    if (!r)
      return count;
    while (r->record && r->time_ns <= until) {
      if (d->out.bytes >= PL_LIMIT_LOG_BATCH_BYTES || !take_record(d, r)) {
        d->more = true;
        return count;
      }
      count++;
      pl__ring_next(&r->reader);
      look(r);
    }
  }
}

/* --- writing it out ------------------------------------------------------ */

/* Notes for the drain after us whether the output ends within a line. */
static void note_torn(struct pl_drain *d, bool torn) {
  if (d->ring_count > 0)
    atomic_store_explicit(&d->rings[0].reader.ring->note, torn ? TORN : 0,
                          memory_order_release);
}

/* The batch is out: the rings get their room back. */
static void release(struct pl_drain *d) {
  for (uint32_t i = 0; i < d->ring_count; i++) {
    struct pl_drain_ring *r = &d->rings[i];
    pl__ring_release(&r->reader);
    for (unsigned j = 0; r->drops_pending && j < PL_RING_LANES; j++)
      pl__ring_drops_tell(&r->reader, j, r->drops[j]);
    r->drops_pending = false;
  }
  d->torn = false;
  d->line_count += d->batch_lines;
  d->batch_lines = 0;
  d->out.bytes = d->written = 0;
}

/* Keeps track of how long the output fails. */
static void note_failure(struct pl_drain *d, int status) {
  if (status == -EAGAIN)
    return; /* slow, not broken */
  int64_t now = pl__clock_monotonic_ns();
  if (status && !d->failing) {
    d->failing_ns = now;
  } else if (!status && d->failing) {
    d->failed = d->failing;
    d->failed_ns = now - d->failing_ns;
  }
  d->failing = status;
}

/* Writes what can be written; true when the batch is out. */
static bool flush(struct pl_drain *d) {
  size_t taken = 0;
  note_torn(d, true);
  int status = pl__sink_write(d->sink, d->out.at + d->written,
                              d->out.bytes - d->written, &taken);
  d->written += (uint32_t)taken;
  note_torn(d, d->written ? d->out.at[d->written - 1] != '\n' : d->torn);
  note_failure(d, status);
  if (d->written < d->out.bytes)
    return false;
  release(d);
  return true;
}

static uint32_t run(struct pl_drain *d, bool last,
                    enum pl_drain_outcome *outcome) {
  if (d->out.bytes) {
    *outcome = flush(d) ? PL_DRAIN_MORE : PL_DRAIN_BLOCKED;
    return 0;
  }
  d->more = false;
  if (d->torn && pl__buf_append(&d->out, "\n", 1)) {
    *outcome = PL_DRAIN_BLOCKED; /* no memory */
    return 0;
  }
  tell_losses(d, last);
  uint32_t count = fill(d);
  bool more = d->more;
  bool empty = d->out.bytes == 0;
  if (empty)
    release(d); /* all of it was below the level, or unreadable */
  if ((empty && more && count == 0) || /* no memory */
      (!empty && !flush(d))) {
    *outcome = PL_DRAIN_BLOCKED;
    return count;
  }
  *outcome = more || d->failed ? PL_DRAIN_MORE : PL_DRAIN_IDLE;
  return count;
}

uint32_t pl__drain_run(struct pl_drain *d, enum pl_drain_outcome *outcome) {
  return run(d, false, outcome);
}

bool pl__drain_sleep(struct pl_drain *d, uint32_t bytes) {
  for (uint32_t i = 0; i < d->ring_count; i++)
    if (!pl__ring_sleep(&d->rings[i].reader, bytes)) {
      pl__drain_awake(d);
      return false;
    }
  return true;
}

void pl__drain_awake(struct pl_drain *d) {
  for (uint32_t i = 0; i < d->ring_count; i++)
    pl__ring_awake(&d->rings[i].reader);
}

/* Waits until the output takes more, or a little when it fails: poll would
 * come back at once then. */
static void wait_for_output(const struct pl_drain *d, int wait_ms) {
  struct pollfd p = {.fd = d->sink->fd, .events = POLLOUT};
  if (d->failing)
    poll(NULL, 0, wait_ms < RETRY_MS ? wait_ms : RETRY_MS);
  else
    poll(&p, 1, wait_ms);
}

int pl__drain_finish(struct pl_drain *d, int wait_ms) {
  int64_t end = pl__clock_monotonic_ns() + (int64_t)wait_ms * PL_NS_PER_MS;
  enum pl_drain_outcome outcome;
  for (;;) {
    run(d, true, &outcome);
    if (outcome == PL_DRAIN_IDLE)
      return 0;
    if (d->failing == -EPIPE)
      return PL_EGONE;
    int64_t left = end - pl__clock_monotonic_ns();
    if (left <= 0)
      return PL_ETIMEOUT;
    if (outcome == PL_DRAIN_BLOCKED)
      wait_for_output(d, (int)(left / PL_NS_PER_MS) + 1);
  }
}

/* The start of the line that byte `at` of the batch belongs to. */
static uint32_t line_start(const struct pl_buf *out, uint32_t at) {
  while (at > 0 && out->at[at - 1] != '\n')
    at--;
  return at;
}

int pl__drain_reopen(struct pl_drain *d) {
  int status = pl__sink_reopen(d->sink);
  if (status == 0 && d->sink->path[0])
    d->written = line_start(&d->out, d->written);
  return status;
}
