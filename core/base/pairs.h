/* base/pairs.h - lists as OpenTelemetry's variables have them: a=b,c=d, with
 * %XX in the values for bytes that would mean something else.
 *
 * Blanks around names and values are left out, and so are empty elements.
 */
#ifndef PL_BASE_PAIRS_H
#define PL_BASE_PAIRS_H

#include "base/slice.h"

#define PL_PAIRS_VALUE_BYTES 1024u /* of a value; PL_EBAD past it */

/* Takes the next pair off the list.  The name points into it, the value into
 * `room`, which has PL_PAIRS_VALUE_BYTES.  Returns 1, 0 at the end, or PL_EBAD:
 * no "=", no name, a broken %XX. */
int pl__pairs_take(struct pl_slice *list, struct pl_slice *name,
                   struct pl_slice *value, char *room);

#endif /* PL_BASE_PAIRS_H */
