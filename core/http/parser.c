/* llhttp 8.1, also in its strict mode, lets some malformed heads through, and
 * its tolerance has moved from version to version.  So it is used for what it
 * is good at, the fast walk over the head, and what it has found is checked
 * against the grammar
 *
 *   method SP target SP "HTTP/1." ("0" | "1") CRLF
 *   *( token ":" OWS value OWS CRLF ) CRLF
 *
 * by where its pieces lie: between any two of them there is exactly what the
 * grammar has there.  That is a few comparisons a field, and it refuses bare
 * LF and CR, folded lines, empty names and HTTP/0.9 without knowing of any
 * of llhttp's leniencies.  (Which bytes a name or value may have is left to
 * llhttp; core/fuzz/fuzz_parser.c compares with a slow and plain reading.)
 *
 * llhttp never sees a body: it is paused at the end of the head and reset.  So
 * its modes for CONNECT, Upgrade and Connection: close never matter.
 *
 * Splits: whatever is decided is decided at one byte, whichever way the bytes
 * came.  Limits are kept by never handing llhttp a byte past one: see
 * head_budget().
 *
 *   START --first byte--> HEAD --> FRAMED --> BODY (LENGTH or CHUNKED) --> END
 *                                     +-----------------------------------> END
 *   any --> FAILED
 */
#include "http/parser.h"

#include <llhttp/llhttp.h>
#include <stddef.h>

#include "base/err.h"
#include "http/chars.h"
#include "http/chunked.h"
#include "http/headers.h"
#include "http/target.h"

#if LLHTTP_STRICT_MODE != 1
#error "llhttp is to be compiled, and included, with LLHTTP_STRICT_MODE=1"
#endif

enum { START, START_LF, HEAD, FRAMED, LENGTH, CHUNKED, END, FAILED };

struct pl_parser {
  llhttp_t llhttp;
  struct pl_parser_limits limits;
  uint32_t leading_lines;
  struct pl_req *req;     /* of the current run */
  const char *head_at;    /* first byte of the request line */
  const char *version_at; /* "1.1" in it; NULL before */
  const char *headers_at; /* behind its CRLF; NULL before */
  const char *line_end;   /* end of the last value or version */
  struct pl_slice name;   /* the field being read */
  struct pl_slice value;
  const char *detail;
  uint64_t left; /* LENGTH: bytes to come */
  struct pl_chunked chunked;
  uint16_t status;
  uint8_t state;
  uint8_t target_done;
};

_Static_assert(sizeof(struct pl_parser) <= PL_PARSER_BYTES,
               "PL_PARSER_BYTES is too small");
