/* net/h2.c - see h2.h.  Framing, flow control and HPACK are nghttp2's; here is
 * what a stream holds, what is refused, and what frames cost.
 *
 *         head          END_STREAM, or too large a body
 *  HEAD --------> BODY ----------------------------------> TOLD -> closed
 *    |              |
 *    +--------------+--> REFUSED -> closed       (431, too much held, too late)
 *
 * Fields are kept one behind the other in a buffer, each with the lengths of
 * its name and value in front.
 */
#include "net/h2.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"
#include "base/list.h"

#include <nghttp2/nghttp2.h>

#define FIELD_COST 32u /* RFC 9113 6.5.2 */
#define SENT_FIELD_COUNT 16u
#define ACK_COUNT_MAX 200u     /* answers to pings and settings, unsent */
#define SETTINGS_COUNT_MAX 32u /* in one frame */
#define CONTINUATION_COUNT_MAX 8u

enum stream_state { HEAD, BODY, TOLD, REFUSED };

struct pl_h2_stream {
  struct pl_h2 *h;
  struct pl_list link; /* in h->streams */
  int32_t id;
  uint8_t state; /* enum stream_state */
  bool large;    /* the head passes its limit */
  bool cut;      /* the body does */
  bool ending;   /* nothing more will be pushed */
  bool waiting;  /* nghttp2 waits for pl__h2_push or _end */
  int64_t begun_ms;
  uint32_t fields_cost;
  struct pl_buf fields;
  struct pl_buf body;
  struct pl_buf out;
  struct pl_buf trailers;
  void *data;
};

struct pl_h2 {
  nghttp2_session *session;
  const struct pl_h2_events *events;
  void *arg;
  struct pl_list streams;
  uint32_t stream_count;
  uint32_t held_bytes; /* of all streams */
  int32_t tokens;
  uint32_t unpaid_bytes;
  bool inside; /* of a call of the transport's */
  bool calmed; /* out of tokens, and told so */
  int64_t refilled_ms;
  int64_t now_ms; /* of the last call that told */
};

enum pl_h2_preface pl__h2_preface(struct pl_slice first) {
  uint32_t bytes = first.bytes < NGHTTP2_CLIENT_MAGIC_LEN
                       ? first.bytes
                       : NGHTTP2_CLIENT_MAGIC_LEN;

  if (bytes && memcmp(first.at, NGHTTP2_CLIENT_MAGIC, bytes) != 0)
    return PL_H2_PREFACE_NO;
  return bytes < NGHTTP2_CLIENT_MAGIC_LEN ? PL_H2_PREFACE_MORE
                                          : PL_H2_PREFACE_YES;
}

/* --- tokens ------------------------------------------------------------- */

static void tokens_add(struct pl_h2 *h, int64_t count) {
  int64_t sum = h->tokens + count;

  h->tokens = (int32_t)(sum < PL_H2_TOKENS ? sum : PL_H2_TOKENS);
}

static void tokens_refill(struct pl_h2 *h) {
  int64_t ms = h->now_ms - h->refilled_ms;
  int64_t count = ms > 60000 ? PL_H2_TOKENS : ms * PL_H2_TOKENS_PER_S / 1000;

  if (count <= 0)
    return;
  tokens_add(h, count);
  h->refilled_ms = h->now_ms;
}

