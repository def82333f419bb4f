/* server/fixed.c - see fixed.h. */
#include "server/fixed.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "server/address.h"
#include "server/config.h"
#include "server/keys.h"

static const char *const FIXED[] = {
    "listen",
    "workers",
    "workers_max",
    "name",
    "pid_file",
    "limits.target",
    "limits.headers",
    "limits.header_count",
    "limits.connections",
    "log.format",
    "log.output",
    "log.rotate_size",
    "log.rotate_keep",
    "log.syslog_facility",
    "recorder.on",
    "recorder.folder",
    "recorder.keep",
    "recorder.storm",
    "admin.listen",
    "user",
    "group",
    "shared.memory",
    "metrics.series_max",
    "otlp.endpoint",
    "otlp.traces_endpoint",
    "otlp.metrics_endpoint",
    "otlp.logs_endpoint",
    "otlp.traces",
    "otlp.metrics",
    "otlp.logs",
    "otlp.headers",
    "otlp.compression",
    "otlp.timeout",
    "otlp.traces_headers",
    "otlp.traces_compression",
    "otlp.traces_timeout",
    "otlp.metrics_headers",
    "otlp.metrics_compression",
    "otlp.metrics_timeout",
    "otlp.logs_headers",
    "otlp.logs_compression",
    "otlp.logs_timeout",
    "otlp.service",
    "otlp.resource",
    "otlp.queue",
    "otlp.batch",
    "otlp.delay",
    "otlp.export_timeout",
    "otlp.metrics_interval",
};

static size_t field_bytes(const struct pl_key *key) {
  switch (key->type) {
  case PL_KEY_DURATION:
  case PL_KEY_SHARE:
    return sizeof(double);
  case PL_KEY_SIZE:
  case PL_KEY_INTEGER:
    return sizeof(uint64_t);
  case PL_KEY_STRING:
  case PL_KEY_PATH:
  case PL_KEY_SECRET:
  case PL_KEY_NETWORKS:
  case PL_KEY_FIELD:
  case PL_KEY_ENDPOINT:
  case PL_KEY_PAIRS:
  case PL_KEY_FIELDS:
    return key->field_bytes;
  case PL_KEY_BOOL:
    return sizeof(bool);
  case PL_KEY_ENUM:
  case PL_KEY_NAMES:
    return sizeof(uint32_t);
  default: /* of more than one field */
    return 0;
  }
}

static void field_copy(struct pl_config *c, const struct pl_config *from,
                       const struct pl_key *key) {
  memcpy((char *)c + key->offset, (const char *)from + key->offset,
         field_bytes(key));
  switch (key->type) {
  case PL_KEY_WORKERS:
    c->workers = from->workers;
    c->workers_auto = from->workers_auto;
    break;
  case PL_KEY_ADDRESSES:
    memcpy(c->listen, from->listen, sizeof c->listen);
    c->listen_count = from->listen_count;
    break;
  case PL_KEY_ADDRESS:
    c->admin_listen = from->admin_listen;
    c->admin_on = from->admin_on;
    break;
  default:
    break;
  }
}

static void name_add(char *out, size_t bytes, const char *name) {
  size_t used = strlen(out);

  if (used + strlen(name) + 3 <= bytes)
    snprintf(out + used, bytes - used, "%s%s", used ? ", " : "", name);
}

/* The token may change, but not be taken away where the address, which stays,
 * needs one. */
static void guard_token(struct pl_config *c, const struct pl_config *old,
                        char *out, size_t bytes) {
  if (!c->admin_on || c->admin_token[0] ||
      pl__address_is_local(&c->admin_listen))
    return;
  memcpy(c->admin_token, old->admin_token, sizeof c->admin_token);
  name_add(out, bytes, "admin.token");
}

void pl__fixed_keep(struct pl_config *c, const struct pl_config *old, char *out,
                    size_t bytes) {
  char now[PL_KEY_VALUE_BYTES], before[PL_KEY_VALUE_BYTES];

  out[0] = '\0';
  c->dev = old->dev;
  c->dev_port = old->dev_port;
  for (size_t i = 0; i < sizeof FIXED / sizeof *FIXED; i++) {
    const struct pl_key *key = pl__key_find(FIXED[i], strlen(FIXED[i]));
    if (!key)
      continue;
    pl__config_value(c, key, now, sizeof now);
    pl__config_value(old, key, before, sizeof before);
    if (strcmp(now, before) != 0)
      name_add(out, bytes, key->name);
    field_copy(c, old, key);
  }
  guard_token(c, old, out, bytes);
}
