/* test/server/test_grpc_conns.c - gRPC health over real sockets: from a listener
 * that serves HTTP/1 as well, to clients that are many, gone, or slow.
 */
#include "base/alloc.h"
#include "net/listener.h"
#include "server/grpc_conns.h"
#include "test/net/h2_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLABS 4
#define HEALTH "/grpc.health.v1.Health/"

struct fixture {
  uv_loop_t loop;
  struct pl_net net;
  struct pl_slabs slabs;
  struct pl_buf_pool buffers;
  struct pl_listener listener;
  struct pl_grpc_conns *conns;
  void *section;
  int fd;
  struct sockaddr_in address;
  int status; /* of every service */
};

/* --- what the connections of HTTP/1 tell: nothing of it matters ---------- */

static void on_news(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)arg, (void)c, (void)req;
}

static void on_conn_closed(void *arg, struct pl_conn *c) {
  (void)c;
  pl__listener_resume(&((struct fixture *)arg)->listener);
}

static const struct pl_conn_events events = {
    on_news, on_news, on_news, on_news, on_news, NULL, on_news, on_conn_closed};

static int source_status(void *arg, struct pl_slice service) {
  (void)service;
  return ((struct fixture *)arg)->status;
}

/* --- a server ------------------------------------------------------------ */

static void turn(struct fixture *f) {
  uv_run(&f->loop, UV_RUN_NOWAIT);
  pl__net_expire(&f->net);
  pl__net_flush(&f->net);
}

static void listen_on_loopback(struct fixture *f) {
  socklen_t size = sizeof f->address;

  f->fd = socket(AF_INET, SOCK_STREAM, 0);
  fcntl(f->fd, F_SETFL, O_NONBLOCK);
  f->address.sin_family = AF_INET;
  f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  assert_int_equal(
      0, bind(f->fd, (struct sockaddr *)&f->address, sizeof f->address));
  getsockname(f->fd, (struct sockaddr *)&f->address, &size);
  assert_int_equal(0, listen(f->fd, 128));
  assert_int_equal(
      0, pl__listener_open(&f->listener, &f->net, &f->loop, f->fd, 0));
}

