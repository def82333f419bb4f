/* server/config.h - the configuration of one server, resolved and typed.
 *
 * Made once, in the master, before anything is forked; read-only afterwards,
 * so that every process of the server sees the same.  What keys there are,
 * with their types, defaults and ranges, says the table of server/keys.h.
 * Precedence: flags > environment (PERILUNE_*, then those of others, such as
 * OTEL_*) > file > defaults.  Knows no socket and no
 * process; the file is evaluated by vm/config_file.h.
 */
#ifndef PL_SERVER_CONFIG_H
#define PL_SERVER_CONFIG_H

#include "fabric/exports.h"
#include "server/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pl_buf;
struct pl_key;

#define PL_CONFIG_PATH_BYTES 4096          /* of a path, NUL included */
#define PL_CONFIG_FOLDER_BYTES 1024        /* recorder.folder, NUL included */
#define PL_CONFIG_OUTPUT_BYTES 1024        /* log.output, NUL included */
#define PL_CONFIG_NAME_BYTES 64            /* of a name, NUL included */
#define PL_CONFIG_ENDPOINT_BYTES 512       /* of a collector, NUL included */
#define PL_CONFIG_LISTEN_MAX 16            /* addresses */
#define PL_CONFIG_KEYS_MAX 128             /* rows of the table of keys */
#define PL_CONFIG_SETTINGS_BYTES_MAX 65536 /* `settings` as JSON */
#define PL_CONFIG_ERROR_BYTES 1024         /* of a message, NUL included */
#define PL_CONFIG_WARNINGS_MAX 16          /* messages kept; others dropped */
#define PL_CONFIG_WARNING_BYTES 256        /* of one, NUL included */

enum pl_config_source {
  PL_SOURCE_DEFAULT,
  PL_SOURCE_FILE,
  PL_SOURCE_ENV,
  PL_SOURCE_FLAG
};

struct pl_config_origin {
  uint8_t source;  /* enum pl_config_source */
  uint32_t line;   /* of the file, from 1; 0: not known, or no file */
  const char *env; /* name of the variable, static; NULL: no variable */
};

enum pl_vm_preempt { PL_VM_PREEMPT_LINE, PL_VM_PREEMPT_OFF };
/* log.level, as enum pl_level of fabric/record.h. */
enum pl_config_level {
  PL_CONFIG_DEBUG,
  PL_CONFIG_INFO,
  PL_CONFIG_WARN,
  PL_CONFIG_ERROR
};
enum pl_config_log {
  PL_CONFIG_LOG_AUTO,
  PL_CONFIG_LOG_CONSOLE,
  PL_CONFIG_LOG_JSON
};

/* otlp.compression */
enum pl_config_compression { PL_CONFIG_COMPRESS_NONE, PL_CONFIG_COMPRESS_GZIP };

/* context.trace_from */
enum pl_config_trace { PL_CONFIG_TRACE_ALL, PL_CONFIG_TRACE_TRUSTED };

struct pl_config {
  /* listen, workers, workers_max, name, pid_file */
  struct pl_address listen[PL_CONFIG_LISTEN_MAX];
  uint32_t listen_count;
  uint32_t workers;                    /* count, 1 or more: `auto` resolved */
  bool workers_auto;                   /* it was `auto` */
  uint64_t workers_max;                /* 0: see pl__config_capacity */
  char name[PL_CONFIG_NAME_BYTES];     /* of the server; never empty */
  char pid_file[PL_CONFIG_PATH_BYTES]; /* ""; the place follows from `name` */

  char user[64];  /* that processes run as; "": as it was started */
  char group[64]; /* "": the user's */

  /* timeouts.*, seconds */
  double timeout_header_s;
  double timeout_body_s;
  double timeout_idle_s;
  double timeout_write_s;
  double timeout_handler_s;
  double timeout_drain_s;
  double timeout_pre_drain_s;

