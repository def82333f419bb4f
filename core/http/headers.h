/* http/headers.h - reading field lines: lookup, validity, lists.
 *
 * Pure functions over slices.  Knows nothing of framing.
 */
#ifndef PL_HTTP_HEADERS_H
#define PL_HTTP_HEADERS_H

#include "http/request.h"

/* The index of the first header named `name` (any case) from index `from` on,
 * or -1. */
int pl__headers_find(const struct pl_req *req, struct pl_slice name,
                     uint32_t from);

/* The value of the first one; an empty slice with at NULL when there is none
 * (one that is there and empty has at set). */
struct pl_slice pl__headers_get(const struct pl_req *req, struct pl_slice name);

/* token (RFC 9110 5.6.2): one byte or more. */
int pl__field_name_is_valid(struct pl_slice name);

/* field-value (RFC 9110 5.5): no CR, LF, NUL or other control but tab; empty
 * is valid; bytes from 0x80 are. */
int pl__field_value_is_valid(struct pl_slice value);

/* Without the spaces and tabs around it. */
struct pl_slice pl__slice_trim(struct pl_slice s);

/* Takes the next element of a comma-separated list (RFC 9110 5.6.1) off the
 * front of *rest; empty elements are skipped, commas in quoted strings do not
 * split.  Returns 1 with *element trimmed, or 0 at the end. */
int pl__list_take(struct pl_slice *rest, struct pl_slice *element);

/* Whether the list `value` has the element `token`, in any case. */
int pl__list_has(struct pl_slice value, struct pl_slice token);

/* Writes members of lists one behind the other, with commas between.  Those that
 * lie like that already are copied in one go. */
struct pl_join {
  char *out;        /* room for all of them */
  uint32_t bytes;   /* written */
  const char *from; /* not yet written; NULL: nothing is */
  const char *to;
};

static inline void pl__join_flush(struct pl_join *j) {
  uint32_t bytes = (uint32_t)(j->to - j->from);

  if (j->bytes)
    j->out[j->bytes++] = ',';
  memcpy(j->out + j->bytes, j->from, bytes);
  j->bytes += bytes;
}

/* The bytes must stay until pl__join_end. */
static inline void pl__join(struct pl_join *j, const char *from,
                            const char *to) {
  if (j->from && (from != j->to + 1 || *j->to != ',')) {
    pl__join_flush(j);
    j->from = NULL;
  }
  if (!j->from)
    j->from = from;
  j->to = to;
}

/* Returns how many bytes there are. */
static inline uint32_t pl__join_end(struct pl_join *j) {
  if (j->from)
    pl__join_flush(j);
  return j->bytes;
}

/* The name of a method as it stands in a request line, or an empty slice. */
struct pl_slice pl__method_name(uint8_t method);

/* The number of a method by its name (case counts), or -1. */
int pl__method_find(struct pl_slice name);

#endif /* PL_HTTP_HEADERS_H */
