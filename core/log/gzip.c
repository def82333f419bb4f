/* log/gzip.c - see gzip.h. */
#include "log/gzip.h"

#include "base/err.h"

#include <zlib.h>

#define LEVEL 1 /* bodies are made often, and read once */
#define GZIP_WINDOW_BITS (15 + 16)
#define MEMORY_LEVEL 8

int pl__gzip(struct pl_slice bytes, struct pl_buf *out) {
  z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes.at,
                .avail_in = bytes.bytes};
  uint32_t before = out->bytes;
  uLong bound;
  int failed, status;

  if (deflateInit2(&z, LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS, MEMORY_LEVEL,
                   Z_DEFAULT_STRATEGY) != Z_OK)
    return PL_ENOMEM;
  bound = deflateBound(&z, bytes.bytes);
  failed =
      bound > UINT32_MAX ? PL_EFULL : pl__buf_reserve(out, (uint32_t)bound);
  if (failed) {
    deflateEnd(&z);
    return failed;
  }
  z.next_out = (Bytef *)out->at + out->bytes;
  z.avail_out = (uInt)bound;
  status = deflate(&z, Z_FINISH);
  out->bytes += (uint32_t)z.total_out;
  deflateEnd(&z);
  if (status == Z_STREAM_END)
    return 0;
  out->bytes = before;
  return PL_ENOMEM;
}
