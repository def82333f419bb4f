/* server/layout.c - makes and finds the sections of a server's fabric. */
#include "server/layout.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "fabric/aborts.h"
#include "fabric/bundle.h"
#include "fabric/events.h"
#include "fabric/exports.h"
#include "fabric/flights.h"
#include "fabric/heap_samples.h"
#include "fabric/map.h"
#include "fabric/marks.h"
#include "fabric/metrics.h"
#include "fabric/names.h"
#include "fabric/quarantine.h"
#include "fabric/record.h"
#include "fabric/ring.h"
#include "fabric/routes.h"
#include "fabric/samples.h"
#include "fabric/shared.h"
#include "fabric/slabs.h"
#include "fabric/span.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"
#include "fabric/tracing.h"
#include "fabric/waits.h"
#include "log/ledger.h"
#include "server/config.h"
#include "server/crash.h"
#include "server/dispatch.h"
#include "server/standing.h"

#define BEAT_VERSION 2u
#define STATE_VERSION 2u
/* Of master and control, who say little: but reports of crashes are long. */
#define OWN_RING_BYTES 262144u
#define SECTIONS_PER_WORKER 12
#define SECTIONS_OF_ALL 21
#define COROUTINES_SPARE 600u /* idle ones, which keep their numbers */

#define LOG_MASTER "log.master"
#define LOG_CONTROL "log.control"
#define LOG_TRIAL "log.trial"
#define LOG_EXPORTER "log.exporter"
#define OTLP "otlp"
#define OTLP_LOGS "otlp.logs"
#define ADMIN_SLABS "slabs.admin"
#define LOG_BATCH "log.batch"

const uint16_t pl__layout_others[PL_LAYOUT_OTHERS] = {
    PL_RECORD_MASTER, PL_RECORD_CONTROL, PL_RECORD_TRIAL, PL_RECORD_EXPORTER};

static void section_name(struct pl_fabric_section *s, const char *name) {
  memcpy(s->name, name, strlen(name) + 1);
}

static void ring_describe(struct pl_fabric_section *s, uint64_t bytes) {
  s->version = PL_RING_VERSION;
  s->element_bytes = 1;
  s->element_count = pl__ring_section_bytes(bytes);
}

static uint32_t slab_count(const struct pl_config *config) {
  uint64_t count = config->limit_connections;
  return count < PL_LAYOUT_SLABS_MAX ? (uint32_t)count : PL_LAYOUT_SLABS_MAX;
}

/* Runners and tasks that a worker may have; those past it are not listed. */
static uint32_t coroutine_count(const struct pl_config *config) {
  uint64_t count =
      slab_count(config) + config->limit_tasks_per_worker + COROUTINES_SPARE;

  return count < PL_WAITS_ENTRIES_MAX ? (uint32_t)count : PL_WAITS_ENTRIES_MAX;
}

