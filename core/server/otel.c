/* server/otel.c - see otel.h. */
#include "server/otel.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/text.h"

#define MS_MAX 86400000u /* a day */

const struct pl_otel_variable pl__otel_variables[] = {
    {"OTEL_SDK_DISABLED", "otlp.traces", PL_OTEL_DISABLED},
    {"OTEL_SDK_DISABLED", "otlp.metrics", PL_OTEL_DISABLED},
    {"OTEL_SDK_DISABLED", "otlp.logs", PL_OTEL_DISABLED},
    {"OTEL_TRACES_EXPORTER", "otlp.traces", PL_OTEL_EXPORTER},
    {"OTEL_METRICS_EXPORTER", "otlp.metrics", PL_OTEL_EXPORTER},
    {"OTEL_LOGS_EXPORTER", "otlp.logs", PL_OTEL_EXPORTER},
    {"OTEL_TRACES_SAMPLER", "trace.sample", PL_OTEL_SAMPLER},
    {"OTEL_TRACES_SAMPLER_ARG", "trace.sample", PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_PROTOCOL", NULL, PL_OTEL_PROTOCOL},
    {"OTEL_EXPORTER_OTLP_ENDPOINT", "otlp.endpoint", PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "otlp.traces_endpoint",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "otlp.metrics_endpoint",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "otlp.logs_endpoint",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_HEADERS", "otlp.headers", PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_COMPRESSION", "otlp.compression", PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_TIMEOUT", "otlp.timeout", PL_OTEL_MS},
    {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "otlp.traces_headers",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "otlp.traces_compression",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "otlp.traces_timeout", PL_OTEL_MS},
    {"OTEL_EXPORTER_OTLP_METRICS_HEADERS", "otlp.metrics_headers",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "otlp.metrics_compression",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "otlp.metrics_timeout", PL_OTEL_MS},
    {"OTEL_EXPORTER_OTLP_LOGS_HEADERS", "otlp.logs_headers", PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "otlp.logs_compression",
     PL_OTEL_AS_IT_IS},
    {"OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "otlp.logs_timeout", PL_OTEL_MS},
    {"OTEL_SERVICE_NAME", "otlp.service", PL_OTEL_AS_IT_IS},
    {"OTEL_RESOURCE_ATTRIBUTES", "otlp.resource", PL_OTEL_AS_IT_IS},
    {"OTEL_BSP_MAX_QUEUE_SIZE", "otlp.queue", PL_OTEL_AS_IT_IS},
    {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "otlp.batch", PL_OTEL_AS_IT_IS},
    {"OTEL_BSP_SCHEDULE_DELAY", "otlp.delay", PL_OTEL_MS},
    {"OTEL_BSP_EXPORT_TIMEOUT", "otlp.export_timeout", PL_OTEL_MS},
    {"OTEL_METRIC_EXPORT_INTERVAL", "otlp.metrics_interval", PL_OTEL_MS},
};
const uint32_t pl__otel_variable_count =
    sizeof pl__otel_variables / sizeof *pl__otel_variables;

static int copy(const char *text, char *out, size_t bytes) {
  return snprintf(out, bytes, "%s", text) < (int)bytes ? 1 : PL_EINVAL;
}

/* The share of one by ratio is in the variable behind it. All of ours respect what
 * a parent says. */
static int translate_sampler(const char *value, char *out, size_t bytes,
                             const char **expected) {
  static const char prefix[] = "parentbased_";

  *expected = "always_on, always_off or traceidratio, or one with parentbased_";
  if (strncmp(value, prefix, sizeof prefix - 1) == 0)
    value += sizeof prefix - 1;
  if (strcmp(value, "traceidratio") == 0)
    return 0;
  if (strcmp(value, "always_on") != 0 && strcmp(value, "always_off") != 0)
    return PL_EINVAL;
  return copy(strcmp(value, "always_on") == 0 ? "1" : "0", out, bytes);
}

int pl__otel_translate(const struct pl_otel_variable *v, const char *value,
                       char *out, size_t bytes, const char **expected) {
  uint64_t ms;

  *expected = "something shorter";
  switch (v->form) {
  case PL_OTEL_AS_IT_IS:
    return copy(value, out, bytes);
  case PL_OTEL_MS:
    *expected = "a number of milliseconds";
    if (pl__text_number(pl__slice_text(value), MS_MAX, &ms))
      return PL_EINVAL;
    snprintf(out, bytes, "%llums", (unsigned long long)ms);
    return 1;
  case PL_OTEL_EXPORTER:
    *expected = "otlp or none";
    if (strcmp(value, "otlp") != 0 && strcmp(value, "none") != 0)
      return PL_EINVAL;
    return copy(strcmp(value, "otlp") == 0 ? "true" : "false", out, bytes);
  case PL_OTEL_DISABLED: /* all but "true" is false, as the specification has */
    return strcasecmp(value, "true") == 0 ? copy("false", out, bytes) : 0;
  case PL_OTEL_SAMPLER:
    return translate_sampler(value, out, bytes, expected);
  case PL_OTEL_PROTOCOL:
    *expected = "http/protobuf, on port 4318 of most collectors";
    return strcmp(value, "http/protobuf") == 0 ? 0 : PL_EINVAL;
  }
  return 0;
}
