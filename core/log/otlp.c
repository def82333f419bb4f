/* log/otlp.c - see otlp.h. */
#include "log/otlp.h"

#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "base/pairs.h"
#include "base/utf8.h"
#include "http/headers.h"

/* Fields. */
enum { REQUEST_RESOURCE = 1, RESOURCE_RESOURCE = 1, RESOURCE_SCOPE = 2 };
enum { SCOPE_SCOPE = 1, NAME = 1, VERSION = 2 };
enum { RESOURCE_ATTRIBUTES = 1 };
enum { KEY = 1, VALUE = 2 };
enum { ANY_STRING = 1, ANY_BOOL = 2, ANY_INT = 3, ANY_DOUBLE = 4 };
enum { PARTIAL = 1, PARTIAL_REJECTED = 1, PARTIAL_MESSAGE = 2 };

#define WHOLE_MAX 9007199254740992.0 /* doubles up to it are exact */

/* --- texts ----------------------------------------------------------------- */

static void append(struct pl_pb *p, const char *at, uint32_t bytes) {
  if (!p->status)
    p->status = pl__buf_append(p->out, at, bytes);
}

static bool is_utf8(struct pl_slice s) {
  for (uint32_t i = 0, n; i < s.bytes; i += n)
    if (!(n = pl__utf8_bytes(s, i)))
      return false;
  return true;
}

static void append_repaired(struct pl_pb *p, struct pl_slice s) {
  for (uint32_t i = 0, n; i < s.bytes; i += n) {
    n = pl__utf8_bytes(s, i);
    if (n) {
      append(p, s.at + i, n);
    } else {
      append(p, PL_UTF8_REPLACEMENT, sizeof(PL_UTF8_REPLACEMENT) - 1);
      n = 1;
    }
  }
}

void pl__otlp_text(struct pl_pb *p, uint32_t field, struct pl_slice text,
                   uint32_t cut_bytes) {
  char cut[32];
  struct pl_pb_mark mark;

  if (!text.bytes)
    text = PL_SLICE(""); /* one that may point nowhere */
  if (!cut_bytes && is_utf8(text)) {
    pl__pb_bytes(p, field, text);
    return;
  }
  mark = pl__pb_begin(p, field);
  append_repaired(p, text);
  if (cut_bytes)
    append(p, cut,
           (uint32_t)snprintf(cut, sizeof cut, "...(+%u bytes)", cut_bytes));
  pl__pb_end(p, mark);
}

static void big_endian(char *at, uint64_t n) {
  for (int i = 0; i < 8; i++)
    at[i] = (char)(n >> 8 * (7 - i));
}

void pl__otlp_id(struct pl_pb *p, uint32_t field, uint64_t id) {
  char bytes[8];

  big_endian(bytes, id);
  pl__pb_bytes(p, field, pl__slice(bytes, sizeof bytes));
}

void pl__otlp_trace_id(struct pl_pb *p, uint32_t field, const uint64_t id[2]) {
  char bytes[16];

  big_endian(bytes, id[0]);
  big_endian(bytes + 8, id[1]);
  pl__pb_bytes(p, field, pl__slice(bytes, sizeof bytes));
}

/* --- attributes -------------------------------------------------------------- */

/* Marks of a KeyValue and its value, open. */
struct pair {
  struct pl_pb_mark whole, value;
};

static struct pair pair_begin(struct pl_pb *p, uint32_t field,
                              struct pl_slice key) {
  struct pair pair;

  pair.whole = pl__pb_begin(p, field);
  pl__otlp_text(p, KEY, key, 0);
  pair.value = pl__pb_begin(p, VALUE);
  return pair;
}

static void pair_end(struct pl_pb *p, struct pair pair) {
  pl__pb_end(p, pair.value);
  pl__pb_end(p, pair.whole);
}

