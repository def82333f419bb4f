/* fabric/metrics.c - finds and makes families and series. */
#include "fabric/metrics.h"

#include "base/err.h"
#include "base/utf8.h"

#include <string.h>

#define OTHER "other"

_Static_assert(sizeof(struct pl_metric_series) == 24, "ten thousands of them");

void pl__metrics_init(struct pl_metrics_table *t, uint32_t series_max) {
  t->series_max = series_max;
  t->cell_count = PL_SHARD_HEAD_CELLS;
}

/* --- names ----------------------------------------------------------------- */

static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_word(struct pl_slice name) {
  if (name.bytes == 0 || !is_letter(name.at[0]))
    return false;
  for (uint32_t i = 1; i < name.bytes; i++)
    if (!is_letter(name.at[i]) && !(name.at[i] >= '0' && name.at[i] <= '9'))
      return false;
  return true;
}

static bool ends_in(struct pl_slice name, const char *tail) {
  size_t bytes = strlen(tail);

  return name.bytes > bytes &&
         memcmp(name.at + name.bytes - bytes, tail, bytes) == 0;
}

/* The endings are those that exposition gives to parts of a metric. */
bool pl__metric_is_name(struct pl_slice name, enum pl_metric_kind kind) {
  if (name.bytes >= PL_METRICS_NAME_BYTES || !is_word(name))
    return false;
  if (ends_in(name, "_bucket") || ends_in(name, "_sum") ||
      ends_in(name, "_count") || ends_in(name, "_created"))
    return false;
  return ends_in(name, "_total") == (kind == PL_METRIC_COUNTER);
}

bool pl__metric_is_label(struct pl_slice name) {
  return name.bytes <= PL_METRICS_LABEL_BYTES && is_word(name) &&
         !(name.bytes == 2 && memcmp(name.at, "le", 2) == 0) &&
         !(name.bytes > 1 && memcmp(name.at, "__", 2) == 0);
}

/* --- texts ----------------------------------------------------------------- */

/* Writes at most `max` bytes of a text, with U+FFFD for each that is no UTF-8 or
 * is NUL: parsers of expositions refuse all of one that has either.  Returns how
 * many bytes that takes, up to 3 * max. */
static uint32_t clean(char *to, struct pl_slice text, uint32_t max) {
  char *from = to;
  uint32_t i = 0;

  while (i < text.bytes && i < max) {
    uint32_t bytes = text.at[i] ? pl__utf8_bytes(text, i) : 0;
    if (bytes > max - i) /* not half a character */
      break;
    memcpy(to, bytes ? text.at + i : PL_UTF8_REPLACEMENT, bytes ? bytes : 3);
    to += bytes ? bytes : 3;
    i += bytes ? bytes : 1;
  }
  return (uint32_t)(to - from);
}

/* --- families -------------------------------------------------------------- */

static uint32_t base_bytes(const struct pl_metric *m) {
  return m->name.bytes - (m->kind == PL_METRIC_COUNTER ? 6 : 0);
}

/* A gauge x and a counter x_total would have one name in OpenMetrics. */
static bool is_same(const struct pl_metric_family *f,
                    const struct pl_metric *m) {
  return f->base_bytes == base_bytes(m) &&
         memcmp(f->name, m->name.at, f->base_bytes) == 0;
}

int pl__metrics_find_family(const struct pl_metrics_table *t,
                            const struct pl_metric *wanted, uint32_t *family) {
  uint32_t count = pl__metrics_family_count(t);

  for (uint32_t i = 0; i < count; i++)
    if (is_same(&t->families[i], wanted)) {
      *family = i;
      return t->families[i].kind == wanted->kind ? 0 : PL_ECONFLICT;
    }
  return PL_EGONE;
}

/* Copies a text to the end of all; false: there is no room. */
static bool text_keep(struct pl_metrics_table *t, const char *text,
                      uint32_t bytes, uint32_t *at) {
  if (bytes > PL_METRICS_TEXT_BYTES - t->text_bytes)
    return false;
  *at = t->text_bytes;
  t->text_bytes += bytes;
  memcpy(t->text + *at, text, bytes);
  return true;
}

static int family_make(struct pl_metrics_table *t, const struct pl_metric *m,
                       uint32_t *family) {
  uint32_t index = atomic_load_explicit(&t->family_count, memory_order_relaxed);
  struct pl_metric_family *f = &t->families[index];
  char help[3 * PL_METRICS_HELP_BYTES];

  if (index == PL_METRICS_FAMILIES_MAX)
    return PL_EFULL;
  *f = (struct pl_metric_family){.kind = m->kind,
                                 .merge = m->merge,
                                 .series_max = m->series_max ? m->series_max
                                                             : t->series_max,
                                 .name_bytes = m->name.bytes,
                                 .base_bytes = base_bytes(m)};
  f->help_bytes = clean(help, m->help, PL_METRICS_HELP_BYTES);
  memcpy(f->name, m->name.at, m->name.bytes);
  if (!text_keep(t, help, f->help_bytes, &f->help_at))
    return PL_EFULL;
  atomic_store_explicit(&t->family_count, index + 1, memory_order_release);
  *family = index;
  return 0;
}

