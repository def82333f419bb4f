/* server/compilation.c - see compilation.h. */
#include "server/compilation.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/aborts.h"
#include "fabric/metrics.h"
#include "fabric/record.h"
#include "fabric/routes.h"
#include "server/json.h"
#include "server/layout.h"
#include "server/vitals.h"

/* One kind of abort, in all workers. */
struct kind {
  struct pl_abort_note note;
  struct pl_slice route; /* 0 bytes: none, or not known */
  uint64_t count;
  uint32_t workers;
};

struct list {
  const struct pl_fabric *fabric;
  struct pl_routes *routes;
  uint32_t worker_count;
  uint32_t count, cap;
  uint64_t lost;
  struct kind *kinds;
};

static bool is_same(const struct kind *k, const struct pl_abort_note *n) {
  return pl__slice_equal(k->note.reason, n->reason) &&
         pl__slice_equal(k->note.at, n->at) &&
         pl__slice_equal(k->note.from, n->from);
}

static void list_add(struct list *l, const struct pl_abort_note *n,
                     uint32_t count) {
  struct kind *k = NULL;

  for (uint32_t i = 0; i < l->count && !k; i++)
    if (is_same(&l->kinds[i], n))
      k = &l->kinds[i];
  if (!k) {
    if (l->count == l->cap)
      return;
    k = &l->kinds[l->count++];
    *k = (struct kind){.note = *n};
    k->route = n->route == PL_RECORD_NO_ROUTE
                   ? pl__slice("", 0)
                   : pl__routes_lookup(l->routes, n->generation, n->route);
  }
  k->count += count;
  k->workers++;
  if (n->blacklisted)
    k->note.blacklisted = n->blacklisted;
}

static void worker_add(struct list *l, const struct pl_aborts *a) {
  struct pl_abort_note n;
  uint32_t count;

  for (uint32_t i = 0; i < PL_ABORTS_COUNT; i++)
    if (pl__aborts_get(a, i, &n, &count))
      list_add(l, &n, count);
  l->lost += atomic_load_explicit(&a->lost, memory_order_relaxed);
}

static int by_weight(const void *a, const void *b) {
  const struct kind *x = a, *y = b;
  bool x_black = x->note.blacklisted, y_black = y->note.blacklisted;

  if (x_black != y_black)
    return x_black ? -1 : 1;
  return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

static int list_take(struct list *l) {
  struct pl_aborts *aborts;
  int failed = 0;

  l->cap = l->worker_count * PL_ABORTS_COUNT;
  l->kinds = pl__alloc_zero(l->cap * sizeof *l->kinds);
  if (!l->kinds)
    return PL_ENOMEM;
  for (uint32_t w = 0; w < l->worker_count && !failed; w++) {
    failed = pl__layout_aborts(l->fabric, w, &aborts);
    if (!failed)
      worker_add(l, aborts);
  }
  qsort(l->kinds, l->count, sizeof *l->kinds, by_weight);
  return failed;
}

static const char *blacklisted_name(uint32_t what) {
  return what == PL_ABORT_LOOP       ? "\"loop\""
         : what == PL_ABORT_FUNCTION ? "\"function\""
                                     : "null";
}

static void put_kind(struct pl_json *j, const struct kind *k, bool first) {
  pl__json_put(j, "%s{\"reason\":", first ? "" : ",");
  pl__json_string(j, k->note.reason);
  pl__json_put(j, ",\"at\":");
  pl__json_string(j, k->note.at);
  pl__json_put(j, ",\"from\":");
  pl__json_string(j, k->note.from);
  pl__json_put(j, ",\"route\":");
  if (k->route.bytes)
    pl__json_string(j, k->route);
  else
    pl__json_put(j, "null");
  pl__json_put(j, ",\"count\":%llu,\"workers\":%u,\"blacklisted\":%s}",
               (unsigned long long)k->count, k->workers,
               blacklisted_name(k->note.blacklisted));
}

static void put_list(struct pl_json *j, const struct list *l) {
  uint32_t shown = l->count < PL_COMPILATION_ABORTS_MAX
                       ? l->count
                       : PL_COMPILATION_ABORTS_MAX;

  pl__json_put(j, "\"lost\":%llu,\"left_out\":%u,\"list\":[",
               (unsigned long long)l->lost, l->count - shown);
  for (uint32_t i = 0; i < shown; i++)
    put_kind(j, &l->kinds[i], i == 0);
  pl__json_put(j, "]}");
}

int pl__compilation_answer(const struct pl_fabric *f, struct pl_slice argument,
                           struct pl_buf *out) {
  struct list l = {.fabric = f};
  struct pl_json j = {.out = out};
  struct pl_metrics metrics;
  int failed = pl__layout_metrics(f, &metrics);

  (void)argument;
  failed = failed ? failed : pl__layout_routes(f, &l.routes);
  if (failed)
    return failed;
  l.worker_count = metrics.worker_count;
  failed = list_take(&l);
  if (!failed) {
    pl__json_put(&j, "{");
    pl__vitals_sum(&j, &metrics, "perilune_jit_");
    put_list(&j, &l);
  }
  pl__free(l.kinds);
  return failed ? failed : j.failed;
}
