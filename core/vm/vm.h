/* vm/vm.h - one Lua VM: its state, its coroutines, and how requests reach them.
 *
 * Handlers run in runners: pooled coroutines that take one request after the
 * other and call its route's function.  A handler that waits parks its runner,
 * and another one goes on with the queue.  Tasks run in coroutines of their
 * own.  Nothing runs but inside pl__vm_dispatch.
 *
 *             pl__vm_dispatch             wait registered, yield
 *   IDLE ---------------------> RUNNING -----------------------> PARKED
 *     ^                           |  ^                             |
 *     +----- queue is empty ------+  +---------- READY <-----------+
 *                                     dispatch          timer, body, room,
 *                                                       tasks, pl_wake, gone
 *
 * One that computes for too long is parked as well, wherever it is: see run.c
 * for whose turn it is then, and preempt.h for how.
 *
 * Knows no sockets and no loop (vm/host.h), no configuration file, no log but
 * the worker's ring.  One thread.
 */
#ifndef PL_VM_VM_H
#define PL_VM_VM_H

#include "base/heap.h"
#include "base/list.h"
#include "base/random.h"
#include "fabric/record.h"
#include "http/request.h"
#include "vm/allocations.h"
#include "vm/ffi.h"
#include "vm/host.h"
#include "vm/preempt.h"
#include "vm/reserve.h"
#include "vm/sources.h"
#include "vm/trace.h"
#include "vm/waiting.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_State;
struct pl_flights;
struct pl_heap_samples;
struct pl_frames;
struct pl_marks;
struct pl_metrics_table;
struct pl_quarantine;
struct pl_recorder;
struct pl_ring_writer;
struct pl_sampler;
struct pl_samples;
struct pl_shard;
struct pl_shared;
struct pl_waits;
struct pl_coro;
struct pl_traces;
struct pl_vm_site;
struct pl_vm_route;

#define PL_VM_ERROR_BYTES 8192 /* of a message with its traceback */

/* What a configuration key is to Lua; see core.config. */
struct pl_vm_value {
  const char *key;  /* dotted; static */
  const char *text; /* NULL: a number */
  double number;
};

/* Everything borrowed for the life of the VM, but what says copied. */
struct pl_vm_options {
  struct pl_vm_host host;           /* copied */
  const char *lua_folder;           /* where perilune/init.lua lies, of ours */
  const char *settings_json;        /* the app's settings, an object */
  const struct pl_vm_value *values; /* configuration; ends with key NULL */
  struct pl_vm_sources sources;     /* copied */
  uint32_t generation;              /* of the app, for records; 0: none */
  const char *page_script;          /* HTML behind pages; NULL: none */
  bool is_muted; /* records are dropped: the ring is another thread's */
  struct pl_ring_writer *log; /* NULL: records go to stderr as text */
  struct pl_tracer *tracer;   /* of the worker; NULL: no spans are kept */
  struct pl_sampler *sampler; /* of P.log's records; NULL: all are written */
  uint32_t worker;            /* index; UINT32_MAX in tools */
  uint32_t slot_count;        /* requests at once: slots are 0 .. count - 1 */
  uint32_t tasks_max;         /* per worker */
  uint32_t tasks_per_request_max;
  double timeout_s; /* deadline of a request, unless its route has one */
  double body_max;  /* bytes, likewise */
  uint64_t memory_bytes_soft;   /* past it a handler is failed; 0: no limit */
  uint64_t memory_bytes_max;    /* allocation fails past it; 0: no limit */
  struct pl_heap_samples *heap; /* of the worker; NULL: nothing is sampled */
  uint64_t heap_sample_bytes;   /* mean between two samples; 0: none */
  bool is_aside;     /* it is loaded on another thread than it serves */
  double slice_s;    /* of a coroutine; 0: no preemption */
  double hold_s_max; /* what cannot be parked for so long is ended */
  int log_level_min; /* enum pl_level */
  struct pl_flights *flights; /* NULL: nobody looks */
  struct pl_frames *frames;   /* of the process; NULL: nothing is sampled */
  struct pl_samples *samples; /* with frames; NULL: of the processor neither */
  struct pl_recorder *recorder;     /* NULL: nothing is recorded */
  struct pl_quarantine *quarantine; /* NULL: no route is ever refused */
  struct pl_aborts *aborts;         /* of the compiler; NULL: nobody looks */
  struct pl_marks *long_runs;       /* routes told of; NULL: told each time */
  struct pl_waits *waits;   /* where coroutines are listed; NULL: nowhere */
  double leaks_collect_s;   /* garbage, at the latest, when somebody may leak */
  double leaks_after_s;     /* who waits for longer may be a suspect */
  double leaks_window_s;    /* between looks at such */
  struct pl_shared *shared; /* of all workers; NULL: one of its own */
  struct pl_metrics_table *metrics; /* likewise; without a shard: looked at */
  struct pl_shard *shard; /* where the process counts; NULL: one of its own */
};

