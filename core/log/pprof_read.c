/* log/pprof_read.c - see pprof_read.h.
 *
 * Texts, functions, locations and samples come in any order: those that others
 * point to are gathered first, the samples in a second pass.
 */
#include "log/pprof_read.h"

#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "log/gzip.h"
#include "log/pprof.h"

/* Fields of profile.proto, as in pprof.c. */
enum {
  SAMPLE_TYPE = 1,
  SAMPLE = 2,
  LOCATION = 4,
  FUNCTION = 5,
  STRING = 6,
};

enum { VARINT, FIXED64, BYTES, FIXED32 = 5 }; /* wire types */

/* Things by their number; 0 is none. */
struct list {
  uint64_t (*at)[2];
  uint32_t count, cap;
};

struct reader {
  struct pl_buf plain;
  struct list texts;     /* place, bytes */
  struct list functions; /* name, file */
  struct list locations; /* function */
  uint64_t type, unit;   /* of the last value; texts */
  struct pl_flame *flame;
};

/* --- the wire ----------------------------------------------------------------- */

struct field {
  uint32_t number;
  uint64_t value;        /* VARINT, FIXED* */
  struct pl_slice bytes; /* BYTES */
};

static int varint_take(struct pl_slice *in, uint64_t *out) {
  *out = 0;
  for (unsigned shift = 0; shift < 64 && in->bytes; shift += 7) {
    unsigned char c = (unsigned char)*in->at++;
    in->bytes--;
    *out |= (uint64_t)(c & 0x7f) << shift;
    if (!(c & 0x80))
      return 0;
  }
  return PL_EBAD;
}

/* 1; 0: there is none; PL_EBAD. */
static int field_take(struct pl_slice *in, struct field *f) {
  uint64_t tag, bytes;

  if (!in->bytes)
    return 0;
  if (varint_take(in, &tag) || tag >> 3 > UINT32_MAX)
    return PL_EBAD;
  f->number = (uint32_t)(tag >> 3);
  f->bytes = PL_SLICE("");
  switch (tag & 7) {
  case VARINT:
    return varint_take(in, &f->value) ? PL_EBAD : 1;
  case BYTES:
    if (varint_take(in, &bytes) || bytes > in->bytes)
      return PL_EBAD;
    f->bytes = pl__slice(in->at, bytes);
    break;
  default:
    bytes = (tag & 7) == FIXED64 ? 8 : 4;
    if (((tag & 7) != FIXED64 && (tag & 7) != FIXED32) || bytes > in->bytes)
      return PL_EBAD;
  }
  in->at += bytes;
  in->bytes -= (uint32_t)bytes;
  return 1;
}

/* Puts the values of fields 1 to `count` of a message into `out`. */
static int numbers_take(struct pl_slice in, uint64_t *out, uint32_t count) {
  struct field f;
  int more;

  memset(out, 0, count * sizeof *out);
  while ((more = field_take(&in, &f)) == 1)
    if (f.number >= 1 && f.number <= count)
      out[f.number - 1] = f.value;
  return more;
}

/* --- what others point to -------------------------------------------------------- */

/* Numbers follow one another from 1, and each thing takes some bytes. */
static int list_set(const struct reader *r, struct list *l, uint64_t number,
                    uint64_t a, uint64_t b) {
  if (number > r->plain.bytes / 2)
    return PL_EBAD;
  if (number >= l->cap) {
    uint32_t cap = l->cap ? l->cap : 64;
    while (cap <= number)
      cap *= 2;
    uint64_t(*more)[2] = pl__realloc(l->at, cap * sizeof *more);
    if (!more)
      return PL_ENOMEM;
    memset(more + l->cap, 0, (cap - l->cap) * sizeof *more);
    l->at = more;
    l->cap = cap;
  }
  l->at[number][0] = a;
  l->at[number][1] = b;
  if (number >= l->count)
    l->count = (uint32_t)number + 1;
  return 0;
}

static struct pl_slice text_find(const struct reader *r, uint64_t number) {
  if (number >= r->texts.count)
    return PL_SLICE("");
  return pl__slice(r->plain.at + r->texts.at[number][0],
                   r->texts.at[number][1]);
}

