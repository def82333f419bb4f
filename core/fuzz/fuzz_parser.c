/* fuzz/fuzz_parser.c - requests, whole and split, against a slow and plain
 * reading.
 *
 * The parser against a slow and plain reading of the same bytes.
 *
 * The input is what a client sends.  It is read whole, byte by byte and in
 * pieces that depend on its bytes; all must end alike.  A head that the
 * parser takes must be one by the grammar written out below, with the same
 * fields, and one that the grammar takes may only be refused for a limit.
 */
#include "http/parser.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "http/headers.h"
#include "http/target.h"

#define HEADER_COUNT 32u
#define INPUT_BYTES_MAX 4096u

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

struct reading {
  union pl_parser_room room;
  struct pl_header headers[HEADER_COUNT];
  struct pl_req req;
  enum pl_parse_outcome outcome;
  int has_head;
  uint16_t status;
  uint32_t used;
  uint32_t head_bytes;
  char bytes[INPUT_BYTES_MAX];
};

static const struct pl_parser_limits LIMITS = {256, 1024, HEADER_COUNT};

static int feed(struct reading *r, uint32_t end) {
  struct pl_parser *p = (struct pl_parser *)&r->room;
  for (;;) {
    uint32_t used;
    r->outcome =
        pl__parser_run(p, &r->req, r->bytes + r->used, end - r->used, &used);
    CHECK(used <= end - r->used);
    r->used += used;
    if (r->outcome == PL_PARSE_HEAD) {
      CHECK(!r->has_head);
      r->has_head = 1;
      r->head_bytes = r->used;
      continue;
    }
    if (r->outcome == PL_PARSE_MORE)
      CHECK(r->used == end);
    if (r->outcome == PL_PARSE_BAD) {
      const char *detail;
      pl__parser_error(p, &r->status, &detail);
      CHECK(r->status >= 400 && r->status <= 505 && detail[0]);
    }
    return r->outcome != PL_PARSE_MORE;
  }
}

/* step 0: pieces of 1 to 16 bytes, by the bytes themselves. */
static void read_in_steps(struct reading *r, const uint8_t *at, uint32_t n,
                          uint32_t step) {
  uint32_t end = 0, seed = 2166136261u;
  memset(r, 0, offsetof(struct reading, bytes));
  memcpy(r->bytes, at, n);
  r->req.headers = r->headers;
  r->req.body_max = 2000;
  pl__parser_init((struct pl_parser *)&r->room, &LIMITS);
  while (end < n) {
    seed = (seed ^ at[end]) * 16777619u;
    uint32_t piece = step ? step : 1 + (seed >> 13) % 16;
    end = piece < n - end ? end + piece : n;
    if (feed(r, end))
      return;
  }
}

static void check_slice(const struct reading *a, struct pl_slice x,
                        const struct reading *b, struct pl_slice y) {
  CHECK(x.bytes == y.bytes);
  if (x.bytes)
    CHECK(x.at - a->bytes == y.at - b->bytes &&
          memcmp(x.at, y.at, x.bytes) == 0);
}

static void check_same(const struct reading *a, const struct reading *b) {
  CHECK(a->outcome == b->outcome && a->has_head == b->has_head);
  CHECK(a->status == b->status);
  CHECK(a->req.body_received == b->req.body_received);
  CHECK(a->req.flags == b->req.flags);
  check_slice(a, a->req.body, b, b->req.body);
  if (a->outcome != PL_PARSE_BAD)
    CHECK(a->used == b->used);
  if (!a->has_head)
    return;
  CHECK(a->req.method == b->req.method);
  CHECK(a->req.content_length == b->req.content_length);
  CHECK(a->req.header_count == b->req.header_count);
  check_slice(a, a->req.target, b, b->req.target);
  for (uint32_t i = 0; i < a->req.header_count; i++) {
    check_slice(a, a->headers[i].name, b, b->headers[i].name);
    check_slice(a, a->headers[i].value, b, b->headers[i].value);
  }
}

/* ---- the plain reading ---- */

struct plain {
  struct pl_slice target;
  struct pl_header headers[HEADER_COUNT];
  uint32_t header_count;
  uint32_t bytes; /* of the head */
  int is_1_0;
};