struct pl_vm_slot {
  struct pl_coro *runner; /* that handles the request in this slot */
  struct pl_list tasks;   /* that belong to it */
  int64_t held_bytes;     /* what the heap has grown by under all of them */
  struct pl_trace trace;  /* what was noted of it */
  bool is_probe;          /* let out of quarantine, to try its route */
  bool is_ending;         /* its tasks were cancelled, and are not all gone */
};

/* Why the collector ran: after requests, as the loop would block, or whole,
 * since a handler had met the limit. */
enum { PL_COLLECT_BUSY, PL_COLLECT_IDLE, PL_COLLECT_WHOLE, PL_COLLECT_PHASES };

/* What has happened since the VM was opened: to coroutines first. */
struct pl_vm_counts {
  uint64_t preempted; /* slices that were used up */
  uint64_t overdue;   /* stopped at their deadline while they computed */
  uint64_t condemned; /* failed for memory's sake */
  uint64_t abandoned; /* would not end */
  uint64_t long_runs; /* requests and tasks that computed for a second */
  uint64_t leaked;    /* nobody could wake them */
  uint64_t collect_ns[PL_COLLECT_PHASES];
  uint64_t collect_slices[PL_COLLECT_PHASES];
  uint64_t cycles; /* of the collector, that were completed */
  struct pl_jit_counts jit;
};

/* What P.metric counts with; see bind_metric.c. */
struct pl_meter {
  struct pl_shard *shard; /* the process's, or own_shard */
  struct pl_metrics_table *table;
  struct pl_vm *vm;
  uint64_t self;                      /* this process, as locks know it */
  struct pl_shard *own_shard;         /* NULL: nothing is counted */
  struct pl_metrics_table *own_table; /* NULL: it is options.metrics */
  bool is_serving;
};

#define PL_VM_PLACE_BYTES 80

