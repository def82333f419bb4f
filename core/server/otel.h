/* server/otel.h - the environment variables of OpenTelemetry's SDKs, and which
 * of our keys each one stands for.
 *
 * Durations are milliseconds there, exporters have names, and one variable
 * switches all off.  Knows no environment: server/config.c asks with values.
 */
#ifndef PL_SERVER_OTEL_H
#define PL_SERVER_OTEL_H

#include <stddef.h>
#include <stdint.h>

enum pl_otel_form {
  PL_OTEL_AS_IT_IS,
  PL_OTEL_MS,       /* a number of milliseconds; the key is a duration */
  PL_OTEL_EXPORTER, /* otlp or none; the key is a switch */
  PL_OTEL_DISABLED, /* true: the key, a switch, is off */
  PL_OTEL_SAMPLER,  /* a name; the key is a share */
  PL_OTEL_PROTOCOL  /* http/protobuf; no key */
};

struct pl_otel_variable {
  const char *name; /* OTEL_... */
  const char *key;  /* NULL: none; what is wanted cannot be changed */
  enum pl_otel_form form;
};

/* Those that come first win. */
extern const struct pl_otel_variable pl__otel_variables[];
extern const uint32_t pl__otel_variable_count;

/* The value as that of the key.  Returns 1; 0: it says nothing that we would not
 * do anyway; or PL_EINVAL: it cannot be, and *expected (static) is. */
int pl__otel_translate(const struct pl_otel_variable *v, const char *value,
                       char *out, size_t bytes, const char **expected);

#endif /* PL_SERVER_OTEL_H */
