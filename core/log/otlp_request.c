/* log/otlp_request.c - see otlp_request.h. */
#include "log/otlp_request.h"

#include "fabric/record.h"
#include "log/digits.h"

void pl__otlp_request_id(struct pl_pb *p, uint32_t field, uint64_t id,
                         struct pl_slice caller_id) {
  char digits[16];

  if (!caller_id.bytes && !id)
    return;
  if (!caller_id.bytes) {
    pl__put_hex(digits, id);
    caller_id = pl__slice(digits, sizeof digits);
  }
  pl__otlp_str(p, field, "perilune.request_id", caller_id);
}

void pl__otlp_tenant(struct pl_pb *p, uint32_t field, struct pl_slice tenant) {
  if (tenant.bytes)
    pl__otlp_str(p, field, "perilune.tenant", tenant);
}

struct pl_slice pl__otlp_pattern(const struct pl_routes *routes,
                                 uint32_t generation, uint32_t route,
                                 struct pl_slice *path) {
  struct pl_slice text = pl__slice("", 0);
  const char *space;

  if (routes && route != PL_RECORD_NO_ROUTE)
    text = pl__routes_lookup(routes, generation, route);
  space = text.bytes ? memchr(text.at, ' ', text.bytes) : NULL;
  *path = space
              ? pl__slice(space + 1, text.bytes - (size_t)(space + 1 - text.at))
              : text;
  return text;
}

void pl__otlp_route(struct pl_pb *p, uint32_t field,
                    const struct pl_routes *routes, uint32_t generation,
                    uint32_t route) {
  struct pl_slice path;

  pl__otlp_pattern(routes, generation, route, &path);
  if (path.bytes)
    pl__otlp_str(p, field, "http.route", path);
}

void pl__otlp_process(struct pl_pb *p, uint32_t field, uint16_t worker,
                      uint32_t generation) {
  const char *name = worker == PL_RECORD_MASTER    ? "master"
                     : worker == PL_RECORD_CONTROL ? "control"
                     : worker == PL_RECORD_TRIAL   ? "trial"
                                                   : NULL;

  if (name)
    pl__otlp_str(p, field, "perilune.process", pl__slice_text(name));
  else
    pl__otlp_int(p, field, "perilune.worker", worker);
  if (generation)
    pl__otlp_int(p, field, "perilune.generation", generation);
}
