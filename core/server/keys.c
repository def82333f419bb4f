/* server/keys.c - the table of configuration keys, and text to value by it. */
#include "server/keys.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/networks.h"
#include "base/pairs.h"
#include "base/text.h"
#include "http/headers.h"
#include "log/format.h"
#include "log/syslog.h"
#include "server/config.h"
#include "server/endpoint.h"

#define KEY_SECONDS_MAX 86400.0          /* a day */
#define KEY_BYTES_MAX (64.0 * (1 << 30)) /* 64G */

/* offset and room of a field, for the rows below. */
#define AT(field) offsetof(struct pl_config, field)
#define ROOM(field) sizeof(((struct pl_config *)0)->field)

#define DURATION(name, env, field, fallback, min, doc)                         \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_DURATION, AT(field), 0, fallback, min, \
        KEY_SECONDS_MAX, NULL, doc                                             \
  }
#define SIZE(name, env, field, fallback, min, max, doc)                        \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_SIZE, AT(field), 0, fallback, min,     \
        max, NULL, doc                                                         \
  }
#define INTEGER(name, env, field, fallback, min, max, doc)                     \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_INTEGER, AT(field), 0, fallback, min,  \
        max, NULL, doc                                                         \
  }
#define STRING(name, env, field, fallback, min, doc)                           \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_STRING, AT(field), ROOM(field),        \
        fallback, min, (double)(ROOM(field) - 1), NULL, doc                    \
  }
#define PATH(name, env, field, fallback, min, doc)                             \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_PATH, AT(field), ROOM(field),          \
        fallback, min, (double)(ROOM(field) - 1), NULL, doc                    \
  }
#define SECRET(name, env, field, doc)                                          \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_SECRET, AT(field), ROOM(field), "", 0, \
        (double)(ROOM(field) - 1), NULL, doc                                   \
  }
#define WORDS(name, env, field, fallback, choices, doc)                        \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_ENUM, AT(field), 0, fallback, 0, 0,    \
        choices, doc                                                           \
  }
#define NAMES(name, env, field, fallback, choices, doc)                        \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, PL_KEY_NAMES, AT(field), 0, fallback, 0, 0,   \
        choices, doc                                                           \
  }
#define TEXT(name, env, type, field, fallback, doc)                            \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, type, AT(field), ROOM(field), fallback, 0,    \
        (double)(ROOM(field) - 1), NULL, doc                                   \
  }
#define OTHER(name, env, type, field, fallback, min, max, doc)                 \
  {                                                                            \
    name, PL_KEY_ENV_PREFIX env, type, AT(field), 0, fallback, min, max, NULL, \
        doc                                                                    \
  }

