/* fabric/span.c - laying spans out, and reading them back with care. */
#include "fabric/span.h"

#include "base/err.h"

#include <stddef.h>

struct attribute_head {
  uint8_t type;
  uint8_t key_bytes;
  uint16_t value_bytes;
};

_Static_assert(sizeof(struct pl_span) == 104, "the head has no holes");
_Static_assert(sizeof(struct attribute_head) == 4, "nor has this");
_Static_assert(sizeof(struct pl_spans) % 128 == 0, "the ring is aligned");
_Static_assert(sizeof(struct pl_span) + PL_LIMIT_SPAN_NAME_BYTES +
                       2 * PL_LIMIT_SPAN_VALUE_BYTES + PL_LIMIT_TENANT_BYTES +
                       PL_LIMIT_REQUEST_ID_BYTES + PL_LIMIT_TRACESTATE_BYTES +
                       PL_LIMIT_SPAN_ATTRIBUTE_BYTES <=
                   PL_LIMIT_SPAN_BYTES,
               "the longest span finds room");
_Static_assert(PL_LIMIT_SPAN_NAME_BYTES <= UINT8_MAX &&
                   PL_LIMIT_SPAN_KEY_BYTES <= UINT8_MAX,
               "their lengths are bytes");

const char *pl__span_what_name(unsigned what) {
  static const char *const names[PL_SPAN_WHATS] = {
      "request", "task",  "timer", "span",     "sleep", "body",
      "write",   "tasks", "event", "injected", "queue"};

  return what < PL_SPAN_WHATS ? names[what] : "?";
}

int pl__spans_init(struct pl_spans *s, uint64_t bytes) {
  atomic_init(&s->count, 0);
  atomic_init(&s->reserved, 0);
  for (uint32_t i = 0; i < PL_SPANS_SLOTS; i++)
    atomic_init(&s->recent[i], 0);
  return pl__ring_init(pl__spans_ring(s), bytes);
}

/* --- writing ------------------------------------------------------------ */

void pl__span_writer_init(struct pl_span_writer *w, struct pl_spans *s) {
  *w = (struct pl_span_writer){.spans = s, .count = pl__spans_count(s)};
  pl__ring_writer_init(&w->ring, pl__spans_ring(s), -1);
}

static unsigned lane_of(unsigned kept) {
  return kept & (PL_KEPT_ERROR | PL_KEPT_SLOW | PL_KEPT_SHED)
             ? PL_SPAN_LANE_FAILED
         : kept & PL_KEPT_SAMPLED ? PL_SPAN_LANE_SAMPLED
                                  : PL_SPAN_LANE_ANOMALY;
}

/* How far spans of a lane may fill the ring. */
static uint64_t fill_max(const struct pl_span_writer *w, unsigned lane) {
  uint64_t size = w->ring.mask + 1;

  return lane == PL_SPAN_LANE_FAILED    ? size
         : lane == PL_SPAN_LANE_SAMPLED ? size / 4 * 3
                                        : size / 2;
}

