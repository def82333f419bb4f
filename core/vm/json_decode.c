/* vm/json_decode.c - makes Lua values of JSON: pl__json_push of bind_json.h.
 *
 * The decoder is one loop over values.  Open containers are frames.  What
 * belongs to a frame lies on the Lua stack: first one slot for its table, then
 * the values (and keys) that have been read but not stored.  They are stored
 * when the container ends, so that most tables are made with exactly the size
 * they need, or when there are so many that the stack would grow too far.
 *
 * Invariants:
 *  (1) a frame's slots are the topmost ones while it is the innermost;
 *  (2) there is always room for two values more than a frame may hold;
 *  (3) nothing but the Lua stack owns memory, so that any Lua call may raise.
 */
#include "vm/bind_json.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "vm/json_bytes.h"
#include "vm/json_number.h"

/* How many values a frame holds back (of an object: names and values).
 * Frames near the root may hold more; together they stay below the 8000 slots
 * that LuaJIT allows a C function: 8 * 257 + 120 * 33. */
#define HOLD_OUTER 256
#define HOLD_INNER 32
#define HOLD_OUTER_DEPTH 8
#define HOLD_SPARE 3

#define SCRATCH_BYTES 1024 /* longer strings with escapes need a userdata */

struct frame {
  int slot;      /* stack index of its table, nil while there is none */
  uint32_t held; /* values above it, not stored yet */
  uint32_t hold_max;
  uint32_t stored; /* of an array: elements in the table */
  bool object;
};

struct reader {
  lua_State *L;
  const unsigned char *begin, *at, *end;
  const char *fault; /* why reading stopped at `at`; NULL: it has not */
  int array_mt;      /* stack index */
  uint32_t depth;
  struct frame frames[PL_JSON_DEPTH_MAX];
};

static bool fail(struct reader *r, const unsigned char *at, const char *fault) {
  r->at = at;
  r->fault = fault;
  return false;
}

/* The next byte that is not white space; -1 at the end. */
static int next_byte(struct reader *r) {
  const unsigned char *at = r->at, *end = r->end;

  while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
    at++;
  r->at = at;
  return at < end ? *at : -1;
}