const struct pl_key pl__keys[] = {
    OTHER("listen", "LISTEN", PL_KEY_ADDRESSES, listen, "127.0.0.1:8080", 1,
          PL_CONFIG_LISTEN_MAX, "addresses to serve on"),
    OTHER("workers", "WORKERS", PL_KEY_WORKERS, workers, "auto", 1, 256,
          "worker processes; auto is what the machine really gives"),
    INTEGER("workers_max", "WORKERS_MAX", workers_max, "0", 0,
            PL_LIMIT_WORKER_COUNT,
            "workers that there is room for; 0: what workers, CPUs and "
            "actions.workers_max ask for"),
    STRING("name", "NAME", name, "", 0,
           "name of the server; without one that of the app's folder"),
    PATH("pid_file", "PID_FILE", pid_file, "", 0,
         "place of the pid file; without one it follows from the name"),

    STRING("user", "USER", user, "", 0,
           "user that all processes run as once the sockets are bound"),
    STRING("group", "GROUP", group, "", 0,
           "group that they run as; without one that of the user"),

    DURATION("timeouts.header", "TIMEOUTS_HEADER", timeout_header_s, "10s",
             0.001, "time for a request's head to arrive, then 408"),
    DURATION("timeouts.body", "TIMEOUTS_BODY", timeout_body_s, "30s", 0.001,
             "time between two pieces of a body, then 408"),
    DURATION("timeouts.idle", "TIMEOUTS_IDLE", timeout_idle_s, "60s", 0.001,
             "time a connection may wait for its next request"),
    DURATION("timeouts.write", "TIMEOUTS_WRITE", timeout_write_s, "30s", 0.001,
             "time a client may read nothing of its response"),
    DURATION("timeouts.handler", "TIMEOUTS_HANDLER", timeout_handler_s, "30s",
             0.001, "deadline of a request, then 503"),
    DURATION("timeouts.drain", "TIMEOUTS_DRAIN", timeout_drain_s, "30s", 0,
             "time that running requests get when the server stops"),
    DURATION("timeouts.pre_drain", "TIMEOUTS_PRE_DRAIN", timeout_pre_drain_s,
             "0s", 0, "time of still serving, not ready, before the drain"),

    SIZE("limits.output", "LIMITS_OUTPUT", limit_output_bytes, "1M", 16384,
         1 << 30, "bytes of a connection that wait to be sent"),
    SIZE("limits.target", "LIMITS_TARGET", limit_target_bytes, "8K", 16, 65536,
         "longest request target, else 414"),
    SIZE("limits.headers", "LIMITS_HEADERS", limit_headers_bytes, "32K", 64,
         262144, "all header fields of a request, else 431"),
    INTEGER("limits.header_count", "LIMITS_HEADER_COUNT", limit_header_count,
            "100", 1, 1000, "header fields of a request, else 431"),
    SIZE("limits.body", "LIMITS_BODY", limit_body_bytes, "1M", 0, KEY_BYTES_MAX,
         "request body, else 413"),
    INTEGER("limits.connections", "LIMITS_CONNECTIONS", limit_connections,
            "10000", 1, 1000000, "connections of a worker"),
    INTEGER("limits.requests_per_connection", "LIMITS_REQUESTS_PER_CONNECTION",
            limit_requests_per_connection, "0", 0, 4294967295.0,
            "requests before a connection is closed; 0 for no limit"),
    INTEGER("limits.tasks", "LIMITS_TASKS", limit_tasks, "100", 0, 1000000,
            "live tasks of a request"),
    INTEGER("limits.tasks_per_worker", "LIMITS_TASKS_PER_WORKER",
            limit_tasks_per_worker, "10000", 0, 1000000,
            "live tasks of a worker"),

    WORDS("vm.preempt", "VM_PREEMPT", vm_preempt, "line", "line off",
          "how finely compiled code can be preempted"),
    DURATION("vm.slice", "VM_SLICE", vm_slice_s, "10ms", 0.001,
             "time a handler computes before others get a turn"),
    DURATION("vm.load_timeout", "VM_LOAD_TIMEOUT", vm_load_timeout_s, "10s",
             0.001, "time the app, or the configuration, may take to load"),
    SIZE("vm.memory_soft", "VM_MEMORY_SOFT", vm_memory_soft_bytes, "256M",
         4 << 20, KEY_BYTES_MAX, "Lua memory above which a handler is failed"),
    SIZE("vm.heap_sample", "VM_HEAP_SAMPLE", vm_heap_sample_bytes, "512K", 0,
         1 << 30, "mean bytes between two samples of allocations; 0: none"),
    SIZE("vm.memory_hard", "VM_MEMORY_HARD", vm_memory_hard_bytes, "512M",
         8 << 20, KEY_BYTES_MAX, "Lua memory that is never exceeded"),
    DURATION("vm.stuck_timeout", "VM_STUCK_TIMEOUT", vm_stuck_timeout_s, "10s",
             0.1, "silence after which a worker is replaced"),
    DURATION("vm.quarantine", "VM_QUARANTINE", vm_quarantine_s, "30s", 0,
             "time a route that keeps crashing workers is refused"),

    DURATION("leaks.collect", "LEAKS_COLLECT", leaks_collect_s, "1m", 0.01,
             "time after which garbage is collected at the latest, to find "
             "coroutines that nobody can wake"),
    DURATION("leaks.after", "LEAKS_AFTER", leaks_after_s, "5m", 0.01,
             "time a coroutine must have waited to be suspected of leaking"),
    DURATION("leaks.window", "LEAKS_WINDOW", leaks_window_s, "1m", 0.01,
             "time between two counts of such; three that grow are suspicious"),

    SIZE("shared.memory", "SHARED_MEMORY", shared_memory_bytes, "64M", 1 << 20,
         KEY_BYTES_MAX, "memory of all dictionaries that workers share"),

    INTEGER("metrics.series_max", "METRICS_SERIES_MAX", metrics_series_max,
            "1000", 1, 10000, "series of one metric; past it they are one"),

    WORDS("log.level", "LOG_LEVEL", log_level, "info", "debug info warn error",
          "least level that is written"),
    WORDS("log.format", "LOG_FORMAT", log_format, "auto", "auto console json",
          "auto is console on a terminal, else json"),
    OTHER("log.access", "LOG_ACCESS", PL_KEY_BOOL, log_access, "true", 0, 0,
          "whether each request is logged"),
    OTHER("log.access_sample", "LOG_ACCESS_SAMPLE", PL_KEY_SHARE,
          log_access_sample, "1", 0, 1,
          "share of requests that are logged; failed ones always are"),
    NAMES("log.access_fields", "LOG_ACCESS_FIELDS", log_access_fields, "all",
          PL_ACCESS_FIELD_NAMES,
          "what a JSON line about a request has beside time, level and msg"),
    INTEGER("log.sample_first", "LOG_SAMPLE_FIRST", log_sample_first, "0", 0,
            4294967295.0,
            "records of one message that are written in a second; 0 for all"),
    INTEGER("log.sample_then", "LOG_SAMPLE_THEN", log_sample_then, "100", 0,
            4294967295.0,
            "behind these every so-manieth is written; 0 for none"),
    PATH("log.output", "LOG_OUTPUT", log_output, "stdout", 1,
         "stdout, stderr, the path of a file, syslog or syslog:..."),
    SIZE("log.rotate_size", "LOG_ROTATE_SIZE", log_rotate_bytes, "0", 0,
         KEY_BYTES_MAX, "largest log file, then a new one is begun; 0: any"),
    INTEGER("log.rotate_keep", "LOG_ROTATE_KEEP", log_rotate_keep, "5", 1, 1000,
            "old log files that are kept, FILE.1 is the newest"),
    WORDS("log.syslog_facility", "LOG_SYSLOG_FACILITY", log_syslog_facility,
          "daemon", PL_SYSLOG_FACILITIES, "what syslog takes records for"),

    OTHER(
        "recorder.on", "RECORDER_ON", PL_KEY_BOOL, recorder_on, "true", 0, 0,
        "whether workers record what they do, for traces of the last moments"),
    PATH("recorder.folder", "RECORDER_FOLDER", recorder_folder, "", 0,
         "where records are written; else $STATE_DIRECTORY, or in /tmp"),
    INTEGER("recorder.keep", "RECORDER_KEEP", recorder_keep, "10", 1, 1000,
            "records that are kept there, the newest ones"),
    INTEGER("recorder.storm", "RECORDER_STORM", recorder_storm, "50", 0,
            1000000,
            "missed deadlines in 10 s that one is written for; 0: any"),

    OTHER("actions.on", "ACTIONS_ON", PL_KEY_BOOL, actions_on, "true", 0, 0,
          "whether rules are kept"),
    DURATION("actions.p99", "ACTIONS_P99", actions_p99_s, "150ms", 0,
             "latency (P99) that a worker more is started for; 0: none"),
    SIZE("actions.allocation", "ACTIONS_ALLOCATION", actions_allocation_bytes,
         "1G", 0, KEY_BYTES_MAX,
         "Lua memory allocated per second for a heap profile; 0: none"),
    INTEGER("actions.workers_max", "ACTIONS_WORKERS_MAX", actions_workers_max,
            "0", 0, PL_LIMIT_WORKER_COUNT,
            "workers that rules go up to; 0: one per CPU"),
    OTHER("actions.stuck", "ACTIONS_STUCK", PL_KEY_BOOL, actions_stuck, "true",
          0, 0, "whether a record is written of a worker that is stuck"),

    TEXT("context.trusted", "CONTEXT_TRUSTED", PL_KEY_NETWORKS, context_trusted,
         "", "peers whose word counts for request id, tenant and tier"),
    WORDS("context.trace_from", "CONTEXT_TRACE_FROM", context_trace_from, "all",
          "all trusted", "whose traceparent, tracestate and baggage count"),
    TEXT("context.request_id_header", "CONTEXT_REQUEST_ID_HEADER", PL_KEY_FIELD,
         context_request_id_header, "X-Request-Id",
         "header with the request id; empty for none"),
    OTHER("context.reply_request_id", "CONTEXT_REPLY_REQUEST_ID", PL_KEY_BOOL,
          context_reply_request_id, "false", 0, 0,
          "whether responses have that header too"),
    TEXT("context.tenant_header", "CONTEXT_TENANT_HEADER", PL_KEY_FIELD,
         context_tenant_header, "X-Tenant",
         "header with the tenant; empty for none"),
    TEXT("context.tier_header", "CONTEXT_TIER_HEADER", PL_KEY_FIELD,
         context_tier_header, "X-Tier",
         "header with the tier: high, normal or low; empty for none"),

    OTHER("trace.sample", "TRACE_SAMPLE", PL_KEY_SHARE, trace_sample, "0.01", 0,
          1, "share of traces that are kept; failed and slow ones always are"),
    INTEGER("trace.slow_factor", "TRACE_SLOW_FACTOR", trace_slow_factor, "2", 0,
            1000, "so many times the P99 of its route is slow; 0: nothing is"),
    DURATION("trace.slow_min", "TRACE_SLOW_MIN", trace_slow_min_s, "1ms", 0,
             "what takes less is never slow"),
    OTHER("trace.anomaly_errors", "TRACE_ANOMALY_ERRORS", PL_KEY_SHARE,
          trace_anomaly_errors, "0.05", 0, 1,
          "share of failed requests past which all traces are kept; 0: none"),
    DURATION("trace.anomaly_p99", "TRACE_ANOMALY_P99", trace_anomaly_p99_s,
             "1s", 0, "P99 of all requests past which they are; 0: none"),
    DURATION("trace.anomaly_hold", "TRACE_ANOMALY_HOLD", trace_anomaly_hold_s,
             "60s", 1, "time they are kept for, then half as many, and so on"),
    INTEGER("trace.anomaly_per_second", "TRACE_ANOMALY_PER_SECOND",
            trace_anomaly_per_second, "200", 1, 100000,
            "traces that are kept in a second for that, by all workers"),
    INTEGER("trace.wished_per_second", "TRACE_WISHED_PER_SECOND",
            trace_wished_per_second, "1000", 0, 1000000,
            "traces of callers' that are sampled in a second at most"),

    OTHER("generation_header", "GENERATION_HEADER", PL_KEY_BOOL,
          generation_header, "true", 0, 0,
          "whether responses say which generation of the app has made them"),

    TEXT("otlp.endpoint", "OTLP_ENDPOINT", PL_KEY_ENDPOINT, otlp_endpoint, "",
         "OpenTelemetry collector, http://host:4318; empty: nothing is sent"),
    TEXT("otlp.traces_endpoint", "OTLP_TRACES_ENDPOINT", PL_KEY_ENDPOINT,
         otlp_traces_endpoint, "", "where traces go instead, with the path"),
    TEXT("otlp.metrics_endpoint", "OTLP_METRICS_ENDPOINT", PL_KEY_ENDPOINT,
         otlp_metrics_endpoint, "", "where metrics go instead, with the path"),
    TEXT("otlp.logs_endpoint", "OTLP_LOGS_ENDPOINT", PL_KEY_ENDPOINT,
         otlp_logs_endpoint, "", "where logs go instead, with the path"),
    OTHER("otlp.traces", "OTLP_TRACES", PL_KEY_BOOL, otlp_on[PL_SIGNAL_TRACES],
          "true", 0, 0, "whether traces are sent"),
    OTHER("otlp.metrics", "OTLP_METRICS", PL_KEY_BOOL,
          otlp_on[PL_SIGNAL_METRICS], "true", 0, 0, "whether metrics are sent"),
    OTHER("otlp.logs", "OTLP_LOGS", PL_KEY_BOOL, otlp_on[PL_SIGNAL_LOGS],
          "true", 0, 0, "whether logs are sent"),
    TEXT("otlp.headers", "OTLP_HEADERS", PL_KEY_FIELDS, otlp_headers, "",
         "header fields of each request, such as api-key=..."),
    WORDS("otlp.compression", "OTLP_COMPRESSION", otlp_compression, "none",
          "none gzip", "how requests are compressed"),
    DURATION("otlp.timeout", "OTLP_TIMEOUT", otlp_timeout_s, "10s", 0.01,
             "time for a request to the collector and its answer"),
    TEXT("otlp.traces_headers", "OTLP_TRACES_HEADERS", PL_KEY_FIELDS,
         otlp_headers_of[PL_SIGNAL_TRACES], "",
         "those of traces instead of otlp.headers"),
    WORDS("otlp.traces_compression", "OTLP_TRACES_COMPRESSION",
          otlp_compression_of[PL_SIGNAL_TRACES], "same", "same none gzip",
          "how traces are compressed; same: as otlp.compression says"),
    DURATION("otlp.traces_timeout", "OTLP_TRACES_TIMEOUT",
             otlp_timeout_of_s[PL_SIGNAL_TRACES], "0s", 0,
             "that of traces; 0: as otlp.timeout"),
    TEXT("otlp.metrics_headers", "OTLP_METRICS_HEADERS", PL_KEY_FIELDS,
         otlp_headers_of[PL_SIGNAL_METRICS], "",
         "those of metrics instead of otlp.headers"),
    WORDS("otlp.metrics_compression", "OTLP_METRICS_COMPRESSION",
          otlp_compression_of[PL_SIGNAL_METRICS], "same", "same none gzip",
          "how metrics are compressed; same: as otlp.compression says"),
    DURATION("otlp.metrics_timeout", "OTLP_METRICS_TIMEOUT",
             otlp_timeout_of_s[PL_SIGNAL_METRICS], "0s", 0,
             "that of metrics; 0: as otlp.timeout"),
    TEXT("otlp.logs_headers", "OTLP_LOGS_HEADERS", PL_KEY_FIELDS,
         otlp_headers_of[PL_SIGNAL_LOGS], "",
         "those of logs instead of otlp.headers"),
    WORDS("otlp.logs_compression", "OTLP_LOGS_COMPRESSION",
          otlp_compression_of[PL_SIGNAL_LOGS], "same", "same none gzip",
          "how logs are compressed; same: as otlp.compression says"),
    DURATION("otlp.logs_timeout", "OTLP_LOGS_TIMEOUT",
             otlp_timeout_of_s[PL_SIGNAL_LOGS], "0s", 0,
             "that of logs; 0: as otlp.timeout"),
    TEXT("otlp.service", "OTLP_SERVICE", PL_KEY_STRING, otlp_service, "",
         "service.name; without one that of otlp.resource, or the name"),
    TEXT("otlp.resource", "OTLP_RESOURCE", PL_KEY_PAIRS, otlp_resource, "",
         "attributes of all that is sent, such as deployment.environment=x"),
    INTEGER("otlp.queue", "OTLP_QUEUE", otlp_queue, "2048", 1, 1000000,
            "spans that wait for the collector"),
    INTEGER("otlp.batch", "OTLP_BATCH", otlp_batch, "512", 1, 100000,
            "spans or log records of one request"),
    DURATION("otlp.delay", "OTLP_DELAY", otlp_delay_s, "5s", 0.01,
             "time that spans and log records wait for others"),
    DURATION("otlp.export_timeout", "OTLP_EXPORT_TIMEOUT",
             otlp_export_timeout_s, "30s", 0.01,
             "time for a batch of spans, if shorter than otlp.timeout"),
    DURATION("otlp.metrics_interval", "OTLP_METRICS_INTERVAL",
             otlp_metrics_interval_s, "60s", 0.1,
             "time between two of metrics"),

    OTHER("admin.listen", "ADMIN_LISTEN", PL_KEY_ADDRESS, admin_listen, "off",
          0, 0, "address of the admin plane, never the public one"),
    SECRET(
        "admin.token", "ADMIN_TOKEN", admin_token,
        "what its clients send as a bearer token; needed unless it is local"),
};
const uint32_t pl__key_count = sizeof(pl__keys) / sizeof(pl__keys[0]);

