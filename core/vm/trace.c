/* vm/trace.c - see trace.h.
 *
 * Texts lie one behind the other, as they come: each behind a head that tells
 * whose it is.  They are put together when a trace is kept, which is rare.
 */
#include "vm/trace.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "http/trace_context.h"
#include "vm/coro.h"
#include "vm/report.h"

/* What was not used of so much time may come at once; the rest is as in
 * fabric/tracing.h, but of one worker, so that nothing is shared. */
#define WISH_BURST_S 1.0

struct text_head {
  uint8_t note; /* or PL_TRACE_ROOT */
  uint8_t kind; /* enum pl_trace_text */
  uint16_t bytes;
};

_Static_assert(PL_TRACE_NOTE_PARTS *PL_TRACE_PART_NOTES < PL_TRACE_ROOT,
               "a byte tells notes apart");
_Static_assert(sizeof(struct text_head) + 4 + PL_LIMIT_SPAN_KEY_BYTES +
                       PL_LIMIT_SPAN_VALUE_BYTES <=
                   PL_TRACE_PART_BYTES,
               "the longest text finds room in a part");

/* --- the tracer --------------------------------------------------------- */

void pl__tracer_init(struct pl_tracer *t, struct pl_spans *spans,
                     struct pl_tracing *tracing,
                     const struct pl_stopwatch *watch, uint32_t worker) {
  *t = (struct pl_tracer){
      .watch = watch, .tracing = tracing, .worker = (uint16_t)worker};
  pl__span_writer_init(&t->writer, spans);
  pl__tracer_tick(t);
}

void pl__tracer_sample(struct pl_tracer *t, double share) {
  t->below = pl__tracing_below(share);
  t->weight = share > 0 ? 1 / share : 0;
}

void pl__tracer_limit_wishes(struct pl_tracer *t, double per_second) {
  t->wish_s = per_second > 0 ? 1 / per_second : 0;
}

void pl__tracer_hear_wish(struct pl_tracer *t, struct pl_context *c,
                          double now) {
  if (t->wish_s > 0 && t->wish_due <= now + WISH_BURST_S) {
    t->wish_due = (t->wish_due > now ? t->wish_due : now) + t->wish_s;
    return;
  }
  c->trace_flags &= (uint8_t)~PL_TRACE_SAMPLED;
  t->counts.unheard++;
}

void pl__tracer_tick(struct pl_tracer *t) {
  t->offset_ns = pl__clock_realtime_ns() - pl__clock_monotonic_ns();
}

static int64_t time_ns(const struct pl_tracer *t, double monotonic_s) {
  return (int64_t)(monotonic_s * PL_NS_PER_S) + t->offset_ns;
}

/* --- notes --------------------------------------------------------------- */

static struct pl_trace_part *part_take(struct pl_vm *vm) {
  struct pl_trace_part *p = vm->trace_parts;

  if (p) {
    vm->trace_parts = p->next;
  } else {
    if (vm->trace_part_count == PL_TRACE_PARTS_MAX)
      return NULL;
    p = pl__alloc(sizeof *p);
    if (!p)
      return NULL;
    vm->trace_part_count++;
  }
  p->next = NULL;
  p->used = 0;
  return p;
}

/* Hangs one more to the end of a list of at most `max`; NULL: there is none. */
static struct pl_trace_part *
part_add(struct pl_vm *vm, struct pl_trace_part **list, uint32_t max) {
  for (; *list; list = &(*list)->next)
    if (--max == 0)
      return NULL;
  return *list = part_take(vm);
}

static struct pl_trace_part *part_last(struct pl_trace_part *list) {
  while (list && list->next)
    list = list->next;
  return list;
}

static void parts_give(struct pl_vm *vm, struct pl_trace_part **list) {
  struct pl_trace_part *last = part_last(*list);

  if (!last)
    return;
  last->next = vm->trace_parts;
  vm->trace_parts = *list;
  *list = NULL;
}

void pl__trace_deinit(struct pl_vm *vm) {
  while (vm->trace_parts) {
    struct pl_trace_part *p = vm->trace_parts;
    vm->trace_parts = p->next;
    pl__free(p);
  }
}

void pl__trace_forget(struct pl_vm *vm, struct pl_trace *trace) {
  parts_give(vm, &trace->notes);
  parts_give(vm, &trace->texts);
  *trace = (struct pl_trace){0};
}

struct pl_trace *pl__coro_trace(const struct pl_coro *c) {
  if (!c->vm->options.tracer)
    return NULL;
  return c->req       ? &c->vm->slots[c->req->slot].trace
         : c->carried ? &c->carried->trace
                      : NULL;
}

