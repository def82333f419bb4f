/* http/mime.h - file name → media type.
 */
#ifndef PL_HTTP_MIME_H
#define PL_HTTP_MIME_H

#include "base/slice.h"

/* By the extension of the last segment of `path`, any case; text types carry
 * a charset.  application/octet-stream when it is not known.  Constant. */
struct pl_slice pl__mime_find(struct pl_slice path);

#endif /* PL_HTTP_MIME_H */
