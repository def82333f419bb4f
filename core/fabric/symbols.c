/* fabric/symbols.c - see symbols.h. */
#include "fabric/symbols.h"

#include "base/alloc.h"
#include "base/err.h"

#include <string.h>

/* At most half full: what all three tables can hold is less than that. */
#define INDEX_SLOTS 131072u
#define NONE UINT32_MAX

/* Things that the index finds, in the upper bits of its words. */
#define OF_TEXT (0u << 30)
#define OF_FUNCTION (1u << 30)
#define OF_LINE (2u << 30)
#define OF_MASK (3u << 30)

_Static_assert(sizeof(struct pl_symbols) <= 1u << 20, "about 1 MiB a worker");
_Static_assert(PL_SYMBOLS_MAX + PL_SYMBOLS_FUNCTIONS_MAX +
                       PL_SYMBOLS_TEXTS_MAX <=
                   INDEX_SLOTS / 2,
               "the index always has free slots");

static const struct pl_symbol other = {.name = {"(other)", 7},
                                       .kind = PL_SYMBOL_CORE};

/* --- hashes ------------------------------------------------------------- */

static uint32_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0x9e3779b97f4a7c15u;
  return (uint32_t)(x >> 32);
}

static uint32_t hash_of_words(uint64_t a, uint64_t b) {
  return mix(a * 0xff51afd7ed558ccdu ^ b);
}

static uint32_t hash_of_text(const char *at, uint32_t bytes) {
  uint64_t h = bytes, word;

  for (; bytes >= 8; bytes -= 8, at += 8) {
    memcpy(&word, at, 8);
    h = (h ^ word) * 0xff51afd7ed558ccdu;
    h ^= h >> 29;
  }
  word = 0;
  memcpy(&word, at, bytes);
  return mix((h ^ word) * 0xff51afd7ed558ccdu);
}

/* A function of Lua is where it begins: it goes by several names. */
static bool has_place(const struct pl_symbols_function *f) {
  return f->kind == PL_SYMBOL_LUA || f->kind == PL_SYMBOL_OWN;
}

static uint32_t hash_of_function(const struct pl_symbols_function *f) {
  return hash_of_words((uint64_t)f->chunk << 32 | (has_place(f) ? 0 : f->name),
                       (uint64_t)f->line << 32 | f->kind);
}

static bool is_same(const struct pl_symbols_function *a,
                    const struct pl_symbols_function *b) {
  return a->chunk == b->chunk && a->line == b->line && a->kind == b->kind &&
         (a->name == b->name || has_place(a));
}

static uint32_t hash_of(const struct pl_symbols *t, uint32_t entry) {
  uint32_t i = entry & ~OF_MASK;

  switch (entry & OF_MASK) {
  case OF_TEXT:
    return hash_of_text(t->bytes + t->texts[i].at, t->texts[i].bytes);
  case OF_FUNCTION:
    return hash_of_function(&t->functions[i]);
  default:
    return hash_of_words(t->lines[i].function, t->lines[i].line);
  }
}

/* --- the writer --------------------------------------------------------- */

/* Where `entry` with that hash belongs in the index: a free slot. */
static void index_put(struct pl_symbols_writer *w, uint32_t hash,
                      uint32_t entry) {
  while (w->index[hash % INDEX_SLOTS])
    hash++;
  w->index[hash % INDEX_SLOTS] = entry + 1;
}

static uint32_t load(const _Atomic uint32_t *count) {
  return atomic_load_explicit(count, memory_order_relaxed);
}

static void publish(_Atomic uint32_t *count, uint32_t n) {
  atomic_store_explicit(count, n, memory_order_release);
}

