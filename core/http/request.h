/* http/request.h - one request: what was parsed, where its body stands, how it
 * is being answered.
 *
 * A request lies at the start of its connection's slab; the bytes its slices
 * point to lie behind it in the same slab, or in its arena.  Everything is
 * valid while `serial` is unchanged: a slot is used again for later requests,
 * and whoever keeps a pointer longer than a callback compares serials.
 *
 * Lua handlers read these fields through FFI.  This header is the one source
 * of the layout: what lies between the cdef marks goes to ffi.cdef as it is,
 * and both halves compare sizes at start (vm/state.c, lua/perilune/ffi.lua).
 *
 * Knows no socket, no loop, no Lua.
 */
#ifndef PL_HTTP_REQUEST_H
#define PL_HTTP_REQUEST_H

#include "base/slice.h"

/* cdef: begin */
struct pl_buf;
struct pl_arena;
struct pl_http_env;

enum {
  PL_REQ_PARAMS_MAX = 16, /* parameters of one pattern */

  PL_TENANT_BYTES_MAX = 64,    /* PL_LIMIT_TENANT_BYTES */
  PL_CALLER_ID_BYTES_MAX = 64, /* PL_LIMIT_REQUEST_ID_BYTES */

  /* flags of a trace (W3C Trace Context 2, 3.2.2.5) */
  PL_TRACE_SAMPLED = 1, /* the caller may have recorded it */
  PL_TRACE_RANDOM = 2,  /* the lower 56 bits of its id are random */

  PL_TIER_NORMAL = 0, /* how much a request matters when not all can run */
  PL_TIER_HIGH = 1,
  PL_TIER_LOW = 2,

  /* passes */
  PL_PASSES_STATE = 1,   /* there is a tracestate to pass on */
  PL_PASSES_BAGGAGE = 2, /* and baggage */

  /* flags */
  PL_REQ_KEEP_ALIVE = 1,    /* the connection may serve another request */
  PL_REQ_CHUNKED = 2,       /* the body came with Transfer-Encoding: chunked */
  PL_REQ_EXPECT = 4,        /* 100 (Continue) is expected and not yet sent */
  PL_REQ_BODY_DONE = 8,     /* all of the body has been received */
  PL_REQ_ABORTED = 16,      /* the client is gone */
  PL_REQ_HEAD_SENT = 32,    /* the response head is in the output */
  PL_REQ_STREAMING = 64,    /* its body follows in pieces */
  PL_REQ_DONE = 128,        /* the whole response is in the output */
  PL_REQ_ASTERISK = 256,    /* target is "*" */
  PL_REQ_OUT_CHUNKED = 512, /* the response body is sent chunked */
  PL_REQ_CLOSE = 1024,      /* close once the response is out */
  PL_REQ_WAITED = 2048,     /* the handler has waited at least once */
  PL_REQ_OVERDUE = 4096,    /* its deadline was raised: what it says is late */
  PL_REQ_TOLD = 8192,       /* on_answer has run */

  /* extra_flags: which fields the handler has set itself */
  PL_EXTRA_TYPE = 1,
  PL_EXTRA_DATE = 2,
  PL_EXTRA_SERVER = 4
};

struct pl_header {
  struct pl_slice name;  /* as sent; any case */
  struct pl_slice value; /* without surrounding white space */
};

struct pl_param {
  struct pl_slice text; /* decoded segment(s) */
  double number;        /* the value of an <int>; 0 otherwise */
};

/* Whose work is done, and within what: of a request, or of a task that has
 * outlived its own.  Whole by itself: tracestate and baggage stay where they
 * came in, and `passes` tells that there are some. */
struct pl_context {
  uint64_t request_id;
  uint64_t trace_id[2]; /* high, low; both 0: none yet */
  uint64_t span_id;     /* of this work */
  uint64_t parent_id;   /* of the work that asked for it; 0: none did */
  uint8_t trace_flags;  /* PL_TRACE_* */
  uint8_t tier;         /* PL_TIER_* */
  uint8_t passes;       /* PL_PASSES_* */
  uint8_t passes_at;    /* no field before it is one of those, in the request */
  uint8_t tenant_bytes; /* 0: none */
  uint8_t caller_id_bytes;
  char tenant[64];
  char caller_id[64]; /* the request id, if a trusted peer has given another */
};

struct pl_req {
  double serial;         /* unique in its worker; 0 while the slot is free */
  double deadline;       /* monotonic seconds */
  double received;       /* monotonic seconds, when the head was complete */
  double content_length; /* bytes declared; -1 when none was */
  double body_received;  /* decoded body bytes so far */
  double body_max;       /* 413 past it */
  double sent_bytes;     /* response body bytes put into the output */
  double allow;          /* bit set of 1 << method: what the path allows */
  uint32_t slot;         /* index of the slot in its worker */
  uint32_t site;         /* which app of the VM it is for */
  uint32_t route;        /* what the router found */
  uint32_t flags;        /* PL_REQ_* */
  uint32_t task_count;   /* live tasks that belong to it */
  uint32_t header_count;
  uint32_t param_count;
  uint32_t query_count; /* fields in `queries` */
  uint32_t cookie_count;
  uint32_t extra_flags;   /* PL_EXTRA_* */
  uint16_t status;        /* of the response; 0 before */
  uint16_t body_status;   /* 0, or why the body cannot be read: 400 408 413 */
  uint8_t method;         /* enum pl_method */
  uint8_t http_minor;     /* HTTP/1.x */
  uint8_t listener;       /* index of the address it came in by */
  uint8_t parsed;         /* bits: 1 queries, 2 cookies have been split */
  struct pl_slice target; /* as sent */
  struct pl_slice path;   /* decoded, dot segments removed, begins with / */
  struct pl_slice query;  /* raw, without the ? */
  struct pl_slice host;   /* of the target if absolute, else of Host */
  struct pl_slice body;   /* decoded bytes received and not consumed */
  struct pl_header *headers; /* header_count of them, in order */
  struct pl_header *queries; /* made on first use, in the arena */
  struct pl_header *cookies; /* likewise */
  struct pl_buf *out;        /* the connection's output */
  struct pl_buf *extra;      /* response fields set by the handler, as lines */
  struct pl_arena *arena; /* for what the request makes; emptied at its end */
  const struct pl_http_env *env; /* date and server fields of the worker */
  void *conn;                    /* its connection, opaque here */
  struct pl_context context;
  struct pl_param params[16];
};
/* cdef: end */

/* Methods: the numbers are llhttp's, so that no table lies between. Those
 * that can be routed; CONNECT and the rest of llhttp's list cannot. */
#define PL_METHODS(X)                                                          \
  X(0, DELETE)                                                                 \
  X(1, GET)                                                                    \
  X(2, HEAD)                                                                   \
  X(3, POST) X(4, PUT) X(5, CONNECT) X(6, OPTIONS) X(7, TRACE) X(28, PATCH)

enum pl_method {
#define PL_METHOD_ENUM(number, name) PL_METHOD_##name = number,
  PL_METHODS(PL_METHOD_ENUM)
#undef PL_METHOD_ENUM
      PL_METHOD_COUNT = 46,
  PL_METHOD_UNKNOWN = PL_METHOD_COUNT /* the request line is not understood */
};

#endif /* PL_HTTP_REQUEST_H */
