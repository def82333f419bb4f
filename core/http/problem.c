#include "http/problem.h"

#include "base/err.h"
#include "base/utf8.h"
#include "http/encode.h"
#include "http/headers.h"

/* Room for a whole document: a title, and each byte of the detail as the six
 * of "\u00xx". On the stack, so that an error can be answered without memory.
 */
#define DOCUMENT_BYTES (256u + 6u * PL_LIMIT_PROBLEM_DETAIL_BYTES)

/* ---- JSON strings ---- */

/* Writes what stands for an ASCII byte in a string; at most 6. */
static uint32_t put_escaped(char *to, char c) {
  static const char SHORT[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* byte, letter */
  for (uint32_t i = 0; i < sizeof(SHORT) - 1; i += 2)
    if (c == SHORT[i]) {
      to[0] = '\\';
      to[1] = SHORT[i + 1];
      return 2;
    }
  if ((unsigned char)c >= 0x20 && c != 0x7f) {
    to[0] = c;
    return 1;
  }
  memcpy(to, "\\u00", 4);
  to[4] = "0123456789abcdef"[(unsigned char)c >> 4];
  to[5] = "0123456789abcdef"[c & 15];
  return 6;
}

int pl__problem_string(struct pl_buf *b, struct pl_slice s) {
  uint64_t room = (uint64_t)s.bytes * 6 + 2;
  int status =
      room > UINT32_MAX ? PL_EFULL : pl__buf_reserve(b, (uint32_t)room);
  if (status)
    return status;
  char *to = b->at + b->bytes;
  *to++ = '"';
  for (uint32_t i = 0; i < s.bytes;) {
    uint32_t bytes = pl__utf8_bytes(s, i);
    if (bytes == 1) {
      to += put_escaped(to, s.at[i]);
    } else if (bytes) {
      memcpy(to, s.at + i, bytes);
      to += bytes;
    } else {
      memcpy(to, "\xef\xbf\xbd", 3); /* U+FFFD */
      to += 3;
      bytes = 1;
    }
    i += bytes;
  }
  *to++ = '"';
  b->bytes = (uint32_t)(to - b->at);
  return 0;
}

/* ---- documents ---- */

static int append_member(struct pl_buf *b, struct pl_slice label,
                         struct pl_slice value) {
  int status = pl__buf_append_slice(b, label);
  return status ? status : pl__problem_string(b, value);
}

static int append_document(struct pl_buf *b, uint16_t status_code,
                           struct pl_slice detail, struct pl_slice instance) {
  char digits[20];
  int status =
      append_member(b, PL_SLICE("{\"type\":\"about:blank\",\"title\":"),
                    pl__reason(status_code));
  if (!status)
    status = pl__buf_append_slice(b, PL_SLICE(",\"status\":"));
  if (!status)
    status = pl__buf_append(b, digits, pl__decimal(digits, status_code));
  if (!status && detail.bytes)
    status = append_member(b, PL_SLICE(",\"detail\":"), detail);
  if (!status && instance.bytes)
    status = append_member(b, PL_SLICE(",\"instance\":"), instance);
  if (!status)
    status = pl__buf_append(b, "}", 1);
  return status;
}

int pl__problem_encode(struct pl_buf *b, uint16_t status,
                       struct pl_slice detail, struct pl_slice instance) {
  uint32_t before = b->bytes;
  int failed = append_document(b, status, detail, instance);
  if (failed)
    b->bytes = before;
  return failed;
}

/* Sets Allow from the bits 1 << method in req->allow. */
static int encode_allow(struct pl_req *req) {
  char value[128];
  uint32_t n = 0;
  uint64_t allow = (uint64_t)req->allow;

  for (uint8_t method = 0; method < PL_METHOD_COUNT; method++) {
    struct pl_slice name = pl__method_name(method);
    if (!(allow >> method & 1) || !name.bytes)
      continue;
    if (n) {
      memcpy(value + n, ", ", 2);
      n += 2;
    }
    memcpy(value + n, name.at, name.bytes);
    n += name.bytes;
  }
  return pl__extra_set(req, PL_SLICE("Allow"), pl__slice(value, n), 0);
}

/* Whether the rest of the request cannot be found after such an answer. */
static int ends_connection(const struct pl_req *req, uint16_t status) {
  if (req->flags & PL_REQ_BODY_DONE)
    return 0;
  return status == 400 || status == 408 || status == 413 || status == 414 ||
         status == 431;
}

/* At most PL_LIMIT_PROBLEM_DETAIL_BYTES, not ending within a character. */
static struct pl_slice cut(struct pl_slice s) {
  if (s.bytes > PL_LIMIT_PROBLEM_DETAIL_BYTES) {
    s.bytes = PL_LIMIT_PROBLEM_DETAIL_BYTES;
    while (s.bytes && (s.at[s.bytes] & 0xc0) == 0x80)
      s.bytes--;
  }
  return s;
}

int pl__encode_problem(struct pl_req *req, uint16_t status,
                       struct pl_slice detail) {
  char room[DOCUMENT_BYTES];
  struct pl_buf document = {.at = room,
                            .cap = sizeof(room),
                            .bytes_max = sizeof(room)}; /* so it never grows */
  int failed = pl__problem_encode(&document, status, cut(detail), PL_SLICE(""));

  if (failed)
    return failed;
  if (req->flags & PL_REQ_HEAD_SENT)
    return PL_ECONFLICT;
  if (status == 405 && req->extra) {
    failed = encode_allow(req);
    if (failed)
      return failed;
  }
  pl__extra_remove(req, PL_SLICE("content-type"));
  if (ends_connection(req, status))
    req->flags |= PL_REQ_CLOSE;
  return pl__encode_reply(req, status, PL_SLICE(PL_PROBLEM_TYPE),
                          pl__slice(document.at, document.bytes));
}
