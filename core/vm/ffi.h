/* vm/ffi.h - what Lua calls from inside handlers, by FFI.
 *
 * In compiled code such a call costs a few nanoseconds and does not leave the
 * trace.  Each function is one step that leaves nothing half done: handlers
 * are interrupted between any two of them.  None blocks.  Those that wait
 * only register the wait of the running coroutine; Lua then yields, and is
 * resumed with one of PL_WAKE_*.
 *
 * The functions are in bind_request.c, bind_context.c, bind_response.c,
 * bind_wait.c, bind_mark.c, bind_log.c, bind_span.c, bind_shared.c and bind_metric.c; what they need of
 * sockets they reach through struct pl_vm_host (vm/host.h).
 * What is called from interpreted code (starting tasks, taking the next
 * request) are C functions of the module "perilune.core" (bind_core.c).
 */
#ifndef PL_VM_FFI_H
#define PL_VM_FFI_H

#include "base/export.h"
#include "http/request.h"

/* The functions stay in the launcher although no C code calls them. */
#pragma GCC visibility push(default)

/* cdef: begin */
enum {
  PL_ABI_VERSION = 6, /* raised when a struct or a function below changes */

  PL_WAKE_OK = 0,        /* what was waited for has happened */
  PL_WAKE_DEADLINE = 1,  /* the deadline of the request is over */
  PL_WAKE_GONE = 2,      /* the client is gone */
  PL_WAKE_CANCELLED = 3, /* the task was cancelled */
  PL_WAKE_MEMORY = 4,    /* it is failed: the VM holds too much memory */
  PL_WAKE_LOST = 5,      /* nobody can reach what it waits for */

  PL_EVENT_TASK = 5, /* of pl_wait_event, as in fabric/waits.h */
  PL_EVENT_RECEIVE = 6,
  PL_EVENT_SEND = 7,

  PL_BODY_WAIT = 0,   /* nothing there yet: pl_wait_body, then again */
  PL_BODY_BYTES = 1,  /* req->body has one byte or more */
  PL_BODY_END = 2,    /* all of it has been consumed */
  PL_BODY_FAILED = 3, /* req->body_status says why: 400, 408 or 413 */

  PL_PIECE_BYTES_MAX = 65536 /* of one pl_res_write */
};

struct pl_abi {
  uint32_t version;   /* PL_ABI_VERSION of the C half */
  uint32_t req_bytes; /* sizeof(struct pl_req) */
  uint32_t header_bytes;
  uint32_t param_bytes;
  uint32_t context_bytes;
};
const struct pl_abi *pl_abi(void);

/* Read once per tick of the loop. */
struct pl_clock {
  double now;       /* seconds since the epoch */
  double monotonic; /* seconds; only differences mean something */
};
const struct pl_clock *pl_clock(void);

/* Index of the first field of that name at or behind `from` in req->headers,
 * req->queries, req->cookies; -1: none; -2: more fields than the limit (400).
 * Header names match in any case, the others exactly.  The first call for
 * queries or cookies splits and decodes them all. */
int pl_req_header(struct pl_req *req, const char *name, uint32_t bytes,
                  int from);
int pl_req_query(struct pl_req *req, const char *name, uint32_t bytes,
                 int from);
int pl_req_cookie(struct pl_req *req, const char *name, uint32_t bytes,
                  int from);
/* Text of the client's address without port ("127.0.0.1", "unix") into `out`,
 * which has room for 64 bytes; returns how many were written. */
uint32_t pl_req_remote(struct pl_req *req, char *out);

/* Texts of a context (bind_context.c), likewise: the request id, the trace id
 * (32 hex digits), its span's (16). */
uint32_t pl_context_request_id(const struct pl_context *context, char *out);
uint32_t pl_context_trace_id(const struct pl_context *context, char *out);
uint32_t pl_context_span_id(const struct pl_context *context, char *out);
/* Sets the tenant; no bytes: none.  0, PL_EINVAL (-20002): more than
 * PL_TENANT_BYTES_MAX, or a control character. */
int pl_context_set_tenant(struct pl_context *context, const char *at,
                          uint32_t bytes);
/* The context that the running coroutine works in; NULL: none.  Valid until
 * the coroutine waits or ends. */
struct pl_context *pl_context(void);
/* The deadline of the request that it works for; HUGE_VAL: none. */
double pl_context_deadline(void);
/* What those are told who are asked on its behalf: traceparent (55 bytes),
 * tracestate (at most 512), baggage (at most 8192); 0: there is none. */
