/* vm/carried.c - see carried.h. */
#include "vm/carried.h"

#include "base/alloc.h"
#include "base/random.h"
#include "http/baggage.h"
#include "http/trace_context.h"

static void add_field(struct pl_carried *c, struct pl_slice name,
                      const char *text, uint32_t bytes) {
  uint32_t used = 0;

  if (!bytes)
    return;
  for (uint32_t i = 0; i < c->field_count; i++)
    used += c->fields[i].value.bytes;
  memcpy(c->text + used, text, bytes);
  c->fields[c->field_count++] =
      (struct pl_header){name, pl__slice(c->text + used, bytes)};
}

struct pl_carried *pl__carried_new(const struct pl_context *from,
                                   const struct pl_header *headers,
                                   uint32_t header_count,
                                   struct pl_random *random) {
  char state[PL_LIMIT_TRACESTATE_BYTES], baggage[PL_LIMIT_BAGGAGE_BYTES];
  uint32_t state_bytes = 0, baggage_bytes = 0;
  struct pl_carried *c;

  if (from && (from->passes & PL_PASSES_STATE))
    state_bytes = pl__tracestate_put(headers, header_count, state);
  if (from && (from->passes & PL_PASSES_BAGGAGE))
    baggage_bytes = pl__baggage_put(headers, header_count, baggage);
  c = pl__alloc(sizeof *c + state_bytes + baggage_bytes);
  if (!c)
    return NULL;
  if (!from) {
    memset(c, 0, sizeof *c);
    pl__carried_renew(c, random);
    return c;
  }
  memset(c, 0, sizeof *c);
  c->context = *from;
  add_field(c, PL_SLICE("tracestate"), state, state_bytes);
  add_field(c, PL_SLICE("baggage"), baggage, baggage_bytes);
  return c;
}

void pl__carried_branch(struct pl_carried *c, struct pl_random *random) {
  c->context.parent_id = c->context.span_id;
  c->context.span_id = pl__random_id(random);
}

void pl__carried_renew(struct pl_carried *c, struct pl_random *random) {
  memset(&c->context, 0, sizeof c->context);
  pl__context_begin(&c->context, random);
  c->field_count = 0;
}
