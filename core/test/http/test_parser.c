/* test/http/test_parser.c - requests, good and malformed, whole, cut at
 * every byte, and byte by byte.
 *
 * Every message here is read whole, cut in two at every byte, and byte by
 * byte: the cuts change nothing, neither what is found nor what is refused.
 */
#include "http/parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "http/target.h"

#define HEADER_COUNT 20u
#define TARGET_BYTES 200u
#define HEADERS_BYTES 1000u

/* One message being read. The bytes lie in memory of exactly their size, so
 * that a sanitizer sees the first one read too far. */
struct reading {
  union pl_parser_room room;
  struct pl_header headers[HEADER_COUNT];
  struct pl_req req;
  enum pl_parse_outcome outcome;
  int has_head;
  uint16_t status;
  const char *detail;
  char *bytes;
  uint32_t used;
  char digest[4096];
  uint32_t digest_bytes;
};

static double body_max = 100;
static struct pl_parser_limits limits = {TARGET_BYTES, HEADERS_BYTES,
                                         HEADER_COUNT};

static struct pl_parser *parser_of(struct reading *r) {
  return (struct pl_parser *)&r->room;
}

static void reading_init(struct reading *r) {
  memset(r, 0, sizeof(*r));
  r->req.headers = r->headers;
  r->req.method = PL_METHOD_UNKNOWN;
  r->req.body_max = body_max;
  pl__parser_init(parser_of(r), &limits);
}

/* Hands over the bytes up to `end`. Returns whether the message is over. */
static int feed(struct reading *r, uint32_t end) {
  for (;;) {
    uint32_t used;
    r->outcome = pl__parser_run(parser_of(r), &r->req, r->bytes + r->used,
                                end - r->used, &used);
    assert_true(used <= end - r->used);
    r->used += used;
    if (r->outcome == PL_PARSE_HEAD) {
      assert_false(r->has_head);
      r->has_head = 1;
      continue; /* to the body */
    }
    if (r->outcome == PL_PARSE_BAD)
      pl__parser_error(parser_of(r), &r->status, &r->detail);
    else if (r->outcome == PL_PARSE_MORE)
      assert_int_equal(r->used, end);
    return r->outcome != PL_PARSE_MORE;
  }
}

static void note(struct reading *r, struct pl_slice s) {
  char line[64];
  int n = snprintf(line, sizeof(line), "[%u]", s.bytes);
  if (r->digest_bytes + (uint32_t)n + s.bytes < sizeof(r->digest)) {
    memcpy(r->digest + r->digest_bytes, line, (size_t)n);
    r->digest_bytes += (uint32_t)n;
    if (s.bytes)
      memcpy(r->digest + r->digest_bytes, s.at, s.bytes);
    r->digest_bytes += s.bytes;
  }
}

/* Writes down all that a caller can see. */
static void digest(struct reading *r) {
  char line[128];
  int n = snprintf(line, sizeof(line), "%d %d %d %u %u %u %g %g %u",
                   (int)r->outcome, r->has_head, r->status, r->req.method,
                   r->req.http_minor, r->req.flags, r->req.content_length,
                   r->req.body_received, r->status ? 0 : r->used);
  note(r, pl__slice(line, (size_t)n));
  note(r, r->req.body);
  if (!r->has_head)
    return;
  note(r, r->req.target);
  note(r, r->req.host);
  for (uint32_t i = 0; i < r->req.header_count; i++) {
    note(r, r->headers[i].name);
    note(r, r->headers[i].value);
  }
}

/* Reads `bytes` in pieces that end at `cut`, or of one byte if that is 0. */
static void read_cut(struct reading *r, const char *bytes, uint32_t n,
                     uint32_t cut) {
  reading_init(r);
  r->bytes = pl__alloc(n);
  assert_non_null(r->bytes);
  memcpy(r->bytes, bytes, n);
  if (cut) {
    if (cut >= n || !feed(r, cut))
      feed(r, n);
  } else {
    for (uint32_t end = 1; end <= n; end++)
      if (feed(r, end))
        break;
  }
  digest(r);
}

/* Reads it in all ways; leaves the reading of the whole in *whole. Whoever
 * calls frees whole->bytes. */
static void read_all_ways(struct reading *whole, const char *bytes,
                          uint32_t n) {
  static struct reading other;
  read_cut(whole, bytes, n, n);
  for (uint32_t cut = 0; cut < n; cut++) {
    read_cut(&other, bytes, n, cut);
    if (other.digest_bytes != whole->digest_bytes ||
        memcmp(other.digest, whole->digest, whole->digest_bytes) != 0)
      fail_msg("cut at %u: %.*s\n  whole: %.*s (%s)\n  cut: %.*s (%s)", cut,
               (int)n, bytes, (int)whole->digest_bytes, whole->digest,
               whole->detail ? whole->detail : "", (int)other.digest_bytes,
               other.digest, other.detail ? other.detail : "");
    pl__free(other.bytes);
  }
}

