/* http/baggage.h - values that travel with a request from service to service
 * (W3C Baggage).
 *
 * Nothing is read before somebody asks.  Members that are malformed are left
 * out, and so is what lies past PL_LIMIT_BAGGAGE_MEMBERS members or
 * PL_LIMIT_BAGGAGE_BYTES bytes, in their order over all fields of that name: a
 * client that sends more cannot make us pass it on.  Pure.
 */
#ifndef PL_HTTP_BAGGAGE_H
#define PL_HTTP_BAGGAGE_H

#include "base/limits.h"
#include "http/request.h"

/* Whether a field of that name, in any case, is one. */
static inline int pl__baggage_is(struct pl_slice name) {
  return name.bytes == sizeof("baggage") - 1 &&
         pl__slice_equal_nocase(name, PL_SLICE("baggage"));
}

/* Writes the members of all fields named baggage as one list, each as it came,
 * with its properties.  Returns how many bytes were written to `out`, which has
 * room for PL_LIMIT_BAGGAGE_BYTES; 0: none. */
uint32_t pl__baggage_put(const struct pl_header *headers, uint32_t count,
                         char *out);

/* The value of the first member with that key (case counts), percent-decoded,
 * bytes that are no UTF-8 replaced by U+FFFD.  Returns how many bytes were
 * written to `out`, which has room for PL_LIMIT_BAGGAGE_BYTES; -1: no such
 * member. */
int pl__baggage_get(const struct pl_header *headers, uint32_t count,
                    struct pl_slice key, char *out);

#endif /* PL_HTTP_BAGGAGE_H */