int pl__spans_begin(struct pl_span_writer *w, unsigned kept, uint32_t count,
                    uint32_t bytes) {
  uint64_t each = sizeof(struct pl_ring_prefix) + sizeof(struct pl_span) + 7;
  /* And what is left at the ring's end. */
  uint64_t to = w->ring.tail + count * each + bytes + PL_LIMIT_SPAN_BYTES;
  unsigned lane = lane_of(kept);
  uint64_t max = fill_max(w, lane);

  if (PL_UNLIKELY(to - w->ring.head > max)) {
    w->ring.head =
        atomic_load_explicit(&w->ring.ring->head, memory_order_acquire);
    if (to - w->ring.head > max) {
      for (uint32_t i = 0; i < count; i++)
        pl__ring_drop(&w->ring, lane);
      return PL_EFULL;
    }
  }
  /* Before anything is overwritten: see pl__spans_recent. */
  atomic_store_explicit(&w->spans->reserved, to, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  return 0;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static char *put(char *at, struct pl_slice text, uint32_t bytes) {
  if (bytes)
    memcpy(at, text.at, bytes);
  return at + bytes;
}

static void measure(struct pl_span *s, const struct pl_span_texts *t) {
  s->name_bytes = (uint8_t)smaller(t->name.bytes, PL_LIMIT_SPAN_NAME_BYTES);
  s->message_bytes =
      (uint16_t)smaller(t->message.bytes, PL_LIMIT_SPAN_VALUE_BYTES);
  s->tenant_bytes = (uint8_t)smaller(t->tenant.bytes, PL_LIMIT_TENANT_BYTES);
  s->caller_id_bytes =
      (uint8_t)smaller(t->caller_id.bytes, PL_LIMIT_REQUEST_ID_BYTES);
  s->target_bytes =
      (uint16_t)smaller(t->target.bytes, PL_LIMIT_SPAN_VALUE_BYTES);
  s->state_bytes = (uint16_t)smaller(t->state.bytes, PL_LIMIT_TRACESTATE_BYTES);
  s->attribute_bytes =
      (uint16_t)smaller(t->attributes.bytes, PL_LIMIT_SPAN_ATTRIBUTE_BYTES);
}

/* Bytes of a record by its head. */
static uint32_t record_bytes(const struct pl_span *s) {
  return (uint32_t)sizeof *s + s->name_bytes + s->message_bytes +
         s->tenant_bytes + s->caller_id_bytes + s->target_bytes +
         s->state_bytes + s->attribute_bytes;
}

void pl__spans_push(struct pl_span_writer *w, const struct pl_span *head,
                    const struct pl_span_texts *texts) {
  struct pl_span s = *head;
  uint32_t bytes;
  char *at;

  measure(&s, texts);
  bytes = record_bytes(&s);
  at = pl__ring_reserve(&w->ring, bytes, w->ring.mask + 1);
  PL_ASSERT(at); /* pl__spans_begin has made sure */
  if (!at)
    return;
  memcpy(at, &s, sizeof s);
  at = put(at + sizeof s, texts->name, s.name_bytes);
  at = put(at, texts->message, s.message_bytes);
  at = put(at, texts->tenant, s.tenant_bytes);
  at = put(at, texts->caller_id, s.caller_id_bytes);
  at = put(at, texts->target, s.target_bytes);
  at = put(at, texts->state, s.state_bytes);
  put(at, texts->attributes, s.attribute_bytes);
  pl__ring_push(&w->ring, bytes);
  atomic_store_explicit(&w->spans->recent[w->count++ % PL_SPANS_SLOTS],
                        w->ring.next + 1, memory_order_relaxed);
}

void pl__spans_publish(struct pl_span_writer *w) {
  pl__ring_publish(&w->ring);
  atomic_store_explicit(&w->spans->count, w->count, memory_order_release);
}

/* Key and value of an attribute; what is too long was cut by the caller. */
static int attribute_put(char *out, uint32_t cap, uint32_t *used, unsigned type,
                         struct pl_slice key, const void *value,
                         uint32_t bytes) {
  struct attribute_head head = {
      .type = (uint8_t)type,
      .key_bytes = (uint8_t)smaller(key.bytes, PL_LIMIT_SPAN_KEY_BYTES),
      .value_bytes = (uint16_t)bytes,
  };
  char *at = out + *used;

  if (sizeof head + head.key_bytes + bytes > cap - *used)
    return PL_EFULL;
  memcpy(at, &head, sizeof head);
  at = put(at + sizeof head, key, head.key_bytes);
  put(at, pl__slice(value, bytes), bytes);
  *used += (uint32_t)sizeof head + head.key_bytes + bytes;
  return 0;
}

int pl__attribute_put_str(char *out, uint32_t cap, uint32_t *used,
                          struct pl_slice key, struct pl_slice value) {
  return attribute_put(out, cap, used, PL_ATTRIBUTE_STRING, key, value.at,
                       smaller(value.bytes, PL_LIMIT_SPAN_VALUE_BYTES));
}

int pl__attribute_put_num(char *out, uint32_t cap, uint32_t *used,
                          struct pl_slice key, double value) {
  return attribute_put(out, cap, used, PL_ATTRIBUTE_NUMBER, key, &value,
                       sizeof value);
}

int pl__attribute_put_bool(char *out, uint32_t cap, uint32_t *used,
                           struct pl_slice key, int value) {
  uint8_t truth = value != 0;

  return attribute_put(out, cap, used, PL_ATTRIBUTE_BOOL, key, &truth,
                       sizeof truth);
}

/* --- reading ------------------------------------------------------------ */

static struct pl_slice take(const char **at, uint32_t bytes) {
  struct pl_slice text = pl__slice(*at, bytes);

  *at += bytes;
  return text;
}

/* Numbers that readers use as indexes or name things by. */
static int is_sane(const struct pl_span *s) {
  return s->kind >= PL_SPAN_INTERNAL && s->kind <= PL_SPAN_CLIENT &&
         s->what < PL_SPAN_WHATS && s->status <= PL_SPAN_ERROR &&
         s->adjusted >= 0; /* and no NaN */
}

int pl__span_read(const void *at, uint32_t bytes, struct pl_span_view *view) {
  struct pl_span s;
  const char *text = (const char *)at + sizeof s;

  if (bytes < sizeof s)
    return PL_EBAD;
  memcpy(&s, at, sizeof s);
  if (record_bytes(&s) != bytes || !is_sane(&s))
    return PL_EBAD;
  view->span = s;
  view->texts.name = take(&text, s.name_bytes);
  view->texts.message = take(&text, s.message_bytes);
  view->texts.tenant = take(&text, s.tenant_bytes);
  view->texts.caller_id = take(&text, s.caller_id_bytes);
  view->texts.target = take(&text, s.target_bytes);
  view->texts.state = take(&text, s.state_bytes);
  view->texts.attributes = take(&text, s.attribute_bytes);
  view->next = view->texts.attributes.at;
  view->left = s.attribute_bytes;
  return 0;
}

int pl__span_attribute(struct pl_span_view *view, struct pl_attribute *out) {
  struct attribute_head head;
  const char *value;

  if (view->left == 0)
    return 0;
  if (view->left < sizeof head)
    return PL_EBAD;
  memcpy(&head, view->next, sizeof head);
  if (view->left - sizeof head < (uint32_t)head.key_bytes + head.value_bytes)
    return PL_EBAD;
  *out = (struct pl_attribute){
      .key = pl__slice(view->next + sizeof head, head.key_bytes),
      .type = head.type};
  value = out->key.at + head.key_bytes;
  if (head.type == PL_ATTRIBUTE_STRING)
    out->text = pl__slice(value, head.value_bytes);
  else if (head.type == PL_ATTRIBUTE_NUMBER &&
           head.value_bytes == sizeof out->number)
    memcpy(&out->number, value, sizeof out->number);
  else if (head.type == PL_ATTRIBUTE_BOOL && head.value_bytes == 1)
    out->number = *value != 0;
  else
    return PL_EBAD;
  view->next = value + head.value_bytes;
  view->left -= (uint32_t)sizeof head + head.key_bytes + head.value_bytes;
  return 1;
}

/* Copies the record whose prefix lies at the position `at`. */
static uint32_t copy_record(const struct pl_ring *ring, uint64_t size,
                            uint64_t at, void *out) {
  const char *from = ring->data + (at & (size - 1));
  uint64_t room = size - (at & (size - 1));
  struct pl_ring_prefix prefix;

  if (room < sizeof prefix)
    return 0;
  memcpy(&prefix, from, sizeof prefix);
  if (prefix.mark != PL_RING_RECORD || prefix.bytes > PL_LIMIT_SPAN_BYTES ||
      prefix.bytes > room - sizeof prefix)
    return 0;
  memcpy(out, from + sizeof prefix, prefix.bytes);
  return prefix.bytes;
}

static int is_recent(uint64_t number, uint64_t count) {
  return number < count && count - number <= PL_SPANS_RECENT;
}

uint32_t pl__spans_recent(struct pl_spans *s, uint64_t number, void *out) {
  const struct pl_ring *ring = pl__spans_ring(s);
  uint64_t count = pl__spans_count(s), size = ring->bytes, at, reserved;
  _Atomic uint64_t *slot = &s->recent[number % PL_SPANS_SLOTS];
  uint32_t bytes;

  if (!is_recent(number, count) || size > PL_LIMIT_SPAN_RING_BYTES ||
      (size & (size - 1)) != 0 || size == 0)
    return 0;
  at = atomic_load_explicit(slot, memory_order_relaxed);
  if (at == 0 || (at - 1) % 8 != 0)
    return 0;
  bytes = copy_record(ring, size, at - 1, out);
  /* What was copied counts if the writer had not begun to overwrite it. */
  atomic_thread_fence(memory_order_acquire);
  reserved = atomic_load_explicit(&s->reserved, memory_order_relaxed);
  if (!is_recent(number, pl__spans_count(s)) || reserved - (at - 1) > size)
    return 0;
  return bytes;
}
