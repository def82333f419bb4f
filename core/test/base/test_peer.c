/* test/base/test_peer.c - addresses as text, compared with the system's. */
#include "base/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct pl_peer peer_v6(const char *text) {
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(8080)};
  struct pl_peer p;
  assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
  pl__peer_set(&p, (struct sockaddr *)&in6);
  return p;
}

static void shows_ipv4(void **state) {
  (void)state;
  char text[PL_PEER_TEXT_BYTES];
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(65535)};
  struct pl_peer p;
  inet_pton(AF_INET, "203.0.113.9", &in.sin_addr);
  pl__peer_set(&p, (struct sockaddr *)&in);
  assert_int_equal(pl__peer_text(&p, text), 11);
  assert_string_equal(text, "203.0.113.9");
  assert_int_equal(p.port, 65535);
}

static void shows_ipv6_as_the_system_does(void **state) {
  (void)state;
  static const char *const cases[] = {"::",
                                      "::1",
                                      "1::",
                                      "2001:db8::1",
                                      "1:2:3:4:5:6:7:8",
                                      "1:0:3:4:5:6:7:8",
                                      "1:0:0:4:0:0:7:8",
                                      "1:0:0:4:0:0:0:8",
                                      "fe80::a:0:0:f",
                                      "0:0:3::",
                                      "::3:0:0:0:7:8",
                                      "abcd:ef01:2345:6789:abcd:ef01:2345:6789",
                                      "0:1:2:3:4:5:6:0"};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[PL_PEER_TEXT_BYTES], expected[INET6_ADDRSTRLEN];
    struct pl_peer p = peer_v6(cases[i]);
    inet_ntop(AF_INET6, p.address, expected, sizeof expected);
    assert_int_equal(pl__peer_text(&p, text), strlen(expected));
    assert_string_equal(text, expected);
  }
}

static void sees_through_mapped_ipv4(void **state) {
  (void)state;
  char text[PL_PEER_TEXT_BYTES];
  struct pl_peer p = peer_v6("::ffff:192.0.2.7");
  assert_int_equal(p.family, PL_PEER_IPV4);
  pl__peer_text(&p, text);
  assert_string_equal(text, "192.0.2.7");
}

static void names_a_unix_socket_and_knows_nothing_of_others(void **state) {
  (void)state;
  char text[PL_PEER_TEXT_BYTES];
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  struct pl_peer p;
  pl__peer_set(&p, (struct sockaddr *)&un);
  pl__peer_text(&p, text);
  assert_string_equal(text, "unix");
  pl__peer_set(&p, NULL);
  assert_int_equal(p.family, PL_PEER_NONE);
  assert_int_equal(pl__peer_text(&p, text), 0);
  assert_string_equal(text, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shows_ipv4),
      cmocka_unit_test(shows_ipv6_as_the_system_does),
      cmocka_unit_test(sees_through_mapped_ipv4),
      cmocka_unit_test(names_a_unix_socket_and_knows_nothing_of_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
