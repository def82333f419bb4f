/* server/json.h - writing JSON piece by piece into a buffer.
 *
 * What fails once stays failed: nothing is written any more, and `failed` says
 * why, so that only the end has to look.  Numbers and literals are written as
 * printf has them; texts are escaped.
 */
#ifndef PL_SERVER_JSON_H
#define PL_SERVER_JSON_H

#include "base/buf.h"

struct pl_json {
  struct pl_buf *out; /* borrowed */
  int failed;         /* 0, or what pl__buf_append has returned */
};

/* As printf; what is longer than PL_BUF_FORMAT_BYTES is cut. */
__attribute__((format(printf, 2, 3))) void
pl__json_put(struct pl_json *j, const char *format, ...);
/* A string, with its quotes. */
void pl__json_string(struct pl_json *j, struct pl_slice text);

#endif /* PL_SERVER_JSON_H */
