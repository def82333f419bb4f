/* log/outlet.h - gets the ledger's batch out, each byte once.
 *
 * Also when the process is killed between any two instructions, or within a
 * write: the next one's pl__outlet_resume finds out how far it had come.
 *
 *   a file           has the bytes: the end of it is compared with the batch
 *   a pipe, a        get them through the transit, a pipe that outlives us:
 *   stream socket    the kernel moves bytes from one to the other (splice), so
 *                    what has not gone on lies in it still
 *   a terminal, a    keep no record: what is cut by a kill begins again, with
 *   device           its line
 *   syslog           takes message by message: one may come twice, and has the
 *                    same number then (sequenceId)
 *
 * Does not know what the bytes mean, but for the ends of lines and messages.
 */
#ifndef PL_LOG_OUTLET_H
#define PL_LOG_OUTLET_H

#include "log/ledger.h"
#include "log/sink.h"

struct pl_outlet {
  struct pl_sink *sink;     /* borrowed */
  struct pl_ledger *ledger; /* borrowed */
  int transit[2];           /* a pipe, both ends O_NONBLOCK; borrowed.  -1:
                               pipes and sockets are written to directly */
};

/* The first bytes of the batch may be out, and this process does not know: it
 * takes over.  The ledger is HELD, MOVING, DONE or EMPTY afterwards.  `sink` is
 * open. */
void pl__outlet_resume(struct pl_outlet *o);

/* Gets out what can be got out now, of a batch that is HELD or MOVING.
 * Returns 0 (it is DONE), -EAGAIN (later), or the negated errno of what stands
 * in the way; *moved tells whether there is less to do than before. */
int pl__outlet_flush(struct pl_outlet *o, bool *moved);

/* Opens the sink's file again.  A line that was cut by it is written again,
 * whole, to the new file.  Returns as pl__sink_reopen. */
int pl__outlet_reopen(struct pl_outlet *o);

#endif /* PL_LOG_OUTLET_H */
