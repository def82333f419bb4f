/* log/pprof.c - see pprof.h. */
#include "log/pprof.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/err.h"
#include "base/utf8.h"
#include "log/gzip.h"

#include <stdio.h>
#include <string.h>

/* Fields of profile.proto. */
enum {
  PROFILE_SAMPLE_TYPE = 1,
  PROFILE_SAMPLE = 2,
  PROFILE_LOCATION = 4,
  PROFILE_FUNCTION = 5,
  PROFILE_STRING_TABLE = 6,
  PROFILE_TIME_NANOS = 9,
  PROFILE_DURATION_NANOS = 10,
  PROFILE_PERIOD_TYPE = 11,
  PROFILE_PERIOD = 12,
  PROFILE_DEFAULT_SAMPLE_TYPE = 14,
  VALUE_TYPE = 1,
  VALUE_UNIT = 2,
  SAMPLE_LOCATION = 1,
  SAMPLE_VALUE = 2,
  SAMPLE_LABEL = 3,
  LABEL_KEY = 1,
  LABEL_STR = 2,
  LABEL_NUM = 3,
  LABEL_NUM_UNIT = 4,
  LOCATION_ID = 1,
  LOCATION_LINE = 4,
  LINE_FUNCTION = 1,
  LINE_LINE = 2,
  FUNCTION_ID = 1,
  FUNCTION_NAME = 2,
  FUNCTION_FILENAME = 4,
  FUNCTION_START_LINE = 5
};

#define INDEX_CAP_MIN 256u
#define NAME_BYTES_MAX (PL_PPROF_NAME_BYTES - 16) /* before ":4294967295" */

/* --- texts --------------------------------------------------------------- */

/* Appends `text` to the `used` bytes of `out`, as far as `max` lets it; what is
 * no UTF-8 becomes a question mark, and in names what would end one. Returns
 * how many bytes are used. */
static uint32_t put(char *out, uint32_t max, uint32_t used,
                    struct pl_slice text, bool is_name) {
  const unsigned char *at = (const unsigned char *)text.at;

  for (uint32_t i = 0; i < text.bytes;) {
    uint32_t n = pl__utf8_bytes(text, i);
    bool is_fit =
        n && !(is_name && (at[i] < 0x20 || at[i] == 0x7f || at[i] == ';'));
    if (used + (is_fit ? n : 1) > max)
      break;
    if (is_fit)
      memcpy(out + used, at + i, n);
    else
      out[used] = '?';
    used += is_fit ? n : 1;
    i += n ? n : 1;
  }
  return used;
}

/* --- what repeats -------------------------------------------------------- */

static uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t h = (a ^ b >> 31) * 0x9e3779b97f4a7c15u;

  h = (h ^ h >> 32 ^ b) * 0xff51afd7ed558ccdu;
  return h ^ h >> 29;
}

static uint64_t hash_of_text(struct pl_slice text, uint64_t seed) {
  uint64_t h = mix(seed, text.bytes), word;

  for (uint32_t i = 0; i < text.bytes; i += 8) {
    uint32_t left = text.bytes - i;
    word = 0;
    memcpy(&word, text.at + i, left < 8 ? left : 8);
    h = mix(h, word);
  }
  return h;
}

static int index_grow(struct pl_pprof_index *x) {
  struct pl_pprof_index more = {.cap = x->cap ? x->cap * 2 : INDEX_CAP_MIN};

  more.at = pl__alloc_zero(more.cap * sizeof *more.at);
  if (!more.at)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < x->cap; i++) {
    uint64_t h = mix(x->at[i][0], x->at[i][1]);
    if (!x->at[i][2])
      continue;
    while (more.at[h & (more.cap - 1)][2])
      h++;
    memcpy(more.at[h & (more.cap - 1)], x->at[i], sizeof x->at[i]);
  }
  more.count = x->count;
  pl__free(x->at);
  *x = more;
  return 0;
}

/* The number of the thing with that key, *is_new if it has just got it, the
 * next one from 1.  0: no memory, and p's status says so. */
static uint64_t number_of(struct pl_pprof *p, struct pl_pprof_index *x,
                          uint64_t a, uint64_t b, bool *is_new) {
  uint64_t h = mix(a, b);

  *is_new = false;
  if (p->pb.status)
    return 0;
  if (x->count >= x->cap / 2) {
    p->pb.status = index_grow(x);
    if (p->pb.status)
      return 0;
  }
  for (;; h++) {
    uint64_t *slot = x->at[h & (x->cap - 1)];
    if (slot[2] && slot[0] == a && slot[1] == b)
      return slot[2];
    if (slot[2])
      continue;
    slot[0] = a;
    slot[1] = b;
    *is_new = true;
    return slot[2] = ++x->count;
  }
}