struct pl_vm {
  struct lua_State *L;
  struct pl_vm_options options;
  struct pl_clock clock;
  uint64_t heap_bytes;       /* of the VM now, by its allocator */
  struct pl_reserve reserve; /* for making the state */
  /* coroutines */
  struct pl_coro *current; /* the one that runs; NULL: none */
  struct pl_coro **coros;  /* by index; NULL: free */
  uint32_t coro_count;     /* entries used so far, free ones included */
  uint32_t coro_cap;
  uint32_t live_count; /* coroutines that are in use */
  uint32_t task_count; /* live tasks */
  struct pl_list ready;
  struct pl_list parked; /* preempted; the first had its slice longest ago */
  struct pl_list idle_runners;
  struct pl_list idle_tasks; /* threads that can be used again */
  struct pl_list free_coros; /* structs without a thread */
  uint32_t idle_count;       /* threads in both */
  struct pl_heap timers;
  struct pl_vm_slot *slots;
  struct pl_trace_part *trace_parts; /* of the pool, that are free */
  uint32_t trace_part_count;         /* free or not */
  uint32_t span_serial;              /* of the last P.span */
  int loop_ref;                      /* registry: the runner's main function */
  int anchors_ref;     /* registry: the array that keeps threads alive */
  uint32_t anchor_cap; /* how many it has room for */
  uint32_t budget;     /* requests that may still be taken in this dispatch */
  int64_t budget_end_ns;
  int64_t tick_ns;     /* monotonic, when clock.monotonic was read */
  uint32_t stretch;    /* raised whenever something else begins to run */
  bool has_parked;     /* somebody was preempted in this dispatch */
  bool requests_first; /* whose turn it is to go first, when somebody parks */
  bool owes_parked;    /* nobody who was preempted went on in the last one */
  struct pl_preempt preempt;
  struct pl_allocations allocations;
  struct pl_traces *traces; /* NULL: the compiler is not watched */
  struct pl_waiting waiting;
  struct pl_random random; /* for ids; seeded by pl__vm_open */
  struct pl_vm_counts counts;
  _Atomic uint32_t *phase; /* enum pl_phase: of options.flights, or own_phase */
  _Atomic uint32_t own_phase;
  uintptr_t stack_floor; /* the C stack below it is kept free of Lua */
  int tags_ref;          /* registry: errors by PL_WAKE_* */
  /* apps */
  struct pl_vm_site *sites;
  uint32_t site_count;
  struct pl_vm_route *routes; /* by route id; VM-wide */
  uint32_t route_cap;
  uint32_t route_count;
  /* collector */
  uint64_t live_bytes;         /* after the last cycle */
  uint64_t emergency_bytes;    /* past it a handler collects as it runs */
  uint64_t shed_bytes;         /* past it somebody is failed */
  uint64_t charged_bytes;      /* of the heap, when the one who runs began */
  uint64_t rest_bytes;         /* least heap since pl__vm_rest last collected */
  uint64_t sliced_bytes;       /* of the heap, when the last slice ended */
  uint64_t collect_owed_bytes; /* to be stepped over in the present one */
  int64_t collect_end_ns;      /* of the present slice */
  int64_t finalizer_told_ns;   /* when one that failed was told of last */
  int collect_ref;             /* registry: pl__collector_slice */
  int funcinfo_ref;            /* registry: jit.util.funcinfo; 0: not there */
  int traceinfo_ref;           /* registry: jit.util.traceinfo, likewise */
  int nothing_ref;          /* registry: a function of Lua that does nothing */
  uint64_t shed_from_bytes; /* the heap when shedding began */
  uint32_t shed_cycles;     /* to go before somebody is failed */
  bool is_shedding;         /* the preempted wait until it is decided */
  bool collecting;          /* a cycle is under way */
  bool resting;             /* pl__vm_rest has begun it */
  bool emergency;
  /* what apps share; asked for by pl_dict_open and the like first */
  struct pl_shared *shared; /* options.shared, or its own; NULL: not yet */
  uint64_t lock_self;       /* this process, as locks in there know it */
  struct pl_meter meter;
  bool starved; /* has met its limit since the last pl__vm_relieve */
  bool closing;
  double interrupt_id;          /* of the coroutine that Ctrl-C is for; tools */
  struct pl_record_draft draft; /* of P.log's record in the making */
  _Alignas(8) char draft_memory[PL_LIMIT_LOG_RECORD_BYTES];
};

/* Makes the VM and loads our own modules into it.
 * 0; PL_ENOMEM; PL_ESCRIPT or PL_EVERSION with a text in err
 * (PL_VM_ERROR_BYTES). */
int pl__vm_open(struct pl_vm *vm, const struct pl_vm_options *options,
                char *err);
void pl__vm_close(struct pl_vm *vm);

/* Loads an app (file or folder) and compiles its routes; *site is its number.
 * At most `seconds`; an endless loop at module level ends there.
 * 0; PL_ESCRIPT with "file:line: what" and a traceback in err. */
int pl__vm_load(struct pl_vm *vm, const char *app, double seconds,
                uint32_t *site, char *err);
/* Does what would take a while once it serves; after loading, on any thread. As
 * pl__vm_load. */
int pl__vm_warm(struct pl_vm *vm, double seconds, char *err);
/* Starts the app's timers and detached tasks, and preemption: the VM serves on
 * this thread from now on. As pl__vm_load. */
int pl__vm_start(struct pl_vm *vm, uint32_t site, char *err);

/* One argument for a function of boot: text, or with `list` an array. */
struct pl_vm_arg {
  const char *text;  /* NULL: nil, unless there is a list */
  size_t text_bytes; /* of it */
  const char *const *list;
  size_t list_count;
};

/* Starts boot.NAME(args...) as a task, which ends by core.exit, and
 * preemption, as pl__vm_start: tools.
 * 0 or PL_ENOMEM with a text in err. */
int pl__vm_start_tool(struct pl_vm *vm, const char *name,
                      const struct pl_vm_arg *args, uint32_t count, char *err);
/* Calls boot.NAME(args...), at most `seconds`, and appends the text that it
 * returns to `out`, or the texts of an array, a line each; *lines tells how
 * many. As pl__vm_load. */