struct pl_note *pl__trace_at(const struct pl_trace *trace, uint32_t index) {
  struct pl_trace_part *p = trace->notes;

  for (; index >= PL_TRACE_PART_NOTES; index -= PL_TRACE_PART_NOTES)
    p = p->next;
  return &p->notes[index];
}

struct pl_note *pl__trace_note(struct pl_vm *vm, struct pl_trace *trace,
                               uint32_t *index) {
  if (trace->count % PL_TRACE_PART_NOTES == 0 &&
      !part_add(vm, &trace->notes, PL_TRACE_NOTE_PARTS)) {
    if (trace->left_out < UINT16_MAX)
      trace->left_out++;
    return NULL;
  }
  *index = trace->count++;
  return pl__trace_at(trace, *index);
}

void pl__trace_text(struct pl_vm *vm, struct pl_trace *trace, uint32_t index,
                    enum pl_trace_text kind, struct pl_slice text) {
  struct text_head head = {.note = (uint8_t)index,
                           .kind = (uint8_t)kind,
                           .bytes = (uint16_t)text.bytes};
  struct pl_trace_part *p = part_last(trace->texts);

  if (sizeof head + text.bytes > PL_TRACE_PART_BYTES)
    return;
  if (!p || sizeof head + text.bytes > PL_TRACE_PART_BYTES - p->used)
    p = part_add(vm, &trace->texts, PL_TRACE_TEXT_PARTS);
  if (!p)
    return;
  memcpy(p->text + p->used, &head, sizeof head);
  if (text.bytes)
    memcpy(p->text + p->used + sizeof head, text.at, text.bytes);
  p->used += (uint32_t)sizeof head + text.bytes;
  if (index == PL_TRACE_ROOT)
    trace->root_has_text = true;
  else
    pl__trace_at(trace, index)->has_text = 1;
}

/* --- waits --------------------------------------------------------------- */

uint64_t pl__coro_span_id(const struct pl_coro *c) {
  const struct pl_context *context = pl__coro_context(c);

  return c->span_depth  ? c->spans[c->span_depth - 1].id
         : c->span_base ? c->span_base
         : context      ? context->span_id
                        : 0;
}

uint64_t pl__coro_parent_id(const struct pl_coro *c) {
  const struct pl_context *context = pl__coro_context(c);

  if (c->span_depth > 1)
    return c->spans[c->span_depth - 2].id;
  if (c->span_depth == 1 || !context)
    return c->span_base ? c->span_base : context ? context->span_id : 0;
  return c->span_parent ? c->span_parent : context->parent_id;
}

void pl__trace_wait(struct pl_coro *c, unsigned wait) {
  if (!c->req && !c->span_depth)
    return;
  c->noted_wait = (uint8_t)wait;
  c->wait_from = pl__tracer_now(c->vm->options.tracer);
}

void pl__trace_waited(struct pl_coro *c) {
  static const uint8_t what[] = {
      [PL_WAIT_TIMER] = PL_SPAN_SLEEP, [PL_WAIT_BODY] = PL_SPAN_BODY,
      [PL_WAIT_WRITE] = PL_SPAN_WRITE, [PL_WAIT_TASKS] = PL_SPAN_TASKS,
      [PL_WAIT_EVENT] = PL_SPAN_EVENT, [PL_WAIT_INJECTED] = PL_SPAN_INJECTED,
  };
  struct pl_trace *trace = pl__coro_trace(c);
  uint32_t index;
  struct pl_note *n = trace ? pl__trace_note(c->vm, trace, &index) : NULL;

  if (n)
    *n = (struct pl_note){.parent_id = c->span_depth
                                           ? c->spans[c->span_depth - 1].id
                                           : c->span_base,
                          .start = c->wait_from,
                          .end = pl__tracer_now(c->vm->options.tracer),
                          .what = what[c->noted_wait],
                          .kind = PL_SPAN_INTERNAL,
                          .status = PL_SPAN_UNSET};
  c->wait_from = 0;
}

void pl__trace_waited_before(struct pl_vm *vm, const struct pl_req *req,
                             unsigned what, double from, double to) {
  uint32_t index;
  struct pl_note *n = pl__trace_note(vm, &vm->slots[req->slot].trace, &index);

  if (n)
    *n = (struct pl_note){.start = from,
                          .end = to,
                          .what = (uint8_t)what,
                          .kind = PL_SPAN_INTERNAL,
                          .status = PL_SPAN_UNSET};
}

