/* test/http/test_trace_context.c - the cases of the W3C's own test suite for
 * Trace Context (w3c/trace-context, test/test.py), and what is ours beside
 * them.
 *
 * Each request goes through both halves: its fields are read, and what would be
 * sent to others on its behalf is written.
 */
#include "http/trace_context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <stdio.h>

#define TRACE "12345678901234567890123456789012"
#define SPAN "1234567890123456"
#define PARENT "00-" TRACE "-" SPAN "-01"
#define UNSAMPLED "00-" TRACE "-" SPAN "-00"

#define FIELDS_MAX 8u

static struct pl_random random_numbers = {{1, 2, 3, 4}};
static struct pl_header fields[FIELDS_MAX];
static struct pl_req req;
static struct pl_context_rules rules;
static struct pl_peer peer = {.family = PL_PEER_IPV4,
                              .address = {192, 0, 2, 7}};
static char parent_out[PL_TRACEPARENT_BYTES + 1];
static char state_out[PL_LIMIT_TRACESTATE_BYTES + 1];

static int clear(void **state) {
  (void)state;
  memset(&req, 0, sizeof req);
  memset(&rules, 0, sizeof rules);
  return 0;
}

static void add(const char *name, const char *value) {
  assert_true(req.header_count < FIELDS_MAX);
  req.headers = fields;
  fields[req.header_count++] = (struct pl_header){
      pl__slice(name, strlen(name)), pl__slice(value, strlen(value))};
}

/* Reads the fields, and writes what goes out. */
static void pass(void) {
  req.context = (struct pl_context){.request_id = 0xabc};
  pl__context_extract(&req, &rules, &peer, &random_numbers);
  pl__traceparent_put(&req.context, parent_out);
  uint32_t bytes =
      req.context.passes & PL_PASSES_STATE
          ? pl__tracestate_put(req.headers + req.context.passes_at,
                               req.header_count - req.context.passes_at,
                               state_out)
          : 0;
  state_out[bytes] = '\0';
  req.header_count = 0;
}

static int has_trace(void) { return memcmp(parent_out + 3, TRACE, 32) == 0; }

/* A traceparent that the suite would take for one. */
static void assert_valid_parent(void) {
  struct pl_context c = {0};
  assert_int_equal(strlen(parent_out), PL_TRACEPARENT_BYTES);
  assert_memory_equal(parent_out, "00-", 3);
  assert_int_equal(
      pl__traceparent_parse(pl__slice(parent_out, PL_TRACEPARENT_BYTES), &c),
      0);
  assert_memory_not_equal(parent_out + 36, SPAN, 16);
}

static void assert_inherits(const char *parent) {
  add("traceparent", parent);
  pass();
  assert_valid_parent();
  assert_true(has_trace());
}

static void assert_restarts(const char *parent) {
  add("traceparent", parent);
  add("tracestate", "foo=1");
  pass();
  assert_valid_parent();
  assert_false(has_trace());
  assert_string_equal(state_out, ""); /* it was of the other trace */
}

/* What goes out of a request with a good traceparent and such tracestates. */
static void assert_state(const char *out, const char *one, const char *two,
                         const char *three) {
  add("traceparent", UNSAMPLED);
  if (one)
    add("tracestate", one);
  if (two)
    add("tracestate", two);
  if (three)
    add("tracestate", three);
  pass();
  assert_true(has_trace());
  assert_string_equal(state_out, out);
}

/* --- traceparent -------------------------------------------------------- */

static void a_request_without_the_two_begins_a_trace(void **state) {
  (void)state;
  pass();
  assert_valid_parent();
  assert_int_equal(req.context.parent_id, 0);
  assert_int_equal(req.context.trace_flags, PL_TRACE_RANDOM);
}

static void a_traceparent_alone_is_inherited_with_another_span(void **state) {
  (void)state;
  assert_inherits(PARENT);
  assert_true(req.context.parent_id == 0x1234567890123456);
  assert_true(req.context.span_id != 0x1234567890123456);
  assert_int_equal(req.context.trace_flags, PL_TRACE_SAMPLED);
}

