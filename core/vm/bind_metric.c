/* vm/bind_metric.c - P.metric, as Lua calls it by FFI.
 *
 * Numbers go into the shard of the process, which one thread writes to.  So a
 * VM that is being loaded, on a helper thread beside the one that serves,
 * counts in a shard of its own; when it begins to serve, what it has counted
 * is added to the process's.  A VM that is closed goes back to its own: its
 * finalizers run on a helper thread, too.  Tools have nothing but their own.
 */
#include "base/err.h"
#include "base/limits.h"
#include "fabric/metrics.h"
#include "vm/bind.h"
#include "vm/coro.h"

#include <string.h>
#include <sys/mman.h>

/* Memory that is zero and costs nothing until it is written to. */
static void *map(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  return at == MAP_FAILED ? NULL : at;
}

static uint32_t series_max(const struct pl_vm *vm) {
  const struct pl_vm_value *v = vm->options.values;

  for (; v && v->key; v++)
    if (strcmp(v->key, "metrics.series_max") == 0)
      return (uint32_t)v->number;
  return PL_LIMIT_METRIC_SERIES;
}

/* A trial, which has the table of others and no shard, only looks at it. */
static bool is_guest(const struct pl_vm *vm) {
  return vm->options.metrics && !vm->options.shard;
}

struct pl_meter *pl_meter(void) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_meter *m = &vm->meter;

  m->vm = vm;
  m->self = pl__lock_self();
  m->own_shard = m->own_shard ? m->own_shard : map(sizeof *m->own_shard);
  m->shard = m->is_serving ? vm->options.shard : m->own_shard;
  m->table = is_guest(vm) ? NULL : vm->options.metrics;
  if (!m->table) {
    m->own_table = m->own_table ? m->own_table : map(sizeof *m->own_table);
    m->table = m->own_table;
    if (m->table)
      pl__metrics_init(m->table, series_max(vm));
  }
  return m->shard && m->table ? m : NULL;
}

void pl__bind_metric_start(struct pl_vm *vm) {
  struct pl_meter *m = &vm->meter;

  if (!vm->options.shard)
    return;
  m->is_serving = true;
  if (!m->own_shard)
    return;
  pl__metrics_fold(m->table, vm->options.shard, m->own_shard);
  m->shard = vm->options.shard;
}

void pl__bind_metric_leave(struct pl_vm *vm) {
  vm->meter.shard = vm->meter.own_shard;
}

void pl__bind_metric_close(struct pl_vm *vm) {
  struct pl_meter *m = &vm->meter;

  if (m->own_shard)
    munmap(m->own_shard, sizeof *m->own_shard);
  if (m->own_table)
    munmap(m->own_table, sizeof *m->own_table);
  *m = (struct pl_meter){0};
}

struct pl_jit_counts *pl_jit_counts(void) {
  return &pl__vm_running->counts.jit;
}

/* --- names ------------------------------------------------------------------ */

/* Whether there is one of that name which is not the same. */
static bool conflicts(const struct pl_metrics_table *t,
                      const struct pl_metric *wanted) {
  uint32_t family;
  int status = pl__metrics_find_family(t, wanted, &family);

  return status == PL_ECONFLICT ||
         (status == 0 && t->families[family].merge != wanted->merge);
}

int pl_metric_open(struct pl_meter *m, const struct pl_slice *name,
                   const struct pl_slice *help, int kind, int merge,
                   uint32_t *family) {
  struct pl_metric wanted = {.name = *name,
                             .help = *help,
                             .kind = (enum pl_metric_kind)kind,
                             .merge = (enum pl_metric_merge)merge};
  int status;

  if (is_guest(m->vm) && conflicts(m->vm->options.metrics, &wanted))
    return PL_ECONFLICT;
  status = pl__metrics_family(m->table, m->self, &wanted, family);
  return status == 0 && conflicts(m->table, &wanted) ? PL_ECONFLICT : status;
}

int pl_metric_is_label(const struct pl_slice *name) {
  return pl__metric_is_label(*name);
}

uint32_t pl_metric_series(struct pl_meter *m, uint32_t family,
                          const struct pl_slice *names,
                          const struct pl_slice *values, uint32_t count,
                          int *is_own) {
  bool own;
  uint32_t cell =
      pl__metrics_series(m->table, m->self, family, names, values, count, &own);

  *is_own = own;
  return cell;
}

/* --- numbers ---------------------------------------------------------------- */

void pl_metric_add(struct pl_meter *m, uint32_t cell, double number) {
  pl__shard_add(m->shard, cell, number);
}

void pl_metric_set(struct pl_meter *m, uint32_t cell, double number) {
  pl__shard_set(m->shard, cell, number);
}

double pl_metric_get(const struct pl_meter *m, uint32_t cell) {
  return pl__shard_get(m->shard, cell);
}

static void put_example(struct pl_meter *m, struct pl_example *e,
                        double number) {
  const struct pl_coro *c = m->vm->current;
  const struct pl_context *context = c ? pl__coro_context(c) : NULL;
  struct pl_origin origin = {.now = m->vm->clock.now};

  if (!context)
    return;
  origin.request_id = context->request_id;
  memcpy(origin.trace, context->trace_id, sizeof origin.trace);
  pl__example_put(e, number, &origin);
}

void pl_metric_record(struct pl_meter *m, uint32_t cell, double number) {
  struct pl_example *e = pl__shard_record(m->shard, cell, number);

  if (pl__shard_wants_example(m->shard, cell, number, m->vm->clock.now))
    put_example(m, e, number);
}
