/* log/gzip.h - a whole body as gzip has it (RFC 1952), by zlib. */
#ifndef PL_LOG_GZIP_H
#define PL_LOG_GZIP_H

#include "base/buf.h"

/* Appends `bytes`, compressed, to `out`.  0; PL_EFULL past the buffer's
 * maximum, PL_ENOMEM: `out` is as it was. */
int pl__gzip(struct pl_slice bytes, struct pl_buf *out);

/* Appends what such a body has in it.  0; PL_EBAD: it is none, or not whole;
 * PL_EFULL past the buffer's maximum, PL_ENOMEM. */
int pl__gunzip(struct pl_slice bytes, struct pl_buf *out);

#endif /* PL_LOG_GZIP_H */