/* --- texts, when a trace is kept ------------------------------------------ */

/* Takes an attribute out of `used` bytes at `at`; returns what is left. */
static uint32_t attribute_drop(char *at, uint32_t used, struct pl_slice key) {
  struct pl_span_view view = {.next = at, .left = used};
  struct pl_attribute a;

  for (const char *from = at; pl__span_attribute(&view, &a) == 1;
       from = view.next) {
    if (!pl__slice_equal(a.key, key))
      continue;
    memmove(at + (from - at), view.next, view.left);
    return (uint32_t)(from - at) + view.left;
  }
  return used;
}

/* An attribute takes the place of an earlier one of its key. */
static void attribute_add(char *out, uint32_t *used, struct pl_slice text) {
  struct pl_span_view view = {.next = text.at, .left = text.bytes};
  struct pl_attribute a;

  if (pl__span_attribute(&view, &a) != 1)
    return;
  *used = attribute_drop(out, *used, a.key);
  if (text.bytes > PL_LIMIT_SPAN_ATTRIBUTE_BYTES - *used)
    return;
  memcpy(out + *used, text.at, text.bytes);
  *used += text.bytes;
}

/* Fills in the texts of one note or the root; attributes go to `memory` of
 * PL_LIMIT_SPAN_ATTRIBUTE_BYTES. */
static void texts_gather(const struct pl_trace *trace, uint32_t index,
                         struct pl_span_texts *out, char *memory) {
  uint32_t used = 0;

  for (const struct pl_trace_part *p = trace->texts; p; p = p->next) {
    struct text_head head;
    for (uint32_t at = 0; at < p->used;
         at += (uint32_t)sizeof head + head.bytes) {
      struct pl_slice text;
      memcpy(&head, p->text + at, sizeof head);
      text = pl__slice(p->text + at + sizeof head, head.bytes);
      if (head.note != index)
        continue;
      if (head.kind == PL_TRACE_NAME)
        out->name = text;
      else if (head.kind == PL_TRACE_MESSAGE)
        out->message = text;
      else
        attribute_add(memory, &used, text);
    }
  }
  out->attributes = pl__slice(memory, used);
}

static uint32_t texts_bytes(const struct pl_trace *trace) {
  uint32_t bytes = 0;

  for (const struct pl_trace_part *p = trace->texts; p; p = p->next)
    bytes += p->used;
  return bytes;
}

/* --- what is kept --------------------------------------------------------- */

/* While control says that more is kept. */
static unsigned decide_anomaly(struct pl_tracer *t, uint64_t id, uint64_t below,
                               double now, unsigned kept, double *weight) {
  double each = 1 / pl__tracing_share(below);

  if (id >= below) { /* a wish of the caller's, or nothing */
    *weight = 0;
    return kept;
  }
  if (!kept && !pl__tracing_take(t->tracing, (int64_t)(now * PL_NS_PER_S))) {
    t->carried += each;
    t->counts.capped++;
    return 0;
  }
  *weight = each + t->carried;
  t->carried = 0;
  return kept | PL_KEPT_ANOMALY;
}

/* Why a trace is kept, PL_KEPT_*; 0: it is not.
 *
 *   because  what it is certainly kept for
 *   *weight  how many it stands for */
static unsigned decide(struct pl_tracer *t, const struct pl_context *context,
                       unsigned because, double now, double *weight) {
  unsigned kept = context->trace_flags & PL_TRACE_SAMPLED ? PL_KEPT_SAMPLED : 0;
  uint64_t id = context->trace_id[1] & PL_TRACE_ID_MASK;
  uint64_t below =
      atomic_load_explicit(&t->tracing->below, memory_order_relaxed);

  *weight = 1;
  if (because)
    return kept | because;
  if (PL_UNLIKELY(below > t->below && below <= PL_TRACE_ID_MASK + 1))
    return decide_anomaly(t, id, below, now, kept, weight);
  if (kept)
    *weight = id < t->below ? t->weight : 0;
  return kept;
}

static void count_kept(struct pl_tracer *t, unsigned kept, uint32_t spans) {
  for (unsigned i = 0; i < PL_KEPT_REASONS; i++)
    t->counts.traces[i] += kept >> i & 1;
  t->counts.spans += spans;
}

