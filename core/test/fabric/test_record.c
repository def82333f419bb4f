/* test/fabric/test_record.c - what is written comes back. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "fabric/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define RING_BYTES 262144u

static struct pl_ring *ring;
static struct pl_ring_writer writer;
static struct pl_ring_reader reader;
static _Alignas(8) char memory[PL_LIMIT_LOG_RECORD_BYTES + 8];
static char large[40000];

static int make_ring(void **state) {
  (void)state;
  ring = mmap(NULL, pl__ring_section_bytes(RING_BYTES), PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ring == MAP_FAILED)
    return -1;
  memset(large, 'x', sizeof large);
  pl__ring_init(ring, RING_BYTES);
  pl__ring_writer_init(&writer, ring, -1);
  pl__ring_reader_init(&reader, ring);
  return 0;
}

static int free_ring(void **state) {
  (void)state;
  return munmap(ring, pl__ring_section_bytes(RING_BYTES));
}

static const struct pl_record head = {.level = PL_LEVEL_WARN,
                                      .worker = 3,
                                      .route = 5,
                                      .time_ns = 1234567890,
                                      .request_id = 42};

/* The one record in the ring. */
static const void *record(uint32_t *bytes) {
  const void *at = pl__ring_peek(&reader, bytes);
  assert_non_null(at);
  return at;
}

static void assert_slice(struct pl_slice s, const char *text) {
  assert_int_equal(s.bytes, strlen(text));
  assert_memory_equal(s.at, text, s.bytes);
}

static void an_access_record_comes_back_as_it_was_written(void **state) {
  (void)state;
  struct pl_access a = {.time_ns = 1,
                        .request_id = 2,
                        .trace_id = {8, 9},
                        .span_id = 10,
                        .labels = {PL_SLICE("acme"), PL_SLICE("id-1")},
                        .duration_ns = 3,
                        .bytes_in = 4,
                        .bytes_out = 5,
                        .route = 6,
                        .worker = 7,
                        .status = 404,
                        .method = 28,
                        .http_minor = 1,
                        .aborted = 1,
                        .peer = {.port = 80, .family = PL_PEER_IPV4},
                        .target = PL_SLICE("/a?b")};
  struct pl_record_access_view view;
  struct pl_record h;
  uint32_t bytes;
  assert_int_equal(pl__record_access(&writer, &a), 0);
  const void *at = record(&bytes);
  assert_int_equal(pl__record_read(at, bytes, &h), 0);
  assert_int_equal(h.kind, PL_RECORD_ACCESS);
  assert_int_equal(h.level, PL_LEVEL_INFO);
  assert_int_equal(pl__record_read_access(at, bytes, &view), 0);
  const struct pl_access *b = &view.access;
  assert_int_equal(b->time_ns, 1);
  assert_int_equal(b->request_id, 2);
  assert_int_equal(b->trace_id[0], 8);
  assert_int_equal(b->trace_id[1], 9);
  assert_int_equal(b->span_id, 10);
  assert_slice(b->labels.tenant, "acme");
  assert_slice(b->labels.caller_id, "id-1");
  assert_int_equal(b->duration_ns, 3);
  assert_int_equal(b->bytes_in, 4);
  assert_int_equal(b->bytes_out, 5);
  assert_int_equal(b->route, 6);
  assert_int_equal(b->worker, 7);
  assert_int_equal(b->status, 404);
  assert_int_equal(b->method, 28);
  assert_int_equal(b->http_minor, 1);
  assert_int_equal(b->aborted, 1);
  assert_memory_equal(&b->peer, &a.peer, sizeof a.peer);
  assert_slice(b->target, "/a?b");
  assert_int_equal(view.target_cut_bytes, 0);
}

