/* vm/traces.c - see traces.h.
 *
 * Of LuaJIT's compiler (lj_record.c, lj_opt_fold.c, lj_asm_x86.h), checked by
 * counting: a new line emits an instruction PROF, unless the one before it is a
 * PROF as well, which then stands for both; it becomes "test byte [r14+n],
 * 0x80; jne exit", in the order of instructions.  The loop of a trace is its
 * body a second time, less what does not change in it.
 */
#include "vm/traces.h"

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/stacks.h"
#include "vm/frames.h"

#include <stdbool.h>
#include <string.h>

#define DEPTHS 128 /* calls within one trace that are told apart */
#define DEPTH_ORIGIN 32
#define NOWHERE UINT32_MAX

/* A line of a trace.  What has called it is the place `outer`, or the stack at
 * the trace's beginning without its innermost `skip` frames. */
struct place {
  uint32_t symbol;
  uint32_t outer; /* NOWHERE: the stack */
  uint32_t skip;
  uint32_t stack; /* its number, once somebody has asked; PL_STACK_OTHER */
};

/* From `offset` on the code is that of a place. */
struct mark {
  uint32_t offset;
  uint32_t place;
};

struct trace {
  uintptr_t begin;
  uint32_t bytes;
  uint32_t depth;
  uint32_t mark_count;
  uint32_t edition;     /* of the frames, that its symbols are of */
  struct place *places; /* the first one is the beginning's */
  struct mark *marks;
  uint32_t symbols[]; /* the stack at the beginning; then places, marks */
};

struct recording {
  bool is_on;
  bool is_too_long;
  uint32_t edition;
  uint32_t depth;
  uint32_t place_count;
  uint32_t part_count;
  uint32_t last_check; /* instruction */
  uint32_t symbols[PL_STACKS_DEPTH_MAX];
  struct place places[PL_TRACE_LINES_MAX];
  uint32_t parts[PL_TRACE_LINES_MAX]; /* checks in order: which place */
  uint32_t at_depth[DEPTHS];          /* the place that is at work there */
};

struct pl_traces {
  struct pl_frames *frames;
  struct trace **at; /* by address */
  uint32_t count;
  uint32_t cap;
  uint32_t by_line;
  uintptr_t begin, end; /* of all */
  struct recording recording;
};

int pl__traces_open(struct pl_traces **out, struct pl_frames *frames) {
  struct pl_traces *t = pl__alloc_zero(sizeof *t);

  if (!t)
    return PL_ENOMEM;
  t->frames = frames;
  *out = t;
  return 0;
}

void pl__traces_flush(struct pl_traces *t) {
  for (uint32_t i = 0; i < t->count; i++)
    pl__free(t->at[i]);
  t->count = t->by_line = 0;
  t->begin = t->end = 0;
  t->recording.is_on = false;
}

void pl__traces_close(struct pl_traces *t) {
  if (!t)
    return;
  pl__traces_flush(t);
  pl__free(t->at);
  pl__free(t);
}

uint32_t pl__traces_count(const struct pl_traces *t, uint32_t *by_line) {
  *by_line = t->by_line;
  return t->count;
}

/* --- recording ------------------------------------------------------------------ */

void pl__traces_begin(struct pl_traces *t, const uint32_t *symbols,
                      uint32_t depth) {
  struct recording *r = &t->recording;

  r->is_on = depth > 0;
  r->is_too_long = false;
  r->edition = pl__frames_edition(t->frames);
  r->depth = depth < PL_STACKS_DEPTH_MAX ? depth : PL_STACKS_DEPTH_MAX;
  memcpy(r->symbols, symbols, r->depth * sizeof *symbols);
  r->places[0] = (struct place){depth ? symbols[0] : 0, NOWHERE, 1, 0};
  r->place_count = 1;
  r->part_count = 0;
  r->last_check = 0;
  memset(r->at_depth, 0xff, sizeof r->at_depth);
}

void pl__traces_abandon(struct pl_traces *t) { t->recording.is_on = false; }

bool pl__traces_is_recording(const struct pl_traces *t) {
  return t->recording.is_on;
}

/* Who has called what is `depth` calls deep; *skip: how much of the stack is
 * gone, if that is what has. */
