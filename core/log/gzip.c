/* log/gzip.c - see gzip.h. */
#include "log/gzip.h"

#include "base/err.h"

#include <zlib.h>

#define LEVEL 1 /* bodies are made often, and read once */
#define GZIP_WINDOW_BITS (15 + 16)
#define MEMORY_LEVEL 8
#define CHUNK_BYTES 65536u /* that are unpacked at once */

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

/* Z_STREAM_END, another status of zlib's, or an error of the buffer's. */
static int unpack(z_stream *z, struct pl_buf *out) {
  int failed = pl__buf_reserve(out, CHUNK_BYTES), status;
  uInt room;

  if (failed)
    return failed;
  room = out->cap - out->bytes;
  z->next_out = (Bytef *)out->at + out->bytes;
  z->avail_out = room;
  status = inflate(z, Z_NO_FLUSH);
  out->bytes += room - z->avail_out;
  return status;
}

int pl__gunzip(struct pl_slice bytes, struct pl_buf *out) {
  z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes.at,
                .avail_in = bytes.bytes};
  int status;

  if (inflateInit2(&z, GZIP_WINDOW_BITS) != Z_OK)
    return PL_ENOMEM;
  do
    status = unpack(&z, out);
  while (status == Z_OK);
  inflateEnd(&z);
  if (status == Z_STREAM_END)
    return 0;
  return status == PL_EFULL || status == PL_ENOMEM ? status
         : status == Z_MEM_ERROR                   ? PL_ENOMEM
                                                   : PL_EBAD;
}