/* Fills in all sections; returns how many. */
/* Those that each worker has. */
static uint32_t sections_of_workers(const struct pl_config *config,
                                    uint32_t workers,
                                    struct pl_fabric_section *s) {
  uint32_t n = 0;

  for (uint32_t i = 0; i < workers; i++) {
    pl__fabric_name(&s[n], "log", (int)i);
    ring_describe(&s[n++], PL_LIMIT_LOG_RING_BYTES);
    pl__fabric_name(&s[n], "slabs", (int)i);
    s[n].version = PL_SLABS_VERSION;
    s[n].element_bytes = pl__dispatch_slab_bytes(config);
    s[n++].element_count = slab_count(config);
    pl__fabric_name(&s[n], "flights", (int)i);
    s[n].version = PL_FLIGHTS_VERSION;
    s[n].element_bytes = 1;
    s[n++].element_count = pl__flights_bytes(slab_count(config));
    pl__fabric_name(&s[n], "crash", (int)i);
    s[n].version = PL_CRASH_VERSION;
    s[n].element_bytes = sizeof(struct pl_crash);
    s[n++].element_count = 1;
    pl__fabric_name(&s[n], "aborts", (int)i);
    s[n].version = PL_ABORTS_VERSION;
    s[n].element_bytes = sizeof(struct pl_aborts);
    s[n++].element_count = 1;
    pl__fabric_name(&s[n], "spans", (int)i);
    s[n].version = PL_SPANS_VERSION;
    s[n].element_bytes = 1;
    s[n++].element_count = pl__spans_section_bytes(PL_LIMIT_SPAN_RING_BYTES);
    pl__fabric_name(&s[n], "samples", (int)i);
    s[n].version = PL_SAMPLES_VERSION;
    s[n].element_bytes = sizeof(struct pl_samples);
    s[n++].element_count = 1;
    pl__fabric_name(&s[n], "symbols", (int)i);
    s[n].version = PL_SYMBOLS_VERSION;
    s[n].element_bytes = sizeof(struct pl_symbols);
    s[n++].element_count = PL_NAMES_BANKS;
    pl__fabric_name(&s[n], "heap", (int)i);
    s[n].version = PL_HEAP_SAMPLES_VERSION;
    s[n].element_bytes = sizeof(struct pl_heap_samples);
    s[n++].element_count = 1;
    pl__fabric_name(&s[n], "stacks", (int)i);
    s[n].version = PL_STACKS_VERSION;
    s[n].element_bytes = sizeof(struct pl_stacks);
    s[n++].element_count = PL_NAMES_BANKS;
    pl__fabric_name(&s[n], "waits", (int)i);
    s[n].version = PL_WAITS_VERSION;
    s[n].element_bytes = 1;
    s[n++].element_count = pl__waits_bytes(coroutine_count(config));
  }
  for (uint32_t i = 0; i <= workers; i++) { /* the last are the master's */
    pl__fabric_name(&s[n], "events", (int)i);
    s[n].version = PL_EVENTS_VERSION;
    s[n].element_bytes = sizeof(struct pl_event_rings);
    s[n++].element_count = 1;
  }
  return n;
}

/* Rings of records of those that are no workers, and what is told elsewhere. */
static uint32_t sections_of_logs(struct pl_fabric_section *s) {
  uint32_t n = 0;

  section_name(&s[n], LOG_MASTER);
  ring_describe(&s[n++], OWN_RING_BYTES);
  section_name(&s[n], LOG_CONTROL);
  ring_describe(&s[n++], OWN_RING_BYTES);
  section_name(&s[n], LOG_TRIAL);
  ring_describe(&s[n++], OWN_RING_BYTES);
  section_name(&s[n], LOG_EXPORTER);
  ring_describe(&s[n++], OWN_RING_BYTES);
  section_name(&s[n], OTLP_LOGS);
  ring_describe(&s[n++], PL_LIMIT_OTLP_LOGS_BYTES);
  section_name(&s[n], OTLP);
  s[n].version = PL_EXPORTS_VERSION;
  s[n].element_bytes = sizeof(struct pl_exports);
  s[n++].element_count = 1;
  section_name(&s[n], LOG_BATCH);
  s[n].version = PL_LEDGER_VERSION;
  s[n].element_bytes = sizeof(struct pl_ledger);
  s[n++].element_count = 1;
  return n;
}

/* Those that all share. */
static uint32_t sections_of_all(const struct pl_config *config,
                                uint32_t workers, struct pl_fabric_section *s) {
  uint32_t n = 0;

  section_name(&s[n], "beats");
  s[n].version = BEAT_VERSION;
  s[n].element_bytes = sizeof(struct pl_beat);
  s[n++].element_count = workers;
  section_name(&s[n], "routes");
  s[n].version = PL_ROUTES_VERSION;
  s[n].element_bytes = sizeof(struct pl_routes);
  s[n++].element_count = PL_ROUTES_TABLES;
  section_name(&s[n], "long_runs");
  s[n].version = PL_MARKS_VERSION;
  s[n].element_bytes = sizeof(struct pl_marks);
  s[n++].element_count = 2;
  section_name(&s[n], "quarantine");
  s[n].version = PL_QUARANTINE_VERSION;
  s[n].element_bytes = sizeof(struct pl_quarantine);
  s[n++].element_count = 2;
  section_name(&s[n], "state");
  s[n].version = STATE_VERSION;
  s[n].element_bytes = sizeof(struct pl_server_state);
  s[n++].element_count = 1;
  section_name(&s[n], "standing");
  s[n].version = PL_STANDING_VERSION;
  s[n].element_bytes = sizeof(struct pl_standing);
  s[n++].element_count = 1;
  section_name(&s[n], ADMIN_SLABS);
  s[n].version = PL_SLABS_VERSION;
  s[n].element_bytes = pl__dispatch_slab_bytes(config);
  s[n++].element_count = PL_LAYOUT_ADMIN_SLABS;
  section_name(&s[n], "tracing");
  s[n].version = PL_TRACING_VERSION;
  s[n].element_bytes = sizeof(struct pl_tracing);
  s[n++].element_count = 1;
  section_name(&s[n], "shared");
  s[n].version = PL_SHARED_VERSION;
  s[n].element_bytes = 1;
  s[n++].element_count = pl__shared_bytes(config->shared_memory_bytes);
  section_name(&s[n], "metrics");
  s[n].version = PL_METRICS_VERSION;
  s[n].element_bytes = sizeof(struct pl_metrics_table);
  s[n++].element_count = 1;
  section_name(&s[n], "shards");
  s[n].version = PL_SHARD_VERSION;
  s[n].element_bytes = sizeof(struct pl_shard);
  s[n++].element_count = workers + PL_METRICS_OTHERS;
  for (int i = 0; i < 2; i++) {
    pl__fabric_name(&s[n], "bundle", i);
    s[n].version = PL_BUNDLE_VERSION;
    s[n].element_bytes = 1;
    s[n++].element_count = PL_LIMIT_BUNDLE_BYTES;
  }
  return n;
}