_Static_assert(sizeof(pl__keys) / sizeof(pl__keys[0]) <= PL_CONFIG_KEYS_MAX,
               "struct pl_config has an origin for every key");

const struct pl_key *pl__key_find(const char *name, size_t bytes) {
  for (uint32_t i = 0; i < pl__key_count; i++)
    if (strlen(pl__keys[i].name) == bytes &&
        memcmp(pl__keys[i].name, name, bytes) == 0)
      return &pl__keys[i];
  return NULL;
}

const struct pl_key *pl__key_find_env(const char *name, size_t bytes) {
  for (uint32_t i = 0; i < pl__key_count; i++)
    if (strlen(pl__keys[i].env) == bytes &&
        memcmp(pl__keys[i].env, name, bytes) == 0)
      return &pl__keys[i];
  return NULL;
}

/* Edits (insert, delete, replace, swap of neighbours) between two words; words
 * too long for the rows count as far apart. */
static uint32_t word_distance(const char *a, const char *b) {
  uint32_t rows[3][PL_KEY_NAME_BYTES + 1];
  size_t a_bytes = strlen(a), b_bytes = strlen(b);

  if (a_bytes > PL_KEY_NAME_BYTES || b_bytes > PL_KEY_NAME_BYTES)
    return UINT32_MAX;
  for (uint32_t j = 0; j <= b_bytes; j++)
    rows[0][j] = j;
  for (uint32_t i = 1; i <= a_bytes; i++) {
    uint32_t *row = rows[i % 3], *above = rows[(i + 2) % 3];
    const uint32_t *two_above = rows[(i + 1) % 3];

    row[0] = i;
    for (uint32_t j = 1; j <= b_bytes; j++) {
      uint32_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
      if (above[j] + 1 < best)
        best = above[j] + 1;
      if (row[j - 1] + 1 < best)
        best = row[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
          two_above[j - 2] + 1 < best)
        best = two_above[j - 2] + 1;
      row[j] = best;
    }
  }
  return rows[a_bytes % 3][b_bytes];
}

