/* test/log/test_otlp.c - what goes into requests, what does not, and where they
 * end.  That every field is right is shown by spec/system/otlp_spec.lua, where
 * another's decoder reads them. */
#define _GNU_SOURCE /* memmem */
#include "log/otlp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "log/exposition.h"
#include "log/otlp_logs.h"
#include "log/otlp_metrics.h"
#include "log/otlp_spans.h"

#include <stdio.h>

static struct pl_buf out;
static struct pl_otlp o;

static const struct pl_slice resource = {"\x0a\x00", 2};
static const struct pl_slice version = {"1", 1};

static int set_up(void **state) {
  (void)state;
  pl__buf_init(&out, NULL, 64u << 20);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pl__buf_release(&out);
  return 0;
}

static bool has(const char *text) {
  return out.bytes && memmem(out.at, out.bytes, text, strlen(text)) != NULL;
}

/* --- the resource ------------------------------------------------------------- */

static int make_resource(const char *service, const char *attributes) {
  struct pl_otlp_identity who = {.service = pl__slice_text(service),
                                 .name = PL_SLICE("server"),
                                 .attributes = pl__slice_text(attributes),
                                 .version = version,
                                 .pid = 7};

  out.bytes = 0;
  return pl__otlp_resource(&who, &out);
}

static void a_service_is_named_by_the_first_that_says_so(void **state) {
  (void)state;
  assert_int_equal(0, make_resource("asked", "service.name=list,k=v"));
  assert_true(has("asked") && !has("list") && has("k") && !has("server"));
  assert_int_equal(0, make_resource("", "service.name=list"));
  assert_true(has("list") && !has("server"));
  assert_int_equal(0, make_resource("", ""));
  assert_true(has("server"));
}

static void a_broken_list_leaves_nothing(void **state) {
  (void)state;
  assert_int_equal(PL_EBAD, make_resource("", "a=b,c"));
  assert_int_equal(0, out.bytes);
}

/* --- texts ------------------------------------------------------------------------ */

static void texts_are_made_utf8(void **state) {
  (void)state;
  pl__pb_init(&o.pb, &out);
  pl__otlp_text(&o.pb, 1, PL_SLICE("a\xff\xc3z\xc3\xa4"), 0);
  assert_true(has("a\xef\xbf\xbd\xef\xbf\xbdz\xc3\xa4"));
  pl__otlp_text(&o.pb, 1, PL_SLICE("cut"), 12);
  assert_true(has("cut...(+12 bytes)"));
}

static void a_target_is_path_and_query(void **state) {
  (void)state;
  pl__pb_init(&o.pb, &out);
  pl__otlp_target(&o.pb, 1, PL_SLICE("/a?b?c"), 0);
  assert_true(has("/a") && has("b?c") && has("url.query"));
  out.bytes = 0;
  pl__otlp_target(&o.pb, 1, PL_SLICE("/a"), 3);
  assert_true(has("/a...(+3 bytes)") && !has("url.query"));
}

/* --- answers -------------------------------------------------------------------------- */

static void assert_partial(struct pl_slice body, uint64_t rejected,
                           const char *message) {
  struct pl_slice said;
  uint64_t count;

  pl__otlp_partial(body, &count, &said);
  assert_int_equal(rejected, count);
  assert_true(pl__slice_equal(pl__slice_text(message), said));
}

static void a_partial_success_is_read(void **state) {
  (void)state;
  assert_partial(PL_SLICE(""), 0, "");
  assert_partial(PL_SLICE("\x0a\x00"), 0, "");
  assert_partial(PL_SLICE("\x0a\x08\x08\xac\x02\x12\x03old"), 300, "old");
  assert_partial(PL_SLICE("\x12\x01x\x0a\x05\x12\x03old"), 0, "old");
}

