/* server/compilation.h - what LuaJIT's compiler makes of the app, from what
 * workers have written into the fabric: for `perilune jit` and the admin plane.
 *
 * Facts only; what to do about them is told by lua/perilune/compilation.lua.
 */
#ifndef PL_SERVER_COMPILATION_H
#define PL_SERVER_COMPILATION_H

#include "base/buf.h"

struct pl_fabric;

#define PL_COMPILATION_ABORTS_MAX 256u /* told; those that came most often */

/* Appends
 *
 *   {"traces":,"aborts":,"flushes":,"code_bytes":,"lost":,"left_out":,
 *    "list":[{"reason":,"at":"file:line","from":"file:line","route":"/x"|null,
 *             "count":,"workers":,"blacklisted":null|"loop"|"function"}]}
 *
 * of all workers, most frequent first; blacklisted ones before all others.
 * `lost` were not written down for lack of room, `left_out` are kinds past
 * PL_COMPILATION_ABORTS_MAX.  Returns 0, PL_ENOMEM, or what pl__layout_* or
 * pl__buf_append return.  `argument` is not used. */
int pl__compilation_answer(const struct pl_fabric *f, struct pl_slice argument,
                           struct pl_buf *out);

#endif /* PL_SERVER_COMPILATION_H */
