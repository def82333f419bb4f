/* vm/bind_context.c - the context of what runs, by FFI (vm/ffi.h). */
#include "base/err.h"
#include "base/hex.h"
#include "http/baggage.h"
#include "http/trace_context.h"
#include "vm/coro.h"

#include <math.h>

#define TRACEPARENT_SPAN_AT 36 /* 00-, the trace id, - */

uint32_t pl_context_request_id(const struct pl_context *context, char *out) {
  return context->request_id || context->caller_id_bytes
             ? pl__request_id_put(context, out)
             : 0;
}

uint32_t pl_context_trace_id(const struct pl_context *context, char *out) {
  pl__hex_put(out, context->trace_id[0]);
  pl__hex_put(out + 16, context->trace_id[1]);
  return 32;
}

uint32_t pl_context_span_id(const struct pl_context *context, char *out) {
  pl__hex_put(out, context->span_id);
  return 16;
}

int pl_context_set_tenant(struct pl_context *context, const char *at,
                          uint32_t bytes) {
  if (bytes && !pl__tenant_is_valid(pl__slice(at, bytes)))
    return PL_EINVAL;
  memcpy(context->tenant, at, bytes);
  context->tenant_bytes = (uint8_t)bytes;
  return 0;
}

struct pl_context *pl_context(void) {
  const struct pl_coro *c = pl__vm_running->current;

  return c ? pl__coro_context(c) : NULL;
}

double pl_context_deadline(void) {
  const struct pl_coro *c = pl__vm_running->current;

  return c && c->req ? c->req->deadline : HUGE_VAL;
}

/* Where tracestate and baggage of the running coroutine are: *headers, and how
 * many; 0 unless they hold what `passes` says. */
static uint32_t sources(int passes, const struct pl_header **headers) {
  const struct pl_context *context = pl_context();
  const struct pl_coro *c = pl__vm_running->current;

  if (!context || !(context->passes & passes))
    return 0;
  *headers = c->req ? c->req->headers + context->passes_at : c->carried->fields;
  return c->req ? c->req->header_count - context->passes_at
                : c->carried->field_count;
}

uint32_t pl_context_traceparent(char *out) {
  const struct pl_context *context = pl_context();

  if (!context)
    return 0;
  pl__traceparent_put(context, out);
  pl__hex_put(out + TRACEPARENT_SPAN_AT,
              pl__coro_span_id(pl__vm_running->current));
  return PL_TRACEPARENT_BYTES;
}

uint32_t pl_context_tracestate(char *out) {
  const struct pl_header *headers;
  uint32_t count = sources(PL_PASSES_STATE, &headers);

  return count ? pl__tracestate_put(headers, count, out) : 0;
}

uint32_t pl_context_baggage(char *out) {
  const struct pl_header *headers;
  uint32_t count = sources(PL_PASSES_BAGGAGE, &headers);

  return count ? pl__baggage_put(headers, count, out) : 0;
}

int pl_context_value(const char *key, uint32_t bytes, char *out) {
  const struct pl_header *headers;
  uint32_t count = sources(PL_PASSES_BAGGAGE, &headers);

  return count ? pl__baggage_get(headers, count, pl__slice(key, bytes), out)
               : -1;
}

int pl_req_baggage(struct pl_req *req, const char *key, uint32_t bytes,
                   char *out) {
  return req->context.passes & PL_PASSES_BAGGAGE
             ? pl__baggage_get(req->headers, req->header_count,
                               pl__slice(key, bytes), out)
             : -1;
}

void pl_context_renew(void) {
  struct pl_coro *c = pl__vm_running->current;

  if (!c || !c->carried)
    return;
  pl__trace_forget(c->vm, &c->carried->trace);
  c->carried->kept = c->carried->what = 0;
  pl__carried_renew(c->carried, &c->vm->random);
  if (c->vm->options.tracer)
    pl__tracer_mark(c->vm->options.tracer, &c->carried->context);
}
