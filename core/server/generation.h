/* server/generation.h - one version of the app in a worker: its VM, the
 * requests that wait for it, and the configuration it was loaded with.
 *
 *   open, load        on any thread: a helper's, beside the one that serves
 *   start             on the loop: it takes the place of the one before
 *   retire            on the loop: no request comes to it any more
 *   close             on any thread, once is_over
 *
 * A request belongs to the generation whose router has seen its head, to its
 * end.  Which generation the next one goes to is server/dispatch.h's matter;
 * when to load one, that of server/succession.h.
 */
#ifndef PL_SERVER_GENERATION_H
#define PL_SERVER_GENERATION_H

#include "http/encode.h"
#include "http/trace_context.h"
#include "server/config.h"
#include "server/tally.h"
#include "vm/vm.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_aborts;
struct pl_bundle;
struct pl_dispatch;
struct pl_frames;
struct pl_heap_samples;
struct pl_metrics_table;
struct pl_samples;
struct pl_shard;
struct pl_waits;

#define PL_GENERATION_VALUES_MAX 144 /* configuration keys that Lua can read */

/* Everything borrowed for the life of the generation, but `config`. */
struct pl_generation_options {
  struct pl_dispatch *dispatch;     /* it is for; with slabs and log */
  const struct pl_config *config;   /* copied, its settings too */
  uint32_t number;                  /* 0: a tool's */
  struct pl_bundle *bundle;         /* as in struct pl_vm_sources; or NULL */
  bool records;                     /* likewise: into the bundle */
  struct pl_flights *flights;       /* as in struct pl_vm_options */
  struct pl_frames *frames;         /* likewise */
  struct pl_samples *samples;       /* likewise */
  struct pl_heap_samples *heap;     /* likewise */
  bool is_aside;                    /* likewise */
  struct pl_quarantine *quarantine; /* likewise */
  struct pl_aborts *aborts;         /* likewise */
  struct pl_marks *long_runs;       /* likewise */
  struct pl_waits *waits;           /* likewise */
  struct pl_shared *shared;         /* likewise */
  struct pl_metrics_table *metrics; /* likewise */
  struct pl_shard *shard;           /* likewise */
};

struct pl_generation {
  struct pl_vm vm;
  struct pl_dispatch *dispatch;
  struct pl_config config;
  struct pl_http_env env;        /* of its responses */
  struct pl_context_rules rules; /* which fields of its requests count */
  uint32_t number;
  uint64_t hash;         /* of its files; 0: not known */
  uint32_t site;         /* of the app; 0: not loaded */
  struct pl_req **queue; /* ring of requests that may be handled */
  uint32_t queue_cap;
  uint32_t queue_head;
  uint32_t queue_count;
  uint32_t request_count; /* that it has to end */
  struct pl_tally_generation tally;
  char script[128]; /* HTML that its pages get, under `perilune dev` */
  double cut_at;    /* retired: when it is cut, monotonic seconds */
  bool is_expired;  /* retired, and its requests were told to end */
  bool is_hurried;  /* retired, and another one waits for its end */
  struct pl_vm_value values[PL_GENERATION_VALUES_MAX];
};

/* Makes a VM without an app. 0, or what pl__vm_open returns, with a text in err
 * (PL_VM_ERROR_BYTES). */
int pl__generation_open(struct pl_generation **out,
                        const struct pl_generation_options *options, char *err);
/* Loads the app of its configuration. As pl__vm_load. */
int pl__generation_load(struct pl_generation *g, char *err);
/* After loading, of one that is to serve. As pl__vm_load. */
int pl__generation_warm(struct pl_generation *g, char *err);
/* Frees it; no request may belong to it. */
void pl__generation_close(struct pl_generation *g);

/* What its responses say beside the date. */
void pl__generation_say(struct pl_generation *g, bool reload_failed);

/* A request may be handled. */
void pl__generation_queue(struct pl_generation *g, struct pl_req *req);
/* It only ends what it has begun, for at most that long. */
void pl__generation_retire(struct pl_generation *g, double seconds);
/* It ends all at once: the next one waits for that. */
void pl__generation_hurry(struct pl_generation *g);
/* With each turn of one that was retired: ends what takes too long. */
void pl__generation_expire(struct pl_generation *g, double now);
/* Whether nothing of it runs any more. */
bool pl__generation_is_over(const struct pl_generation *g);

#endif /* PL_SERVER_GENERATION_H */
