/* test/vm/test_bind_json.c - what C sees of the JSON binding: the stack, room
 * and memory.  What it decodes and encodes is in spec/unit/json_spec.lua.
 */
#include "vm/bind_json.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

static lua_State *L;
static char err[PL_JSON_ERROR_BYTES];

static void *allocate(void *arg, void *p, size_t old_bytes, size_t new_bytes) {
  (void)arg;
  return pl__alloc_lua(p, old_bytes, new_bytes);
}

static int set_up(void **state) {
  (void)state;
  L = lua_newstate(allocate, NULL);
  if (!L)
    return -1;
  pl__json_open(L);
  lua_settop(L, 0);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  lua_close(L);
  return 0;
}

static int push(const char *text) {
  return pl__json_push(L, text, strlen(text), err, sizeof err);
}

static void pushes_one_value(void **state) {
  (void)state;
  lua_pushinteger(L, 7);
  assert_int_equal(push("{\"a\":[1,2]}"), 0);
  assert_int_equal(lua_gettop(L), 2);
  assert_int_equal(lua_tointeger(L, 1), 7);
  lua_getfield(L, 2, "a");
  assert_int_equal(lua_objlen(L, -1), 2);
  lua_settop(L, 0);
}

static void leaves_the_stack_alone_when_it_fails(void **state) {
  (void)state;
  lua_pushinteger(L, 7);
  assert_int_equal(push("[1,{\"a\":[2,}]"), PL_EBAD);
  assert_int_equal(lua_gettop(L), 1);
  assert_string_equal(err, "byte 12: value expected");
  lua_settop(L, 0);
}

static void reads_no_byte_behind_the_last(void **state) {
  (void)state;
  assert_int_equal(pl__json_push(L, "123456", 3, err, sizeof err), 0);
  assert_int_equal(lua_tointeger(L, -1), 123);
  assert_int_equal(pl__json_push(L, "1e5000", 3, err, sizeof err), 0);
  assert_true(lua_tonumber(L, -1) == 1e5);
  assert_int_equal(pl__json_push(L, "\"a\"", 2, err, sizeof err), PL_EBAD);
  assert_int_equal(pl__json_push(L, "nullx", 4, err, sizeof err), 0);
  assert_int_equal(pl__json_push(L, "true", 0, err, sizeof err), PL_EBAD);
  lua_settop(L, 0);
}

static void cuts_the_error_to_its_room(void **state) {
  (void)state;
  char small[8] = "1234567";

  assert_int_equal(pl__json_push(L, "?", 1, small, 6), PL_EBAD);
  assert_string_equal(small, "byte ");
  assert_int_equal(small[6], '7');
}

static void gives_the_same_array_metatable_when_opened_again(void **state) {
  (void)state;
  pl__json_open(L);
  lua_getfield(L, -1, "array_mt");
  assert_int_equal(push("[]"), 0);
  assert_int_equal(lua_getmetatable(L, -1), 1);
  assert_true(lua_rawequal(L, -1, -3));
  lua_settop(L, 0);
}

/* Long enough for the C library's strtod, which knows locales. */
static void reads_numbers_whatever_the_locale(void **state) {
  (void)state;
  const char *number = "2.50000000000000000000000000000000000000001e-310";

  (void)setlocale(LC_NUMERIC, "de_DE.UTF-8"); /* if there is one */
  assert_int_equal(push(number), 0);
  assert_true(lua_tonumber(L, -1) == 2.5e-310);
  (void)setlocale(LC_NUMERIC, "C");
  lua_settop(L, 0);
}

/* One document with all there is: strings that need a userdata, arrays and
 * objects that are stored in parts. */