static void tokens_take(struct pl_h2 *h, int32_t count) {
  h->tokens -= count;
  if (h->tokens >= 0 || h->calmed)
    return;
  h->calmed = true;
  nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* For what is fed: frames of unknown kinds are not told by nghttp2. */
static void tokens_take_bytes(struct pl_h2 *h, uint32_t bytes) {
  h->unpaid_bytes += bytes;
  tokens_take(h, (int32_t)(h->unpaid_bytes / PL_H2_BYTES_PER_TOKEN));
  h->unpaid_bytes %= PL_H2_BYTES_PER_TOKEN;
}

/* --- fields ------------------------------------------------------------- */

static int fields_append(struct pl_buf *b, struct pl_slice name,
                         struct pl_slice value) {
  uint32_t lengths[2] = {name.bytes, value.bytes};
  int status =
      pl__buf_reserve(b, (uint32_t)sizeof lengths + name.bytes + value.bytes);

  if (status)
    return status;
  pl__buf_append(b, lengths, sizeof lengths);
  pl__buf_append_slice(b, name);
  pl__buf_append_slice(b, value);
  return 0;
}

/* Takes the field at *from; false at the end. */
static bool fields_next(const struct pl_buf *b, uint32_t *from,
                        struct pl_h2_field *field) {
  uint32_t lengths[2];
  const char *at;

  if (*from == b->bytes)
    return false;
  at = b->at + *from;
  memcpy(lengths, at, sizeof lengths);
  at += sizeof lengths;
  field->name = pl__slice(at, lengths[0]);
  field->value = pl__slice(at + lengths[0], lengths[1]);
  *from += (uint32_t)sizeof lengths + lengths[0] + lengths[1];
  return true;
}

static nghttp2_nv nv_of(const struct pl_h2_field *field) {
  /* nghttp2 copies them; its type is not const for who lends them. */
  return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)field->name.at,
                      .namelen = field->name.bytes,
                      .value = (uint8_t *)(uintptr_t)field->value.at,
                      .valuelen = field->value.bytes};
}

/* --- streams ------------------------------------------------------------ */

static struct pl_h2_stream *stream_of(const struct pl_h2 *h, int32_t id) {
  return nghttp2_session_get_stream_user_data(h->session, id);
}

static struct pl_h2_stream *stream_new(struct pl_h2 *h, int32_t id) {
  struct pl_h2_stream *s = pl__alloc_zero(sizeof *s);

  if (!s)
    return NULL;
  s->h = h;
  s->id = id;
  s->begun_ms = h->now_ms;
  pl__buf_init(&s->fields, NULL, PL_H2_HELD_BYTES);
  pl__buf_init(&s->body, NULL, PL_H2_BODY_BYTES);
  pl__buf_init(&s->out, NULL, PL_H2_OUTPUT_BYTES);
  pl__buf_init(&s->trailers, NULL, PL_H2_OUTPUT_BYTES);
  pl__list_push_back(&h->streams, &s->link);
  h->stream_count++;
  return s;
}

static void stream_free(struct pl_h2_stream *s) {
  struct pl_h2 *h = s->h;

  if (s->state == TOLD)
    h->events->on_closed(h->arg, s);
  h->held_bytes -= s->fields.bytes + s->body.bytes;
  h->stream_count--;
  pl__list_remove(&s->link);
  pl__buf_release(&s->fields);
  pl__buf_release(&s->body);
  pl__buf_release(&s->out);
  pl__buf_release(&s->trailers);
  pl__free(s);
}

static void stream_refuse(struct pl_h2_stream *s, uint32_t code) {
  s->state = REFUSED;
  nghttp2_submit_rst_stream(s->h->session, NGHTTP2_FLAG_NONE, s->id, code);
}

static void stream_tell(struct pl_h2_stream *s) {
  s->state = TOLD;
  tokens_add(s->h, PL_H2_TOKENS_PER_REQUEST);
  s->h->events->on_request(s->h->arg, s);
}

static void stream_on_head(struct pl_h2_stream *s) {
  struct pl_h2_field field = {PL_SLICE(":status"), PL_SLICE("431")};

  s->state = BODY;
  if (!s->large)
    return;
  s->state = REFUSED;
  if (pl__h2_respond(s, &field, 1, true))
    stream_refuse(s, NGHTTP2_INTERNAL_ERROR);
}

/* Whether `bytes` more may be held. */
static bool stream_holds(const struct pl_h2_stream *s, size_t bytes) {
  return bytes <= PL_H2_HELD_BYTES - s->h->held_bytes;
}

static int stream_add_field(struct pl_h2_stream *s, struct pl_slice name,
                            struct pl_slice value) {
  uint32_t had = s->fields.bytes;

  s->fields_cost += name.bytes + value.bytes + FIELD_COST;
  if (s->fields_cost > PL_H2_FIELDS_BYTES) {
    s->large = true;
    return 0;
  }
  if (!stream_holds(s, name.bytes + value.bytes + FIELD_COST) ||
      fields_append(&s->fields, name, value))
    return PL_EFULL;
  s->h->held_bytes += s->fields.bytes - had;
  return 0;
}

