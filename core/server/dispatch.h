/* server/dispatch.h - the joint of net and vm: connections, run queue, VM.
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
#include "fabric/ring.h"
#include "fabric/slabs.h"
#include "net/conn.h"
#include "vm/vm.h"

struct pl_config;
struct pl_flights;
struct pl_inject;
struct pl_marks;
struct pl_quarantine;

#define PL_DISPATCH_VALUES_MAX 80 /* configuration keys that Lua can read */

struct pl_dispatch_options {
  const struct pl_config *config; /* borrowed */
  void *slabs;                    /* the section, page-aligned */
  uint32_t slab_count;            /* slabs of pl__net_slab_bytes */
  uint32_t slab_bytes;
  struct pl_ring *log;              /* NULL: a tool, records go to stderr */
  int log_wake_fd;                  /* of its reader */
  uint32_t worker;                  /* index; UINT32_MAX: a tool */
  struct pl_flights *flights;       /* NULL: nobody looks */
  struct pl_quarantine *quarantine; /* NULL: no route is ever refused */
  struct pl_marks *long_runs;       /* NULL: told for each one */
  struct pl_inject *inject;         /* tools; NULL: none */
  /* Tools: text for the user. */
  void (*on_output)(void *arg, bool message, const char *text, size_t bytes);
  void *output_arg;
};

struct pl_dispatch {
  struct pl_net net;
  struct pl_vm vm;
  struct pl_slabs slabs;
  struct pl_buf_pool buffers;
  const struct pl_config *config;
  struct pl_ring_writer log;
  bool has_log;
  bool log_access;
  bool log_stalled; /* the log's reader takes nothing */
  uint32_t worker;
  uint32_t site;         /* of connections by sockets */
  struct pl_req **queue; /* ring of requests that may be handled */
  uint32_t queue_cap;
  uint32_t queue_head;
  uint32_t queue_count;
  uint32_t running;       /* requests that a runner has */
  uint64_t request_count; /* handled or refused so far */
  double time_offset;     /* seconds that a spec has moved the clocks by */
  struct pl_inject *inject;
  void (*on_conn_closed)(void *arg); /* NULL: nobody wants to know */
  void *arg;
  void (*on_output)(void *arg, bool message, const char *text, size_t bytes);
  void *output_arg;
  int quit_code; /* tools: what core.exit was called with */
  bool quit;
  struct pl_vm_value values[PL_DISPATCH_VALUES_MAX];
};

/* Bytes of a slab for these limits: what the fabric must be made with. */
uint32_t pl__dispatch_slab_bytes(const struct pl_config *config);

/* Opens VM and connections; the app isn't loaded yet. 0 or what pl__vm_open
 * and pl__net_init return, with a text in err (PL_VM_ERROR_BYTES). */
int pl__dispatch_open(struct pl_dispatch *d,
                      const struct pl_dispatch_options *options, char *err);
/* All connections must be closed. */
void pl__dispatch_close(struct pl_dispatch *d);

/* Reads the clocks; before each turn, and before sockets are read. */
void pl__dispatch_tick(struct pl_dispatch *d);
/* One turn. idle: the loop had nothing to do. True: there is more to do, come
 * back without blocking. */
bool pl__dispatch_turn(struct pl_dispatch *d, bool idle);
/* Seconds until something is due; HUGE_VAL: nothing. */
double pl__dispatch_wait(const struct pl_dispatch *d);

#endif /* PL_SERVER_DISPATCH_H */