const char *pl__word_near(const char *word, const char *const *words,
                          size_t count) {
  uint32_t near = strlen(word) <= 3 ? 1 : 2;
  const char *found = NULL;

  for (size_t i = 0; i < count; i++) {
    uint32_t distance = word_distance(word, words[i]);
    if (distance <= near && (!found || distance < near)) {
      found = words[i];
      near = distance;
    }
  }
  return found;
}

static const char *last_part(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot ? dot + 1 : name;
}

bool pl__key_is_section(const char *name) {
  size_t bytes = strlen(name);

  for (uint32_t i = 0; i < pl__key_count; i++)
    if (strncmp(pl__keys[i].name, name, bytes) == 0 &&
        pl__keys[i].name[bytes] == '.')
      return true;
  return false;
}

const char *pl__key_near(const char *name) {
  const char *words[PL_CONFIG_KEYS_MAX + 1];
  const char *near;

  for (uint32_t i = 0; i < pl__key_count; i++)
    words[i] = pl__keys[i].name;
  words[pl__key_count] = "settings";
  near = pl__word_near(name, words, pl__key_count + 1);
  if (near)
    return near;

  /* `timeout` for `timeouts.handler` is beyond help, but the right last part
   * under a wrong or missing first one (`body_max`, `memory_soft`) is not. */
  for (uint32_t i = 0; i < pl__key_count; i++)
    words[i] = last_part(pl__keys[i].name);
  near = pl__word_near(last_part(name), words, pl__key_count);
  for (uint32_t i = 0; near && i < pl__key_count; i++)
    if (words[i] == near)
      return pl__keys[i].name;
  return NULL;
}

