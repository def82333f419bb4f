/* http/router.h - method and path → route.
 *
 * A trie over segments, built at load time and only read afterwards, by one
 * VM's generation.  Patterns:
 *
 *   /a/b            static
 *   /a/:name        one segment, one byte or more; also :name<int>,
 *                   :name<uuid>, :name<slug>
 *   /a/ *rest       (without the space) all that follows, also nothing: it
 *                   matches "/a/" but not "/a"; last segment only; the name
 *                   may be left out
 *
 * At each segment static wins over typed, typed over plain parameters, and
 * those over wildcards, whatever the order of registration; where a choice
 * leads nowhere, or to a pattern without the method, the next one is tried.
 * A trailing slash counts, case counts.  <int> is -?digits within 2^53 and
 * without needless zeros, <uuid> is 8-4-4-4-12 hex digits, <slug> is letters,
 * digits, "-" and "_".
 */
#ifndef PL_HTTP_ROUTER_H
#define PL_HTTP_ROUTER_H

#include "http/request.h"

#define PL_METHOD_ANY 255u     /* all that can be routed */
#define PL_LIMIT_ROUTES 65536u /* routes of one router */
#define PL_LIMIT_PATTERN_BYTES 2048u
#define PL_LIMIT_PATTERN_SEGMENTS 64u

struct pl_router;

enum pl_route_outcome {
  PL_ROUTE_FOUND,
  PL_ROUTE_NOT_FOUND,
  PL_ROUTE_NOT_ALLOWED /* the path is there for other methods */
};

/* NULL when there is no memory. */
struct pl_router *pl__router_new(void);
void pl__router_free(struct pl_router *r); /* NULL is fine */

/* Adds a pattern.
 *
 *   method    enum pl_method, or PL_METHOD_ANY: those that have no route of
 *             their own for the pattern
 *   pattern   decoded bytes, copied
 *   route     what a match returns
 *   conflict  out, with PL_ECONFLICT: the route that has an equal pattern
 *             (same shape and types; names don't count) for the method
 *
 * Returns 0, PL_ECONFLICT, PL_EFULL, PL_ENOMEM, or PL_EINVAL: see
 * pl__router_error.  After a failure the router is as it was, as far as
 * matching goes. */
int pl__router_add(struct pl_router *r, uint8_t method, struct pl_slice pattern,
                   uint32_t route, uint32_t *conflict);

/* After PL_EINVAL: what is wrong with the pattern; a constant. */
const char *pl__router_error(const struct pl_router *r);

/* Finds the route of req->method and req->path.
 *
 * FOUND sets route, param_count and params, which point into req->path.  HEAD
 * falls back to GET's route.
 * NOT_ALLOWED sets allow: what any pattern for the path has, HEAD where GET
 * is, OPTIONS always.  A request for "*" (PL_REQ_ASTERISK) is NOT_ALLOWED
 * with what any route has.  Allocates nothing; visits no node twice. */
enum pl_route_outcome pl__router_match(const struct pl_router *r,
                                       struct pl_req *req);

#endif /* PL_HTTP_ROUTER_H */
