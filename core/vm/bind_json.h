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
 * Returns 1.  Called again in the same state it gives the same array_mt. */
int pl__json_open(struct lua_State *L);

/* The encoder's functions, for lua/perilune/json.lua, which declares them to
 * the FFI.  Each writes `lead` (a byte; 0: none) and the value at out + pos,
 * where out + cap is the end of the room, and returns the new pos; or else how
 * many bytes of room a second try needs, negative; or, when the value has no
 * JSON form, PL_JSON_REFUSED.  What lies at and behind the pos returned may
 * have been written over. */
#define PL_JSON_REFUSED INT32_MIN

/* A string in quotes, escaped.  Refuses invalid UTF-8. */
PL_EXPORT int32_t pl_json_put_string(char *out, uint32_t pos, uint32_t cap,
                                     uint32_t lead, const char *at,
                                     uint32_t bytes);
/* The same with a colon behind it. */
PL_EXPORT int32_t pl_json_put_key(char *out, uint32_t pos, uint32_t cap,
                                  uint32_t lead, const char *at,
                                  uint32_t bytes);
/* The fewest digits that read back the same.  Refuses NaN and infinities. */
PL_EXPORT int32_t pl_json_put_number(char *out, uint32_t pos, uint32_t cap,
                                     uint32_t lead, double number);
PL_EXPORT int32_t pl_json_put_i64(char *out, uint32_t pos, uint32_t cap,
                                  uint32_t lead, int64_t number);
PL_EXPORT int32_t pl_json_put_u64(char *out, uint32_t pos, uint32_t cap,
                                  uint32_t lead, uint64_t number);

/* Sets *busy to 1; returns what it was.  One call, so that no other coroutine
 * of the worker can come between the question and the answer. */
PL_EXPORT uint32_t pl_json_take(uint32_t *busy);

#endif /* PL_VM_BIND_JSON_H */