static void the_labels_of_a_log_record_come_back(void **state) {
  (void)state;
  const struct pl_record_labels given = {PL_SLICE("acme"), PL_SLICE("id-1")};
  struct pl_record h = head;
  struct pl_record_draft d;
  struct pl_record_log_view view;
  struct pl_field f;
  uint32_t bytes;
  h.trace_id[1] = 7;
  h.span_id = 8;
  pl__record_begin_for(&d, memory, sizeof memory, &h, &given,
                       PL_SLICE("hello"));
  pl__record_num(&d, PL_SLICE("n"), 3);
  assert_int_equal(pl__record_end(&d, &writer), 0);
  const void *at = record(&bytes);
  assert_int_equal(pl__record_read(at, bytes, &h), 0);
  assert_int_equal(h.trace_id[1], 7);
  assert_int_equal(h.span_id, 8);
  struct pl_record_labels labels = pl__record_labels(at, &h);
  assert_slice(labels.tenant, "acme");
  assert_slice(labels.caller_id, "id-1");
  assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
  assert_slice(view.message, "hello");
  assert_int_equal(pl__record_field(&view, &f), 1);
  assert_slice(f.key, "n");
  assert_true(f.number == 3);
}

static void labels_past_their_limits_are_cut(void **state) {
  (void)state;
  struct pl_access a = {.labels = {pl__slice(large, 500), pl__slice(large, 65)},
                        .target = PL_SLICE("/")};
  struct pl_record_access_view view;
  uint32_t bytes;
  pl__record_access(&writer, &a);
  const void *at = record(&bytes);
  assert_int_equal(pl__record_read_access(at, bytes, &view), 0);
  assert_int_equal(view.access.labels.tenant.bytes, PL_LIMIT_TENANT_BYTES);
  assert_int_equal(view.access.labels.caller_id.bytes,
                   PL_LIMIT_REQUEST_ID_BYTES);
  assert_slice(view.access.target, "/");
}

static void
labels_that_claim_to_be_longer_than_the_record_are_refused(void **state) {
  (void)state;
  struct pl_record h = head, out;
  h.kind = PL_RECORD_LOG;
  h.tenant_bytes = 8;
  assert_int_equal(pl__record_read(&h, sizeof h, &out), PL_EBAD);
  h.tenant_bytes = PL_LIMIT_TENANT_BYTES + 1;
  memcpy(memory, &h, sizeof h);
  assert_int_equal(pl__record_read(memory, 4096, &out), PL_EBAD);
}

static void a_long_target_is_cut_and_the_record_says_by_how_much(void **state) {
  (void)state;
  struct pl_access a = {.target = pl__slice(large, 8192)};
  struct pl_record_access_view view;
  uint32_t bytes;
  pl__record_access(&writer, &a);
  const void *at = record(&bytes);
  assert_int_equal(pl__record_read_access(at, bytes, &view), 0);
  assert_int_equal(view.access.target.bytes, PL_LIMIT_LOG_TARGET_BYTES);
  assert_int_equal(view.target_cut_bytes, 8192 - PL_LIMIT_LOG_TARGET_BYTES);
  assert_true(view.access.time_ns > 0);
}

static void a_log_record_comes_back_field_by_field(void **state) {
  (void)state;
  struct pl_record_draft d;
  struct pl_record_log_view view;
  struct pl_record h;
  struct pl_field f;
  uint32_t bytes;
  pl__record_begin(&d, memory, sizeof memory, &head, PL_SLICE("note saved"));
  pl__record_str(&d, PL_SLICE("name"), PL_SLICE("a\0b"));
  pl__record_num(&d, PL_SLICE("count"), -1.5);
  pl__record_bool(&d, PL_SLICE("yes"), 7);
  pl__record_str(&d, PL_SLICE(""), PL_SLICE(""));
  assert_int_equal(pl__record_end(&d, &writer), 0);
  const void *at = record(&bytes);
  assert_int_equal(pl__record_read(at, bytes, &h), 0);
  assert_int_equal(h.kind, PL_RECORD_LOG);
  assert_int_equal(h.level, PL_LEVEL_WARN);
  assert_int_equal(h.worker, 3);
  assert_int_equal(h.route, 5);
  assert_int_equal(h.time_ns, 1234567890);
  assert_int_equal(h.request_id, 42);
  assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
  assert_slice(view.message, "note saved");
  assert_int_equal(pl__record_field(&view, &f), 1);
  assert_int_equal(f.type, PL_FIELD_STRING);
  assert_slice(f.key, "name");
  assert_int_equal(f.text.bytes, 3);
  assert_memory_equal(f.text.at, "a\0b", 3);
  assert_int_equal(pl__record_field(&view, &f), 1);
  assert_int_equal(f.type, PL_FIELD_NUMBER);
  assert_true(f.number == -1.5);
  assert_int_equal(pl__record_field(&view, &f), 1);
  assert_int_equal(f.type, PL_FIELD_BOOL);
  assert_true(f.number == 1);
  assert_int_equal(pl__record_field(&view, &f), 1);
  assert_int_equal(f.key.bytes, 0);
  assert_int_equal(f.text.bytes, 0);
  assert_int_equal(pl__record_field(&view, &f), 0);
}

