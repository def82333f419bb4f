/* base/limits.h - every limit that is not a key of the configuration, and the
 * defaults of those that are.
 *
 * Nothing grows without a limit, and each limit has its name here or beside
 * the one thing it bounds.  Bytes, counts and times say which in their name.
 */
#ifndef PL_BASE_LIMITS_H
#define PL_BASE_LIMITS_H

/* Defaults of configuration keys (limits.*, timeouts.*). */
#define PL_LIMIT_TARGET_BYTES 8192u       /* request target; 414 */
#define PL_LIMIT_HEADERS_BYTES 32768u     /* all fields of a head; 431 */
#define PL_LIMIT_HEADER_COUNT 100u        /* fields of a head; 431 */
#define PL_LIMIT_BODY_BYTES 1048576u      /* request body; 413 */
#define PL_LIMIT_OUTPUT_BYTES 1048576u    /* unsent, per connection */
#define PL_LIMIT_CONNECTION_COUNT 10000u  /* per worker */
#define PL_LIMIT_TASKS_PER_REQUEST 100u   /* P.spawn */
#define PL_LIMIT_TASKS_PER_WORKER 10000u  /* likewise */
#define PL_LIMIT_VM_SOFT_BYTES 268435456u /* vm.memory_soft */
#define PL_LIMIT_VM_HARD_BYTES 536870912u /* vm.memory_hard */

/* What the configuration may ask for at most. */
#define PL_LIMIT_WORKER_COUNT 256u             /* workers */
#define PL_LIMIT_LISTENER_COUNT 64u            /* addresses in `listen` */
#define PL_LIMIT_CONNECTION_COUNT_MAX 1000000u /* limits.connections */

/* Memory of a connection and a request. */
#define PL_LIMIT_SLAB_BYTES 65536u    /* one receive buffer */
#define PL_LIMIT_ARENA_BYTES 1048576u /* what one request may take */
#define PL_LIMIT_EXTRA_BYTES 65536u   /* response fields set by handlers */
#define PL_LIMIT_QUERY_FIELDS 256u    /* fields of a query or a form */
#define PL_LIMIT_COOKIES 256u         /* cookies of a request */

/* What is known of a request beside its fields: http/trace_context.h. */
#define PL_LIMIT_TENANT_BYTES 64u      /* c.tenant */
#define PL_LIMIT_REQUEST_ID_BYTES 64u  /* of one that a trusted peer gives */
#define PL_LIMIT_TRACESTATE_BYTES 512u /* that is passed on; more is cut */
#define PL_LIMIT_TRACESTATE_MEMBERS 32u
#define PL_LIMIT_BAGGAGE_BYTES 8192u /* likewise */
#define PL_LIMIT_BAGGAGE_MEMBERS 64u

/* The fabric. */
#define PL_LIMIT_BUNDLE_BYTES (16u << 20) /* files of one generation */
#define PL_LIMIT_SECTION_COUNT 4096u      /* named sections */
#define PL_LIMIT_ROUTES_BYTES 262144u     /* section "routes" */

/* Metrics. */
#define PL_LIMIT_METRIC_SERIES 1000u /* metrics.series_max, of one metric */

/* What apps share. */
#define PL_LIMIT_SHARED_BYTES 67108864u    /* shared.memory: dictionaries */
#define PL_LIMIT_DICT_BYTES 8388608u       /* one that is asked for without */
#define PL_LIMIT_DICT_KEY_BYTES 1024u      /* P.shared.dict: a key */
#define PL_LIMIT_DICT_VALUE_BYTES 1048576u /* a value, tables as bytes */
#define PL_LIMIT_DICT_COUNT 64u            /* names of dictionaries */
#define PL_LIMIT_COUNTER_COUNT 1024u       /* names of counters */
#define PL_LIMIT_SHARED_NAME_BYTES 64u     /* of either, NUL included */
#define PL_LIMIT_PUBLISHED_BYTES 262144u   /* P.config.publish, as bytes */

/* Logs. */
#define PL_LIMIT_LOG_RING_BYTES 4194304u  /* a worker's ring, a power of 2 */
#define PL_LIMIT_LOG_RECORD_BYTES 32768u  /* one record in a ring */
#define PL_LIMIT_LOG_MESSAGE_BYTES 16384u /* its message; cut past it */
#define PL_LIMIT_LOG_VALUE_BYTES 4096u    /* a text field; cut past it */
#define PL_LIMIT_LOG_KEY_BYTES 128u       /* a field's name; cut past it */
#define PL_LIMIT_LOG_FIELD_COUNT 64u      /* fields of one record */
#define PL_LIMIT_LOG_TARGET_BYTES 1024u   /* target in an access record */
#define PL_LIMIT_LOG_SYSLOG_BYTES 8192u   /* one syslog message */
#define PL_LIMIT_OTLP_LOGS_BYTES                                               \
  4194304u /* records for a collector; power of 2 */
#define PL_LIMIT_LOG_BATCH_BYTES 65536u /* formatted before it is written */

/* Traces. */
#define PL_LIMIT_SPAN_RING_BYTES 2097152u   /* a worker's ring, a power of 2 */
#define PL_LIMIT_SPAN_BYTES 2944u           /* one span in a ring */
#define PL_LIMIT_SPAN_COUNT 64u             /* spans of one request, with it */
#define PL_LIMIT_SPAN_NAME_BYTES 128u       /* P.span; cut past it */
#define PL_LIMIT_SPAN_KEY_BYTES 64u         /* P.span_set; cut past it */
#define PL_LIMIT_SPAN_VALUE_BYTES 512u      /* a text; cut past it */
#define PL_LIMIT_SPAN_ATTRIBUTE_BYTES 1024u /* attributes of one span */

/* C stack that coroutines resumed inside each other may take: some 1,500 of
 * them. LuaJIT itself sets no limit, and one that is preempted has to be left
 * and entered again through all of them. */
#define PL_LIMIT_NESTING_BYTES (128u << 10)

#endif /* PL_BASE_LIMITS_H */
