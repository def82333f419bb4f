/* test/vm/test_trace.c - which traces are kept, and how many they stand for. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "vm/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fabric/record.h"
#include "vm/coro.h"

#include <math.h>
#include <sys/mman.h>

#define IDS 10000u

static struct pl_spans *spans;
static struct pl_tracing tracing;
static struct pl_tracer tracer;
static struct pl_stopwatch watch;
static struct pl_random rng;
static struct pl_ring_reader reader;

static int make(void **state) {
  (void)state;
  spans = mmap(NULL, pl__spans_section_bytes(PL_LIMIT_SPAN_RING_BYTES),
               PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (spans == MAP_FAILED || pl__spans_init(spans, PL_LIMIT_SPAN_RING_BYTES))
    return -1;
  pl__random_seed(&rng);
  tracing = (struct pl_tracing){0};
  pl__tracer_init(&tracer, spans, &tracing, &watch, 3);
  pl__tracer_sample(&tracer, 0.01);
  pl__ring_reader_init(&reader, pl__spans_ring(spans));
  return 0;
}

static int unmake(void **state) {
  (void)state;
  return munmap(spans, pl__spans_section_bytes(PL_LIMIT_SPAN_RING_BYTES));
}

static struct pl_req request(void) {
  return (struct pl_req){
      .received = 100,
      .status = 200,
      .target = PL_SLICE("/a?b"),
      .context = {.trace_id = {pl__random_id(&rng), pl__random_id(&rng)},
                  .span_id = pl__random_id(&rng)}};
}

static void end_at(const struct pl_req *req, bool is_slow, double end) {
  struct pl_trace_end e = {
      .req = req, .end = end, .route = 7, .generation = 2, .is_slow = is_slow};

  pl__trace_end_request(&tracer, NULL, &e);
}

/* The next span that was kept. */
static bool take(struct pl_span_view *view) {
  uint32_t bytes;
  const void *at = pl__ring_peek(&reader, &bytes);

  if (!at)
    return false;
  assert_int_equal(pl__span_read(at, bytes, view), 0);
  pl__ring_next(&reader);
  return true;
}

static void keeps_one_in_a_hundred_of_ten_thousand_ids(void **state) {
  uint32_t sampled = 0, kept = 0;
  struct pl_span_view view;
  double sum = 0;

  (void)state;
  for (uint32_t i = 0; i < IDS; i++) {
    struct pl_req req = request();
    pl__tracer_mark(&tracer, &req.context);
    sampled += (req.context.trace_flags & PL_TRACE_SAMPLED) != 0;
    end_at(&req, false, 100.5);
  }
  while (take(&view)) {
    kept++;
    sum += view.span.adjusted;
    assert_true((view.span.trace_id[1] & PL_TRACE_ID_MASK) < tracer.below);
    assert_int_equal(view.span.kept, PL_KEPT_SAMPLED);
    assert_int_equal(view.span.end_ns - view.span.start_ns, 500000000);
    assert_int_equal(view.span.worker, 3);
    assert_int_equal(view.span.route, 7);
  }
  assert_int_equal(kept, sampled);
  assert_in_range(kept, 60, 140); /* four sigmas */
  assert_true(fabs(sum - 100.0 * kept) < 0.001);
}

static void chooses_by_the_lower_56_bits_alone(void **state) {
  struct pl_req req = request();

  (void)state;
  req.context.trace_id[1] = UINT64_C(0xff00000000000001);
  pl__tracer_mark(&tracer, &req.context);
  assert_true(req.context.trace_flags & PL_TRACE_SAMPLED);
  req = request();
  req.context.trace_id[1] = UINT64_C(0x00ffffffffffffff);
  pl__tracer_mark(&tracer, &req.context);
  assert_false(req.context.trace_flags & PL_TRACE_SAMPLED);
}

static void keeps_what_failed_was_slow_or_overdue(void **state) {
  struct pl_req req = request();
  struct pl_span_view view;

  (void)state;
  req.context.trace_id[1] |= PL_TRACE_ID_MASK; /* never sampled */
  end_at(&req, false, 101);
  assert_false(take(&view));
  req.status = 500;
  end_at(&req, false, 101);
  assert_true(take(&view));
  assert_int_equal(view.span.kept, PL_KEPT_ERROR);
  assert_int_equal(view.span.status, PL_SPAN_ERROR);
  req.status = 200;
  end_at(&req, true, 101);
  assert_true(take(&view));
  assert_int_equal(view.span.kept, PL_KEPT_SLOW);
  req.flags = PL_REQ_OVERDUE;
  end_at(&req, false, 101);
  assert_true(take(&view));
  assert_int_equal(view.span.kept, PL_KEPT_SHED);
  assert_true(view.span.adjusted == 1);
}