int pl__vm_call_tool(struct pl_vm *vm, const char *name,
                     const struct pl_vm_arg *args, uint32_t count,
                     double seconds, struct pl_buf *out, uint32_t *lines,
                     char *err);

/* Finds the route of a request whose head is complete: sets site's route,
 * parameters, body_max and deadline. */
void pl__vm_route(struct pl_vm *vm, struct pl_req *req);

/* Runs what is ready, then requests from the queue, within the budget of one
 * tick. True: there is more to do, come back without blocking. */
bool pl__vm_dispatch(struct pl_vm *vm);
/* When the next timer is due, monotonic seconds; HUGE_VAL: never. */
double pl__vm_due(const struct pl_vm *vm);
/* Sets the clocks, and makes ready what is due by then. */
void pl__vm_tick(struct pl_vm *vm, double now, double monotonic);
/* Whether any coroutine is ready to run, or is to be failed soon. */
bool pl__vm_is_ready(const struct pl_vm *vm);
/* Before a C function is called on the main stack: lets LuaJIT end what it was
 * recording in a coroutine that has been left. */
void pl__vm_end_recording(struct pl_vm *vm);
/* Has the hook of the moment called at the next bytecode; in the allocator. */
void pl__vm_look(struct pl_vm *vm);
/* Sets the collector's goals by what the heap holds now. */
void pl__vm_collect_begin(struct pl_vm *vm);
/* Collects: a slice after requests, a longer one when the loop would block. */
void pl__vm_collect(struct pl_vm *vm, bool idle);
/* After a handler has met the limit, between two coroutines: collects all of
 * its garbage. Takes up to a second for a heap of 512 MiB. */
void pl__vm_relieve(struct pl_vm *vm);
/* For once a second while no handler runs: begins a cycle, for pl__vm_collect
 * to go on with, if a burst has left garbage worth one. */
void pl__vm_rest(struct pl_vm *vm);

/* Begins a cycle, if none is under way, for pl__vm_collect to go on with. */
void pl__vm_begin_cycle(struct pl_vm *vm);

/* The heap is past memory_bytes_soft: collects, and if that doesn't help fails
 * the handler that holds the most; see shed.c. Between two coroutines. */
void pl__vm_shed(struct pl_vm *vm);

/* Writes vm->counts to the log, if anything was counted: a worker ends. */
void pl__vm_tell_counts(struct pl_vm *vm);

/* Where the Lua that runs now is, a line per frame, into `out`; returns the
 * bytes. For a crashed process only: reads a VM in whatever state it is in, so
 * it may fault. Allocates nothing. */
size_t pl__vm_traceback_unsafe(struct pl_vm *vm, char *out, size_t bytes);

/* News about a request that a runner has. */
void pl__vm_on_body(struct pl_vm *vm, struct pl_req *req);
void pl__vm_on_writable(struct pl_vm *vm, struct pl_req *req);
/* lost: nothing can be sent any more either. */
void pl__vm_on_gone(struct pl_vm *vm, struct pl_req *req, bool lost);
/* An injected connection has output, or was closed. */
void pl__vm_on_injected(struct pl_vm *vm, int conn);
/* Cancels what core.interrupts has named: Ctrl-C in a tool. */
void pl__vm_interrupt(struct pl_vm *vm);
/* Cancels the tasks that belong to no request: the worker is draining. */
void pl__vm_cancel_detached(struct pl_vm *vm);

/* The app that it runs was replaced in another VM of this process: it only ends
 * what it has begun.  Hands preemption over and cancels the tasks of no
 * request.  Between turns. */
void pl__vm_retire(struct pl_vm *vm);
/* The deadline of all its requests is now. */
void pl__vm_expire(struct pl_vm *vm);
/* Ends all its requests and tasks without running any more Lua; connections
 * with half a response are closed. */
void pl__vm_cut(struct pl_vm *vm);

/* The pattern of a route ("" when there is none): "GET /notes/:id". */
struct pl_slice pl__vm_route_pattern(const struct pl_vm *vm, uint32_t route);
/* The route of a request for its records: PL_RECORD_NO_ROUTE when none matched,
 * although something of the app's has answered (not_found, 405). */
uint32_t pl__vm_route_in_log(const struct pl_vm *vm, const struct pl_req *req);

#endif /* PL_VM_VM_H */
