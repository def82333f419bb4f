/* test/server/test_post.c - the client against a server on the same loop that
 * says what each case wants. */
#include "server/post.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"

#define PATIENCE_MS 5000
#define SHARED_MS 2000 /* by two addresses */
#define PUBLIC __attribute__((visibility("default")))
#define TWO_NAMES "two.test" /* leads to 127.0.0.2, and to the server */
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

/* One connection that the server has. */
struct peer {
  uv_tcp_t tcp;
  uv_write_t write;
  char in[1 << 16];
  size_t bytes;
};

static uv_loop_t loop;
static uv_tcp_t server;
static struct pl_post post;
static char body[16 << 20];

static const char *replies[8]; /* to each request; NULL: silence */
static bool ends;              /* the server closes behind a reply */
static bool is_eager;          /* and does not wait for a body */
static unsigned request_count, peer_count, end_count;
static int failed;
static unsigned status;
static char last_head[4096];

/* --- names: libuv finds these before the C library's ------------------------ */

struct found {
  struct addrinfo info;
  struct sockaddr_in address;
};

static struct addrinfo *found_new(const char *text, const char *port,
                                  struct addrinfo *next) {
  struct found *f = pl__alloc_zero(sizeof *f);

  f->address.sin_family = AF_INET;
  f->address.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
  inet_pton(AF_INET, text, &f->address.sin_addr);
  f->info = (struct addrinfo){.ai_family = AF_INET,
                              .ai_socktype = SOCK_STREAM,
                              .ai_addrlen = sizeof f->address,
                              .ai_addr = (struct sockaddr *)&f->address,
                              .ai_next = next};
  return &f->info;
}

PUBLIC int getaddrinfo(const char *name, const char *port,
                       const struct addrinfo *hints, struct addrinfo **out) {
  (void)hints;
  if (strcmp(name, TWO_NAMES) != 0 && strcmp(name, "127.0.0.1") != 0)
    return EAI_NONAME;
  *out = found_new("127.0.0.1", port, NULL);
  if (strcmp(name, TWO_NAMES) == 0)
    *out = found_new("127.0.0.2", port, *out);
  return 0;
}

PUBLIC void freeaddrinfo(struct addrinfo *list) {
  while (list) {
    struct addrinfo *next = list->ai_next;
    pl__free(list);
    list = next;
  }
}

/* --- the server ------------------------------------------------------------- */

static void on_peer_closed(uv_handle_t *handle) { pl__free(handle->data); }

static void on_peer_written(uv_write_t *write, int error) {
  struct peer *p = write->data;

  (void)error;
  if (ends && !uv_is_closing((uv_handle_t *)&p->tcp))
    uv_close((uv_handle_t *)&p->tcp, on_peer_closed);
}

static void on_peer_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out) {
  struct peer *p = handle->data;

  (void)wanted;
  *out = uv_buf_init(p->in + p->bytes, (unsigned)(sizeof p->in - 1 - p->bytes));
}

static void on_peer_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct peer *p = stream->data;
  const char *length, *rest;
  uv_buf_t reply;

  (void)buf;
  if (is_eager && request_count) /* what is left is not read */
    uv_read_stop(stream);
  if (n < 0) {
    if (!uv_is_closing((uv_handle_t *)stream))
      uv_close((uv_handle_t *)stream, on_peer_closed);
    return;
  }
  p->bytes += (size_t)n;
  p->in[p->bytes] = '\0';
  rest = strstr(p->in, "\r\n\r\n");
  length = strstr(p->in, "Content-Length: ");
  if (!rest || (is_eager && request_count))
    return;
  if (!is_eager &&
      strtoul(length + 16, NULL, 10) > p->bytes - (size_t)(rest + 4 - p->in))
    return;
  snprintf(last_head, sizeof last_head, "%.*s", (int)(rest - p->in), p->in);
  p->bytes = 0;
  reply = uv_buf_init((char *)(uintptr_t)replies[request_count], 0);
  request_count++;
  if (!reply.base)
    return;
  reply.len = strlen(reply.base);
  uv_write(&p->write, stream, &reply, 1, on_peer_written);
}

static void on_peer(uv_stream_t *listener, int error) {
  struct peer *p = pl__alloc_zero(sizeof *p);

  (void)error;
  peer_count++;
  uv_tcp_init(&loop, &p->tcp);
  p->tcp.data = p->write.data = p;
  uv_accept(listener, (uv_stream_t *)&p->tcp);
  uv_read_start((uv_stream_t *)&p->tcp, on_peer_alloc, on_peer_read);
}

