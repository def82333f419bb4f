#include "http/range.h"

#include "http/chars.h"
#include "http/date.h"
#include "http/headers.h"

/* Takes digits off the front of *s; returns how many, at most 19 so that it
 * cannot overflow (a longer number is not understood: 20). */
static uint32_t take_digits(struct pl_slice *s, uint64_t *n) {
  uint32_t digits = 0;
  *n = 0;
  while (s->bytes && pl__char_is_digit(*s->at)) {
    if (++digits > 19)
      return digits;
    *n = *n * 10 + (uint64_t)(*s->at - '0');
    s->at++, s->bytes--;
  }
  return digits;
}

enum pl_range_outcome pl__range_parse(struct pl_slice value, uint64_t size,
                                      uint64_t *first, uint64_t *last) {
  const struct pl_slice unit = PL_SLICE("bytes=");
  uint64_t from, to;

  value = pl__slice_trim(value);
  if (value.bytes <= unit.bytes ||
      !pl__slice_equal_nocase(pl__slice(value.at, unit.bytes), unit))
    return PL_RANGE_ALL;
  value = pl__slice_trim(
      pl__slice(value.at + unit.bytes, value.bytes - unit.bytes));

  uint32_t from_digits = take_digits(&value, &from);
  if (from_digits > 19 || !value.bytes || *value.at != '-')
    return PL_RANGE_ALL;
  value.at++, value.bytes--;
  uint32_t to_digits = take_digits(&value, &to);
  if (to_digits > 19 || value.bytes || (!from_digits && !to_digits))
    return PL_RANGE_ALL;

  if (!from_digits) { /* the last `to` bytes */
    if (!to || !size)
      return PL_RANGE_NONE;
    *first = to < size ? size - to : 0;
    *last = size - 1;
    return PL_RANGE_PART;
  }
  if (to_digits && to < from)
    return PL_RANGE_ALL;
  if (from >= size)
    return PL_RANGE_NONE;
  *first = from;
  *last = to_digits && to < size ? to : size - 1;
  return PL_RANGE_PART;
}

static uint32_t put_hex(char *out, uint64_t n) {
  char digits[16];
  uint32_t bytes = 0, i = 0;
  do
    digits[bytes++] = "0123456789abcdef"[n & 15];
  while (n >>= 4);
  while (bytes)
    out[i++] = digits[--bytes];
  return i;
}

uint32_t pl__etag_format(uint64_t size, int64_t mtime_ns,
                         char out[PL_ETAG_BYTES_MAX]) {
  uint32_t n = 3;
  memcpy(out, "W/\"", 3);
  n += put_hex(out + n, size);
  out[n++] = '-';
  n += put_hex(out + n, (uint64_t)mtime_ns);
  out[n++] = '"';
  return n;
}

/* The opaque part of an entity tag, with its quotes. */
static struct pl_slice opaque(struct pl_slice etag) {
  if (etag.bytes > 2 && etag.at[0] == 'W' && etag.at[1] == '/')
    return pl__slice(etag.at + 2, etag.bytes - 2);
  return etag;
}

int pl__etag_matches(struct pl_slice list, struct pl_slice etag) {
  struct pl_slice element;
  while (pl__list_take(&list, &element)) {
    if (element.bytes == 1 && element.at[0] == '*')
      return 1;
    if (pl__slice_equal(opaque(element), opaque(etag)))
      return 1;
  }
  return 0;
}

int pl__is_not_modified(const struct pl_req *req, struct pl_slice etag,
                        int64_t modified_unix_seconds) {
  const struct pl_slice name = PL_SLICE("if-none-match");
  int64_t since;
  int i = pl__headers_find(req, name, 0);

  if (req->method != PL_METHOD_GET && req->method != PL_METHOD_HEAD)
    return 0;
  if (i >= 0) { /* If-Modified-Since is then to be ignored */
    for (; i >= 0; i = pl__headers_find(req, name, (uint32_t)i + 1))
      if (pl__etag_matches(req->headers[i].value, etag))
        return 1;
    return 0;
  }
  i = pl__headers_find(req, PL_SLICE("if-modified-since"), 0);
  return i >= 0 && pl__date_parse(req->headers[i].value, &since) == 0 &&
         modified_unix_seconds <= since;
}

int pl__range_applies(const struct pl_req *req, struct pl_slice etag,
                      int64_t modified_unix_seconds) {
  int64_t date;
  int i = pl__headers_find(req, PL_SLICE("if-range"), 0);

  if (i < 0)
    return 1;
  struct pl_slice v = req->headers[i].value;
  if (v.bytes && v.at[0] == '"') /* strong comparison */
    return pl__slice_equal(v, etag);
  return pl__date_parse(v, &date) == 0 && date == modified_unix_seconds;
}
