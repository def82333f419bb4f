/* test/net/test_listener.c - real sockets on the loopback: accepting up to the
 * limit, with no descriptors left, connections over net/socket.c, and those that
 * are handed over as HTTP/2.
 */
#define _GNU_SOURCE /* accept4, SOCK_NONBLOCK */
#include "base/alloc.h"
#include "http/encode.h"
#include "net/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLABS 4

struct fixture {
  uv_loop_t loop;
  struct pl_net net;
  struct pl_slabs slabs;
  struct pl_buf_pool buffers;
  struct pl_listener listener;
  void *section;
  int fd;
  struct sockaddr_in address;
  struct pl_req *queue[SLABS];
  uint32_t queued, ended, closed;
  uint32_t reply_bytes;
  int handed_fd; /* of a connection of HTTP/2 */
  char handed[64];
};

static void on_head(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)arg, (void)c;
  req->body_max = 1e6;
}

static void on_request(void *arg, struct pl_conn *c, struct pl_req *req) {
  struct fixture *f = arg;

  (void)c;
  f->queue[f->queued++] = req;
}

static void on_news(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)arg, (void)c, (void)req;
}

static void on_end(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)c, (void)req;
  ((struct fixture *)arg)->ended++;
}

static void on_closed(void *arg, struct pl_conn *c) {
  struct fixture *f = arg;

  (void)c;
  f->closed++;
  pl__listener_resume(&f->listener);
}

static const struct pl_conn_events events = {
    on_head, on_request, on_news, on_news, on_news, NULL, on_end, on_closed};

/* One turn of the loop, and what a worker would do after it. */
static void turn(struct fixture *f) {
  static char body[3000000];

  uv_run(&f->loop, UV_RUN_NOWAIT);
  pl__net_expire(&f->net);
  while (f->queued) {
    struct pl_req *req = f->queue[--f->queued];
    if (!pl__conn_is_lost(req->conn) && f->reply_bytes) {
      pl__encode_head(req, 200, PL_SLICE(""), f->reply_bytes);
      req->flags |= PL_REQ_DONE;
      pl__buf_append(req->out, body, f->reply_bytes);
    } else if (!pl__conn_is_lost(req->conn)) {
      pl__encode_reply(req, 200, PL_SLICE(""), PL_SLICE("hello"));
    }
    pl__conn_end(req->conn);
  }
  pl__net_flush(&f->net);
}

static void turns(struct fixture *f, int count) {
  for (int i = 0; i < count; i++) {
    turn(f);
    usleep(200);
  }
}