static void on_end(void *arg, int error,
                   const struct pl_response_parser *answer) {
  (void)arg;
  failed = error;
  status = error ? 0 : answer->status;
  end_count++;
}

static int set_up(void **state) {
  struct sockaddr_in address;
  struct sockaddr_storage got;
  struct pl_endpoint to;
  int bytes = sizeof got;
  char text[64];

  (void)state;
  memset(replies, 0, sizeof replies);
  ends = is_eager = false;
  request_count = peer_count = end_count = 0;
  uv_loop_init(&loop);
  uv_tcp_init(&loop, &server);
  uv_ip4_addr("127.0.0.1", 0, &address);
  uv_tcp_bind(&server, (struct sockaddr *)&address, 0);
  uv_listen((uv_stream_t *)&server, 8, on_peer);
  uv_tcp_getsockname(&server, (struct sockaddr *)&got, &bytes);
  snprintf(text, sizeof text, "http://127.0.0.1:%u",
           (unsigned)ntohs(((struct sockaddr_in *)&got)->sin_port));
  if (pl__endpoint_parse(text, "/v1/logs", &to))
    return -1;
  pl__post_init(&post, &loop, &to, "api-key: k\r\n");
  return 0;
}

static void close_all(uv_handle_t *handle, void *arg) {
  (void)arg;
  if (!uv_is_closing(handle))
    uv_close(handle, handle->data ? on_peer_closed : NULL);
}

static int tear_down(void **state) {
  (void)state;
  pl__post_close(&post);
  uv_run(&loop, UV_RUN_NOWAIT);
  uv_walk(&loop, close_all, NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  return uv_loop_close(&loop);
}

static void send_within(uint32_t bytes, uint64_t timeout_ms) {
  unsigned before = end_count;

  pl__post_send(&post, pl__slice(body, bytes), false, timeout_ms, on_end, NULL);
  assert_int_equal(before, end_count);
  while (end_count == before)
    uv_run(&loop, UV_RUN_ONCE);
}

static void assert_answered(unsigned wanted) {
  send_within(10, PATIENCE_MS);
  assert_int_equal(0, failed);
  assert_int_equal(wanted, status);
}

/* Lets the loop see what comes by itself. */
static void rest_of(unsigned turns) {
  for (unsigned i = 0; i < turns; i++)
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void a_connection_is_used_again(void **state) {
  (void)state;
  replies[0] = replies[1] = replies[2] = OK;
  assert_answered(200);
  assert_non_null(
      strstr(last_head, "POST /v1/logs HTTP/1.1\r\nHost: 127.0.0."));
  assert_non_null(
      strstr(last_head, "\r\nContent-Type: application/x-protobuf"));
  assert_non_null(strstr(last_head, "\r\napi-key: k\r\n"));
  assert_null(strstr(last_head, "gzip"));
  assert_answered(200);
  assert_answered(200);
  assert_int_equal(1, peer_count);
}

static void one_that_was_closed_is_replaced_without_a_word(void **state) {
  (void)state;
  replies[0] = replies[1] = OK;
  ends = true; /* without having said so */
  assert_answered(200);
  assert_answered(200);
  rest_of(20);
  assert_int_equal(2, peer_count);
}

static void an_end_before_the_answer_fails(void **state) {
  (void)state;
  replies[0] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
  ends = true;
  send_within(10, PATIENCE_MS);
  assert_int_equal(PL_EGONE, failed);
  replies[1] = OK;
  assert_answered(200);
}

static void what_is_no_answer_fails(void **state) {
  (void)state;
  replies[0] = "SSH-2.0-x\r\n";
  send_within(10, PATIENCE_MS);
  assert_int_equal(PL_EBAD, failed);
}

static void silence_ends_at_its_time(void **state) {
  (void)state;
  replies[1] = OK;
  send_within(10, 50);
  assert_int_equal(PL_ETIMEOUT, failed);
  assert_answered(200);
  assert_int_equal(2, peer_count);
}

static void an_answer_before_the_end_of_a_large_request_counts(void **state) {
  (void)state;
  replies[0] = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
  replies[1] = OK;
  is_eager = true;
  send_within(sizeof body, PATIENCE_MS);
  assert_int_equal(0, failed);
  assert_int_equal(413, status);
  assert_null(post.conn); /* half a request is in it */
}

static void nobody_there_fails(void **state) {
  (void)state;
  uv_close((uv_handle_t *)&server, NULL);
  uv_run(&loop, UV_RUN_NOWAIT);
  send_within(10, PATIENCE_MS);
  assert_int_equal(UV_ECONNREFUSED, failed);
}

static void a_name_that_is_none_fails(void **state) {
  (void)state;
  snprintf(post.to.host, sizeof post.to.host, "no-such-host.invalid");
  send_within(10, PATIENCE_MS);
  assert_true(failed < 0);
}

/* --- several addresses ------------------------------------------------------- */

/* Listens on 127.0.0.2 and never answers; with no room for connections, these
 * are not even made. */
static int swallow(int fill[], unsigned fill_count) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  int fd = socket(AF_INET, SOCK_STREAM, 0);

  to.sin_port = htons((uint16_t)strtoul(post.to.port, NULL, 10));
  inet_pton(AF_INET, "127.0.0.2", &to.sin_addr);
  assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof to), 0);
  assert_int_equal(listen(fd, fill_count ? 0 : 8), 0);
  for (unsigned i = 0; i < fill_count; i++) {
    fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(fill[i], (struct sockaddr *)&to, sizeof to);
  }
  snprintf(post.to.host, sizeof post.to.host, TWO_NAMES);
  return fd;
}

