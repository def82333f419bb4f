/* vm/bind_json.h - JSON (RFC 8259) for Lua: the decoder, and the parts of the
 * encoder that look at every byte.
 *
 * The decoder makes Lua values in one pass, with a stack of its own and no
 * recursion.  The encoder walks tables in Lua, where it compiles
 * (lua/perilune/json.lua), and calls the pl_json_* functions below by FFI for
 * what lies in them.
 *
 *   JSON     Lua
 *   null     light userdata NULL: P.json.null
 *   array    table with the array metatable, 1 to n without holes
 *   object   table; of equal names the last one counts, as in ECMAScript
 *   number   the nearest double: integers up to 2^53 are exact
 *   string   its bytes in UTF-8; may hold NUL (from \u0000)
 *
 * Knows nothing of requests, limits.body or media types.
 */
#ifndef PL_VM_BIND_JSON_H
#define PL_VM_BIND_JSON_H

#include "base/export.h"

#include <stddef.h>
#include <stdint.h>

struct lua_State;

#define PL_JSON_DEPTH_MAX 128 /* open arrays and objects */
#define PL_JSON_TEXT_BYTES_MAX                                                 \
  67108864 /* a document: decoding cannot be
                                           interrupted, and 64 MiB take some
                                           tenths of a second */
#define PL_JSON_NUMBER_BYTES_MAX                                               \
  1200                         /* one number; the exact digits of every
                                         double fit */
#define PL_JSON_ERROR_BYTES 96 /* the longest error text fits */

/* Decodes the `bytes` bytes at `at` (any content, no NUL needed behind them;
 * they must not move) and pushes the value.
 *
 *   err  room for err_bytes (PL_JSON_ERROR_BYTES are enough); untouched on
 *        success
 *
 * Returns 0 with one value more on the stack, or PL_EBAD with none and a
 * NUL-terminated text like "byte 7: control character in a string" in `err`;
 * bytes count from 1, as string.sub does.  Refused are also: more than
 * PL_JSON_TEXT_BYTES_MAX bytes, deeper nesting than PL_JSON_DEPTH_MAX, numbers
 * longer than PL_JSON_NUMBER_BYTES_MAX or too large for a double, invalid
 * UTF-8, lone surrogates, a byte order mark, trailing bytes.
 *
 * Out of memory, and a Lua stack that cannot grow, raise; nothing is lost
 * then.  Runs no Lua code.  Needs pl__json_open in this state before. */
int pl__json_push(struct lua_State *L, const char *at, size_t bytes, char *err,
                  size_t err_bytes);

/* Pushes the module "perilune.core.json", a table:
 *   decode(text)  value, or nil and the error text; raises when `text` is
 *                 not a string
 *   null          what JSON's null becomes
 *   array_mt      the metatable of arrays, empty
 *   out_bytes     sizeof(struct pl_json_out), for Lua to compare with its own
 * Returns 1.  Called again in the same state it gives the same array_mt. */
int pl__json_open(struct lua_State *L);

/* Pushes the metatable of arrays.  Needs pl__json_open in this state before. */
void pl__json_push_array_mt(struct lua_State *L);

/* What is being encoded: where to write, and which containers are open.  Lua
 * owns it (lua/perilune/json.lua repeats the struct) and keeps `at` alive. */
struct pl_json_out {
  char *at;
  uint32_t pos;   /* bytes written */
  uint32_t cap;   /* room at `at` */
  uint32_t busy;  /* 1: a coroutine encodes with it */
  uint32_t lead;  /* byte in front of the next value; 0: none */
  uint32_t depth; /* containers that are open */
  int32_t count[PL_JSON_DEPTH_MAX + 1]; /* elements of the array at each depth,
                                           PL_JSON_OBJECT: it is none */
  int32_t index[PL_JSON_DEPTH_MAX + 1]; /* elements taken from it */
};

#define PL_JSON_OBJECT (-1)
#define PL_JSON_REFUSED (-1) /* the value has no JSON form */

/* The encoder's functions.  Each writes one thing whole, with the comma, or
 * the opening bracket, that is due in front of it, and returns 0; or, with
 * nothing changed, PL_JSON_REFUSED, or how many bytes of room it needs at
 * `pos`.  What lies behind `pos` may have been written over. */

/* A string in quotes, escaped.  Refuses invalid UTF-8. */
PL_EXPORT int32_t pl_json_put_string(struct pl_json_out *out, const char *at,
                                     uint32_t bytes);
/* The same with a colon behind it; no comma is due after that. */
PL_EXPORT int32_t pl_json_put_key(struct pl_json_out *out, const char *at,
                                  uint32_t bytes);
/* The fewest digits that read back the same.  Refuses NaN and infinities. */
PL_EXPORT int32_t pl_json_put_number(struct pl_json_out *out, double number);
/* All the digits. */
PL_EXPORT int32_t pl_json_put_i64(struct pl_json_out *out, int64_t number);
PL_EXPORT int32_t pl_json_put_u64(struct pl_json_out *out, uint64_t number);
/* One of PL_JSON_WORD_*. */
enum { PL_JSON_WORD_NULL, PL_JSON_WORD_FALSE, PL_JSON_WORD_TRUE };
PL_EXPORT int32_t pl_json_put_word(struct pl_json_out *out, uint32_t word);
/* Opens a container: `count` is what goes to out->count.  Refuses more than
 * PL_JSON_DEPTH_MAX. */
PL_EXPORT int32_t pl_json_open(struct pl_json_out *out, int32_t count);
/* Closes the innermost one; there is one (asserted). */
PL_EXPORT int32_t pl_json_close(struct pl_json_out *out);

/* Sets out->busy and returns what it was.  One call, so that no other
 * coroutine of the worker can come between the question and the answer. */
PL_EXPORT uint32_t pl_json_take(struct pl_json_out *out);

#endif /* PL_VM_BIND_JSON_H */
