#include "http/cookies.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/chars.h"
#include "http/date.h"
#include "http/encode.h"
#include "http/headers.h"

enum { COOKIES_PARSED = 2 };

/* Takes the next "name=value" off the front of *rest. Returns 0 at the end. */
static int take_pair(struct pl_slice *rest, struct pl_header *pair) {
  while (rest->bytes) {
    const char *end = memchr(rest->at, ';', rest->bytes);
    uint32_t bytes = end ? (uint32_t)(end - rest->at) : rest->bytes;
    struct pl_slice piece = pl__slice(rest->at, bytes);
    uint32_t gone = end ? bytes + 1 : bytes;
    rest->at += gone;
    rest->bytes -= gone;

    const char *eq = bytes ? memchr(piece.at, '=', bytes) : NULL;
    if (!eq)
      continue;
    pair->name = pl__slice_trim(pl__slice(piece.at, (size_t)(eq - piece.at)));
    pair->value =
        pl__slice_trim(pl__slice(eq + 1, (size_t)(piece.at + bytes - eq - 1)));
    if (!pair->name.bytes)
      continue;
    if (pair->value.bytes >= 2 && pair->value.at[0] == '"' &&
        pair->value.at[pair->value.bytes - 1] == '"') {
      pair->value.at++;
      pair->value.bytes -= 2;
    }
    return 1;
  }
  return 0;
}

/* Writes all pairs to `to` (NULL: only counts them); stops past the limit. */
static uint32_t read_pairs(const struct pl_req *req, struct pl_header *to) {
  const struct pl_slice name = PL_SLICE("cookie");
  struct pl_header pair;
  uint32_t count = 0;

  for (int i = pl__headers_find(req, name, 0); i >= 0;
       i = pl__headers_find(req, name, (uint32_t)i + 1)) {
    struct pl_slice rest = req->headers[i].value;
    while (take_pair(&rest, &pair)) {
      if (to)
        to[count] = pair;
      if (++count > PL_LIMIT_COOKIES)
        return count;
    }
  }
  return count;
}

int pl__req_cookies(struct pl_req *req) {
  uint32_t count;

  if (req->parsed & COOKIES_PARSED)
    return 0;
  req->cookie_count = 0;
  req->cookies = NULL;
  count = read_pairs(req, NULL);
  if (count > PL_LIMIT_COOKIES)
    return PL_EFULL;
  if (count) {
    req->cookies =
        pl__arena_take(req->arena, count * (uint32_t)sizeof(*req->cookies),
                       _Alignof(struct pl_header));
    if (!req->cookies)
      return PL_ENOMEM;
    req->cookie_count = read_pairs(req, req->cookies);
  }
  req->parsed |= COOKIES_PARSED;
  return 0;
}

/* ---- Set-Cookie ---- */

static int all_are(struct pl_slice s, int class_bits) {
  for (uint32_t i = 0; i < s.bytes; i++)
    if (!pl__char_is(s.at[i], class_bits))
      return 0;
  return 1;
}

/* av-octets (RFC 6265 4.1.1): no control characters, no ";". */
static int is_attribute(struct pl_slice s) {
  return all_are(s, PL_CHAR_EXTENSION) &&
         (!s.bytes ||
          (!memchr(s.at, ';', s.bytes) && !memchr(s.at, '\t', s.bytes)));
}

static int begins_with(struct pl_slice s, struct pl_slice with) {
  return s.bytes >= with.bytes &&
         pl__slice_equal_nocase(pl__slice(s.at, with.bytes), with);
}

/* What is wrong with a cookie, or NULL. */
static const char *find_fault(const struct pl_cookie *c) {
  if (!pl__field_name_is_valid(c->name))
    return "a cookie's name must be a token";
  if (!all_are(c->value, PL_CHAR_COOKIE))
    return "a cookie's value has bytes that must be encoded";
  if (!is_attribute(c->path))
    return "a cookie's path has characters that cannot be sent";
  if (!is_attribute(c->domain))
    return "a cookie's domain has characters that cannot be sent";
  if (c->same_site > PL_SAME_SITE_NONE)
    return "SameSite must be Lax, Strict or None";
  if (c->same_site == PL_SAME_SITE_NONE && !c->secure)
    return "a cookie with SameSite=None must be secure";
  if (begins_with(c->name, PL_SLICE("__Secure-")) && !c->secure)
    return "a __Secure- cookie must be secure";
  if (begins_with(c->name, PL_SLICE("__Host-")) &&
      (!c->secure || c->domain.bytes ||
       !(c->path.bytes == 1 && c->path.at[0] == '/')))
    return "a __Host- cookie must be secure, with path / and no domain";
  return NULL;
}

static int append_number(struct pl_buf *b, int64_t n) {
  char digits[24];
  uint32_t bytes = 0;
  if (n < 0)
    digits[bytes++] = '-';
  bytes += pl__decimal(digits + bytes, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
  return pl__buf_append(b, digits, bytes);
}

static int append_attribute(struct pl_buf *b, struct pl_slice label,
                            struct pl_slice value) {
  int status = pl__buf_append_slice(b, label);
  if (!status && value.bytes)
    status = pl__buf_append_slice(b, value);
  return status;
}

static int append_cookie(struct pl_buf *b, const struct pl_cookie *c) {
  static const struct pl_slice SAME_SITE[] = {
      {"", 0}, {"Lax", 3}, {"Strict", 6}, {"None", 4}};
  const struct pl_slice none = PL_SLICE("");
  int status = append_attribute(b, c->name, PL_SLICE("="));

  if (!status && c->value.bytes)
    status = pl__buf_append_slice(b, c->value);
  if (!status && c->path.bytes)
    status = append_attribute(b, PL_SLICE("; Path="), c->path);
  if (!status && c->domain.bytes)
    status = append_attribute(b, PL_SLICE("; Domain="), c->domain);
  if (!status && c->has_max_age) {
    status = append_attribute(b, PL_SLICE("; Max-Age="), none);
    if (!status)
      status = append_number(b, c->max_age_s);
  }
  if (!status && c->has_expires) {
    char date[PL_DATE_BYTES];
    pl__date_format(c->expires, date);
    status = append_attribute(b, PL_SLICE("; Expires="),
                              pl__slice(date, sizeof(date)));
  }
  if (!status && c->secure)
    status = append_attribute(b, PL_SLICE("; Secure"), none);
  if (!status && c->http_only)
    status = append_attribute(b, PL_SLICE("; HttpOnly"), none);
  if (!status && c->same_site)
    status =
        append_attribute(b, PL_SLICE("; SameSite="), SAME_SITE[c->same_site]);
  return status;
}

int pl__cookie_encode(struct pl_buf *b, const struct pl_cookie *cookie,
                      const char **detail) {
  uint32_t before = b->bytes;
  const char *fault = find_fault(cookie);
  int status;

  if (fault) {
    *detail = fault;
    return PL_EINVAL;
  }
  status = append_cookie(b, cookie);
  if (status)
    b->bytes = before;
  return status;
}