static void an_answer_that_makes_no_sense_says_nothing(void **state) {
  static const char bytes[] = "\x0a\x08\x08\xac\x02\x12\x03old";

  (void)state;
  assert_partial(PL_SLICE("\x0a\x7f\x08\x01"), 0, "");
  assert_partial(PL_SLICE("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 0,
                 "");
  assert_partial(PL_SLICE("{\"partialSuccess\":{}}"), 0, "");
  for (size_t n = 0; n + 1 < sizeof bytes - 1; n++)
    assert_partial(pl__slice(bytes, n), 0, "");
}

/* --- records and spans ------------------------------------------------------------------ */

static uint32_t make_record(void *memory, uint32_t bytes) {
  struct pl_record head = {.level = PL_LEVEL_WARN,
                           .worker = 3,
                           .time_ns = 5,
                           .route = PL_RECORD_NO_ROUTE};
  struct pl_record_draft d;

  pl__record_begin(&d, memory, bytes, &head, PL_SLICE("the message"));
  pl__record_str(&d, PL_SLICE("key"), PL_SLICE("value"));
  pl__record_num(&d, PL_SLICE("n"), 1.5);
  pl__record_bool(&d, PL_SLICE("yes"), 1);
  return d.bytes;
}

static void what_does_not_fit_leaves_no_trace(void **state) {
  _Alignas(8) char memory[512];
  uint32_t bytes = make_record(memory, sizeof memory), before, whole;

  (void)state;
  pl__otlp_begin(&o, &out, resource, version);
  before = out.bytes;
  assert_int_equal(0, pl__otlp_log(&o, NULL, memory, bytes));
  whole = out.bytes;
  assert_true(has("the message") && has("value"));
  for (uint32_t room = before; room < whole; room++) {
    pl__buf_release(&out);
    pl__buf_init(&out, NULL, room);
    pl__otlp_begin(&o, &out, resource, version);
    assert_int_equal(PL_EFULL, pl__otlp_log(&o, NULL, memory, bytes));
    assert_int_equal(before, out.bytes);
    assert_int_equal(0, pl__otlp_end(&o));
  }
}

static void what_could_not_begin_has_nothing(void **state) {
  _Alignas(8) char memory[512];
  uint32_t bytes = make_record(memory, sizeof memory);

  (void)state;
  pl__buf_release(&out);
  pl__buf_init(&out, NULL, 20);
  pl__otlp_begin(&o, &out, resource, version);
  assert_int_equal(PL_EFULL, pl__otlp_log(&o, NULL, memory, bytes));
  assert_int_equal(PL_EFULL, pl__otlp_log(&o, NULL, memory, bytes));
  assert_int_equal(PL_EFULL, pl__otlp_end(&o));
}

static void a_damaged_record_is_bad(void **state) {
  _Alignas(8) char memory[512], broken[512];
  uint32_t bytes = make_record(memory, sizeof memory), before;

  (void)state;
  pl__otlp_begin(&o, &out, resource, version);
  before = out.bytes;
  for (uint32_t n = 0; n < bytes; n++) {
    int failed = pl__otlp_log(&o, NULL, memory, n);
    assert_true(failed == 0 || (failed == PL_EBAD && out.bytes == before));
    out.bytes = before;
    memcpy(broken, memory, sizeof broken);
    broken[n] = (char)~broken[n];
    failed = pl__otlp_log(&o, NULL, broken, bytes);
    assert_true(failed == 0 || (failed == PL_EBAD && out.bytes == before));
    out.bytes = before;
  }
}

static char *spans_memory;

static const void *make_span(uint32_t *bytes) {
  struct pl_span head = {.trace_id = {1, 2},
                         .span_id = 3,
                         .start_ns = 5,
                         .end_ns = 6,
                         .route = PL_RECORD_NO_ROUTE,
                         .kept = PL_KEPT_ERROR | PL_KEPT_SLOW,
                         .kind = PL_SPAN_SERVER,
                         .what = PL_SPAN_REQUEST,
                         .http_status = 503,
                         .status = PL_SPAN_ERROR};
  struct pl_spans *spans = (void *)spans_memory;
  static struct pl_ring_reader reader;
  struct pl_span_writer w;
  char attributes[64];
  uint32_t used = 0;

  pl__attribute_put_str(attributes, sizeof attributes, &used, PL_SLICE("key"),
                        PL_SLICE("value"));
  head.attribute_count = 1;
  pl__spans_init(spans, 1 << 16);
  pl__span_writer_init(&w, spans);
  pl__spans_begin(&w, head.kept, 1, 1024);
  pl__spans_push(
      &w, &head,
      &(struct pl_span_texts){.message = PL_SLICE("it broke"),
                              .target = PL_SLICE("/x"),
                              .state = PL_SLICE("rojo=1"),
                              .attributes = pl__slice(attributes, used)});
  pl__spans_publish(&w);
  pl__ring_reader_init(&reader, pl__spans_ring(spans));
  return pl__ring_peek(&reader, bytes);
}

static void a_span_says_why_it_is_kept(void **state) {
  uint32_t bytes, before, whole;
  const void *span = make_span(&bytes);

  (void)state;
  pl__otlp_begin(&o, &out, resource, version);
  before = out.bytes;
  assert_int_equal(0, pl__otlp_span(&o, NULL, span, bytes));
  whole = out.bytes;
  assert_true(has("error,slow") && has("it broke") && has("value") &&
              has("503") && has("\x1a\x06rojo=1")); /* field 3 */
  for (uint32_t room = before; room < whole; room += 7) {
    pl__buf_release(&out);
    pl__buf_init(&out, NULL, room);
    pl__otlp_begin(&o, &out, resource, version);
    assert_int_equal(PL_EFULL, pl__otlp_span(&o, NULL, span, bytes));
    assert_int_equal(before, out.bytes);
  }
}

static void a_damaged_span_is_bad(void **state) {
  uint32_t bytes, before;
  const void *span = make_span(&bytes);
  _Alignas(8) char broken[PL_LIMIT_SPAN_BYTES];

  (void)state;
  pl__otlp_begin(&o, &out, resource, version);
  before = out.bytes;
  for (uint32_t n = 0; n < bytes; n++) {
    int failed;
    memcpy(broken, span, bytes);
    broken[n] = (char)~broken[n];
    failed = pl__otlp_span(&o, NULL, broken, bytes);
    assert_true(failed == 0 || (failed == PL_EBAD && out.bytes == before));
    out.bytes = before;
  }
}

/* --- metrics ------------------------------------------------------------------------------ */

static struct pl_otlp_metrics m;

static void begin_metrics(void) {
  pl__otlp_metrics_begin(&m, &out, resource, version, 1, 2);
}

static void a_metric_without_points_is_not_there(void **state) {
  (void)state;
  begin_metrics();
  pl__otlp_metrics_head(&m, PL_SLICE("empty"), PL_SLICE("help"),
                        PL_METRIC_GAUGE);
  assert_int_equal(0, pl__otlp_metrics_end(&m));
  assert_int_equal(0, m.part_count);
  assert_int_equal(0, out.bytes);
}

static void labels_are_unescaped(void **state) {
  (void)state;
  begin_metrics();
  pl__otlp_metrics_head(&m, PL_SLICE("x_total"), PL_SLICE("help"),
                        PL_METRIC_COUNTER);
  pl__otlp_metrics_number(&m, PL_SLICE("a=\"1\\\"2\\\\3\\n4\",b=\"=,\""), 1);
  assert_int_equal(0, pl__otlp_metrics_end(&m));
  assert_true(has("1\"2\\3\n4") && has("=,"));
  assert_int_equal(1, m.parts[0].points);
}

static void labels_that_make_no_sense_end_early(void **state) {
  static const char *const bad[] = {"a",      "a=",       "a=\"",
                                    "a=\"\\", "a=\"b\"c", "=,=,"};

  (void)state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    out.bytes = 0;
    begin_metrics();
    pl__otlp_metrics_head(&m, PL_SLICE("x"), PL_SLICE(""), PL_METRIC_GAUGE);
    pl__otlp_metrics_number(&m, pl__slice_text(bad[i]), 1);
    assert_int_equal(0, pl__otlp_metrics_end(&m));
    assert_int_equal(1, m.parts[0].points);
  }
}

