/* vm/suspects.c - see suspects.h. */
#include "vm/suspects.h"

#include "vm/coro.h"
#include "vm/report.h"

#include <string.h>

static uint32_t hash_of(const struct pl_waits_suspect *key) {
  uint32_t h = key->started * 2654435761u;

  h = (h ^ key->at) * 2654435761u;
  h = (h ^ key->route ^ key->reason << 20) * 2654435761u;
  return h >> 16;
}

static bool is_same(const struct pl_waits_suspect *a,
                    const struct pl_waits_suspect *b) {
  return a->started == b->started && a->at == b->at && a->reason == b->reason &&
         a->route == b->route;
}

/* The line of that key; else a free one, or NULL where all are taken. */
static struct pl_suspect_line *line_of(struct pl_suspect_line *lines,
                                       const struct pl_waits_suspect *key) {
  uint32_t at = hash_of(key) % PL_SUSPECTS_SLOTS;

  for (uint32_t i = 0; i < PL_SUSPECTS_SLOTS; i++) {
    struct pl_suspect_line *line = &lines[(at + i) % PL_SUSPECTS_SLOTS];
    if (!line->is_used || is_same(&line->seen, key))
      return line;
  }
  return NULL;
}

static void count_one(struct pl_vm *vm, struct pl_suspect_line *lines,
                      const struct pl_coro *c) {
  const struct pl_coro_waiting *w = &c->waiting;
  struct pl_suspects *s = vm->waiting.suspects;
  int64_t age_ns = vm->tick_ns - w->parked_ns;
  struct pl_waits_suspect key = {
      .started = w->started,
      .at = w->at,
      .reason = w->reason,
      .route = c->req ? pl__vm_route_in_log(vm, c->req) : PL_WAITS_NO_ROUTE,
      .generation = vm->options.generation,
      .name = w->name,
      .since_ns = w->parked_ns};
  struct pl_suspect_line *line = line_of(lines, &key);

  if (!line || (!line->is_used && s->count == PL_SUSPECTS_LINES_MAX))
    return;
  if (!line->is_used) {
    s->count++;
    line->is_used = true;
    line->seen = key;
  }
  if (w->parked_ns < line->seen.since_ns)
    line->seen.since_ns = w->parked_ns;
  line->waiting++;
  line->waited_s += (double)age_ns / PL_NS_PER_S;
  line->seen.count +=
      age_ns >= (int64_t)(vm->options.leaks_after_s * PL_NS_PER_S);
}

/* What the last look has seen of it decides. */
static void judge(struct pl_suspect_line *line,
                  const struct pl_suspect_line *before) {
  uint32_t count = line->seen.count;
  bool was_there = before->is_used;

  line->waited_s /= line->waiting;
  if (!count || (was_there && count < before->seen.count))
    return;
  line->told = before->told;
  line->seen.level = before->seen.level;
  line->grew = count > before->seen.count ? before->grew + 1 : 0;
  if (line->grew >= PL_SUSPECTS_WINDOWS && !line->seen.level)
    line->seen.level = 1;
  else if (line->seen.level == 1 && line->waited_s > PL_SUSPECTS_MEAN_S &&
           line->waited_s > before->waited_s)
    line->seen.level = 2;
}

static void tell(struct pl_vm *vm, struct pl_suspect_line *line) {
  const struct pl_waits_suspect *s = &line->seen;
  _Alignas(8) char memory[2048];
  struct pl_record_draft draft;

  line->told = s->level;
  pl__report_begin(vm, &draft, memory, sizeof memory, PL_LEVEL_WARN, NULL,
                   PL_SLICE("coroutines are suspected of leaking"));
  pl__record_num(&draft, PL_SLICE("count"), s->count);
  pl__record_num(&draft, PL_SLICE("suspicion"), s->level);
  pl__record_str(&draft, PL_SLICE("reason"),
                 pl__slice_text(pl__waits_reason_name(s->reason)));
  pl__report_place(vm, &draft, PL_SLICE("at"), s->at);
  pl__report_place(vm, &draft, PL_SLICE("started_at"), s->started);
  if (s->name)
    pl__record_str(&draft, PL_SLICE("task"),
                   pl__waits_name_of(vm->options.waits, s->name));
  if (s->route != PL_WAITS_NO_ROUTE)
    pl__record_str(&draft, PL_SLICE("pattern"),
                   pl__vm_route_pattern(vm, s->route));
  pl__record_num(&draft, PL_SLICE("oldest_s"),
                 (double)(vm->tick_ns - s->since_ns) / PL_NS_PER_S);
  pl__record_num(&draft, PL_SLICE("average_s"), line->waited_s);
  pl__report_end(vm, &draft);
}

static void publish(struct pl_vm *vm, struct pl_suspect_line *lines) {
  struct pl_waits_suspect rows[PL_WAITS_SUSPECTS_MAX];
  uint32_t count = 0, told = 0;

  for (uint32_t i = 0; i < PL_SUSPECTS_SLOTS; i++) {
    struct pl_suspect_line *line = &lines[i];
    if (!line->is_used || !line->seen.level)
      continue;
    if (count < PL_WAITS_SUSPECTS_MAX)
      rows[count++] = line->seen;
    if (line->seen.level > line->told && told++ < PL_SUSPECTS_TOLD_MAX)
      tell(vm, line);
  }
  pl__waits_suspect(&vm->waiting.writer, rows, count);
}

static void look(struct pl_vm *vm, struct pl_suspects *s) {
  struct pl_suspect_line *before = s->lines[s->now], *lines;
  static const struct pl_suspect_line none;

  s->now ^= 1;
  s->count = 0;
  lines = s->lines[s->now];
  memset(lines, 0, sizeof s->lines[0]);
  for (uint32_t i = 0; i < vm->coro_count; i++)
    if (vm->coros[i]->in_use && vm->coros[i]->waiting.parked_ns &&
        vm->coros[i]->waiting.at)
      count_one(vm, lines, vm->coros[i]);
  for (uint32_t i = 0; i < PL_SUSPECTS_SLOTS; i++) {
    const struct pl_suspect_line *old = line_of(before, &lines[i].seen);
    if (lines[i].is_used)
      judge(&lines[i], old ? old : &none);
  }
  publish(vm, lines);
}

void pl__suspects_turn(struct pl_vm *vm) {
  struct pl_suspects *s = vm->waiting.suspects;

  if (!s || vm->waiting.is_retired ||
      vm->tick_ns - s->looked_ns <
          (int64_t)(vm->options.leaks_window_s * PL_NS_PER_S))
    return;
  s->looked_ns = vm->tick_ns;
  look(vm, s);
}