static void refuse(int status, const char *bytes, size_t n) {
  static struct reading r;
  read_all_ways(&r, bytes, (uint32_t)n);
  if (r.status != status || r.outcome != PL_PARSE_BAD)
    fail_msg("status %d (%s), wanted %d, for:\n%.*s", r.status,
             r.detail ? r.detail : "", status, (int)n, bytes);
  assert_true(strlen(r.detail) > 10);
  pl__free(r.bytes);
}

static struct reading accepted;

static const struct pl_req *accept(const char *bytes, size_t n) {
  pl__free(accepted.bytes);
  read_all_ways(&accepted, bytes, (uint32_t)n);
  if (accepted.outcome != PL_PARSE_DONE)
    fail_msg("outcome %d, status %d (%s), for:\n%.*s", (int)accepted.outcome,
             accepted.status, accepted.detail ? accepted.detail : "", (int)n,
             bytes);
  return &accepted.req;
}

#define REFUSE(status, literal) refuse(status, literal, sizeof(literal) - 1)
#define ACCEPT(literal) accept(literal, sizeof(literal) - 1)
#define HOST "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\n" HOST
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static void assert_slice(struct pl_slice s, const char *text) {
  assert_int_equal(s.bytes, strlen(text));
  assert_memory_equal(s.at, text, s.bytes);
}

/* ---- what is found ---- */

static void reads_a_plain_request(void **state) {
  (void)state;
  const struct pl_req *r = ACCEPT("GET /a?b=c HTTP/1.1\r\nHost: x.y:80\r\n"
                                  "Accept: */*\r\nX-Empty:\r\n"
                                  "x-pad: \t v w \t\r\n\r\n");
  assert_int_equal(r->method, PL_METHOD_GET);
  assert_int_equal(r->http_minor, 1);
  assert_slice(r->target, "/a?b=c");
  assert_slice(r->host, "x.y:80");
  assert_int_equal(r->header_count, 4);
  assert_slice(r->headers[1].name, "Accept");
  assert_slice(r->headers[1].value, "*/*");
  assert_slice(r->headers[2].name, "X-Empty");
  assert_slice(r->headers[2].value, "");
  assert_slice(r->headers[3].value, "v w");
  assert_int_equal(r->flags, PL_REQ_KEEP_ALIVE | PL_REQ_BODY_DONE);
  assert_true(r->content_length < 0);
}