/* Its place in the string table, where "" has place 0.  Texts are told apart by
 * two hashes: 128 bits, of which nobody gains anything by making them meet.
 * What is no UTF-8 is replaced: readers may refuse the whole file for it. */
static uint64_t text_add(struct pl_pprof *p, struct pl_slice text) {
  char clean[PL_SYMBOLS_TEXT_BYTES_MAX];
  bool is_new;
  uint64_t n;

  text = pl__slice(clean, put(clean, sizeof clean, 0, text, false));
  if (!text.bytes)
    return 0;
  n = number_of(p, &p->texts, hash_of_text(text, 1), hash_of_text(text, 2),
                &is_new);
  if (is_new)
    pl__pb_bytes(&p->pb, PROFILE_STRING_TABLE, text);
  return n;
}

static uint64_t literal_add(struct pl_pprof *p, const char *text) {
  return text_add(p, pl__slice_text(text));
}

/* --- the file ------------------------------------------------------------ */

static void write_type(struct pl_pprof *p, uint32_t field,
                       const struct pl_pprof_type *type) {
  uint64_t name = literal_add(p, type->type);
  uint64_t unit = literal_add(p, type->unit);
  struct pl_pb_mark mark = pl__pb_begin(&p->pb, field);

  pl__pb_uint(&p->pb, VALUE_TYPE, name);
  pl__pb_uint(&p->pb, VALUE_UNIT, unit);
  pl__pb_end(&p->pb, mark);
}

int pl__pprof_begin(struct pl_pprof *p,
                    const struct pl_pprof_options *options) {
  const struct pl_pprof_type *last = &options->types[options->type_count - 1];

  PL_ASSERT(options->type_count >= 1 &&
            options->type_count <= PL_PPROF_VALUES_MAX);
  *p = (struct pl_pprof){.value_count = options->type_count};
  pl__buf_init(&p->body, NULL, PL_PPROF_BYTES_MAX);
  pl__pb_init(&p->pb, &p->body);
  pl__pb_text(&p->pb, PROFILE_STRING_TABLE, "");
  for (uint32_t i = 0; i < options->type_count; i++)
    write_type(p, PROFILE_SAMPLE_TYPE, &options->types[i]);
  if (options->period_type.type) {
    write_type(p, PROFILE_PERIOD_TYPE, &options->period_type);
    pl__pb_int(&p->pb, PROFILE_PERIOD, options->period);
  }
  pl__pb_int(&p->pb, PROFILE_TIME_NANOS, options->time_ns);
  pl__pb_int(&p->pb, PROFILE_DURATION_NANOS, options->duration_ns);
  pl__pb_uint(&p->pb, PROFILE_DEFAULT_SAMPLE_TYPE, literal_add(p, last->type));
  return pl__pb_status(&p->pb);
}

static uint64_t function_add(struct pl_pprof *p, struct pl_slice name,
                             struct pl_slice file, uint32_t first_line) {
  uint64_t name_at = text_add(p, name), file_at = text_add(p, file), id;
  bool is_new;

  id =
      number_of(p, &p->functions, name_at << 32 | file_at, first_line, &is_new);
  if (is_new) {
    struct pl_pb_mark mark = pl__pb_begin(&p->pb, PROFILE_FUNCTION);
    pl__pb_uint(&p->pb, FUNCTION_ID, id);
    pl__pb_uint(&p->pb, FUNCTION_NAME, name_at);
    pl__pb_uint(&p->pb, FUNCTION_FILENAME, file_at);
    pl__pb_uint(&p->pb, FUNCTION_START_LINE, first_line);
    pl__pb_end(&p->pb, mark);
  }
  return id;
}

uint64_t pl__pprof_place(struct pl_pprof *p, struct pl_slice name,
                         struct pl_slice file, uint32_t first_line,
                         uint32_t line) {
  uint64_t function = function_add(p, name, file, first_line), id;
  bool is_new;

  id = number_of(p, &p->locations, function, line, &is_new);
  if (is_new) {
    struct pl_pb_mark mark = pl__pb_begin(&p->pb, PROFILE_LOCATION), inner;
    pl__pb_uint(&p->pb, LOCATION_ID, id);
    inner = pl__pb_begin(&p->pb, LOCATION_LINE);
    pl__pb_uint(&p->pb, LINE_FUNCTION, function);
    pl__pb_uint(&p->pb, LINE_LINE, line);
    pl__pb_end(&p->pb, inner);
    pl__pb_end(&p->pb, mark);
  }
  return id;
}

