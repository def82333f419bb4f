/* fabric/symbols.h - which places of code the numbers in samples stand for.
 *
 * One table per worker, in the section "symbols.N".  A symbol is a line of a
 * function; a function has a name, a chunk (its file, as Lua names it) and the
 * line where it begins.  Things are only ever added, each after what it
 * points to, and published by a release store of their count:
 *
 *   symbols:   { function, line }
 *   functions: { chunk, name, first line, kind }
 *   texts:     { where, how many bytes } -> bytes
 *
 * The same thing is added once: also by the worker that takes the place of one
 * that died, and by a generation that was loaded anew.  A table that is full
 * gives symbol 0, PL_SYMBOL_OTHER, and counts that.  A function of Lua is known
 * by where it begins; it keeps the first name that it was called by.
 *
 * One writer, the worker's loop thread; any reader, also when the writer is
 * dead.  Readers check every number: a worker that has gone wild may have
 * written here.
 */
#ifndef PL_FABRIC_SYMBOLS_H
#define PL_FABRIC_SYMBOLS_H

#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_SYMBOLS_VERSION 1u
#define PL_SYMBOLS_MAX 32768u
#define PL_SYMBOLS_FUNCTIONS_MAX 8192u
#define PL_SYMBOLS_TEXTS_MAX 8192u
#define PL_SYMBOLS_TEXT_BYTES_MAX 1024u /* of one; cut past it */
#define PL_SYMBOLS_TEXT_BYTES 524288u   /* of all */

/* What no symbol could be made for. Always there. */
#define PL_SYMBOL_OTHER 0u

enum pl_symbol_kind {
  PL_SYMBOL_LUA,  /* a function of the app's, or of a library's */
  PL_SYMBOL_OWN,  /* of perilune's own Lua modules */
  PL_SYMBOL_C,    /* a function of C that Lua has called */
  PL_SYMBOL_CORE, /* the core itself, or a mark such as "(other)" */
  PL_SYMBOL_KINDS
};

struct pl_symbols_text {
  uint32_t at;
  uint32_t bytes;
};

struct pl_symbols_function {
  uint32_t chunk; /* texts */
  uint32_t name;
  uint32_t line;
  uint32_t kind; /* enum pl_symbol_kind */
};

struct pl_symbols_line {
  uint32_t function;
  uint32_t line;
};

/* Lies in the section, all zero at first. */
struct pl_symbols {
  _Alignas(64) _Atomic uint32_t count; /* of `lines`: the symbols */
  _Atomic uint32_t function_count;
  _Atomic uint32_t text_count;
  uint32_t text_bytes;      /* the writer's: of `bytes`, in use */
  _Atomic uint64_t refused; /* that became PL_SYMBOL_OTHER */
  _Alignas(64) struct pl_symbols_line lines[PL_SYMBOLS_MAX];
  struct pl_symbols_function functions[PL_SYMBOLS_FUNCTIONS_MAX];
  struct pl_symbols_text texts[PL_SYMBOLS_TEXTS_MAX];
  char bytes[PL_SYMBOLS_TEXT_BYTES];
};

/* What a symbol is. The texts lie in the fabric. */
struct pl_symbol {
  struct pl_slice chunk; /* "@/srv/app.lua", "=route GET /", "=[C]"; or empty */
  struct pl_slice name;  /* of the function; empty: it has none */
  uint32_t first_line;   /* of the function; 0: a whole file, or no Lua */
  uint32_t line;         /* 0: not known */
  enum pl_symbol_kind kind;
};

/* The file of its chunk, or the text that stands for one. */
static inline struct pl_slice pl__symbol_file(const struct pl_symbol *s) {
  if (s->chunk.bytes && (s->chunk.at[0] == '@' || s->chunk.at[0] == '='))
    return pl__slice(s->chunk.at + 1, s->chunk.bytes - 1);
  return s->chunk;
}

/* --- the writer -------------------------------------------------------- */

/* Process memory of the one that writes. */
struct pl_symbols_writer {
  struct pl_symbols *table;
  uint32_t *index; /* open addressing: kind of thing and number + 1 */
};

/* Goes on with what is there; a table that makes no sense is emptied.
 * 0 or PL_ENOMEM. */
int pl__symbols_writer_open(struct pl_symbols_writer *w,
                            struct pl_symbols *table);
void pl__symbols_writer_close(struct pl_symbols_writer *w);
/* Nothing is in it; what was refused stays counted.  Before a writer opens. */
void pl__symbols_clear(struct pl_symbols *table);
/* Whether more than half is in use of anything that there is a limit of. */
bool pl__symbols_is_half_full(const struct pl_symbols *table);

/* The number of that symbol, added if it is new; some 100 ns.  Texts are
 * copied, and cut at PL_SYMBOLS_TEXT_BYTES_MAX.  PL_SYMBOL_OTHER: full. */
uint32_t pl__symbols_add(struct pl_symbols_writer *w,
                         const struct pl_symbol *symbol);

/* --- readers ----------------------------------------------------------- */

/* What the symbol `id` is. False: there is none of that number; *out is
 * PL_SYMBOL_OTHER's. */
bool pl__symbols_find(const struct pl_symbols *table, uint32_t id,
                      struct pl_symbol *out);

#endif /* PL_FABRIC_SYMBOLS_H */