static void two_traceparents_are_none(void **state) {
  (void)state;
  add("traceparent", "00-12345678901234567890123456789011-" SPAN "-01");
  add("traceparent", PARENT);
  pass();
  assert_valid_parent();
  assert_memory_not_equal(parent_out + 3, TRACE, 31);
}

static void the_name_of_the_field_is_that_and_no_other(void **state) {
  (void)state;
  add("trace-parent", PARENT);
  pass();
  assert_false(has_trace());
  add("trace.parent", PARENT);
  pass();
  assert_false(has_trace());
}

static void the_name_of_the_field_has_any_case(void **state) {
  (void)state;
  static const char *const names[] = {"TraceParent", "TrAcEpArEnT",
                                      "TRACEPARENT"};
  for (unsigned i = 0; i < 3; i++) {
    add(names[i], PARENT);
    pass();
    assert_true(has_trace());
  }
}

static void version_00_has_nothing_behind_its_flags(void **state) {
  (void)state;
  assert_restarts(PARENT ".");
  assert_restarts(PARENT "-what-the-future-will-be-like");
}

static void a_future_version_may_have_more_behind_a_dash(void **state) {
  (void)state;
  assert_inherits("cc-" TRACE "-" SPAN "-01");
  assert_inherits("cc-" TRACE "-" SPAN "-01-what-the-future-will-be-like");
  assert_restarts("cc-" TRACE "-" SPAN "-01.what-the-future-will-be-like");
}

static void version_ff_is_none(void **state) {
  (void)state;
  assert_restarts("ff-" TRACE "-" SPAN "-01");
}

static void a_malformed_version_restarts_the_trace(void **state) {
  (void)state;
  assert_restarts(".0-" TRACE "-" SPAN "-01");
  assert_restarts("0.-" TRACE "-" SPAN "-01");
  assert_restarts("000-" TRACE "-" SPAN "-01");
  assert_restarts("0000-" TRACE "-" SPAN "-01");
  assert_restarts("0-" TRACE "-" SPAN "-01");
  assert_restarts("CC-" TRACE "-" SPAN "-01");
}

static void a_malformed_trace_id_restarts_the_trace(void **state) {
  (void)state;
  assert_restarts("00-00000000000000000000000000000000-" SPAN "-01");
  assert_restarts("00-.2345678901234567890123456789012-" SPAN "-01");
  assert_restarts("00-1234567890123456789012345678901.-" SPAN "-01");
  assert_restarts("00-123456789012345678901234567890123-" SPAN "-01");
  assert_restarts("00-1234567890123456789012345678901-" SPAN "-01");
  assert_restarts("00-1234567890123456789012345678901A-" SPAN "-01");
}

static void a_malformed_parent_id_restarts_the_trace(void **state) {
  (void)state;
  assert_restarts("00-" TRACE "-0000000000000000-01");
  assert_restarts("00-" TRACE "-.234567890123456-01");
  assert_restarts("00-" TRACE "-123456789012345.-01");
  assert_restarts("00-" TRACE "-12345678901234567-01");
  assert_restarts("00-" TRACE "-123456789012345-01");
}

static void malformed_flags_restart_the_trace(void **state) {
  (void)state;
  assert_restarts("00-" TRACE "-" SPAN "-.0");
  assert_restarts("00-" TRACE "-" SPAN "-0.");
  assert_restarts("00-" TRACE "-" SPAN "-001");
  assert_restarts("00-" TRACE "-" SPAN "-1");
  assert_restarts("00-" TRACE "-" SPAN "-0A");
  assert_restarts("");
}

static void white_space_around_a_traceparent_means_nothing(void **state) {
  (void)state;
  assert_inherits(" " PARENT);
  assert_inherits("\t" PARENT);
  assert_inherits(PARENT " ");
  assert_inherits(PARENT "\t");
  assert_inherits("\t " PARENT " \t");
}

