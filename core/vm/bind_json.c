/* vm/bind_json.c - see bind_json.h.
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
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strtod_l */
#endif

#include "vm/bind_json.h"

#include <errno.h>
#include <lauxlib.h>
#include <locale.h>
#include <lua.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/check.h"
#include "base/err.h"
#include "vm/decimal.h"

/* How many values a frame holds back (of an object: names and values).
 * Frames near the root may hold more; together they stay below the 8000 slots
 * that LuaJIT allows a C function: 8 * 257 + 120 * 33. */
#define HOLD_OUTER 256
#define HOLD_INNER 32
#define HOLD_OUTER_DEPTH 8
#define HOLD_SPARE 3

#define SCRATCH_BYTES 1024 /* longer strings with escapes need a userdata */

/* ---- bytes ---- */

static bool is_plain(unsigned char byte) {
  return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

#ifdef __SSE2__
/* A bit for each of 16 bytes that is not plain.  The comparison is signed,
 * so it finds bytes from 0x80 on as well as control characters. */
static unsigned special_bits(__m128i bytes) {
  __m128i control = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
  __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
  __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));

  return (unsigned)_mm_movemask_epi8(
      _mm_or_si128(control, _mm_or_si128(quote, slash)));
}
#endif

/* The first byte of [at, end) that a string cannot take over as it is. */
static const unsigned char *skip_plain(const unsigned char *at,
                                       const unsigned char *end) {
#ifdef __SSE2__
  for (; end - at >= 16; at += 16) {
    unsigned bits =
        special_bits(_mm_loadu_si128((const __m128i *)(const void *)at));
    if (bits)
      return at + __builtin_ctz(bits);
  }
#endif
  while (at < end && is_plain(*at))
    at++;
  return at;
}

/* Bytes of the UTF-8 sequence at `at`, whose first byte is 0x80 or more;
 * 0 when it is none (RFC 3629, section 4). */
static unsigned sequence_bytes(const unsigned char *at,
                               const unsigned char *end) {
  size_t room = (size_t)(end - at);
  unsigned char first = at[0];

  if (first < 0xE0)
    return first >= 0xC2 && room >= 2 && at[1] >> 6 == 2 ? 2 : 0;
  if (first < 0xF0) {
    unsigned char low = first == 0xE0 ? 0xA0 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : 0xBF; /* no surrogates */
    return room >= 3 && at[1] >= low && at[1] <= high && at[2] >> 6 == 2 ? 3
                                                                         : 0;
  }
  unsigned char low = first == 0xF0 ? 0x90 : 0x80;
  unsigned char high = first == 0xF4 ? 0x8F : 0xBF; /* up to U+10FFFF */
  return first <= 0xF4 && room >= 4 && at[1] >= low && at[1] <= high &&
                 at[2] >> 6 == 2 && at[3] >> 6 == 2
             ? 4
             : 0;
}

/* ---- decoding ---- */

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
    at = skip_plain(at, r->end);
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
        unsigned bytes = sequence_bytes(at, r->end);
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

static bool is_digit(const unsigned char *at, const unsigned char *end) {
  return at < end && *at >= '0' && *at <= '9';
}

/* The digits of a number, without sign. */
struct digits {
  uint64_t value;   /* the first 19 that count */
  uint32_t count;   /* how many, leading zeros aside */
  int64_t exponent; /* of ten, to multiply `value` with */
  bool more;        /* digits other than 0 follow behind the 19 */
};

/* Takes in the run of digits at `at`; returns its end. */
static const unsigned char *take_digits(struct digits *d,
                                        const unsigned char *at,
                                        const unsigned char *end,
                                        bool fraction) {
  const unsigned char *begin = at;
  uint64_t value = d->value;
  uint32_t count = d->count;

  for (; is_digit(at, end) && count < PL_DECIMAL_DIGITS_MAX; at++) {
    value = value * 10 + (uint64_t)(*at - '0');
    count += value != 0;
  }
  d->value = value;
  d->count = count;
  if (fraction)
    d->exponent -= at - begin;
  for (; is_digit(at, end); at++) {
    d->more |= *at != '0';
    d->exponent += !fraction;
  }
  return at;
}

/* The C library's word on [begin, end), which is a number as JSON has it. */
static bool find_slowly(const unsigned char *begin, const unsigned char *end,
                        double *out) {
  char text[PL_JSON_NUMBER_BYTES_MAX + 1];
  size_t bytes = (size_t)(end - begin);
  /* Not the locale in force: that one may have a decimal comma.  glibc gives
   * out "C" without allocating. */
  static locale_t c_locale;

  if (!c_locale)
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (!c_locale)
    return false;
  memcpy(text, begin, bytes);
  text[bytes] = '\0';
  *out = fabs(strtod_l(text, NULL, c_locale));
  return isfinite(*out);
}