static void long_texts_are_cut_and_say_by_how_much(void **state) {
  (void)state;
  struct pl_record_draft d;
  struct pl_record_log_view view;
  struct pl_field f;
  uint32_t bytes;
  pl__record_begin(&d, memory, sizeof memory, &head,
                   pl__slice(large, sizeof large));
  pl__record_str(&d, PL_SLICE("a"), pl__slice(large, 5000));
  pl__record_str(&d, pl__slice(large, 1000), PL_SLICE("b"));
  assert_int_equal(pl__record_end(&d, &writer), 0);
  const void *at = record(&bytes);
  assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
  assert_int_equal(view.message.bytes, PL_LIMIT_LOG_MESSAGE_BYTES);
  assert_int_equal(view.message_cut_bytes,
                   sizeof large - PL_LIMIT_LOG_MESSAGE_BYTES);
  assert_int_equal(pl__record_field(&view, &f), 1);
  assert_int_equal(f.text.bytes, PL_LIMIT_LOG_VALUE_BYTES);
  assert_int_equal(f.cut_bytes, 5000 - PL_LIMIT_LOG_VALUE_BYTES);
  assert_int_equal(pl__record_field(&view, &f), 1);
  assert_int_equal(f.key.bytes, PL_LIMIT_LOG_KEY_BYTES);
  assert_slice(f.text, "b");
}

static void a_cut_leaves_no_half_character(void **state) {
  (void)state;
  struct pl_record_draft d;
  struct pl_record_log_view view;
  uint32_t bytes;
  for (uint32_t i = 0; i < sizeof large - 3; i += 3)
    memcpy(large + i, "\xe2\x82\xac", 3);
  for (uint32_t shift = 0; shift < 3; shift++) {
    pl__record_begin(&d, memory, sizeof memory, &head,
                     pl__slice(large + shift, 20000));
    pl__record_end(&d, &writer);
    const void *at = record(&bytes);
    assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
    assert_int_equal((view.message.bytes + shift) % 3, 0);
    assert_int_equal(view.message.bytes + view.message_cut_bytes, 20000);
    pl__ring_next(&reader);
  }
}

static void fields_without_room_are_left_out_and_counted(void **state) {
  (void)state;
  struct pl_record_draft d;
  struct pl_record_log_view view;
  struct pl_field f;
  uint32_t bytes, count = 0;
  pl__record_begin(&d, memory, 256, &head, PL_SLICE("m"));
  for (int i = 0; i < 100; i++)
    pl__record_num(&d, PL_SLICE("key"), i);
  assert_int_equal(pl__record_end(&d, &writer), 0);
  const void *at = record(&bytes);
  assert_true(bytes <= 256);
  assert_int_equal(pl__record_read_log(at, bytes, &view), 0);
  uint32_t left_out = view.fields_left_out;
  while (pl__record_field(&view, &f) == 1) {
    assert_true(f.number == count);
    count++;
  }
  assert_true(count > 0);
  assert_int_equal(count + left_out, 100);
}

