/* log/drain.c - one batch at a time, and the rings released behind it.
 *
 *            rings have records        all of it written
 *     EMPTY -------------------> HELD --------------------> EMPTY
 *                                 |  ^                  rings released,
 *                                 +--+                  drops noted as told
 *                          output blocked or failing
 *
 * EMPTY is the ledger's word, HELD all its others.  Nothing is read from the
 * rings in HELD.
 */
#include "log/drain.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define DROPS_EVERY_NS PL_NS_PER_S /* drops are told once a second */
#define STALL_NS PL_NS_PER_S       /* nothing taken for as long is told */
#define ROTATE_EVERY_NS (10 * (int64_t)PL_NS_PER_S) /* when it fails */
#define RETRY_MS 10 /* pl__drain_finish, when the output fails */

void pl__drain_init(struct pl_drain *d, struct pl_sink *sink,
                    struct pl_ledger *ledger, const int *transit,
                    enum pl_log_format format, bool colour, unsigned level,
                    const struct pl_routes *routes) {
  memset(d, 0, sizeof *d);
  d->outlet = (struct pl_outlet){
      .sink = sink,
      .ledger = ledger,
      .transit = {transit ? transit[0] : -1, transit ? transit[1] : -1}};
  d->level = level;
  pl__formatter_init(&d->formatter, format, colour, routes);
  pl__buf_init(&d->out, NULL, PL_LEDGER_BYTES);
}

void pl__drain_deinit(struct pl_drain *d) {
  pl__buf_release(&d->out);
  d->ring_count = 0;
}

int pl__drain_add(struct pl_drain *d, struct pl_ring *ring, uint16_t worker) {
  if (d->ring_count == PL_DRAIN_RINGS_MAX)
    return PL_EFULL;
  struct pl_drain_ring *r = &d->rings[d->ring_count++];
  memset(r, 0, sizeof *r);
  pl__ring_reader_init(&r->reader, ring);
  r->worker = worker;
  r->broken_told = ring->broken_count;
  return 0;
}

/* --- taking over --------------------------------------------------------- */

/* Whether the ledger may be what a drain of these rings has left. */
static bool makes_sense(const struct pl_drain *d) {
  const struct pl_ledger *l = d->outlet.ledger;
  struct pl_ledger_note note = pl__ledger_note(l);
  if (note.phase == PL_LEDGER_EMPTY)
    return true;
  if (note.phase > PL_LEDGER_DONE || l->ring_count != d->ring_count ||
      note.batch > sizeof l->data || note.from > note.batch ||
      note.bytes > note.batch - note.from)
    return false;
  for (uint32_t i = 0; i < d->ring_count; i++) {
    const struct pl_ring_reader *r = &d->rings[i].reader;
    uint64_t there = ((r->tail + 7) & ~7ull) - r->head;
    if (l->rings[i].head - r->head > there)
      return false;
  }
  return true;
}