static void tells_what_a_caller_says_of_its_trace(void **state) {
  struct pl_header fields[] = {
      {PL_SLICE("accept"), PL_SLICE("*/*")},
      {PL_SLICE("tracestate"), PL_SLICE("rojo=1")},
      {PL_SLICE("tracestate"), PL_SLICE("congo=2")},
  };
  struct pl_req req = request();
  struct pl_span_view view;

  (void)state;
  req.headers = fields;
  req.header_count = 3;
  req.status = 500;
  req.context.passes_at = 1;
  end_at(&req, false, 101);
  assert_true(take(&view));
  assert_int_equal(view.texts.state.bytes, 0); /* it does not count */
  req.context.passes = PL_PASSES_STATE;
  end_at(&req, false, 101);
  assert_true(take(&view));
  assert_int_equal(view.texts.state.bytes, 14);
  assert_memory_equal(view.texts.state.at, "rojo=1,congo=2", 14);
  assert_int_equal(view.texts.target.bytes, 4);
}

static void keeps_what_a_caller_wants_but_does_not_count_it(void **state) {
  struct pl_req req = request();
  struct pl_span_view view;

  (void)state;
  req.context.trace_id[1] |= PL_TRACE_ID_MASK;
  req.context.trace_flags = PL_TRACE_SAMPLED;
  end_at(&req, false, 101);
  assert_true(take(&view));
  assert_int_equal(view.span.kept, PL_KEPT_SAMPLED);
  assert_true(view.span.adjusted == 0);
}

/* How many of so many requests in one second are sampled, which a caller says
 * are; they have no id that would be. */
static uint32_t wished(double from, uint32_t count) {
  uint32_t sampled = 0;

  for (uint32_t i = 0; i < count; i++) {
    struct pl_req req = request();
    req.context.trace_id[1] |= PL_TRACE_ID_MASK;
    req.context.parent_id = 1;
    req.context.trace_flags = PL_TRACE_SAMPLED;
    pl__tracer_mark_caller(&tracer, &req.context, from + (double)i / count);
    sampled += (req.context.trace_flags & PL_TRACE_SAMPLED) != 0;
  }
  return sampled;
}

static void hears_so_many_wishes_in_a_second_and_counts_the_rest(void **state) {
  uint32_t heard;

  (void)state;
  pl__tracer_limit_wishes(&tracer, 50);
  heard = wished(200, IDS);
  assert_in_range(heard, 99, 102); /* of this second, and one before */
  assert_int_equal(tracer.counts.unheard, IDS - heard);
  heard = wished(300, 40);
  assert_int_equal(heard, 40);
  pl__tracer_limit_wishes(&tracer, 0);
  assert_int_equal(wished(400, 10), 0);
}

static void ids_that_a_caller_has_chosen_count_as_wishes(void **state) {
  struct pl_req req = request();

  (void)state;
  pl__tracer_limit_wishes(&tracer, 0);
  req.context.trace_id[1] = 1;
  req.context.parent_id = 1;
  pl__tracer_mark_caller(&tracer, &req.context, 200);
  assert_false(req.context.trace_flags & PL_TRACE_SAMPLED);
  req.context.parent_id = 0; /* its trace begins here */
  pl__tracer_mark_caller(&tracer, &req.context, 200);
  assert_true(req.context.trace_flags & PL_TRACE_SAMPLED);
}

static void a_share_of_one_needs_no_wishes(void **state) {
  (void)state;
  pl__tracer_sample(&tracer, 1);
  pl__tracer_limit_wishes(&tracer, 0);
  assert_int_equal(wished(200, 10), 10);
  assert_int_equal(tracer.counts.unheard, 0);
}

/* So many requests in one second; what all that are kept stand for. */
static double anomaly(double share, uint32_t *kept) {
  struct pl_span_view view;
  double sum = 0;

  *kept = 0;
  atomic_store(&tracing.below, pl__tracing_below(share));
  for (uint32_t i = 0; i < IDS; i++) {
    struct pl_req req = request();
    pl__tracer_mark(&tracer, &req.context);
    end_at(&req, false, 200 + (double)i / IDS);
  }
  while (take(&view)) {
    ++*kept;
    sum += view.span.adjusted;
    assert_true(view.span.kept & PL_KEPT_ANOMALY);
  }
  return sum + tracer.carried;
}

