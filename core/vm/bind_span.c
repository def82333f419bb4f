/* vm/bind_span.c - P.span and P.span_set, as Lua calls them by FFI.
 *
 * A coroutine knows which spans it is in, by a small stack.  What begins is
 * told by a token, which its end has to show: a coroutine of the user's own that
 * is left in the middle of a span, or resumed by another one, must not end what
 * isn't its own.  A token is the depth that the span began at, and the serial
 * number of its note.
 */
#include "base/hex.h"
#include "vm/coro.h"

#define NO_NOTE UINT32_MAX
#define TOKEN_DEPTH 16u /* more than PL_CORO_SPANS_MAX */

/* Notes what begins, if it is of something that is traced. */
static void note_begin(struct pl_coro *c, struct pl_coro_span *s,
                       uint64_t parent_id, struct pl_slice name) {
  struct pl_trace *trace = pl__coro_trace(c);
  struct pl_note *n = trace ? pl__trace_note(c->vm, trace, &s->note) : NULL;

  if (!n) {
    s->note = NO_NOTE;
    return;
  }
  *n = (struct pl_note){.span_id = s->id,
                        .parent_id = parent_id,
                        .start = pl__tracer_now(c->vm->options.tracer),
                        .what = PL_SPAN_USER,
                        .kind = PL_SPAN_INTERNAL,
                        .status = PL_SPAN_UNSET,
                        .serial = s->serial};
  pl__trace_text(c->vm, trace, s->note, PL_TRACE_NAME, name);
}

uint32_t pl_span_begin(const char *name, uint32_t bytes) {
  struct pl_coro *c = pl__vm_running->current;
  struct pl_coro_span *s;
  uint64_t parent_id;

  if (!c || c->span_depth == PL_CORO_SPANS_MAX || !pl__coro_context(c))
    return 0;
  parent_id = c->span_depth ? c->spans[c->span_depth - 1].id : c->span_base;
  s = &c->spans[c->span_depth++];
  s->id = pl__random_id(&c->vm->random);
  s->serial = (uint16_t)++c->vm->span_serial;
  note_begin(c, s, parent_id,
             pl__slice(name, bytes < PL_LIMIT_SPAN_NAME_BYTES
                                 ? bytes
                                 : PL_LIMIT_SPAN_NAME_BYTES));
  return s->serial * TOKEN_DEPTH + c->span_depth;
}

/* The note of a span, unless it was forgotten with all of its trace. */
static struct pl_note *note_of(const struct pl_trace *trace,
                               const struct pl_coro_span *s) {
  struct pl_note *n;

  if (!trace || s->note >= trace->count)
    return NULL;
  n = pl__trace_at(trace, s->note);
  return n->serial == s->serial && n->span_id == s->id ? n : NULL;
}

static void fail(struct pl_coro *c, struct pl_trace *trace, uint32_t note,
                 const char *message, uint32_t bytes) {
  trace->has_failed = true;
  pl__trace_text(c->vm, trace, note, PL_TRACE_MESSAGE,
                 pl__slice(message, bytes < PL_LIMIT_SPAN_VALUE_BYTES
                                        ? bytes
                                        : PL_LIMIT_SPAN_VALUE_BYTES));
}

void pl_span_end(uint32_t token, const char *message, int bytes) {
  struct pl_coro *c = pl__vm_running->current;
  uint32_t depth = token % TOKEN_DEPTH;
  struct pl_trace *trace;
  struct pl_coro_span *s;
  struct pl_note *n;

  if (!c || token == 0 || depth > c->span_depth)
    return;
  s = &c->spans[depth - 1];
  if (s->serial != token / TOKEN_DEPTH)
    return;
  c->span_depth = (uint8_t)(depth - 1);
  trace = pl__coro_trace(c);
  n = note_of(trace, s);
  if (n) {
    n->end = pl__tracer_now(c->vm->options.tracer);
    n->status = bytes < 0 ? PL_SPAN_UNSET : PL_SPAN_ERROR;
    if (bytes >= 0)
      fail(c, trace, s->note, message, (uint32_t)bytes);
  }
  if (depth == 1 && trace && c->carried)
    pl__trace_end_span(c);
}

