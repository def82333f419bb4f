/* fuzz/fuzz_target.c - targets: what comes out holds what target.h says.
 *
 * Targets: the first byte says OPTIONS or GET, the rest is the target.  A path
 * that comes out has nothing left of dot segments, begins with "/" and is
 * found unchanged in memory of the target or of the scratch room.
 */
#include "http/target.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#define BYTES_MAX 2048u

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

static int lies_in(struct pl_slice s, const char *at, uint32_t bytes) {
  return s.at >= at && s.at + s.bytes <= at + bytes;
}

static void check_path(struct pl_slice p) {
  CHECK(p.bytes && p.at[0] == '/');
  CHECK(!memchr(p.at, 0, p.bytes));
  for (uint32_t i = 0; i < p.bytes;) {
    uint32_t end = i + 1;
    while (end < p.bytes && p.at[end] != '/')
      end++;
    uint32_t n = end - i - 1;
    CHECK(!(n == 1 && p.at[i + 1] == '.'));
    CHECK(!(n == 2 && p.at[i + 1] == '.' && p.at[i + 2] == '.'));
    i = end;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  static char target[BYTES_MAX], scratch[BYTES_MAX];
  struct pl_req req = {0};
  uint32_t n;

  if (bytes < 2)
    return 0;
  n = bytes - 1 < BYTES_MAX ? (uint32_t)bytes - 1 : BYTES_MAX;
  memcpy(target, at + 1, n);
  req.method = at[0] & 1 ? PL_METHOD_OPTIONS : PL_METHOD_GET;
  req.target = pl__slice(target, n);
  req.host = PL_SLICE("host");
  int status = pl__target_parse(&req, scratch, n);
  CHECK(memcmp(target, at + 1, n) == 0);
  if (status) {
    CHECK(status == PL_EBAD); /* n bytes of scratch are always enough */
    CHECK(!req.path.at && !req.query.at);
    return 0;
  }
  check_path(req.path);
  CHECK(req.query.bytes == 0 || lies_in(req.query, target, n));
  CHECK(pl__target_is_host(req.host));
  CHECK(req.path.bytes == 1 || lies_in(req.path, target, n) ||
        lies_in(req.path, scratch, n));
  /* What needs no decoding is left alone when it comes a second time. */
  if (req.path.bytes < BYTES_MAX && !memchr(req.path.at, '%', req.path.bytes)) {
    static char again[BYTES_MAX];
    struct pl_req second = {.method = PL_METHOD_GET, .target = req.path};
    if (pl__target_parse(&second, again, BYTES_MAX) == 0 && !second.query.bytes)
      CHECK(memchr(req.path.at, '?', req.path.bytes) ||
            pl__slice_equal(second.path, req.path));
  }
  return 0;
}
