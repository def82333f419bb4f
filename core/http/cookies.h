/* http/cookies.h - Cookie fields in, Set-Cookie lines out (RFC 6265).
 */
#ifndef PL_HTTP_COOKIES_H
#define PL_HTTP_COOKIES_H

#include "base/limits.h"
#include "http/request.h"

struct pl_buf;

/* Splits all Cookie fields once: cookies, cookie_count and bit 2 of parsed.
 * Names and values are slices of the fields, surrounding spaces and one pair
 * of quotes around a value removed, nothing decoded; pieces without "=" or
 * with an empty name are skipped.  Returns 0, PL_EFULL past PL_LIMIT_COOKIES,
 * PL_ENOMEM; on failure cookie_count is 0 and it is not marked as parsed. */
int pl__req_cookies(struct pl_req *req);

enum pl_same_site {
  PL_SAME_SITE_UNSET,
  PL_SAME_SITE_LAX,
  PL_SAME_SITE_STRICT,
  PL_SAME_SITE_NONE /* needs secure */
};

struct pl_cookie {
  struct pl_slice name;   /* token */
  struct pl_slice value;  /* cookie-octets (RFC 6265 4.1.1); may be empty */
  struct pl_slice path;   /* left out when empty */
  struct pl_slice domain; /* left out when empty */
  int64_t max_age_s;      /* when has_max_age */
  int64_t expires;        /* seconds since the epoch, when has_expires */
  uint8_t has_max_age;
  uint8_t has_expires;
  uint8_t secure;
  uint8_t http_only;
  uint8_t same_site; /* enum pl_same_site */
};

/* Appends the value of a Set-Cookie field ("name=value; Path=/; ...") to `b`.
 *
 * Returns 0, PL_ENOMEM, PL_EFULL, or PL_EINVAL with *detail a constant
 * sentence: a name that is no token, a value with spaces, quotes, commas,
 * semicolons, backslashes or bytes outside ASCII (encode it first), a path or
 * domain with ";" or control characters, SameSite=None without Secure,
 * "__Secure-" without Secure, "__Host-" with a domain, without Secure or with
 * another path than "/".  On failure nothing was appended. */
int pl__cookie_encode(struct pl_buf *b, const struct pl_cookie *cookie,
                      const char **detail);

#endif /* PL_HTTP_COOKIES_H */