static void stream_add_body(struct pl_h2_stream *s, const uint8_t *at,
                            size_t bytes) {
  if (bytes > PL_H2_BODY_BYTES - s->body.bytes) {
    s->cut = true;
    stream_tell(s);
    return;
  }
  if (!stream_holds(s, bytes) ||
      pl__buf_append(&s->body, at, (uint32_t)bytes)) {
    stream_refuse(s, NGHTTP2_REFUSED_STREAM);
    return;
  }
  s->h->held_bytes += (uint32_t)bytes;
}

/* --- what nghttp2 tells ------------------------------------------------- */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd,
                          void *arg) {
  (void)session, (void)hd;
  tokens_take(arg, 1);
  return 0;
}

static int on_begin_headers(nghttp2_session *session,
                            const nghttp2_frame *frame, void *arg) {
  struct pl_h2_stream *s;

  if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
    return 0;
  s = stream_new(arg, frame->hd.stream_id);
  if (!s)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  nghttp2_session_set_stream_user_data(session, s->id, s);
  return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_bytes,
                     const uint8_t *value, size_t value_bytes, uint8_t flags,
                     void *arg) {
  struct pl_h2_stream *s = stream_of(arg, frame->hd.stream_id);

  (void)session, (void)flags;
  if (!s || s->state != HEAD) /* trailers */
    return 0;
  return stream_add_field(s, pl__slice((const char *)name, name_bytes),
                          pl__slice((const char *)value, value_bytes))
             ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
             : 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id,
                   const uint8_t *at, size_t bytes, void *arg) {
  struct pl_h2_stream *s = stream_of(arg, id);

  (void)session, (void)flags;
  if (s && s->state == BODY)
    stream_add_body(s, at, bytes);
  return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame,
                    void *arg) {
  bool is_head = frame->hd.type == NGHTTP2_HEADERS;
  struct pl_h2_stream *s;

  (void)session;
  if (!is_head && frame->hd.type != NGHTTP2_DATA)
    return 0;
  s = stream_of(arg, frame->hd.stream_id);
  if (s && s->state == HEAD)
    stream_on_head(s);
  if (s && s->state == BODY && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
    stream_tell(s);
  return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame,
                         void *arg) {
  int32_t id = frame->hd.stream_id;

  if (frame->hd.type == NGHTTP2_RST_STREAM) {
    uint32_t code = frame->rst_stream.error_code;
    if (code != NGHTTP2_NO_ERROR)
      tokens_take(arg,
                  code == NGHTTP2_REFUSED_STREAM ? 1 : PL_H2_TOKENS_FOR_FAULT);
  } else if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
             (frame->hd.type == NGHTTP2_DATA ||
              frame->hd.type == NGHTTP2_HEADERS) &&
             nghttp2_session_get_stream_remote_close(session, id) == 0) {
    /* Answered before the request was complete: the rest is not wanted (RFC
     * 9113 8.1). */
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
  }
  return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code,
                           void *arg) {
  struct pl_h2_stream *s = stream_of(arg, id);

  (void)session, (void)code;
  if (s)
    stream_free(s);
  return 0;
}

static int stream_submit_trailers(struct pl_h2_stream *s) {
  nghttp2_nv nvs[SENT_FIELD_COUNT];
  struct pl_h2_field field;
  uint32_t count = 0, from = 0;

  while (fields_next(&s->trailers, &from, &field))
    nvs[count++] = nv_of(&field);
  return nghttp2_submit_trailer(s->h->session, s->id, nvs, count);
}

