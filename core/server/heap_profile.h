/* server/heap_profile.h - profiles of memory, as pprof reads them.
 *
 * From the fabric alone (fabric/heap_samples.h): workers that stand still or are
 * dead are in them as well.  What Lua has allocated, or holds, is told by line;
 * other memory by what it is:
 *
 *   label kind   lua     sampled, by stack
 *                c       the rest of each worker's heap: C, free room in its
 *                        pages, pages kept for later
 *                map     machine code of the VM's traces
 *                fabric  each section, as far as it takes memory
 *
 * Profiles may be differences to a *base*: what pl__heap_profile_answer has told
 * earlier, as bytes that mean something to this program only.
 */
#ifndef PL_SERVER_HEAP_PROFILE_H
#define PL_SERVER_HEAP_PROFILE_H

#include "base/buf.h"
#include "base/slice.h"

struct pl_fabric;

/* For the admin plane's Lua.  What it says:
 *
 *   "heap" or "allocs"   the profile, compressed; for people the values that
 *                        matter come last: in use, or allocated
 *   the same, a newline, seconds, a newline, a base
 *                        what has come since, less what has gone
 *   "base"               a base, for that
 *   "collect"            asks all workers for a full collection
 *   "collected"          "yes" once all that live have done so
 *
 * 0; PL_EINVAL: it says something else; PL_ENOMEM, PL_EFULL. */
int pl__heap_profile_answer(const struct pl_fabric *f, struct pl_slice said,
                            struct pl_buf *out);

#endif /* PL_SERVER_HEAP_PROFILE_H */
