/* server/layout.h - which sections the fabric of a server has.
 *
 *   log.N, log.master, log.control,  struct pl_ring: records on their way out
 *   log.trial, log.exporter
 *   otlp                             struct pl_exports: what became of it
 *   otlp.logs                        struct pl_ring: records for the collector
 *   log.batch                        struct pl_ledger: what control writes out
 *   slabs.N                          receive buffers of worker N
 *   flights.N                        struct pl_flights: what it has in hand
 *   crash.N                          struct pl_crash: how it died
 *   spans.N                          struct pl_spans: its traces that are kept
 *   samples.N                        struct pl_samples: where its time went
 *   waits.N                          struct pl_waits: its coroutines
 *   symbols.N, stacks.N              struct pl_symbols, struct pl_stacks: which
 *                                    code the numbers in its samples stand for
 *   heap.N                           struct pl_heap_samples: its memory
 *   aborts.N                         struct pl_aborts: what its compiler gave up
 *   beats                            struct pl_beat, one per worker
 *   state                            struct pl_server_state: what all look at
 *   standing                         struct pl_standing: what the master knows
 *   slabs.admin                      receive buffers of the admin plane
 *   routes                           struct pl_routes: patterns by route id, of
 *                                    the last generations
 *   tracing                          struct pl_tracing: how much is traced
 *   shared                           struct pl_shared: what apps share
 *   metrics                          struct pl_metrics_table: what is counted
 *   shards                           struct pl_shard: the numbers, of workers,
 *                                    control and the master
 *   quarantine                       struct pl_quarantine: routes refused
 *   long_runs                        struct pl_marks: routes told to be slow
 *   bundle.0, bundle.1               struct pl_bundle: what a generation is
 *                                    made of
 *
 * The last three are there twice: at most two generations live, and they have
 * numbers one after the other.
 *
 * Made by the master before the first fork.  What a section holds is its
 * owner's matter; here are only names, versions and sizes.
 */
#ifndef PL_SERVER_LAYOUT_H
#define PL_SERVER_LAYOUT_H

#include <stdatomic.h>
#include <stdint.h>

struct pl_aborts;
struct pl_bundle;
struct pl_config;
struct pl_crash;
struct pl_exports;
struct pl_fabric;
struct pl_event_rings;
struct pl_flights;
struct pl_heap_samples;
struct pl_ledger;
struct pl_marks;
struct pl_metrics;
struct pl_quarantine;
struct pl_ring;
struct pl_routes;
struct pl_samples;
struct pl_shard;
struct pl_shared;
struct pl_spans;
struct pl_standing;
struct pl_tracing;
struct pl_stacks;
struct pl_symbols;
struct pl_waits;

#define PL_LAYOUT_SLABS_MAX                                                    \
  65536u /* of a worker, whatever connections it has */
/* Of control under one generation; then the app's checks are left out. */
#define PL_LAYOUT_CONTROL_CRASHES_MAX 3u
#define PL_LAYOUT_ADMIN_SLABS 256u /* connections of the admin plane */

/* What a worker says of itself, about ten times a second, and what the master
 * says to it. Relaxed; what the worker writes is zero while none is alive. */
struct pl_beat {
  _Alignas(64) _Atomic int64_t at_ns; /* monotonic; 0: not beating yet */
  _Atomic uint32_t request_count;     /* running now */
  _Atomic uint32_t connection_count;  /* open now */
  _Atomic uint32_t is_leaving;        /* it accepts no more: told to end */
  /* The master's: */
  _Atomic uint32_t is_adopted; /* others accept from this worker's sockets */
  _Atomic uint32_t is_last;    /* none comes after it: the server ends */
};

/* What the master says to all. Relaxed. */
struct pl_server_state {
  _Alignas(64) _Atomic uint32_t generation; /* committed last; 0: none yet */
  _Atomic uint32_t log_level;               /* least that is written */
  _Atomic uint32_t log_access_fields;       /* as in the configuration */
  /* Bounds of the server, past which all is traced (server/anomaly.h); 0: none.
   */
  _Atomic uint32_t anomaly_errors_ppm; /* of requests */
  _Atomic uint32_t anomaly_p99_us;
  _Atomic uint32_t anomaly_hold_ms;
  _Atomic uint32_t anomaly_per_second;
  _Atomic uint32_t reload_failed;   /* what was loaded last was rejected */
  _Atomic uint32_t control_crashes; /* under the generation, by faults */
  /* Records (server/dumper.h), by control: files that are there, that could not
   * be written, and what found no room in a queue. */
  _Atomic uint64_t records_written, records_failed, records_dropped;
};