static uint32_t caller_of(const struct recording *r, int depth,
                          uint32_t *skip) {
  for (int at = DEPTH_ORIGIN + depth - 1; at >= 0; at--)
    if (r->at_depth[at] != NOWHERE)
      return r->at_depth[at];
  *skip = depth > 0 ? 0 : (uint32_t)(1 - depth);
  return NOWHERE;
}

void pl__traces_line(struct pl_traces *t, uint32_t symbol, int depth,
                     uint32_t instruction) {
  struct recording *r = &t->recording;
  int at = DEPTH_ORIGIN + depth;
  struct place *p = &r->places[r->place_count];

  if (!r->is_on)
    return;
  if (at < 0 || at >= DEPTHS || r->place_count == PL_TRACE_LINES_MAX) {
    r->is_too_long = true;
    return;
  }
  *p = (struct place){.symbol = symbol};
  p->outer = caller_of(r, depth, &p->skip);
  memset(r->at_depth + at, 0xff, (size_t)(DEPTHS - at) * sizeof *r->at_depth);
  r->at_depth[at] = r->place_count++;
  if (r->part_count == 0 || instruction != r->last_check + 1) {
    r->part_count++;
    r->last_check = instruction;
  }
  r->parts[r->part_count - 1] = r->at_depth[at];
}

/* --- machine code ----------------------------------------------------------------- */

#ifdef __x86_64__
#define CHECK_BYTES 10

/* test byte [r14 + disp32], 0x80; jne rel32 */
static bool is_check(const uint8_t *at) {
  return at[0] == 0x41 && at[1] == 0xf6 && at[2] == 0x86 && at[7] == 0x80 &&
         at[8] == 0x0f && at[9] == 0x85;
}
#else
#define CHECK_BYTES 1
static bool is_check(const uint8_t *at) {
  (void)at;
  return false;
}
#endif

/* Their offsets into `out` (NULL: only counted); *before: those before `loop`.
 * Returns how many, at most `max`. */
static uint32_t find_checks(const uint8_t *code, size_t bytes, size_t loop,
                            struct mark *out, uint32_t max, uint32_t *before) {
  uint32_t count = 0;

  *before = 0;
  for (size_t i = 0; i + CHECK_BYTES <= bytes && count < max; i++) {
    if (!is_check(code + i))
      continue;
    if (out)
      out[count].offset = (uint32_t)i;
    count++;
    *before += loop == 0 || i < loop;
    i += CHECK_BYTES - 1;
  }
  return count;
}

/* Which place a check in the loop begins. */
static uint32_t place_in_loop(const struct recording *r, uint32_t index,
                              const uint16_t *parts) {
  uint32_t part = parts ? parts[index] : index + 1u;

  return part >= 1 && part <= r->part_count ? r->parts[part - 1] : 0;
}

/* Gives the marks their places.  False: there are other checks than expected.
 * The line that ends the recording is not always part of the trace. */
static bool marks_place(const struct recording *r, struct mark *marks,
                        uint32_t count, uint32_t before, const uint16_t *parts,
                        uint32_t part_count) {
  uint32_t behind = count - before;

  if (before != r->part_count && before + 1 != r->part_count)
    return false;
  if (behind && (parts ? behind != part_count : behind != before))
    return false;
  for (uint32_t i = 0; i < before; i++)
    marks[i].place = r->parts[i];
  for (uint32_t i = before; i < count; i++)
    marks[i].place = place_in_loop(r, i - before, parts);
  return true;
}

/* --- the map ------------------------------------------------------------------------ */

static struct trace *trace_new(const struct recording *r, uint32_t places,
                               uint32_t marks) {
  size_t symbols_bytes = (r->depth + 3u) / 4u * 4u * sizeof *r->symbols;
  size_t places_bytes = places * sizeof(struct place);
  struct trace *trace = pl__alloc(sizeof *trace + symbols_bytes + places_bytes +
                                  marks * sizeof(struct mark));
  char *behind;

  if (!trace)
    return NULL;
  behind = (char *)trace->symbols + symbols_bytes;
  trace->places = (struct place *)(void *)behind;
  trace->marks = (struct mark *)(void *)(behind + places_bytes);
  trace->depth = r->depth;
  trace->edition = r->edition;
  memcpy(trace->symbols, r->symbols, r->depth * sizeof *r->symbols);
  memcpy(trace->places, r->places, places_bytes);
  return trace;
}

