/* test/fabric/test_span.c - spans come back whole, or not at all. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "fabric/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RING_BYTES 65536u

static struct pl_spans *spans;
static struct pl_span_writer writer;
static struct pl_ring_reader reader;
static _Alignas(8) char copy[PL_LIMIT_SPAN_BYTES];

static int make(void **state) {
  (void)state;
  spans = mmap(NULL, pl__spans_section_bytes(RING_BYTES),
               PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (spans == MAP_FAILED || pl__spans_init(spans, RING_BYTES))
    return -1;
  pl__span_writer_init(&writer, spans);
  pl__ring_reader_init(&reader, pl__spans_ring(spans));
  return 0;
}

static int unmake(void **state) {
  (void)state;
  return munmap(spans, pl__spans_section_bytes(RING_BYTES));
}

static const struct pl_span head = {
    .trace_id = {0x0102030405060708, 0x090a0b0c0d0e0f10},
    .span_id = 7,
    .parent_id = 8,
    .start_ns = 1000,
    .end_ns = 2000,
    .adjusted = 100,
    .route = 3,
    .generation = 2,
    .http_status = 503,
    .kept = PL_KEPT_ERROR,
    .kind = PL_SPAN_SERVER,
    .what = PL_SPAN_REQUEST,
    .status = PL_SPAN_ERROR,
};

static void assert_slice(struct pl_slice s, const char *text) {
  assert_int_equal(s.bytes, strlen(text));
  assert_memory_equal(s.at, text, s.bytes);
}

/* A trace of one span. */
static int put_one(unsigned kept, uint64_t span_id) {
  struct pl_span s = head;
  struct pl_span_texts texts = {.name = PL_SLICE("a name")};

  s.span_id = span_id;
  s.kept = (uint16_t)kept;
  if (pl__spans_begin(&writer, kept, 1, texts.name.bytes))
    return PL_EFULL;
  pl__spans_push(&writer, &s, &texts);
  pl__spans_publish(&writer);
  return 0;
}

static void gives_back_what_was_pushed(void **state) {
  char attributes[256];
  uint32_t used = 0, bytes;
  struct pl_span_view view;
  struct pl_attribute a;
  struct pl_span_texts texts = {.name = PL_SLICE("work"),
                                .message = PL_SLICE("it broke"),
                                .tenant = PL_SLICE("acme"),
                                .caller_id = PL_SLICE("id-1"),
                                .target = PL_SLICE("/notes?page=1"),
                                .state = PL_SLICE("rojo=1,congo=2")};
  const void *at;

  (void)state;
  assert_int_equal(pl__attribute_put_str(attributes, sizeof attributes, &used,
                                         PL_SLICE("db"), PL_SLICE("main")),
                   0);
  assert_int_equal(pl__attribute_put_num(attributes, sizeof attributes, &used,
                                         PL_SLICE("rows"), 12.5),
                   0);
  assert_int_equal(pl__attribute_put_bool(attributes, sizeof attributes, &used,
                                          PL_SLICE("cached"), 1),
                   0);
  texts.attributes = pl__slice(attributes, used);
  assert_int_equal(pl__spans_begin(&writer, PL_KEPT_ERROR, 1, 512), 0);
  pl__spans_push(&writer, &head, &texts);
  assert_null(pl__ring_peek(&reader, &bytes));
  pl__spans_publish(&writer);
  at = pl__ring_peek(&reader, &bytes);
  assert_non_null(at);
  assert_int_equal(pl__span_read(at, bytes, &view), 0);
  assert_int_equal(view.span.trace_id[1], 0x090a0b0c0d0e0f10);
  assert_int_equal(view.span.http_status, 503);
  assert_true(view.span.adjusted == 100);
  assert_slice(view.texts.name, "work");
  assert_slice(view.texts.message, "it broke");
  assert_slice(view.texts.tenant, "acme");
  assert_slice(view.texts.caller_id, "id-1");
  assert_slice(view.texts.target, "/notes?page=1");
  assert_slice(view.texts.state, "rojo=1,congo=2");
  assert_int_equal(pl__span_attribute(&view, &a), 1);
  assert_slice(a.key, "db");
  assert_slice(a.text, "main");
  assert_int_equal(pl__span_attribute(&view, &a), 1);
  assert_slice(a.key, "rows");
  assert_true(a.number == 12.5);
  assert_int_equal(pl__span_attribute(&view, &a), 1);
  assert_int_equal(a.type, PL_ATTRIBUTE_BOOL);
  assert_true(a.number == 1);
  assert_int_equal(pl__span_attribute(&view, &a), 0);
}

static void refuses_lengths_that_lie(void **state) {
  struct pl_span_view view;
  struct pl_attribute a;
  uint32_t bytes;

  (void)state;
  assert_int_equal(put_one(PL_KEPT_SAMPLED, 1), 0);
  bytes = pl__spans_recent(spans, 0, copy);
  assert_int_equal(pl__span_read(copy, bytes, &view), 0);
  assert_int_equal(pl__span_read(copy, bytes - 1, &view), PL_EBAD);
  assert_int_equal(pl__span_read(copy, 10, &view), PL_EBAD);
  for (uint32_t i = 0; i < sizeof(struct pl_span); i++) {
    char before = copy[i];
    for (int flip = 1; flip < 256; flip += 37) {
      copy[i] = (char)(before ^ flip);
      if (pl__span_read(copy, bytes, &view) == 0)
        while (pl__span_attribute(&view, &a) == 1)
          assert_true(a.key.at >= copy && a.key.at <= copy + bytes);
    }
    copy[i] = before;
  }
}