/* 1 KiB of labels. */
static struct pl_slice long_labels(void) {
  static char labels[1024];

  memset(labels, 'x', sizeof labels);
  memcpy(labels, "label=\"", 7);
  labels[sizeof labels - 1] = '"';
  return pl__slice(labels, sizeof labels);
}

static void many_points_become_several_requests(void **state) {
  uint32_t count = 5 * PL_OTLP_PART_BYTES / 2048, sum = 0, at = 0;

  (void)state;
  begin_metrics();
  pl__otlp_metrics_head(&m, PL_SLICE("the_name"), PL_SLICE("help"),
                        PL_METRIC_GAUGE);
  for (uint32_t i = 0; i < count; i++)
    pl__otlp_metrics_number(&m, long_labels(), i);
  assert_int_equal(0, pl__otlp_metrics_end(&m));
  assert_int_equal(3, m.part_count);
  for (uint32_t i = 0; i < m.part_count; i++) {
    const char *part = out.at + at;
    assert_true(m.parts[i].end - at < PL_OTLP_PART_BYTES + 4096);
    assert_non_null(memmem(part, 128, "the_name", 8)); /* each says whose */
    at = m.parts[i].end;
    sum += m.parts[i].points;
  }
  assert_int_equal(out.bytes, at);
  assert_int_equal(count, sum);
}