void pl__drain_resume(struct pl_drain *d) {
  struct pl_ledger *l = d->outlet.ledger;
  if (!makes_sense(d))
    pl__ledger_put(l, &(struct pl_ledger_note){.phase = PL_LEDGER_EMPTY});
  struct pl_ledger_note note = pl__ledger_note(l);
  if (d->syslog)
    d->syslog->sequence = (uint32_t)note.sequence;
  if (note.phase != PL_LEDGER_EMPTY)
    for (uint32_t i = 0; i < d->ring_count; i++)
      d->rings[i].reader.head = l->rings[i].head;
  pl__outlet_resume(&d->outlet);
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

/* Appends a record as the output wants it. */
static int put_record(struct pl_drain *d, const void *record, uint32_t bytes) {
  return d->syslog ? pl__syslog_record(d->syslog, &d->formatter, record, bytes,
                                       &d->out)
                   : pl__format_record(&d->formatter, record, bytes, &d->out);
}

/* Adds the line; false without memory: then it is told another time. */
static bool end_own(struct pl_drain *d, const struct pl_record_draft *draft) {
  if (put_record(d, draft->at, draft->bytes))
    return false;
  pl__tail_put(d->tail, draft->at, draft->bytes);
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
      pl__record_num(&draft, pl__slice_text(name), (double)r->drops[i]);
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
  bool is_stall = d->failed == -EAGAIN;
  begin_own(&draft, memory, sizeof memory, PL_RECORD_CONTROL, PL_LEVEL_WARN,
            is_stall ? PL_SLICE("log output had stalled and goes on")
                     : PL_SLICE("log output had failed and works again"));
  if (!is_stall)
    pl__record_str(&draft, PL_SLICE("error"), pl__slice_text(text));
  pl__record_num(&draft, PL_SLICE("seconds"),
                 (double)d->failed_ns / PL_NS_PER_S);
  if (end_own(d, &draft))
    d->failed = 0;
}

/* Tells that the file grows past its size, and why. */
static void tell_rotation(struct pl_drain *d) {
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;
  if (d->rotation == d->rotation_told)
    return;
  const char *text = strerror(-d->rotation);
  if (!d->rotation) {
    d->rotation_told = 0;
    return;
  }
  begin_own(&draft, memory, sizeof memory, PL_RECORD_CONTROL, PL_LEVEL_WARN,
            PL_SLICE("log file cannot be rotated and goes on growing"));
  pl__record_str(&draft, PL_SLICE("error"), pl__slice_text(text));
  if (end_own(d, &draft))
    d->rotation_told = d->rotation;
}

/* Tells that the file is not the one of that name, or won't be for long. */
static void tell_reopening(struct pl_drain *d) {
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;
  if (!d->reopening)
    return;
  const char *text = strerror(-d->reopening);
  begin_own(&draft, memory, sizeof memory, PL_RECORD_CONTROL, PL_LEVEL_WARN,
            PL_SLICE("log file cannot be opened again: the old one goes on"));
  pl__record_str(&draft, PL_SLICE("error"), pl__slice_text(text));
  if (end_own(d, &draft))
    d->reopening = 0;
}

/* Tells how many messages went to where nobody takes them.  Only behind others:
 * else it would go there, too, and be told of the next second. */
static void tell_refused(struct pl_drain *d) {
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;
  uint64_t count = d->outlet.sink->refused_count;
  if (count == d->refused_told || d->out.bytes == 0)
    return;
  begin_own(&draft, memory, sizeof memory, PL_RECORD_CONTROL, PL_LEVEL_WARN,
            PL_SLICE("syslog messages lost: nobody took them"));
  pl__record_num(&draft, PL_SLICE("count"), (double)(count - d->refused_told));
  if (end_own(d, &draft))
    d->refused_told = count;
}

static void tell_losses(struct pl_drain *d, bool now) {
  int64_t clock = pl__clock_monotonic_coarse_ns();
  tell_failed(d);
  tell_rotation(d);
  tell_reopening(d);
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
  int status = put_record(d, r->record, r->bytes);
  if (status == 0) {
    pl__tail_put(d->tail, r->record, r->bytes);
    d->batch_lines++;
    if (d->on_record)
      d->on_record(d->on_record_arg, r->record, r->bytes);
  } else if (status == PL_EBAD || (status == PL_EFULL && d->out.bytes == 0)) {
    d->bad_count++; /* full: it would not fit into an empty batch either */
  } else {
    return false;
  }
  return true;
}

/* Where a batch ends: a file is never larger than wished by more than a line. */
static uint64_t batch_bytes(const struct pl_drain *d) {
  return d->rotate_bytes && d->rotate_bytes < PL_LIMIT_LOG_BATCH_BYTES
             ? d->rotate_bytes
             : PL_LIMIT_LOG_BATCH_BYTES;
}

/* Fills the batch; returns how many records were taken up. */
static uint32_t fill(struct pl_drain *d) {
  uint32_t count = 0;
  uint64_t most = batch_bytes(d);
  int64_t until;
  for (uint32_t i = 0; i < d->ring_count; i++)
    look(&d->rings[i]);
  for (;;) {
    struct pl_drain_ring *r = oldest(d, &until);
    if (!r)
      return count;
    while (r->record && r->time_ns <= until) {
      if (d->out.bytes >= most || !take_record(d, r)) {
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

/* Begins a new file, if the batch would make this one too large. */
static void rotate(struct pl_drain *d) {
  struct pl_sink *sink = d->outlet.sink;
  uint64_t bytes = d->rotate_bytes && sink->path[0] ? pl__sink_bytes(sink) : 0;
  int64_t now = pl__clock_monotonic_coarse_ns();
  if (bytes == 0 || bytes + d->out.bytes <= d->rotate_bytes ||
      (d->rotation && now - d->rotation_ns < ROTATE_EVERY_NS))
    return;
  d->rotation_ns = now;
  d->rotation = pl__sink_rotate(sink, d->rotate_keep);
}

/* Lays the batch down: from here on it survives us. */
static void stage(struct pl_drain *d) {
  struct pl_ledger *l = d->outlet.ledger;
  memcpy(l->data, d->out.at, d->out.bytes);
  l->ring_count = d->ring_count;
  for (uint32_t i = 0; i < d->ring_count; i++) {
    const struct pl_drain_ring *r = &d->rings[i];
    l->rings[i].head = r->reader.head;
    for (unsigned j = 0; j < PL_RING_LANES; j++)
      l->rings[i].drops_told[j] =
          r->reader.ring->drops_told[j] + (r->drops_pending ? r->drops[j] : 0);
  }
  pl__ledger_put(l, &(struct pl_ledger_note){
                        .phase = PL_LEDGER_HELD,
                        .batch = d->out.bytes,
                        .sequence = d->syslog ? d->syslog->sequence : 0});
  d->out.bytes = 0;
}

/* All that was read is done with: the rings get their room back. */
static void release_rings(struct pl_drain *d) {
  for (uint32_t i = 0; i < d->ring_count; i++)
    pl__ring_release(&d->rings[i].reader);
}

/* The batch is out.  May be done twice, by us and by the one after us. */
static void release(struct pl_drain *d) {
  struct pl_ledger *l = d->outlet.ledger;
  release_rings(d);
  for (uint32_t i = 0; i < d->ring_count; i++) {
    struct pl_drain_ring *r = &d->rings[i];
    for (unsigned j = 0; j < PL_RING_LANES; j++)
      pl__ring_drops_tell(&r->reader, j,
                          l->rings[i].drops_told[j] -
                              r->reader.ring->drops_told[j]);
    r->drops_pending = false;
  }
  pl__ledger_turn(l, PL_LEDGER_EMPTY, 0);
  d->line_count += d->batch_lines;
  d->batch_lines = 0;
}

/* Keeps track of how long the output fails, or takes nothing. */
static void note_failure(struct pl_drain *d, int status, bool moved) {
  int64_t now = pl__clock_monotonic_ns();
  if (d->blocked_ns && (moved || status != -EAGAIN)) {
    if (now - d->blocked_ns >= STALL_NS && !d->failing) {
      d->failed = -EAGAIN;
      d->failed_ns = now - d->blocked_ns;
    }
    d->blocked_ns = 0;
  }
  if (status == -EAGAIN) {
    if (!d->blocked_ns)
      d->blocked_ns = now;
    return; /* slow, not broken */
  }
  if (status && !d->failing) {
    d->failing_ns = now;
  } else if (!status && d->failing) {
    d->failed = d->failing;
    d->failed_ns = now - d->failing_ns;
  }
  d->failing = status;
}

static bool is_held(const struct pl_drain *d) {
  return pl__ledger_note(d->outlet.ledger).phase != PL_LEDGER_EMPTY;
}

/* Writes what can be written; true when the batch is out. */
static bool flush(struct pl_drain *d) {
  bool moved = false;
  if (pl__ledger_note(d->outlet.ledger).phase != PL_LEDGER_DONE) {
    int status = pl__outlet_flush(&d->outlet, &moved);
    note_failure(d, status, moved);
    if (status)
      return false;
  }
  release(d);
  return true;
}

static uint32_t run(struct pl_drain *d, bool last,
                    enum pl_drain_outcome *outcome) {
  if (is_held(d)) {
    *outcome = flush(d) ? PL_DRAIN_MORE : PL_DRAIN_BLOCKED;
    return 0;
  }
  d->more = false;
  d->out.bytes = d->batch_lines = 0;
  tell_losses(d, last);
  uint32_t count = fill(d);
  tell_refused(d);
  bool more = d->more;
  bool empty = d->out.bytes == 0;
  if (empty) {
    release_rings(d); /* all of it was below the level, or unreadable */
  } else {
    rotate(d);
    stage(d);
  }
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

const char *pl__drain_blocked(const struct pl_drain *d) {
  if (d->failing)
    return strerror(-d->failing);
  return d->blocked_ns && pl__clock_monotonic_ns() - d->blocked_ns >= STALL_NS
             ? "it takes nothing"
             : NULL;
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
  struct pollfd p = {.fd = d->outlet.sink->fd, .events = POLLOUT};
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

/* The rings were not released since the batch that is held: all that is lost
 * lies in them still. */
uint64_t pl__drain_left(const struct pl_drain *d) {
  uint64_t count = 0;
  for (uint32_t i = 0; i < d->ring_count; i++) {
    const struct pl_record *head;
    struct pl_ring_reader r;
    uint32_t bytes;
    pl__ring_reader_init(&r, d->rings[i].reader.ring);
    for (; (head = pl__ring_peek(&r, &bytes)); pl__ring_next(&r))
      count += bytes < sizeof *head || head->level >= d->level;
    for (unsigned lane = 0; lane < PL_RING_LANES; lane++)
      count += pl__ring_drops(&r, lane);
  }
  return count;
}

int pl__drain_reopen(struct pl_drain *d) {
  return d->reopening = pl__outlet_reopen(&d->outlet);
}
