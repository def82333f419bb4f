/* test/server/test_exporter.c - the thread, fed from the outside as the drain and
 * the workers do it, with a collector that is a thread of this process, or none.
 * Under a thread sanitizer it shows that nothing but rings and counters is
 * shared. */
#include "server/exporter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fabric/exports.h"
#include "fabric/map.h"
#include "fabric/record.h"
#include "fabric/span.h"
#include "log/drain.h"
#include "server/config.h"
#include "server/layout.h"

#define WORKERS 2u
#define STOP_MS 2000u
#define PATIENCE_MS 10000
#define REPLY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static struct pl_config config;
static struct pl_fabric fabric;
static struct pl_exports *exports;
static struct pl_exporter *exporter;
static struct pl_drain drain;

/* --- a collector ------------------------------------------------------------------ */

static int listen_fd;
static pthread_t collector;
static _Atomic unsigned request_count;

/* Takes requests from one connection until its end. */
static void *serve(void *arg) {
  int fd = (int)(intptr_t)arg;
  static _Thread_local char in[1 << 20];
  size_t used = 0;
  ssize_t n;

  while ((n = read(fd, in + used, sizeof in - 1 - used)) > 0) {
    char *body, *length;
    used += (size_t)n;
    in[used] = '\0';
    body = strstr(in, "\r\n\r\n");
    length = strstr(in, "Content-Length: ");
    if (!body ||
        strtoul(length + 16, NULL, 10) > used - (size_t)(body + 4 - in))
      continue;
    used = 0;
    request_count++;
    if (write(fd, REPLY, sizeof REPLY - 1) < 0)
      break;
  }
  close(fd);
  return NULL;
}

static void *collect(void *arg) {
  pthread_t threads[8];
  unsigned count = 0;
  int fd;

  (void)arg;
  while (count < 8 && (fd = accept(listen_fd, NULL, NULL)) >= 0)
    pthread_create(&threads[count++], NULL, serve, (void *)(intptr_t)fd);
  while (count)
    pthread_join(threads[--count], NULL);
  return NULL;
}

/* Listens; returns the port. */
static unsigned open_collector(void) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t bytes = sizeof address;

  listen_fd = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(0, bind(listen_fd, (struct sockaddr *)&address, bytes));
  assert_int_equal(0, listen(listen_fd, 8));
  assert_int_equal(0,
                   getsockname(listen_fd, (struct sockaddr *)&address, &bytes));
  request_count = 0;
  pthread_create(&collector, NULL, collect, NULL);
  return ntohs(address.sin_port);
}

static void close_collector(void) {
  shutdown(listen_fd, SHUT_RDWR);
  pthread_join(collector, NULL);
  close(listen_fd);
}

/* --- a server without processes --------------------------------------------------- */

/* port: 0: nothing is exported */
static void open_all(unsigned port) {
  char endpoint[64], error[PL_CONFIG_ERROR_BYTES];
  const char *overrides[] = {endpoint, "otlp.delay=10ms", "workers=2",
                             "otlp.metrics_interval=100ms"};
  struct pl_config_input input = {.overrides = overrides, .override_count = 4};
  struct pl_exporter_args args = {.config = &config,
                                  .fabric = &fabric,
                                  .worker_count = WORKERS,
                                  .wake_fd = -1};

  snprintf(endpoint, sizeof endpoint,
           port ? "otlp.endpoint=http://127.0.0.1:%u" : "otlp.endpoint=", port);
  if (pl__config_resolve(&input, &config, error))
    fail_msg("%s", error);
  assert_int_equal(0, pl__layout_open(&fabric, &config, WORKERS, error));
  assert_int_equal(0, pl__layout_exports(&fabric, &exports));
  assert_int_equal(0, pl__exporter_start(&exporter, &args));
  memset(&drain, 0, sizeof drain);
  pl__exporter_attach(exporter, &drain);
}

static void close_all(void) {
  pl__fabric_close(&fabric);
  pl__config_deinit(&config);
}

static void push_record(unsigned i) {
  struct pl_record head = {
      .level = PL_LEVEL_INFO, .time_ns = 1 + i, .route = PL_RECORD_NO_ROUTE};
  _Alignas(8) char memory[512];
  struct pl_record_draft draft;

  pl__record_begin(&draft, memory, sizeof memory, &head, PL_SLICE("said"));
  pl__record_num(&draft, PL_SLICE("i"), i);
  drain.on_record(drain.on_record_arg, draft.at, draft.bytes);
}

static void push_span(struct pl_span_writer *w, unsigned kept) {
  struct pl_span span = {.trace_id = {1, 2},
                         .span_id = 3,
                         .start_ns = 1,
                         .end_ns = 2,
                         .route = PL_RECORD_NO_ROUTE,
                         .kind = PL_SPAN_SERVER,
                         .what = PL_SPAN_REQUEST};

  span.kept = (uint16_t)kept;
  if (pl__spans_begin(w, kept, 1, 64))
    return;
  pl__spans_push(w, &span, &(struct pl_span_texts){.target = PL_SLICE("/")});
  pl__spans_publish(w);
}

static struct pl_spans *spans_of(uint32_t worker) {
  struct pl_spans *spans;

  assert_int_equal(0, pl__layout_spans(&fabric, worker, &spans));
  return spans;
}