static void adjusted_counts_add_up_while_an_anomaly_is_capped(void **state) {
  uint32_t kept;
  double sum;

  (void)state;
  atomic_store(&tracing.per_second, 200);
  sum = anomaly(1, &kept);
  /* 200 of the second, 20 before, and what is sampled anyway. */
  assert_in_range(kept, 220, 220 + 160);
  assert_true(fabs(sum - IDS) < 0.001);
  assert_int_equal(tracer.counts.capped, IDS - kept);
}

static void a_half_of_an_anomaly_stands_for_all(void **state) {
  uint32_t kept;
  double sum;

  (void)state;
  atomic_store(&tracing.per_second, 1000000);
  sum = anomaly(0.5, &kept);
  assert_in_range(kept, IDS / 2 - 250, IDS / 2 + 250);
  assert_true(fabs(sum - 2.0 * kept) < 0.001);
}

static void counts_why_and_what(void **state) {
  struct pl_req req = request();

  (void)state;
  req.context.trace_id[1] |= PL_TRACE_ID_MASK;
  req.status = 503;
  end_at(&req, true, 101);
  assert_int_equal(tracer.counts.traces[1], 1); /* error */
  assert_int_equal(tracer.counts.traces[2], 1); /* slow */
  assert_int_equal(tracer.counts.traces[0], 0);
  assert_int_equal(tracer.counts.spans, 1);
}

/* Of the request that had no room in the pool, not of the next in its slot. */
static void tells_once_what_found_no_room(void **state) {
  struct pl_vm_slot slot = {0};
  struct pl_vm vm = {.slots = &slot,
                     .trace_part_count = PL_TRACE_PARTS_MAX,
                     .options.tracer = &tracer};
  struct pl_req req = request();
  struct pl_trace_end e = {.req = &req, .end = 101, .is_slow = true};
  struct pl_span_view view;

  (void)state;
  pl__trace_waited_before(&vm, &req, PL_SPAN_QUEUE, 99, 100);
  pl__trace_end_request(&tracer, &vm, &e);
  assert_true(take(&view));
  assert_int_equal(view.span.left_out, 1);
  pl__trace_end_request(&tracer, &vm, &e);
  assert_true(take(&view));
  assert_int_equal(view.span.left_out, 0);
  assert_int_equal(tracer.counts.left_out, 1);
}

static void the_bucket_survives_a_process_that_went_wild(void **state) {
  (void)state;
  atomic_store(&tracing.per_second, 200);
  atomic_store(&tracing.due_ns, INT64_MAX - 10);
  assert_true(pl__tracing_take(&tracing, 5000000000));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(
          keeps_one_in_a_hundred_of_ten_thousand_ids, make, unmake),
      cmocka_unit_test_setup_teardown(chooses_by_the_lower_56_bits_alone, make,
                                      unmake),
      cmocka_unit_test_setup_teardown(keeps_what_failed_was_slow_or_overdue,
                                      make, unmake),
      cmocka_unit_test_setup_teardown(tells_what_a_caller_says_of_its_trace,
                                      make, unmake),
      cmocka_unit_test_setup_teardown(
          keeps_what_a_caller_wants_but_does_not_count_it, make, unmake),
      cmocka_unit_test_setup_teardown(
          hears_so_many_wishes_in_a_second_and_counts_the_rest, make, unmake),
      cmocka_unit_test_setup_teardown(
          ids_that_a_caller_has_chosen_count_as_wishes, make, unmake),
      cmocka_unit_test_setup_teardown(a_share_of_one_needs_no_wishes, make,
                                      unmake),
      cmocka_unit_test_setup_teardown(
          adjusted_counts_add_up_while_an_anomaly_is_capped, make, unmake),
      cmocka_unit_test_setup_teardown(a_half_of_an_anomaly_stands_for_all, make,
                                      unmake),
      cmocka_unit_test_setup_teardown(counts_why_and_what, make, unmake),
      cmocka_unit_test_setup_teardown(tells_once_what_found_no_room, make,
                                      unmake),
      cmocka_unit_test_setup_teardown(
          the_bucket_survives_a_process_that_went_wild, make, unmake),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