static void there_is_a_last_request(void **state) {
  uint32_t count = (PL_OTLP_PARTS_MAX + 2) * (PL_OTLP_PART_BYTES / 1024);

  (void)state;
  begin_metrics();
  pl__otlp_metrics_head(&m, PL_SLICE("x"), PL_SLICE(""), PL_METRIC_GAUGE);
  for (uint32_t i = 0; i < count; i++)
    pl__otlp_metrics_number(&m, long_labels(), i);
  assert_int_equal(PL_EFULL, pl__otlp_metrics_end(&m));
  assert_int_equal(PL_OTLP_PARTS_MAX, m.part_count);
  assert_int_equal(out.bytes, m.parts[m.part_count - 1].end);
}

/* The messages that a part is made of end where it ends: a decoder's first look. */
static void assert_whole(const char *at, const char *end) {
  uint64_t bytes = 0;

  assert_int_equal(0x0a, *at++);
  for (unsigned i = 0; i < 5; i++)
    bytes |= (uint64_t)(*at++ & 0x7f) << 7 * i;
  assert_int_equal(end - at, bytes);
}

static void room_that_ends_anywhere_leaves_whole_requests(void **state) {
  (void)state;
  for (uint32_t room = 1; room < 700; room++) {
    int failed;
    pl__buf_release(&out);
    pl__buf_init(&out, NULL, room);
    begin_metrics();
    for (uint32_t i = 0; i < 5; i++) {
      pl__otlp_metrics_head(&m, PL_SLICE("name_seconds"), PL_SLICE("help"),
                            PL_METRIC_COUNTER);
      pl__otlp_metrics_number(&m, PL_SLICE("a=\"b\""), i);
      pl__otlp_metrics_number(&m, PL_SLICE("a=\"c\""), i);
    }
    failed = pl__otlp_metrics_end(&m);
    assert_true(failed == 0 || failed == PL_EFULL);
    assert_true(m.part_count <= 1);
    if (m.part_count)
      assert_whole(out.at, out.at + m.parts[0].end);
  }
}

static void a_lack_of_memory_leaves_whole_requests(void **state) {
  (void)state;
  for (uint64_t n = 1; n < 12; n++) {
    int failed;
    pl__buf_release(&out);
    pl__buf_init(&out, NULL, 64u << 20);
    pl__alloc_fail_after(n, true);
    begin_metrics();
    for (uint32_t i = 0; i < 3000; i++) {
      if (i % 2 == 0)
        pl__otlp_metrics_head(&m, PL_SLICE("x"), PL_SLICE(""), PL_METRIC_GAUGE);
      pl__otlp_metrics_number(&m, long_labels(), i);
    }
    failed = pl__otlp_metrics_end(&m);
    pl__alloc_fail_after(0, false);
    assert_true(failed == 0 || failed == PL_ENOMEM);
    for (uint32_t i = 0; i < m.part_count; i++)
      assert_whole(out.at + (i ? m.parts[i - 1].end : 0),
                   out.at + m.parts[i].end);
    assert_int_equal(out.bytes,
                     m.part_count ? m.parts[m.part_count - 1].end : 0);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_service_is_named_by_the_first_that_says_so),
      TEST(a_broken_list_leaves_nothing),
      TEST(texts_are_made_utf8),
      TEST(a_target_is_path_and_query),
      TEST(a_partial_success_is_read),
      TEST(an_answer_that_makes_no_sense_says_nothing),
      TEST(what_does_not_fit_leaves_no_trace),
      TEST(what_could_not_begin_has_nothing),
      TEST(a_damaged_record_is_bad),
      TEST(a_span_says_why_it_is_kept),
      TEST(a_damaged_span_is_bad),
      TEST(a_metric_without_points_is_not_there),
      TEST(labels_are_unescaped),
      TEST(labels_that_make_no_sense_end_early),
      TEST(many_points_become_several_requests),
      TEST(there_is_a_last_request),
      TEST(room_that_ends_anywhere_leaves_whole_requests),
      TEST(a_lack_of_memory_leaves_whole_requests),
  };
  int failed;

  spans_memory = pl__alloc_zero(pl__spans_section_bytes(1 << 16));
  failed = cmocka_run_group_tests(tests, NULL, NULL);
  pl__free(spans_memory);
  return failed;
}