static void pause_ms(long ms) {
  nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static bool becomes(const _Atomic uint64_t *n, uint64_t wanted) {
  for (int ms = 0; ms < PATIENCE_MS && pl__exports_get(n) < wanted; ms += 10)
    pause_ms(10);
  return pl__exports_get(n) == wanted;
}

static uint64_t dropped(enum pl_signal signal, enum pl_export_drop why) {
  return pl__exports_get(&exports->of[signal].drops[why]);
}

/* --- cases ------------------------------------------------------------------------- */

static void what_is_pushed_meanwhile_arrives(void **state) {
  struct pl_span_writer w[WORKERS];

  (void)state;
  open_all(open_collector());
  for (uint32_t i = 0; i < WORKERS; i++)
    pl__span_writer_init(&w[i], spans_of(i));
  for (unsigned i = 0; i < 1000; i++) {
    push_record(i);
    push_span(&w[i % WORKERS], i % 3 ? PL_KEPT_SAMPLED : PL_KEPT_ERROR);
    if (i % 100 == 0)
      pause_ms(5);
  }
  assert_true(becomes(&exports->of[PL_SIGNAL_LOGS].exported, 1000));
  assert_true(becomes(&exports->of[PL_SIGNAL_TRACES].exported, 1000));
  pl__exporter_stop(exporter, STOP_MS);
  assert_true(pl__exports_get(&exports->of[PL_SIGNAL_METRICS].exported) > 0);
  assert_true(request_count > 3);
  close_collector();
  for (unsigned i = 0; i < PL_SIGNALS; i++) {
    assert_int_equal(0, pl__exports_get(&exports->of[i].failures));
    assert_int_equal(0, pl__exports_get(&exports->of[i].queued));
    for (unsigned why = 0; why < PL_EXPORT_DROPS; why++)
      assert_int_equal(0, dropped((enum pl_signal)i, (enum pl_export_drop)why));
  }
  close_all();
}

static void what_is_there_at_the_end_is_sent(void **state) {
  (void)state;
  open_all(open_collector());
  for (unsigned i = 0; i < 600; i++) /* more than a batch */
    push_record(i);
  pl__exporter_stop(exporter, STOP_MS);
  close_collector();
  assert_int_equal(600, pl__exports_get(&exports->of[PL_SIGNAL_LOGS].exported));
  close_all();
}

static void what_nobody_takes_is_counted_at_the_end(void **state) {
  struct pl_span_writer w;
  unsigned port = open_collector();

  (void)state;
  close_collector(); /* its port is nobody's now */
  open_all(port);
  pl__span_writer_init(&w, spans_of(0));
  for (unsigned i = 0; i < 20; i++) {
    push_record(i);
    push_span(&w, PL_KEPT_ERROR);
  }
  pause_ms(300);
  pl__exporter_stop(exporter, STOP_MS);
  assert_int_equal(20, dropped(PL_SIGNAL_LOGS, PL_EXPORT_SHUTDOWN));
  assert_int_equal(20, dropped(PL_SIGNAL_TRACES, PL_EXPORT_SHUTDOWN));
  assert_true(pl__exports_get(&exports->of[PL_SIGNAL_LOGS].failures) > 0);
  close_all();
}

static void a_span_that_is_none_is_counted_and_passed_over(void **state) {
  struct pl_span_writer w;
  struct pl_ring_writer ring;
  void *at;

  (void)state;
  open_all(open_collector());
  pl__span_writer_init(&w, spans_of(0));
  push_span(&w, PL_KEPT_ERROR);
  pl__ring_writer_init(&ring, pl__spans_ring(spans_of(0)), -1);
  at = pl__ring_reserve(&ring, 64, 1 << 20);
  memset(at, 0xff, 64);
  pl__ring_push(&ring, 64);
  pl__ring_publish(&ring);
  pl__span_writer_init(&w, spans_of(0));
  push_span(&w, PL_KEPT_ERROR);
  assert_true(becomes(&exports->of[PL_SIGNAL_TRACES].exported, 2));
  assert_int_equal(1, dropped(PL_SIGNAL_TRACES, PL_EXPORT_UNFIT));
  pl__exporter_stop(exporter, STOP_MS);
  close_collector();
  close_all();
}

static void without_an_endpoint_the_rings_of_spans_are_emptied(void **state) {
  struct pl_ring *ring;
  struct pl_span_writer w;

  (void)state;
  open_all(0);
  assert_null(drain.on_record);
  ring = pl__spans_ring(spans_of(0));
  pl__span_writer_init(&w, spans_of(0));
  push_span(&w, PL_KEPT_SAMPLED);
  for (int ms = 0; ms < PATIENCE_MS && pl__ring_fill(ring); ms += 10)
    pause_ms(10);
  assert_int_equal(0, pl__ring_fill(ring));
  pl__exporter_stop(exporter, STOP_MS);
  for (unsigned i = 0; i < PL_SIGNALS; i++)
    assert_false(pl__exports_is_on(&exports->of[i]));
  close_all();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_pushed_meanwhile_arrives),
      cmocka_unit_test(what_is_there_at_the_end_is_sent),
      cmocka_unit_test(what_nobody_takes_is_counted_at_the_end),
      cmocka_unit_test(a_span_that_is_none_is_counted_and_passed_over),
      cmocka_unit_test(without_an_endpoint_the_rings_of_spans_are_emptied),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
