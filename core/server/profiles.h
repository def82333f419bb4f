/* server/profiles.h - profiles by name, for those who have no Lua: the control
 * socket, and with it `perilune profile`.
 *
 * What a profile is made of is its topic's matter (pl__admin_answer); here is
 * which topic a name stands for, and that each can be had in each form: those
 * that are only made for pprof are read back.
 */
#ifndef PL_SERVER_PROFILES_H
#define PL_SERVER_PROFILES_H

#include "base/buf.h"

struct pl_fabric;

/* Appends the profile of that name ("profile", "heap", "allocs", "coroutine",
 * "block", ...), as the query says: "format=pprof", folded, svg or text, and
 * what else its topic takes.  0; PL_EINVAL: there is no such profile; PL_EBAD:
 * the query cannot be understood; or an error of making it. */
int pl__profiles_answer(const struct pl_fabric *f, struct pl_slice name,
                        struct pl_slice query, struct pl_buf *out);

/* The media type of what such a query gets. Static. */
const char *pl__profiles_type(struct pl_slice query);

#endif /* PL_SERVER_PROFILES_H */