static const char *large_document(size_t *bytes) {
  static char text[64 * 1024];
  size_t at = 0;

  text[at++] = '[';
  for (int i = 0; i < 600; i++) {
    memcpy(text + at, "1.5,", 4);
    at += 4;
  }
  text[at++] = '"';
  memcpy(text + at, "\\u00e9", 6);
  memset(text + at + 6, 'x', 2000);
  at += 2006;
  memcpy(text + at, "\",{", 3);
  at += 3;
  for (char a = 'a'; a <= 'z'; a++)
    for (char b = 'a'; b <= 'z'; b++) {
      char member[] = {'"', a, b, '"', ':', '[', ']', ','};
      memcpy(text + at, member, sizeof member);
      at += sizeof member;
    }
  memcpy(text + at - 1, "}]", 2);
  *bytes = at + 1;
  return text;
}

static int push_large(lua_State *state) {
  size_t bytes;
  const char *text = large_document(&bytes);

  assert_int_equal(pl__json_push(state, text, bytes, err, sizeof err), 0);
  return 1;
}

static void raises_when_memory_is_out_at_any_place(void **state) {
  (void)state;
  int raised = 0, status;

  lua_gc(L, LUA_GCSTOP, 0);
  do {
    lua_settop(L, 0);
    lua_gc(L, LUA_GCCOLLECT, 0);
    lua_gc(L, LUA_GCSTOP, 0);
    lua_pushcfunction(L, push_large);
    pl__alloc_fail_after((uint64_t)raised + 1, false);
    status = lua_pcall(L, 0, 1, 0);
    pl__alloc_fail_after(0, false);
    assert_int_equal(lua_gettop(L), 1);
    if (status != 0) {
      assert_int_equal(status, LUA_ERRMEM);
      raised++;
    }
  } while (status != 0 && raised < 100000);
  assert_in_range(raised, 5, 99999);
  assert_int_equal(lua_objlen(L, 1), 602);
  lua_gc(L, LUA_GCRESTART, 0);
  lua_settop(L, 0);
}

static char bytes[512];

/* An output with room for `room` bytes, of which 5 are used. */
static struct pl_json_out output(uint32_t room) {
  memset(bytes, '#', sizeof bytes);
  return (struct pl_json_out){
      .at = bytes, .pos = 5, .cap = 5 + room, .lead = ','};
}

static void assert_written(const struct pl_json_out *out, const char *text) {
  assert_int_equal(out->pos, 5 + strlen(text));
  assert_memory_equal(bytes + 5, text, strlen(text));
  assert_int_equal(bytes[4], '#');
  for (uint32_t at = out->cap; at < sizeof bytes; at++)
    assert_int_equal(bytes[at], '#');
}

static void asks_for_the_room_it_then_fits_in(void **state) {
  (void)state;
  static const char *const texts[][2] = {
      {"", ",\"\":"},
      {"a", ",\"a\":"},
      {"\"\\\n\1", ",\"\\\"\\\\\\n\\u0001\":"},
      {"\xC3\xA9", ",\"\xC3\xA9\":"},
      {"text of more than 16 bytes\n", ",\"text of more than 16 bytes\\n\":"}};

  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    const char *text = texts[i][0];
    struct pl_json_out out = output(0);
    int32_t need = pl_json_put_key(&out, text, (uint32_t)strlen(text));
    assert_in_range(need, 1, 400);
    assert_int_equal(out.pos, 5);
    out = output((uint32_t)need);
    assert_int_equal(pl_json_put_key(&out, text, (uint32_t)strlen(text)), 0);
    assert_written(&out, texts[i][1]);
    assert_int_equal(out.lead, 0);
  }
}

static void writes_nothing_when_there_is_too_little_room(void **state) {
  (void)state;
  for (uint32_t room = 0; room < 2; room++) {
    struct pl_json_out out = output(room);
    assert_int_equal(pl_json_open(&out, 1), 2);
    assert_int_equal(pl_json_put_number(&out, 1), 26);
    assert_int_equal(pl_json_put_i64(&out, 1), 26);
    assert_int_equal(pl_json_put_u64(&out, 1), 26);
    assert_int_equal(pl_json_put_word(&out, PL_JSON_WORD_NULL), 9);
    assert_int_equal(pl_json_put_string(&out, "", 0), 20);
    assert_int_equal(out.depth, 0);
    assert_written(&out, "");
    out.depth = 1;
    assert_int_equal(pl_json_close(&out), 2);
    assert_int_equal(out.depth, 1);
  }
}

