/* test/server/test_address.c - addresses as people write them. */
#include "server/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "base/err.h"

static struct pl_address a;
static char text[PL_ADDRESS_TEXT_BYTES + 16];

static void reads_ipv4_with_a_port(void **state) {
  const struct sockaddr_in *in = (const struct sockaddr_in *)&a.storage;

  (void)state;
  assert_int_equal(0, pl__address_parse("127.0.0.1:8080", &a));
  assert_int_equal(AF_INET, a.family);
  assert_int_equal(8080, a.port);
  assert_int_equal(8080, ntohs(in->sin_port));
  assert_int_equal(INADDR_LOOPBACK, ntohl(in->sin_addr.s_addr));
}

static void takes_a_star_or_nothing_for_all_ipv4_addresses(void **state) {
  (void)state;
  assert_int_equal(0, pl__address_parse(":80", &a));
  pl__address_format(&a, text, sizeof(text));
  assert_string_equal("http://0.0.0.0:80", text);
  assert_int_equal(0, pl__address_parse("*:80", &a));
  assert_int_equal(AF_INET, a.family);
}

static void reads_ipv6_in_brackets(void **state) {
  (void)state;
  assert_int_equal(0, pl__address_parse("[::1]:1", &a));
  assert_int_equal(AF_INET6, a.family);
  pl__address_format(&a, text, sizeof(text));
  assert_string_equal("http://[::1]:1", text);
}

static void reads_unix_paths(void **state) {
  (void)state;
  assert_int_equal(0, pl__address_parse("unix:/tmp/x", &a));
  assert_int_equal(AF_UNIX, a.family);
  assert_string_equal("/tmp/x",
                      ((const struct sockaddr_un *)&a.storage)->sun_path);
  pl__address_format(&a, text, sizeof(text));
  assert_string_equal("unix:/tmp/x", text);
}

static void changes_the_port_in_both_places(void **state) {
  (void)state;
  assert_int_equal(0, pl__address_parse("[::1]:0", &a));
  pl__address_set_port(&a, 4711);
  assert_int_equal(4711, a.port);
  assert_int_equal(4711,
                   ntohs(((const struct sockaddr_in6 *)&a.storage)->sin6_port));
}

static void refuses_what_is_no_address(void **state) {
  static const char *const bad[] = {
      "",          "8080",        "127.0.0.1",     "127.0.0.1:",
      "1.2.3.4:x", "1.2.3.4:-1",  "1.2.3.4:65536", "1.2.3.4:008080",
      "host:80",   "::1:80",      "[::1]",         "[::1:80",
      "[nope]:80", "unix:",       "unix:/",        "unix:relative",
      "1.2.3:80",  "1.2.3.4:8 0", " 1.2.3.4:80",   "[]:80"};

  (void)state;
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    if (pl__address_parse(bad[i], &a) != PL_EINVAL)
      fail_msg("\"%s\" was taken", bad[i]);
}

static void refuses_texts_longer_than_it_keeps(void **state) {
  char path[300];

  (void)state;
  memset(path, 'x', sizeof(path));
  memcpy(path, "unix:/", 6);
  path[6 + 107] = '\0'; /* one more than sun_path holds */
  assert_int_equal(PL_EINVAL, pl__address_parse(path, &a));
  path[5 + 107] = '\0';
  assert_int_equal(0, pl__address_parse(path, &a));
  path[5 + 107] = 'x';
  path[299] = '\0';
  assert_int_equal(PL_EINVAL, pl__address_parse(path, &a));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_ipv4_with_a_port),
      cmocka_unit_test(takes_a_star_or_nothing_for_all_ipv4_addresses),
      cmocka_unit_test(reads_ipv6_in_brackets),
      cmocka_unit_test(reads_unix_paths),
      cmocka_unit_test(changes_the_port_in_both_places),
      cmocka_unit_test(refuses_what_is_no_address),
      cmocka_unit_test(refuses_texts_longer_than_it_keeps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