/* Fills a DATA frame. */
static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *to,
                       size_t bytes_max, uint32_t *flags,
                       nghttp2_data_source *source, void *arg) {
  struct pl_h2 *h = arg;
  struct pl_h2_stream *s = source->ptr;
  uint32_t bytes;

  (void)session, (void)id;
  if (!s->out.bytes && !s->ending && s->state == TOLD)
    h->events->on_drained(h->arg, s);
  if (!s->out.bytes && !s->ending) {
    s->waiting = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  bytes = s->out.bytes < bytes_max ? s->out.bytes : (uint32_t)bytes_max;
  if (bytes)
    memcpy(to, s->out.at, bytes);
  pl__buf_drop(&s->out, bytes);
  if (s->out.bytes)
    return (ssize_t)bytes;
  pl__buf_release(&s->out);
  if (s->ending) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->trailers.bytes) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      if (stream_submit_trailers(s))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
  }
  return (ssize_t)bytes;
}

/* --- the session -------------------------------------------------------- */

static void *mem_alloc(size_t bytes, void *arg) {
  (void)arg;
  return pl__alloc(bytes);
}

static void mem_free(void *p, void *arg) {
  (void)arg;
  pl__free(p);
}

static void *mem_alloc_zero(size_t count, size_t bytes, void *arg) {
  (void)arg;
  if (bytes && count > SIZE_MAX / bytes)
    return NULL;
  return pl__alloc_zero(count * bytes);
}

static void *mem_realloc(void *p, size_t bytes, void *arg) {
  (void)arg;
  return pl__realloc(p, bytes);
}

static int session_new(struct pl_h2 *h, nghttp2_session_callbacks *callbacks,
                       nghttp2_option *option) {
  nghttp2_mem mem = {NULL, mem_alloc, mem_free, mem_alloc_zero, mem_realloc};

  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks,
                                                        on_begin_frame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks,
                                                          on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks,
                                                       on_frame_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                         on_stream_close);
  nghttp2_option_set_max_outbound_ack(option, ACK_COUNT_MAX);
  nghttp2_option_set_max_settings(option, SETTINGS_COUNT_MAX);
  nghttp2_option_set_max_continuations(option, CONTINUATION_COUNT_MAX);
  nghttp2_option_set_stream_reset_rate_limit(option, PL_H2_RESET_BURST,
                                             PL_H2_RESETS_PER_S);
  nghttp2_option_set_no_closed_streams(option, 1);
  return nghttp2_session_server_new3(&h->session, callbacks, h, option, &mem);
}

static int session_open(struct pl_h2 *h) {
  nghttp2_session_callbacks *callbacks = NULL;
  nghttp2_option *option = NULL;
  nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, PL_H2_STREAM_COUNT},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, PL_H2_FIELDS_BYTES}};
  int status = PL_ENOMEM;

  if (!nghttp2_session_callbacks_new(&callbacks) &&
      !nghttp2_option_new(&option) && !session_new(h, callbacks, option) &&
      !nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
                               sizeof settings / sizeof *settings))
    status = 0;
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  return status;
}

struct pl_h2 *pl__h2_open(const struct pl_h2_events *events, void *arg) {
  struct pl_h2 *h = pl__alloc_zero(sizeof *h);

  if (!h)
    return NULL;
  h->events = events;
  h->arg = arg;
  h->tokens = PL_H2_TOKENS;
  pl__list_init(&h->streams);
  if (session_open(h)) {
    nghttp2_session_del(h->session);
    pl__free(h);
    return NULL;
  }
  return h;
}

int pl__h2_feed(struct pl_h2 *h, struct pl_slice bytes, int64_t now_ms) {
  ssize_t used;

  h->now_ms = now_ms;
  tokens_refill(h);
  tokens_take_bytes(h, bytes.bytes);
  h->inside = true;
  used = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes.at,
                                  bytes.bytes);
  h->inside = false;
  if (used >= 0)
    return 0;
  return used == NGHTTP2_ERR_NOMEM ? PL_ENOMEM : PL_EBAD;
}

void pl__h2_expire(struct pl_h2 *h, int64_t now_ms) {
  struct pl_list *link, *after;

  h->now_ms = now_ms;
  PL_LIST_EACH(link, after, &h->streams) {
    struct pl_h2_stream *s = PL_LIST_ENTRY(link, struct pl_h2_stream, link);
    if (s->state <= BODY && now_ms - s->begun_ms >= PL_H2_REQUEST_MS)
      stream_refuse(s, NGHTTP2_CANCEL);
  }
}