static void puts_brackets_and_commas_where_they_belong(void **state) {
  (void)state;
  struct pl_json_out out = output(400);

  assert_int_equal(pl_json_open(&out, 2), 0);
  assert_int_equal(pl_json_open(&out, 0), 0);
  assert_int_equal(pl_json_close(&out), 0);
  assert_int_equal(pl_json_open(&out, PL_JSON_OBJECT), 0);
  assert_int_equal(pl_json_put_key(&out, "a", 1), 0);
  assert_int_equal(pl_json_put_word(&out, PL_JSON_WORD_FALSE), 0);
  assert_int_equal(pl_json_put_key(&out, "b", 1), 0);
  assert_int_equal(pl_json_open(&out, PL_JSON_OBJECT), 0);
  assert_int_equal(pl_json_close(&out), 0);
  assert_int_equal(pl_json_close(&out), 0);
  assert_int_equal(pl_json_put_word(&out, PL_JSON_WORD_TRUE), 0);
  assert_int_equal(pl_json_put_i64(&out, INT64_MIN), 0);
  assert_int_equal(pl_json_close(&out), 0);
  assert_int_equal(out.depth, 0);
  assert_written(&out, ",[[],{\"a\":false,\"b\":{}},true,"
                       "-9223372036854775808]");
}

static void opens_128_containers_and_no_more(void **state) {
  (void)state;
  struct pl_json_out out = output(400);

  for (int i = 0; i < PL_JSON_DEPTH_MAX; i++)
    assert_int_equal(pl_json_open(&out, 1), 0);
  assert_int_equal(pl_json_open(&out, 1), PL_JSON_REFUSED);
  assert_int_equal(out.depth, PL_JSON_DEPTH_MAX);
}

static void refuses_numbers_without_a_json_form(void **state) {
  (void)state;
  struct pl_json_out out = output(400);

  assert_int_equal(pl_json_put_number(&out, NAN), PL_JSON_REFUSED);
  assert_int_equal(pl_json_put_number(&out, -INFINITY), PL_JSON_REFUSED);
  assert_int_equal(out.pos, 5);
}

static void refuses_strings_that_are_no_utf8(void **state) {
  (void)state;
  struct pl_json_out out = output(400);

  assert_int_equal(pl_json_put_string(&out, "a\xFF", 2), PL_JSON_REFUSED);
  assert_int_equal(pl_json_put_key(&out, "\xE2\x82", 2), PL_JSON_REFUSED);
  assert_int_equal(out.pos, 5);
  assert_int_equal(out.lead, ',');
}

static void lets_one_take_the_encoder(void **state) {
  (void)state;
  struct pl_json_out out = output(0);

  assert_int_equal(pl_json_take(&out), 0);
  assert_int_equal(pl_json_take(&out), 1);
  out.busy = 0;
  assert_int_equal(pl_json_take(&out), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pushes_one_value),
      cmocka_unit_test(leaves_the_stack_alone_when_it_fails),
      cmocka_unit_test(reads_no_byte_behind_the_last),
      cmocka_unit_test(cuts_the_error_to_its_room),
      cmocka_unit_test(gives_the_same_array_metatable_when_opened_again),
      cmocka_unit_test(reads_numbers_whatever_the_locale),
      cmocka_unit_test(raises_when_memory_is_out_at_any_place),
      cmocka_unit_test(asks_for_the_room_it_then_fits_in),
      cmocka_unit_test(writes_nothing_when_there_is_too_little_room),
      cmocka_unit_test(puts_brackets_and_commas_where_they_belong),
      cmocka_unit_test(opens_128_containers_and_no_more),
      cmocka_unit_test(refuses_numbers_without_a_json_form),
      cmocka_unit_test(refuses_strings_that_are_no_utf8),
      cmocka_unit_test(lets_one_take_the_encoder),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