static bool has_room(struct pl_traces *t) {
  uint32_t cap = t->cap ? 2 * t->cap : 64;
  struct trace **at;

  if (t->count < t->cap)
    return true;
  if (t->cap >= PL_TRACES_MAX)
    return false;
  at = pl__realloc(t->at, cap * sizeof *at);
  if (!at)
    return false;
  t->at = at;
  t->cap = cap;
  return true;
}

/* How many begin at `address` or before. */
static uint32_t count_up_to(const struct pl_traces *t, uintptr_t address) {
  uint32_t low = 0, high = t->count;

  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (t->at[middle]->begin <= address)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* LuaJIT fills its areas from their ends, so most go to the front. */
static void map_insert(struct pl_traces *t, struct trace *trace) {
  uint32_t index = count_up_to(t, trace->begin);

  memmove(t->at + index + 1, t->at + index,
          (t->count - index) * sizeof(struct trace *));
  t->at[index] = trace;
  if (t->count == 0 || trace->begin < t->begin)
    t->begin = trace->begin;
  if (trace->begin + trace->bytes > t->end)
    t->end = trace->begin + trace->bytes;
  t->count++;
  t->by_line += trace->mark_count > 0;
}

void pl__traces_end(struct pl_traces *t, const uint8_t *code, size_t bytes,
                    uintptr_t address, size_t loop, const uint16_t *parts,
                    uint32_t part_count) {
  struct recording *r = &t->recording;
  struct trace *trace;
  uint32_t marks, before;

  if (!r->is_on)
    return;
  r->is_on = false;
  if (bytes > UINT32_MAX || !has_room(t))
    return;
  marks = r->is_too_long ? 0
                         : find_checks(code, bytes, loop, NULL,
                                       2 * PL_TRACE_LINES_MAX, &before);
  trace = trace_new(r, marks ? r->place_count : 1, marks);
  if (!trace)
    return;
  trace->begin = address;
  trace->bytes = (uint32_t)bytes;
  trace->mark_count = marks;
  if (marks) {
    find_checks(code, bytes, loop, trace->marks, marks, &before);
    if (!marks_place(r, trace->marks, marks, before, parts, part_count))
      trace->mark_count = 0;
  }
  map_insert(t, trace);
}

/* --- finding -------------------------------------------------------------------------- */

static const struct trace *trace_find(const struct pl_traces *t,
                                      uintptr_t address) {
  uint32_t count;

  if (address < t->begin || address >= t->end)
    return NULL;
  count = count_up_to(t, address);
  return count && address - t->at[count - 1]->begin < t->at[count - 1]->bytes
             ? t->at[count - 1]
             : NULL;
}

/* The place of the instruction before `offset`, where a call returns to. */
static struct place *place_find(const struct trace *trace, uint32_t offset) {
  uint32_t low = 0, high = trace->mark_count;

  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (trace->marks[middle].offset < offset)
      low = middle + 1;
    else
      high = middle;
  }
  return &trace->places[low ? trace->marks[low - 1].place : 0];
}

static uint32_t stack_of(struct pl_traces *t, const struct trace *trace,
                         struct place *place) {
  uint32_t symbols[PL_STACKS_DEPTH_MAX], depth = 0, skip;
  const struct place *p = place;

  if (place->stack != PL_STACK_OTHER)
    return place->stack;
  if (trace->edition != pl__frames_edition(t->frames))
    return PL_STACK_OTHER; /* they would be those of other lines by now */
  symbols[depth++] = p->symbol;
  while (p->outer != NOWHERE && depth < PL_STACKS_DEPTH_MAX) {
    p = &trace->places[p->outer];
    symbols[depth++] = p->symbol;
  }
  skip = p->skip;
  while (skip < trace->depth && depth < PL_STACKS_DEPTH_MAX)
    symbols[depth++] = trace->symbols[skip++];
  place->stack = pl__frames_add(t->frames, symbols, depth);
  return place->stack;
}

uint32_t pl__traces_stack(struct pl_traces *t, const uintptr_t *words) {
  for (uint32_t i = PL_TRACE_SCAN_WORDS; i-- > 0;) {
    const struct trace *trace = trace_find(t, words[i]);
    if (trace)
      return stack_of(t, trace,
                      place_find(trace, (uint32_t)(words[i] - trace->begin)));
  }
  return PL_STACK_OTHER;
}
