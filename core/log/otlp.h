/* log/otlp.h - what all requests to an OpenTelemetry collector have in common:
 * who sends them, attributes, and what the answer says (OTLP 1, over HTTP, in
 * Protocol Buffers).
 *
 * A request is a message with one resource and one scope in it:
 *
 *     Export...Request { Resource... { resource, Scope... { scope, items } } }
 *
 * The numbers of these fields are the same for traces, metrics and logs.  What
 * the items are is told by otlp_logs.h, otlp_spans.h and otlp_metrics.h.
 *
 * Texts are made valid UTF-8: decoders refuse the whole request otherwise.
 */
#ifndef PL_LOG_OTLP_H
#define PL_LOG_OTLP_H

#include "log/protobuf.h"

#define PL_OTLP_REQUEST_BYTES (4u << 20) /* the largest that collectors take */
#define PL_OTLP_RESOURCE_BYTES 16384u    /* of an encoded resource */

/* Who sends. */
struct pl_otlp_identity {
  struct pl_slice service; /* as asked for; empty: `attributes`, then `name` */
  struct pl_slice name;    /* of the server */
  struct pl_slice
      attributes;          /* a=b,c=d with %XX, as OTEL_RESOURCE_ATTRIBUTES */
  struct pl_slice host;    /* empty: not told */
  struct pl_slice version; /* ours */
  uint64_t pid;            /* of the master */
};

/* Appends the Resource message.  Returns 0, PL_EBAD (attributes are no such
 * list), or what pl__buf_append returns. */
int pl__otlp_resource(const struct pl_otlp_identity *i, struct pl_buf *out);

/* A request in the making. */
struct pl_otlp {
  struct pl_pb pb;
  int failed; /* to begin: nothing can be added; or 0 */
  struct pl_pb_mark of_resource, of_scope;
};

/* Begins one behind what `out` has; `resource` as above.  What fails here, fails
 * all that follows. */
void pl__otlp_begin(struct pl_otlp *o, struct pl_buf *out,
                    struct pl_slice resource, struct pl_slice version);
/* Ends it; 0 or the first error. */
int pl__otlp_end(struct pl_otlp *o);

/* An item (field 2 of a scope) is written whole or not at all: what was written
 * since `bytes` of the buffer goes again. True: it is there. */
bool pl__otlp_keep(struct pl_otlp *o, uint32_t bytes);

/* A text as a field; `cut_bytes` that are missing at its end are told. */
void pl__otlp_text(struct pl_pb *p, uint32_t field, struct pl_slice text,
                   uint32_t cut_bytes);
/* An id of 8 or 16 bytes, the highest first. */
void pl__otlp_id(struct pl_pb *p, uint32_t field, uint64_t id);
void pl__otlp_trace_id(struct pl_pb *p, uint32_t field, const uint64_t id[2]);

/* A KeyValue as a field. */
void pl__otlp_str(struct pl_pb *p, uint32_t field, const char *key,
                  struct pl_slice value);
/* http.request.method, in the words of the conventions: "_OTHER" for one that
 * nobody knows. */
void pl__otlp_method(struct pl_pb *p, uint32_t field, unsigned method);
void pl__otlp_int(struct pl_pb *p, uint32_t field, const char *key,
                  int64_t value);
void pl__otlp_double(struct pl_pb *p, uint32_t field, const char *key,
                     double value);
void pl__otlp_bool(struct pl_pb *p, uint32_t field, const char *key,
                   bool value);
/* With a key that comes from elsewhere; numbers that are whole are ints. */
void pl__otlp_pair_str(struct pl_pb *p, uint32_t field, struct pl_slice key,
                       struct pl_slice value, uint32_t cut_bytes);
void pl__otlp_pair_num(struct pl_pb *p, uint32_t field, struct pl_slice key,
                       double value);
void pl__otlp_pair_bool(struct pl_pb *p, uint32_t field, struct pl_slice key,
                        bool value);
/* path and query of a request's target, as semantic conventions name them. */
void pl__otlp_target(struct pl_pb *p, uint32_t field, struct pl_slice target,
                     uint32_t cut_bytes);

/* What an answer to a request says of items that were not taken (partial
 * success); 0 and empty when all were.  `message` points into `body`.  Bytes that
 * make no sense say nothing. */
void pl__otlp_partial(struct pl_slice body, uint64_t *rejected,
                      struct pl_slice *message);

#endif /* PL_LOG_OTLP_H */