static int set_up(void **state) {
  struct fixture *f = pl__alloc_zero(sizeof *f);
  struct pl_net_limits limits = {.seconds = {10, 10, 60, 10, 2},
                                 .output_bytes = 4000000,
                                 .parser = {8192, 32768, 100},
                                 .connections_max = 2};
  uint32_t bytes = pl__net_slab_bytes(&limits);
  socklen_t size = sizeof f->address;

  assert_non_null(f);
  assert_int_equal(uv_loop_init(&f->loop), 0);
  f->section = mmap(NULL, (size_t)bytes * SLABS, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_int_equal(pl__slabs_init(&f->slabs, f->section, bytes, SLABS), 0);
  pl__buf_pool_init(&f->buffers);
  assert_int_equal(
      pl__net_init(&f->net, &limits, &events, f, &f->slabs, &f->buffers, 7), 0);
  pl__http_env_init(&f->net.env, 0);
  f->net.now = 100;
  f->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  f->address.sin_family = AF_INET;
  f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  assert_int_equal(
      bind(f->fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
  getsockname(f->fd, (struct sockaddr *)&f->address, &size);
  assert_int_equal(listen(f->fd, 64), 0);
  assert_int_equal(pl__listener_open(&f->listener, &f->net, &f->loop, f->fd, 3),
                   0);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;

  f->net.limits.connections_max = 0; /* accept nothing more */
  pl__listener_close(&f->listener);
  close(f->fd);
  pl__net_close_all(&f->net);
  turns(f, 5);
  assert_int_equal(f->net.conn_count, 0);
  assert_int_equal(f->slabs.in_use, 0);
  assert_int_equal(uv_loop_close(&f->loop), 0);
  munmap(f->section, (size_t)f->slabs.slab_bytes * SLABS);
  pl__net_deinit(&f->net);
  pl__slabs_deinit(&f->slabs);
  pl__buf_pool_deinit(&f->buffers);
  pl__free(f);
  return 0;
}

static int dial(struct fixture *f) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  assert_true(fd >= 0);
  assert_int_equal(
      connect(fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

static void say(int fd, const char *text) {
  assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
                   (int)strlen(text));
}

/* Bytes received until nothing comes for a while; *end: 0, or errno. */
static size_t hear(struct fixture *f, int fd, char *to, size_t room, int *end) {
  size_t got = 0;

  *end = EAGAIN;
  for (int quiet = 0; quiet < 20 && got < room;) {
    ssize_t n = recv(fd, to + got, room - got, 0);
    if (n > 0) {
      got += (size_t)n;
      quiet = 0;
    } else if (n == 0 || errno != EAGAIN) {
      *end = n == 0 ? 0 : errno;
      break;
    } else {
      turns(f, 1);
      quiet++;
    }
  }
  return got;
}

static void assert_hello(struct fixture *f, int fd) {
  char text[1024];
  int end;
  size_t n;

  say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  n = hear(f, fd, text, sizeof text - 1, &end);
  text[n] = '\0';
  assert_non_null(strstr(text, "hello"));
  assert_int_equal(end, EAGAIN);
}

static void serves_a_socket(void **state) {
  struct fixture *f = *state;
  int fd = dial(f);

  assert_hello(f, fd);
  assert_hello(f, fd);
  assert_int_equal(f->ended, 2);
  close(fd);
  turns(f, 5);
  assert_int_equal(f->closed, 1);
}

static void knows_the_peer_and_the_listener(void **state) {
  struct fixture *f = *state;
  int fd = dial(f);
  struct pl_req *req;
  char text[64];

  say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  for (int i = 0; i < 50 && !f->queued; i++)
    uv_run(&f->loop, UV_RUN_NOWAIT);
  assert_int_equal(f->queued, 1);
  req = f->queue[0];
  assert_int_equal(req->listener, 3);
  uint32_t n = pl__peer_text(pl__conn_peer(req->conn), text);
  assert_int_equal(n, 9);
  assert_memory_equal(text, "127.0.0.1", 9);
  turn(f);
  close(fd);
}

static void stops_at_its_limit_and_goes_on_when_one_has_gone(void **state) {
  struct fixture *f = *state;
  int one = dial(f), two = dial(f), three = dial(f);

  turns(f, 5);
  assert_int_equal(f->net.conn_count, 2);
  assert_false(f->listener.watching);
  close(one);
  turns(f, 10);
  assert_int_equal(f->net.conn_count, 2);
  assert_hello(f, three);
  close(two);
  close(three);
}

static void notices_a_reset_while_idle(void **state) {
  struct fixture *f = *state;
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  int fd = dial(f);

  assert_hello(f, fd);
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(fd);
  turns(f, 10);
  assert_int_equal(f->net.conn_count, 0);
}

static void sends_more_than_a_socket_takes_at_once(void **state) {
  struct fixture *f = *state;
  char *text = pl__alloc(4000000);
  int bytes = 65536, fd, end;
  size_t n;

  setsockopt(f->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  fd = dial(f);

  f->reply_bytes = 2900000;
  say(fd, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  turns(f, 20);
  assert_int_equal(f->net.conn_count, 1); /* it waits for the reader */
  n = hear(f, fd, text, 4000000, &end);
  assert_true(n > 2900000);
  assert_int_equal(end, 0);
  close(fd);
  pl__free(text);
}

static void lingers_so_that_a_refusal_can_be_read(void **state) {
  struct fixture *f = *state;
  char text[2048];
  int fd = dial(f), end;
  size_t n;

  say(fd, "GET /\nand more that nobody reads\n");
  turns(f, 5);
  say(fd, "and more still");
  n = hear(f, fd, text, sizeof text - 1, &end);
  text[n] = '\0';
  assert_non_null(strstr(text, "HTTP/1.1 400 "));
  assert_int_equal(end, 0); /* no reset */
  close(fd);
  turns(f, 5);
  assert_int_equal(f->net.conn_count, 0);
}

static void accepts_what_is_queued_when_it_closes(void **state) {
  struct fixture *f = *state;
  int one = dial(f), two = dial(f);

  pl__listener_close(&f->listener);
  assert_int_equal(f->net.conn_count, 2);
  assert_hello(f, one);
  assert_hello(f, two);
  close(one);
  close(two);
}

/* --- HTTP/2 ------------------------------------------------------------- */

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static void on_h2(void *arg, int fd, struct pl_slice first) {
  struct fixture *f = arg;

  f->handed_fd = fd;
  memcpy(f->handed, first.at, first.bytes);
}

static void serve_h2(struct fixture *f) {
  f->handed_fd = -1;
  f->net.on_h2 = on_h2;
  f->net.h2_arg = f;
}

static void assert_handed_over(struct fixture *f, int fd, const char *first) {
  char byte = 0;

  turns(f, 10);
  assert_string_equal(first, f->handed);
  assert_int_equal(0, f->net.conn_count);
  assert_int_equal(0, f->slabs.in_use);
  assert_int_equal(0, f->ended);
  assert_int_equal(1, send(f->handed_fd, "x", 1, MSG_NOSIGNAL));
  assert_int_equal(1, recv(fd, &byte, 1, MSG_WAITALL));
  assert_int_equal('x', byte);
  close(f->handed_fd);
  close(fd);
}

static void hands_over_what_begins_with_the_preface(void **state) {
  struct fixture *f = *state;
  int fd = dial(f);

  serve_h2(f);
  say(fd, PREFACE "and more");
  assert_handed_over(f, fd, PREFACE "and more");
}

static void hands_over_a_preface_that_comes_byte_by_byte(void **state) {
  struct fixture *f = *state;
  int fd = dial(f);
  char byte[2] = {0};

  serve_h2(f);
  for (const char *at = PREFACE; *at; at++) {
    assert_int_equal(-1, f->handed_fd);
    byte[0] = *at;
    say(fd, byte);
    turns(f, 2);
  }
  assert_handed_over(f, fd, PREFACE);
}

static void serves_http_1_beside_http_2(void **state) {
  struct fixture *f = *state;
  int fd = dial(f);
  char text[1024];
  int end;

  serve_h2(f);
  say(fd, "P"); /* of PUT as well as of PRI */
  turns(f, 5);
  say(fd, "UT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
  text[hear(f, fd, text, sizeof text - 1, &end)] = '\0';
  assert_non_null(strstr(text, "hello"));
  say(fd, PREFACE); /* too late */
  text[hear(f, fd, text, sizeof text - 1, &end)] = '\0';
  assert_non_null(strstr(text, "HTTP/1.1 "));
  assert_int_equal(-1, f->handed_fd);
  close(fd);
}

static void waits_for_a_preface_only_as_long_as_for_a_head(void **state) {
  struct fixture *f = *state;
  int fd = dial(f), end;
  char text[1024];

  serve_h2(f);
  say(fd, "PRI * HTTP/2");
  turns(f, 5);
  f->net.now += 11;
  text[hear(f, fd, text, sizeof text - 1, &end)] = '\0';
  assert_non_null(strstr(text, "HTTP/1.1 408 "));
  close(fd);
}

static void refuses_the_preface_where_http_2_is_not_served(void **state) {
  struct fixture *f = *state;
  int fd = dial(f), end;
  char text[1024];

  say(fd, PREFACE);
  text[hear(f, fd, text, sizeof text - 1, &end)] = '\0';
  assert_non_null(strstr(text, "HTTP/1.1 "));
  assert_null(strstr(text, "HTTP/1.1 2"));
  close(fd);
}

/* In a process of its own: the limit of descriptors cannot be raised again. */
static int without_descriptors(struct fixture *f) {
  struct rlimit limit = {64, 64};
  int fds[64], count = 0, fd = dial(f);

  if (setrlimit(RLIMIT_NOFILE, &limit))
    return 10;
  while (count < 64 && (fds[count] = dup(0)) >= 0)
    count++;
  turns(f, 5);
  if (f->net.conn_count != 0 || f->listener.watching || !f->listener.starved)
    return 11;
  pl__listener_resume(&f->listener); /* as the worker's timer does */
  turns(f, 5);
  if (f->net.conn_count != 0 || f->listener.watching)
    return 12;
  while (count)
    close(fds[--count]);
  pl__listener_resume(&f->listener);
  turns(f, 5);
  if (f->net.conn_count != 1)
    return 13;
  say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  turns(f, 10);
  return f->ended == 1 ? 0 : 14;
}

static void waits_for_descriptors_when_they_are_used_up(void **state) {
  struct fixture *f = *state;
  int status = 0;
  pid_t pid;

  pid = fork();
  if (pid == 0) {
    uv_loop_fork(&f->loop);
    _exit(without_descriptors(f));
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(serves_a_socket),
      CASE(knows_the_peer_and_the_listener),
      CASE(stops_at_its_limit_and_goes_on_when_one_has_gone),
      CASE(notices_a_reset_while_idle),
      CASE(sends_more_than_a_socket_takes_at_once),
      CASE(lingers_so_that_a_refusal_can_be_read),
      CASE(accepts_what_is_queued_when_it_closes),
      CASE(hands_over_what_begins_with_the_preface),
      CASE(hands_over_a_preface_that_comes_byte_by_byte),
      CASE(serves_http_1_beside_http_2),
      CASE(waits_for_a_preface_only_as_long_as_for_a_head),
      CASE(refuses_the_preface_where_http_2_is_not_served),
      CASE(waits_for_descriptors_when_they_are_used_up),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
