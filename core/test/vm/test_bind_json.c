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

static void asks_for_the_room_it_then_fits_in(void **state) {
  (void)state;
  static const char *const texts[] = {"", "a", "\"\\\n\1", "\xC3\xA9",
                                      "plain text of more than 16 bytes\n"};
  char out[512];

  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    uint32_t bytes = (uint32_t)strlen(texts[i]);
    int32_t need = pl_json_put_key(out, 5, 5, ',', texts[i], bytes);
    assert_in_range(-need, 1, 400);
    memset(out, '#', sizeof out);
    int32_t end =
        pl_json_put_key(out, 5, 5 + (uint32_t)-need, ',', texts[i], bytes);
    assert_in_range(end, 9, 5 - need);
    assert_int_equal(out[4], '#');
    assert_int_equal(out[5], ',');
    assert_int_equal(out[end - 1], ':');
    for (int32_t at = 5 - need; at < (int32_t)sizeof out; at++)
      assert_int_equal(out[at], '#');
  }
}

static void refuses_numbers_without_a_json_form(void **state) {
  (void)state;
  char out[64];

  assert_int_equal(pl_json_put_number(out, 0, 64, 0, NAN), PL_JSON_REFUSED);
  assert_int_equal(pl_json_put_number(out, 0, 64, 0, -INFINITY),
                   PL_JSON_REFUSED);
  assert_int_equal(pl_json_put_number(out, 60, 64, 0, 1), -26);
  assert_int_equal(pl_json_put_number(out, 0, 26, '[', 1), 2);
}

static void refuses_strings_that_are_no_utf8(void **state) {
  (void)state;
  char out[64];

  assert_int_equal(pl_json_put_string(out, 0, 64, 0, "a\xFF", 2),
                   PL_JSON_REFUSED);
  assert_int_equal(pl_json_put_string(out, 0, 64, 0, "\xE2\x82", 2),
                   PL_JSON_REFUSED);
}

static void lets_one_take_the_encoder(void **state) {
  (void)state;
  uint32_t busy = 0;

  assert_int_equal(pl_json_take(&busy), 0);
  assert_int_equal(pl_json_take(&busy), 1);
  busy = 0;
  assert_int_equal(pl_json_take(&busy), 0);
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
      cmocka_unit_test(refuses_numbers_without_a_json_form),
      cmocka_unit_test(refuses_strings_that_are_no_utf8),
      cmocka_unit_test(lets_one_take_the_encoder),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