static int set_up(void **state) {
  struct fixture *f = pl__alloc_zero(sizeof *f);
  struct pl_grpc_health_source source = {.status = source_status, .arg = f};
  struct pl_net_limits limits = {.seconds = {10, 10, 60, 10, 2},
                                 .output_bytes = 100000,
                                 .parser = {8192, 32768, 100},
                                 .connections_max = SLABS};
  uint32_t bytes = pl__net_slab_bytes(&limits);

  assert_int_equal(0, uv_loop_init(&f->loop));
  f->section = mmap(NULL, (size_t)bytes * SLABS, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_int_equal(0, pl__slabs_init(&f->slabs, f->section, bytes, SLABS));
  pl__buf_pool_init(&f->buffers);
  assert_int_equal(
      0, pl__net_init(&f->net, &limits, &events, f, &f->slabs, &f->buffers, 7));
  pl__http_env_init(&f->net.env, 0);
  f->conns = pl__alloc(sizeof *f->conns);
  pl__grpc_conns_open(f->conns, &f->loop, &source);
  f->net.on_h2 = pl__grpc_conns_take;
  f->net.h2_arg = f->conns;
  f->status = PL_GRPC_SERVING;
  listen_on_loopback(f);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;

  pl__listener_close(&f->listener);
  close(f->fd);
  pl__net_close_all(&f->net);
  pl__grpc_conns_close(f->conns);
  uv_run(&f->loop, UV_RUN_DEFAULT);
  assert_int_equal(0, f->conns->count);
  assert_int_equal(0, f->net.conn_count);
  assert_int_equal(0, uv_loop_close(&f->loop));
  munmap(f->section, (size_t)f->slabs.slab_bytes * SLABS);
  pl__net_deinit(&f->net);
  pl__slabs_deinit(&f->slabs);
  pl__buf_pool_deinit(&f->buffers);
  pl__free(f->conns);
  pl__free(f);
  return 0;
}

/* --- clients -------------------------------------------------------------- */

static struct h2_client *client_new(struct fixture *f) {
  struct h2_client *c = pl__alloc(sizeof *c);

  h2_client_open(c, NULL);
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(
      0, connect(c->fd, (struct sockaddr *)&f->address, sizeof f->address));
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  return c;
}

static void client_free(struct h2_client *c) {
  close(c->fd);
  h2_client_close(c);
  pl__free(c);
}

static struct h2_answer *submit(struct h2_client *c, const char *method,
                                const char *timeout) {
  const char *const fields[] = {"content-type", "application/grpc",
                                timeout ? "grpc-timeout" : NULL, timeout, NULL};
  struct h2_upload nothing = {.at = "\0\0\0\0\0", .bytes = 5, .total = 5};

  return &c->answers[h2_client_submit(c, method, fields, nothing)];
}

/* Until the condition holds, or far too long. */
#define UNTIL(f, c, condition)                                                 \
  for (int waited = 0; !(condition); waited++) {                               \
    assert_true(waited < 20000);                                               \
    h2_client_pump(c);                                                         \
    turn(f);                                                                   \
    usleep(100);                                                               \
  }

/* The last message of the answer. */
static int last_status(const struct h2_answer *a) {
  return a->body_bytes < 7 ? -1 : a->body[a->body_bytes - 1];
}

/* --- calls ----------------------------------------------------------------- */

static void answers_checks_over_one_connection(void **state) {
  struct fixture *f = *state;
  struct h2_client *c = client_new(f);

  for (int i = 0; i < 50; i++) {
    struct h2_answer *a = submit(c, HEALTH "Check", NULL);
    UNTIL(f, c, a->closed);
    assert_int_equal(PL_GRPC_SERVING, last_status(a));
    assert_non_null(strstr(a->fields, "grpc-status: 0\n"));
  }
  assert_int_equal(1, f->conns->count);
  assert_int_equal(0, f->net.conn_count); /* handed over */
  client_free(c);
  for (int i = 0; i < 1000 && f->conns->count; i++, usleep(100))
    turn(f);
  assert_int_equal(0, f->conns->count);
  assert_false(uv_is_active((uv_handle_t *)&f->conns->timer));
}

static void pushes_changes_to_watchers_of_all_connections(void **state) {
  struct fixture *f = *state;
  struct h2_client *c[3];
  struct h2_answer *a[3];

  for (int i = 0; i < 3; i++) {
    c[i] = client_new(f);
    a[i] = submit(c[i], HEALTH "Watch", NULL);
    UNTIL(f, c[i], a[i]->body_bytes == 7);
  }
  f->status = PL_GRPC_NOT_SERVING;
  pl__grpc_conns_changed(f->conns);
  for (int i = 0; i < 3; i++) {
    UNTIL(f, c[i], a[i]->body_bytes == 14);
    assert_int_equal(PL_GRPC_NOT_SERVING, last_status(a[i]));
    client_free(c[i]);
  }
}

static void ends_a_watch_at_its_deadline_by_itself(void **state) {
  struct fixture *f = *state;
  struct h2_client *c = client_new(f);
  struct h2_answer *longer = submit(c, HEALTH "Watch", "1H");
  struct h2_answer *a = submit(c, HEALTH "Watch", "50m");

  UNTIL(f, c, a->closed);
  assert_non_null(strstr(a->fields, "grpc-status: 4\n"));
  assert_false(longer->closed);
  client_free(c);
}

/* --- limits ----------------------------------------------------------------- */

static void closes_connections_past_the_limit(void **state) {
  struct fixture *f = *state;
  struct h2_client *c[PL_GRPC_CONN_COUNT], *more;

  for (uint32_t i = 0; i < PL_GRPC_CONN_COUNT; i++) {
    c[i] = client_new(f);
    struct h2_answer *a = submit(c[i], HEALTH "Watch", NULL);
    UNTIL(f, c[i], a->body_bytes == 7);
  }
  more = client_new(f);
  submit(more, HEALTH "Check", NULL);
  UNTIL(f, more, more->is_closed);
  assert_int_equal(PL_GRPC_CONN_COUNT, f->conns->count);
  client_free(more);
  for (uint32_t i = 0; i < PL_GRPC_CONN_COUNT; i++)
    client_free(c[i]);
}

static void closes_the_quietest_for_one_more(void **state) {
  struct fixture *f = *state;
  struct h2_client *c[PL_GRPC_CONN_COUNT], *more;
  struct h2_answer *a;

  for (uint32_t i = 0; i < PL_GRPC_CONN_COUNT; i++) {
    c[i] = client_new(f);
    a = submit(c[i], i ? HEALTH "Check" : HEALTH "Watch", NULL);
    UNTIL(f, c[i], a->body_bytes == 7);
  }
  usleep((PL_GRPC_CONN_SPARED_MS + 50) * 1000);
  more = client_new(f);
  a = submit(more, HEALTH "Check", NULL);
  UNTIL(f, more, a->closed);
  assert_int_equal(PL_GRPC_SERVING, last_status(a));
  UNTIL(f, c[1], c[1]->is_closed); /* 0 has a call */
  assert_int_equal(PL_GRPC_CONN_COUNT, f->conns->count);
  client_free(more);
  for (uint32_t i = 0; i < PL_GRPC_CONN_COUNT; i++)
    client_free(c[i]);
}

static void closes_what_is_not_http_2_behind_its_preface(void **state) {
  struct fixture *f = *state;
  struct h2_client *c = client_new(f);
  static const char text[] =
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n";

  send(c->fd, text, sizeof text - 1, MSG_NOSIGNAL);
  for (int i = 0; i < 10000 && !c->is_closed; i++) {
    char room[512]; /* raw: there may be GOAWAY before the end */
    turn(f);
    ssize_t n = recv(c->fd, room, sizeof room, 0);
    c->is_closed = n == 0 || (n < 0 && errno != EAGAIN);
    usleep(100);
  }
  assert_true(c->is_closed);
  client_free(c);
}

static void closes_who_floods_and_takes_nothing(void **state) {
  struct fixture *f = *state;
  struct h2_client *c = client_new(f);
  struct h2_answer *a = submit(c, HEALTH "Check", NULL);
  static char pings[17 * 1000];

  UNTIL(f, c, a->closed);
  for (size_t i = 0; i < sizeof pings; i += 17) {
    pings[i + 2] = 8;
    pings[i + 3] = NGHTTP2_PING;
  }
  for (int i = 0; f->conns->count; i++) {
    assert_true(i < 20000);
    send(c->fd, pings, sizeof pings, MSG_NOSIGNAL);
    turn(f);
  }
  client_free(c);
}

/* --- the end ----------------------------------------------------------------- */

static void drains_watchers_and_closes(void **state) {
  struct fixture *f = *state;
  struct h2_client *c = client_new(f), *later;
  struct h2_answer *a = submit(c, HEALTH "Watch", NULL), *b;

  UNTIL(f, c, a->body_bytes == 7);
  pl__grpc_conns_drain(f->conns);
  UNTIL(f, c, c->is_closed);
  assert_true(c->told_goaway);
  assert_int_equal(NGHTTP2_NO_ERROR, c->goaway_code);
  assert_non_null(strstr(a->fields, "grpc-status: 14\n"));
  client_free(c);
  later = client_new(f); /* the sockets' owner decides whether there are more */
  b = submit(later, HEALTH "Check", NULL);
  UNTIL(f, later, b->closed);
  assert_int_equal(PL_GRPC_SERVING, last_status(b));
  client_free(later);
}

static void closes_with_calls_open(void **state) {
  struct fixture *f = *state;
  struct h2_client *c = client_new(f);
  struct h2_answer *a = submit(c, HEALTH "Watch", NULL);

  UNTIL(f, c, a->body_bytes == 7);
  client_free(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(answers_checks_over_one_connection),
      TEST(pushes_changes_to_watchers_of_all_connections),
      TEST(ends_a_watch_at_its_deadline_by_itself),
      TEST(closes_connections_past_the_limit),
      TEST(closes_the_quietest_for_one_more),
      TEST(closes_what_is_not_http_2_behind_its_preface),
      TEST(closes_who_floods_and_takes_nothing),
      TEST(drains_watchers_and_closes),
      TEST(closes_with_calls_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