/* Where attributes go: to the innermost span; *note is its number. */
static struct pl_trace *target_of(const struct pl_coro *c, uint32_t *note) {
  struct pl_trace *trace = c ? pl__coro_trace(c) : NULL;

  *note = PL_TRACE_ROOT;
  if (!trace || c->span_depth == 0)
    return c && c->span_base ? NULL : trace;
  *note = c->spans[c->span_depth - 1].note;
  return note_of(trace, &c->spans[c->span_depth - 1]) ? trace : NULL;
}

static void set(uint32_t note, struct pl_trace *trace, const char *at,
                uint32_t bytes) {
  pl__trace_text(pl__vm_running, trace, note, PL_TRACE_ATTRIBUTE,
                 pl__slice(at, bytes));
}

/* Of one attribute, cut at its limits. */
#define ATTRIBUTE_BYTES                                                        \
  (PL_LIMIT_SPAN_KEY_BYTES + PL_LIMIT_SPAN_VALUE_BYTES + 8)

void pl_span_str(const char *key, uint32_t key_bytes, const char *text,
                 uint32_t bytes) {
  uint32_t note, used = 0;
  struct pl_trace *trace = target_of(pl__vm_running->current, &note);
  char memory[ATTRIBUTE_BYTES];

  if (trace &&
      !pl__attribute_put_str(memory, sizeof memory, &used,
                             pl__slice(key, key_bytes), pl__slice(text, bytes)))
    set(note, trace, memory, used);
}

void pl_span_num(const char *key, uint32_t key_bytes, double number) {
  uint32_t note, used = 0;
  struct pl_trace *trace = target_of(pl__vm_running->current, &note);
  char memory[ATTRIBUTE_BYTES];

  if (trace && !pl__attribute_put_num(memory, sizeof memory, &used,
                                      pl__slice(key, key_bytes), number))
    set(note, trace, memory, used);
}

void pl_span_bool(const char *key, uint32_t key_bytes, int truth) {
  uint32_t note, used = 0;
  struct pl_trace *trace = target_of(pl__vm_running->current, &note);
  char memory[ATTRIBUTE_BYTES];

  if (trace && !pl__attribute_put_bool(memory, sizeof memory, &used,
                                       pl__slice(key, key_bytes), truth))
    set(note, trace, memory, used);
}

void pl_span_fail(const char *message, uint32_t bytes) {
  struct pl_coro *c = pl__vm_running->current;
  struct pl_trace *trace = c ? pl__coro_trace(c) : NULL;

  if (!trace)
    return;
  trace->has_failed = true;
  if (c->span_base) /* a task that a span has spawned */
    return;
  trace->root_has_failed = true;
  fail(c, trace, PL_TRACE_ROOT, message, bytes);
}

void pl_span_task(const char *name, uint32_t bytes, int is_timer) {
  struct pl_coro *c = pl__vm_running->current;

  if (!c || !c->carried || !c->vm->options.tracer ||
      (!is_timer && c->carried->what != PL_SPAN_TASK))
    return;
  if (is_timer) {
    c->carried->what = PL_SPAN_TIMER;
    c->carried->began = pl__tracer_now(c->vm->options.tracer);
  }
  pl__trace_text(c->vm, &c->carried->trace, PL_TRACE_ROOT, PL_TRACE_NAME,
                 pl__slice(name, bytes < PL_LIMIT_SPAN_NAME_BYTES
                                     ? bytes
                                     : PL_LIMIT_SPAN_NAME_BYTES));
}

void pl_span_task_end(void) {
  struct pl_coro *c = pl__vm_running->current;

  if (c)
    pl__trace_end_task(c);
}

uint32_t pl_span_id(char *out) {
  const struct pl_coro *c = pl__vm_running->current;
  uint64_t id = c ? pl__coro_span_id(c) : 0;

  if (!id)
    return 0;
  pl__hex_put(out, id);
  return 16;
}

uint32_t pl_span_parent_id(char *out) {
  const struct pl_coro *c = pl__vm_running->current;
  uint64_t id = c ? pl__coro_parent_id(c) : 0;

  if (!id)
    return 0;
  pl__hex_put(out, id);
  return 16;
}
