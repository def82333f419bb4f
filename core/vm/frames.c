/* vm/frames.c - see frames.h. */
#include "vm/frames.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "fabric/names.h"
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
  struct pl_symbols_writer symbols; /* of the bank in use */
  struct pl_stacks_writer stacks;
  struct pl_symbols *all_symbols;
  struct pl_stacks *all_stacks;
  uint32_t banks, bank;
  uint32_t uses;       /* of a bank, so far */
  char own[OWN_BYTES]; /* how the chunks of our modules begin */
  uint32_t own_bytes;
  uint32_t cut; /* the symbol that ends a stack which goes on */
  struct seen seen[SEEN_MAX];
};

/* --- a life --------------------------------------------------------------- */

static uint64_t begun_ms(const struct pl_frames *f, uint32_t bank) {
  return atomic_load_explicit(&f->all_stacks[bank].begun_ms,
                              memory_order_relaxed);
}

/* Goes over to that bank; on failure nothing changed. */
static int bank_use(struct pl_frames *f, uint32_t bank) {
  static const struct pl_symbol cut = {.name = {"(deeper)", 8},
                                       .kind = PL_SYMBOL_CORE};
  struct pl_symbols_writer symbols;
  struct pl_stacks_writer stacks;
  int failed = pl__symbols_writer_open(&symbols, &f->all_symbols[bank]);

  if (failed)
    return failed;
  failed = pl__stacks_writer_open(&stacks, &f->all_stacks[bank]);
  if (failed) {
    pl__symbols_writer_close(&symbols);
    return failed;
  }
  pl__symbols_writer_close(&f->symbols);
  pl__stacks_writer_close(&f->stacks);
  f->symbols = symbols;
  f->stacks = stacks;
  f->bank = bank;
  f->uses++;
  f->cut = pl__symbols_add(&f->symbols, &cut);
  memset(f->seen, 0, sizeof f->seen);
  return 0;
}

static void bank_begin(struct pl_frames *f, uint32_t bank, uint64_t now_ms) {
  atomic_store_explicit(&f->all_stacks[bank].begun_ms, now_ms,
                        memory_order_release);
}

uint32_t pl__frames_bank_due(const struct pl_frames *f, uint64_t now_ms) {
  uint32_t next = (f->bank + 1) % f->banks;

  if (next == f->bank || (!pl__symbols_is_half_full(f->symbols.table) &&
                          !pl__stacks_is_half_full(&f->stacks)))
    return PL_FRAMES_NO_BANK;
  if (begun_ms(f, next) && now_ms < begun_ms(f, f->bank) + PL_NAMES_KEEP_MS)
    return PL_FRAMES_NO_BANK;
  return next;
}

int pl__frames_renew(struct pl_frames *f, uint32_t bank, uint64_t now_ms) {
  int failed;

  pl__stacks_clear(&f->all_stacks[bank]);
  pl__symbols_clear(&f->all_symbols[bank]);
  failed = bank_use(f, bank);
  if (!failed)
    bank_begin(f, bank, now_ms);
  return failed;
}

uint32_t pl__frames_edition(const struct pl_frames *f) { return f->uses; }

int pl__frames_open(struct pl_frames **out, struct pl_symbols *symbols,
                    struct pl_stacks *stacks, uint32_t banks,
                    const char *lua_folder) {
  struct pl_frames *f = pl__alloc_zero(sizeof *f);
  uint64_t now_ms = (uint64_t)(pl__clock_monotonic_ns() / PL_NS_PER_MS);
  uint32_t bank = 0;
  int failed, bytes;

  if (!f)
    return PL_ENOMEM;
  f->all_symbols = symbols;
  f->all_stacks = stacks;
  f->banks = banks;
  bytes = snprintf(f->own, sizeof f->own, "@%s/perilune/", lua_folder);
  f->own_bytes = bytes < (int)sizeof f->own ? (uint32_t)bytes : OWN_BYTES;
  for (uint32_t i = 0; i < banks; i++)
    if (begun_ms(f, i) > now_ms)
      bank_begin(f, i, 0);
  for (uint32_t i = 1; i < banks; i++)
    if (begun_ms(f, i) > begun_ms(f, bank))
      bank = i;
  failed = bank_use(f, bank);
  if (failed) {
    pl__frames_close(f);
    return failed;
  }
  if (!begun_ms(f, bank))
    bank_begin(f, bank, now_ms);
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
  uint32_t id =
      depth ? pl__stacks_add(&f->stacks, symbols, depth) : PL_STACK_OTHER;

  return id == PL_STACK_OTHER ? id : pl__names_first(f->bank) + id;
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
  struct pl_symbol frames[PL_STACKS_DEPTH_MAX];
  uint32_t depth = 0;

  if (f && stack && pl__names_bank(stack) < f->banks) {
    struct pl_names names = {f->all_symbols, f->all_stacks};
    depth = pl__names_find(&names, stack, UINT64_MAX, frames);
  }
  out[0] = '\0';
  for (uint32_t i = 0; i < depth; i++) {
    const struct pl_symbol *s = &frames[i];
    if (s->kind != PL_SYMBOL_LUA || s->chunk.bytes < 2)
      continue;
    snprintf(out, bytes, "%.*s:%u", (int)s->chunk.bytes - 1, s->chunk.at + 1,
             s->line);
    break;
  }
  return pl__slice_text(out);
}