static int is_token(int c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
         (c >= 'A' && c <= 'Z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* Takes a line that ends in CRLF and has neither CR nor LF in it. */
static int take_line(struct pl_slice *rest, struct pl_slice *line) {
  for (uint32_t i = 0; i + 1 < rest->bytes; i++) {
    if (rest->at[i] == '\n' || (rest->at[i] == '\r' && rest->at[i + 1] != '\n'))
      return 0;
    if (rest->at[i] == '\r') {
      *line = pl__slice(rest->at, i);
      *rest = pl__slice(rest->at + i + 2, rest->bytes - i - 2);
      return 1;
    }
  }
  return 0;
}

static int read_request_line(struct pl_slice line, struct plain *p) {
  const char *space = line.bytes ? memchr(line.at, ' ', line.bytes) : NULL;
  if (!space)
    return 0;
  int method = pl__method_find(pl__slice(line.at, (size_t)(space - line.at)));
  if (method < 0 || method == PL_METHOD_CONNECT)
    return 0;
  uint32_t from = (uint32_t)(space - line.at) + 1, to = from;
  while (to < line.bytes && line.at[to] > 0x20 && line.at[to] < 0x7f)
    to++;
  if (to == from || line.bytes - to != 9)
    return 0;
  p->target = pl__slice(line.at + from, to - from);
  p->is_1_0 = memcmp(line.at + to, " HTTP/1.0", 9) == 0;
  return p->is_1_0 || memcmp(line.at + to, " HTTP/1.1", 9) == 0;
}

static int read_field_line(struct pl_slice line, struct plain *p) {
  uint32_t i = 0;
  while (i < line.bytes && is_token(line.at[i]))
    i++;
  if (i == 0 || i == line.bytes || line.at[i] != ':')
    return 0;
  struct pl_slice value = pl__slice(line.at + i + 1, line.bytes - i - 1);
  for (uint32_t k = 0; k < value.bytes; k++) {
    unsigned char c = (unsigned char)value.at[k];
    if ((c < 0x20 && c != '\t') || c == 0x7f)
      return 0;
  }
  if (p->header_count == HEADER_COUNT)
    return 0;
  p->headers[p->header_count++] =
      (struct pl_header){pl__slice(line.at, i), pl__slice_trim(value)};
  return 1;
}

static uint32_t count(const struct plain *p, struct pl_slice name) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->header_count; i++)
    n += (uint32_t)pl__slice_equal_nocase(p->headers[i].name, name);
  return n;
}

static struct pl_slice value_of(const struct plain *p, struct pl_slice name) {
  for (uint32_t i = 0; i < p->header_count; i++)
    if (pl__slice_equal_nocase(p->headers[i].name, name))
      return p->headers[i].value;
  return PL_SLICE("");
}

static int has_fair_framing(const struct plain *p) {
  const struct pl_slice te = PL_SLICE("transfer-encoding");
  const struct pl_slice cl = PL_SLICE("content-length");
  const struct pl_slice host = PL_SLICE("host");
  uint32_t te_count = count(p, te), cl_count = count(p, cl);
  struct pl_slice length = value_of(p, cl);

  if (te_count + cl_count > 1 || count(p, host) > 1)
    return 0;
  if (te_count && (p->is_1_0 || !pl__slice_equal_nocase(value_of(p, te),
                                                        PL_SLICE("chunked"))))
    return 0;
  if (cl_count) {
    char digits[20] = {0};
    if (!length.bytes || length.bytes > 16)
      return 0;
    memcpy(digits, length.at, length.bytes);
    if (strspn(digits, "0123456789") != length.bytes ||
        strtoull(digits, NULL, 10) >= 1ull << 53)
      return 0;
  }
  if (!count(p, host))
    return p->is_1_0;
  return pl__target_is_host(value_of(p, host));
}

static int read_plainly(struct pl_slice rest, struct plain *p) {
  const char *begin = rest.at;
  struct pl_slice line;

  memset(p, 0, sizeof(*p));
  if (rest.bytes >= 2 && memcmp(rest.at, "\r\n", 2) == 0)
    rest = pl__slice(rest.at + 2, rest.bytes - 2);
  if (!take_line(&rest, &line) || !read_request_line(line, p))
    return 0;
  for (;;) {
    if (!take_line(&rest, &line))
      return 0;
    if (!line.bytes)
      break;
    if (!read_field_line(line, p))
      return 0;
  }
  p->bytes = (uint32_t)(rest.at - begin);
  return has_fair_framing(p);
}

static void compare(const struct reading *r, uint32_t n) {
  struct plain p;
  int fair = read_plainly(pl__slice(r->bytes, n), &p);

  if (r->has_head) {
    CHECK(fair);
    CHECK(r->head_bytes == p.bytes);
    CHECK(pl__slice_equal(r->req.target, p.target));
    CHECK(r->req.header_count == p.header_count);
    for (uint32_t i = 0; i < p.header_count; i++)
      CHECK(pl__slice_equal(r->headers[i].name, p.headers[i].name) &&
            pl__slice_equal(r->headers[i].value, p.headers[i].value));
  } else if (fair && p.target.at[0] == '/' &&
             !memchr(p.target.at, '#', p.target.bytes)) {
    CHECK(r->outcome == PL_PARSE_BAD);
    CHECK(r->status == 414 || r->status == 431);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  static struct reading whole, single, pieces;
  uint32_t n = bytes < INPUT_BYTES_MAX ? (uint32_t)bytes : INPUT_BYTES_MAX;

  if (!n)
    return 0;
  read_in_steps(&whole, at, n, n);
  read_in_steps(&single, at, n, 1);
  check_same(&whole, &single);
  read_in_steps(&pieces, at, n, 0);
  check_same(&whole, &pieces);
  /* Bodies are compacted in place, so the head is compared as it was sent. */
  memcpy(whole.bytes, at, n);
  compare(&whole, n);
  return 0;
}
