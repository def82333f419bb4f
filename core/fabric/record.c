/* fabric/record.c - laying records out, and reading them back with care.
 *
 *     struct pl_record | labels | struct access_body | target
 *     struct pl_record | labels | struct log_body | message | fields
 *     labels: tenant | caller's id | filled up to a multiple of 8
 *     field: struct field_head | key | text, or 8 bytes of a double
 *
 * Readers check every length: what lies in a ring was written by a process
 * that may have gone wild before it died.
 */
#include "fabric/record.h"

#include "base/clock.h"
#include "base/err.h"

#include <stddef.h>

struct access_body {
  uint64_t duration_ns;
  uint64_t bytes_in;
  uint64_t bytes_out;
  uint32_t target_cut_bytes;
  uint16_t status;
  uint16_t target_bytes;
  uint8_t method;
  uint8_t http_minor;
  uint8_t aborted;
  uint8_t zero;
  struct pl_peer peer;
};

struct log_body {
  uint32_t message_bytes;
  uint32_t message_cut_bytes;
  uint16_t field_count;
  uint16_t fields_left_out;
  uint32_t zero;
};

struct field_head {
  uint8_t type;
  uint8_t zero;
  uint16_t key_bytes;
  uint32_t value_bytes;
  uint32_t cut_bytes;
};

_Static_assert(sizeof(struct pl_record) == 56, "the head has no holes");
_Static_assert(sizeof(struct access_body) == 56, "nor has this");
_Static_assert(sizeof(struct log_body) == 16, "nor this");
_Static_assert(sizeof(struct field_head) == 12, "nor this");

const char *pl__level_name(unsigned level) {
  static const char *const names[] = {"debug", "info", "warn", "error"};

  return level <= PL_LEVEL_ERROR ? names[level] : "?";
}