static void reads_each_method_that_can_be_routed(void **state) {
  (void)state;
#define READ_METHOD(number, name)                                              \
  if ((number) != PL_METHOD_CONNECT)                                           \
    assert_int_equal(ACCEPT(#name " /x HTTP/1.1\r\n" HOST "\r\n")->method,     \
                     number);
  PL_METHODS(READ_METHOD)
}

static void takes_one_empty_line_before_a_request(void **state) {
  (void)state;
  ACCEPT("\r\n" GET HOST "\r\n");
  REFUSE(400, "\r\n\r\n" GET HOST "\r\n");
  REFUSE(400, "\n" GET HOST "\r\n");
  REFUSE(400, "\r" GET HOST "\r\n");
}

static void keeps_connections_as_the_version_says(void **state) {
  (void)state;
#define KEPT(literal) (ACCEPT(literal)->flags & PL_REQ_KEEP_ALIVE)
  assert_true(KEPT(GET HOST "\r\n"));
  assert_true(KEPT(GET HOST "Connection: keep-alive\r\n\r\n"));
  assert_false(KEPT(GET HOST "Connection: close\r\n\r\n"));
  assert_false(KEPT(GET HOST "connection: x, CLOSE\r\n\r\n"));
  assert_false(KEPT(GET HOST "Connection: keep-alive, close\r\n\r\n"));
  assert_false(KEPT(GET HOST "Connection: a\r\nConnection: close\r\n\r\n"));
  assert_false(KEPT("GET / HTTP/1.0\r\n\r\n"));
  assert_true(KEPT("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
  assert_false(KEPT("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
}

static void ignores_upgrades(void **state) {
  (void)state;
  const struct pl_req *r =
      ACCEPT(POST "Connection: upgrade, keep-alive\r\nUpgrade: h2c\r\n"
                  "Content-Length: 2\r\n\r\nhi");
  assert_slice(r->body, "hi");
  assert_true(r->flags & PL_REQ_KEEP_ALIVE);
}

static void notes_an_expectation_only_before_a_body(void **state) {
  (void)state;
#define EXPECT "Expect: 100-Continue\r\n"
  assert_true(ACCEPT(POST EXPECT "Content-Length: 1\r\n\r\nx")->flags &
              PL_REQ_EXPECT);
  assert_false(ACCEPT(POST EXPECT "\r\n")->flags & PL_REQ_EXPECT);
  assert_false(
      ACCEPT("POST / HTTP/1.0\r\n" EXPECT "Content-Length: 1\r\n\r\nx")->flags &
      PL_REQ_EXPECT);
}

static void reads_a_body_of_declared_length(void **state) {
  (void)state;
  const struct pl_req *r = ACCEPT(POST "Content-Length: 5\r\n\r\nhello");
  assert_slice(r->body, "hello");
  assert_true(r->content_length == 5 && r->body_received == 5);
  assert_true(r->flags & PL_REQ_BODY_DONE);
  r = ACCEPT(POST "Content-Length: 0\r\n\r\n");
  assert_true(r->content_length == 0);
  r = ACCEPT(POST "Content-Length: 0000000000000001\r\n\r\nx");
  assert_slice(r->body, "x");
}

static void stops_exactly_at_the_end_of_a_message(void **state) {
  (void)state;
#define FIRST POST "Content-Length: 5\r\n\r\nhello"
  ACCEPT(FIRST "GET /2");
  assert_int_equal(accepted.used, sizeof(FIRST) - 1);
#define SECOND CHUNKED "1\r\na\r\n0\r\n\r\n"
  ACCEPT(SECOND "GET /2");
  assert_int_equal(accepted.used, sizeof(SECOND) - 1);
#define THIRD GET HOST "\r\n"
  ACCEPT(THIRD "\x16garbage");
  assert_int_equal(accepted.used, sizeof(THIRD) - 1);
}

static void reads_the_next_message_after_a_reset(void **state) {
  static const char bytes[] =
      POST "Connection: close\r\nContent-Length: 1\r\n\r\nx" GET HOST "\r\n";
  static struct reading r;
  uint32_t used, from;
  (void)state;
  reading_init(&r);
  r.bytes = pl__alloc(sizeof(bytes));
  memcpy(r.bytes, bytes, sizeof(bytes));
  assert_false(pl__parser_begun(parser_of(&r)));
  assert_true(feed(&r, sizeof(bytes) - 1));
  assert_int_equal(r.outcome, PL_PARSE_DONE);
  assert_true(pl__parser_begun(parser_of(&r)));
  pl__parser_reset(parser_of(&r));
  assert_false(pl__parser_begun(parser_of(&r)));
  from = r.used;
  struct pl_req next = {.headers = r.headers};
  assert_int_equal(pl__parser_run(parser_of(&r), &next, r.bytes + from,
                                  (uint32_t)sizeof(bytes) - 1 - from, &used),
                   PL_PARSE_HEAD);
  assert_int_equal(used, sizeof(bytes) - 1 - from);
  assert_int_equal(next.method, PL_METHOD_GET);
  assert_int_equal(pl__parser_run(parser_of(&r), &next, NULL, 0, &used),
                   PL_PARSE_DONE);
  pl__free(r.bytes);
}

static void decodes_chunks_in_place(void **state) {
  (void)state;
  const struct pl_req *r =
      ACCEPT(CHUNKED "5\r\nhello\r\n6;a=b;c=\"d\"\r\n world\r\n"
                     "00A\r\n0123456789\r\n0\r\n\r\n");
  assert_slice(r->body, "hello world0123456789");
  assert_true(r->body_received == 21);
  assert_true(r->content_length < 0);
  assert_int_equal(r->flags & (PL_REQ_CHUNKED | PL_REQ_BODY_DONE),
                   PL_REQ_CHUNKED | PL_REQ_BODY_DONE);
}

static void drops_trailers(void **state) {
  (void)state;
  const struct pl_req *r = ACCEPT(
      CHUNKED "1\r\nx\r\n0\r\nHost: evil\r\nContent-Length: 5\r\nA:\r\n\r\n");
  assert_int_equal(r->header_count, 2);
  assert_slice(r->host, "a");
  assert_slice(r->body, "x");
}

static void takes_the_coding_in_any_case(void **state) {
  (void)state;
  ACCEPT(POST "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n");
}

static void moves_a_body_to_where_the_caller_wants_it(void **state) {
  static const char head[] = CHUNKED;
  static const char body[] = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
  static struct reading r;
  static char slab[512];
  uint32_t used;
  (void)state;
  reading_init(&r);
  memcpy(slab + 8, head, sizeof(head) - 1);
  assert_int_equal(
      pl__parser_run(parser_of(&r), &r.req, slab + 8, sizeof(head) - 1, &used),
      PL_PARSE_HEAD);
  char *at = slab + 8 + used;
  memcpy(at, body, sizeof(body) - 1);
  /* The caller has consumed what came first: its bytes begin anew. */
  r.req.body = pl__slice(slab, 0);
  assert_int_equal(pl__parser_run(parser_of(&r), &r.req, at, 5, &used),
                   PL_PARSE_MORE);
  assert_int_equal(used, 5);
  assert_slice(r.req.body, "ab");
  r.req.body = pl__slice(slab + 1, 1);
  assert_int_equal(pl__parser_run(parser_of(&r), &r.req, at + 5,
                                  (uint32_t)sizeof(body) - 6, &used),
                   PL_PARSE_DONE);
  assert_slice(r.req.body, "bcde");
  assert_ptr_equal(r.req.body.at, slab + 1);
  assert_true(r.req.body_received == 5);
}

/* ---- what is refused: framing ---- */

static void refuses_length_together_with_coding(void **state) {
  (void)state;
#define TE "Transfer-Encoding: chunked\r\n"
#define CL "Content-Length: 5\r\n"
  REFUSE(400, POST TE CL "\r\n0\r\n\r\n");
  REFUSE(400, POST CL TE "\r\n0\r\n\r\n");
  REFUSE(400, POST "Content-Length: 0\r\n" TE "\r\n0\r\n\r\n");
  REFUSE(400, POST CL "Transfer-Encoding:\r\n\r\nhello");
  REFUSE(400, POST "Transfer-Encoding:\r\n" CL "\r\nhello");
  REFUSE(400, POST "Transfer-Encoding: \r\n" CL "\r\nhello");
}

static void refuses_lengths_that_are_not_one_number(void **state) {
  (void)state;
  REFUSE(400, POST CL CL "\r\nhello");
  REFUSE(400, POST CL "Content-Length: 6\r\n\r\nhello!");
  REFUSE(400, POST "Content-Length: 5, 5\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 5,\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: +5\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: -5\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: -0\r\n\r\n");
  REFUSE(400, POST "Content-Length: 5 5\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 5a\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 0x5\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 5.0\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 1e1\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: \"5\"\r\n\r\nhello");
  REFUSE(400, POST "Content-Length:\r\n\r\n");
  REFUSE(400, POST "Content-Length: \r\n\r\n");
  REFUSE(400, POST "Content-Length: 9007199254740992\r\n\r\n");
  REFUSE(400, POST "Content-Length: 18446744073709551616\r\n\r\n");
  REFUSE(400, POST "Content-Length: 18446744073709551621\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 00000000000000005\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 5\r\n ,6\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: 5\0\r\n\r\nhello");
  REFUSE(400, POST "Content-Length: \0135\r\n\r\nhello");
}

static void refuses_codings_but_chunked_alone(void **state) {
  (void)state;
#define CODED(value) POST "Transfer-Encoding: " value "\r\n\r\n0\r\n\r\n"
  REFUSE(400, CODED("gzip, chunked"));
  REFUSE(400, CODED("chunked, gzip"));
  REFUSE(400, CODED("chunked, chunked"));
  REFUSE(400, CODED("chunked, identity"));
  REFUSE(400, CODED("identity"));
  REFUSE(400, CODED("gzip"));
  REFUSE(400, CODED("xchunked"));
  REFUSE(400, CODED("chunkedx"));
  REFUSE(400, CODED("chunk"));
  REFUSE(400, CODED("chunked;q=1"));
  REFUSE(400, CODED("chunked,"));
  REFUSE(400, CODED(",chunked"));
  REFUSE(400, CODED("\"chunked\""));
  REFUSE(400, CODED("\013chunked"));
  REFUSE(400, CODED("chunked\014"));
  REFUSE(400, CODED("\r\n chunked"));
  REFUSE(400, CODED(""));
  REFUSE(400, POST TE TE "\r\n0\r\n\r\n");
  REFUSE(400, POST "Transfer-Encoding: x\r\n" TE "\r\n0\r\n\r\n");
  REFUSE(400, POST TE "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n");
  REFUSE(400, "POST / HTTP/1.0\r\n" HOST TE "\r\n0\r\n\r\n");
}

static void refuses_malformed_chunks(void **state) {
  (void)state;
  REFUSE(400, CHUNKED "x\r\n");
  REFUSE(400, CHUNKED "\r\n\r\n");
  REFUSE(400, CHUNKED ";a\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "0x5\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "+5\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "-5\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED " 5\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5 \r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5 ;a\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5\t\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5_0\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5\rhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5\rxhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "0\rx\r\n");
  REFUSE(400, CHUNKED "5\r\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5;a\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5;a\r\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5;a\0\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5;\"\r\n\"\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5\r\nhello\n0\r\n\r\n");
  REFUSE(400, CHUNKED "5\r\nhello\r0\r\n\r\n");
  REFUSE(400, CHUNKED "5\r\nhello0\r\n\r\n");
  REFUSE(400, CHUNKED "5\r\nhello!\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "4\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "0\n\r\n");
  REFUSE(400, CHUNKED "0\r\n\n");
  REFUSE(400, CHUNKED "0\r\n\rx");
  REFUSE(400, CHUNKED "10000000000000005\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "ffffffffffffffff\r\nhello\r\n0\r\n\r\n");
  REFUSE(400, CHUNKED "00000000000000005\r\nhello\r\n0\r\n\r\n");
}

static void refuses_malformed_trailers(void **state) {
  (void)state;
  REFUSE(400, CHUNKED "0\r\nA b: c\r\n\r\n");
  REFUSE(400, CHUNKED "0\r\nA : c\r\n\r\n");
  REFUSE(400, CHUNKED "0\r\n: c\r\n\r\n");
  REFUSE(400, CHUNKED "0\r\n a: c\r\n\r\n");
  REFUSE(400, CHUNKED "0\r\nA: c\r\n d\r\n\r\n");
  REFUSE(400, CHUNKED "0\r\nA: c\n\r\n");
  REFUSE(400, CHUNKED "0\r\nA: c\rd\r\n\r\n");
  REFUSE(400, CHUNKED "0\r\nA: \0\r\n\r\n");
  REFUSE(400, CHUNKED "0\r\nA\r\n\r\n");
}

/* ---- what is refused: the head ---- */

static void refuses_lines_that_do_not_end_in_crlf(void **state) {
  (void)state;
  REFUSE(400, "GET / HTTP/1.1\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.1\r" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.1\r\r\n" HOST "\r\n");
  REFUSE(400, GET "Host: a\n\r\n");
  REFUSE(400, GET "Host: a\r\r\n\r\n");
  REFUSE(400, GET "Host: a\rX: y\r\n\r\n");
  REFUSE(400, GET HOST "\n");
  REFUSE(400, GET HOST "\r\r\n");
  REFUSE(400, GET HOST "\rx");
  REFUSE(400, GET HOST "A:\n\r\n");
  REFUSE(400, GET HOST "A:\r\r\n\r\n");
  REFUSE(400, GET HOST "A:\rB: c\r\n\r\n");
  REFUSE(400, GET HOST "A: b\nC: d\r\n\r\n");
  REFUSE(400, GET HOST "A: b\r\nC: d\n\n");
  REFUSE(400, GET HOST "A: \rxTransfer-Encoding: chunked\r\n\r\n");
  REFUSE(400, GET HOST "A: b \n\r\n");
  REFUSE(400, GET HOST "Connection: close\n\r\n");
  REFUSE(400, GET HOST "Connection: close\r \r\n\r\n");
  REFUSE(400, GET HOST "Content-Length: 0\n\r\n");
  REFUSE(400, GET HOST "Transfer-Encoding: chunked\n\r\n0\r\n\r\n");
  REFUSE(400, GET HOST "Upgrade: x\n\r\n");
}

static void refuses_folded_lines(void **state) {
  (void)state;
  REFUSE(400, GET HOST "A: b\r\n c\r\n\r\n");
  REFUSE(400, GET HOST "A: b\r\n\tc\r\n\r\n");
  REFUSE(400, GET HOST "A: b\r\n \r\n\r\n");
  REFUSE(400, GET HOST "A:\r\n b\r\n\r\n");
  REFUSE(400, GET HOST "A: \r\n b\r\n\r\n");
  REFUSE(400, GET HOST "A:\r\n \r\n\r\n");
  REFUSE(400, GET HOST "Connection:\r\n close\r\n\r\n");
  REFUSE(400, GET HOST "Connection: close\r\n \r\n\r\n");
  REFUSE(400, GET " Host: a\r\n\r\n");
  REFUSE(400, GET "\tHost: a\r\n\r\n");
}

static void refuses_malformed_field_names(void **state) {
  (void)state;
  REFUSE(400, GET HOST ": b\r\n\r\n");
  REFUSE(400, GET HOST ":\r\n\r\n");
  REFUSE(400, GET ":\r\n" HOST "\r\n");
  REFUSE(400, GET HOST "A : b\r\n\r\n");
  REFUSE(400, GET HOST "A\t: b\r\n\r\n");
  REFUSE(400, GET "Host : a\r\n\r\n");
  REFUSE(400, POST "Content-Length : 5\r\n\r\nhello");
  REFUSE(400, POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n");
  REFUSE(400, GET HOST "A b: c\r\n\r\n");
  REFUSE(400, GET HOST "A\0b: c\r\n\r\n");
  REFUSE(400, GET HOST "A\"b: c\r\n\r\n");
  REFUSE(400, GET HOST "A(b: c\r\n\r\n");
  REFUSE(400, GET HOST "A\200b: c\r\n\r\n");
  REFUSE(400, GET HOST "A\r\n\r\n");
  REFUSE(400, GET HOST "A\r\nB: c\r\n\r\n");
}

static void refuses_control_characters_in_values(void **state) {
  (void)state;
  char message[] = GET HOST "A: bXc\r\n\r\n";
  char *at = strchr(message, 'X');
  for (int c = 0; c < 256; c++) {
    *at = (char)c;
    if ((c >= 0x20 && c != 0x7f) || c == '\t')
      accept(message, sizeof(message) - 1);
    else
      refuse(400, message, sizeof(message) - 1);
  }
}

static void refuses_wrong_hosts(void **state) {
  (void)state;
  REFUSE(400, GET "\r\n");
  REFUSE(400, GET "X: y\r\n\r\n");
  REFUSE(400, GET HOST HOST "\r\n");
  REFUSE(400, GET HOST "host: b\r\n\r\n");
  REFUSE(400, GET "Host:\r\n\r\n");
  REFUSE(400, GET "Host: a b\r\n\r\n");
  REFUSE(400, GET "Host: a/b\r\n\r\n");
  REFUSE(400, GET "Host: a@b\r\n\r\n");
  REFUSE(400, GET "Host: a, b\r\n\r\n");
  REFUSE(400, GET "Host: a:b\r\n\r\n");
  REFUSE(400, GET "Host: a:65536\r\n\r\n");
  REFUSE(400, GET "Host: [::1\r\n\r\n");
  ACCEPT("GET / HTTP/1.0\r\n\r\n");
  REFUSE(400, "GET / HTTP/1.0\r\n" HOST HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.0\r\nHost: a b\r\n\r\n");
}

static void refuses_malformed_request_lines(void **state) {
  (void)state;
  REFUSE(400, "GET  / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET /  HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET /\tHTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.1 \r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.1\t\r\n" HOST "\r\n");
  REFUSE(400, " GET / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET / a HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET /\r\n" HOST "\r\n");
  REFUSE(400, "GET /\n" HOST "\r\n");
  REFUSE(400, "GET / \r\n" HOST "\r\n");
  REFUSE(400, "GET /\r\n\r\n");
  REFUSE(400, "GET HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET  HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET / http/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/.1\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.x\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.10\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1.1x\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/11\r\n" HOST "\r\n");
  REFUSE(400, "GET / HTTP/1,1\r\n" HOST "\r\n");
  REFUSE(400, "GET / FTP/1.1\r\n" HOST "\r\n");
  REFUSE(501, "SOURCE / ICE/1.0\r\n" HOST "\r\n");
  REFUSE(400, "OPTIONS / RTSP/1.0\r\n" HOST "\r\n");
  REFUSE(400, "GET /\0 HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET /\177 HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "GET /\200 HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "G\0T / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(400, "\x16\x03\x01\x02");
  REFUSE(501, "HTTP/1.1 200 OK\r\n\r\n");
}

static void refuses_versions_but_one_point_zero_and_one(void **state) {
  (void)state;
  REFUSE(505, "GET / HTTP/0.9\r\n" HOST "\r\n");
  REFUSE(505, "GET / HTTP/1.2\r\n" HOST "\r\n");
  REFUSE(505, "GET / HTTP/2.0\r\n" HOST "\r\n");
  REFUSE(505, "GET / HTTP/3.1\r\n" HOST "\r\n");
  REFUSE(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

static void refuses_methods_it_does_not_know(void **state) {
  (void)state;
  REFUSE(501, "BREW / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(501, "get / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(501, "GETS / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(501, "GE / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(501, "PROPFIND / HTTP/1.1\r\n" HOST "\r\n");
  REFUSE(501, "CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n");
}

/* What the access log and metrics say of a request that is refused. */
static void tells_the_method_of_what_it_refuses(void **state) {
  static const struct {
    const char *bytes;
    uint8_t method;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\nA: \x1b[31m\r\n\r\n", PL_METHOD_GET},
      {"HEAD / HTTP/1.1\r\n\r\n", PL_METHOD_HEAD},
      {"POST / HTTP/1.1\r\n A: folded\r\n\r\n", PL_METHOD_POST},
      {"GET /\x1b HTTP/1.1\r\n\r\n", PL_METHOD_UNKNOWN},
      {"BREW / HTTP/1.1\r\n\r\n", PL_METHOD_UNKNOWN},
      {"\x16\x03\x01", PL_METHOD_UNKNOWN}};

  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct reading r;
    reading_init(&r);
    r.bytes = (char *)cases[i].bytes;
    assert_true(feed(&r, (uint32_t)strlen(r.bytes)));
    assert_int_equal(PL_PARSE_BAD, r.outcome);
    assert_int_equal(cases[i].method, r.req.method);
  }
}

/* ---- limits ---- */

static char long_message[8192];

/* POST-free request: a target of `target` bytes, then `fields` as they are. */
static size_t build(uint32_t target, const char *fields) {
  size_t n = 0;
  memcpy(long_message, "GET /", 5);
  n = 5;
  memset(long_message + n, 'x', target - 1);
  n += target - 1;
  n += (size_t)snprintf(long_message + n, sizeof(long_message) - n,
                        " HTTP/1.1\r\n" HOST "%s\r\n", fields);
  return n;
}

static void refuses_a_target_past_its_limit(void **state) {
  (void)state;
  accept(long_message, build(TARGET_BYTES, ""));
  refuse(414, long_message, build(TARGET_BYTES + 1, ""));
  refuse(414, long_message, build(TARGET_BYTES * 3, ""));
  /* What is wrong behind the limit is not looked at. */
  size_t n = build(TARGET_BYTES + 10, "");
  long_message[4 + TARGET_BYTES + 2] = '\1';
  refuse(414, long_message, n);
}

static void refuses_header_sections_past_their_limit(void **state) {
  static char fields[2048];
  (void)state;
  size_t fixed = sizeof(HOST "A: \r\n\r\n") - 1;
  size_t value = HEADERS_BYTES - fixed;
  memcpy(fields, "A: ", 3);
  memset(fields + 3, 'v', value);
  memcpy(fields + 3 + value, "\r\n", 3);
  accept(long_message, build(1, fields));
  memset(fields + 3, 'v', value + 1);
  memcpy(fields + 3 + value + 1, "\r\n", 3);
  refuse(431, long_message, build(1, fields));
  memset(fields + 3, 'v', 1900);
  memcpy(fields + 3 + 1900, "\r\n", 3);
  fields[1500] = '\1';
  refuse(431, long_message, build(TARGET_BYTES, fields));
  fields[500] = '\1';
  refuse(400, long_message, build(TARGET_BYTES, fields));
}

static void keeps_limits_whichever_is_the_larger(void **state) {
  (void)state;
  limits.headers_bytes = 40;
  accept(long_message, build(TARGET_BYTES, "A: 012345678901234567890123\r\n"));
  refuse(431, long_message,
         build(TARGET_BYTES, "A: 0123456789012345678901234\r\n"));
  refuse(431, long_message,
         build(1, "A: 0123456789012345678901234\r\nB: \1\r\n"));
  limits.headers_bytes = HEADERS_BYTES;
  limits.target_bytes = 1;
  accept(long_message, build(1, ""));
  refuse(414, long_message, build(2, ""));
  limits.target_bytes = TARGET_BYTES;
}

static void refuses_more_header_fields_than_allowed(void **state) {
  static char fields[512];
  (void)state;
  for (uint32_t i = 0; i < HEADER_COUNT - 1; i++)
    memcpy(fields + i * 6, "A: b\r\n", 7);
  accept(long_message, build(1, fields));
  assert_int_equal(accepted.req.header_count, HEADER_COUNT);
  memcpy(fields + (HEADER_COUNT - 1) * 6, "A: b\r\n", 7);
  refuse(431, long_message, build(1, fields));
}

static void refuses_trailers_past_their_limits(void **state) {
  static char message[4096];
  size_t head = sizeof(CHUNKED "0\r\n") - 1, n = head;
  (void)state;
  memcpy(message, CHUNKED "0\r\n", head);
  for (uint32_t i = 0; i <= HEADER_COUNT; i++, n += 6)
    memcpy(message + n, "A: b\r\n", 6);
  memcpy(message + n, "\r\n", 2);
  refuse(431, message, n + 2);
  memcpy(message + n - 6, "\r\n", 2);
  accept(message, n - 4);
  memset(message + head + 3, 'v', HEADERS_BYTES);
  memcpy(message + head + 3 + HEADERS_BYTES, "\r\n\r\n", 4);
  refuse(431, message, head + 3 + HEADERS_BYTES + 4);
}

static void refuses_chunk_extensions_past_their_limits(void **state) {
  static char message[2 * PL_PARSER_BYTES + 4096];
  size_t head = sizeof(CHUNKED "1;") - 1;
  (void)state;
  memcpy(message, CHUNKED "1;", head);
  memset(message + head, 'e', 252);
  memcpy(message + head + 252, "\r\nx\r\n0\r\n\r\n", 10);
  accept(message, head + 262);
  memset(message + head, 'e', 253);
  memcpy(message + head + 253, "\r\nx\r\n0\r\n\r\n", 10);
  refuse(400, message, head + 263);
}

static void refuses_a_body_past_its_limit(void **state) {
  (void)state;
  body_max = 5;
  assert_slice(ACCEPT(CHUNKED "5\r\nhello\r\n0\r\n\r\n")->body, "hello");
  REFUSE(413, CHUNKED "6\r\nhello!\r\n0\r\n\r\n");
  REFUSE(413, CHUNKED "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n");
  REFUSE(413, POST "Content-Length: 6\r\n\r\nhello!");
  ACCEPT(POST "Content-Length: 5\r\n\r\nhello");
  body_max = 100;
}

static void tells_a_declared_length_past_the_limit(void **state) {
  (void)state;
  struct pl_req req = {.content_length = 5, .body_max = 5};
  assert_int_equal(pl__parser_check_length(&req), 0);
  req.content_length = 6;
  assert_int_equal(pl__parser_check_length(&req), PL_EFULL);
  req.content_length = -1;
  assert_int_equal(pl__parser_check_length(&req), 0);
}

static void stays_refused(void **state) {
  static struct reading r;
  uint32_t used;
  (void)state;
  read_cut(&r, "\x16xx", 3, 3);
  assert_int_equal(pl__parser_run(parser_of(&r), &r.req, r.bytes, 3, &used),
                   PL_PARSE_BAD);
  assert_int_equal(used, 0);
  pl__free(r.bytes);
}

static int free_accepted(void **state) {
  (void)state;
  pl__free(accepted.bytes);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_a_plain_request),
      cmocka_unit_test(reads_each_method_that_can_be_routed),
      cmocka_unit_test(takes_one_empty_line_before_a_request),
      cmocka_unit_test(keeps_connections_as_the_version_says),
      cmocka_unit_test(ignores_upgrades),
      cmocka_unit_test(notes_an_expectation_only_before_a_body),
      cmocka_unit_test(reads_a_body_of_declared_length),
      cmocka_unit_test(stops_exactly_at_the_end_of_a_message),
      cmocka_unit_test(reads_the_next_message_after_a_reset),
      cmocka_unit_test(decodes_chunks_in_place),
      cmocka_unit_test(drops_trailers),
      cmocka_unit_test(takes_the_coding_in_any_case),
      cmocka_unit_test(moves_a_body_to_where_the_caller_wants_it),
      cmocka_unit_test(refuses_length_together_with_coding),
      cmocka_unit_test(refuses_lengths_that_are_not_one_number),
      cmocka_unit_test(refuses_codings_but_chunked_alone),
      cmocka_unit_test(refuses_malformed_chunks),
      cmocka_unit_test(refuses_malformed_trailers),
      cmocka_unit_test(refuses_lines_that_do_not_end_in_crlf),
      cmocka_unit_test(refuses_folded_lines),
      cmocka_unit_test(refuses_malformed_field_names),
      cmocka_unit_test(refuses_control_characters_in_values),
      cmocka_unit_test(refuses_wrong_hosts),
      cmocka_unit_test(refuses_malformed_request_lines),
      cmocka_unit_test(refuses_versions_but_one_point_zero_and_one),
      cmocka_unit_test(refuses_methods_it_does_not_know),
      cmocka_unit_test(tells_the_method_of_what_it_refuses),
      cmocka_unit_test(refuses_a_target_past_its_limit),
      cmocka_unit_test(refuses_header_sections_past_their_limit),
      cmocka_unit_test(keeps_limits_whichever_is_the_larger),
      cmocka_unit_test(refuses_more_header_fields_than_allowed),
      cmocka_unit_test(refuses_trailers_past_their_limits),
      cmocka_unit_test(refuses_chunk_extensions_past_their_limits),
      cmocka_unit_test(refuses_a_body_past_its_limit),
      cmocka_unit_test(tells_a_declared_length_past_the_limit),
      cmocka_unit_test(stays_refused),
  };
  return cmocka_run_group_tests(tests, NULL, free_accepted);
}