static int location_take(struct reader *r, struct pl_slice in) {
  uint64_t id = 0, line[2] = {0};
  struct field f;
  int more;

  while ((more = field_take(&in, &f)) == 1) {
    if (f.number == 1)
      id = f.value;
    else if (f.number == 4 && numbers_take(f.bytes, line, 2))
      return PL_EBAD;
  }
  return more ? more : list_set(r, &r->locations, id, line[0], line[1]);
}

static int thing_take(struct reader *r, const struct field *f) {
  uint64_t n[5];
  int failed;

  switch (f->number) {
  case STRING:
    return list_set(r, &r->texts, r->texts.count,
                    (uint64_t)(f->bytes.at - r->plain.at), f->bytes.bytes);
  case FUNCTION:
    failed = numbers_take(f->bytes, n, 5);
    return failed ? failed : list_set(r, &r->functions, n[0], n[1], n[3]);
  case LOCATION:
    return location_take(r, f->bytes);
  case SAMPLE_TYPE:
    failed = numbers_take(f->bytes, n, 2);
    r->type = n[0];
    r->unit = n[1];
    return failed;
  default:
    return 0;
  }
}

/* --- samples ---------------------------------------------------------------------- */

static struct pl_flame_frame frame_of(const struct reader *r, uint64_t id) {
  struct pl_flame_frame frame = {PL_SLICE("?"), PL_SYMBOL_CORE};
  struct pl_slice file;
  uint64_t function;

  if (id >= r->locations.count)
    return frame;
  function = r->locations.at[id][0];
  if (function >= r->functions.count)
    return frame;
  frame.name = text_find(r, r->functions.at[function][0]);
  file = text_find(r, r->functions.at[function][1]);
  if (pl__slice_equal(file, PL_SLICE("[C]")))
    frame.kind = PL_SYMBOL_C;
  else if (file.bytes)
    frame.kind = PL_SYMBOL_LUA;
  return frame;
}

static int sample_take(struct reader *r, struct pl_slice in) {
  struct pl_flame_frame frames[PL_FLAME_DEPTH_MAX];
  uint64_t value = 0, id;
  uint32_t depth = 0;
  struct field f;
  int more;

  while ((more = field_take(&in, &f)) == 1) {
    while (f.number == 1 && f.bytes.bytes) {
      if (varint_take(&f.bytes, &id))
        return PL_EBAD;
      if (depth < PL_FLAME_DEPTH_MAX)
        frames[depth++] = frame_of(r, id);
    }
    while (f.number == 2 && f.bytes.bytes)
      if (varint_take(&f.bytes, &value))
        return PL_EBAD;
  }
  if (more || (int64_t)value <= 0)
    return more;
  return pl__flame_add(r->flame, frames, depth, (int64_t)value);
}

static int pass(struct reader *r, bool samples) {
  struct pl_slice in = pl__slice(r->plain.at, r->plain.bytes);
  struct field f;
  int more, failed = 0;

  while (!failed && (more = field_take(&in, &f)) == 1) {
    if (samples)
      failed = f.number == SAMPLE ? sample_take(r, f.bytes) : 0;
    else
      failed = thing_take(r, &f);
  }
  return failed ? failed : more;
}

static void text_copy(const struct reader *r, uint64_t number, char *out) {
  struct pl_slice text = text_find(r, number);
  uint32_t bytes = text.bytes < PL_PPROF_READ_TYPE_BYTES - 1
                       ? text.bytes
                       : PL_PPROF_READ_TYPE_BYTES - 1;

  memcpy(out, text.at, bytes);
  out[bytes] = '\0';
}

int pl__pprof_read(struct pl_slice file, struct pl_flame *flame,
                   struct pl_pprof_read *out) {
  struct reader r = {.flame = flame};
  int failed;

  pl__buf_init(&r.plain, NULL, PL_PPROF_BYTES_MAX);
  failed = pl__gunzip(file, &r.plain);
  failed = failed ? failed : pass(&r, false);
  failed = failed ? failed : pass(&r, true);
  if (!failed) {
    text_copy(&r, r.type, out->type);
    text_copy(&r, r.unit, out->unit);
  }
  pl__free(r.texts.at);
  pl__free(r.functions.at);
  pl__free(r.locations.at);
  pl__buf_release(&r.plain);
  return failed;
}
