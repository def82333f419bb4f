/* server/dispatch.h - the joint of net and vm: connections and generations.
 *
 * Everything that serves requests in one process, without listening sockets:
 * a worker adds those, a tool adds connections in memory (server/inject.h).
 *
 *   on_head -> route;  on_request -> run queue;  runner: next ... end
 *
 * A turn runs what is ready, sends what that made, and collects garbage; the
 * loop calls it after each poll and whenever a timer was due.  One thread.
 */
#ifndef PL_SERVER_DISPATCH_H
#define PL_SERVER_DISPATCH_H

#include "base/buf.h"
#include "base/stopwatch.h"
#include "fabric/events.h"
#include "fabric/ring.h"
#include "fabric/sampler.h"
#include "fabric/slabs.h"
#include "net/conn.h"
#include "server/generation.h"
#include "server/tally.h"

struct pl_config;
struct pl_inject;

struct pl_dispatch_options {
  const struct pl_config *config; /* borrowed */
  void *slabs;                    /* the section, page-aligned */
  uint32_t slab_count;            /* slabs of pl__net_slab_bytes */
  uint32_t slab_bytes;
  struct pl_ring *log;           /* NULL: a tool, records go to stderr */
  int log_wake_fd;               /* of its reader */
  struct pl_spans *spans;        /* NULL: nothing is traced */
  struct pl_tracing *tracing;    /* with `spans` */
  struct pl_event_rings *events; /* NULL: nothing is recorded */
  uint32_t worker;               /* index; UINT32_MAX: a tool */
  struct pl_inject *inject;      /* tools; NULL: none */
  /* The first one; dispatch and config are filled in. */
  struct pl_generation_options generation;
  /* Tools: text for the user. */
  void (*on_output)(void *arg, bool message, const char *text, size_t bytes);
  int (*on_read_line)(void *arg, const char *prompt, struct pl_slice *out);
  void *output_arg;
  /* The admin plane: as in struct pl_vm_host. */
  int (*on_report)(void *arg, struct pl_slice topic, struct pl_slice argument,
                   struct pl_buf *out);
  void *report_arg;
};

/* A request whose head was routed. */
struct pl_dispatch_entry {
  struct pl_generation *owner; /* NULL: none, or it was refused before that */
  struct pl_req *req;
  double queued_at; /* monotonic seconds, when it could be handled */
  bool has_begun;   /* a runner has taken it */
};

struct pl_dispatch {
  struct pl_net net;
  struct pl_generation *now; /* that new requests go to */
  struct pl_generation *old; /* that ends what it has begun; NULL: none */
  struct pl_dispatch_entry *entries; /* by slot, of requests */
  struct pl_slabs slabs;
  struct pl_buf_pool buffers;
  const struct pl_config *config; /* of `now` */
  struct pl_ring_writer log;
  struct pl_sampler sampler; /* of what apps log */
  uint64_t access_below;   /* requests whose mixed id is below it are logged */
  struct pl_tracer tracer; /* of traces, if has_tracer */
  bool has_tracer;
  bool has_log;
  bool log_access;
  bool log_stalled; /* the log's reader takes nothing */
  uint32_t worker;
  uint32_t running;       /* requests that a runner has */
  uint64_t request_count; /* handled or refused so far */
  struct pl_tally tally;
  struct pl_stopwatch watch;
  struct pl_recorder recorder;
  uint64_t told_drops; /* to the recorder */
  double time_offset;  /* seconds that a spec has moved the clocks by */
  struct pl_inject *inject;
  void (*on_conn_closed)(void *arg); /* NULL: nobody wants to know */
  void *arg;
  void (*on_output)(void *arg, bool message, const char *text, size_t bytes);
  int (*on_read_line)(void *arg, const char *prompt, struct pl_slice *out);
  void *output_arg;
  int (*on_report)(void *arg, struct pl_slice topic, struct pl_slice argument,
                   struct pl_buf *out);
  void *report_arg;
  int quit_code; /* tools: what core.exit was called with */
  bool quit;
};

/* Bytes of a slab for these limits: what the fabric must be made with. */
uint32_t pl__dispatch_slab_bytes(const struct pl_config *config);

/* Opens VM and connections; the app isn't loaded yet. 0 or what pl__vm_open
 * and pl__net_init return, with a text in err (PL_VM_ERROR_BYTES). */
int pl__dispatch_open(struct pl_dispatch *d,
                      const struct pl_dispatch_options *options, char *err);
/* All connections must be closed. */
void pl__dispatch_close(struct pl_dispatch *d);

/* A runner takes the request from the queue. */
void pl__dispatch_on_begin(struct pl_dispatch *d, const struct pl_req *req);
/* Ten times a second: counts what is counted elsewhere. */
void pl__dispatch_tally(struct pl_dispatch *d);

/* New requests go to `g`, which is loaded, from now on; the one before it is
 * retired.  There must be no `old` one. */
void pl__dispatch_succeed(struct pl_dispatch *d, struct pl_generation *g);
/* Closes the connections of all requests of a generation. */
void pl__dispatch_drop(struct pl_dispatch *d, const struct pl_generation *g);
/* Takes out the old generation once nothing of it runs any more, to be closed;
 * NULL: there is none such. */
struct pl_generation *pl__dispatch_take_old(struct pl_dispatch *d);

/* Reads the clocks; before each turn, and before sockets are read. */
void pl__dispatch_tick(struct pl_dispatch *d);
/* One turn. idle: the loop had nothing to do. True: there is more to do, come
 * back without blocking. */
bool pl__dispatch_turn(struct pl_dispatch *d, bool idle);
/* Writes what is told once a second, at once: the end. */
void pl__dispatch_tell(struct pl_dispatch *d);
/* The least level that records of handlers, and about requests, must have.
 * Until the next generation takes over. */
void pl__dispatch_set_level(struct pl_dispatch *d, uint32_t level);
/* Seconds until something is due; HUGE_VAL: nothing. */
double pl__dispatch_wait(const struct pl_dispatch *d);

#endif /* PL_SERVER_DISPATCH_H */