static _Atomic uint32_t *head_of(struct pl_metrics_table *t, uint32_t hash) {
  return &t->heads[hash % PL_METRICS_HEADS];
}

static void series_link(struct pl_metrics_table *t, uint32_t index) {
  struct pl_metric_series *s = &t->series[index];
  _Atomic uint32_t *head = head_of(t, s->hash);

  s->next = atomic_load_explicit(head, memory_order_relaxed);
  atomic_store_explicit(head, index + 1, memory_order_release);
}

/* The last series may have been made and not linked. */
static void mend(struct pl_metrics_table *t) {
  uint32_t count = atomic_load_explicit(&t->series_count, memory_order_relaxed);
  uint32_t at;

  if (count == 0)
    return;
  at = atomic_load_explicit(head_of(t, t->series[count - 1].hash),
                            memory_order_relaxed);
  while (at && at != count)
    at = t->series[at - 1].next;
  if (!at)
    series_link(t, count - 1);
}

static bool lock(struct pl_metrics_table *t, uint64_t self) {
  enum pl_lock_taken taken = pl__lock_take(&t->lock, self);

  if (taken == PL_LOCK_INHERITED)
    mend(t);
  return taken != PL_LOCK_BUSY;
}

int pl__metrics_family(struct pl_metrics_table *t, uint64_t self,
                       const struct pl_metric *wanted, uint32_t *family) {
  int status;

  if (!pl__metric_is_name(wanted->name, wanted->kind))
    return PL_EINVAL;
  status = pl__metrics_find_family(t, wanted, family);
  if (status != PL_EGONE)
    return status;
  if (!lock(t, self))
    return PL_ETIMEOUT;
  status = pl__metrics_find_family(t, wanted, family);
  if (status == PL_EGONE)
    status = family_make(t, wanted, family);
  pl__lock_give(&t->lock);
  return status;
}

/* --- labels as text --------------------------------------------------------- */

static char *put_byte(char *to, char c) {
  if (c == '\\' || c == '"' || c == '\n')
    *to++ = '\\';
  *to++ = c == '\n' ? 'n' : c;
  return to;
}

/* A value, escaped. */
static char *put_value(char *to, struct pl_slice value) {
  char text[3 * PL_METRICS_VALUE_BYTES];
  uint32_t bytes = clean(text, value, PL_METRICS_VALUE_BYTES);

  for (uint32_t i = 0; i < bytes; i++)
    to = put_byte(to, text[i]);
  return to;
}

/* values NULL: `other` for each. */
static uint32_t labels_write(char *text, const struct pl_slice *names,
                             const struct pl_slice *values, uint32_t count) {
  char *to = text;

  for (uint32_t i = 0; i < count; i++) {
    if (i)
      *to++ = ',';
    memcpy(to, names[i].at, names[i].bytes);
    to += names[i].bytes;
    *to++ = '=';
    *to++ = '"';
    to = put_value(to, values ? values[i] : PL_SLICE(OTHER));
    *to++ = '"';
  }
  return (uint32_t)(to - text);
}

/* --- series ----------------------------------------------------------------- */

/* FNV-1a, begun with the family. */
static uint32_t hash_of(uint32_t family, const char *text, uint32_t bytes) {
  uint32_t h = (2166136261u ^ family) * 16777619u;

  for (uint32_t i = 0; i < bytes; i++)
    h = (h ^ (unsigned char)text[i]) * 16777619u;
  return h ^ h >> 15;
}

/* What is looked for. */
struct wanted {
  uint32_t family;
  uint32_t hash;
  const char *text;
  uint32_t bytes;
};

static struct wanted wanted_of(uint32_t family, const char *text,
                               uint32_t bytes) {
  return (struct wanted){family, hash_of(family, text, bytes), text, bytes};
}

static const struct pl_metric_series *
series_find(const struct pl_metrics_table *t, const struct wanted *w) {
  uint32_t at = atomic_load_explicit(&t->heads[w->hash % PL_METRICS_HEADS],
                                     memory_order_acquire);

  for (; at; at = t->series[at - 1].next) {
    const struct pl_metric_series *s = &t->series[at - 1];
    if (s->hash == w->hash && s->family == w->family &&
        s->text_bytes == w->bytes &&
        memcmp(t->text + s->text_at, w->text, w->bytes) == 0)
      return s;
  }
  return NULL;
}

/* The head of a histogram lies in one cache line. */
static uint32_t cells_take(struct pl_metrics_table *t, bool is_histogram) {
  uint32_t at = t->cell_count;

  if (is_histogram)
    at += -at % PL_SHARD_HEAD_CELLS;
  t->cell_count = at + (is_histogram ? PL_SHARD_HEAD_CELLS : 1);
  return at;
}

