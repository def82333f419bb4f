/* fabric/metrics.h - the names of what is counted, which all processes share.
 *
 * A family is a metric: name, help, type.  A series is one set of label values
 * of it, and has a place in all shards (fabric/shard.h).  Both are made by
 * whoever needs them first and stay as long as the fabric: a later generation
 * of the app that asks for the same name goes on counting in the same place.
 *
 *     families  [ requests | durations | ... ]        found by name
 *     series    [ a="x" | a="y" | b="z" | ... ]       found by hash of
 *                  ^ chains from the heads            family and text
 *
 * Reading takes no lock: entries never change once they are shown, families by
 * the count of them, series by the head of their chain.  Making one takes the
 * lock; what was half made when its maker died is made anew, or linked.
 *
 * The number of series has limits, of one metric and of all.  Past them label
 * values are counted together, in the series of the family that has `other` for
 * each label; and where there is no room for that one either, nowhere.
 *
 * Does not know what the numbers mean, nor how they are shown.
 */
#ifndef PL_FABRIC_METRICS_H
#define PL_FABRIC_METRICS_H

#include "base/slice.h"
#include "fabric/lock.h"
#include "fabric/shard.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_METRICS_VERSION 1u
#define PL_METRICS_FAMILIES_MAX 1024u
#define PL_METRICS_LABELS_MAX 8u
#define PL_METRICS_NAME_BYTES 128u  /* of a metric, NUL included */
#define PL_METRICS_LABEL_BYTES 64u  /* of a label's name, at most */
#define PL_METRICS_VALUE_BYTES 128u /* of a label's value; cut past it */
/* Of all labels of a series as text; a byte of a value may become three. */
#define PL_METRICS_LABELS_BYTES                                                \
  (PL_METRICS_LABELS_MAX *                                                     \
   (PL_METRICS_LABEL_BYTES + 4 + 3 * PL_METRICS_VALUE_BYTES))
#define PL_METRICS_HELP_BYTES 256u /* cut past it */
#define PL_METRICS_TEXT_BYTES (4u << 20)
#define PL_METRICS_HEADS 32768u

enum pl_metric_kind {
  PL_METRIC_COUNTER, /* only grows; its name ends in _total */
  PL_METRIC_GAUGE,
  PL_METRIC_HISTOGRAM
};

/* How what several processes say becomes one number. */
enum pl_metric_merge {
  PL_MERGE_SUM,
  PL_MERGE_MAX,
  PL_MERGE_EACH /* it does not: a series for each, with the label `worker` */
};

/* A metric that is wanted. */
struct pl_metric {
  struct pl_slice name;
  struct pl_slice help;
  enum pl_metric_kind kind;
  enum pl_metric_merge merge;
  uint32_t series_max; /* 0: that of the table */
};

struct pl_metric_family {
  uint32_t kind;
  uint32_t merge;
  uint32_t series_max;
  _Atomic uint32_t series_count; /* `other` is not counted */
  uint32_t name_bytes;
  uint32_t base_bytes; /* of the name, without _total */
  uint32_t help_at;    /* in the texts */
  uint32_t help_bytes;
  _Atomic uint64_t refused; /* look-ups that ended at `other` or nowhere */
  char name[PL_METRICS_NAME_BYTES];
};

struct pl_metric_series {
  uint32_t family;
  uint32_t cell;
  uint32_t hash;
  uint32_t next;    /* of its chain: index + 1; 0: none */
  uint32_t text_at; /* its labels: a="x",b="y", as exposition has them */
  uint32_t text_bytes;
};

/* Lies in the section "metrics"; zero but for what pl__metrics_init sets. */
struct pl_metrics_table {
  _Alignas(64) struct pl_lock lock;
  uint32_t series_max; /* of one metric */
  _Atomic uint32_t family_count;
  _Atomic uint32_t series_count;
  uint32_t histogram_count; /* of the series */
  uint32_t cell_count;      /* given out */
  uint32_t text_bytes;      /* likewise */
  struct pl_metric_family families[PL_METRICS_FAMILIES_MAX];
  _Atomic uint32_t heads[PL_METRICS_HEADS]; /* index + 1; 0: none */
  struct pl_metric_series series[PL_SHARD_SERIES_MAX];
  char text[PL_METRICS_TEXT_BYTES];
};

/* All of it: what a scrape needs. */
struct pl_metrics {
  struct pl_metrics_table *table;
  struct pl_shard *shards; /* of the workers, then of control and the master */
  uint32_t worker_count;
};

/* Shards behind those of the workers. */
enum { PL_METRICS_CONTROL, PL_METRICS_MASTER, PL_METRICS_OTHERS };

/* Before the fork, in zero memory. */
void pl__metrics_init(struct pl_metrics_table *t, uint32_t series_max);

/* Whether a name may be a metric of that kind, or a label's. */
bool pl__metric_is_name(struct pl_slice name, enum pl_metric_kind kind);
bool pl__metric_is_label(struct pl_slice name);

/* Finds the family, or makes it.  Returns 0, or PL_EINVAL (pl__metric_is_name
 * says no), PL_ECONFLICT (there is one of that name and another kind: *family
 * is it), PL_EFULL, PL_ETIMEOUT. */
int pl__metrics_family(struct pl_metrics_table *t, uint64_t self,
                       const struct pl_metric *wanted, uint32_t *family);
/* The same, but makes none: PL_EGONE. */
int pl__metrics_find_family(const struct pl_metrics_table *t,
                            const struct pl_metric *wanted, uint32_t *family);

/* The cell of the series with these labels, made if there is none.
 *
 *   names, values  `count` of each, at most PL_METRICS_LABELS_MAX; values are
 *                  cut and made UTF-8 without NUL
 *   is_own         false: it is the cell of `other`, or PL_SHARD_NOWHERE, and
 *                  may be another one later; may be NULL
 *
 * Waits for the lock for at most PL_LOCK_WAIT_MS. */
uint32_t pl__metrics_series(struct pl_metrics_table *t, uint64_t self,
                            uint32_t family, const struct pl_slice *names,
                            const struct pl_slice *values, uint32_t count,
                            bool *is_own);

/* How many there are. */
static inline uint32_t
pl__metrics_family_count(const struct pl_metrics_table *t) {
  uint32_t n = atomic_load_explicit(&t->family_count, memory_order_acquire);
  return n < PL_METRICS_FAMILIES_MAX ? n : PL_METRICS_FAMILIES_MAX;
}

static inline uint32_t
pl__metrics_series_count(const struct pl_metrics_table *t) {
  uint32_t n = atomic_load_explicit(&t->series_count, memory_order_acquire);
  return n < PL_SHARD_SERIES_MAX ? n : PL_SHARD_SERIES_MAX;
}

/* Whether what a series says can be followed: workers write the table, and one
 * of them may have run wild. */
bool pl__metrics_is_sound(const struct pl_metrics_table *t,
                          const struct pl_metric_series *s);

/* A process begins in its shard: gauges of the one before it are over. */
void pl__metrics_begin(const struct pl_metrics_table *t, struct pl_shard *s);
/* Adds to `to` all that `from` has counted, and sets the gauges that `from` has
 * set to something. By the owner of `to`. */
void pl__metrics_fold(const struct pl_metrics_table *t, struct pl_shard *to,
                      const struct pl_shard *from);

#endif /* PL_FABRIC_METRICS_H */