uint32_t pl_context_traceparent(char *out);
uint32_t pl_context_tracestate(char *out);
uint32_t pl_context_baggage(char *out);
/* A value of its baggage, at most 8192 bytes; -1: none of that key. */
int pl_context_value(const char *key, uint32_t bytes, char *out);
int pl_req_baggage(struct pl_req *req, const char *key, uint32_t bytes,
                   char *out);
/* The running task, a timer's, goes on in a context of its own. */
void pl_context_renew(void);

/* One of PL_BODY_*.  The first call sends 100 (Continue) if it is expected. */
int pl_body_poll(struct pl_req *req);
/* Consumes the first `bytes` of req->body; reading goes on. */
void pl_body_take(struct pl_req *req, uint32_t bytes);

/* Sets a response field (append 1: beside those of that name; -1: removes those
 * of that name, and the value says nothing).  0, PL_EINVAL
 * (-20002: a name that is no token, CR, LF, NUL or another control character
 * in the value), PL_ECONFLICT (-20004: the server owns that field: framing),
 * PL_EFULL (-20001). */
int pl_res_field(struct pl_req *req, const char *name, uint32_t name_bytes,
                 const char *value, uint32_t value_bytes, int append);
/* The whole response at once.  type may be empty (no Content-Type).  0: done;
 * 1: `body` is pinned: keep it reachable and pl_wait_write until woken;
 * negative: PL_EGONE, PL_ENOMEM. */
int pl_res_send(struct pl_req *req, uint32_t status, const char *type,
                uint32_t type_bytes, const char *body, uint32_t body_bytes);
/* A response in pieces: begin, write ..., end.  A piece is copied, and at most
 * PL_PIECE_BYTES_MAX long (PL_EINVAL past it).  write: 0; 1: taken, but the
 * output is over limits.output: pl_wait_write before the next one; negative:
 * PL_EGONE.  Pieces are sent at the end of the tick, or at pl_res_flush. */
int pl_res_begin(struct pl_req *req, uint32_t status, const char *type,
                 uint32_t type_bytes);
int pl_res_write(struct pl_req *req, const char *at, uint32_t bytes);
int pl_res_end(struct pl_req *req);
/* A file: opens, answers conditional and Range requests (RFC 9110 13, 14),
 * sends by sendfile.  root: empty, or the folder that `path` must stay below.
 * type: empty for one by the extension.  download: empty or the file name of
 * Content-Disposition: attachment.
 * 0: done; 1: under way, pl_wait_write; negative: -errno (-2 ENOENT, -13
 * EACCES, -21 EISDIR ...: nothing has been sent), PL_EGONE. */
int pl_res_file(struct pl_req *req, uint32_t status, const char *root,
                uint32_t root_bytes, const char *path, uint32_t path_bytes,
                const char *type, uint32_t type_bytes, const char *download,
                uint32_t download_bytes);
/* A problem document (RFC 9457) made by the server. detail may be empty. */
int pl_res_problem(struct pl_req *req, uint32_t status, const char *detail,
                   uint32_t detail_bytes);
/* Hands the output to the socket now. 0; 1: some is still waiting
 * (pl_wait_write waits until all is sent); PL_EGONE. */
int pl_res_flush(struct pl_req *req);
/* Closes the connection without finishing the response. */
void pl_res_abort(struct pl_req *req);

/* Register the wait of the running coroutine; then coroutine.yield() returns a
 * PL_WAKE_*.  All end at the deadline of its request. */
void pl_wait_timer(double seconds);
void pl_wait_body(struct pl_req *req);
void pl_wait_write(struct pl_req *req); /* output below its limit, pins free */
void pl_wait_tasks(struct pl_req *req); /* until req->task_count is 0 */
/* Until pl_wake, or for `seconds` unless these are negative.  reason:
 * PL_EVENT_*; watch: `serial` of the watch (vm/waiting.h) that the coroutine is
 * in, whose end would be the wait's as well; 0: there is none.  object: which
 * task or channel, for the list of coroutines. */
void pl_wait_event(int reason, double watch, double object, double seconds);
/* Id of the running coroutine, for pl_wake and pl_cancel: unique in its VM. */
double pl_coro_id(void);
/* Lets a coroutine that waits by pl_wait_event go on; if it doesn't yet, its
 * next pl_wait_event ends at once: so wait in a loop around the condition.
 * 1: there was such a coroutine. */