static bool in_range(const struct pl_key *key, double value) {
  return value >= key->min && value <= key->max;
}

static int integer_parse(const char *text, uint64_t *out) {
  return pl__text_number(pl__slice_text(text), UINT32_MAX, out);
}

static int bool_parse(const char *text, bool *out) {
  static const char *const yes[] = {"true", "on", "yes", "1"};
  static const char *const no[] = {"false", "off", "no", "0"};

  for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
    if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
      *out = strcmp(text, yes[i]) == 0;
      return 0;
    }
  }
  return PL_EINVAL;
}

/* Index of `text` among words with one space between; -1 if it is not there. */
static int choice_index(const char *choices, const char *text) {
  size_t bytes = strlen(text);
  int index = 0;

  while (bytes) {
    size_t word = strcspn(choices, " ");
    if (word == bytes && memcmp(choices, text, bytes) == 0)
      return index;
    if (choices[word] == '\0')
      break;
    choices += word + 1;
    index++;
  }
  return -1;
}

/* Bits by the index of each name, of names with commas between. */
static int names_parse(const char *choices, const char *text, uint32_t *out) {
  char name[PL_KEY_NAME_BYTES];
  uint32_t bits = 0;

  if (strcmp(text, "all") == 0) {
    *out = PL_KEY_NAMES_ALL;
    return 0;
  }
  for (;;) {
    size_t bytes;
    int index;

    text += strspn(text, " ");
    bytes = strcspn(text, ", ");
    if (bytes == 0 || bytes >= sizeof(name))
      return PL_EINVAL;
    memcpy(name, text, bytes);
    name[bytes] = '\0';
    index = choice_index(choices, name);
    if (index < 0)
      return PL_EINVAL;
    bits |= 1u << index;
    text += bytes;
    text += strspn(text, " ");
    if (*text == '\0')
      break;
    if (*text++ != ',')
      return PL_EINVAL;
  }
  *out = bits;
  return 0;
}

