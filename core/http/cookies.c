#include "http/cookies.h"

#include "base/arena.h"
#include "base/err.h"
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
