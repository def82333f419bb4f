/* vm/report.c - see report.h. */
#define _GNU_SOURCE /* memmem */
#include "vm/report.h"
#include "vm/coro.h"
#include "vm/frames.h"

#include <lua.h>
#include <stdio.h>
#include <string.h>

struct pl_record_labels pl__report_labels(const struct pl_context *context) {
  return (struct pl_record_labels){
      .tenant = pl__slice(context->tenant, context->tenant_bytes),
      .caller_id = pl__slice(context->caller_id, context->caller_id_bytes)};
}

void pl__report_begin(const struct pl_vm *vm, struct pl_record_draft *draft,
                      void *memory, uint32_t bytes, enum pl_level level,
                      const struct pl_coro *about, struct pl_slice message) {
  const struct pl_req *req = about ? about->req : NULL;
  const struct pl_context *context = about ? pl__coro_context(about) : NULL;
  struct pl_record head = {
      .level = (uint8_t)level,
      .worker = (uint16_t)vm->options.worker,
      .route = req ? pl__vm_route_in_log(vm, req) : PL_RECORD_NO_ROUTE,
      .generation = vm->options.generation,
  };
  struct pl_record_labels labels = {0};

  if (context) {
    head.request_id = context->request_id;
    head.trace_id[0] = context->trace_id[0];
    head.trace_id[1] = context->trace_id[1];
    head.span_id = pl__coro_span_id(about);
    labels = pl__report_labels(context);
  }
  pl__record_begin_for(draft, memory, bytes, &head, &labels, message);
}

static void print_field(const struct pl_field *f) {
  fprintf(stderr, " %.*s=", (int)f->key.bytes, f->key.at);
  if (f->type == PL_FIELD_STRING)
    fprintf(stderr, "%.*s", (int)f->text.bytes, f->text.at);
  else if (f->type == PL_FIELD_BOOL)
    fputs(f->number != 0 ? "true" : "false", stderr);
  else
    fprintf(stderr, "%.14g", f->number);
}

/* Tools have no ring and nobody who drains it: a person reads this. */
static void print_draft(const struct pl_record_draft *draft) {
  struct pl_record head;
  struct pl_record_log_view view;
  struct pl_field field;

  if (pl__record_read(draft->at, draft->bytes, &head) ||
      pl__record_read_log(draft->at, draft->bytes, &view))
    return;
  fprintf(stderr, "%s: %.*s", pl__level_name(head.level),
          (int)view.message.bytes, view.message.at);
  while (pl__record_field(&view, &field) == 1)
    print_field(&field);
  fputc('\n', stderr);
}

void pl__vm_tell_counts(struct pl_vm *vm) {
  const struct pl_vm_counts *n = &vm->counts;
  _Alignas(8) char memory[1024];
  struct pl_record_draft draft;

  if (vm->options.log_level_min > PL_LEVEL_INFO ||
      !(n->preempted || n->overdue || n->condemned || n->abandoned))
    return;
  pl__report_begin(vm, &draft, memory, sizeof memory, PL_LEVEL_INFO, NULL,
                   PL_SLICE("handlers were interrupted"));
  pl__record_num(&draft, PL_SLICE("preempted"), (double)n->preempted);
  pl__record_num(&draft, PL_SLICE("long_runs"), (double)n->long_runs);
  pl__record_num(&draft, PL_SLICE("overdue"), (double)n->overdue);
  pl__record_num(&draft, PL_SLICE("short_of_memory"), (double)n->condemned);
  pl__record_num(&draft, PL_SLICE("given_up"), (double)n->abandoned);
  pl__report_end(vm, &draft);
}

/* Where the Lua of ours begins that lies around every handler and task. */
static const char *const around[] = {"perilune/runner.lua:",
                                     "perilune/task.lua:"};

static bool is_around(const char *line, size_t bytes) {
  for (size_t i = 0; i < sizeof around / sizeof *around; i++)
    if (memmem(line, bytes, around[i], strlen(around[i])))
      return true;
  return false;
}

struct pl_slice pl__report_trim(struct pl_slice t) {
  static const char heading[] = "stack traceback:\n";
  size_t heading_bytes = sizeof heading - 1;
  uint32_t end = 0;

  if (t.bytes >= heading_bytes && !memcmp(t.at, heading, heading_bytes))
    t = pl__slice(t.at + heading_bytes, t.bytes - heading_bytes);
  while (end < t.bytes) {
    const char *line = t.at + end;
    const char *stop = memchr(line, '\n', t.bytes - end);
    size_t bytes = stop ? (size_t)(stop - line) : t.bytes - end;
    if (is_around(line, bytes))
      break;
    end += (uint32_t)bytes + (stop ? 1 : 0);
  }
  while (end > 0 && t.at[end - 1] == '\n')
    end--;
  return pl__slice(t.at, end);
}

size_t pl__vm_traceback_unsafe(struct pl_vm *vm, char *out, size_t bytes) {
  struct lua_State *L = vm->current ? vm->current->co : vm->L;
  size_t used = 0;
  lua_Debug at;

  for (int level = 0; L && level < PL_REPORT_FRAMES_MAX && used + 1 < bytes &&
                      lua_getstack(L, level, &at);
       level++) {
    int n;
    if (!lua_getinfo(L, "Sl", &at))
      break;
    n = at.currentline >= 0
            ? snprintf(out + used, bytes - used, "%s:%d\n", at.short_src,
                       at.currentline)
            : snprintf(out + used, bytes - used, "[%s]\n", at.what);
    if (n < 0 || (size_t)n >= bytes - used)
      break;
    used += (size_t)n;
  }
  out[used] = '\0';
  return used;
}

void pl__report_place(const struct pl_vm *vm, struct pl_record_draft *draft,
                      struct pl_slice key, uint32_t stack) {
  char text[PL_REPORT_PLACE_BYTES];
  struct pl_slice place =
      pl__frames_text(vm->options.frames, stack, text, sizeof text);

  if (place.bytes)
    pl__record_str(draft, key, place);
}

void pl__report_end(struct pl_vm *vm, struct pl_record_draft *draft) {
  if (vm->options.is_muted)
    return;
  if (vm->options.log)
    pl__record_end(draft, vm->options.log);
  else
    print_draft(draft);
}

void pl__report(struct pl_vm *vm, enum pl_level level,
                const struct pl_coro *about, const char *message,
                const char *error) {
  _Alignas(8) char memory[PL_VM_ERROR_BYTES + 1024];
  struct pl_record_draft draft;

  if ((int)level < vm->options.log_level_min)
    return;
  pl__report_begin(vm, &draft, memory, sizeof memory, level, about,
                   pl__slice_text(message));
  if (*error)
    pl__record_str(&draft, PL_SLICE("error"), pl__slice_text(error));
  pl__report_end(vm, &draft);
}
