/* server/grpc_health.c - see grpc_health.h.
 *
 * The messages are few and small, so protobuf is read and written by hand:
 *
 *   HealthCheckRequest   string service = 1
 *   HealthCheckResponse  ServingStatus status = 1
 *   HealthListRequest    nothing
 *   HealthListResponse   map<string, HealthCheckResponse> statuses = 1
 */
#include "server/grpc_health.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "server/grpc.h"

/* One Watch. */
struct watcher {
  struct pl_list link; /* in h->watchers */
  struct pl_h2_stream *stream;
  struct pl_slice service; /* lies in the stream */
  int told;                /* status that was sent last; -1: none */
  bool busy;               /* what was sent has not been taken yet */
  int64_t deadline_ms;     /* -1: none */
};

/* --- protobuf ----------------------------------------------------------- */

#define TAG_BYTES(field) ((field) << 3 | 2) /* strings and messages */
#define TAG_VARINT(field) ((field) << 3)

/* Takes a varint off the front. False: it does not end, or passes 64 bits. */
static bool take_varint(struct pl_slice *from, uint64_t *value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && from->bytes; shift += 7) {
    unsigned char byte = (unsigned char)*from->at++;
    from->bytes--;
    *value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80)
      return true;
  }
  return false;
}

static bool take_bytes(struct pl_slice *from, uint64_t bytes,
                       struct pl_slice *taken) {
  if (bytes > from->bytes)
    return false;
  *taken = pl__slice(from->at, (size_t)bytes);
  from->at += bytes;
  from->bytes -= (uint32_t)bytes;
  return true;
}

/* Takes one field. *bytes: those of a string or message, else empty. */
static bool take_field(struct pl_slice *from, uint64_t *tag,
                       struct pl_slice *bytes) {
  struct pl_slice fixed;
  uint64_t n;

  *bytes = (struct pl_slice){0};
  if (!take_varint(from, tag) || *tag >> 3 == 0 || *tag >> 32)
    return false;
  switch (*tag & 7) {
  case 0:
    return take_varint(from, &n);
  case 1:
    return take_bytes(from, 8, &fixed);
  case 2:
    return take_varint(from, &n) && take_bytes(from, n, bytes);
  case 5:
    return take_bytes(from, 4, &fixed);
  default: /* groups are not of proto3 */
    return false;
  }
}

/* Reads a HealthCheckRequest or, as it has no field, a HealthListRequest.
 * Unknown fields are skipped, the last of several counts. */
static bool parse_request(struct pl_slice message, struct pl_slice *service) {
  struct pl_slice bytes;
  uint64_t tag;

  *service = PL_SLICE("");
  while (message.bytes) {
    if (!take_field(&message, &tag, &bytes))
      return false;
    if (tag == TAG_BYTES(1))
      *service = bytes;
  }
  return true;
}

/* A HealthCheckResponse: 2 bytes, or none for the default. */
static struct pl_slice encode_status(char room[2], int status) {
  room[0] = TAG_VARINT(1);
  room[1] = (char)status;
  return pl__slice(room, status ? 2 : 0);
}

static uint32_t put_varint(char *to, uint32_t n) {
  uint32_t i = 0;

  for (; n >= 0x80; n >>= 7)
    to[i++] = (char)(n | 0x80);
  to[i++] = (char)n;
  return i;
}

/* `tag`, the length, the bytes. */
static int append_bytes(struct pl_buf *b, char tag, struct pl_slice bytes) {
  char head[8] = {tag};
  uint32_t n = 1 + put_varint(head + 1, bytes.bytes);
  int status = pl__buf_append(b, head, n);

  return status || !bytes.bytes ? status : pl__buf_append_slice(b, bytes);
}

/* One pair of HealthListResponse.statuses. */
static int append_entry(struct pl_buf *b, struct pl_buf *pair,
                        const struct pl_grpc_health_entry *entry) {
  char room[2];
  int status;

  pair->bytes = 0;
  status = append_bytes(pair, TAG_BYTES(1), entry->service);
  if (!status)
    status =
        append_bytes(pair, TAG_BYTES(2), encode_status(room, entry->status));
  if (!status)
    status = append_bytes(b, TAG_BYTES(1), pl__slice(pair->at, pair->bytes));
  return status;
}

/* --- answers ------------------------------------------------------------ */

