/* server/services.c - see services.h. */
#include "server/services.h"

#define AT_FIRST "-\n-ready\n+live"

int pl__services_init(struct pl_services *s) {
  pl__buf_init(&s->lines, NULL, PL_SERVICES_BYTES);
  return pl__buf_append_slice(&s->lines, PL_SLICE(AT_FIRST));
}

void pl__services_deinit(struct pl_services *s) { pl__buf_release(&s->lines); }

int pl__services_set(struct pl_services *s, struct pl_slice lines) {
  if (lines.bytes > s->lines.bytes) {
    int status = pl__buf_reserve(&s->lines, lines.bytes - s->lines.bytes);
    if (status)
      return status;
  }
  if (lines.bytes)
    memcpy(s->lines.at, lines.at, lines.bytes);
  s->lines.bytes = lines.bytes;
  return 0;
}

/* Takes the next line that tells a service off the front. */
static bool take_service(struct pl_slice *rest,
                         struct pl_grpc_health_entry *entry) {
  while (rest->bytes) {
    const char *end = memchr(rest->at, '\n', rest->bytes);
    struct pl_slice line =
        pl__slice(rest->at, end ? (size_t)(end - rest->at) : rest->bytes);
    uint32_t used = line.bytes + (end != NULL);
    rest->at += used;
    rest->bytes -= used;
    if (line.bytes && (line.at[0] == '+' || line.at[0] == '-')) {
      entry->service = pl__slice(line.at + 1, line.bytes - 1);
      entry->status = line.at[0] == '+' ? PL_GRPC_SERVING : PL_GRPC_NOT_SERVING;
      return true;
    }
  }
  return false;
}

static struct pl_slice lines_of(const struct pl_services *s) {
  return pl__slice(s->lines.at, s->lines.bytes);
}

int pl__services_status(void *arg, struct pl_slice service) {
  struct pl_slice rest = lines_of(arg);
  struct pl_grpc_health_entry entry;

  while (take_service(&rest, &entry))
    if (pl__slice_equal(entry.service, service))
      return entry.status;
  return PL_GRPC_SERVICE_UNKNOWN;
}

uint32_t pl__services_list(void *arg, struct pl_grpc_health_entry *to,
                           uint32_t max) {
  struct pl_slice rest = lines_of(arg);
  struct pl_grpc_health_entry entry;
  uint32_t count = 0;

  for (; take_service(&rest, &entry); count++)
    if (count < max)
      to[count] = entry;
  return count;
}

const char *pl__services_state(void *arg) {
  static const struct {
    const char *line;
    const char *word;
  } states[] = {{"=healthy\n", "HEALTHY"},
                {"=degraded\n", "DEGRADED"},
                {"=unhealthy\n", "UNHEALTHY"}};
  struct pl_slice lines = lines_of(arg);

  for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
    size_t bytes = strlen(states[i].line);
    if (lines.bytes > bytes && memcmp(lines.at, states[i].line, bytes) == 0)
      return states[i].word;
  }
  return NULL;
}