/* Reads the number at r->at (RFC 8259, section 6). */
static bool push_number(struct reader *r) {
  const unsigned char *begin = r->at, *end = r->end, *at = begin;
  struct digits d = {0};
  bool minus = *at == '-', whole = true;
  double number;

  at += minus;
  if (!is_digit(at, end))
    return fail(r, at, "digit expected");
  if (*at == '0' && is_digit(at + 1, end))
    return fail(r, at, "leading zero");
  at = take_digits(&d, at, end, false);
  if (at < end && *at == '.') {
    whole = false;
    if (!is_digit(++at, end))
      return fail(r, at, "digit expected");
    at = take_digits(&d, at, end, true);
  }
  if (at < end && (*at | 0x20) == 'e') {
    whole = false;
    at++;
    bool below = at < end && *at == '-';
    int64_t exponent = 0;
    at += at < end && (*at == '-' || *at == '+');
    if (!is_digit(at, end))
      return fail(r, at, "digit expected");
    for (; is_digit(at, end); at++)
      if (exponent < PL_JSON_TEXT_BYTES_MAX)
        exponent = exponent * 10 + (*at - '0');
    d.exponent += below ? -exponent : exponent;
  }
  if (whole && d.count < 16) {
    number = (double)(int64_t)d.value;
  } else {
    if (at - begin > PL_JSON_NUMBER_BYTES_MAX)
      return fail(r, begin, "number too long");
    int exponent = d.exponent > 1000    ? 1000
                   : d.exponent < -1000 ? -1000
                                        : (int)d.exponent;
    if (!pl__decimal_find(d.value, exponent, d.more, &number) &&
        !find_slowly(begin, at, &number))
      return fail(r, begin, "number too large");
  }
  lua_pushnumber(r->L, minus ? -number : number);
  r->at = at;
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

static const char array_mt_key; /* its address is the registry's key */

void pl__json_push_array_mt(lua_State *L) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)&array_mt_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
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

/* decode(text) -> value; or nil, error text */
static int json_decode(lua_State *L) {
  char err[PL_JSON_ERROR_BYTES];
  size_t bytes;

  luaL_checktype(L, 1, LUA_TSTRING);
  const char *text = lua_tolstring(L, 1, &bytes);
  if (pl__json_push(L, text, bytes, err, sizeof err) == 0)
    return 1;
  lua_pushnil(L);
  lua_pushstring(L, err);
  return 2;
}

/* ---- encoding ---- */

static const char hex_digits[] = "0123456789abcdef";

/* The letter of a two-character escape; 0: \u is needed. */
static char escape_letter(unsigned char c) {
  switch (c) {
  case '"':
  case '\\':
    return (char)c;
  case '\b':
    return 'b';
  case '\f':
    return 'f';
  case '\n':
    return 'n';
  case '\r':
    return 'r';
  case '\t':
    return 't';
  default:
    return 0;
  }
}

static char *put_escape(char *out, unsigned char c) {
  char letter = escape_letter(c);

  *out++ = '\\';
  if (letter) {
    *out++ = letter;
    return out;
  }
  memcpy(out, "u00", 3);
  out[3] = hex_digits[c >> 4];
  out[4] = hex_digits[c & 15];
  return out + 5;
}

/* Copies plain bytes to *out, 16 at a time, and returns where the first other
 * one lies.  There is room for 16 bytes more than are copied. */
static const unsigned char *copy_plain(const unsigned char *at,
                                       const unsigned char *end, char **out) {
#ifdef __SSE2__
  while (end - at >= 16) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    unsigned bits = special_bits(bytes);
    _mm_storeu_si128((__m128i *)(void *)*out, bytes);
    if (bits) {
      *out += __builtin_ctz(bits);
      return at + __builtin_ctz(bits);
    }
    *out += 16;
    at += 16;
  }
#endif
  while (at < end && is_plain(*at))
    *(*out)++ = (char)*at++;
  return at;
}

/* Escapes [at, end) to `out`; NULL when it is not UTF-8. */
static char *put_escaped(char *out, const unsigned char *at,
                         const unsigned char *end) {
  while ((at = copy_plain(at, end, &out)) < end) {
    if (*at < 0x80) {
      out = put_escape(out, *at++);
      continue;
    }
    unsigned bytes = sequence_bytes(at, end);
    if (bytes == 0)
      return NULL;
    memcpy(out, at, bytes);
    out += bytes;
    at += bytes;
  }
  return out;
}

/* Bytes that [at, end) has when it is escaped. */
static uint64_t count_escaped(const unsigned char *at,
                              const unsigned char *end) {
  uint64_t count = (uint64_t)(end - at);

  while ((at = skip_plain(at, end)) < end) {
    if (*at < 0x80)
      count += escape_letter(*at) ? 1 : 5;
    at++;
  }
  return count;
}

/* Quotes, lead, colon, and the 16 bytes that copy_plain may run over. */
#define STRING_SPARE 20
#define NUMBER_SPARE (1 + PL_DECIMAL_BYTES_MAX)
#define WORD_SPARE 9    /* lead, and the 8 bytes that are stored at once */
#define BRACKET_SPARE 2 /* of an empty container both are written at its end */

static bool has_room(const struct pl_json_out *out, uint64_t bytes) {
  return out->cap - out->pos >= bytes;
}

