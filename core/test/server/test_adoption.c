/* test/server/test_adoption.c - accepting from the sockets of another worker:
 * the loop and the connections of one, and nobody behind the other's.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "server/adoption.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "server/layout.h"
#include "server/listeners.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLABS 4
#define CLIENTS 32 /* some of them are for each of two sockets */

struct fixture {
  uv_loop_t loop;
  struct pl_net net;
  struct pl_slabs slabs;
  struct pl_buf_pool buffers;
  struct pl_listeners listeners;
  struct pl_adoption adoption;
  struct pl_beat beats[2];
  void *section;
  size_t section_bytes;
  int clients[CLIENTS];
};

static void on_head(void *arg, struct pl_conn *c, struct pl_req *req) {
  (void)arg, (void)c, (void)req;
}

static void on_closed(void *arg, struct pl_conn *c) { (void)arg, (void)c; }

static const struct pl_conn_events events = {
    on_head, on_head, on_head, on_head, on_head, NULL, on_head, on_closed};

static int set_up(void **state) {
  struct fixture *f = pl__alloc_zero(sizeof *f);
  struct pl_net_limits limits = {.seconds = {10, 10, 60, 10, 2},
                                 .output_bytes = 65536,
                                 .parser = {8192, 32768, 100},
                                 .connections_max = 1000};
  uint32_t bytes = pl__net_slab_bytes(&limits);
  struct pl_address address;
  char error[PL_LISTENERS_ERROR_BYTES];

  assert_non_null(f);
  assert_int_equal(uv_loop_init(&f->loop), 0);
  f->section_bytes = (size_t)bytes * SLABS;
  f->section = mmap(NULL, f->section_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_int_equal(pl__slabs_init(&f->slabs, f->section, bytes, SLABS), 0);
  pl__buf_pool_init(&f->buffers);
  assert_int_equal(
      pl__net_init(&f->net, &limits, &events, f, &f->slabs, &f->buffers, 7), 0);
  assert_int_equal(pl__address_parse("127.0.0.1:0", &address), 0);
  assert_int_equal(
      pl__listeners_open(&f->listeners, &address, 1, 2, NULL, error), 0);
  assert_int_equal(pl__listeners_listen(&f->listeners, 0), 0);
  assert_int_equal(pl__listeners_listen(&f->listeners, 1), 0);
  pl__adoption_init(&f->adoption, &f->listeners, f->beats, 0, &f->net,
                    &f->loop);
  memset(f->clients, -1, sizeof f->clients);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;

  pl__adoption_stop(&f->adoption, false);
  pl__net_close_all(&f->net);
  uv_run(&f->loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&f->loop), 0);
  pl__adoption_deinit(&f->adoption);
  pl__listeners_close(&f->listeners);
  pl__net_deinit(&f->net);
  pl__slabs_deinit(&f->slabs);
  pl__buf_pool_deinit(&f->buffers);
  munmap(f->section, f->section_bytes);
  for (int i = 0; i < CLIENTS; i++)
    if (f->clients[i] >= 0)
      close(f->clients[i]);
  pl__free(f);
  return 0;
}

/* One beat of worker 0, and what the loop has to do then. */
static void beat(struct fixture *f) {
  pl__adoption_look(&f->adoption);
  for (int i = 0; i < 10; i++) {
    uv_run(&f->loop, UV_RUN_NOWAIT);
    usleep(500);
  }
}

static void mark(struct fixture *f, bool adopted) {
  atomic_store(&f->beats[1].is_adopted, adopted);
  beat(f);
}

static int connect_one(struct fixture *f) {
  const struct pl_address *a = &f->listeners.addresses[0];
  int fd = socket(a->family, SOCK_STREAM, 0);

  assert_true(fd >= 0);
  if (connect(fd, (const struct sockaddr *)&a->storage, a->bytes)) {
    close(fd);
    return -1;
  }
  return fd;
}

static void connect_all(struct fixture *f) {
  for (int i = 0; i < CLIENTS; i++) {
    f->clients[i] = connect_one(f);
    assert_true(f->clients[i] >= 0);
  }
}

static void leaves_sockets_alone_that_are_not_marked(void **state) {
  struct fixture *f = *state;

  atomic_store(&f->beats[0].is_adopted, 1); /* by others: that is we */
  connect_all(f);
  beat(f);
  assert_int_equal(f->net.conn_count, 0);
  assert_null(f->adoption.adopted);
}

static void accepts_from_the_sockets_of_one_that_is_marked(void **state) {
  struct fixture *f = *state;

  connect_all(f);
  mark(f, true);
  assert_true(f->net.conn_count > 0);
  assert_true(f->net.conn_count < CLIENTS); /* our own are not watched here */
}

static void lets_go_and_can_adopt_again(void **state) {
  struct fixture *f = *state;

  mark(f, true);
  mark(f, false);
  connect_all(f);
  beat(f);
  assert_int_equal(f->net.conn_count, 0);
  mark(f, true);
  assert_true(f->net.conn_count > 0);
}

static void accepts_what_is_queued_when_it_stops(void **state) {
  struct fixture *f = *state;
  int fd;

  mark(f, true);
  connect_all(f);
  pl__adoption_stop(&f->adoption, false);
  assert_true(f->net.conn_count > 0);
  fd = connect_one(f); /* the socket lives on */
  assert_true(fd >= 0);
  close(fd);
}

static void shuts_sockets_at_the_end_although_others_hold_them(void **state) {
  struct fixture *f = *state;
  int copies[2];

  for (uint32_t i = 0; i < 2; i++)
    copies[i] = dup(pl__listeners_of(&f->listeners, i)[0]);
  mark(f, true);
  pl__adoption_stop(&f->adoption, true);
  shutdown(copies[0], SHUT_RDWR); /* as the worker does to its own */
  assert_int_equal(connect_one(f), -1);
  assert_int_equal(errno, ECONNREFUSED);
  for (int i = 0; i < 2; i++)
    close(copies[i]);
}

static void has_nothing_to_adopt_without_listeners(void **state) {
  struct fixture *f = *state;
  struct pl_adoption none;

  pl__adoption_init(&none, NULL, f->beats, 0, &f->net, &f->loop);
  pl__adoption_look(&none);
  pl__adoption_resume(&none);
  pl__adoption_stop(&none, true);
  assert_null(none.adopted);
  pl__adoption_deinit(&none);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      CASE(leaves_sockets_alone_that_are_not_marked),
      CASE(accepts_from_the_sockets_of_one_that_is_marked),
      CASE(lets_go_and_can_adopt_again),
      CASE(accepts_what_is_queued_when_it_stops),
      CASE(shuts_sockets_at_the_end_although_others_hold_them),
      CASE(has_nothing_to_adopt_without_listeners),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
