/* test/base/test_networks.c - which addresses a set of networks has. */
#include "base/networks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <arpa/inet.h>
#include <string.h>

static struct pl_peer peer(const char *text) {
  struct pl_peer p = {0};
  if (strcmp(text, "unix") == 0)
    p.family = PL_PEER_UNIX;
  else if (inet_pton(AF_INET, text, p.address) == 1)
    p.family = PL_PEER_IPV4;
  else if (inet_pton(AF_INET6, text, p.address) == 1)
    p.family = PL_PEER_IPV6;
  return p;
}

static int have(const char *networks, const char *address) {
  struct pl_networks n;
  struct pl_peer p = peer(address);
  assert_int_equal(pl__networks_parse(&n, networks), 0);
  return pl__networks_have(&n, &p);
}

static void the_empty_set_has_nobody(void **state) {
  (void)state;
  assert_false(have("", "127.0.0.1"));
  assert_false(have("", "unix"));
  assert_false(have("", "?"));
}

static void an_address_alone_is_only_itself(void **state) {
  (void)state;
  assert_true(have("192.0.2.7", "192.0.2.7"));
  assert_false(have("192.0.2.7", "192.0.2.6"));
  assert_true(have("2001:db8::1", "2001:db8::1"));
  assert_false(have("2001:db8::1", "2001:db8::2"));
}

static void a_network_has_all_that_share_its_bits(void **state) {
  (void)state;
  assert_true(have("10.0.0.0/8", "10.255.255.255"));
  assert_false(have("10.0.0.0/8", "11.0.0.0"));
  assert_true(have("192.168.4.0/22", "192.168.7.255"));
  assert_false(have("192.168.4.0/22", "192.168.8.0"));
  assert_true(have("0.0.0.0/0", "203.0.113.9"));
  assert_true(have("fd00::/8", "fdff:1::2"));
  assert_false(have("fd00::/8", "fe00::"));
  assert_true(have("2001:db8:8000::/33", "2001:db8:ffff::1"));
  assert_false(have("2001:db8:8000::/33", "2001:db8:7fff::1"));
  assert_true(have("::/0", "::1"));
}

static void families_do_not_mix(void **state) {
  (void)state;
  assert_false(have("0.0.0.0/0", "::1"));
  assert_false(have("::/0", "127.0.0.1"));
  assert_false(have("0.0.0.0/0, ::/0", "unix"));
  assert_false(have("0.0.0.0/0, ::/0, unix", "?"));
  assert_true(have("unix", "unix"));
}

static void several_have_commas_and_perhaps_spaces_between(void **state) {
  (void)state;
  const char *list = " 10.0.0.0/8,fd00::/8 , 192.0.2.7 ,unix";
  assert_true(have(list, "10.1.2.3"));
  assert_true(have(list, "fd00::1"));
  assert_true(have(list, "192.0.2.7"));
  assert_true(have(list, "unix"));
  assert_false(have(list, "192.0.2.8"));
}

static void what_is_no_network_is_refused_and_changes_nothing(void **state) {
  (void)state;
  static const char *const bad[] = {
      "localhost",   "10.0.0.0/33", "10.0.0.1/8",   "10.0.0.0/", "10.0.0.0/-1",
      "fd00::/129",  "fd00::1/8",   "10.0.0.0/8/8", ",",         "10.0.0.1,,",
      "10.0.0.0 /8", "unix/1",      "10.0.0",       " "};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct pl_networks n = {.count = 7};
    assert_int_equal(pl__networks_parse(&n, bad[i]), PL_EINVAL);
    assert_int_equal(n.count, 7);
  }
}

static void more_than_there_is_room_for_are_refused(void **state) {
  (void)state;
  char text[8 * (PL_NETWORKS_MAX + 2)] = "";
  struct pl_networks n;
  for (unsigned i = 0; i < PL_NETWORKS_MAX; i++)
    memcpy(text + strlen(text), i ? ",1.2.3.4" : "1.2.3.4", i ? 9 : 8);
  assert_int_equal(pl__networks_parse(&n, text), 0);
  assert_int_equal(n.count, PL_NETWORKS_MAX);
  memcpy(text + strlen(text), ",1.2.3.4", 9);
  assert_int_equal(pl__networks_parse(&n, text), PL_EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_empty_set_has_nobody),
      cmocka_unit_test(an_address_alone_is_only_itself),
      cmocka_unit_test(a_network_has_all_that_share_its_bits),
      cmocka_unit_test(families_do_not_mix),
      cmocka_unit_test(several_have_commas_and_perhaps_spaces_between),
      cmocka_unit_test(what_is_no_network_is_refused_and_changes_nothing),
      cmocka_unit_test(more_than_there_is_room_for_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
