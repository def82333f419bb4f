/* test/http/test_range.c - ranges and conditions. */
#include "http/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static enum pl_range_outcome parse(const char *value, uint64_t size,
                                   uint64_t *first, uint64_t *last) {
  *first = *last = 99999;
  return pl__range_parse(pl__slice(value, strlen(value)), size, first, last);
}

static void assert_part(const char *value, uint64_t size, uint64_t first,
                        uint64_t last) {
  uint64_t f, l;
  assert_int_equal(parse(value, size, &f, &l), PL_RANGE_PART);
  assert_int_equal(f, first);
  assert_int_equal(l, last);
}

static void assert_outcome(const char *value, uint64_t size,
                           enum pl_range_outcome outcome) {
  uint64_t f, l;
  if (parse(value, size, &f, &l) != outcome)
    fail_msg("other outcome: %s", value);
  assert_int_equal(f, 99999);
}

static void reads_one_range(void **state) {
  (void)state;
  assert_part("bytes=0-0", 10, 0, 0);
  assert_part("bytes=2-5", 10, 2, 5);
  assert_part("BYTES= 2-5 ", 10, 2, 5);
  assert_part("bytes=2-", 10, 2, 9);
  assert_part("bytes=2-99", 10, 2, 9);
  assert_part("bytes=9-9", 10, 9, 9);
  assert_part("bytes=-3", 10, 7, 9);
  assert_part("bytes=-10", 10, 0, 9);
  assert_part("bytes=-99", 10, 0, 9);
  assert_part("bytes=0-9999999999999999999", 10, 0, 9);
}

static void tells_ranges_that_cannot_be_satisfied(void **state) {
  (void)state;
  assert_outcome("bytes=10-", 10, PL_RANGE_NONE);
  assert_outcome("bytes=10-20", 10, PL_RANGE_NONE);
  assert_outcome("bytes=-0", 10, PL_RANGE_NONE);
  assert_outcome("bytes=0-", 0, PL_RANGE_NONE);
  assert_outcome("bytes=-5", 0, PL_RANGE_NONE);
}

static void sends_all_for_what_it_does_not_understand(void **state) {
  (void)state;
  assert_outcome("", 10, PL_RANGE_ALL);
  assert_outcome("bytes=", 10, PL_RANGE_ALL);
  assert_outcome("bytes=-", 10, PL_RANGE_ALL);
  assert_outcome("bytes=5-2", 10, PL_RANGE_ALL);
  assert_outcome("bytes=0-1,3-4", 10, PL_RANGE_ALL);
  assert_outcome("bytes=a-b", 10, PL_RANGE_ALL);
  assert_outcome("bytes=1 -2", 10, PL_RANGE_ALL);
  assert_outcome("lines=0-1", 10, PL_RANGE_ALL);
  assert_outcome("bytes=99999999999999999999-", 10, PL_RANGE_ALL);
  assert_outcome("bytes=0-99999999999999999999", 10, PL_RANGE_ALL);
}

static void makes_tags_of_size_and_time(void **state) {
  char tag[PL_ETAG_BYTES_MAX];
  (void)state;
  uint32_t n = pl__etag_format(255, 16, tag);
  assert_int_equal(n, 9);
  assert_memory_equal(tag, "W/\"ff-10\"", 9);
  assert_true(pl__etag_format(UINT64_MAX, -1, tag) <= PL_ETAG_BYTES_MAX);
}

static void compares_tags_weakly(void **state) {
  const struct pl_slice tag = PL_SLICE("W/\"a\"");
  (void)state;
  assert_true(pl__etag_matches(PL_SLICE("W/\"a\""), tag));
  assert_true(pl__etag_matches(PL_SLICE("\"x\", \"a\""), tag));
  assert_true(pl__etag_matches(PL_SLICE("*"), tag));
  assert_false(pl__etag_matches(PL_SLICE("\"A\""), tag));
  assert_false(pl__etag_matches(PL_SLICE("a"), tag));
  assert_false(pl__etag_matches(PL_SLICE(""), tag));
}

#define WHEN 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

static struct pl_header header;

static struct pl_req request(uint8_t method, struct pl_slice name,
                             struct pl_slice value) {
  header = (struct pl_header){name, value};
  return (struct pl_req){
      .method = method, .headers = &header, .header_count = 1};
}

static void answers_conditions(void **state) {
  const struct pl_slice tag = PL_SLICE("W/\"a\"");
  const struct pl_slice none_match = PL_SLICE("If-None-Match");
  const struct pl_slice since = PL_SLICE("If-Modified-Since");
  struct pl_req req = request(PL_METHOD_GET, none_match, PL_SLICE("\"a\""));
  (void)state;
  assert_true(pl__is_not_modified(&req, tag, WHEN));
  req.method = PL_METHOD_POST;
  assert_false(pl__is_not_modified(&req, tag, WHEN));
  req = request(PL_METHOD_HEAD, none_match, PL_SLICE("\"b\""));
  assert_false(pl__is_not_modified(&req, tag, WHEN));
  req = request(PL_METHOD_GET, since, PL_SLICE(DATE));
  assert_true(pl__is_not_modified(&req, tag, WHEN));
  assert_false(pl__is_not_modified(&req, tag, WHEN + 1));
  req = request(PL_METHOD_GET, since, PL_SLICE("yesterday"));
  assert_false(pl__is_not_modified(&req, tag, WHEN));
}

static void a_tag_that_differs_outweighs_a_date(void **state) {
  struct pl_header h[] = {{PL_SLICE("If-Modified-Since"), PL_SLICE(DATE)},
                          {PL_SLICE("If-None-Match"), PL_SLICE("\"b\"")}};
  struct pl_req req = {
      .method = PL_METHOD_GET, .headers = h, .header_count = 2};
  (void)state;
  assert_false(pl__is_not_modified(&req, PL_SLICE("W/\"a\""), WHEN));
}

static void ranges_apply_to_what_they_were_asked_of(void **state) {
  const struct pl_slice name = PL_SLICE("If-Range");
  const struct pl_slice weak = PL_SLICE("W/\"a\""), strong = PL_SLICE("\"a\"");
  struct pl_req req = {.header_count = 0};
  (void)state;
  assert_true(pl__range_applies(&req, weak, WHEN));
  req = request(PL_METHOD_GET, name, PL_SLICE("W/\"a\""));
  assert_false(pl__range_applies(&req, weak, WHEN));
  req = request(PL_METHOD_GET, name, PL_SLICE("\"a\""));
  assert_false(pl__range_applies(&req, weak, WHEN));
  assert_true(pl__range_applies(&req, strong, WHEN));
  req = request(PL_METHOD_GET, name, PL_SLICE(DATE));
  assert_true(pl__range_applies(&req, weak, WHEN));
  assert_false(pl__range_applies(&req, weak, WHEN + 1));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_one_range),
      cmocka_unit_test(tells_ranges_that_cannot_be_satisfied),
      cmocka_unit_test(sends_all_for_what_it_does_not_understand),
      cmocka_unit_test(makes_tags_of_size_and_time),
      cmocka_unit_test(compares_tags_weakly),
      cmocka_unit_test(answers_conditions),
      cmocka_unit_test(a_tag_that_differs_outweighs_a_date),
      cmocka_unit_test(ranges_apply_to_what_they_were_asked_of),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
