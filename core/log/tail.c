/* log/tail.c - see tail.h.
 *
 * A lane is records one behind the other in a circle of bytes, and a circle of
 * entries that say where: an entry goes when its bytes are needed, or its place.
 */
#include "log/tail.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "log/format.h"

enum { LANE_ALL, LANE_WARN, LANES };

struct entry {
  uint64_t number;
  uint64_t at; /* in the lane's bytes, which are counted on and on */
  uint32_t bytes;
};

struct lane {
  uint64_t first, next; /* entries, counted on and on */
  uint64_t end;         /* of its bytes */
  struct entry entries[PL_TAIL_LANE_RECORDS];
  _Alignas(8) char bytes[PL_TAIL_LANE_BYTES];
};

struct pl_tail {
  pthread_mutex_t lock;
  uint64_t next;                 /* number of the record that comes */
  struct pl_formatter formatter; /* the reader's */
  struct lane lanes[LANES];
  struct lane copies[LANES]; /* likewise */
};

struct pl_tail *pl__tail_new(const struct pl_routes *routes) {
  struct pl_tail *t = pl__alloc_zero(sizeof *t);

  if (!t)
    return NULL;
  pthread_mutex_init(&t->lock, NULL);
  t->next = 1;
  pl__formatter_init(&t->formatter, PL_LOG_JSON, false, routes);
  return t;
}

void pl__tail_free(struct pl_tail *t) {
  if (!t)
    return;
  pthread_mutex_destroy(&t->lock);
  pl__free(t);
}

/* Where so many bytes go: records are aligned, and none is in two pieces. */
static uint64_t room_find(const struct lane *l, uint32_t bytes) {
  uint64_t at = (l->end + 7) & ~UINT64_C(7);

  if (at % PL_TAIL_LANE_BYTES + bytes > PL_TAIL_LANE_BYTES)
    at += PL_TAIL_LANE_BYTES - at % PL_TAIL_LANE_BYTES;
  return at;
}

static void lane_put(struct lane *l, uint64_t number, const void *record,
                     uint32_t bytes) {
  uint64_t at = room_find(l, bytes);

  while (l->first < l->next) {
    const struct entry *oldest = &l->entries[l->first % PL_TAIL_LANE_RECORDS];
    if (oldest->at + PL_TAIL_LANE_BYTES >= at + bytes &&
        l->next - l->first < PL_TAIL_LANE_RECORDS)
      break;
    l->first++;
  }
  memcpy(l->bytes + at % PL_TAIL_LANE_BYTES, record, bytes);
  l->entries[l->next++ % PL_TAIL_LANE_RECORDS] =
      (struct entry){.number = number, .at = at, .bytes = bytes};
  l->end = at + bytes;
}

void pl__tail_put(struct pl_tail *t, const void *record, uint32_t bytes) {
  const struct pl_record *head = record;

  if (!t || bytes < sizeof *head || bytes > PL_TAIL_RECORD_BYTES_MAX)
    return;
  pthread_mutex_lock(&t->lock);
  lane_put(&t->lanes[head->level >= PL_LEVEL_WARN ? LANE_WARN : LANE_ALL],
           t->next++, record, bytes);
  pthread_mutex_unlock(&t->lock);
}

/* The lane's oldest entry that is wanted; NULL: none is left. */
static const struct entry *wanted(struct lane *l, uint64_t from) {
  while (l->first < l->next) {
    const struct entry *e = &l->entries[l->first % PL_TAIL_LANE_RECORDS];
    if (e->number >= from)
      return e;
    l->first++;
  }
  return NULL;
}

/* `,{"number":N,"record":{...}}`, without the line's end; nothing where the
 * record is none. */
static int put_entry(struct pl_tail *t, const struct lane *l,
                     const struct entry *e, bool first, struct pl_buf *out) {
  uint32_t before = out->bytes;
  char text[64];
  int n = snprintf(text, sizeof text,
                   "%s{\"number\":%llu,\"record\":", first ? "" : ",",
                   (unsigned long long)e->number);
  int failed = pl__buf_append(out, text, (uint32_t)n);

  failed = failed ? failed
                  : pl__format_record(&t->formatter,
                                      l->bytes + e->at % PL_TAIL_LANE_BYTES,
                                      e->bytes, out);
  if (failed == PL_EBAD) {
    out->bytes = before;
    return 0;
  }
  if (failed)
    return failed;
  out->bytes--;
  return pl__buf_append(out, "}", 1);
}

/* Both lanes by their numbers. */
static int put_entries(struct pl_tail *t, uint64_t from, struct pl_buf *out) {
  uint32_t begin = out->bytes;
  int failed = 0;

  while (!failed) {
    const struct entry *all = wanted(&t->copies[LANE_ALL], from);
    const struct entry *warn = wanted(&t->copies[LANE_WARN], from);
    bool is_all = all && (!warn || all->number < warn->number);
    struct lane *l = &t->copies[is_all ? LANE_ALL : LANE_WARN];
    if (!all && !warn)
      break;
    failed = put_entry(t, l, is_all ? all : warn, out->bytes == begin, out);
    l->first++;
  }
  return failed;
}

int pl__tail_json(struct pl_tail *t, uint64_t from, struct pl_buf *out) {
  char text[64];
  uint64_t next;
  int n, failed;

  pthread_mutex_lock(&t->lock);
  next = t->next;
  if (from != next)
    memcpy(t->copies, t->lanes, sizeof t->copies);
  pthread_mutex_unlock(&t->lock);
  if (from > next) /* it was asked of the process before this one */
    from = 0;
  n = snprintf(text, sizeof text, "{\"next\":%llu,\"records\":[",
               (unsigned long long)next);
  failed = pl__buf_append(out, text, (uint32_t)n);
  if (!failed && from != next)
    failed = put_entries(t, from, out);
  return failed ? failed : pl__buf_append(out, "]}", 2);
}