/* Makes the fabric of a server and its empty rings.
 *
 *   workers  there is room for
 *   error    PL_FABRIC_ERROR_BYTES; a sentence on failure
 *
 * Returns 0 or what pl__fabric_open returns. */
int pl__layout_open(struct pl_fabric *f, const struct pl_config *config,
                    uint32_t workers, char *error);

/* Who has a ring beside the workers: their numbers in records. */
#define PL_LAYOUT_OTHERS 4u
extern const uint16_t pl__layout_others[PL_LAYOUT_OTHERS];

/* The ring of a worker, or of one of pl__layout_others. These and
 * the following return 0, or what pl__fabric_find returns. */
int pl__layout_ring(const struct pl_fabric *f, uint32_t worker,
                    struct pl_ring **out);
int pl__layout_spans(const struct pl_fabric *f, uint32_t worker,
                     struct pl_spans **out);
int pl__layout_tracing(const struct pl_fabric *f, struct pl_tracing **out);
int pl__layout_ledger(const struct pl_fabric *f, struct pl_ledger **out);
/* *count slabs of pl__dispatch_slab_bytes(config). */
int pl__layout_slabs(const struct pl_fabric *f, const struct pl_config *config,
                     uint32_t worker, void **at, uint32_t *count);
/* PL_LAYOUT_ADMIN_SLABS of them, likewise. */
int pl__layout_admin_slabs(const struct pl_fabric *f,
                           const struct pl_config *config, void **at);
int pl__layout_exports(const struct pl_fabric *f, struct pl_exports **out);
int pl__layout_otlp_logs(const struct pl_fabric *f, struct pl_ring **out);
int pl__layout_beat(const struct pl_fabric *f, uint32_t worker,
                    struct pl_beat **out);
int pl__layout_routes(const struct pl_fabric *f, struct pl_routes **out);
int pl__layout_flights(const struct pl_fabric *f, uint32_t worker,
                       struct pl_flights **out);
/* What a worker does, or with the number of workers that there is room for, the
 * master. */
int pl__layout_events(const struct pl_fabric *f, uint32_t worker,
                      struct pl_event_rings **out);
int pl__layout_crash(const struct pl_fabric *f, uint32_t worker,
                     struct pl_crash **out);
int pl__layout_samples(const struct pl_fabric *f, uint32_t worker,
                       struct pl_samples **out);
/* PL_NAMES_BANKS of each (fabric/names.h). */
int pl__layout_symbols(const struct pl_fabric *f, uint32_t worker,
                       struct pl_symbols **symbols, struct pl_stacks **stacks);
int pl__layout_heap(const struct pl_fabric *f, uint32_t worker,
                    struct pl_heap_samples **out);
/* *entries: of each of its banks. */
int pl__layout_waits(const struct pl_fabric *f, uint32_t worker,
                     struct pl_waits **out, uint32_t *entries);
int pl__layout_aborts(const struct pl_fabric *f, uint32_t worker,
                      struct pl_aborts **out);
/* Both, for pl__quarantine_of. */
int pl__layout_quarantines(const struct pl_fabric *f,
                           struct pl_quarantine **out);
int pl__layout_long_runs(const struct pl_fabric *f, uint32_t generation,
                         struct pl_marks **out);
int pl__layout_state(const struct pl_fabric *f, struct pl_server_state **out);
int pl__layout_standing(const struct pl_fabric *f, struct pl_standing **out);
int pl__layout_shared(const struct pl_fabric *f, struct pl_shared **out);
int pl__layout_metrics(const struct pl_fabric *f, struct pl_metrics *out);
int pl__layout_bundle(const struct pl_fabric *f, uint32_t generation,
                      struct pl_bundle **out);

/* The shard of a worker, or of control or the master (PL_RECORD_*). */
int pl__layout_shard(const struct pl_fabric *f, uint32_t who,
                     struct pl_shard **out);

/* In a worker: what only the master, control and trials write cannot be written
 * from here on, so that a wild pointer spoils no other worker's next start.
 * Returns as the above, or a negated errno. */
int pl__layout_protect(const struct pl_fabric *f);

/* By the master, before anything loads that generation, while the one two
 * before it is no more: what belongs to a generation is empty. */
int pl__layout_begin(const struct pl_fabric *f, uint32_t generation);

/* By the master, before each start of a worker: no beat, no flight, no crash.
 * What the master has said to it stays. Returns as the above. */
int pl__layout_renew(const struct pl_fabric *f, uint32_t worker);

#endif /* PL_SERVER_LAYOUT_H */