static void a_half_of_an_id_may_be_zero(void **state) {
  (void)state;
  struct pl_context c = {0};
  const char *text = "00-00000000000000000000000000000001-" SPAN "-00";
  assert_int_equal(pl__traceparent_parse(pl__slice(text, strlen(text)), &c), 0);
  assert_true(c.trace_id[0] == 0 && c.trace_id[1] == 1);
  text = "00-10000000000000000000000000000000-" SPAN "-00";
  assert_int_equal(pl__traceparent_parse(pl__slice(text, strlen(text)), &c), 0);
  assert_true(c.trace_id[0] == 0x1000000000000000 && c.trace_id[1] == 0);
}

static void the_flags_that_are_known_go_on_and_others_do_not(void **state) {
  (void)state;
  static const char *const in[] = {"00", "01", "02", "03", "ff", "fc"};
  static const char *const out[] = {"00", "01", "02", "03", "03", "00"};
  for (unsigned i = 0; i < 6; i++) {
    char parent[64];
    snprintf(parent, sizeof parent, "00-" TRACE "-" SPAN "-%s", in[i]);
    assert_inherits(parent);
    assert_string_equal(parent_out + 53, out[i]);
  }
}

static void requests_of_one_trace_have_spans_of_their_own(void **state) {
  (void)state;
  char first[PL_TRACEPARENT_BYTES + 1];
  assert_inherits(PARENT);
  memcpy(first, parent_out, sizeof first);
  assert_inherits(PARENT);
  assert_memory_equal(first, parent_out, 35);
  assert_string_not_equal(first + 36, parent_out + 36);
  pass();
  memcpy(first, parent_out, sizeof first);
  pass();
  assert_memory_not_equal(first, parent_out, 35);
}

/* --- tracestate --------------------------------------------------------- */

static void a_tracestate_without_traceparent_is_dropped(void **state) {
  (void)state;
  add("tracestate", "foo=1,bar=2");
  pass();
  assert_valid_parent();
  assert_string_equal(state_out, "");
}

static void a_tracestate_is_inherited(void **state) {
  (void)state;
  assert_state("foo=1,bar=2", "foo=1,bar=2", NULL, NULL);
}

static void a_tracestate_has_that_name_in_any_case(void **state) {
  (void)state;
  static const struct {
    const char *name, *out;
  } cases[] = {{"trace-state", ""},
               {"trace.state", ""},
               {"TraceState", "foo=1"},
               {"TrAcEsTaTe", "foo=1"},
               {"TRACESTATE", "foo=1"}};
  for (unsigned i = 0; i < 5; i++) {
    add("traceparent", UNSAMPLED);
    add(cases[i].name, "foo=1");
    pass();
    assert_string_equal(state_out, cases[i].out);
  }
}

static void empty_fields_and_members_mean_nothing(void **state) {
  (void)state;
  assert_state("", "", NULL, NULL);
  assert_state("foo=1", "foo=1", "", NULL);
  assert_state("foo=1", "", "foo=1", NULL);
  assert_state("foo=1,bar=2", ", foo=1,,\t, bar=2 ,", NULL, NULL);
}

static void several_fields_are_joined_in_their_order(void **state) {
  (void)state;
  assert_state("foo=1,bar=2,rojo=1,congo=2,baz=3", "foo=1,bar=2",
               "rojo=1,congo=2", "baz=3");
}

static void repeated_keys_stay(void **state) {
  (void)state;
  assert_state("foo=1,foo=1", "foo=1,foo=1", NULL, NULL);
  assert_state("foo=1,foo=2", "foo=1", "foo=2", NULL);
}

static void all_characters_that_are_allowed_pass(void **state) {
  (void)state;
  char value[128] = "", member[256], vendor[256];
  int n = 0;
  for (char c = ' '; c <= '~'; c++)
    if (c != ',' && c != '=')
      value[n++] = c;
  snprintf(member, sizeof member, "abcdefghijklmnopqrstuvwxyz0123456789_-*/=%s",
           value);
  assert_state(member, member, NULL, NULL);
  snprintf(vendor, sizeof vendor,
           "abcdefghijklmnopqrstuvwxyz0123456789_-*/@a-z0-9_-*/=%s", value);
  assert_state(vendor, vendor, NULL, NULL);
}

