/* test/log/test_protobuf.c - the bytes of fields and messages, as the encoding's
 * own documentation has them; and gzip, undone by zlib. */
#include "log/gzip.h"
#include "log/protobuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <zlib.h>

#include "base/err.h"

static struct pl_buf out;
static struct pl_pb pb;

static int begin(void **state) {
  (void)state;
  pl__buf_init(&out, NULL, 1 << 20);
  pl__pb_init(&pb, &out);
  return 0;
}

static int end(void **state) {
  (void)state;
  pl__buf_release(&out);
  return 0;
}

static void assert_bytes(const char *bytes, size_t n) {
  assert_int_equal(0, pl__pb_status(&pb));
  assert_int_equal(n, out.bytes);
  assert_memory_equal(bytes, out.at, n);
}

static void numbers_are_varints(void **state) {
  (void)state;
  pl__pb_uint(&pb, 1, 150);
  pl__pb_uint(&pb, 2, 0);
  pl__pb_int(&pb, 3, -1);
  pl__pb_uint(&pb, 16, UINT64_MAX);
  assert_bytes("\x08\x96\x01"
               "\x10\x00"
               "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
               "\x80\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
               28);
}

static void fixed_numbers_are_little_endian(void **state) {
  (void)state;
  pl__pb_fixed32(&pb, 1, 0x01020304);
  pl__pb_fixed64(&pb, 2, 0x0102030405060708);
  pl__pb_double(&pb, 3, 1.0);
  assert_bytes("\x0d\x04\x03\x02\x01"
               "\x11\x08\x07\x06\x05\x04\x03\x02\x01"
               "\x19\x00\x00\x00\x00\x00\x00\xf0\x3f",
               23);
}

static void texts_have_their_length(void **state) {
  (void)state;
  pl__pb_text(&pb, 2, "testing");
  pl__pb_bytes(&pb, 3, pl__slice("", 0));
  assert_bytes("\x12\x07testing\x1a\x00", 11);
}

static void inner_messages_have_padded_lengths(void **state) {
  (void)state;
  struct pl_pb_mark outer = pl__pb_begin(&pb, 3);
  struct pl_pb_mark inner = pl__pb_begin(&pb, 1);
  pl__pb_uint(&pb, 1, 150);
  pl__pb_end(&pb, inner);
  pl__pb_end(&pb, outer);
  assert_bytes("\x1a\x89\x80\x80\x80\x00"
               "\x0a\x83\x80\x80\x80\x00"
               "\x08\x96\x01",
               15);
}

static void elements_are_packed(void **state) {
  (void)state;
  struct pl_pb_mark packed = pl__pb_begin(&pb, 6);
  pl__pb_packed_uint(&pb, 3);
  pl__pb_packed_uint(&pb, 270);
  pl__pb_packed_fixed64(&pb, 1);
  pl__pb_packed_double(&pb, 1.0);
  pl__pb_packed_int(&pb, 7);
  pl__pb_end(&pb, packed);
  assert_bytes("\x32\x94\x80\x80\x80\x00"
               "\x03\x8e\x02"
               "\x01\x00\x00\x00\x00\x00\x00\x00"
               "\x00\x00\x00\x00\x00\x00\xf0\x3f"
               "\x07",
               26);
}

static void what_does_not_fit_is_an_error_that_stays(void **state) {
  (void)state;
  pl__buf_release(&out);
  pl__buf_init(&out, NULL, 8);
  struct pl_pb_mark mark = pl__pb_begin(&pb, 1);
  pl__pb_text(&pb, 1, "longer than that");
  pl__pb_uint(&pb, 1, 1);
  pl__pb_end(&pb, mark);
  assert_int_equal(PL_EFULL, pl__pb_status(&pb));
  assert_true(out.bytes <= 8);
}

static void gzip_is_undone_by_zlib(void **state) {
  (void)state;
  static char text[100000], back[sizeof text];
  z_stream z = {0};
  for (size_t i = 0; i < sizeof text; i++)
    text[i] = (char)('a' + i * i % 17);
  assert_int_equal(0, pl__buf_append(&out, "before", 6));
  assert_int_equal(0, pl__gzip(pl__slice(text, sizeof text), &out));
  assert_true(out.bytes < sizeof text / 4);
  assert_int_equal(Z_OK, inflateInit2(&z, 15 + 16));
  z.next_in = (Bytef *)out.at + 6;
  z.avail_in = out.bytes - 6;
  z.next_out = (Bytef *)back;
  z.avail_out = sizeof back;
  assert_int_equal(Z_STREAM_END, inflate(&z, Z_FINISH));
  assert_int_equal(sizeof text, z.total_out);
  assert_memory_equal(text, back, sizeof text);
  inflateEnd(&z);
}

static void gzip_needs_room(void **state) {
  (void)state;
  pl__buf_release(&out);
  pl__buf_init(&out, NULL, 8);
  assert_int_equal(PL_EFULL, pl__gzip(pl__slice_text("some text"), &out));
  assert_int_equal(0, out.bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(numbers_are_varints, begin, end),
      cmocka_unit_test_setup_teardown(fixed_numbers_are_little_endian, begin,
                                      end),
      cmocka_unit_test_setup_teardown(texts_have_their_length, begin, end),
      cmocka_unit_test_setup_teardown(inner_messages_have_padded_lengths, begin,
                                      end),
      cmocka_unit_test_setup_teardown(elements_are_packed, begin, end),
      cmocka_unit_test_setup_teardown(what_does_not_fit_is_an_error_that_stays,
                                      begin, end),
      cmocka_unit_test_setup_teardown(gzip_is_undone_by_zlib, begin, end),
      cmocka_unit_test_setup_teardown(gzip_needs_room, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
