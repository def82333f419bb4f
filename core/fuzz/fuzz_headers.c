/* fuzz/fuzz_headers.c - field values, lists, queries and cookies.
 *
 * Reading of field values: lists, cookies, queries, ranges, and
 * what a handler may set.  The input is a value; nothing read from it lies
 * outside of it.
 */
#include "http/headers.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/cookies.h"
#include "http/date.h"
#include "http/encode.h"
#include "http/problem.h"
#include "http/query.h"
#include "http/range.h"

#define BYTES_MAX 2048u

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

static void check_inside(struct pl_slice part, struct pl_slice all) {
  if (part.bytes)
    CHECK(part.at >= all.at && part.at + part.bytes <= all.at + all.bytes);
}

static void read_lists(struct pl_slice value) {
  struct pl_slice rest = value, element;
  uint32_t sum = 0;
  while (pl__list_take(&rest, &element)) {
    check_inside(element, value);
    CHECK(element.bytes);
    sum += element.bytes + 1;
    CHECK(pl__list_has(value, element) ||
          memchr(element.at, '"', element.bytes));
  }
  CHECK(sum <= value.bytes + 1);
}

static void read_ranges(struct pl_slice value) {
  for (uint64_t size = 0; size < 3000; size = size * 7 + 1) {
    uint64_t first = 0, last = 0;
    if (pl__range_parse(value, size, &first, &last) == PL_RANGE_PART)
      CHECK(first <= last && last < size);
  }
  int64_t t;
  if (pl__date_parse(value, &t) == 0) {
    char again[PL_DATE_BYTES];
    pl__date_format(t, again);
    CHECK(pl__slice_equal(value, pl__slice(again, PL_DATE_BYTES)));
  }
}

static void read_fields(struct pl_slice value, struct pl_arena *arena) {
  struct pl_header header = {PL_SLICE("Cookie"), value};
  struct pl_req req = {
      .headers = &header, .header_count = 1, .arena = arena, .query = value};

  if (pl__req_cookies(&req) == 0)
    for (uint32_t i = 0; i < req.cookie_count; i++) {
      CHECK(req.cookies[i].name.bytes);
      check_inside(req.cookies[i].name, value);
      check_inside(req.cookies[i].value, value);
    }
  int status = pl__req_queries(&req);
  CHECK(status == 0 || status == PL_EFULL);
  uint32_t sum = 0;
  for (uint32_t i = 0; i < req.query_count; i++)
    sum += req.queries[i].name.bytes + req.queries[i].value.bytes + 1;
  CHECK(req.query_count <= PL_LIMIT_QUERY_FIELDS && sum <= value.bytes + 1);
}

/* Nothing that is taken lets a line end early. */
static void set_fields(struct pl_slice value, struct pl_buf *extra) {
  struct pl_req req = {.extra = extra};
  const struct pl_slice name = PL_SLICE("x-a");
  CHECK(pl__extra_set(&req, PL_SLICE("X-B"), PL_SLICE("1"), 0) == 0);
  if (pl__extra_set(&req, name, value, 0) == 0) {
    CHECK(!value.bytes || (!memchr(value.at, '\n', value.bytes) &&
                           !memchr(value.at, '\r', value.bytes) &&
                           !memchr(value.at, 0, value.bytes)));
    CHECK(pl__slice_equal(pl__extra_get(&req, PL_SLICE("X-A")), value));
    CHECK(pl__extra_set(&req, PL_SLICE("X-a"), PL_SLICE("v"), 0) == 0);
    CHECK(extra->bytes == sizeof("X-B: 1\r\nX-a: v\r\n") - 1);
  }
  if (pl__extra_set(&req, value, PL_SLICE("v"), 1) == 0)
    CHECK(pl__field_name_is_valid(value));
  pl__extra_clear(&req);
  CHECK(extra->bytes == 0);

  CHECK(pl__problem_string(extra, value) == 0);
  for (uint32_t i = 1; i + 1 < extra->bytes; i++)
    CHECK((unsigned char)extra->at[i] >= 0x20);
  extra->bytes = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  struct pl_slice value = pl__slice((const char *)at, bytes);
  struct pl_arena arena;
  struct pl_buf extra;

  if (!bytes || bytes > BYTES_MAX)
    return 0;
  pl__arena_init(&arena, NULL, PL_LIMIT_ARENA_BYTES);
  pl__buf_init(&extra, NULL, PL_LIMIT_EXTRA_BYTES);
  read_lists(value);
  read_ranges(value);
  read_fields(value, &arena);
  set_fields(value, &extra);
  pl__buf_release(&extra);
  pl__arena_reset(&arena, false);
  return 0;
}