static int addresses_set(const char *text, struct pl_config *c) {
  struct pl_address list[PL_CONFIG_LISTEN_MAX];
  char one[PL_ADDRESS_TEXT_BYTES];
  uint32_t count = 0;

  for (;;) {
    size_t bytes = strcspn(text, ",");
    size_t next = bytes;

    while (bytes && text[0] == ' ') {
      text++;
      bytes--;
      next--;
    }
    while (bytes && text[bytes - 1] == ' ')
      bytes--;
    if (count == PL_CONFIG_LISTEN_MAX || bytes >= sizeof(one))
      return PL_EINVAL;
    memcpy(one, text, bytes);
    one[bytes] = '\0';
    if (pl__address_parse(one, &list[count]))
      return PL_EINVAL;
    count++;
    if (text[next] == '\0')
      break;
    text += next + 1;
  }
  memcpy(c->listen, list, count * sizeof(list[0]));
  c->listen_count = count;
  return 0;
}

static int workers_set(const struct pl_key *key, const char *text,
                       struct pl_config *c) {
  uint64_t count = 0;
  bool is_auto = strcmp(text, "auto") == 0;

  if (!is_auto &&
      (integer_parse(text, &count) || !in_range(key, (double)count)))
    return PL_EINVAL;
  c->workers = (uint32_t)count;
  c->workers_auto = is_auto;
  return 0;
}

static int address_set(const char *text, struct pl_config *c) {
  if (strcmp(text, "off") == 0 || strcmp(text, "false") == 0) {
    c->admin_on = false;
    return 0;
  }
  if (pl__address_parse(text, &c->admin_listen))
    return PL_EINVAL;
  c->admin_on = true;
  return 0;
}

static bool are_pairs(const char *text, bool are_fields) {
  struct pl_slice list = pl__slice_text(text), name, value;
  char room[PL_PAIRS_VALUE_BYTES];
  int more;

  while ((more = pl__pairs_take(&list, &name, &value, room)) == 1)
    if (are_fields &&
        (!pl__field_name_is_valid(name) || !pl__field_value_is_valid(value)))
      return false;
  return more == 0;
}

