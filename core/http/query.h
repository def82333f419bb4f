/* http/query.h - splits "a=1&b=2" into decoded fields.
 *
 * For query strings and application/x-www-form-urlencoded bodies (WHATWG URL
 * 5.1): "+" is a space, empty pieces are skipped, a name without "=" has an
 * empty value, a broken escape is kept as it stands.  Decoded bytes are not
 * checked for UTF-8.
 */
#ifndef PL_HTTP_QUERY_H
#define PL_HTTP_QUERY_H

#include "base/limits.h"
#include "http/request.h"

/* Splits `text` into fields in order, repeated names included.
 *
 *   arena   holds the array, and decoded bytes where decoding was needed;
 *           the rest points into `text`
 *   fields  out: *count of them; NULL when 0
 *
 * Returns 0; PL_EFULL past `count_max` fields; PL_ENOMEM when the arena is
 * full. */
int pl__query_parse(struct pl_slice text, struct pl_arena *arena,
                    uint32_t count_max, struct pl_header **fields,
                    uint32_t *count);

/* Splits req->query once, into PL_LIMIT_QUERY_FIELDS at most: queries,
 * query_count and the bit 1 of parsed.  Returns as pl__query_parse, on failure with query_count 0 and not parsed. */
int pl__req_queries(struct pl_req *req);

/* The index of the first field named `name` from `from` on, or -1. */
int pl__fields_find(const struct pl_header *fields, uint32_t count,
                    struct pl_slice name, uint32_t from);

#endif /* PL_HTTP_QUERY_H */
