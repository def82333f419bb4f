/* vm/frames.c - see frames.h. */
#include "vm/frames.h"

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"

#include <lua.h>
#include <stdio.h>
#include <string.h>

#define SEEN_MAX 2048u /* frames that are found without asking the table */
#define OWN_BYTES 512u

struct seen {
  const char *source; /* address of the chunk's name; NULL: nothing */
  int first_line;
  int line;
  uint32_t id;
  struct pl_slice chunk; /* the name, in the fabric */
};

struct pl_frames {
  struct pl_symbols_writer symbols;
  struct pl_stacks_writer stacks;
  char own[OWN_BYTES]; /* how the chunks of our modules begin */
  uint32_t own_bytes;
  uint32_t cut; /* the symbol that ends a stack which goes on */
  struct seen seen[SEEN_MAX];
};

int pl__frames_open(struct pl_frames **out, struct pl_symbols *symbols,
                    struct pl_stacks *stacks, const char *lua_folder) {
  static const struct pl_symbol cut = {.name = {"(deeper)", 8},
                                       .kind = PL_SYMBOL_CORE};
  struct pl_frames *f = pl__alloc_zero(sizeof *f);
  int failed = PL_ENOMEM, bytes;

  if (!f)
    return PL_ENOMEM;
  bytes = snprintf(f->own, sizeof f->own, "@%s/perilune/", lua_folder);
  f->own_bytes = bytes < (int)sizeof f->own ? (uint32_t)bytes : OWN_BYTES;
  failed = pl__symbols_writer_open(&f->symbols, symbols);
  failed = failed ? failed : pl__stacks_writer_open(&f->stacks, stacks);
  if (failed) {
    pl__frames_close(f);
    return failed;
  }
  f->cut = pl__symbols_add(&f->symbols, &cut);
  *out = f;
  return 0;
}

void pl__frames_close(struct pl_frames *f) {
  if (!f)
    return;
  pl__symbols_writer_close(&f->symbols);
  pl__stacks_writer_close(&f->stacks);
  pl__free(f);
}

/* --- a frame ------------------------------------------------------------- */

/* How a chunk is called, "@file" or "=name", or by the beginning of its text. */
static struct pl_slice chunk_of(const lua_Debug *at) {
  if (at->source[0] == '@' || at->source[0] == '=')
    return pl__slice_text(at->source);
  return pl__slice_text(at->short_src);
}

static enum pl_symbol_kind kind_of(const struct pl_frames *f,
                                   const lua_Debug *at) {
  return strncmp(at->source, f->own, f->own_bytes) ? PL_SYMBOL_LUA
                                                   : PL_SYMBOL_OWN;
}

/* Functions have no names of their own: how the caller has called it.  Of those
 * that C has called LuaJIT may say that they are some metamethod. */
static struct pl_slice name_of(lua_State *L, lua_Debug *at) {
  if (at->what[0] == 'm')
    return PL_SLICE("(file)");
  if (!lua_getinfo(L, "n", at) || !at->name ||
      !strcmp(at->namewhat, "metamethod"))
    return PL_SLICE("");
  return pl__slice_text(at->name);
}

static uint32_t c_function(struct pl_frames *f, lua_State *L, lua_Debug *at) {
  struct pl_symbol symbol = {.kind = PL_SYMBOL_C, .chunk = PL_SLICE("=[C]")};

  symbol.name = name_of(L, at);
  return pl__symbols_add(&f->symbols, &symbol);
}

static struct seen *seen_at(struct pl_frames *f, const lua_Debug *at) {
  uint64_t h = (uint64_t)(uintptr_t)at->source ^
               (uint64_t)(uint32_t)at->currentline << 40 ^
               (uint64_t)(uint32_t)at->linedefined << 20;

  return &f->seen[(h * 0x9e3779b97f4a7c15u) >> 48 & (SEEN_MAX - 1)];
}

/* Another chunk may have its name at the same address by now. */
static bool is_seen(const struct seen *s, const lua_Debug *at) {
  return s->source == at->source && s->line == at->currentline &&
         s->first_line == at->linedefined &&
         !strncmp(at->source, s->chunk.at, s->chunk.bytes) &&
         !at->source[s->chunk.bytes];
}

static uint32_t lua_function(struct pl_frames *f, lua_State *L, lua_Debug *at) {
  struct seen *s = seen_at(f, at);
  struct pl_symbol symbol = {.chunk = chunk_of(at)};
  uint32_t id;

  if (is_seen(s, at))
    return s->id;
  symbol.kind = kind_of(f, at);
  symbol.first_line = at->linedefined > 0 ? (uint32_t)at->linedefined : 0;
  symbol.line = at->currentline > 0 ? (uint32_t)at->currentline : 0;
  symbol.name = name_of(L, at);
  id = pl__symbols_add(&f->symbols, &symbol);
  *s = (struct seen){.source = at->source,
                     .first_line = at->linedefined,
                     .line = at->currentline,
                     .id = id};
  if (!pl__symbols_find(f->symbols.table, id, &symbol))
    s->source = NULL;
  s->chunk = symbol.chunk;
  return id;
}