/* NULL: there is no room. */
static const struct pl_metric_series *series_make(struct pl_metrics_table *t,
                                                  const struct wanted *w) {
  uint32_t index = atomic_load_explicit(&t->series_count, memory_order_relaxed);
  bool is_histogram = t->families[w->family].kind == PL_METRIC_HISTOGRAM;
  struct pl_metric_series *s = &t->series[index];

  if (index == PL_SHARD_SERIES_MAX ||
      (is_histogram && t->histogram_count == PL_SHARD_HISTOGRAMS_MAX) ||
      !text_keep(t, w->text, w->bytes, &s->text_at))
    return NULL;
  t->histogram_count += is_histogram;
  s->text_bytes = w->bytes;
  s->family = w->family;
  s->hash = w->hash;
  s->cell = cells_take(t, is_histogram);
  atomic_store_explicit(&t->series_count, index + 1, memory_order_release);
  series_link(t, index);
  return s;
}

/* Under the lock: NULL when the family has as many as it may have. */
static const struct pl_metric_series *series_admit(struct pl_metrics_table *t,
                                                   const struct wanted *w) {
  struct pl_metric_family *f = &t->families[w->family];
  const struct pl_metric_series *s = series_find(t, w);

  if (s || f->series_count >= f->series_max)
    return s;
  s = series_make(t, w);
  f->series_count += s != NULL;
  return s;
}

/* The series that all others are counted in. */
static uint32_t other_cell(struct pl_metrics_table *t, uint64_t self,
                           uint32_t family, const struct pl_slice *names,
                           uint32_t count) {
  char text[PL_METRICS_LABELS_BYTES];
  struct wanted w =
      wanted_of(family, text, labels_write(text, names, NULL, count));
  const struct pl_metric_series *s = series_find(t, &w);

  atomic_fetch_add_explicit(&t->families[family].refused, 1,
                            memory_order_relaxed);
  if (!s && lock(t, self)) {
    s = series_find(t, &w);
    s = s ? s : series_make(t, &w);
    pl__lock_give(&t->lock);
  }
  return s ? s->cell : PL_SHARD_NOWHERE;
}

/* Whether there is no need to take the lock for that. */
static bool is_full(const struct pl_metrics_table *t, uint32_t family) {
  const struct pl_metric_family *f = &t->families[family];

  return atomic_load_explicit(&f->series_count, memory_order_relaxed) >=
             f->series_max ||
         atomic_load_explicit(&t->series_count, memory_order_relaxed) ==
             PL_SHARD_SERIES_MAX;
}

uint32_t pl__metrics_series(struct pl_metrics_table *t, uint64_t self,
                            uint32_t family, const struct pl_slice *names,
                            const struct pl_slice *values, uint32_t count,
                            bool *is_own) {
  char text[PL_METRICS_LABELS_BYTES];
  struct wanted w =
      wanted_of(family, text, labels_write(text, names, values, count));
  const struct pl_metric_series *s = series_find(t, &w);

  if (!s && !is_full(t, family) && lock(t, self)) {
    s = series_admit(t, &w);
    pl__lock_give(&t->lock);
  }
  if (is_own)
    *is_own = s != NULL;
  return s ? s->cell : other_cell(t, self, family, names, count);
}

bool pl__metrics_is_sound(const struct pl_metrics_table *t,
                          const struct pl_metric_series *s) {
  const struct pl_metric_family *f;

  if (s->family >= PL_METRICS_FAMILIES_MAX ||
      s->cell > PL_SHARD_CELLS - PL_SHARD_HEAD_CELLS ||
      s->text_at > PL_METRICS_TEXT_BYTES ||
      s->text_bytes > PL_METRICS_TEXT_BYTES - s->text_at ||
      s->text_bytes > PL_METRICS_LABELS_BYTES)
    return false;
  f = &t->families[s->family];
  return f->kind <= PL_METRIC_HISTOGRAM &&
         f->name_bytes < PL_METRICS_NAME_BYTES &&
         f->base_bytes <= f->name_bytes &&
         f->help_at <= PL_METRICS_TEXT_BYTES &&
         f->help_bytes <= 3 * PL_METRICS_HELP_BYTES &&
         f->help_bytes <= PL_METRICS_TEXT_BYTES - f->help_at;
}

/* --- shards ------------------------------------------------------------------ */

void pl__metrics_begin(const struct pl_metrics_table *t, struct pl_shard *s) {
  uint32_t count = pl__metrics_series_count(t);

  for (uint32_t i = 0; i < count; i++)
    if (t->families[t->series[i].family].kind == PL_METRIC_GAUGE)
      pl__shard_set(s, t->series[i].cell, 0);
  atomic_store_explicit(&s->life, PL_SHARD_LIVE, memory_order_release);
}

void pl__metrics_fold(const struct pl_metrics_table *t, struct pl_shard *to,
                      const struct pl_shard *from) {
  uint32_t count = pl__metrics_series_count(t);

  for (uint32_t i = 0; i < count; i++) {
    uint32_t cell = t->series[i].cell;
    uint32_t kind = t->families[t->series[i].family].kind;
    double number = kind == PL_METRIC_HISTOGRAM ? 0 : pl__shard_get(from, cell);
    if (kind == PL_METRIC_HISTOGRAM)
      pl__shard_fold(to, from, cell);
    else if (kind == PL_METRIC_COUNTER && number > 0)
      pl__shard_add(to, cell, number);
    else if (number < 0 || number > 0)
      pl__shard_set(to, cell, number);
  }
}