  /* limits.* */
  uint64_t limit_output_bytes;
  uint64_t limit_target_bytes;
  uint64_t limit_headers_bytes;
  uint64_t limit_header_count;
  uint64_t limit_body_bytes;
  uint64_t limit_connections;             /* per worker */
  uint64_t limit_requests_per_connection; /* 0: none */
  uint64_t limit_tasks;                   /* per request */
  uint64_t limit_tasks_per_worker;

  /* vm.* */
  uint32_t vm_preempt; /* enum pl_vm_preempt */
  double vm_slice_s;
  double vm_load_timeout_s;
  uint64_t vm_memory_soft_bytes;
  uint64_t vm_memory_hard_bytes;
  uint64_t vm_heap_sample_bytes;
  double vm_stuck_timeout_s;
  double vm_quarantine_s;

  double leaks_collect_s;
  double leaks_after_s;
  double leaks_window_s;

  /* shared.* */
  uint64_t shared_memory_bytes; /* of all dictionaries */
  uint64_t metrics_series_max;  /* of one metric */

  /* log.* */
  uint32_t log_level;  /* enum pl_config_level */
  uint32_t log_format; /* enum pl_config_log */
  bool log_access;
  double log_access_sample;   /* share of requests, 0 to 1 */
  uint32_t log_access_fields; /* bits of enum pl_access_field */
  uint64_t log_sample_first;  /* records of a site and second; 0: all */
  uint64_t log_sample_then;   /* every so-manieth behind them; 0: none */
  char log_output[PL_CONFIG_OUTPUT_BYTES]; /* see pl__sink_open */
  uint64_t log_rotate_bytes;               /* 0: a file may grow */
  uint64_t log_rotate_keep;
  uint32_t log_syslog_facility; /* its number */

  /* recorder.*, of which the state is fabric's */
  bool recorder_on;
  char recorder_folder[PL_CONFIG_FOLDER_BYTES]; /* ""; see server/archive.h */
  uint64_t recorder_keep;                       /* files */
  uint64_t recorder_storm; /* missed deadlines in 10 s; 0: no matter */

  /* actions.* */
  bool actions_on;
  double actions_p99_s;              /* 0: no such rule */
  uint64_t actions_allocation_bytes; /* per second; likewise */
  uint64_t actions_workers_max;      /* 0: as many as there are CPUs */
  bool actions_stuck;                /* a record is written */

  /* context.* */
  char context_trusted[1024];  /* for pl__networks_parse; it can be */
  uint32_t context_trace_from; /* enum pl_config_trace */
  char context_request_id_header[64];
  bool context_reply_request_id;
  char context_tenant_header[64];
  char context_tier_header[64];

  /* trace.* */
  double trace_sample;        /* share of traces, 0 to 1 */
  uint64_t trace_slow_factor; /* times the P99; 0: nothing is slow */
  double trace_slow_min_s;
  double trace_anomaly_errors; /* share of requests; 0: never */
  double trace_anomaly_p99_s;  /* 0: never */
  double trace_anomaly_hold_s;
  uint64_t trace_anomaly_per_second;
  uint64_t trace_wished_per_second; /* 0: callers' flags are not believed */

  /* otlp.*: of a server as it is started; a reload changes none of them */
  char otlp_endpoint[PL_CONFIG_ENDPOINT_BYTES]; /* /v1/... is added */
  char otlp_traces_endpoint[PL_CONFIG_ENDPOINT_BYTES];
  char otlp_metrics_endpoint[PL_CONFIG_ENDPOINT_BYTES];
  char otlp_logs_endpoint[PL_CONFIG_ENDPOINT_BYTES];
  bool otlp_on[PL_SIGNALS];  /* by enum pl_signal; where there is an endpoint */
  char otlp_headers[2048];   /* for pl__pairs_take; they can be fields */
  uint32_t otlp_compression; /* enum pl_config_compression */
  double otlp_timeout_s;
  /* Of one signal, before those of all. */
  char otlp_headers_of[PL_SIGNALS][2048];   /* "": those of all */
  uint32_t otlp_compression_of[PL_SIGNALS]; /* 0, or 1 + one of those */
  double otlp_timeout_of_s[PL_SIGNALS];     /* 0: that of all */
  char otlp_service[256];
  char otlp_resource[2048]; /* for pl__pairs_take; it can be */
  uint64_t otlp_queue;      /* spans */
  uint64_t otlp_batch;      /* spans or records */
  double otlp_delay_s;
  double otlp_export_timeout_s;
  double otlp_metrics_interval_s;