int pl_wake(double id);
/* Cancels: its present or next wait ends with PL_WAKE_CANCELLED, and every one
 * after it.  1: there was such a coroutine. */
int pl_cancel(double id);
void pl_cancel_tasks(struct pl_req *req); /* all tasks of the request */
/* Sets the deadline of the running request: seconds from now. */
void pl_req_set_timeout(struct pl_req *req, double seconds);
/* Between the two the running coroutine is not preempted; errors that end it
 * are raised all the same.  They nest.  What waits in between lets others run. */
void pl_hold(void);
void pl_release(void);
/* What the running coroutine was for has ended, well or badly; what follows is
 * tidying up, and no error is raised in it until pl_req_set_timeout. */
void pl_settle(void);
/* The running coroutine, a timer's, begins with something new. */
void pl_begin(void);

/* A text for the flight recorder (bind_mark.c); cut past 48 bytes. */
void pl_mark(const char *text, uint32_t bytes);

/* A record for the log (bind_log.c): begin, its fields, end.  level: 0 debug, 1
 * info, 2 warn, 3 error.  begin: 1; 0: it is not to be written, and nothing
 * else is to be called.  From begin to end the coroutine is held, as by
 * pl_hold; forget gives the record up. */
int pl_log_begin(int level, const char *message, uint32_t bytes);
void pl_log_str(const char *key, uint32_t key_bytes, const char *text,
                uint32_t bytes);
void pl_log_num(const char *key, uint32_t key_bytes, double number);
void pl_log_bool(const char *key, uint32_t key_bytes, int truth);
void pl_log_end(void);
void pl_log_forget(void);

/* Spans (bind_span.c).  begin: what runs is in a span of that name, until end
 * with the token that it has returned.  message: why it has failed, cut at
 * PL_LIMIT_SPAN_VALUE_BYTES; bytes -1: it went well. */
uint32_t pl_span_begin(const char *name, uint32_t bytes);
void pl_span_end(uint32_t token, const char *message, int bytes);
/* An attribute of the innermost span that the running coroutine is in, or of its
 * request or task. */
void pl_span_str(const char *key, uint32_t key_bytes, const char *text,
                 uint32_t bytes);
void pl_span_num(const char *key, uint32_t key_bytes, double number);
void pl_span_bool(const char *key, uint32_t key_bytes, int truth);
/* The request, or the task, of what runs has failed. */
void pl_span_fail(const char *message, uint32_t bytes);
/* What runs is a task of that name which belongs to no request, or a run of a
 * timer, which ends by pl_span_task_end. */
void pl_span_task(const char *name, uint32_t bytes, int is_timer);
void pl_span_task_end(void);
/* The span that runs, and its parent, as pl_context_span_id; 0: none. */
uint32_t pl_span_id(char *out);
uint32_t pl_span_parent_id(char *out);

/* What all workers share (bind_shared.c).  None of these waits, but for a lock
 * that a process of ours holds for a microsecond.  Of the kind and the outcome
 * see fabric/dict.h; PL_DICT_LARGE stands for a string or table that found no
 * room. */
enum { PL_DICT_LARGE = 7 };

struct pl_dict;
struct pl_counter;

/* A dictionary as a VM uses it. */
struct pl_dict_ref {
  struct pl_dict *dict;
  uint64_t self; /* this process, as locks know it */
  uint32_t lane; /* where its hits are counted */
  const struct pl_clock *clock;
};

/* What was found.  All coroutines of a VM may use the same one: `token` tells
 * whether it still holds what a call has returned. */
struct pl_dict_result {
  uint32_t bytes;  /* of a string or table, never more than `room` */
  uint32_t wanted; /* of one that is larger */
  uint32_t room;   /* at `at`, a multiple of 8; of who made it */
  char *at;
  double number;
  int token;   /* what pl_dict_get has returned: serial * 8 + kind */
  int outcome; /* of pl_dict_incr, when its result is NaN */
};

struct pl_dict_figures {
  double capacity, bytes, entries, hits, misses, evictions, expired;
};

/* 0; PL_EINVAL (-20002): name or capacity; PL_EFULL (-20001): no memory left or
 * too many names; PL_ETIMEOUT (-20011); PL_ENOMEM (-20000). */
