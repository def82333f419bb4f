/* server/fixed.h - the keys of the configuration that cannot change while a
 * server runs: what they say is built into its sockets and its shared memory,
 * or in use by processes that are not replaced.
 */
#ifndef PL_SERVER_FIXED_H
#define PL_SERVER_FIXED_H

#include <stddef.h>

struct pl_config;

/* Makes the values of fixed keys those of `old`.  Those that were others are
 * named in `out`, with ", " between; a name that does not fit is left out. */
void pl__fixed_keep(struct pl_config *c, const struct pl_config *old, char *out,
                    size_t bytes);

#endif /* PL_SERVER_FIXED_H */