static void no_more_fields_than_the_limit_are_kept(void **state) {
  (void)state;
  struct pl_record_draft d;
  struct pl_record_log_view view;
  uint32_t bytes;
  pl__record_begin(&d, memory, sizeof memory, &head, PL_SLICE("m"));
  for (unsigned i = 0; i < PL_LIMIT_LOG_FIELD_COUNT + 5; i++)
    pl__record_bool(&d, PL_SLICE("key"), 1);
  pl__record_end(&d, &writer);
  const void *at = record(&bytes);
  pl__record_read_log(at, bytes, &view);
  assert_int_equal(view.field_count, PL_LIMIT_LOG_FIELD_COUNT);
  assert_int_equal(view.fields_left_out, 5);
}

static uint32_t fill_with(enum pl_level level) {
  struct pl_record h = {.level = (uint8_t)level};
  uint32_t count = 0;
  while (pl__record_text(&writer, &h,
                         PL_SLICE("thirty-two bytes of a message..")) == 0)
    count++;
  return count;
}

static void what_matters_more_finds_room_when_others_do_not(void **state) {
  (void)state;
  struct pl_access a = {.status = 200};
  uint64_t size = RING_BYTES;
  fill_with(PL_LEVEL_DEBUG);
  assert_in_range(pl__ring_fill(ring), size / 2 - 200, size / 2);
  fill_with(PL_LEVEL_INFO);
  assert_in_range(pl__ring_fill(ring), size / 4 * 3 - 200, size / 4 * 3);
  assert_int_equal(pl__record_access(&writer, &a), PL_EFULL);
  fill_with(PL_LEVEL_WARN);
  assert_in_range(pl__ring_fill(ring), size / 10 * 9 - 200, size / 10 * 9);
  fill_with(PL_LEVEL_ERROR);
  assert_in_range(pl__ring_fill(ring), size - 200, size);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_DEBUG), 1);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_INFO), 2);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_WARN), 1);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_ERROR), 1);
}

/* So that the shortest record finds no room. */
static void fill_up_with(enum pl_level level) {
  struct pl_record h = {.level = (uint8_t)level};
  while (pl__record_text(&writer, &h, PL_SLICE("")) == 0) {
  }
}

static int taken_count;

static int take(void *arg, const void *at, uint32_t bytes) {
  struct pl_record h;
  assert_ptr_equal(arg, &taken_count);
  assert_int_equal(pl__record_read(at, bytes, &h), 0);
  assert_int_equal(h.level, PL_LEVEL_ERROR);
  return taken_count++ < 3 ? 0 : PL_EFULL;
}

static void an_error_without_room_goes_elsewhere(void **state) {
  (void)state;
  struct pl_record h = {.level = PL_LEVEL_ERROR};
  fill_up_with(PL_LEVEL_ERROR);
  taken_count = 0;
  writer.overflow = take;
  writer.overflow_arg = &taken_count;
  for (int i = 0; i < 3; i++)
    assert_int_equal(pl__record_text(&writer, &h, PL_SLICE("m")), 0);
  assert_int_equal(pl__record_text(&writer, &h, PL_SLICE("m")), PL_EFULL);
  h.level = PL_LEVEL_WARN;
  assert_int_equal(pl__record_text(&writer, &h, PL_SLICE("m")), PL_EFULL);
  assert_int_equal(taken_count, 4);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_ERROR), 2);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_WARN), 1);
}

/* Reads all that there is, until it was told to end and found nothing. */
static void *read_slowly(void *arg) {
  const struct timespec pause = {.tv_nsec = 1000000};
  atomic_bool *over = arg;
  uint64_t count = 0;
  bool last = false;
  for (;;) {
    uint32_t bytes;
    if (pl__ring_peek(&reader, &bytes)) {
      pl__ring_next(&reader);
      if (++count % 512 == 0)
        nanosleep(&pause, NULL);
      pl__ring_release(&reader);
    } else if (last) {
      return (void *)(uintptr_t)count;
    } else {
      last = atomic_load(over);
    }
  }
}

