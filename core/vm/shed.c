/* vm/shed.c - what happens when the heap is past vm.memory_soft.
 *
 *            heap > shed_bytes            cycles done, still above
 *   CALM -----------------------> SHEDDING -----------------------> somebody is
 *    ^                               |                              condemned
 *    |        below memory_soft      |                                  |
 *    +-------------------------------+ <------- it has ended -----------+
 *
 * First all garbage is collected, in slices between requests: those that were
 * preempted, who make most of it, do not go on meanwhile.  If what is left is
 * still too much, the request that the heap has grown most under is failed.
 * That is an estimate: growth is counted while somebody runs, what a cycle
 * frees is taken off all in proportion.
 *
 * The next look comes when the heap has grown again by a share of the limit: a
 * heap that is large for other reasons (a cache in module state) is not searched
 * in vain all the time.
 */
#include "vm/coro.h"
#include "vm/report.h"

#include <stdio.h>

#define SHED_SHARE 8            /* of the limit, until the next look */
#define SHED_HELD_MIN (1 << 20) /* bytes: who holds less is not to blame */

/* Somewhat below the hard limit: at it, nobody could be told to end. */
uint64_t pl__shed_soft_bytes(const struct pl_vm *vm) {
  uint64_t soft = vm->options.memory_bytes_soft;
  uint64_t hard = vm->options.memory_bytes_max;
  uint64_t most = hard - hard / SHED_SHARE;

  return soft && hard && soft > most ? most : soft;
}

static bool is_task_alone(const struct pl_coro *c) {
  return c->in_use && c->is_task && !c->req;
}

/* What the cycles have freed is taken off those that made the heap grow. */
static void rescale(struct pl_vm *vm) {
  double kept = (double)vm->heap_bytes / (double)vm->shed_from_bytes;

  if (kept >= 1)
    return;
  for (uint32_t i = 0; i < vm->options.slot_count; i++)
    vm->slots[i].held_bytes = (int64_t)((double)vm->slots[i].held_bytes * kept);
  for (uint32_t i = 0; i < vm->coro_count; i++)
    vm->coros[i]->held_bytes =
        (int64_t)((double)vm->coros[i]->held_bytes * kept);
}

/* The request that holds the most; NULL: none holds much. */
static struct pl_vm_slot *largest_slot(struct pl_vm *vm) {
  struct pl_vm_slot *found = NULL;
  int64_t most = SHED_HELD_MIN;

  for (uint32_t i = 0; i < vm->options.slot_count; i++) {
    struct pl_vm_slot *s = &vm->slots[i];
    if (s->runner && s->held_bytes > most && !s->runner->is_condemned) {
      most = s->held_bytes;
      found = s;
    }
  }
  return found;
}

static struct pl_coro *largest_task(struct pl_vm *vm, int64_t more_than) {
  struct pl_coro *found = NULL;

  for (uint32_t i = 0; i < vm->coro_count; i++) {
    struct pl_coro *c = vm->coros[i];
    if (is_task_alone(c) && c->held_bytes > more_than && !c->is_condemned) {
      more_than = c->held_bytes;
      found = c;
    }
  }
  return found;
}

static int64_t held_by_all(const struct pl_vm *vm) {
  int64_t held = 0;

  for (uint32_t i = 0; i < vm->options.slot_count; i++)
    if (vm->slots[i].runner)
      held += vm->slots[i].held_bytes;
  for (uint32_t i = 0; i < vm->coro_count; i++)
    if (is_task_alone(vm->coros[i]))
      held += vm->coros[i]->held_bytes;
  return held;
}

static void tell(struct pl_vm *vm, enum pl_level level,
                 const struct pl_coro *about, const char *message,
                 int64_t held) {
  char text[160];

  snprintf(text, sizeof text,
           "the heap has %.1f MB of vm.memory_soft = %.1f MB, %.1f MB of it "
           "by this one",
           (double)vm->heap_bytes / 1e6, (double)pl__shed_soft_bytes(vm) / 1e6,
           (double)held / 1e6);
  pl__report(vm, level, about, message, text);
}

static void condemn_slot(struct pl_vm *vm, struct pl_vm_slot *slot) {
  struct pl_list *link, *after;

  tell(vm, PL_LEVEL_ERROR, slot->runner,
       "a handler is failed: it holds the most memory", slot->held_bytes);
  slot->held_bytes = 0;
  pl__coro_condemn(slot->runner);
  PL_LIST_EACH(link, after, &slot->tasks)
  pl__coro_condemn(PL_LIST_ENTRY(link, struct pl_coro, task_link));
}

static void condemn_task(struct pl_vm *vm, struct pl_coro *c) {
  tell(vm, PL_LEVEL_ERROR, c, "a task is failed: it holds the most memory",
       c->held_bytes);
  c->held_bytes = 0;
  pl__coro_condemn(c);
}

void pl__shed_decide(struct pl_vm *vm) {
  struct pl_vm_slot *slot;
  struct pl_coro *task;

  vm->is_shedding = false;
  rescale(vm);
  slot = largest_slot(vm);
  task = largest_task(vm, slot ? slot->held_bytes : SHED_HELD_MIN);
  if (held_by_all(vm) < (int64_t)(vm->heap_bytes - pl__shed_soft_bytes(vm))) {
    slot = NULL; /* failing all of them would not be enough */
    task = NULL;
  }
  if (task) {
    condemn_task(vm, task);
  } else if (slot) {
    condemn_slot(vm, slot);
  } else {
    tell(vm, PL_LEVEL_WARN, NULL,
         "the heap is large, and no running handler holds it", 0);
  }
}

bool pl__shed_is_urgent(const struct pl_vm *vm) {
  uint64_t soft = pl__shed_soft_bytes(vm);
  uint64_t hard = vm->options.memory_bytes_max;

  if (!soft || vm->heap_bytes <= soft)
    return false;
  return vm->heap_bytes > (hard > soft ? soft + (hard - soft) / 2 : 2 * soft);
}

void pl__shed_running(struct pl_vm *vm) {
  struct pl_coro *c = vm->current;

  pl__coro_charge(c);
  if (c->req && vm->slots[c->req->slot].runner)
    condemn_slot(vm, &vm->slots[c->req->slot]);
  else
    condemn_task(vm, c);
}

void pl__shed_set(struct pl_vm *vm) {
  uint64_t soft = pl__shed_soft_bytes(vm);

  vm->shed_bytes = UINT64_MAX;
  if (soft)
    vm->shed_bytes =
        vm->heap_bytes < soft ? soft : vm->heap_bytes + soft / SHED_SHARE;
}

void pl__shed_begin_again(struct pl_vm *vm) {
  uint64_t hard = vm->options.memory_bytes_max;

  vm->shed_bytes = pl__shed_soft_bytes(vm);
  if (pl__shed_is_urgent(vm) || (hard && vm->heap_bytes > hard / 4 * 3))
    vm->starved = true; /* the next one might not get what it needs */
  else
    pl__vm_shed(vm);
}

void pl__vm_shed(struct pl_vm *vm) {
  if (vm->is_shedding)
    return;
  vm->is_shedding = true;
  /* A cycle that is under way does not see what died since its beginning. */
  vm->shed_cycles = vm->collecting ? 2 : 1;
  vm->shed_from_bytes = vm->heap_bytes;
  vm->collecting = true;
}