uint64_t pl__pprof_location(struct pl_pprof *p,
                            const struct pl_symbol *symbol) {
  char name[PL_PPROF_NAME_BYTES];
  struct pl_slice file =
      symbol->kind == PL_SYMBOL_CORE ? PL_SLICE("") : pl__symbol_file(symbol);

  return pl__pprof_place(p, pl__pprof_name(symbol, name), file,
                         symbol->first_line, symbol->line);
}

static void write_label(struct pl_pprof *p, const struct pl_pprof_label *l) {
  uint64_t key = literal_add(p, l->key);
  uint64_t text = l->text.at ? text_add(p, l->text) : 0;
  uint64_t unit = !l->text.at && l->unit ? literal_add(p, l->unit) : 0;
  struct pl_pb_mark mark = pl__pb_begin(&p->pb, SAMPLE_LABEL);

  pl__pb_uint(&p->pb, LABEL_KEY, key);
  if (l->text.at)
    pl__pb_uint(&p->pb, LABEL_STR, text);
  else
    pl__pb_int(&p->pb, LABEL_NUM, l->number);
  if (unit)
    pl__pb_uint(&p->pb, LABEL_NUM_UNIT, unit);
  pl__pb_end(&p->pb, mark);
}

/* Texts first: they are fields of the profile, not of the sample. */
static void add_texts(struct pl_pprof *p, const struct pl_pprof_label *labels,
                      uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    literal_add(p, labels[i].key);
    if (labels[i].text.at)
      text_add(p, labels[i].text);
    else if (labels[i].unit)
      literal_add(p, labels[i].unit);
  }
}

void pl__pprof_sample(struct pl_pprof *p, const uint64_t *locations,
                      uint32_t depth, const int64_t *values,
                      const struct pl_pprof_label *labels,
                      uint32_t label_count) {
  struct pl_pb_mark mark, packed;

  add_texts(p, labels, label_count);
  mark = pl__pb_begin(&p->pb, PROFILE_SAMPLE);
  packed = pl__pb_begin(&p->pb, SAMPLE_LOCATION);
  for (uint32_t i = 0; i < depth; i++)
    pl__pb_packed_uint(&p->pb, locations[i]);
  pl__pb_end(&p->pb, packed);
  packed = pl__pb_begin(&p->pb, SAMPLE_VALUE);
  for (uint32_t i = 0; i < p->value_count; i++)
    pl__pb_packed_int(&p->pb, values[i]);
  pl__pb_end(&p->pb, packed);
  for (uint32_t i = 0; i < label_count; i++)
    write_label(p, &labels[i]);
  pl__pb_end(&p->pb, mark);
}

void pl__pprof_drop(struct pl_pprof *p) {
  pl__free(p->texts.at);
  pl__free(p->functions.at);
  pl__free(p->locations.at);
  pl__buf_release(&p->body);
  *p = (struct pl_pprof){0};
}

int pl__pprof_end(struct pl_pprof *p, struct pl_buf *out) {
  int failed = pl__pb_status(&p->pb);

  if (!failed)
    failed = pl__gzip(pl__slice(p->body.at, p->body.bytes), out);
  pl__pprof_drop(p);
  return failed;
}

/* --- names --------------------------------------------------------------- */

static struct pl_slice base_of(struct pl_slice file) {
  for (uint32_t i = file.bytes; i > 0; i--)
    if (file.at[i - 1] == '/')
      return pl__slice(file.at + i, file.bytes - i);
  return file;
}

struct pl_slice pl__pprof_name(const struct pl_symbol *symbol, char *out) {
  bool is_file = symbol->chunk.bytes && symbol->chunk.at[0] == '@';
  struct pl_slice file =
      is_file ? base_of(pl__symbol_file(symbol)) : pl__symbol_file(symbol);
  uint32_t used = put(out, NAME_BYTES_MAX, 0, symbol->name, true);

  if (symbol->kind == PL_SYMBOL_CORE || symbol->kind == PL_SYMBOL_C)
    return used ? pl__slice(out, used) : PL_SLICE("?");
  if (used)
    out[used++] = ' ';
  used = put(out, NAME_BYTES_MAX, used, file, true);
  if (is_file)
    used += (uint32_t)snprintf(out + used, PL_PPROF_NAME_BYTES - used, ":%u",
                               symbol->first_line);
  return pl__slice(out, used);
}
