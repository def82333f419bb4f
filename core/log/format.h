/* log/format.h - one record becomes one line.
 *
 * JSON for machines, one object a line (RFC 8259, always valid UTF-8), or a
 * console line for people.  Keys of the JSON line, in this order, as far as
 * they apply:
 *
 *   time level msg req_id trace_id span_id tenant route method target status
 *   duration_ms bytes_in bytes_out remote http aborted worker generation, then
 *   the record's own fields
 *
 * req_id is the one a trusted peer has given, else 16 hex digits of ours.
 * Records of the master and of control have "process" in the place of worker.
 *
 * A field that bears one of these names is shown as "field.NAME".  Texts that
 * were cut end with "...(+N bytes)".  Pure: knows no file and no ring.
 */
#ifndef PL_LOG_FORMAT_H
#define PL_LOG_FORMAT_H

#include "base/buf.h"
#include "fabric/record.h"
#include "fabric/routes.h"

#include <stdbool.h>

/* What a JSON line about a request has beside time, level and msg, if it is
 * asked for: the names, and the index of each. */
#define PL_ACCESS_FIELD_NAMES                                                  \
  "req_id trace_id span_id tenant route method target status duration_ms "     \
  "bytes_in bytes_out remote "                                                 \
  "http aborted worker generation"
enum pl_access_field {
  PL_ACCESS_REQ_ID,
  PL_ACCESS_TRACE_ID,
  PL_ACCESS_SPAN_ID,
  PL_ACCESS_TENANT,
  PL_ACCESS_ROUTE,
  PL_ACCESS_METHOD,
  PL_ACCESS_TARGET,
  PL_ACCESS_STATUS,
  PL_ACCESS_DURATION,
  PL_ACCESS_BYTES_IN,
  PL_ACCESS_BYTES_OUT,
  PL_ACCESS_REMOTE,
  PL_ACCESS_HTTP,
  PL_ACCESS_ABORTED,
  PL_ACCESS_WORKER,
  PL_ACCESS_GENERATION
};

enum pl_log_format { PL_LOG_JSON, PL_LOG_CONSOLE };

struct pl_formatter {
  const struct pl_routes *routes; /* all tables; NULL: ids are shown */
  int64_t second;                 /* that `stamp` was made for */
  enum pl_log_format format;
  bool colour;            /* console only */
  uint32_t access_fields; /* bits by enum pl_access_field; JSON only */
  uint32_t stamp_bytes;
  char stamp[48]; /* "2025-03-09T12:00:00." */
};

/* All fields of requests are shown; set access_fields for other wishes. */
void pl__formatter_init(struct pl_formatter *f, enum pl_log_format format,
                        bool colour, const struct pl_routes *routes);

/* Appends the line for the record of `bytes` at `record`, with its newline.
 * Returns 0, PL_EBAD when it is no record (nothing appended), or PL_EFULL or
 * PL_ENOMEM of the buffer (nothing appended). */
int pl__format_record(struct pl_formatter *f, const void *record,
                      uint32_t bytes, struct pl_buf *out);

/* Writes the time as JSON lines have it, "2025-03-09T12:00:00.123Z", behind
 * `at`, where there is room; returns the first byte behind it. */
char *pl__format_time(struct pl_formatter *f, char *at, int64_t time_ns);

#endif /* PL_LOG_FORMAT_H */