/* Whether all that is there can be gone on with. */
static bool is_sound(const struct pl_symbols *t) {
  uint32_t texts = load(&t->text_count), functions = load(&t->function_count),
           lines = load(&t->count);

  if (lines > PL_SYMBOLS_MAX || functions > PL_SYMBOLS_FUNCTIONS_MAX ||
      texts > PL_SYMBOLS_TEXTS_MAX || t->text_bytes > PL_SYMBOLS_TEXT_BYTES)
    return false;
  for (uint32_t i = 0; i < texts; i++)
    if (t->texts[i].bytes > PL_SYMBOLS_TEXT_BYTES_MAX ||
        t->texts[i].at > t->text_bytes ||
        t->texts[i].bytes > t->text_bytes - t->texts[i].at)
      return false;
  for (uint32_t i = 0; i < functions; i++)
    if (t->functions[i].chunk >= texts || t->functions[i].name >= texts ||
        t->functions[i].kind >= PL_SYMBOL_KINDS)
      return false;
  for (uint32_t i = 0; i < lines; i++)
    if (t->lines[i].function >= functions)
      return false;
  return lines > 0;
}

static void index_all(struct pl_symbols_writer *w) {
  struct pl_symbols *t = w->table;

  for (uint32_t i = 0; i < load(&t->text_count); i++)
    index_put(w, hash_of(t, OF_TEXT | i), OF_TEXT | i);
  for (uint32_t i = 0; i < load(&t->function_count); i++)
    index_put(w, hash_of(t, OF_FUNCTION | i), OF_FUNCTION | i);
  for (uint32_t i = 0; i < load(&t->count); i++)
    index_put(w, hash_of(t, OF_LINE | i), OF_LINE | i);
}

void pl__symbols_clear(struct pl_symbols *table) {
  publish(&table->count, 0);
  publish(&table->function_count, 0);
  publish(&table->text_count, 0);
  table->text_bytes = 0;
}

bool pl__symbols_is_half_full(const struct pl_symbols *t) {
  return load(&t->count) > PL_SYMBOLS_MAX / 2 ||
         load(&t->function_count) > PL_SYMBOLS_FUNCTIONS_MAX / 2 ||
         load(&t->text_count) > PL_SYMBOLS_TEXTS_MAX / 2 ||
         t->text_bytes > PL_SYMBOLS_TEXT_BYTES / 2;
}

int pl__symbols_writer_open(struct pl_symbols_writer *w,
                            struct pl_symbols *table) {
  w->table = table;
  w->index = pl__alloc_zero(INDEX_SLOTS * sizeof *w->index);
  if (!w->index)
    return PL_ENOMEM;
  if (is_sound(table)) {
    index_all(w);
    return 0;
  }
  pl__symbols_clear(table);
  pl__symbols_add(w, &other);
  return 0;
}

void pl__symbols_writer_close(struct pl_symbols_writer *w) {
  pl__free(w->index);
  w->index = NULL;
}

static uint32_t text_add(struct pl_symbols_writer *w, struct pl_slice text) {
  struct pl_symbols *t = w->table;
  uint32_t bytes = text.bytes < PL_SYMBOLS_TEXT_BYTES_MAX
                       ? text.bytes
                       : PL_SYMBOLS_TEXT_BYTES_MAX;
  uint32_t n = load(&t->text_count), hash;

  if (!bytes)
    text = PL_SLICE("");
  hash = hash_of_text(text.at, bytes);
  for (uint32_t at = hash, entry; (entry = w->index[at % INDEX_SLOTS]); at++) {
    uint32_t i = (entry - 1) & ~OF_MASK;
    if (((entry - 1) & OF_MASK) == OF_TEXT && t->texts[i].bytes == bytes &&
        !memcmp(t->bytes + t->texts[i].at, text.at, bytes))
      return i;
  }
  if (n == PL_SYMBOLS_TEXTS_MAX ||
      bytes > PL_SYMBOLS_TEXT_BYTES - t->text_bytes)
    return NONE;
  memcpy(t->bytes + t->text_bytes, text.at, bytes);
  t->texts[n] = (struct pl_symbols_text){t->text_bytes, bytes};
  t->text_bytes += bytes;
  index_put(w, hash, OF_TEXT | n);
  publish(&t->text_count, n + 1);
  return n;
}