static void counts_drops_by_lane_and_keeps_room_for_failures(void **state) {
  const struct pl_ring *ring = pl__spans_ring(spans);
  uint32_t anomaly = 0, sampled = 0, failed = 0;

  (void)state;
  while (put_one(PL_KEPT_ANOMALY, 1) == 0)
    anomaly++;
  assert_int_equal(ring->drops[PL_SPAN_LANE_ANOMALY], 1);
  while (put_one(PL_KEPT_SAMPLED | PL_KEPT_ANOMALY, 1) == 0)
    sampled++;
  assert_int_equal(ring->drops[PL_SPAN_LANE_SAMPLED], 1);
  while (put_one(PL_KEPT_SLOW, 1) == 0)
    failed++;
  assert_int_equal(ring->drops[PL_SPAN_LANE_FAILED], 1);
  assert_true(anomaly > 100 && sampled > 50 && failed > 50);
}

static void shows_all_spans_of_a_trace_or_none(void **state) {
  struct pl_span_texts texts = {0};
  uint32_t bytes;

  (void)state;
  assert_int_equal(pl__spans_begin(&writer, PL_KEPT_SAMPLED, 3, 0), 0);
  pl__spans_push(&writer, &head, &texts);
  pl__spans_push(&writer, &head, &texts);
  assert_null(pl__ring_peek(&reader, &bytes));
  pl__spans_push(&writer, &head, &texts);
  pl__spans_publish(&writer);
  for (int i = 0; i < 3; i++) {
    assert_non_null(pl__ring_peek(&reader, &bytes));
    pl__ring_next(&reader);
  }
  assert_null(pl__ring_peek(&reader, &bytes));
}

static void shows_recent_spans_that_were_read_long_ago(void **state) {
  struct pl_span_view view;
  uint32_t bytes, seen = 0;

  (void)state;
  for (uint64_t i = 0; i < 5000; i++) {
    assert_int_equal(put_one(PL_KEPT_SAMPLED, i + 1), 0);
    assert_non_null(pl__ring_peek(&reader, &bytes));
    pl__ring_next(&reader);
    pl__ring_release(&reader);
  }
  assert_int_equal(pl__spans_count(spans), 5000);
  for (uint64_t i = 0; i < 5000; i++) {
    bytes = pl__spans_recent(spans, i, copy);
    if (!bytes)
      continue;
    seen++;
    assert_int_equal(pl__span_read(copy, bytes, &view), 0);
    assert_int_equal(view.span.span_id, i + 1);
  }
  assert_true(seen > 300 && seen <= PL_SPANS_RECENT);
  assert_true(pl__spans_recent(spans, 4999, copy) > 0);
  assert_int_equal(pl__spans_recent(spans, 5000, copy), 0);
}

/* In another process, until it is killed. */
static void write_for_ever(void) {
  for (uint64_t i = 1;; i++) {
    struct pl_ring *ring = pl__spans_ring(spans);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    /* Nobody reads: as if somebody did. */
    atomic_store_explicit(&ring->head, tail, memory_order_release);
    put_one(PL_KEPT_SAMPLED, i);
  }
}

static void is_readable_after_its_writer_was_killed(void **state) {
  struct timespec a_moment = {.tv_nsec = 3000000};
  struct pl_span_view view;

  (void)state;
  for (int round = 0; round < 20; round++) {
    uint64_t last = 0, count;
    pid_t pid = fork();
    if (pid == 0)
      write_for_ever();
    a_moment.tv_nsec = 1000000 + round * 200000;
    nanosleep(&a_moment, NULL);
    for (int i = 0; i < 2000; i++) { /* beside it */
      uint64_t number = pl__spans_count(spans);
      uint32_t bytes =
          number ? pl__spans_recent(spans, number - 1 - number % 7, copy) : 0;
      if (bytes)
        assert_int_equal(pl__span_read(copy, bytes, &view), 0);
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    count = pl__spans_count(spans);
    for (uint64_t i = count > 300 ? count - 300 : 0; i < count; i++) {
      uint32_t bytes = pl__spans_recent(spans, i, copy);
      assert_true(bytes > 0);
      assert_int_equal(pl__span_read(copy, bytes, &view), 0);
      assert_true(last == 0 || view.span.span_id == last + 1 ||
                  view.span.span_id == 1);
      last = view.span.span_id;
    }
    pl__span_writer_init(&writer, spans);
    assert_int_equal(put_one(PL_KEPT_ERROR, 1), 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(gives_back_what_was_pushed, make, unmake),
      cmocka_unit_test_setup_teardown(refuses_lengths_that_lie, make, unmake),
      cmocka_unit_test_setup_teardown(
          counts_drops_by_lane_and_keeps_room_for_failures, make, unmake),
      cmocka_unit_test_setup_teardown(shows_all_spans_of_a_trace_or_none, make,
                                      unmake),
      cmocka_unit_test_setup_teardown(
          shows_recent_spans_that_were_read_long_ago, make, unmake),
      cmocka_unit_test_setup_teardown(is_readable_after_its_writer_was_killed,
                                      make, unmake),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
