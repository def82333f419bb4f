/* server/block_profile.h - how often and how long coroutines have waited, by
 * stack and reason, since the server began.
 */
#ifndef PL_SERVER_BLOCK_PROFILE_H
#define PL_SERVER_BLOCK_PROFILE_H

#include "base/buf.h"

struct pl_fabric;

/* Appends it; said "1": as text, else profile.proto, compressed.  Returns 0, or
 * what pl__layout_* or pl__buf_append return. */
int pl__block_profile_answer(const struct pl_fabric *f, struct pl_slice said,
                             struct pl_buf *out);

#endif /* PL_SERVER_BLOCK_PROFILE_H */