void pl__otlp_pair_str(struct pl_pb *p, uint32_t field, struct pl_slice key,
                       struct pl_slice value, uint32_t cut_bytes) {
  struct pair pair = pair_begin(p, field, key);

  pl__otlp_text(p, ANY_STRING, value, cut_bytes);
  pair_end(p, pair);
}

void pl__otlp_pair_num(struct pl_pb *p, uint32_t field, struct pl_slice key,
                       double value) {
  struct pair pair = pair_begin(p, field, key);

  if (value == floor(value) && fabs(value) <= WHOLE_MAX)
    pl__pb_int(p, ANY_INT, (int64_t)value);
  else
    pl__pb_double(p, ANY_DOUBLE, value);
  pair_end(p, pair);
}

void pl__otlp_pair_bool(struct pl_pb *p, uint32_t field, struct pl_slice key,
                        bool value) {
  struct pair pair = pair_begin(p, field, key);

  pl__pb_uint(p, ANY_BOOL, value);
  pair_end(p, pair);
}

void pl__otlp_str(struct pl_pb *p, uint32_t field, const char *key,
                  struct pl_slice value) {
  pl__otlp_pair_str(p, field, pl__slice_text(key), value, 0);
}

void pl__otlp_method(struct pl_pb *p, uint32_t field, unsigned method) {
  struct pl_slice name = pl__method_name((uint8_t)method);

  pl__otlp_str(p, field, "http.request.method",
               name.bytes ? name : PL_SLICE("_OTHER"));
}

void pl__otlp_int(struct pl_pb *p, uint32_t field, const char *key,
                  int64_t value) {
  struct pair pair = pair_begin(p, field, pl__slice_text(key));

  pl__pb_int(p, ANY_INT, value);
  pair_end(p, pair);
}

void pl__otlp_double(struct pl_pb *p, uint32_t field, const char *key,
                     double value) {
  struct pair pair = pair_begin(p, field, pl__slice_text(key));

  pl__pb_double(p, ANY_DOUBLE, value);
  pair_end(p, pair);
}

void pl__otlp_bool(struct pl_pb *p, uint32_t field, const char *key,
                   bool value) {
  pl__otlp_pair_bool(p, field, pl__slice_text(key), value);
}

void pl__otlp_target(struct pl_pb *p, uint32_t field, struct pl_slice target,
                     uint32_t cut_bytes) {
  const char *mark = target.bytes ? memchr(target.at, '?', target.bytes) : NULL;
  uint32_t path = mark ? (uint32_t)(mark - target.at) : target.bytes;

  pl__otlp_pair_str(p, field, PL_SLICE("url.path"), pl__slice(target.at, path),
                    mark ? 0 : cut_bytes);
  if (mark)
    pl__otlp_pair_str(p, field, PL_SLICE("url.query"),
                      pl__slice(mark + 1, target.bytes - path - 1), cut_bytes);
}

/* --- the resource -------------------------------------------------------------- */

/* The list's attributes; *named is set if service.name is one that is used. */
static int put_attributes(struct pl_pb *p, const struct pl_otlp_identity *i,
                          bool *named) {
  struct pl_slice list = i->attributes, key, value;
  char room[PL_PAIRS_VALUE_BYTES];
  int more;

  while ((more = pl__pairs_take(&list, &key, &value, room)) == 1) {
    bool is_name = pl__slice_equal(key, PL_SLICE("service.name"));
    if (is_name && i->service.bytes)
      continue;
    *named |= is_name;
    pl__otlp_pair_str(p, RESOURCE_ATTRIBUTES, key, value, 0);
  }
  return more;
}