/* A text whose form is looked at. */
static bool form_is_valid(const struct pl_key *key, const char *text) {
  switch (key->type) {
  case PL_KEY_NETWORKS:
    return pl__networks_parse(&(struct pl_networks){0}, text) == 0;
  case PL_KEY_FIELD:
    return !*text || pl__field_name_is_valid(pl__slice_text(text));
  case PL_KEY_ENDPOINT:
    return !*text || pl__endpoint_parse(text, "", NULL) == 0;
  default:
    return are_pairs(text, key->type == PL_KEY_FIELDS);
  }
}

static int form_set(const struct pl_key *key, const char *text, void *field) {
  size_t bytes = strlen(text);

  if (!in_range(key, (double)bytes) || !form_is_valid(key, text))
    return PL_EINVAL;
  memcpy(field, text, bytes + 1);
  return 0;
}

int pl__key_set(const struct pl_key *key, const char *text,
                struct pl_config *c) {
  void *field = (char *)c + key->offset;
  double seconds, share;
  uint64_t number;
  uint32_t bits;
  size_t bytes;
  int index;

  switch (key->type) {
  case PL_KEY_DURATION:
    if (pl__text_seconds(pl__slice_text(text), &seconds) ||
        !in_range(key, seconds))
      return PL_EINVAL;
    memcpy(field, &seconds, sizeof(seconds));
    return 0;
  case PL_KEY_SHARE:
    if (pl__text_share(pl__slice_text(text), &share))
      return PL_EINVAL;
    memcpy(field, &share, sizeof(share));
    return 0;
  case PL_KEY_NAMES:
    if (names_parse(key->choices, text, &bits))
      return PL_EINVAL;
    memcpy(field, &bits, sizeof(bits));
    return 0;
  case PL_KEY_SIZE:
    if (pl__text_bytes(pl__slice_text(text), &number) ||
        !in_range(key, (double)number))
      return PL_EINVAL;
    memcpy(field, &number, sizeof(number));
    return 0;
  case PL_KEY_INTEGER:
    if (integer_parse(text, &number) || !in_range(key, (double)number))
      return PL_EINVAL;
    memcpy(field, &number, sizeof(number));
    return 0;
  case PL_KEY_STRING:
  case PL_KEY_PATH:
  case PL_KEY_SECRET:
    bytes = strlen(text);
    if (!in_range(key, (double)bytes))
      return PL_EINVAL;
    memcpy(field, text, bytes + 1);
    return 0;
  case PL_KEY_NETWORKS:
  case PL_KEY_FIELD:
  case PL_KEY_ENDPOINT:
  case PL_KEY_PAIRS:
  case PL_KEY_FIELDS:
    return form_set(key, text, field);
  case PL_KEY_BOOL:
    return bool_parse(text, field);
  case PL_KEY_ENUM:
    index = choice_index(key->choices, text);
    if (index < 0)
      return PL_EINVAL;
    memcpy(field, &(uint32_t){(uint32_t)index}, sizeof(uint32_t));
    return 0;
  case PL_KEY_WORKERS:
    return workers_set(key, text, c);
  case PL_KEY_ADDRESSES:
    return addresses_set(text, c);
  case PL_KEY_ADDRESS:
    return address_set(text, c);
  }
  return PL_EINVAL;
}

void pl__key_format_duration(double seconds, char *out, size_t bytes) {
  if (seconds > 0 && seconds < 1)
    snprintf(out, bytes, "%.10gms", seconds * 1000);
  else if (seconds >= 120 && fmod(seconds, 60) == 0)
    snprintf(out, bytes, "%.0fm", seconds / 60);
  else
    snprintf(out, bytes, "%.10gs", seconds);
}

void pl__key_format_share(double share, char *out, size_t bytes) {
  size_t used = (size_t)snprintf(out, bytes, "%.10f", share);

  while (used > 0 && used < bytes && out[used - 1] == '0')
    out[--used] = '\0';
  if (used > 0 && used < bytes &&
      (out[used - 1] == '.' || out[used - 1] == ','))
    out[--used] = '\0';
}

void pl__key_format_names(const char *choices, uint32_t bits, char *out,
                          size_t bytes) {
  size_t used = 0;

  out[0] = '\0';
  if (bits == PL_KEY_NAMES_ALL) {
    snprintf(out, bytes, "all");
    return;
  }
  for (; *choices && used < bytes; bits >>= 1) {
    size_t word = strcspn(choices, " ");
    if (bits & 1)
      used += (size_t)snprintf(out + used, bytes - used, "%s%.*s",
                               used ? "," : "", (int)word, choices);
    choices += word + (choices[word] == ' ');
  }
}

void pl__key_format_size(uint64_t size, char *out, size_t bytes) {
  static const struct {
    uint32_t shift;
    char letter;
  } units[] = {{30, 'G'}, {20, 'M'}, {10, 'K'}};

  for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
    if (size && size % (1ull << units[i].shift) == 0) {
      snprintf(out, bytes, "%" PRIu64 "%c", size >> units[i].shift,
               units[i].letter);
      return;
    }
  }
  snprintf(out, bytes, "%" PRIu64, size);
}

