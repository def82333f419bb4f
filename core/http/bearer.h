/* http/bearer.h - bearer tokens (RFC 6750), as clients show them.
 *
 * Knows neither who asks nor what for.
 */
#ifndef PL_HTTP_BEARER_H
#define PL_HTTP_BEARER_H

#include "base/slice.h"

#include <stdbool.h>

/* Whether the value of an Authorization field brings `token`, compared in a
 * time that does not tell how much of it is right.  A token of no bytes is not
 * asked for: true. */
bool pl__bearer_allows(struct pl_slice authorization, struct pl_slice token);

#endif /* PL_HTTP_BEARER_H */