struct pl_slice pl__h2_take(struct pl_h2 *h) {
  const uint8_t *at = NULL;
  ssize_t bytes;

  h->inside = true;
  bytes = nghttp2_session_mem_send(h->session, &at);
  h->inside = false;
  return pl__slice((const char *)at, bytes > 0 ? (size_t)bytes : 0);
}

void pl__h2_ping(struct pl_h2 *h) {
  nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
}

void pl__h2_finish(struct pl_h2 *h) {
  nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(h->session),
                        NGHTTP2_NO_ERROR, NULL, 0);
}

bool pl__h2_is_over(const struct pl_h2 *h) {
  return !nghttp2_session_want_read(h->session) &&
         !nghttp2_session_want_write(h->session);
}

uint32_t pl__h2_stream_count(const struct pl_h2 *h) { return h->stream_count; }

void pl__h2_free(struct pl_h2 *h) {
  struct pl_list *link, *after;

  h->inside = true;
  PL_LIST_EACH(link, after, &h->streams)
  stream_free(PL_LIST_ENTRY(link, struct pl_h2_stream, link));
  nghttp2_session_del(h->session);
  pl__free(h);
}

/* --- a stream ----------------------------------------------------------- */

struct pl_slice pl__h2_field(const struct pl_h2_stream *s, const char *name) {
  struct pl_slice wanted = pl__slice_text(name);
  struct pl_h2_field field;
  uint32_t from = 0;

  while (fields_next(&s->fields, &from, &field))
    if (pl__slice_equal(field.name, wanted))
      return field.value;
  return (struct pl_slice){0};
}

struct pl_slice pl__h2_body(const struct pl_h2_stream *s) {
  return pl__slice(s->body.at, s->body.bytes);
}

bool pl__h2_is_cut(const struct pl_h2_stream *s) { return s->cut; }

void *pl__h2_data(const struct pl_h2_stream *s) { return s->data; }

void pl__h2_set_data(struct pl_h2_stream *s, void *data) { s->data = data; }

/* Who sits between two calls of the transport's has to be told. */
static void stream_touched(const struct pl_h2_stream *s) {
  if (!s->h->inside)
    s->h->events->on_output(s->h->arg);
}

static void stream_resume(struct pl_h2_stream *s) {
  if (s->waiting) {
    s->waiting = false;
    nghttp2_session_resume_data(s->h->session, s->id);
  }
  stream_touched(s);
}

int pl__h2_respond(struct pl_h2_stream *s, const struct pl_h2_field *fields,
                   uint32_t field_count, bool end) {
  nghttp2_data_provider provider = {.source.ptr = s, .read_callback = on_read};
  nghttp2_nv nvs[SENT_FIELD_COUNT];

  PL_ASSERT(field_count <= SENT_FIELD_COUNT);
  for (uint32_t i = 0; i < field_count; i++)
    nvs[i] = nv_of(&fields[i]);
  if (nghttp2_submit_response(s->h->session, s->id, nvs, field_count,
                              end ? NULL : &provider))
    return PL_ENOMEM;
  s->ending = end;
  stream_touched(s);
  return 0;
}

int pl__h2_push(struct pl_h2_stream *s, struct pl_slice bytes) {
  int status;

  PL_ASSERT(!s->ending);
  status = pl__buf_append_slice(&s->out, bytes);
  if (status)
    return status;
  stream_resume(s);
  return 0;
}

int pl__h2_end(struct pl_h2_stream *s, const struct pl_h2_field *trailers,
               uint32_t trailer_count) {
  PL_ASSERT(!s->ending && trailer_count <= SENT_FIELD_COUNT);
  for (uint32_t i = 0; i < trailer_count; i++)
    if (fields_append(&s->trailers, trailers[i].name, trailers[i].value)) {
      pl__buf_release(&s->trailers);
      return PL_ENOMEM;
    }
  s->ending = true;
  stream_resume(s);
  return 0;
}

void pl__h2_reset(struct pl_h2_stream *s, uint32_t code) {
  nghttp2_submit_rst_stream(s->h->session, NGHTTP2_FLAG_NONE, s->id, code);
  stream_touched(s);
}