/* --- rows of them --------------------------------------------------------- */

static uint32_t walk(struct pl_frames *f, lua_State *L, uint32_t *out,
                     uint32_t count) {
  lua_Debug at;

  for (int level = 0; lua_getstack(L, level, &at); level++) {
    if (count == PL_STACKS_DEPTH_MAX) {
      out[count - 1] = f->cut;
      break;
    }
    lua_getinfo(L, "Sl", &at);
    out[count++] =
        at.what[0] == 'C' ? c_function(f, L, &at) : lua_function(f, L, &at);
  }
  return count;
}

static bool is_ours(const struct pl_frames *f, uint32_t id) {
  struct pl_symbol s;

  pl__symbols_find(f->symbols.table, id, &s);
  return s.kind == PL_SYMBOL_OWN || s.kind == PL_SYMBOL_C;
}

uint32_t pl__frames_walk(struct pl_frames *f, lua_State *L, lua_State *outer,
                         uint32_t *out) {
  uint32_t count = walk(f, L, out, 0), kept;

  if (outer && outer != L)
    count = walk(f, outer, out, count);
  for (kept = count; kept && is_ours(f, out[kept - 1]); kept--)
    ;
  return kept ? kept : count;
}

uint32_t pl__frames_stack(struct pl_frames *f, lua_State *L, lua_State *outer) {
  uint32_t symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth = pl__frames_walk(f, L, outer, symbols);

  return pl__frames_add(f, symbols, depth);
}

uint32_t pl__frames_add(struct pl_frames *f, const uint32_t *symbols,
                        uint32_t depth) {
  return depth ? pl__stacks_add(&f->stacks, symbols, depth) : PL_STACK_OTHER;
}

/* --- single ones ----------------------------------------------------------- */

uint32_t pl__frames_symbol(struct pl_frames *f, lua_State *L, int level) {
  lua_Debug at;

  if (!lua_getstack(L, level, &at) || !lua_getinfo(L, "Sl", &at))
    return PL_SYMBOL_OTHER;
  return at.what[0] == 'C' ? c_function(f, L, &at) : lua_function(f, L, &at);
}

uint32_t pl__frames_at_line(struct pl_frames *f, uint32_t symbol,
                            uint32_t line) {
  struct pl_symbol s;

  if (!pl__symbols_find(f->symbols.table, symbol, &s))
    return symbol;
  s.line = line;
  return pl__symbols_add(&f->symbols, &s);
}

uint32_t pl__frames_mark(struct pl_frames *f, const char *name) {
  struct pl_symbol s = {.name = pl__slice_text(name), .kind = PL_SYMBOL_CORE};
  uint32_t id = pl__symbols_add(&f->symbols, &s);

  return pl__frames_add(f, &id, 1);
}
uint32_t pl__frames_place(struct pl_frames *f, struct pl_slice file,
                          uint32_t line) {
  char chunk[PL_SYMBOLS_TEXT_BYTES_MAX];
  int bytes = snprintf(chunk, sizeof chunk, "@%.*s", (int)file.bytes, file.at);
  struct pl_symbol symbol = {.chunk = pl__slice(chunk, (uint32_t)bytes),
                             .name = PL_SLICE("(file)"),
                             .line = line,
                             .kind = PL_SYMBOL_LUA};
  uint32_t id;

  if (bytes >= (int)sizeof chunk)
    symbol.chunk.bytes = sizeof chunk - 1;
  id = pl__symbols_add(&f->symbols, &symbol);
  return pl__frames_add(f, &id, 1);
}

struct pl_slice pl__frames_text(const struct pl_frames *f, uint32_t stack,
                                char *out, size_t bytes) {
  uint32_t symbols[PL_STACKS_DEPTH_MAX];
  uint32_t depth =
      f && stack ? pl__stacks_find(f->stacks.table, stack, symbols) : 0;
  struct pl_symbol s;

  out[0] = '\0';
  for (uint32_t i = 0; i < depth; i++) {
    if (!pl__symbols_find(f->symbols.table, symbols[i], &s) ||
        s.kind != PL_SYMBOL_LUA || s.chunk.bytes < 2)
      continue;
    snprintf(out, bytes, "%.*s:%u", (int)s.chunk.bytes - 1, s.chunk.at + 1,
             s.line);
    break;
  }
  return pl__slice_text(out);
}