static bool is_authorized(const struct pl_grpc_health *h,
                          const struct pl_h2_stream *s) {
  return !h->source.token ||
         pl__grpc_is_authorized(s, h->source.token(h->source.arg));
}

static struct pl_grpc_end end_of(const struct pl_grpc_health *h,
                                 const struct pl_h2_stream *s,
                                 enum pl_grpc_status status,
                                 const char *message) {
  struct pl_grpc_end end = {.status = status, .message = message};
  const char *state = h->source.state ? h->source.state(h->source.arg) : NULL;

  if (state && is_authorized(h, s))
    end.extra =
        (struct pl_h2_field){PL_SLICE("x-health-state"), pl__slice_text(state)};
  return end;
}

static void refuse(const struct pl_grpc_health *h, struct pl_h2_stream *s,
                   enum pl_grpc_status status, const char *message) {
  struct pl_grpc_end end = end_of(h, s, status, message);

  pl__grpc_refuse(s, &end);
}

static void finish(const struct pl_grpc_health *h, struct pl_h2_stream *s,
                   enum pl_grpc_status status, const char *message) {
  struct pl_grpc_end end = end_of(h, s, status, message);

  pl__grpc_end(s, &end);
}

static void answer(const struct pl_grpc_health *h, struct pl_h2_stream *s,
                   struct pl_slice message) {
  if (pl__grpc_begin(s) || pl__grpc_send(s, message)) {
    pl__h2_reset(s, PL_H2_INTERNAL_ERROR);
    return;
  }
  finish(h, s, PL_GRPC_OK, NULL);
}

static int status_of(const struct pl_grpc_health *h, struct pl_slice service) {
  return h->source.status(h->source.arg, service);
}

static void answer_check(struct pl_grpc_health *h, struct pl_h2_stream *s,
                         struct pl_slice service, int64_t now_ms) {
  int status = status_of(h, service);
  char room[2];

  (void)now_ms;
  if (status == PL_GRPC_SERVICE_UNKNOWN)
    refuse(h, s, PL_GRPC_NOT_FOUND, "unknown service");
  else
    answer(h, s, encode_status(room, status));
}

static void answer_list(struct pl_grpc_health *h, struct pl_h2_stream *s,
                        struct pl_slice service, int64_t now_ms) {
  struct pl_grpc_health_entry entries[PL_GRPC_HEALTH_LIST_COUNT];
  uint32_t count =
      h->source.list(h->source.arg, entries, PL_GRPC_HEALTH_LIST_COUNT);
  struct pl_buf b, pair;
  int status = 0;

  (void)service, (void)now_ms;
  if (count > PL_GRPC_HEALTH_LIST_COUNT) {
    refuse(h, s, PL_GRPC_RESOURCE_EXHAUSTED, "more than 100 services");
    return;
  }
  pl__buf_init(&b, NULL, PL_H2_OUTPUT_BYTES - PL_GRPC_PREFIX_BYTES);
  pl__buf_init(&pair, NULL, PL_H2_OUTPUT_BYTES);
  for (uint32_t i = 0; i < count && !status; i++)
    status = append_entry(&b, &pair, &entries[i]);
  if (status)
    refuse(h, s, PL_GRPC_RESOURCE_EXHAUSTED, "the list is too large");
  else
    answer(h, s, pl__slice(b.at, b.bytes));
  pl__buf_release(&b);
  pl__buf_release(&pair);
}

/* --- Watch -------------------------------------------------------------- */

static void watcher_free(struct watcher *w) {
  pl__h2_set_data(w->stream, NULL);
  pl__list_remove(&w->link);
  pl__free(w);
}

/* Sends the status if it is another one than the client knows. */
static void watcher_tell(const struct pl_grpc_health *h, struct watcher *w) {
  int status = status_of(h, w->service);
  char room[2];

  if (w->busy || status == w->told)
    return;
  if (pl__grpc_send(w->stream, encode_status(room, status))) {
    pl__h2_reset(w->stream, PL_H2_INTERNAL_ERROR);
    return;
  }
  w->told = status;
  w->busy = true;
}

static void watcher_finish(const struct pl_grpc_health *h, struct watcher *w,
                           enum pl_grpc_status status, const char *message) {
  struct pl_h2_stream *s = w->stream;

  watcher_free(w);
  finish(h, s, status, message);
}