static void white_space_around_members_is_left_out(void **state) {
  (void)state;
  assert_state("foo=1,bar=2,baz=3", "foo=1 \t , \t bar=2, \t baz=3", NULL,
               NULL);
  assert_state("foo=1,bar=2,baz=3", "foo=1\t \t,\t \tbar=2,\t \tbaz=3", NULL,
               NULL);
  assert_state("foo=1", " foo=1", NULL, NULL);
  assert_state("foo=1", "\tfoo=1", NULL, NULL);
  assert_state("foo=1", "foo=1 ", NULL, NULL);
  assert_state("foo=1", "\t foo=1 \t", NULL, NULL);
  assert_state("foo= 1", "foo= 1", NULL, NULL);
}

static void one_malformed_member_drops_all(void **state) {
  (void)state;
  static const char *const bad[] = {
      "foo =1,bar=2", "FOO=1",        "foo.bar=1",    "@foo=1,bar=2",
      "foo=bar=baz",  "foo=,bar=3",   "bar=3,foo",    "=1",
      "foo=1;bar=2",  "foo=\x7f,a=1", "foo=\xc3\xa9", "_a=1"};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_state("", bad[i], NULL, NULL);
}

static void keys_may_have_at_signs_anywhere_but_first(void **state) {
  (void)state;
  assert_state("foo@=1,bar=2", "foo@=1,bar=2", NULL, NULL);
  assert_state("foo@@bar=1,bar=2", "foo@@bar=1,bar=2", NULL, NULL);
  assert_state("foo@bar@baz=1,bar=2", "foo@bar@baz=1,bar=2", NULL, NULL);
}

static void thirty_two_members_pass_and_one_more_drops_all(void **state) {
  (void)state;
  char first[200] = "", second[200] = "", all[400];
  for (int i = 1; i <= 32; i++) {
    char *to = i <= 16 ? first : second;
    snprintf(to + strlen(to), 16, "%sbar%02d=%02d", *to ? "," : "", i, i);
  }
  snprintf(all, sizeof all, "%s,%s", first, second);
  assert_state(all, first, second, NULL);
  assert_state("", first, second, "bar33=33");
}

static void keys_and_values_have_256_characters_at_most(void **state) {
  (void)state;
  char key[300], value[300], member[600], all[700];
  memset(key, 'z', sizeof key);
  memset(value, 'v', sizeof value);
  key[256] = value[256] = '\0';
  snprintf(member, sizeof member, "%s=1", key);
  snprintf(all, sizeof all, "foo=1,%s", member);
  assert_state(all, "foo=1", member, NULL);
  key[256] = 'z';
  key[257] = '\0';
  snprintf(member, sizeof member, "%s=1", key);
  assert_state("", "foo=1", member, NULL);
  snprintf(member, sizeof member, "k=%s", value);
  assert_state(member, member, NULL, NULL);
  value[256] = 'v';
  value[257] = '\0';
  snprintf(member, sizeof member, "k=%s", value);
  assert_state("", member, NULL, NULL);
}

static void past_512_bytes_the_large_go_first_and_then_the_last(void **state) {
  (void)state;
  char large[200], list[1024] = "a=1", expected[1024] = "a=1";
  memset(large, 'x', sizeof large);
  memcpy(large, "large=", 6);
  large[150] = '\0';
  for (int i = 0; i < 8; i++) { /* of 59 bytes each, with its comma */
    snprintf(list + strlen(list), 80, ",k%d=%055d", i, i);
    snprintf(expected + strlen(expected), 80, ",k%d=%055d", i, i);
  }
  assert_int_equal(strlen(expected), 475);
  assert_state(expected, large, list, NULL);
  snprintf(list + strlen(list), 80, ",z=%055d", 0);
  assert_state(expected, large, list, NULL);
  assert_state(expected, list, NULL, NULL);
}

static void exactly_512_bytes_stay(void **state) {
  (void)state;
  char list[1024], value[257];
  memset(value, 'v', sizeof value);
  snprintf(list, sizeof list, "a=%.*s,b=%.*s", 253, value, 254, value);
  assert_int_equal(strlen(list), 512);
  assert_state(list, list, NULL, NULL);
  snprintf(list, sizeof list, "a=%.*s,b=%.*s", 253, value, 255, value);
  value[253] = '\0';
  char first[300];
  snprintf(first, sizeof first, "a=%s", value);
  assert_state(first, list, NULL, NULL);
}

