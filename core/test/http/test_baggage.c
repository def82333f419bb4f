/* test/http/test_baggage.c - the examples of W3C Baggage, and its limits. */
#include "http/baggage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

static struct pl_header fields[4];
static uint32_t count;
static char out[PL_LIMIT_BAGGAGE_BYTES + 1];
static char large[20000];

static int clear(void **state) {
  (void)state;
  count = 0;
  large[0] = '\0';
  return 0;
}

static void add(const char *value) {
  fields[count++] =
      (struct pl_header){PL_SLICE("Baggage"), pl__slice(value, strlen(value))};
}

static const char *passed_on(void) {
  out[pl__baggage_put(fields, count, out)] = '\0';
  return out;
}

static const char *value_of(const char *key) {
  int bytes = pl__baggage_get(fields, count, pl__slice(key, strlen(key)), out);
  if (bytes < 0)
    return NULL;
  out[bytes] = '\0';
  return out;
}

static void without_fields_there_is_none(void **state) {
  (void)state;
  assert_string_equal(passed_on(), "");
  assert_null(value_of("a"));
}

static void a_list_passes_as_it_came(void **state) {
  (void)state;
  const char *list = "key1=value1;property1;property2,key2 = value2,"
                     "key3=value3; propertyKey=propertyValue";
  add(list);
  assert_string_equal(passed_on(), list);
  assert_string_equal(value_of("key1"), "value1");
  assert_string_equal(value_of("key2"), "value2");
  assert_string_equal(value_of("key3"), "value3");
  assert_null(value_of("property1"));
  assert_null(value_of("Key1"));
}

static void several_fields_are_one_list(void **state) {
  (void)state;
  add("userId=alice");
  add("serverNode=DF%2028 , isProduction=false");
  assert_string_equal(passed_on(),
                      "userId=alice,serverNode=DF%2028,isProduction=false");
  assert_string_equal(value_of("isProduction"), "false");
}

static void values_are_percent_decoded(void **state) {
  (void)state;
  add("userId=Am%C3%A9lie,serverNode=DF%2028,odd=%zz%4,euro=%e2%82%ac");
  assert_string_equal(value_of("userId"), "Am\xc3\xa9lie");
  assert_string_equal(value_of("serverNode"), "DF 28");
  assert_string_equal(value_of("odd"), "%zz%4");
  assert_string_equal(value_of("euro"), "\xe2\x82\xac");
}

static void bytes_that_are_no_utf8_are_replaced(void **state) {
  (void)state;
  add("a=x%ffy,b=%C3,c=%ED%A0%80");
  assert_string_equal(value_of("a"), "x\xef\xbf\xbdy");
  assert_string_equal(value_of("b"), "\xef\xbf\xbd");
  assert_string_equal(value_of("c"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

static void a_value_may_have_equal_signs_or_be_empty(void **state) {
  (void)state;
  add("a=b=c==,e=");
  assert_string_equal(value_of("a"), "b=c==");
  assert_string_equal(value_of("e"), "");
  assert_string_equal(passed_on(), "a=b=c==,e=");
}

static void the_first_of_equal_keys_counts(void **state) {
  (void)state;
  add("a=1,a=2");
  assert_string_equal(value_of("a"), "1");
  assert_string_equal(passed_on(), "a=1,a=2");
}

static void malformed_members_are_left_out_and_others_stay(void **state) {
  (void)state;
  add("ok=1,novalue,=1,b ad=1,q=\"x\",s=a b,u=\xc3\xa9,p=1;,p2=1;=x,,last=2");
  add("bs=\\,p3=1;k=a b");
  assert_string_equal(passed_on(), "ok=1,p=1;,last=2");
  assert_null(value_of("q"));
  assert_null(value_of("p2"));
  assert_string_equal(value_of("last"), "2");
}

static void sixty_four_members_pass(void **state) {
  (void)state;
  char expected[2000] = "";
  for (int i = 0; i < 70; i++) {
    snprintf(large + strlen(large), 32, "%skey%02d=%d", i ? "," : "", i, i);
    if (i == 63)
      memcpy(expected, large, strlen(large) + 1);
  }
  add(large);
  assert_string_equal(passed_on(), expected);
  assert_string_equal(value_of("key63"), "63");
  assert_null(value_of("key64"));
}

static void eight_kibibytes_pass_and_no_half_member(void **state) {
  (void)state;
  memset(large, 'x', PL_LIMIT_BAGGAGE_BYTES);
  memcpy(large, "a=", 2);
  large[PL_LIMIT_BAGGAGE_BYTES] = '\0';
  add(large);
  assert_string_equal(passed_on(), large);
  add("b=1");
  assert_string_equal(passed_on(), large);
  assert_null(value_of("b"));
  large[PL_LIMIT_BAGGAGE_BYTES] = 'x';
  large[PL_LIMIT_BAGGAGE_BYTES + 1] = '\0';
  count = 0;
  add("first=1");
  add(large);
  add("b=1");
  assert_string_equal(passed_on(), "first=1");
}

static void a_list_that_fits_exactly_with_its_commas_passes(void **state) {
  (void)state;
  memset(large, 'x', PL_LIMIT_BAGGAGE_BYTES);
  memcpy(large, "a=1,b=", 6);
  large[PL_LIMIT_BAGGAGE_BYTES] = '\0';
  add(large);
  assert_string_equal(passed_on(), large);
}

#define FACT(f) cmocka_unit_test_setup(f, clear)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(without_fields_there_is_none),
      FACT(a_list_passes_as_it_came),
      FACT(several_fields_are_one_list),
      FACT(values_are_percent_decoded),
      FACT(bytes_that_are_no_utf8_are_replaced),
      FACT(a_value_may_have_equal_signs_or_be_empty),
      FACT(the_first_of_equal_keys_counts),
      FACT(malformed_members_are_left_out_and_others_stay),
      FACT(sixty_four_members_pass),
      FACT(eight_kibibytes_pass_and_no_half_member),
      FACT(a_list_that_fits_exactly_with_its_commas_passes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