int pl__otlp_resource(const struct pl_otlp_identity *i, struct pl_buf *out) {
  uint32_t before = out->bytes;
  bool named = false;
  struct pl_pb p;
  int failed;

  pl__pb_init(&p, out);
  failed = put_attributes(&p, i, &named);
  if (!named)
    pl__otlp_str(&p, RESOURCE_ATTRIBUTES, "service.name",
                 i->service.bytes ? i->service : i->name);
  pl__otlp_str(&p, RESOURCE_ATTRIBUTES, "telemetry.sdk.name",
               PL_SLICE("perilune"));
  pl__otlp_str(&p, RESOURCE_ATTRIBUTES, "telemetry.sdk.language",
               PL_SLICE("lua"));
  pl__otlp_str(&p, RESOURCE_ATTRIBUTES, "telemetry.sdk.version", i->version);
  if (i->host.bytes)
    pl__otlp_str(&p, RESOURCE_ATTRIBUTES, "host.name", i->host);
  pl__otlp_int(&p, RESOURCE_ATTRIBUTES, "process.pid", (int64_t)i->pid);
  failed = failed ? failed : pl__pb_status(&p);
  if (failed)
    out->bytes = before;
  return failed;
}

/* --- a request ------------------------------------------------------------------ */

void pl__otlp_begin(struct pl_otlp *o, struct pl_buf *out,
                    struct pl_slice resource, struct pl_slice version) {
  struct pl_pb_mark scope;

  pl__pb_init(&o->pb, out);
  o->of_resource = pl__pb_begin(&o->pb, REQUEST_RESOURCE);
  pl__pb_bytes(&o->pb, RESOURCE_RESOURCE, resource);
  o->of_scope = pl__pb_begin(&o->pb, RESOURCE_SCOPE);
  scope = pl__pb_begin(&o->pb, SCOPE_SCOPE);
  pl__pb_text(&o->pb, NAME, "perilune");
  pl__pb_bytes(&o->pb, VERSION, version);
  pl__pb_end(&o->pb, scope);
  o->failed = pl__pb_status(&o->pb);
}

int pl__otlp_end(struct pl_otlp *o) {
  pl__pb_end(&o->pb, o->of_scope);
  pl__pb_end(&o->pb, o->of_resource);
  return pl__pb_status(&o->pb);
}

bool pl__otlp_keep(struct pl_otlp *o, uint32_t bytes) {
  if (!o->pb.status)
    return true;
  o->pb.out->bytes = bytes;
  o->pb.status = o->failed;
  return false;
}

/* --- an answer ------------------------------------------------------------------- */

/* A field as it was read: a number, or bytes. */
struct read {
  uint64_t field, number;
  struct pl_slice bytes;
};

static bool read_varint(struct pl_slice *s, uint64_t *out) {
  uint64_t n = 0;

  for (uint32_t i = 0; i < s->bytes && i < 10; i++) {
    n |= (uint64_t)(s->at[i] & 0x7f) << 7 * i;
    if (!(s->at[i] & 0x80)) {
      s->at += i + 1;
      s->bytes -= i + 1;
      *out = n;
      return true;
    }
  }
  return false;
}

/* Takes a varint or a run of bytes off; answers have nothing else. */
static bool read_field(struct pl_slice *s, struct read *out) {
  uint64_t tag, n;

  if (!read_varint(s, &tag) || !read_varint(s, &n))
    return false;
  *out = (struct read){.field = tag >> 3, .number = n};
  if ((tag & 7) == 0)
    return true;
  if ((tag & 7) != 2 || n > s->bytes)
    return false;
  out->bytes = pl__slice(s->at, n);
  s->at += n;
  s->bytes -= (uint32_t)n;
  return true;
}

void pl__otlp_partial(struct pl_slice body, uint64_t *rejected,
                      struct pl_slice *message) {
  struct read of, in;

  *rejected = 0;
  *message = pl__slice("", 0);
  while (body.bytes && read_field(&body, &of)) {
    if (of.field != PARTIAL)
      continue;
    while (of.bytes.bytes && read_field(&of.bytes, &in)) {
      if (in.field == PARTIAL_REJECTED)
        *rejected = in.number;
      else if (in.field == PARTIAL_MESSAGE)
        *message = in.bytes;
    }
  }
}