static void answer_watch(struct pl_grpc_health *h, struct pl_h2_stream *s,
                         struct pl_slice service, int64_t now_ms) {
  struct watcher *w;
  int64_t ms;

  if (pl__grpc_timeout(s, &ms)) {
    refuse(h, s, PL_GRPC_INVALID_ARGUMENT, "malformed grpc-timeout");
    return;
  }
  w = pl__alloc_zero(sizeof *w);
  if (!w || pl__grpc_begin(s)) {
    pl__free(w);
    pl__h2_reset(s, PL_H2_INTERNAL_ERROR);
    return;
  }
  w->stream = s;
  w->service = service;
  w->told = -1;
  w->deadline_ms = ms < 0 ? -1 : now_ms + ms;
  pl__list_push_back(&h->watchers, &w->link);
  pl__h2_set_data(s, w);
  watcher_tell(h, w);
}

void pl__grpc_health_on_drained(struct pl_grpc_health *h,
                                struct pl_h2_stream *s) {
  struct watcher *w = pl__h2_data(s);

  if (!w)
    return;
  w->busy = false;
  watcher_tell(h, w);
}

void pl__grpc_health_on_closed(struct pl_grpc_health *h,
                               struct pl_h2_stream *s) {
  struct watcher *w = pl__h2_data(s);

  (void)h;
  if (w)
    watcher_free(w);
}

void pl__grpc_health_changed(struct pl_grpc_health *h) {
  struct pl_list *link, *after;

  PL_LIST_EACH(link, after, &h->watchers)
  watcher_tell(h, PL_LIST_ENTRY(link, struct watcher, link));
}

int64_t pl__grpc_health_expire(struct pl_grpc_health *h, int64_t now_ms) {
  struct pl_list *link, *after;
  int64_t next = -1;

  PL_LIST_EACH(link, after, &h->watchers) {
    struct watcher *w = PL_LIST_ENTRY(link, struct watcher, link);
    if (w->deadline_ms < 0)
      continue;
    if (w->deadline_ms <= now_ms)
      watcher_finish(h, w, PL_GRPC_DEADLINE_EXCEEDED, "deadline exceeded");
    else if (next < 0 || w->deadline_ms - now_ms < next)
      next = w->deadline_ms - now_ms;
  }
  return next;
}

void pl__grpc_health_close(struct pl_grpc_health *h) {
  struct pl_list *link, *after;

  PL_LIST_EACH(link, after, &h->watchers)
  watcher_finish(h, PL_LIST_ENTRY(link, struct watcher, link),
                 PL_GRPC_UNAVAILABLE, "shutting down");
}

/* --- routing ------------------------------------------------------------ */

typedef void (*answer_fn)(struct pl_grpc_health *h, struct pl_h2_stream *s,
                          struct pl_slice service, int64_t now_ms);

struct method {
  const char *path;
  answer_fn answer;
  bool is_open; /* to who shows no token */
};

static const struct method methods[] = {
    {"/grpc.health.v1.Health/Check", answer_check, true},
    {"/grpc.health.v1.Health/Watch", answer_watch, false},
    {"/grpc.health.v1.Health/List", answer_list, false},
};

static const struct method *method_of(struct pl_slice path) {
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
    if (pl__slice_equal(pl__slice_text(methods[i].path), path))
      return &methods[i];
  return NULL;
}

void pl__grpc_health_on_request(struct pl_grpc_health *h,
                                struct pl_h2_stream *s, int64_t now_ms) {
  const struct method *method = method_of(pl__h2_field(s, ":path"));
  struct pl_slice message, service;
  enum pl_grpc_status status;
  const char *why;

  if (!pl__grpc_accept(s))
    return;
  if (!(method && method->is_open) && !is_authorized(h, s)) {
    refuse(h, s, PL_GRPC_UNAUTHENTICATED, "a bearer token is needed");
    return;
  }
  if (!method) {
    refuse(h, s, PL_GRPC_UNIMPLEMENTED, "unknown method");
    return;
  }
  status = pl__grpc_message(s, &message, &why);
  if (status != PL_GRPC_OK)
    refuse(h, s, status, why);
  else if (!parse_request(message, &service))
    refuse(h, s, PL_GRPC_INVALID_ARGUMENT, "malformed message");
  else
    method->answer(h, s, service, now_ms);
}

void pl__grpc_health_init(struct pl_grpc_health *h,
                          const struct pl_grpc_health_source *source) {
  h->source = *source;
  pl__list_init(&h->watchers);
}
