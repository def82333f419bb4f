/* http/range.h - ranges and conditions of requests for files (RFC 9110 13,
 * 14).  Pure; knows no files.
 */
#ifndef PL_HTTP_RANGE_H
#define PL_HTTP_RANGE_H

#include "http/request.h"

#define PL_ETAG_BYTES_MAX 40u

enum pl_range_outcome {
  PL_RANGE_ALL,  /* no Range, one not understood, or several: send it all */
  PL_RANGE_PART, /* first and last are set: 206 */
  PL_RANGE_NONE  /* not satisfiable: 416, Content-Range: bytes * / size */
};

/* One "bytes=" range of `value` (empty: none) in something of `size` bytes.
 * Sets first and last, both inclusive, with PART only. */
enum pl_range_outcome pl__range_parse(struct pl_slice value, uint64_t size,
                                      uint64_t *first, uint64_t *last);

/* A weak ETag, W/"size-mtime" in hex, for a file; returns its bytes. */
uint32_t pl__etag_format(uint64_t size, int64_t mtime_ns,
                         char out[PL_ETAG_BYTES_MAX]);

/* Whether the list of an If-None-Match holds `etag` (weak comparison), or is
 * "*". */
int pl__etag_matches(struct pl_slice list, struct pl_slice etag);

/* Whether 304 is the answer to this GET or HEAD (RFC 9110 13.2.2): by
 * If-None-Match, or without it by If-Modified-Since. */
int pl__is_not_modified(const struct pl_req *req, struct pl_slice etag,
                        int64_t modified_unix_seconds);

/* Whether Range applies: no If-Range, or one that fits: an exact date (a weak
 * ETag never fits, RFC 9110 13.1.5). */
int pl__range_applies(const struct pl_req *req, struct pl_slice etag,
                      int64_t modified_unix_seconds);

#endif /* PL_HTTP_RANGE_H */