/* "a, b or c" of words with one space between. */
static void choices_format(const char *choices, char *out, size_t bytes) {
  size_t used = 0;

  while (*choices && used < bytes) {
    size_t word = strcspn(choices, " ");
    const char *rest = choices + word + (choices[word] == ' ');
    const char *between = "";

    if (*rest)
      between = strchr(rest, ' ') ? ", " : " or ";
    used += (size_t)snprintf(out + used, bytes - used, "%.*s%s", (int)word,
                             choices, between);
    choices = rest;
  }
}

void pl__key_expected(const struct pl_key *key, char *out, size_t bytes) {
  char low[32], high[32];

  switch (key->type) {
  case PL_KEY_DURATION:
    pl__key_format_duration(key->min, low, sizeof(low));
    pl__key_format_duration(key->max, high, sizeof(high));
    snprintf(out, bytes, "a duration from %s to %s, such as 250ms, 5s or 1m",
             low, high);
    return;
  case PL_KEY_SIZE:
    pl__key_format_size((uint64_t)key->min, low, sizeof(low));
    pl__key_format_size((uint64_t)key->max, high, sizeof(high));
    snprintf(out, bytes, "a size from %s to %s, such as 64K or 10M", low, high);
    return;
  case PL_KEY_INTEGER:
    snprintf(out, bytes, "a whole number from %.0f to %.0f", key->min,
             key->max);
    return;
  case PL_KEY_SHARE:
    snprintf(out, bytes, "a share from 0 to 1, such as 0.01 or 1%%");
    return;
  case PL_KEY_NAMES:
    snprintf(out, bytes, "all, or some of %s", key->choices);
    return;
  case PL_KEY_WORKERS:
    snprintf(out, bytes, "auto or a whole number from %.0f to %.0f", key->min,
             key->max);
    return;
  case PL_KEY_PATH:
    snprintf(out, bytes,
             "a path of %.0f to %.0f bytes; a symbolic link makes a longer one "
             "short",
             key->min, key->max);
    return;
  case PL_KEY_STRING:
  case PL_KEY_SECRET:
    snprintf(out, bytes, "a text of %.0f to %.0f bytes", key->min, key->max);
    return;
  case PL_KEY_BOOL:
    snprintf(out, bytes, "true or false");
    return;
  case PL_KEY_ENUM:
    choices_format(key->choices, out, bytes);
    return;
  case PL_KEY_ADDRESSES:
    snprintf(out, bytes,
             "up to %.0f of 127.0.0.1:8080, [::1]:8080 or unix:/path",
             key->max);
    return;
  case PL_KEY_NETWORKS:
    snprintf(out, bytes,
             "up to %u networks such as 10.0.0.0/8, fd00::/8, 192.0.2.7 or "
             "unix",
             PL_NETWORKS_MAX);
    return;
  case PL_KEY_ENDPOINT:
    snprintf(out, bytes, "%s", PL_ENDPOINT_EXPECTED);
    return;
  case PL_KEY_PAIRS:
    snprintf(out, bytes, "a list such as a=b,c=d, with %%2C for a comma");
    return;
  case PL_KEY_FIELDS:
    snprintf(out, bytes,
             "a list of header fields such as a=b,c=d, with %%2C for a comma");
    return;
  case PL_KEY_FIELD:
    snprintf(out, bytes, "the name of a header field, or nothing");
    return;
  case PL_KEY_ADDRESS:
    snprintf(out, bytes, "off, 127.0.0.1:8081, [::1]:8081 or unix:/path");
    return;
  }
}

const char *pl__key_type_name(const struct pl_key *key) {
  switch (key->type) {
  case PL_KEY_DURATION:
    return "duration";
  case PL_KEY_SIZE:
    return "size";
  case PL_KEY_INTEGER:
    return "number";
  case PL_KEY_SHARE:
    return "share";
  case PL_KEY_NAMES:
    return "names";
  case PL_KEY_WORKERS:
    return "number or auto";
  case PL_KEY_STRING:
  case PL_KEY_SECRET:
    return "text";
  case PL_KEY_PATH:
    return "path";
  case PL_KEY_BOOL:
    return "true or false";
  case PL_KEY_ENUM:
    return key->choices;
  case PL_KEY_ADDRESSES:
    return "addresses";
  case PL_KEY_ADDRESS:
    return "address or off";
  case PL_KEY_NETWORKS:
    return "networks";
  case PL_KEY_FIELD:
    return "name of a header";
  case PL_KEY_ENDPOINT:
    return "address of a collector";
  case PL_KEY_PAIRS:
  case PL_KEY_FIELDS:
    return "list of a=b";
  }
  return "";
}
