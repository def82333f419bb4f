/* http/date.h - seconds since the epoch ↔ IMF-fixdate (RFC 9110 5.6.7).
 */
#ifndef PL_HTTP_DATE_H
#define PL_HTTP_DATE_H

#include "base/slice.h"

#define PL_DATE_BYTES 29u /* "Sun, 06 Nov 1994 08:49:37 GMT" */

/* Years 1970 to 9999; others are brought to the nearer end. No NUL. */
void pl__date_format(int64_t unix_seconds, char out[PL_DATE_BYTES]);

/* IMF-fixdate only; the two obsolete forms are refused, as a condition that
 * is not understood is to be ignored.  Returns 0 or PL_EBAD. */
int pl__date_parse(struct pl_slice s, int64_t *unix_seconds);

#endif /* PL_HTTP_DATE_H */