static uint32_t function_add(struct pl_symbols_writer *w,
                             const struct pl_symbols_function *f) {
  struct pl_symbols *t = w->table;
  uint32_t hash = hash_of_function(f), n = load(&t->function_count);

  for (uint32_t at = hash, entry; (entry = w->index[at % INDEX_SLOTS]); at++) {
    uint32_t i = (entry - 1) & ~OF_MASK;
    if (((entry - 1) & OF_MASK) == OF_FUNCTION &&
        is_same(&t->functions[i], f)) {
      if (t->texts[t->functions[i].name].bytes == 0)
        t->functions[i].name = f->name;
      return i;
    }
  }
  if (n == PL_SYMBOLS_FUNCTIONS_MAX)
    return NONE;
  t->functions[n] = *f;
  index_put(w, hash, OF_FUNCTION | n);
  publish(&t->function_count, n + 1);
  return n;
}

static uint32_t line_add(struct pl_symbols_writer *w, uint32_t function,
                         uint32_t line) {
  struct pl_symbols *t = w->table;
  uint32_t hash = hash_of_words(function, line), n = load(&t->count);

  for (uint32_t at = hash, entry; (entry = w->index[at % INDEX_SLOTS]); at++) {
    uint32_t i = (entry - 1) & ~OF_MASK;
    if (((entry - 1) & OF_MASK) == OF_LINE &&
        t->lines[i].function == function && t->lines[i].line == line)
      return i;
  }
  if (n == PL_SYMBOLS_MAX)
    return NONE;
  t->lines[n] = (struct pl_symbols_line){function, line};
  index_put(w, hash, OF_LINE | n);
  publish(&t->count, n + 1);
  return n;
}

uint32_t pl__symbols_add(struct pl_symbols_writer *w,
                         const struct pl_symbol *symbol) {
  struct pl_symbols_function f = {.line = symbol->first_line,
                                  .kind = (uint32_t)symbol->kind};
  uint32_t id = NONE;

  f.chunk = text_add(w, symbol->chunk);
  f.name = f.chunk == NONE ? NONE : text_add(w, symbol->name);
  if (f.name != NONE)
    id = function_add(w, &f);
  if (id != NONE)
    id = line_add(w, id, symbol->line);
  if (id != NONE)
    return id;
  atomic_fetch_add_explicit(&w->table->refused, 1, memory_order_relaxed);
  return PL_SYMBOL_OTHER;
}

/* --- readers ------------------------------------------------------------ */

static bool text_find(const struct pl_symbols *t, uint32_t id,
                      struct pl_slice *out) {
  struct pl_symbols_text text;

  if (id >= PL_SYMBOLS_TEXTS_MAX)
    return false;
  text = t->texts[id];
  if (text.at > PL_SYMBOLS_TEXT_BYTES ||
      text.bytes > PL_SYMBOLS_TEXT_BYTES - text.at ||
      text.bytes > PL_SYMBOLS_TEXT_BYTES_MAX)
    return false;
  *out = pl__slice(t->bytes + text.at, text.bytes);
  return true;
}

bool pl__symbols_find(const struct pl_symbols *table, uint32_t id,
                      struct pl_symbol *out) {
  uint32_t count = atomic_load_explicit(&table->count, memory_order_acquire);
  struct pl_symbols_line line;
  struct pl_symbols_function f;

  *out = other;
  if (id >= count || id >= PL_SYMBOLS_MAX)
    return false;
  line = table->lines[id];
  if (line.function >= PL_SYMBOLS_FUNCTIONS_MAX)
    return false;
  f = table->functions[line.function];
  if (f.kind >= PL_SYMBOL_KINDS || !text_find(table, f.chunk, &out->chunk) ||
      !text_find(table, f.name, &out->name)) {
    *out = other;
    return false;
  }
  out->first_line = f.line;
  out->line = line.line;
  out->kind = (enum pl_symbol_kind)f.kind;
  return true;
}