static void an_address_that_says_nothing_leaves_time_for_others(void **state) {
  int fd = swallow(NULL, 0);

  (void)state;
  replies[0] = replies[1] = OK;
  send_within(10, SHARED_MS);
  assert_int_equal(0, failed);
  assert_int_equal(1, peer_count);
  close(fd);
}

static void
an_address_that_swallows_connections_leaves_time_for_others(void **state) {
  int fill[4], fd = swallow(fill, 4);

  (void)state;
  replies[0] = OK;
  send_within(10, SHARED_MS);
  assert_int_equal(0, failed);
  for (unsigned i = 0; i < 4; i++)
    close(fill[i]);
  close(fd);
}

static void
the_address_that_has_answered_is_the_first_to_be_tried(void **state) {
  int fd = swallow(NULL, 0);
  uint64_t began;

  (void)state;
  ends = true;
  replies[0] = replies[1] = OK;
  send_within(10, SHARED_MS);
  assert_int_equal(0, failed); /* after half of the time */
  rest_of(20);
  assert_null(post.conn);
  uv_update_time(&loop);
  began = uv_now(&loop);
  send_within(10, SHARED_MS);
  assert_int_equal(0, failed);
  assert_true(uv_now(&loop) - began < SHARED_MS / 2);
  close(fd);
}

static void all_that_say_nothing_end_at_the_time_of_all(void **state) {
  int fd = swallow(NULL, 0);
  uint64_t began = uv_now(&loop);

  (void)state;
  send_within(10, 200);
  assert_int_equal(PL_ETIMEOUT, failed);
  assert_int_equal(1, request_count); /* both were tried */
  assert_true(uv_now(&loop) - began >= 200);
  close(fd);
}

static void closing_gives_up_what_is_under_way(void **state) {
  (void)state;
  pl__post_send(&post, pl__slice(body, 10), false, PATIENCE_MS, on_end, NULL);
  for (int i = 0; i < 100 && !request_count; i++)
    uv_run(&loop, UV_RUN_ONCE);
  assert_int_equal(1, request_count);
  assert_int_equal(0, end_count);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_connection_is_used_again),
      TEST(one_that_was_closed_is_replaced_without_a_word),
      TEST(an_end_before_the_answer_fails),
      TEST(what_is_no_answer_fails),
      TEST(silence_ends_at_its_time),
      TEST(an_answer_before_the_end_of_a_large_request_counts),
      TEST(nobody_there_fails),
      TEST(a_name_that_is_none_fails),
      TEST(an_address_that_says_nothing_leaves_time_for_others),
      TEST(an_address_that_swallows_connections_leaves_time_for_others),
      TEST(the_address_that_has_answered_is_the_first_to_be_tried),
      TEST(all_that_say_nothing_end_at_the_time_of_all),
      TEST(closing_gives_up_what_is_under_way),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