static uint32_t sections_describe(const struct pl_config *config,
                                  uint32_t workers,
                                  struct pl_fabric_section *s) {
  uint32_t n = sections_of_workers(config, workers, s);

  n += sections_of_logs(s + n);
  n += sections_of_all(config, workers, s + n);
  PL_ASSERT(n == SECTIONS_PER_WORKER * workers + SECTIONS_OF_ALL);
  return n;
}

static int rings_init(const struct pl_fabric *f, uint32_t workers) {
  struct pl_ring *ring;
  int status = 0;

  for (uint32_t i = 0; i < workers && !status; i++) {
    status = pl__layout_ring(f, i, &ring);
    status = status ? status : pl__ring_init(ring, PL_LIMIT_LOG_RING_BYTES);
  }
  for (uint32_t i = 0; i < PL_LAYOUT_OTHERS && !status; i++) {
    status = pl__layout_ring(f, pl__layout_others[i], &ring);
    status = status ? status : pl__ring_init(ring, OWN_RING_BYTES);
  }
  return status;
}

static int spans_init(const struct pl_fabric *f, uint32_t workers) {
  struct pl_spans *spans;
  int status = 0;

  for (uint32_t i = 0; i < workers && !status; i++) {
    status = pl__layout_spans(f, i, &spans);
    status = status ? status : pl__spans_init(spans, PL_LIMIT_SPAN_RING_BYTES);
  }
  return status;
}

static int waits_init(const struct pl_fabric *f, uint32_t workers) {
  struct pl_waits *waits;
  uint32_t entries;
  int status = 0;

  for (uint32_t i = 0; i < workers && !status; i++) {
    status = pl__layout_waits(f, i, &waits, &entries);
    if (!status)
      pl__waits_init(waits, entries);
  }
  return status;
}

static int otlp_init(const struct pl_fabric *f) {
  struct pl_exports *exports;
  struct pl_ring *ring;
  int status = pl__layout_exports(f, &exports);

  status = status ? status : pl__layout_otlp_logs(f, &ring);
  if (status)
    return status;
  exports->start_ns = pl__clock_realtime_ns();
  return pl__ring_init(ring, PL_LIMIT_OTLP_LOGS_BYTES);
}

static int shared_init(const struct pl_fabric *f,
                       const struct pl_config *config) {
  struct pl_shared *shared;
  int status = pl__layout_shared(f, &shared);

  if (!status)
    pl__shared_init(shared, config->shared_memory_bytes);
  return status;
}

static int metrics_init(const struct pl_fabric *f,
                        const struct pl_config *config) {
  struct pl_metrics metrics;
  int status = pl__layout_metrics(f, &metrics);

  if (!status)
    pl__metrics_init(metrics.table, (uint32_t)config->metrics_series_max);
  return status;
}