/* --- who is trusted ------------------------------------------------------ */

static void trust(const char *networks) {
  assert_int_equal(pl__networks_parse(&rules.trusted, networks), 0);
  rules.request_id = PL_SLICE("X-Request-Id");
  rules.tenant = PL_SLICE("X-Tenant");
  rules.tier = PL_SLICE("X-Tier");
}

static void add_claims(void) {
  add("x-request-id", "7b44cdcf-1");
  add("x-tenant", "acme");
  add("X-TIER", "High");
}

static void a_trusted_peer_says_id_tenant_and_tier(void **state) {
  (void)state;
  trust("192.0.2.0/24");
  add_claims();
  pass();
  assert_int_equal(req.context.caller_id_bytes, 10);
  assert_memory_equal(req.context.caller_id, "7b44cdcf-1", 10);
  assert_int_equal(req.context.tenant_bytes, 4);
  assert_memory_equal(req.context.tenant, "acme", 4);
  assert_int_equal(req.context.tier, PL_TIER_HIGH);
  assert_int_equal(req.context.request_id, 0xabc);
}

static void nobody_else_does(void **state) {
  (void)state;
  static const char *const networks[] = {"", "198.51.100.0/24"};
  for (unsigned i = 0; i < 2; i++) {
    trust(networks[i]);
    add_claims();
    pass();
    assert_int_equal(req.context.caller_id_bytes, 0);
    assert_int_equal(req.context.tenant_bytes, 0);
    assert_int_equal(req.context.tier, PL_TIER_NORMAL);
  }
}

static void without_a_name_nothing_is_looked_for(void **state) {
  (void)state;
  trust("192.0.2.7");
  rules.request_id = rules.tenant = rules.tier = PL_SLICE("");
  add_claims();
  add("", "x");
  pass();
  assert_int_equal(req.context.caller_id_bytes, 0);
  assert_int_equal(req.context.tenant_bytes, 0);
  assert_int_equal(req.context.tier, PL_TIER_NORMAL);
}

static void an_id_like_ours_is_taken_as_a_number(void **state) {
  (void)state;
  trust("192.0.2.7");
  add("X-Request-Id", "00f067aa0ba902b7");
  pass();
  assert_true(req.context.request_id == 0xf067aa0ba902b7);
  assert_int_equal(req.context.caller_id_bytes, 0);
}

static void what_is_no_id_leaves_ours(void **state) {
  (void)state;
  char text[80];
  static const char *const bad[] = {"", "a b", "a\tb", "\xc3\xa9", "a\x7f"};
  trust("192.0.2.7");
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    add("X-Request-Id", bad[i]);
    pass();
    assert_int_equal(req.context.caller_id_bytes, 0);
    assert_int_equal(req.context.request_id, 0xabc);
  }
  memset(text, 'a', sizeof text);
  text[64] = '\0';
  add("X-Request-Id", text);
  pass();
  assert_int_equal(req.context.caller_id_bytes, 64);
  text[64] = 'a';
  text[65] = '\0';
  add("X-Request-Id", text);
  pass();
  assert_int_equal(req.context.caller_id_bytes, 0);
}

static void a_tenant_too_long_is_none_rather_than_another(void **state) {
  (void)state;
  char text[66];
  trust("192.0.2.7");
  memset(text, 't', sizeof text);
  text[64] = '\0';
  add("X-Tenant", text);
  pass();
  assert_int_equal(req.context.tenant_bytes, 64);
  text[64] = 't';
  text[65] = '\0';
  add("X-Tenant", text);
  pass();
  assert_int_equal(req.context.tenant_bytes, 0);
}

static void two_fields_that_contradict_each_other_are_none(void **state) {
  (void)state;
  trust("192.0.2.7");
  add_claims();
  add_claims();
  pass();
  assert_int_equal(req.context.caller_id_bytes, 0);
  assert_int_equal(req.context.tenant_bytes, 0);
  assert_int_equal(req.context.tier, PL_TIER_NORMAL);
}