/* All notes, in their order; what is not over ends with the whole. */
static void notes_push(struct pl_tracer *t, const struct pl_trace *trace,
                       const struct pl_span *root, struct pl_random *random) {
  char memory[PL_LIMIT_SPAN_ATTRIBUTE_BYTES];

  for (uint32_t i = 0; i < trace->count; i++) {
    const struct pl_note *n = pl__trace_at(trace, i);
    struct pl_span_texts texts = {0};
    struct pl_span s = {
        .trace_id = {root->trace_id[0], root->trace_id[1]},
        .span_id = n->span_id ? n->span_id : pl__random_id(random),
        .parent_id = n->parent_id ? n->parent_id : root->span_id,
        .request_id = root->request_id,
        .start_ns = time_ns(t, n->start),
        .end_ns = n->end > 0 ? time_ns(t, n->end) : root->end_ns,
        .adjusted = root->adjusted,
        .route = root->route,
        .generation = root->generation,
        .worker = root->worker,
        .kept = root->kept,
        .kind = n->kind,
        .what = n->what,
        .status = n->status,
        .tier = root->tier,
        .trace_flags = root->trace_flags,
        .is_local = 1};

    if (n->has_text)
      texts_gather(trace, i, &texts, memory);
    pl__spans_push(&t->writer, &s, &texts);
  }
}

/* Writes a trace; without `texts` its notes alone, the root being its parent. */
static void trace_put(struct pl_tracer *t, struct pl_vm *vm,
                      const struct pl_trace *trace, struct pl_span *root,
                      struct pl_span_texts *texts) {
  char memory[PL_LIMIT_SPAN_ATTRIBUTE_BYTES];
  uint32_t count = (trace ? trace->count : 0u) + (texts ? 1u : 0u);
  uint32_t bytes = trace ? texts_bytes(trace) : 0;

  if (texts)
    bytes += texts->tenant.bytes + texts->caller_id.bytes + texts->state.bytes +
             (texts->target.bytes < PL_LIMIT_SPAN_VALUE_BYTES
                  ? texts->target.bytes
                  : PL_LIMIT_SPAN_VALUE_BYTES);
  if (count == 0 || pl__spans_begin(&t->writer, root->kept, count, bytes))
    return;
  if (trace) {
    notes_push(t, trace, root, &vm->random);
    root->left_out = trace->left_out;
    t->counts.left_out += trace->left_out;
    if (texts && trace->root_has_text)
      texts_gather(trace, PL_TRACE_ROOT, texts, memory);
  }
  if (texts)
    pl__spans_push(&t->writer, root, texts);
  pl__spans_publish(&t->writer);
  count_kept(t, texts ? root->kept : 0, count);
}

/* What head and texts of a root have from its context. */
static struct pl_span root_of(const struct pl_tracer *t,
                              const struct pl_context *c, unsigned kept,
                              double weight) {
  return (struct pl_span){
      .trace_id = {c->trace_id[0], c->trace_id[1]},
      .span_id = c->span_id,
      .parent_id = c->parent_id,
      .request_id = c->request_id,
      .adjusted = weight,
      .worker = t->worker,
      .kept = (uint16_t)kept,
      .tier = c->tier,
      .trace_flags = c->trace_flags,
  };
}

static struct pl_span_texts texts_of(const struct pl_context *c) {
  return (struct pl_span_texts){
      .tenant = pl__slice(c->tenant, c->tenant_bytes),
      .caller_id = pl__slice(c->caller_id, c->caller_id_bytes)};
}

/* --- ends ------------------------------------------------------------------ */

/* What the caller's tracestate is, as those who are asked on the request's behalf
 * get it; `memory` has PL_LIMIT_TRACESTATE_BYTES. */
static struct pl_slice state_of(const struct pl_req *req, char *memory) {
  const struct pl_context *c = &req->context;

  if (!(c->passes & PL_PASSES_STATE))
    return PL_SLICE("");
  return pl__slice(memory, pl__tracestate_put(req->headers + c->passes_at,
                                              req->header_count - c->passes_at,
                                              memory));
}

static void request_put(struct pl_tracer *t, struct pl_vm *vm,
                        const struct pl_trace *trace,
                        const struct pl_trace_end *e, unsigned kept,
                        double weight) {
  const struct pl_req *req = e->req;
  struct pl_span root = root_of(t, &req->context, kept, weight);
  struct pl_span_texts texts = texts_of(&req->context);
  char state[PL_LIMIT_TRACESTATE_BYTES];

  root.start_ns = time_ns(t, req->received);
  root.end_ns = time_ns(t, e->end > req->received ? e->end : req->received);
  root.route = e->route;
  root.generation = e->generation;
  root.http_status = req->status;
  root.method = req->method;
  root.kind = PL_SPAN_SERVER;
  root.what = PL_SPAN_REQUEST;
  root.status = req->status >= 500 ? PL_SPAN_ERROR : PL_SPAN_UNSET;
  texts.target = req->target;
  texts.state = state_of(req, state);
  trace_put(t, vm, trace, &root, &texts);
}