  /* generation_header */
  bool generation_header; /* responses say which generation has made them */

  /* admin.* */
  struct pl_address admin_listen;
  bool admin_on;         /* else admin_listen says nothing */
  char admin_token[256]; /* what clients have to show; "": nothing */

  /* What is no key. */
  bool dev;                              /* `perilune dev` */
  uint16_t dev_port;                     /* where its events are; 0: nowhere */
  char app_file[PL_CONFIG_PATH_BYTES];   /* absolute; "" without an app */
  char app_folder[PL_CONFIG_PATH_BYTES]; /* absolute; "" without an app */
  char file[PL_CONFIG_PATH_BYTES];       /* config.lua read; "" for none */
  char *settings_json;                   /* an object, NUL-terminated; owned */
  uint32_t settings_bytes;               /* of it, without the NUL */

  struct pl_config_origin origins[PL_CONFIG_KEYS_MAX]; /* by row of the table */
  char warnings[PL_CONFIG_WARNINGS_MAX][PL_CONFIG_WARNING_BYTES];
  uint32_t warning_count;
};

/* What a configuration is made of; everything borrowed during the call. */
struct pl_config_input {
  const char *app;              /* file or folder; NULL: no app at all */
  const char *file;             /* --config; NULL: beside the app */
  const char *const *overrides; /* "key=value", from flags, in order */
  uint32_t override_count;
  const char *const *environment; /* as environ; NULL: none is read */
  bool dev;                       /* the defaults of `perilune dev` */
};

/* Fills *out from defaults, file, environment and flags.
 *
 *   err  PL_CONFIG_ERROR_BYTES; on failure what is wrong: the key, the value,
 *        where it comes from (file:line, variable or flag), what is expected
 *
 * Returns 0; with nothing to deinit:
 *   PL_ECONFIG  an unknown key, a bad value, or a file that does not load
 *   PL_ESCRIPT  there is no app where `app` says
 *   PL_ENOMEM   no memory
 */
int pl__config_resolve(const struct pl_config_input *in, struct pl_config *out,
                       char *err);

/* A copy of what `in` points at, but for the environment, in one piece of
 * memory: *memory, to be freed with pl__free.  Returns 0 or PL_ENOMEM. */
int pl__config_input_copy(struct pl_config_input *out,
                          const struct pl_config_input *in, void **memory);

/* A copy that owns what it holds. Returns 0 or PL_ENOMEM. */
int pl__config_copy(struct pl_config *out, const struct pl_config *c);

/* How many workers there is room for: they can be added while it serves.
 * That is workers_max; when that is 0, the most of twice `workers`, the CPUs,
 * actions.workers_max, and four.  least: at least so many. */
uint32_t pl__config_capacity(const struct pl_config *c, uint32_t least);

/* Frees what pl__config_resolve allocated. */
void pl__config_deinit(struct pl_config *c);

/* Writes the value of a row as it would stand in a file: `10s`, `1M`, `auto`.
 * Always NUL-terminated, cut to `bytes`. */
void pl__config_value(const struct pl_config *c, const struct pl_key *key,
                      char *out, size_t bytes);

/* Writes where that value comes from: `default`, `config.lua:3`,
 * `PERILUNE_WORKERS`, `flag`. */
void pl__config_origin(const struct pl_config *c, const struct pl_key *key,
                       char *out, size_t bytes);

/* Appends every key with its value and origin, as aligned lines or as JSON:
 * { keys: array of {key, value, source, doc}, settings: object }. Returns 0 or
 * what pl__buf_append returns. */
int pl__config_dump(const struct pl_config *c, bool json, struct pl_buf *out);

#endif /* PL_SERVER_CONFIG_H */