#define METHOD_IS_SAME(number, name)                                           \
  _Static_assert((number) == (int)HTTP_##name, "numbered as in llhttp");
PL_METHODS(METHOD_IS_SAME)
#undef METHOD_IS_SAME
_Static_assert(PL_METHOD_COUNT == (int)HTTP_FLUSH + 1, "and as many");

/* ---- callbacks of llhttp; they run from within llhttp_execute ---- */

static int refuse(struct pl_parser *p, uint16_t status, const char *detail) {
  p->status = status;
  p->detail = detail;
  p->state = FAILED;
  return -1;
}

/* Appends a piece to a slice. Pieces must touch: a gap is what llhttp has
 * skipped, such as the fold of a folded line. */
static int extend(struct pl_slice *s, const char *at, size_t bytes) {
  if (!s->at)
    s->at = at;
  else if (s->at + s->bytes != at)
    return -1;
  s->bytes += (uint32_t)bytes;
  return 0;
}

static int on_url(llhttp_t *l, const char *at, size_t bytes) {
  struct pl_parser *p = l->data;
  if (extend(&p->req->target, at, bytes))
    return refuse(p, 400, "The request target is malformed.");
  return 0;
}

static int on_url_complete(llhttp_t *l) {
  struct pl_parser *p = l->data;
  p->target_done = 1;
  return 0;
}

static int on_version(llhttp_t *l, const char *at, size_t bytes) {
  struct pl_parser *p = l->data;
  (void)bytes;
  if (!p->version_at)
    p->version_at = at;
  return 0;
}

/* The request line is read but for its CRLF. */
static int on_version_complete(llhttp_t *l) {
  struct pl_parser *p = l->data;
  const struct pl_slice t = p->req->target;
  const struct pl_slice method = pl__method_name(l->method);

  if (l->http_major != 1 || l->http_minor > 1)
    return refuse(p, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
  if (!method.bytes || l->method == HTTP_CONNECT)
    return refuse(p, 501, "The method is not implemented.");
  if (!t.bytes || p->head_at + method.bytes + 1 != t.at || t.at[-1] != ' ' ||
      memcmp(method.at, p->head_at, method.bytes) != 0 ||
      p->version_at != t.at + t.bytes + 6 ||
      memcmp(t.at + t.bytes, " HTTP/", 6) != 0)
    return refuse(p, 400, "The request line is malformed.");
  p->req->method = l->method; /* said of what is refused from here on, too */
  p->line_end = p->version_at + 3;
  p->headers_at = p->line_end + 2;
  return 0;
}

/* Behind the optional white space at the end of the last line. */
static const char *line_break(const struct pl_parser *p) {
  const char *at = p->line_end;
  if (p->line_end + 2 != p->headers_at)
    while (*at == ' ' || *at == '\t')
      at++;
  return at;
}

static int on_header_field(llhttp_t *l, const char *at, size_t bytes) {
  struct pl_parser *p = l->data;
  if (!p->name.at) {
    if (!p->headers_at)
      return refuse(p, 400, "The request line is malformed.");
    const char *end = line_break(p);
    if (end + 2 != at || end[0] != '\r' || end[1] != '\n')
      return refuse(p, 400, "A header line does not end in CRLF.");
  }
  if (extend(&p->name, at, bytes))
    return refuse(p, 400, "A header name is malformed.");
  return 0;
}

static int on_header_value(llhttp_t *l, const char *at, size_t bytes) {
  struct pl_parser *p = l->data;
  if (extend(&p->value, at, bytes))
    return refuse(p, 400, "A header line is folded.");
  return 0;
}

static int on_header_value_complete(llhttp_t *l) {
  struct pl_parser *p = l->data;
  struct pl_req *req = p->req;
  const char *colon = p->name.at + p->name.bytes;

  if (!p->name.bytes)
    return refuse(p, 400, "A header name is empty.");
  if (*colon != ':')
    return refuse(p, 400, "There is a space before a header's colon.");
  if (!p->value.bytes)
    p->value = pl__slice(colon + 1, 0);
  else
    for (const char *at = colon + 1; at < p->value.at; at++)
      if (*at != ' ' && *at != '\t')
        return refuse(p, 400, "A header line is folded.");
  if (req->header_count == p->limits.header_count)
    return refuse(p, 431, "There are too many header fields.");
  p->line_end = p->value.at + p->value.bytes;
  req->headers[req->header_count++] =
      (struct pl_header){p->name, pl__slice_trim(p->value)};
  p->name = p->value = (struct pl_slice){0};
  return 0;
}

static int on_headers_complete(llhttp_t *l) {
  (void)l;
  return HPE_PAUSED;
}

static const llhttp_settings_t SETTINGS = {
    .on_url = on_url,
    .on_url_complete = on_url_complete,
    .on_version = on_version,
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
};

/* ---- what the fields of a head mean for framing ---- */

/* Digits only, below 2^53: exact as a double, and no sign, list or space. */
static int parse_length(struct pl_slice s, double *length) {
  uint64_t n = 0;
  if (!s.bytes || s.bytes > 16)
    return -1;
  for (uint32_t i = 0; i < s.bytes; i++) {
    if (!pl__char_is_digit(s.at[i]))
      return -1;
    n = n * 10 + (uint64_t)(s.at[i] - '0');
  }
  if (n >= (uint64_t)1 << 53)
    return -1;
  *length = (double)n;
  return 0;
}

struct framing {
  uint32_t host_count, length_count, coding_count;
  int close, keep_alive, expect;
};

static int frame_field(struct pl_parser *p, struct pl_req *req,
                       const struct pl_header *h, struct framing *f) {
  switch (h->name.bytes) {
  case 4:
    if (!pl__slice_equal_nocase(h->name, PL_SLICE("host")))
      return 0;
    if (f->host_count++)
      return refuse(p, 400, "There is more than one Host field.");
    if (!pl__target_is_host(h->value))
      return refuse(p, 400, "The Host field is malformed.");
    req->host = h->value;
    return 0;
  case 6:
    if (pl__slice_equal_nocase(h->name, PL_SLICE("expect")) &&
        pl__list_has(h->value, PL_SLICE("100-continue")))
      f->expect = 1;
    return 0;
  case 10:
    if (pl__slice_equal_nocase(h->name, PL_SLICE("connection"))) {
      f->close |= pl__list_has(h->value, PL_SLICE("close"));
      f->keep_alive |= pl__list_has(h->value, PL_SLICE("keep-alive"));
    }
    return 0;
  case 14:
    if (!pl__slice_equal_nocase(h->name, PL_SLICE("content-length")))
      return 0;
    if (f->length_count++)
      return refuse(p, 400, "There is more than one Content-Length field.");
    if (parse_length(h->value, &req->content_length))
      return refuse(p, 400, "The Content-Length field is malformed.");
    return 0;
  case 17:
    if (!pl__slice_equal_nocase(h->name, PL_SLICE("transfer-encoding")))
      return 0;
    if (f->coding_count++ ||
        !pl__slice_equal_nocase(h->value, PL_SLICE("chunked")))
      return refuse(p, 400, "The only transfer coding known is \"chunked\".");
    return 0;
  default:
    return 0;
  }
}

/* Sets what the head says of connection and body. Returns 0, or -1 after
 * refuse(). */
static int frame(struct pl_parser *p, struct pl_req *req, const char *end) {
  struct framing f = {0};

  if (!p->headers_at)
    return refuse(p, 400, "The request line is malformed.");
  const char *brk = line_break(p);
  if (brk + 4 != end || memcmp(brk, "\r\n\r\n", 4) != 0)
    return refuse(p, 400, "A header line does not end in CRLF.");
  req->http_minor = p->llhttp.http_minor;
  for (uint32_t i = 0; i < req->header_count; i++)
    if (frame_field(p, req, &req->headers[i], &f))
      return -1;
  if (!f.host_count && req->http_minor == 1)
    return refuse(p, 400, "There is no Host field.");
  if (f.coding_count && f.length_count)
    return refuse(p, 400,
                  "Content-Length and Transfer-Encoding exclude each other.");
  if (f.coding_count && req->http_minor == 0)
    return refuse(p, 400, "HTTP/1.0 has no Transfer-Encoding.");

  if (!f.close && (req->http_minor == 1 || f.keep_alive))
    req->flags |= PL_REQ_KEEP_ALIVE;
  p->left = req->content_length > 0 ? (uint64_t)req->content_length : 0;
  if (f.coding_count)
    req->flags |= PL_REQ_CHUNKED;
  else if (!p->left)
    req->flags |= PL_REQ_BODY_DONE;
  if (f.expect && req->http_minor == 1 && !(req->flags & PL_REQ_BODY_DONE))
    req->flags |= PL_REQ_EXPECT;
  p->state = FRAMED;
  return 0;
}

/* ---- the head ---- */

/* How many of the bytes at `at` llhttp may have before a limit must be looked
 * at again: one at least, and never one past a limit. */
static uint32_t head_budget(const struct pl_parser *p, const char *at) {
  ptrdiff_t room;

  if (p->headers_at) {
    room = (ptrdiff_t)p->limits.headers_bytes - (at - p->headers_at);
  } else {
    if (p->target_done) /* the version: a few bytes */
      room = 16;
    else if (p->req->target.at)
      room = (ptrdiff_t)p->limits.target_bytes + 1 - (at - p->req->target.at);
    else /* the target begins behind head_at */
      room = (ptrdiff_t)p->limits.target_bytes - (at - p->head_at);
    if (room > (ptrdiff_t)p->limits.headers_bytes)
      room = (ptrdiff_t)p->limits.headers_bytes;
  }
  return room > 1 ? (uint32_t)room : 1;
}

/* Whether what llhttp has read up to `at` (seen itself, too) is a version
 * other than 1.0 and 1.1. */
static int is_other_version(const struct pl_parser *p, const char *at) {
  const char *v = p->req->target.at + p->req->target.bytes + 6;
  return at - v >= 2 && pl__char_is_digit(v[0]) && v[1] == '.' &&
         pl__char_is_digit(v[2]) && (v[0] != '1' || v[2] > '1');
}

/* What llhttp's refusal at `at` means. */
static void refuse_head(struct pl_parser *p, llhttp_errno_t error,
                        const char *at) {
  switch (error) {
  case HPE_INVALID_METHOD:
    if (pl__char_is(*at, PL_CHAR_TOKEN) || (*at == ' ' && at > p->head_at))
      refuse(p, 501, "The method is not implemented.");
    else
      refuse(p, 400, "The request line is malformed.");
    break;
  case HPE_PAUSED_H2_UPGRADE:
    refuse(p, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
    break;
  case HPE_INVALID_VERSION:
    if (p->req->target.at && is_other_version(p, at))
      refuse(p, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
    else
      refuse(p, 400, "The request line is malformed.");
    break;
  case HPE_INVALID_URL:
    refuse(p, 400, "The request target is malformed.");
    break;
  case HPE_INVALID_CONTENT_LENGTH:
  case HPE_UNEXPECTED_CONTENT_LENGTH:
    refuse(p, 400, "The Content-Length field is malformed or out of place.");
    break;
  case HPE_INVALID_TRANSFER_ENCODING:
    refuse(p, 400, "The only transfer coding known is \"chunked\".");
    break;
  default:
    if (p->headers_at)
      refuse(p, 400, "The header section is malformed.");
    else
      refuse(p, 400, "The request line is malformed.");
  }
}

static enum pl_parse_outcome run_head(struct pl_parser *p, struct pl_req *req,
                                      const char *at, uint32_t bytes,
                                      uint32_t *used) {
  uint32_t done = 0;

  while (done < bytes) {
    uint32_t n = head_budget(p, at + done);
    if (n > bytes - done)
      n = bytes - done;
    llhttp_errno_t error = llhttp_execute(&p->llhttp, at + done, n);
    if (p->status)
      return PL_PARSE_BAD;
    if (error == HPE_PAUSED) {
      const char *end = llhttp_get_error_pos(&p->llhttp);
      *used += (uint32_t)(end - at);
      return frame(p, req, end) ? PL_PARSE_BAD : PL_PARSE_HEAD;
    }
    if (error != HPE_OK) {
      refuse_head(p, error, llhttp_get_error_pos(&p->llhttp));
      return PL_PARSE_BAD;
    }
    done += n;
    if (p->headers_at &&
        at + done - p->headers_at >= (ptrdiff_t)p->limits.headers_bytes) {
      refuse(p, 431, "The header section is too large.");
      return PL_PARSE_BAD;
    }
    if (!p->headers_at && req->target.bytes > p->limits.target_bytes) {
      refuse(p, 414, "The request target is too long.");
      return PL_PARSE_BAD;
    }
  }
  *used += done;
  return PL_PARSE_MORE;
}

/* Skips empty lines before the request line. Returns -1 after refuse(). */
static int run_start(struct pl_parser *p, struct pl_req *req, const char *at,
                     uint32_t bytes, uint32_t *used) {
  while (*used < bytes) {
    char c = at[*used];
    if (p->state == START_LF) {
      if (c != '\n')
        return refuse(p, 400, "The request line is malformed.");
      p->state = START;
    } else if (c == '\r' && p->leading_lines < PL_LIMIT_LEADING_LINES) {
      p->leading_lines++;
      p->state = START_LF;
    } else if (c == '\r' || c == '\n') {
      return refuse(p, 400, "The request line is malformed.");
    } else {
      p->state = HEAD;
      p->head_at = at + *used;
      req->target = req->host = (struct pl_slice){0};
      req->header_count = 0;
      req->content_length = -1;
      return 0;
    }
    ++*used;
  }
  return 0;
}

/* ---- the body ---- */

/* Puts decoded bytes behind those of req->body. Returns -1 past body_max. */
static int take_body(struct pl_parser *p, struct pl_req *req,
                     struct pl_slice data) {
  double room = req->body_max - req->body_received;
  int full = (double)data.bytes > room;

  if (full)
    data.bytes = room > 0 ? (uint32_t)room : 0;
  if (!req->body.at)
    req->body = pl__slice(data.at, 0);
  char *to = (char *)(uintptr_t)(req->body.at + req->body.bytes);
  if (to != data.at && data.bytes)
    memmove(to, data.at, data.bytes);
  req->body.bytes += data.bytes;
  req->body_received += data.bytes;
  if (full)
    return refuse(p, 413, "The body is larger than allowed.");
  return 0;
}

static enum pl_parse_outcome end_message(struct pl_parser *p,
                                         struct pl_req *req) {
  p->state = END;
  req->flags |= PL_REQ_BODY_DONE;
  return PL_PARSE_DONE;
}

static enum pl_parse_outcome run_length(struct pl_parser *p, struct pl_req *req,
                                        char *at, uint32_t bytes,
                                        uint32_t *used) {
  uint32_t n = bytes < p->left ? bytes : (uint32_t)p->left;
  if (n && take_body(p, req, pl__slice(at, n)))
    return PL_PARSE_BAD;
  *used = n;
  p->left -= n;
  return p->left ? PL_PARSE_MORE : end_message(p, req);
}

static enum pl_parse_outcome run_chunked(struct pl_parser *p,
                                         struct pl_req *req, char *at,
                                         uint32_t bytes, uint32_t *used) {
  for (;;) {
    struct pl_slice data;
    uint32_t n;
    enum pl_chunked_outcome outcome =
        pl__chunked_run(&p->chunked, at + *used, bytes - *used, &n, &data);
    *used += n;
    switch (outcome) {
    case PL_CHUNKED_DATA:
      if (take_body(p, req, data))
        return PL_PARSE_BAD;
      break;
    case PL_CHUNKED_DONE:
      return end_message(p, req);
    case PL_CHUNKED_BAD:
      refuse(p, p->chunked.status, p->chunked.detail);
      return PL_PARSE_BAD;
    case PL_CHUNKED_MORE:
      return PL_PARSE_MORE;
    }
  }
}

/* ---- the life of a parser ---- */

void pl__parser_init(struct pl_parser *p,
                     const struct pl_parser_limits *limits) {
  p->limits = *limits;
  pl__parser_reset(p);
}

void pl__parser_reset(struct pl_parser *p) {
  struct pl_parser_limits limits = p->limits;
  memset(p, 0, offsetof(struct pl_parser, chunked));
  p->limits = limits;
  p->status = 0;
  p->target_done = 0;
  p->state = START;
  llhttp_init(&p->llhttp, HTTP_REQUEST, &SETTINGS);
  p->llhttp.data = p;
}

enum pl_parse_outcome pl__parser_run(struct pl_parser *p, struct pl_req *req,
                                     char *at, uint32_t bytes, uint32_t *used) {
  *used = 0;
  p->req = req;
  switch (p->state) {
  case START:
  case START_LF:
    if (run_start(p, req, at, bytes, used))
      return PL_PARSE_BAD;
    if (p->state != HEAD)
      return PL_PARSE_MORE;
    return run_head(p, req, at + *used, bytes - *used, used);
  case HEAD:
    return run_head(p, req, at, bytes, used);
  case FRAMED:
    if (req->flags & PL_REQ_BODY_DONE)
      return end_message(p, req);
    if (!(req->flags & PL_REQ_CHUNKED)) {
      p->state = LENGTH;
      return run_length(p, req, at, bytes, used);
    }
    p->state = CHUNKED;
    pl__chunked_init(&p->chunked, p->limits.headers_bytes,
                     p->limits.header_count);
    return run_chunked(p, req, at, bytes, used);
  case LENGTH:
    return run_length(p, req, at, bytes, used);
  case CHUNKED:
    return run_chunked(p, req, at, bytes, used);
  case END:
    return PL_PARSE_DONE;
  default:
    return PL_PARSE_BAD;
  }
}

int pl__parser_check_length(const struct pl_req *req) {
  return req->content_length > req->body_max ? PL_EFULL : 0;
}

void pl__parser_error(const struct pl_parser *p, uint16_t *status,
                      const char **detail) {
  *status = p->status ? p->status : 400;
  *detail = p->detail ? p->detail : "The request is malformed.";
}

int pl__parser_begun(const struct pl_parser *p) { return p->state >= HEAD; }

#define TEXT_OF(n) #n
#define VERSION_OF(major, minor, patch)                                        \
  TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *pl__parser_version(void) {
  return VERSION_OF(LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR,
                    LLHTTP_VERSION_PATCH);
}