int pl_dict_open(struct pl_dict_ref *ref, const char *name, uint32_t bytes,
                 double capacity);
int pl_dict_get(const struct pl_dict_ref *ref, const char *key, uint32_t bytes,
                struct pl_dict_result *result);
/* ttl: seconds; 0: it does not expire.  An outcome. */
int pl_dict_set(const struct pl_dict_ref *ref, const char *key, uint32_t bytes,
                int mode, int kind, const char *text, uint32_t text_bytes,
                double number, double ttl);
int pl_dict_cas(const struct pl_dict_ref *ref, const char *key, uint32_t bytes,
                int old_kind, const char *old_text, uint32_t old_bytes,
                double old_number, int kind, const char *text,
                uint32_t text_bytes, double number, double ttl);
/* The sum; NaN with an outcome, which is 0 when that is the sum.  init: NaN for
 * none. */
double pl_dict_incr(const struct pl_dict_ref *ref, const char *key,
                    uint32_t bytes, double by, double init, double ttl,
                    struct pl_dict_result *result);
int pl_dict_delete(const struct pl_dict_ref *ref, const char *key,
                   uint32_t bytes);
/* As pl__dict_keys and pl__dict_clear. */
uint32_t pl_dict_keys(const struct pl_dict_ref *ref, uint32_t *cursor,
                      char *out, uint32_t room);
int pl_dict_clear(const struct pl_dict_ref *ref, uint32_t *cursor);
void pl_dict_stats(const struct pl_dict_ref *ref, struct pl_dict_figures *out);
/* Bytes that no dictionary has, and that there are for all. */
double pl_dict_memory(double *left);

/* NULL: see *error, as of pl_dict_open. */
struct pl_counter *pl_counter_open(const char *name, uint32_t bytes,
                                   int *error);
/* NaN: not a whole number up to 2^53. */
double pl_counter_add(struct pl_counter *c, double n);
double pl_counter_get(const struct pl_counter *c);
double pl_counter_set(struct pl_counter *c, double n);

/* Where the version of what is published lies: one load.  NULL: no memory. */
const uint32_t *pl_published_version(void);
/* The version, or a negative code: PL_EFULL, PL_ETIMEOUT. */
double pl_publish(const char *text, uint32_t bytes);
/* `out` has room for PL_LIMIT_PUBLISHED_BYTES, 262144.  Returns bytes. */
uint32_t pl_published_get(char *out, uint32_t *version);

/* What the compiler has done; written by perilune/traces.lua. */
struct pl_jit_counts {
  double traces;     /* compiled */
  double aborts;     /* given up while they were recorded */
  double flushes;    /* of all traces */
  double code_bytes; /* of those that there are */
};
struct pl_jit_counts *pl_jit_counts(void);
/* What was given up before is forgotten: the VM begins to serve. */
void pl_aborts_begin(void);
/* A trace was given up; texts as in struct pl_abort_note (fabric/aborts.h). */
void pl_aborts_note(const char *reason, uint32_t reason_bytes, const char *at,
                    uint32_t at_bytes, const char *from, uint32_t from_bytes,
                    uint32_t blacklisted);

/* P.metric. */
struct pl_meter;
/* Of the VM that runs; once.  NULL: no memory. */
struct pl_meter *pl_meter(void);
/* The family of that name, made if there is none.  kind: enum pl_metric_kind,
 * merge: enum pl_metric_merge.  0, or as pl__metrics_family. */
int pl_metric_open(struct pl_meter *m, const struct pl_slice *name,
                   const struct pl_slice *help, int kind, int merge,
                   uint32_t *family);
int pl_metric_is_label(const struct pl_slice *name);
/* The cell of a series; *is_own is 0 when it is counted with others. */
uint32_t pl_metric_series(struct pl_meter *m, uint32_t family,
                          const struct pl_slice *names,
                          const struct pl_slice *values, uint32_t count,
                          int *is_own);
/* Of a counter or a gauge. */
void pl_metric_add(struct pl_meter *m, uint32_t cell, double number);
/* Of a gauge. */
void pl_metric_set(struct pl_meter *m, uint32_t cell, double number);
/* What this process has counted. */
double pl_metric_get(const struct pl_meter *m, uint32_t cell);
/* Of a histogram; not NaN. */
void pl_metric_record(struct pl_meter *m, uint32_t cell, double number);
/* cdef: end */

#pragma GCC visibility pop

#endif /* PL_VM_FFI_H */