bool pl__trace_end_request(struct pl_tracer *t, struct pl_vm *vm,
                           const struct pl_trace_end *e) {
  const struct pl_req *req = e->req;
  struct pl_trace *trace = vm ? &vm->slots[req->slot].trace : NULL;
  unsigned because = 0, kept;
  double weight;

  if (req->status >= 500 || (trace && trace->has_failed))
    because |= PL_KEPT_ERROR;
  if (e->is_slow)
    because |= PL_KEPT_SLOW;
  if ((req->flags & PL_REQ_OVERDUE) || (trace && trace->was_shed))
    because |= PL_KEPT_SHED;
  if (PL_UNLIKELY(!req->context.span_id)) /* its head was not understood */
    return false;
  kept = decide(t, &req->context, because, e->end, &weight);
  if (PL_UNLIKELY(kept))
    request_put(t, vm, trace, e, kept, weight);
  if (trace && (trace->notes || trace->texts || trace->has_failed ||
                trace->was_shed || trace->left_out))
    pl__trace_forget(vm, trace);
  return kept != 0;
}

/* Puts what there is of a task, with its own span or without. */
static void task_put(struct pl_coro *c, unsigned kept, double weight,
                     double now, bool is_over) {
  struct pl_tracer *t = c->vm->options.tracer;
  struct pl_carried *k = c->carried;
  struct pl_span root = root_of(t, &k->context, kept, weight);
  struct pl_span_texts texts = texts_of(&k->context);

  root.start_ns = time_ns(t, k->began);
  root.end_ns = time_ns(t, now);
  root.route = PL_RECORD_NO_ROUTE;
  root.generation = c->vm->options.generation;
  root.kind = PL_SPAN_INTERNAL;
  root.what = k->what;
  root.status = k->trace.root_has_failed ? PL_SPAN_ERROR : PL_SPAN_UNSET;
  root.is_local = k->context.parent_id && k->what == PL_SPAN_TASK;
  /* One that was spawned by another task is in a span of that one. */
  if (!k->what && c->span_base)
    root.span_id = c->span_base;
  trace_put(t, c->vm, &k->trace, &root, is_over && k->what ? &texts : NULL);
}

void pl__trace_end_task(struct pl_coro *c) {
  struct pl_tracer *t = c->vm->options.tracer;
  struct pl_carried *k = c->carried;
  unsigned because, kept;
  double now, weight;

  if (!t || !k)
    return;
  now = pl__tracer_now(t);
  because = (k->trace.has_failed ? PL_KEPT_ERROR : 0) |
            (k->kept & ~(unsigned)PL_KEPT_SAMPLED);
  kept = decide(t, &k->context, because, now, &weight);
  if (kept)
    task_put(c, kept, weight, now, true);
  pl__trace_forget(c->vm, &k->trace);
  k->kept = k->what = 0;
}

/* What was said of the task itself is for its end. */
static void forget_notes(struct pl_vm *vm, struct pl_trace *trace) {
  struct pl_trace_part *texts = trace->texts;

  trace->texts = NULL;
  parts_give(vm, &trace->notes);
  trace->count = trace->left_out = 0;
  trace->has_failed = trace->root_has_failed;
  for (const struct pl_trace_part *p = texts; trace->root_has_text && p;
       p = p->next) {
    struct text_head head;
    for (uint32_t at = 0; at < p->used;
         at += (uint32_t)sizeof head + head.bytes) {
      memcpy(&head, p->text + at, sizeof head);
      if (head.note == PL_TRACE_ROOT)
        pl__trace_text(vm, trace, PL_TRACE_ROOT, head.kind,
                       pl__slice(p->text + at + sizeof head, head.bytes));
    }
  }
  parts_give(vm, &texts);
}

void pl__trace_end_span(struct pl_coro *c) {
  struct pl_tracer *t = c->vm->options.tracer;
  struct pl_carried *k = c->carried;
  double now = pl__tracer_now(t), weight;
  unsigned kept = decide(t, &k->context,
                         k->trace.has_failed ? PL_KEPT_ERROR : 0, now, &weight);

  if (kept) {
    task_put(c, kept, weight, now, false);
    k->kept |= (uint8_t)kept;
  }
  forget_notes(c->vm, &k->trace);
}