/* Writes what is due in front of a value; returns where it goes. */
static char *put_lead(struct pl_json_out *out) {
  char *to = out->at + out->pos;

  if (out->lead)
    *to++ = (char)out->lead;
  return to;
}

/* Counts what lies up to `end` as written. */
static int32_t finish(struct pl_json_out *out, const char *end, uint32_t lead) {
  out->pos = (uint32_t)(end - out->at);
  out->lead = lead;
  return 0;
}

static int32_t put_quoted(struct pl_json_out *out, const char *text,
                          uint32_t bytes, bool key) {
  const unsigned char *at = (const unsigned char *)text;

  if (bytes > PL_JSON_TEXT_BYTES_MAX)
    return PL_JSON_REFUSED;
  /* Six bytes for each is the worst case.  Only when that has no room it is
   * worth a pass over the text to know better. */
  uint64_t need = (uint64_t)bytes * 6 + STRING_SPARE;
  if (!has_room(out, need)) {
    need = count_escaped(at, at + bytes) + STRING_SPARE;
    if (!has_room(out, need))
      return (int32_t)need;
  }
  char *to = put_lead(out);
  *to++ = '"';
  to = put_escaped(to, at, at + bytes);
  if (!to)
    return PL_JSON_REFUSED;
  *to++ = '"';
  if (!key)
    return finish(out, to, ',');
  *to++ = ':';
  return finish(out, to, 0);
}

int32_t pl_json_put_string(struct pl_json_out *out, const char *at,
                           uint32_t bytes) {
  return put_quoted(out, at, bytes, false);
}

int32_t pl_json_put_key(struct pl_json_out *out, const char *at,
                        uint32_t bytes) {
  return put_quoted(out, at, bytes, true);
}

int32_t pl_json_put_number(struct pl_json_out *out, double number) {
  if (!isfinite(number))
    return PL_JSON_REFUSED;
  if (!has_room(out, NUMBER_SPARE))
    return NUMBER_SPARE;
  char *to = put_lead(out);
  return finish(out, to + pl__decimal_encode(number, to), ',');
}

int32_t pl_json_put_i64(struct pl_json_out *out, int64_t number) {
  if (!has_room(out, NUMBER_SPARE))
    return NUMBER_SPARE;
  char *to = put_lead(out);
  return finish(out, to + pl__decimal_encode_i64(number, to), ',');
}

int32_t pl_json_put_u64(struct pl_json_out *out, uint64_t number) {
  if (!has_room(out, NUMBER_SPARE))
    return NUMBER_SPARE;
  char *to = put_lead(out);
  return finish(out, to + pl__decimal_encode_u64(number, to), ',');
}

int32_t pl_json_put_word(struct pl_json_out *out, uint32_t word) {
  static const char words[][8] = {"null", "false", "true"};

  if (PL_NEVER(word > PL_JSON_WORD_TRUE))
    return PL_JSON_REFUSED;
  if (!has_room(out, WORD_SPARE))
    return WORD_SPARE;
  char *to = put_lead(out);
  memcpy(to, words[word], sizeof words[word]); /* one store */
  return finish(out, to + (word == PL_JSON_WORD_FALSE ? 5 : 4), ',');
}

int32_t pl_json_open(struct pl_json_out *out, int32_t count) {
  if (out->depth >= PL_JSON_DEPTH_MAX)
    return PL_JSON_REFUSED;
  if (!has_room(out, BRACKET_SPARE))
    return BRACKET_SPARE;
  out->depth++;
  out->count[out->depth] = count;
  out->index[out->depth] = 0;
  /* The bracket is the lead of the first value: so no comma must go. */
  return finish(out, put_lead(out), count == PL_JSON_OBJECT ? '{' : '[');
}

int32_t pl_json_close(struct pl_json_out *out) {
  if (PL_NEVER(out->depth == 0 || out->depth > PL_JSON_DEPTH_MAX))
    return PL_JSON_REFUSED;
  if (!has_room(out, BRACKET_SPARE))
    return BRACKET_SPARE;
  if (out->lead == ',')
    out->lead = 0;
  char *to = put_lead(out);
  *to++ = out->count[out->depth] == PL_JSON_OBJECT ? '}' : ']';
  out->depth--;
  return finish(out, to, ',');
}

uint32_t pl_json_take(struct pl_json_out *out) {
  uint32_t was = out->busy;

  out->busy = 1;
  return was;
}

/* ---- the module ---- */

static const luaL_Reg functions[] = {
    {"decode", json_decode},
    {NULL, NULL},
};

int pl__json_open(lua_State *L) {
  pl__decimal_init();
  pl__json_push_array_mt(L);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&array_mt_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  lua_createtable(L, 0, 4);
  for (const luaL_Reg *f = functions; f->name; f++) {
    lua_pushcfunction(L, f->func);
    lua_setfield(L, -2, f->name);
  }
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "array_mt");
  lua_pushinteger(L, (lua_Integer)sizeof(struct pl_json_out));
  lua_setfield(L, -2, "out_bytes");
  lua_remove(L, -2);
  return 1;
}