static int hex_value(unsigned char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code unit of the four digits at `at`, or -1. */
static int32_t read_unit(const unsigned char *at, const unsigned char *end) {
  int32_t unit = 0;

  if (end - at < 4)
    return -1;
  for (int i = 0; i < 4; i++) {
    int value = hex_value(at[i]);
    if (value < 0)
      return -1;
    unit = unit << 4 | value;
  }
  return unit;
}

/* Reads \uXXXX, or two of them if they are a surrogate pair, at *at, and moves
 * it behind.  Returns the code point, or -1 with *fault set. */
static int32_t read_code(const unsigned char **at, const unsigned char *end,
                         const char **fault) {
  int32_t code = read_unit(*at + 2, end), low;

  if (code < 0) {
    *fault = "\\u without four hex digits";
    return -1;
  }
  *at += 6;
  if (code < 0xD800 || code > 0xDFFF)
    return code;
  low = end - *at >= 2 && (*at)[0] == '\\' && (*at)[1] == 'u'
            ? read_unit(*at + 2, end)
            : -1;
  if (code > 0xDBFF || low < 0xDC00 || low > 0xDFFF) {
    *at -= 6;
    *fault = "lone surrogate";
    return -1;
  }
  *at += 6;
  return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
}

static char *put_code(char *out, int32_t code) {
  uint32_t c = (uint32_t)code;

  if (c < 0x80) {
    *out++ = (char)c;
    return out;
  }
  if (c < 0x800) {
    *out++ = (char)(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      *out++ = (char)(0xE0 | c >> 12);
    } else {
      *out++ = (char)(0xF0 | c >> 18);
      *out++ = (char)(0x80 | (c >> 12 & 0x3F));
    }
    *out++ = (char)(0x80 | (c >> 6 & 0x3F));
  }
  *out++ = (char)(0x80 | (c & 0x3F));
  return out;
}

/* What \c stands for; 0 when nothing. */
static char escaped_char(unsigned char c) {
  switch (c) {
  case '"':
  case '\\':
  case '/':
    return (char)c;
  case 'b':
    return '\b';
  case 'f':
    return '\f';
  case 'n':
    return '\n';
  case 'r':
    return '\r';
  case 't':
    return '\t';
  default:
    return 0;
  }
}

/* Finds the closing quote from r->at on and checks what lies before it, all
 * but the escapes; true with *close set. */
static bool scan_string(struct reader *r, const unsigned char **close,
                        bool *escapes) {
  const unsigned char *at = r->at;

  *escapes = false;
  for (;;) {
    at = pl__json_skip_plain(at, r->end);
    if (at == r->end)
      return fail(r, at, "unfinished string");
    if (*at == '"') {
      *close = at;
      return true;
    }
    if (*at == '\\') {
      *escapes = true;
      /* What must not end or escape for itself; the rest is looked at. */
      bool pair = at + 1 < r->end && (at[1] == '"' || at[1] == '\\');
      at += pair ? 2 : 1;
    } else if (*at < 0x20) {
      return fail(r, at, "control character in a string");
    } else {
      do {
        unsigned bytes = pl__json_sequence_bytes(at, r->end);
        if (bytes == 0)
          return fail(r, at, "invalid UTF-8");
        at += bytes;
      } while (at < r->end && *at >= 0x80);
    }
  }
}

/* Copies [r->at, close) to `out`, which has room for as many bytes, without
 * escapes; they never make a string longer.  Returns the end, or NULL. */
static char *unescape(struct reader *r, const unsigned char *close, char *out) {
  const unsigned char *at = r->at;

  for (;;) {
    const unsigned char *slash = memchr(at, '\\', (size_t)(close - at));
    size_t run = (size_t)((slash ? slash : close) - at);
    memcpy(out, at, run);
    out += run;
    if (!slash)
      return out;
    at = slash;
    if (at[1] == 'u') {
      int32_t code = read_code(&at, close, &r->fault);
      if (code < 0) {
        r->at = at;
        return NULL;
      }
      out = put_code(out, code);
    } else {
      char c = escaped_char(at[1]);
      if (!c) {
        fail(r, at, "unknown escape");
        return NULL;
      }
      *out++ = c;
      at += 2;
    }
  }
}

static bool push_unescaped(struct reader *r, const unsigned char *close) {
  char scratch[SCRATCH_BYTES];
  size_t bytes = (size_t)(close - r->at);
  bool large = bytes > sizeof scratch;
  char *out = large ? lua_newuserdata(r->L, bytes) : scratch;
  char *end = unescape(r, close, out);

  if (!end)
    return false;
  lua_pushlstring(r->L, out, (size_t)(end - out));
  if (large)
    lua_remove(r->L, -2);
  return true;
}

/* Reads the string whose opening quote is at r->at. */
static bool push_string(struct reader *r) {
  const unsigned char *close;
  bool escapes;

  r->at++;
  if (!scan_string(r, &close, &escapes))
    return false;
  if (!escapes)
    lua_pushlstring(r->L, (const char *)r->at, (size_t)(close - r->at));
  else if (!push_unescaped(r, close))
    return false;
  r->at = close + 1;
  return true;
}

/* Reads the number at r->at. */
static bool push_number(struct reader *r) {
  double number;

  r->fault = pl__json_number_read(&r->at, r->end, &number);
  if (r->fault)
    return false;
  lua_pushnumber(r->L, number);
  return true;
}

static bool match_word(struct reader *r, const char *word, size_t bytes) {
  if ((size_t)(r->end - r->at) < bytes || memcmp(r->at, word, bytes) != 0)
    return fail(r, r->at, "value expected");
  r->at += bytes;
  return true;
}

/* Reads a value that is no container; `byte` is its first. */
static bool push_scalar(struct reader *r, int byte) {
  switch (byte) {
  case '"':
    return push_string(r);
  case 't':
    lua_pushboolean(r->L, 1);
    return match_word(r, "true", 4);
  case 'f':
    lua_pushboolean(r->L, 0);
    return match_word(r, "false", 5);
  case 'n':
    lua_pushlightuserdata(r->L, NULL);
    return match_word(r, "null", 4);
  default:
    if (byte == '-' || (byte >= '0' && byte <= '9'))
      return push_number(r);
    return fail(r, r->at, byte < 0 ? "unexpected end" : "value expected");
  }
}

static bool open_frame(struct reader *r, bool object) {
  if (r->depth == PL_JSON_DEPTH_MAX)
    return fail(r, r->at, "nested too deeply");

  struct frame *f = &r->frames[r->depth++];
  uint32_t hold = r->depth <= HOLD_OUTER_DEPTH ? HOLD_OUTER : HOLD_INNER;
  luaL_checkstack(r->L, (int)hold + HOLD_SPARE, "JSON");
  lua_pushnil(r->L);
  *f = (struct frame){
      .slot = lua_gettop(r->L), .hold_max = hold, .object = object};
  r->at++;
  return true;
}

/* Stores what the innermost frame holds.  In the order of the text, because
 * arrays grow in their array part only so, and because of two equal names the
 * last shall stay: hence the copies. */
static void store_held(struct reader *r, struct frame *f) {
  lua_State *L = r->L;
  int held = (int)f->held, slot = f->slot;

  if (lua_isnil(L, slot)) {
    lua_createtable(L, f->object ? 0 : held, f->object ? held / 2 : 0);
    if (!f->object) {
      lua_pushvalue(L, r->array_mt);
      lua_setmetatable(L, -2);
    }
    lua_replace(L, slot);
    if (!f->object) { /* it has its size: any order will do */
      for (int i = held; i > 0; i--)
        lua_rawseti(L, slot, i);
      f->stored = f->held;
      f->held = 0;
      return;
    }
  }
  if (f->object) {
    for (int i = 1; i <= held; i += 2) {
      lua_pushvalue(L, slot + i);
      lua_pushvalue(L, slot + i + 1);
      lua_rawset(L, slot);
    }
  } else {
    for (int i = 1; i <= held; i++) {
      lua_pushvalue(L, slot + i);
      lua_rawseti(L, slot, (int)f->stored + i);
    }
    f->stored += f->held;
  }
  lua_settop(L, slot);
  f->held = 0;
}

/* Reads a member's name and colon. */
static bool push_name(struct reader *r) {
  int byte = next_byte(r);

  if (byte != '"')
    return fail(r, r->at, byte < 0 ? "unexpected end" : "name expected");
  if (!push_string(r))
    return false;
  byte = next_byte(r);
  if (byte != ':')
    return fail(r, r->at, byte < 0 ? "unexpected end" : "':' expected");
  r->at++;
  return true;
}

/* Reads one value with all that is in it.  Each turn of the loop takes one
 * value or opens one container, then closes those that end behind it. */
static bool push_value(struct reader *r) {
  for (;;) {
    int byte = next_byte(r);
    bool opened = byte == '{' || byte == '[';

    if (opened ? !open_frame(r, byte == '{') : !push_scalar(r, byte))
      return false;

    for (;;) { /* what follows a value, or the start of a container */
      if (r->depth == 0)
        return true;
      struct frame *f = &r->frames[r->depth - 1];
      int close = f->object ? '}' : ']';
      byte = next_byte(r);
      if (!opened)
        f->held += f->object ? 2 : 1;
      if (byte == close) {
        store_held(r, f);
        r->at++;
        r->depth--;
        opened = false;
        continue;
      }
      if (!opened) {
        if (byte != ',')
          return fail(r, r->at,
                      byte < 0    ? "unexpected end"
                      : f->object ? "',' or '}' expected"
                                  : "',' or ']' expected");
        r->at++;
        if (f->held >= f->hold_max)
          store_held(r, f);
      }
      if (f->object && !push_name(r))
        return false;
      break;
    }
  }
}

int pl__json_push(lua_State *L, const char *at, size_t bytes, char *err,
                  size_t err_bytes) {
  struct reader r;
  const unsigned char *begin = (const unsigned char *)at;

  luaL_checkstack(L, HOLD_SPARE + 1, "JSON");
  r.L = L;
  r.begin = r.at = begin;
  r.end = begin + bytes;
  r.fault = NULL;
  r.depth = 0;
  pl__json_push_array_mt(L);
  r.array_mt = lua_gettop(L);

  if (bytes > PL_JSON_TEXT_BYTES_MAX)
    fail(&r, begin + PL_JSON_TEXT_BYTES_MAX, "document too long");
  else if (push_value(&r) && next_byte(&r) >= 0)
    fail(&r, r.at, "nothing more expected");
  if (r.fault) {
    lua_settop(L, r.array_mt - 1);
    snprintf(err, err_bytes, "byte %zu: %s", (size_t)(r.at - begin) + 1,
             r.fault);
    return PL_EBAD;
  }
  lua_remove(L, r.array_mt);
  return 0;
}