int pl__layout_open(struct pl_fabric *f, const struct pl_config *config,
                    uint32_t workers, char *error) {
  struct pl_fabric_section *sections =
      pl__alloc_zero((SECTIONS_PER_WORKER * (size_t)workers + SECTIONS_OF_ALL) *
                     sizeof(*sections));
  int status;

  error[0] = '\0';
  if (!sections)
    return PL_ENOMEM;
  status = pl__fabric_open(f, sections,
                           sections_describe(config, workers, sections), error);
  pl__free(sections);
  if (status)
    return status;
  status = rings_init(f, workers);
  status = status ? status : otlp_init(f);
  status = status ? status : spans_init(f, workers);
  status = status ? status : waits_init(f, workers);
  status = status ? status : shared_init(f, config);
  status = status ? status : metrics_init(f, config);
  for (uint32_t i = 0; i < workers && !status; i++)
    status = pl__layout_renew(f, i);
  if (status)
    pl__fabric_close(f);
  return status;
}

int pl__layout_ring(const struct pl_fabric *f, uint32_t worker,
                    struct pl_ring **out) {
  void *at;
  int status;

  if (worker == PL_RECORD_MASTER)
    status = pl__fabric_find(f, LOG_MASTER, PL_RING_VERSION, 1, &at, NULL);
  else if (worker == PL_RECORD_CONTROL)
    status = pl__fabric_find(f, LOG_CONTROL, PL_RING_VERSION, 1, &at, NULL);
  else if (worker == PL_RECORD_TRIAL)
    status = pl__fabric_find(f, LOG_TRIAL, PL_RING_VERSION, 1, &at, NULL);
  else if (worker == PL_RECORD_EXPORTER)
    status = pl__fabric_find(f, LOG_EXPORTER, PL_RING_VERSION, 1, &at, NULL);
  else
    status = pl__fabric_find_number(f, "log", (int)worker, PL_RING_VERSION, 1,
                                    &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_spans(const struct pl_fabric *f, uint32_t worker,
                     struct pl_spans **out) {
  void *at;
  int status = pl__fabric_find_number(f, "spans", (int)worker, PL_SPANS_VERSION,
                                      1, &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_tracing(const struct pl_fabric *f, struct pl_tracing **out) {
  void *at;
  int status = pl__fabric_find(f, "tracing", PL_TRACING_VERSION,
                               sizeof(struct pl_tracing), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_ledger(const struct pl_fabric *f, struct pl_ledger **out) {
  void *at;
  int status = pl__fabric_find(f, LOG_BATCH, PL_LEDGER_VERSION,
                               sizeof(struct pl_ledger), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_exports(const struct pl_fabric *f, struct pl_exports **out) {
  void *at;
  int status = pl__fabric_find(f, OTLP, PL_EXPORTS_VERSION,
                               sizeof(struct pl_exports), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_otlp_logs(const struct pl_fabric *f, struct pl_ring **out) {
  void *at;
  int status = pl__fabric_find(f, OTLP_LOGS, PL_RING_VERSION, 1, &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_slabs(const struct pl_fabric *f, const struct pl_config *config,
                     uint32_t worker, void **at, uint32_t *count) {
  uint64_t found;
  int status =
      pl__fabric_find_number(f, "slabs", (int)worker, PL_SLABS_VERSION,
                             pl__dispatch_slab_bytes(config), at, &found);
  if (!status)
    *count = (uint32_t)found;
  return status;
}

int pl__layout_admin_slabs(const struct pl_fabric *f,
                           const struct pl_config *config, void **at) {
  return pl__fabric_find(f, ADMIN_SLABS, PL_SLABS_VERSION,
                         pl__dispatch_slab_bytes(config), at, NULL);
}

int pl__layout_beat(const struct pl_fabric *f, uint32_t worker,
                    struct pl_beat **out) {
  void *at;
  uint64_t count;
  int status = pl__fabric_find(f, "beats", BEAT_VERSION, sizeof(struct pl_beat),
                               &at, &count);
  if (status)
    return status;
  if (worker >= count)
    return PL_EINVAL;
  *out = (struct pl_beat *)at + worker;
  return 0;
}

int pl__layout_metrics(const struct pl_fabric *f, struct pl_metrics *out) {
  void *table, *shards;
  uint64_t count;
  int status = pl__fabric_find(f, "metrics", PL_METRICS_VERSION,
                               sizeof(struct pl_metrics_table), &table, NULL);

  status = status ? status
                  : pl__fabric_find(f, "shards", PL_SHARD_VERSION,
                                    sizeof(struct pl_shard), &shards, &count);
  if (!status)
    *out = (struct pl_metrics){.table = table,
                               .shards = shards,
                               .worker_count =
                                   (uint32_t)count - PL_METRICS_OTHERS};
  return status;
}

int pl__layout_shard(const struct pl_fabric *f, uint32_t who,
                     struct pl_shard **out) {
  struct pl_metrics m;
  int status = pl__layout_metrics(f, &m);

  if (status)
    return status;
  if (who == PL_RECORD_CONTROL)
    who = m.worker_count + PL_METRICS_CONTROL;
  else if (who == PL_RECORD_MASTER)
    who = m.worker_count + PL_METRICS_MASTER;
  else if (who >= m.worker_count)
    return PL_EINVAL;
  *out = &m.shards[who];
  return 0;
}

int pl__layout_routes(const struct pl_fabric *f, struct pl_routes **out) {
  void *at;
  int status = pl__fabric_find(f, "routes", PL_ROUTES_VERSION,
                               sizeof(struct pl_routes), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_flights(const struct pl_fabric *f, uint32_t worker,
                       struct pl_flights **out) {
  void *at;
  int status = pl__fabric_find_number(f, "flights", (int)worker,
                                      PL_FLIGHTS_VERSION, 1, &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_events(const struct pl_fabric *f, uint32_t worker,
                      struct pl_event_rings **out) {
  void *at;
  int status =
      pl__fabric_find_number(f, "events", (int)worker, PL_EVENTS_VERSION,
                             sizeof(struct pl_event_rings), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_crash(const struct pl_fabric *f, uint32_t worker,
                     struct pl_crash **out) {
  void *at;
  int status = pl__fabric_find_number(f, "crash", (int)worker, PL_CRASH_VERSION,
                                      sizeof(struct pl_crash), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_samples(const struct pl_fabric *f, uint32_t worker,
                       struct pl_samples **out) {
  void *at;
  int status =
      pl__fabric_find_number(f, "samples", (int)worker, PL_SAMPLES_VERSION,
                             sizeof(struct pl_samples), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_symbols(const struct pl_fabric *f, uint32_t worker,
                       struct pl_symbols **symbols, struct pl_stacks **stacks) {
  void *at, *rows;
  int status =
      pl__fabric_find_number(f, "symbols", (int)worker, PL_SYMBOLS_VERSION,
                             sizeof(struct pl_symbols), &at, NULL);

  status =
      status
          ? status
          : pl__fabric_find_number(f, "stacks", (int)worker, PL_STACKS_VERSION,
                                   sizeof(struct pl_stacks), &rows, NULL);
  if (status)
    return status;
  *symbols = at;
  *stacks = rows;
  return 0;
}

int pl__layout_heap(const struct pl_fabric *f, uint32_t worker,
                    struct pl_heap_samples **out) {
  void *at;
  int status =
      pl__fabric_find_number(f, "heap", (int)worker, PL_HEAP_SAMPLES_VERSION,
                             sizeof(struct pl_heap_samples), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_waits(const struct pl_fabric *f, uint32_t worker,
                     struct pl_waits **out, uint32_t *entries) {
  void *at;
  uint64_t bytes;
  int status = pl__fabric_find_number(f, "waits", (int)worker, PL_WAITS_VERSION,
                                      1, &at, &bytes);
  if (status)
    return status;
  *out = at;
  *entries = pl__waits_entries(bytes);
  return 0;
}

int pl__layout_quarantines(const struct pl_fabric *f,
                           struct pl_quarantine **out) {
  void *at;
  int status = pl__fabric_find(f, "quarantine", PL_QUARANTINE_VERSION,
                               sizeof(struct pl_quarantine), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_long_runs(const struct pl_fabric *f, uint32_t generation,
                         struct pl_marks **out) {
  void *at;
  int status = pl__fabric_find(f, "long_runs", PL_MARKS_VERSION,
                               sizeof(struct pl_marks), &at, NULL);
  if (!status)
    *out = (struct pl_marks *)at + generation % 2;
  return status;
}

int pl__layout_state(const struct pl_fabric *f, struct pl_server_state **out) {
  void *at;
  int status = pl__fabric_find(f, "state", STATE_VERSION,
                               sizeof(struct pl_server_state), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_standing(const struct pl_fabric *f, struct pl_standing **out) {
  void *at;
  int status = pl__fabric_find(f, "standing", PL_STANDING_VERSION,
                               sizeof(struct pl_standing), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_shared(const struct pl_fabric *f, struct pl_shared **out) {
  void *at;
  int status = pl__fabric_find(f, "shared", PL_SHARED_VERSION, 1, &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_aborts(const struct pl_fabric *f, uint32_t worker,
                      struct pl_aborts **out) {
  void *at;
  int status =
      pl__fabric_find_number(f, "aborts", (int)worker, PL_ABORTS_VERSION,
                             sizeof(struct pl_aborts), &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_bundle(const struct pl_fabric *f, uint32_t generation,
                      struct pl_bundle **out) {
  void *at;
  int status = pl__fabric_find_number(f, "bundle", (int)(generation % 2),
                                      PL_BUNDLE_VERSION, 1, &at, NULL);
  if (!status)
    *out = at;
  return status;
}

int pl__layout_begin(const struct pl_fabric *f, uint32_t generation) {
  struct pl_quarantine *quarantines;
  struct pl_bundle *bundle;
  struct pl_routes *routes;
  struct pl_marks *marks;
  int status = pl__layout_quarantines(f, &quarantines);

  status = status ? status : pl__layout_routes(f, &routes);
  status = status ? status : pl__layout_long_runs(f, generation, &marks);
  status = status ? status : pl__layout_bundle(f, generation, &bundle);
  if (status)
    return status;
  pl__quarantine_clear(pl__quarantine_of(quarantines, generation));
  pl__marks_clear(marks);
  pl__routes_begin(routes, generation);
  pl__bundle_init(bundle, PL_LIMIT_BUNDLE_BYTES);
  pl__bundle_begin(bundle, generation);
  return 0;
}

int pl__layout_protect(const struct pl_fabric *f) {
  struct pl_server_state *state;
  struct pl_standing *standing;
  struct pl_exports *exports;
  struct pl_ledger *ledger;
  struct pl_bundle *bundle;
  struct pl_ring *logs;
  int status = pl__layout_state(f, &state);

  status = status ? status : pl__layout_standing(f, &standing);
  status = status ? status : pl__layout_ledger(f, &ledger);
  status = status ? status : pl__layout_exports(f, &exports);
  status = status ? status : pl__layout_otlp_logs(f, &logs);
  if (!status &&
      (mprotect(exports, sizeof *exports, PROT_READ) ||
       mprotect(logs, pl__ring_section_bytes(PL_LIMIT_OTLP_LOGS_BYTES),
                PROT_READ) ||
       mprotect(state, PL_FABRIC_PAGE_BYTES, PROT_READ) ||
       mprotect(standing, sizeof *standing, PROT_READ) ||
       mprotect(ledger, sizeof *ledger, PROT_READ)))
    status = -errno;
  for (uint32_t i = 0; i < 2 && !status; i++) {
    status = pl__layout_bundle(f, i, &bundle);
    if (!status && mprotect(bundle, PL_LIMIT_BUNDLE_BYTES, PROT_READ))
      status = -errno;
  }
  return status;
}

static void beat_renew(struct pl_beat *beat) {
  atomic_store_explicit(&beat->at_ns, 0, memory_order_relaxed);
  atomic_store_explicit(&beat->request_count, 0, memory_order_relaxed);
  atomic_store_explicit(&beat->connection_count, 0, memory_order_relaxed);
  atomic_store_explicit(&beat->is_leaving, 0, memory_order_relaxed);
}

int pl__layout_renew(const struct pl_fabric *f, uint32_t worker) {
  struct pl_flights *flights;
  struct pl_heap_samples *heap;
  struct pl_aborts *aborts;
  struct pl_crash *crash;
  struct pl_waits *waits;
  struct pl_beat *beat;
  uint32_t entries;
  uint64_t bytes;
  void *at;
  int status = pl__fabric_find_number(f, "flights", (int)worker,
                                      PL_FLIGHTS_VERSION, 1, &at, &bytes);

  status = status ? status : pl__layout_crash(f, worker, &crash);
  status = status ? status : pl__layout_aborts(f, worker, &aborts);
  status = status ? status : pl__layout_beat(f, worker, &beat);
  status = status ? status : pl__layout_heap(f, worker, &heap);
  status = status ? status : pl__layout_waits(f, worker, &waits, &entries);
  if (status)
    return status;
  pl__waits_renew(waits, entries);
  flights = at;
  pl__flights_init(flights, (uint32_t)((bytes - sizeof *flights) /
                                       sizeof(struct pl_flight)));
  memset(crash, 0, sizeof *crash);
  pl__aborts_clear(aborts);
  beat_renew(beat);
  pl__heap_renew(heap);
  return 0;
}
