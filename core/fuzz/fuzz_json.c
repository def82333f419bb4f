/* fuzz/fuzz_json.c - the JSON decoder, and the encoder's functions.
 *
 * The decoder is held against the grammar of RFC 8259, which is written down a
 * second time here, as a recogniser; the encoder's functions against the
 * decoder: each string and number that was read must read back the same.
 */
#include "vm/bind_json.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX 65536u
#define COLLECT_EVERY 256u

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

struct text {
  const uint8_t *at, *end;
};

static int peek(const struct text *t) { return t->at < t->end ? *t->at : -1; }

static bool take(struct text *t, int byte) {
  if (peek(t) != byte)
    return false;
  t->at++;
  return true;
}

static void skip_space(struct text *t) {
  while (take(t, ' ') || take(t, '\t') || take(t, '\n') || take(t, '\r'))
    ;
}

static bool is_word(struct text *t, const char *word) {
  while (*word)
    if (!take(t, *word++))
      return false;
  return true;
}

static bool is_digits(struct text *t) {
  const uint8_t *begin = t->at;

  while (peek(t) >= '0' && peek(t) <= '9')
    t->at++;
  return t->at > begin;
}

static bool is_number(struct text *t) {
  (void)take(t, '-');
  if (!take(t, '0') && !is_digits(t))
    return false;
  if (take(t, '.') && !is_digits(t))
    return false;
  if (take(t, 'e') || take(t, 'E')) {
    if (!take(t, '+'))
      (void)take(t, '-');
    return is_digits(t);
  }
  return true;
}

static int32_t hex_unit(struct text *t) {
  int32_t unit = 0;

  for (int i = 0; i < 4; i++) {
    int c = peek(t);
    if (c >= '0' && c <= '9')
      unit = unit * 16 + c - '0';
    else if (c >= 'a' && c <= 'f')
      unit = unit * 16 + c - 'a' + 10;
    else if (c >= 'A' && c <= 'F')
      unit = unit * 16 + c - 'A' + 10;
    else
      return -1;
    t->at++;
  }
  return unit;
}

static bool is_escape(struct text *t) {
  int c = peek(t);

  if (c < 0)
    return false;
  t->at++;
  if (c != 'u')
    return c && strchr("\"\\/bfnrt", c) != NULL;
  int32_t unit = hex_unit(t);
  if (unit < 0xD800 || unit > 0xDFFF)
    return unit >= 0;
  if (unit > 0xDBFF || !take(t, '\\') || !take(t, 'u'))
    return false;
  unit = hex_unit(t);
  return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* By code point, where the decoder goes by ranges of bytes. */
static bool is_sequence(struct text *t) {
  uint32_t first = *t->at++, code, least;
  int more;

  if (first >= 0xF0) {
    more = 3, code = first & 0x0F, least = 0x10000;
    if (first > 0xF7)
      return false;
  } else if (first >= 0xE0) {
    more = 2, code = first & 0x0F, least = 0x800;
  } else {
    more = 1, code = first & 0x1F, least = 0x80;
    if (first < 0xC0)
      return false;
  }
  for (; more > 0; more--) {
    int c = peek(t);
    if (c < 0x80 || c > 0xBF)
      return false;
    code = code << 6 | ((uint32_t)c & 0x3F);
    t->at++;
  }
  return code >= least && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
}

static bool is_string(struct text *t) {
  if (!take(t, '"'))
    return false;
  for (;;) {
    int c = peek(t);
    if (c < 0x20) /* the end, too */
      return false;
    if (c >= 0x80) {
      if (!is_sequence(t))
        return false;
      continue;
    }
    t->at++;
    if (c == '"')
      return true;
    if (c == '\\' && !is_escape(t))
      return false;
  }
}

static bool is_value(struct text *t, int depth);

static bool is_list(struct text *t, int depth, int close, bool names) {
  t->at++;
  skip_space(t);
  if (take(t, close))
    return true;
  do {
    skip_space(t);
    if (names) {
      if (!is_string(t))
        return false;
      skip_space(t);
      if (!take(t, ':'))
        return false;
    }
    if (!is_value(t, depth))
      return false;
    skip_space(t);
  } while (take(t, ','));
  return take(t, close);
}

/* depth: how many containers may still be opened */
static bool is_value(struct text *t, int depth) {
  skip_space(t);
  switch (peek(t)) {
  case '{':
    return depth > 0 && is_list(t, depth - 1, '}', true);
  case '[':
    return depth > 0 && is_list(t, depth - 1, ']', false);
  case '"':
    return is_string(t);
  case 't':
    return is_word(t, "true");
  case 'f':
    return is_word(t, "false");
  case 'n':
    return is_word(t, "null");
  default:
    return is_number(t);
  }
}

/* Encodes the string or number on top, and decodes it again. */
static void check_leaf(lua_State *L) {
  static char bytes[INPUT_BYTES_MAX * 6 + 64];
  char err[PL_JSON_ERROR_BYTES];
  struct pl_json_out out = {.at = bytes, .cap = sizeof bytes};

  if (lua_type(L, -1) == LUA_TSTRING) {
    size_t count;
    const char *at = lua_tolstring(L, -1, &count);
    out.cap = 0;
    int32_t need = pl_json_put_string(&out, at, (uint32_t)count);
    CHECK(need > 0 && need <= (int32_t)sizeof bytes && out.pos == 0);
    out.cap = (uint32_t)need;
    CHECK(pl_json_put_string(&out, at, (uint32_t)count) == 0);
  } else {
    CHECK(pl_json_put_number(&out, lua_tonumber(L, -1)) == 0);
  }
  CHECK(out.pos > 0 && out.pos <= out.cap);
  CHECK(pl__json_push(L, bytes, out.pos, err, sizeof err) == 0);
  CHECK(lua_rawequal(L, -1, -2));
  lua_pop(L, 1);
}

static void check_value(lua_State *L) {
  int type = lua_type(L, -1);

  if (type == LUA_TSTRING || type == LUA_TNUMBER) {
    check_leaf(L);
  } else if (type == LUA_TTABLE) {
    luaL_checkstack(L, 8, "fuzz");
    lua_pushnil(L);
    while (lua_next(L, -2)) {
      check_value(L);
      lua_pop(L, 1);
      if (lua_type(L, -1) == LUA_TSTRING)
        check_leaf(L);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  static lua_State *L;
  static unsigned runs;
  struct text t = {at, at + bytes};
  char err[PL_JSON_ERROR_BYTES] = "untouched";

  if (bytes > INPUT_BYTES_MAX)
    return 0;
  if (!L) {
    L = luaL_newstate();
    CHECK(L);
    pl__json_open(L);
    lua_settop(L, 0);
  }
  bool valid = is_value(&t, PL_JSON_DEPTH_MAX);
  skip_space(&t);
  valid = valid && t.at == t.end;

  int status = pl__json_push(L, (const char *)at, bytes, err, sizeof err);
  if (status == 0) {
    CHECK(valid);
    CHECK(lua_gettop(L) == 1);
    CHECK(strcmp(err, "untouched") == 0);
    check_value(L);
    lua_settop(L, 0);
  } else {
    /* What a number may amount to is not grammar. */
    CHECK(!valid || strstr(err, ": number too"));
    CHECK(lua_gettop(L) == 0);
    CHECK(strncmp(err, "byte ", 5) == 0);
  }
  if (++runs % COLLECT_EVERY == 0)
    lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}