/* Where the body of a record begins, behind its head and labels. */
static uint32_t body_at(const struct pl_record *head) {
  uint32_t labels = (uint32_t)head->tenant_bytes + head->caller_id_bytes;

  return (uint32_t)sizeof *head + ((labels + 7) & ~7u);
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Says in the head how long the labels are. */
static void measure_labels(struct pl_record *head,
                           const struct pl_record_labels *labels) {
  head->tenant_bytes =
      (uint8_t)smaller(labels->tenant.bytes, PL_LIMIT_TENANT_BYTES);
  head->caller_id_bytes =
      (uint8_t)smaller(labels->caller_id.bytes, PL_LIMIT_REQUEST_ID_BYTES);
}

/* Lays head and labels down at `at`. */
static void put_head(char *at, const struct pl_record *head,
                     const struct pl_record_labels *labels) {
  memcpy(at, head, sizeof *head);
  at += sizeof *head;
  if (head->tenant_bytes)
    memcpy(at, labels->tenant.at, head->tenant_bytes);
  if (head->caller_id_bytes)
    memcpy(at + head->tenant_bytes, labels->caller_id.at,
           head->caller_id_bytes);
}

/* How far a record of each level may fill the ring. */
static uint64_t fill_max(const struct pl_ring_writer *w, unsigned level) {
  uint64_t size = w->mask + 1;
  switch (level) {
  case PL_LEVEL_DEBUG:
    return size / 2;
  case PL_LEVEL_INFO:
    return size / 4 * 3;
  case PL_LEVEL_WARN:
    return size / 10 * 9;
  default:
    return size;
  }
}

int pl__record_access(struct pl_ring_writer *w, const struct pl_access *a) {
  uint32_t kept = a->target.bytes;
  if (PL_UNLIKELY(kept > PL_LIMIT_LOG_TARGET_BYTES))
    kept = PL_LIMIT_LOG_TARGET_BYTES;
  struct pl_record head = {
      .kind = PL_RECORD_ACCESS,
      .level = PL_LEVEL_INFO,
      .worker = a->worker,
      .route = a->route,
      .time_ns = a->time_ns ? a->time_ns : pl__clock_realtime_coarse_ns(),
      .request_id = a->request_id,
      .trace_id = {a->trace_id[0], a->trace_id[1]},
      .span_id = a->span_id,
      .generation = a->generation,
  };
  measure_labels(&head, &a->labels);
  uint32_t body = body_at(&head);
  uint32_t target = body + (uint32_t)sizeof(struct access_body);
  uint32_t bytes = target + kept;
  char *at = pl__ring_reserve(w, bytes, fill_max(w, PL_LEVEL_INFO));
  if (PL_UNLIKELY(!at)) {
    pl__ring_drop(w, PL_LEVEL_INFO);
    return PL_EFULL;
  }
  put_head(at, &head, &a->labels);
  *(struct access_body *)(void *)(at + body) = (struct access_body){
      .duration_ns = a->duration_ns,
      .bytes_in = a->bytes_in,
      .bytes_out = a->bytes_out,
      .target_cut_bytes = a->target.bytes - kept,
      .status = a->status,
      .target_bytes = (uint16_t)kept,
      .method = a->method,
      .http_minor = a->http_minor,
      .aborted = a->aborted,
      .peer = a->peer,
  };
  if (kept)
    memcpy(at + target, a->target.at, kept);
  pl__ring_push(w, bytes);
  pl__ring_publish(w);
  return 0;
}

uint32_t pl__record_cut(struct pl_slice s, uint32_t max) {
  if (s.bytes <= max)
    return s.bytes;
  uint32_t n = max;
  for (int i = 0; i < 3 && n > 0 && (s.at[n] & 0xc0) == 0x80; i++)
    n--;
  return (s.at[n] & 0xc0) == 0x80 ? max : n;
}

static uint32_t room(const struct pl_record_draft *d) {
  return d->cap - d->bytes;
}

static void put(struct pl_record_draft *d, const void *at, uint32_t bytes) {
  if (bytes)
    memcpy(d->at + d->bytes, at, bytes);
  d->bytes += bytes;
}

static struct log_body *body_of(struct pl_record_draft *d) {
  return (void *)(d->at + d->body);
}

void pl__record_begin(struct pl_record_draft *d, void *memory, uint32_t bytes,
                      const struct pl_record *head, struct pl_slice message) {
  const struct pl_record_labels none = {0};

  pl__record_begin_for(d, memory, bytes, head, &none, message);
}

void pl__record_begin_for(struct pl_record_draft *d, void *memory,
                          uint32_t bytes, const struct pl_record *head,
                          const struct pl_record_labels *labels,
                          struct pl_slice message) {
  PL_ASSERT(bytes >= 256 && (uintptr_t)memory % 8 == 0);
  struct pl_record r = *head;
  r.kind = PL_RECORD_LOG;
  if (r.time_ns == 0)
    r.time_ns = pl__clock_realtime_ns();
  measure_labels(&r, labels);
  put_head(memory, &r, labels);
  *d = (struct pl_record_draft){
      .at = memory,
      .bytes = body_at(&r) + (uint32_t)sizeof(struct log_body),
      .cap = smaller(bytes, PL_LIMIT_LOG_RECORD_BYTES),
      .body = body_at(&r),
  };
  uint32_t kept =
      pl__record_cut(message, smaller(PL_LIMIT_LOG_MESSAGE_BYTES, room(d)));
  *body_of(d) = (struct log_body){.message_bytes = kept,
                                  .message_cut_bytes = message.bytes - kept};
  put(d, message.at, kept);
}

/* Whether a field with a value of `value_min` bytes or more has a place. */
static int begin_field(struct pl_record_draft *d, struct pl_slice *key,
                       uint32_t value_min) {
  struct log_body *body = body_of(d);
  key->bytes = pl__record_cut(*key, PL_LIMIT_LOG_KEY_BYTES);
  if (body->field_count < PL_LIMIT_LOG_FIELD_COUNT &&
      room(d) >= sizeof(struct field_head) + key->bytes + value_min) {
    body->field_count++;
    return 1;
  }
  if (body->fields_left_out < UINT16_MAX)
    body->fields_left_out++;
  return 0;
}

static void put_field(struct pl_record_draft *d, enum pl_field_type type,
                      struct pl_slice key, const void *value, uint32_t bytes,
                      uint32_t cut_bytes) {
  struct field_head head = {.type = (uint8_t)type,
                            .key_bytes = (uint16_t)key.bytes,
                            .value_bytes = bytes,
                            .cut_bytes = cut_bytes};
  put(d, &head, sizeof head);
  put(d, key.at, key.bytes);
  put(d, value, bytes);
}

void pl__record_str(struct pl_record_draft *d, struct pl_slice key,
                    struct pl_slice value) {
  if (!begin_field(d, &key, smaller(value.bytes, 16)))
    return;
  uint32_t left = room(d) - (uint32_t)sizeof(struct field_head) - key.bytes;
  uint32_t kept =
      pl__record_cut(value, smaller(PL_LIMIT_LOG_VALUE_BYTES, left));
  put_field(d, PL_FIELD_STRING, key, value.at, kept, value.bytes - kept);
}

void pl__record_num(struct pl_record_draft *d, struct pl_slice key,
                    double value) {
  if (begin_field(d, &key, sizeof value))
    put_field(d, PL_FIELD_NUMBER, key, &value, sizeof value, 0);
}

void pl__record_bool(struct pl_record_draft *d, struct pl_slice key,
                     int value) {
  double number = value != 0;
  if (begin_field(d, &key, sizeof number))
    put_field(d, PL_FIELD_BOOL, key, &number, sizeof number, 0);
}

bool pl__record_has_room(struct pl_ring_writer *w, enum pl_level level) {
  return level == PL_LEVEL_ERROR ||
         pl__ring_reserve(w, PL_RECORD_USUAL_BYTES, fill_max(w, level)) != NULL;
}

static void *reserve(struct pl_ring_writer *w, const struct pl_record_draft *d,
                     unsigned level) {
  void *at = pl__ring_reserve(w, d->bytes, fill_max(w, level));
  return at || level != PL_LEVEL_ERROR
             ? at
             : pl__ring_reserve_patiently(w, d->bytes);
}

static void finish(const struct pl_record_draft *d, struct pl_ring_writer *w,
                   void *at) {
  memcpy(at, d->at, d->bytes);
  pl__ring_push(w, d->bytes);
  pl__ring_publish(w);
}

int pl__record_end(struct pl_record_draft *d, struct pl_ring_writer *w) {
  unsigned level = ((const struct pl_record *)(void *)d->at)->level;
  void *at = reserve(w, d, level);
  if (PL_LIKELY(at)) {
    finish(d, w, at);
    return 0;
  }
  if (level == PL_LEVEL_ERROR && w->overflow &&
      !w->overflow(w->overflow_arg, d->at, d->bytes))
    return 0;
  pl__ring_drop(w, level);
  return PL_EFULL;
}

int pl__record_copy(struct pl_ring_writer *w, const void *record,
                    uint32_t bytes) {
  struct pl_record head;
  int failed = pl__record_read(record, bytes, &head);
  if (failed)
    return failed;
  void *at = pl__ring_reserve(w, bytes, fill_max(w, head.level));
  if (!at) {
    pl__ring_drop(w, head.level);
    return PL_EFULL;
  }
  memcpy(at, record, bytes);
  pl__ring_push(w, bytes);
  pl__ring_publish(w);
  return 0;
}

int pl__record_try_end(struct pl_record_draft *d, struct pl_ring_writer *w) {
  void *at = pl__ring_reserve(w, d->bytes, w->mask + 1);
  if (!at)
    return PL_EFULL;
  finish(d, w, at);
  return 0;
}

int pl__record_text(struct pl_ring_writer *w, const struct pl_record *head,
                    struct pl_slice message) {
  _Alignas(8) char memory[2048];
  struct pl_record_draft d;
  pl__record_begin(&d, memory, sizeof memory, head, message);
  return pl__record_end(&d, w);
}

int pl__record_with(struct pl_ring_writer *w, const struct pl_record *head,
                    const char *message, const char *key, const char *value) {
  _Alignas(8) char memory[2048 + PL_LIMIT_LOG_VALUE_BYTES];
  struct pl_record_draft d;
  pl__record_begin(&d, memory, sizeof memory, head, pl__slice_text(message));
  if (value)
    pl__record_str(&d, pl__slice_text(key), pl__slice_text(value));
  return pl__record_end(&d, w);
}

int pl__record_read(const void *at, uint32_t bytes, struct pl_record *head) {
  if (bytes < sizeof *head)
    return PL_EBAD;
  memcpy(head, at, sizeof *head);
  if (head->level > PL_LEVEL_ERROR ||
      head->tenant_bytes > PL_LIMIT_TENANT_BYTES ||
      head->caller_id_bytes > PL_LIMIT_REQUEST_ID_BYTES ||
      body_at(head) > bytes)
    return PL_EBAD;
  return head->kind == PL_RECORD_LOG || head->kind == PL_RECORD_ACCESS
             ? 0
             : PL_EBAD;
}

struct pl_record_labels pl__record_labels(const void *at,
                                          const struct pl_record *head) {
  const char *labels = (const char *)at + sizeof *head;

  return (struct pl_record_labels){
      .tenant = pl__slice(labels, head->tenant_bytes),
      .caller_id =
          pl__slice(labels + head->tenant_bytes, head->caller_id_bytes)};
}

int pl__record_read_access(const void *at, uint32_t bytes,
                           struct pl_record_access_view *view) {
  struct pl_record head;
  struct access_body body;
  if (pl__record_read(at, bytes, &head) || bytes < body_at(&head) + sizeof body)
    return PL_EBAD;
  const char *body_bytes = (const char *)at + body_at(&head);
  const char *target = body_bytes + sizeof body;
  memcpy(&body, body_bytes, sizeof body);
  if (body.target_bytes > (const char *)at + bytes - target)
    return PL_EBAD;
  view->access = (struct pl_access){
      .time_ns = head.time_ns,
      .request_id = head.request_id,
      .trace_id = {head.trace_id[0], head.trace_id[1]},
      .span_id = head.span_id,
      .labels = pl__record_labels(at, &head),
      .duration_ns = body.duration_ns,
      .bytes_in = body.bytes_in,
      .bytes_out = body.bytes_out,
      .route = head.route,
      .worker = head.worker,
      .generation = head.generation,
      .status = body.status,
      .method = body.method,
      .http_minor = body.http_minor,
      .aborted = body.aborted,
      .peer = body.peer,
      .target = pl__slice(target, body.target_bytes),
  };
  view->target_cut_bytes = body.target_cut_bytes;
  return 0;
}

int pl__record_read_log(const void *at, uint32_t bytes,
                        struct pl_record_log_view *view) {
  struct pl_record head;
  struct log_body body;
  if (pl__record_read(at, bytes, &head) || bytes < body_at(&head) + sizeof body)
    return PL_EBAD;
  const char *message = (const char *)at + body_at(&head) + sizeof body;
  memcpy(&body, message - sizeof body, sizeof body);
  if (body.message_bytes > (const char *)at + bytes - message)
    return PL_EBAD;
  *view = (struct pl_record_log_view){
      .message = pl__slice(message, body.message_bytes),
      .message_cut_bytes = body.message_cut_bytes,
      .fields_left_out = body.fields_left_out,
      .field_count = body.field_count,
      .fields = message + body.message_bytes,
      .end = (const char *)at + bytes,
  };
  return 0;
}

/* The value behind the key, by its type. */
static int read_value(const struct field_head *head, const char *at,
                      struct pl_field *field) {
  switch (head->type) {
  case PL_FIELD_STRING:
    field->text = pl__slice(at, head->value_bytes);
    return 1;
  case PL_FIELD_NUMBER:
  case PL_FIELD_BOOL:
    if (head->value_bytes != sizeof field->number)
      return PL_EBAD;
    memcpy(&field->number, at, sizeof field->number);
    return 1;
  default:
    return PL_EBAD;
  }
}

int pl__record_field(struct pl_record_log_view *view, struct pl_field *field) {
  struct field_head head;
  if (view->field_count == 0)
    return 0;
  size_t left = (size_t)(view->end - view->fields);
  if (left < sizeof head)
    return PL_EBAD;
  memcpy(&head, view->fields, sizeof head);
  left -= sizeof head;
  if (head.key_bytes > left || head.value_bytes > left - head.key_bytes)
    return PL_EBAD;
  const char *key = view->fields + sizeof head;
  *field = (struct pl_field){.key = pl__slice(key, head.key_bytes),
                             .type = head.type,
                             .cut_bytes = head.cut_bytes};
  view->fields = key + head.key_bytes + head.value_bytes;
  view->field_count--;
  return read_value(&head, key + head.key_bytes, field);
}
