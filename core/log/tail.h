/* log/tail.h - the records that were logged last, for those who want to look.
 *
 * Control puts each record here that it takes up for the log, whatever that is
 * written to; the admin plane's thread reads them as JSON lines.  Records are
 * kept as they are, and become lines only when somebody asks: it costs the log
 * a copy.  Warnings and errors have a lane of their own, so that access records
 * don't push them out.
 *
 * A lane is a ring of PL_TAIL_LANE_BYTES; what comes overwrites the oldest.
 * One lock guards all, held for a copy in or out.
 */
#ifndef PL_LOG_TAIL_H
#define PL_LOG_TAIL_H

#include "base/buf.h"
#include "fabric/routes.h"

#include <stdint.h>

#define PL_TAIL_LANE_BYTES 131072u
#define PL_TAIL_LANE_RECORDS 256u      /* at most, however short they are */
#define PL_TAIL_RECORD_BYTES_MAX 8192u /* larger ones are left out */

struct pl_tail;

/* NULL: no memory.  `routes`: all tables, for names; borrowed; or NULL. */
struct pl_tail *pl__tail_new(const struct pl_routes *routes);
void pl__tail_free(struct pl_tail *t);

/* Keeps a copy of a record.  `t` may be NULL. */
void pl__tail_put(struct pl_tail *t, const void *record, uint32_t bytes);

/* Appends the records from number `from` on, which counts from 1, oldest first:
 *
 *   {"next":N,"records":[{"number":N,"record":{...}},...]}
 *
 * The record is as log/format.h has it; `next` is what to ask for the next time.
 * What is not there any more is not among them: numbers tell.  Returns 0, or
 * PL_ENOMEM, PL_EFULL. */
int pl__tail_json(struct pl_tail *t, uint64_t from, struct pl_buf *out);

#endif /* PL_LOG_TAIL_H */