static void errors_wait_for_a_reader_that_reads(void **state) {
  (void)state;
  struct pl_record h = {.level = PL_LEVEL_ERROR};
  atomic_bool over = false;
  pthread_t thread;
  void *count;
  assert_int_equal(pthread_create(&thread, NULL, read_slowly, &over), 0);
  for (int i = 0; i < 20000; i++)
    assert_int_equal(pl__record_text(&writer, &h, PL_SLICE("m")), 0);
  atomic_store(&over, true);
  pthread_join(thread, &count);
  assert_int_equal((uintptr_t)count, 20000);
  assert_int_equal(pl__ring_drops(&reader, PL_LEVEL_ERROR), 0);
}

static void a_short_record_is_said_to_find_room_while_it_does(void **state) {
  (void)state;
  for (int level = PL_LEVEL_DEBUG; level <= PL_LEVEL_WARN; level++) {
    assert_true(pl__record_has_room(&writer, (enum pl_level)level));
    fill_up_with((enum pl_level)level);
    assert_false(pl__record_has_room(&writer, (enum pl_level)level));
  }
  fill_up_with(PL_LEVEL_ERROR);
  assert_true(pl__record_has_room(&writer, PL_LEVEL_ERROR));
}

static void writing_allocates_nothing(void **state) {
  (void)state;
  struct pl_access a = {.status = 200, .target = PL_SLICE("/")};
  uint64_t before = pl__alloc_count();
  pl__record_access(&writer, &a);
  pl__record_text(&writer, &head, PL_SLICE("m"));
  assert_int_equal(pl__alloc_count(), before);
}

/* Every cut and every changed byte of a record is either read within its
 * bounds or refused; the sanitizers watch, as the copy ends where it ends. */
static void reads_nothing_outside_a_damaged_record(void **state) {
  (void)state;
  struct pl_record_draft d;
  struct pl_record_log_view view;
  struct pl_record_access_view access;
  struct pl_record h;
  struct pl_field f;
  uint32_t bytes, refused = 0;
  pl__record_begin(&d, memory, sizeof memory, &head, PL_SLICE("message"));
  pl__record_str(&d, PL_SLICE("key"), PL_SLICE("value"));
  pl__record_num(&d, PL_SLICE("n"), 1);
  pl__record_end(&d, &writer);
  const char *at = record(&bytes);
  for (uint32_t n = 0; n <= bytes; n++)
    for (uint32_t i = 0; i < n; i++)
      for (int value = 0; value < 256; value += 51) {
        char *copy = pl__alloc(n);
        memcpy(copy, at, n);
        copy[i] = (char)value;
        int status = pl__record_read(copy, n, &h);
        if (status == 0 && pl__record_read_log(copy, n, &view) == 0)
          while ((status = pl__record_field(&view, &f)) == 1)
            assert_true(
                f.key.at + f.key.bytes <= copy + n &&
                (f.text.bytes == 0 || f.text.at + f.text.bytes <= copy + n));
        pl__record_read_access(copy, n, &access);
        refused += status != 0;
        pl__free(copy);
      }
  assert_true(refused > 1000);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, make_ring, free_ring)

int main(void) {
  const struct CMUnitTest tests[] = {
      FACT(an_access_record_comes_back_as_it_was_written),
      FACT(the_labels_of_a_log_record_come_back),
      FACT(labels_past_their_limits_are_cut),
      FACT(labels_that_claim_to_be_longer_than_the_record_are_refused),
      FACT(a_long_target_is_cut_and_the_record_says_by_how_much),
      FACT(a_log_record_comes_back_field_by_field),
      FACT(long_texts_are_cut_and_say_by_how_much),
      FACT(a_cut_leaves_no_half_character),
      FACT(fields_without_room_are_left_out_and_counted),
      FACT(no_more_fields_than_the_limit_are_kept),
      FACT(what_matters_more_finds_room_when_others_do_not),
      FACT(an_error_without_room_goes_elsewhere),
      FACT(errors_wait_for_a_reader_that_reads),
      FACT(a_short_record_is_said_to_find_room_while_it_does),
      FACT(writing_allocates_nothing),
      FACT(reads_nothing_outside_a_damaged_record),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