static void a_tier_that_is_none_is_normal(void **state) {
  (void)state;
  trust("192.0.2.7");
  add("X-Tier", "higher");
  pass();
  assert_int_equal(req.context.tier, PL_TIER_NORMAL);
  add("X-Tier", "low");
  pass();
  assert_int_equal(req.context.tier, PL_TIER_LOW);
}

static void a_trace_can_be_taken_from_trusted_peers_only(void **state) {
  (void)state;
  rules.trace_trusted_only = 1;
  add("traceparent", PARENT);
  add("tracestate", "foo=1");
  add("baggage", "a=1");
  pass();
  assert_valid_parent();
  assert_false(has_trace());
  assert_int_equal(req.context.passes, 0);
  trust("192.0.2.7");
  assert_inherits(PARENT);
}

static void baggage_needs_no_trace(void **state) {
  (void)state;
  add("Baggage", "a=1");
  add("tracestate", "foo=1");
  pass();
  assert_int_equal(req.context.passes, PL_PASSES_BAGGAGE);
}

static void a_context_of_its_own_begins_another_trace(void **state) {
  (void)state;
  assert_inherits(PARENT);
  struct pl_context c = req.context;
  pl__context_begin(&c, &random_numbers);
  assert_true(c.trace_id[0] != req.context.trace_id[0]);
  assert_true(c.span_id && c.span_id != req.context.span_id);
  assert_int_equal(c.parent_id, 0);
  assert_int_equal(c.trace_flags, PL_TRACE_RANDOM);
  assert_int_equal(c.request_id, req.context.request_id);
}

#define FACT(f) cmocka_unit_test_setup(f, clear)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(a_request_without_the_two_begins_a_trace),
      FACT(a_traceparent_alone_is_inherited_with_another_span),
      FACT(two_traceparents_are_none),
      FACT(the_name_of_the_field_is_that_and_no_other),
      FACT(the_name_of_the_field_has_any_case),
      FACT(version_00_has_nothing_behind_its_flags),
      FACT(a_future_version_may_have_more_behind_a_dash),
      FACT(version_ff_is_none),
      FACT(a_malformed_version_restarts_the_trace),
      FACT(a_malformed_trace_id_restarts_the_trace),
      FACT(a_malformed_parent_id_restarts_the_trace),
      FACT(malformed_flags_restart_the_trace),
      FACT(white_space_around_a_traceparent_means_nothing),
      FACT(a_half_of_an_id_may_be_zero),
      FACT(the_flags_that_are_known_go_on_and_others_do_not),
      FACT(requests_of_one_trace_have_spans_of_their_own),
      FACT(a_tracestate_without_traceparent_is_dropped),
      FACT(a_tracestate_is_inherited),
      FACT(a_tracestate_has_that_name_in_any_case),
      FACT(empty_fields_and_members_mean_nothing),
      FACT(several_fields_are_joined_in_their_order),
      FACT(repeated_keys_stay),
      FACT(all_characters_that_are_allowed_pass),
      FACT(white_space_around_members_is_left_out),
      FACT(one_malformed_member_drops_all),
      FACT(keys_may_have_at_signs_anywhere_but_first),
      FACT(thirty_two_members_pass_and_one_more_drops_all),
      FACT(keys_and_values_have_256_characters_at_most),
      FACT(past_512_bytes_the_large_go_first_and_then_the_last),
      FACT(exactly_512_bytes_stay),
      FACT(a_trusted_peer_says_id_tenant_and_tier),
      FACT(nobody_else_does),
      FACT(without_a_name_nothing_is_looked_for),
      FACT(an_id_like_ours_is_taken_as_a_number),
      FACT(what_is_no_id_leaves_ours),
      FACT(a_tenant_too_long_is_none_rather_than_another),
      FACT(two_fields_that_contradict_each_other_are_none),
      FACT(a_tier_that_is_none_is_normal),
      FACT(a_trace_can_be_taken_from_trusted_peers_only),
      FACT(baggage_needs_no_trace),
      FACT(a_context_of_its_own_begins_another_trace),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
