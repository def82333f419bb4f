/* http/cookies.h - splits Cookie fields (RFC 6265).
 *
 * Set-Cookie lines are made in Lua: lua/perilune/cookie.lua.
 */
#ifndef PL_HTTP_COOKIES_H
#define PL_HTTP_COOKIES_H

#include "base/limits.h"
#include "http/request.h"

/* Splits all Cookie fields once: cookies, cookie_count and bit 2 of parsed.
 * Names and values are slices of the fields, surrounding spaces and one pair
 * of quotes around a value removed, nothing decoded; pieces without "=" or
 * with an empty name are skipped.  Returns 0, PL_EFULL past PL_LIMIT_COOKIES,
 * PL_ENOMEM; on failure cookie_count is 0 and it is not marked as parsed. */
int pl__req_cookies(struct pl_req *req);

#endif /* PL_HTTP_COOKIES_H */
