/* test/server/test_listeners.c - listening sockets of several workers. */
#include "server/listeners.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

static char error[PL_LISTENERS_ERROR_BYTES];
static char path[64];

static struct pl_address address(const char *text) {
  struct pl_address a;
  assert_int_equal(0, pl__address_parse(text, &a));
  return a;
}

static struct pl_address unix_address(void) {
  char text[80];

  snprintf(path, sizeof(path), "/tmp/pl-listeners-%ld", (long)getpid());
  unlink(path);
  snprintf(text, sizeof(text), "unix:%s", path);
  return address(text);
}

static int connect_to(const struct pl_address *a) {
  int fd = socket(a->family, SOCK_STREAM, 0);
  int code =
      connect(fd, (const struct sockaddr *)&a->storage, a->bytes) ? errno : 0;
  close(fd);
  return code;
}

/* As the master does it for workers that begin at once. */
static int open_and_listen(struct pl_listeners *l, const struct pl_address *a,
                           uint32_t address_count, uint32_t workers) {
  int status = pl__listeners_open(l, a, address_count, workers, NULL, error);

  for (uint32_t i = 0; i < workers && !status; i++)
    status = pl__listeners_listen(l, i);
  return status;
}

static void gives_each_worker_a_socket_on_one_port(void **state) {
  struct pl_address a = address("127.0.0.1:0");
  struct pl_listeners l;

  (void)state;
  assert_int_equal(0, open_and_listen(&l, &a, 1, 3));
  assert_true(l.addresses[0].port != 0);
  for (uint32_t i = 0; i < 3; i++) {
    struct pl_address bound = {.bytes = sizeof(bound.storage)};
    int fd = pl__listeners_of(&l, i)[0];

    assert_int_equal(
        0, getsockname(fd, (struct sockaddr *)&bound.storage, &bound.bytes));
    assert_memory_equal(&bound.storage, &l.addresses[0].storage, bound.bytes);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(i == 0 || fd != pl__listeners_of(&l, i - 1)[0]);
  }
  assert_int_equal(0, connect_to(&l.addresses[0]));
  pl__listeners_close(&l);
}

static void refuses_a_port_where_somebody_listens(void **state) {
  struct pl_address a = address("127.0.0.1:0");
  struct pl_listeners one, two;

  (void)state;
  assert_int_equal(0, open_and_listen(&one, &a, 1, 2));
  a = one.addresses[0];
  assert_int_equal(PL_EBIND, open_and_listen(&two, &a, 1, 2));
  assert_non_null(strstr(error, "in use"));
  pl__listeners_close(&one);
  assert_int_equal(0, open_and_listen(&two, &a, 1, 2));
  pl__listeners_close(&two);
}

static void refuses_an_address_of_another_machine(void **state) {
  struct pl_address a = address("192.0.2.1:8080"); /* RFC 5737: nobody's */
  struct pl_listeners l;

  (void)state;
  assert_int_equal(PL_EBIND, open_and_listen(&l, &a, 1, 1));
  assert_non_null(strstr(error, "192.0.2.1:8080"));
}

static void forgets_all_sockets_in_a_child(void **state) {
  struct pl_address list[2] = {unix_address(), address("127.0.0.1:0")};
  struct pl_listeners l;
  int fds[2];

  (void)state;
  assert_int_equal(0, open_and_listen(&l, list, 2, 2));
  assert_true(pl__listeners_is_shared(&l, 0));
  assert_false(pl__listeners_is_shared(&l, 1));
  memcpy(fds, pl__listeners_of(&l, 1), sizeof fds);
  pl__listeners_forget(&l);
  for (size_t i = 0; i < 2; i++)
    assert_int_equal(-1, fcntl(fds[i], F_GETFD));
  assert_int_equal(-1, pl__listeners_of(&l, 0)[1]);
  assert_int_equal(0, access(path, F_OK)); /* the master removes it */
  unlink(path);
  pl__listeners_close(&l);
}

static void shares_one_unix_socket_and_removes_its_file(void **state) {
  struct pl_address a = unix_address();
  struct pl_listeners l;

  (void)state;
  assert_int_equal(0, open_and_listen(&l, &a, 1, 2));
  assert_int_equal(pl__listeners_of(&l, 0)[0], pl__listeners_of(&l, 1)[0]);
  assert_int_equal(0, connect_to(&a));
  pl__listeners_stop(&l);
  assert_int_equal(-1, access(path, F_OK));
  pl__listeners_stop(&l);
  pl__listeners_close(&l);
}

static void takes_over_a_unix_socket_nobody_answers_at(void **state) {
  struct pl_address a = unix_address();
  struct pl_listeners l;
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);

  (void)state;
  assert_int_equal(0, bind(fd, (const struct sockaddr *)&a.storage, a.bytes));
  close(fd); /* the file stays */
  assert_int_equal(0, access(path, F_OK));
  assert_int_equal(0, open_and_listen(&l, &a, 1, 1));
  assert_int_equal(0, connect_to(&a));
  pl__listeners_close(&l);
}

static void leaves_a_unix_socket_alone_that_is_served(void **state) {
  struct pl_address a = unix_address();
  struct pl_listeners one, two;

  (void)state;
  assert_int_equal(0, open_and_listen(&one, &a, 1, 1));
  assert_int_equal(PL_EBIND, open_and_listen(&two, &a, 1, 1));
  assert_int_equal(0, connect_to(&a));
  pl__listeners_close(&one);
}

static void leaves_a_file_alone_that_is_no_socket(void **state) {
  struct pl_address a = unix_address();
  struct pl_listeners l;
  int fd = open(path, O_CREAT | O_WRONLY, 0600);

  (void)state;
  assert_true(fd >= 0);
  close(fd);
  assert_int_equal(PL_EBIND, open_and_listen(&l, &a, 1, 1));
  assert_int_equal(0, access(path, F_OK));
  unlink(path);
}

static void opens_none_when_one_fails(void **state) {
  struct pl_address list[2] = {unix_address(), address("192.0.2.1:1")};
  struct pl_listeners l;

  (void)state;
  assert_int_equal(PL_EBIND, open_and_listen(&l, list, 2, 2));
  assert_int_equal(-1, access(path, F_OK));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_each_worker_a_socket_on_one_port),
      cmocka_unit_test(refuses_a_port_where_somebody_listens),
      cmocka_unit_test(refuses_an_address_of_another_machine),
      cmocka_unit_test(forgets_all_sockets_in_a_child),
      cmocka_unit_test(shares_one_unix_socket_and_removes_its_file),
      cmocka_unit_test(takes_over_a_unix_socket_nobody_answers_at),
      cmocka_unit_test(leaves_a_unix_socket_alone_that_is_served),
      cmocka_unit_test(leaves_a_file_alone_that_is_no_socket),
      cmocka_unit_test(opens_none_when_one_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
