/* http/target.h - request target → path, query, host (RFC 9112 3.2).
 *
 * The one place where a path is decoded and its dot segments go.  It happens
 * once and before routing, so that no later stage sees "..", "%2e" or "%00".
 * Knows no routes and no files.
 */
#ifndef PL_HTTP_TARGET_H
#define PL_HTTP_TARGET_H

#include "http/request.h"

/* Splits req->target; req->method and req->host (from the Host field) are set.
 *
 *   origin-form    "/a/b?c"
 *   absolute-form  "http://host/a?c", any case of http and https; its host
 *                  replaces req->host (RFC 9112 3.2.2); no user part
 *   asterisk-form  "*" for OPTIONS only: sets PL_REQ_ASTERISK, path is "/"
 *   (authority-form belongs to CONNECT, which the parser refuses)
 *
 * path: percent escapes are decoded once, then "." and ".." segments removed
 * (RFC 3986 5.2.4). "%2F" stays "%2F" as it was sent: decoded it would make a
 * segment that the sender did not write.  (So "%252F" is read alike; nothing
 * decodes a path twice here.)  A backslash, ";" and empty segments are kept;
 * case is kept.
 * query: raw, without "?"; empty when there is none.
 *
 * Zero copy when nothing is to be decoded or removed; else the path lies in
 * `scratch`, of which at most target.bytes are needed.  Both outlive `req`.
 *
 * Returns 0, or with nothing set
 *   PL_EBAD   a byte outside 0x21-0x7e, "#", a broken escape, "%00", ".."
 *             above the root, a malformed host, another form: 400
 *   PL_EFULL  scratch is too small */
int pl__target_parse(struct pl_req *req, char *scratch, uint32_t scratch_bytes);

/* Whether `s` is a Host field's value: uri-host [":" port] (RFC 9110 7.2), a
 * registered name, IPv4 or bracketed IPv6 address.  Empty is refused. */
int pl__target_is_host(struct pl_slice s);

#endif /* PL_HTTP_TARGET_H */
