/* vm/carried.h - the context of a task that no request has.
 *
 * A detached task may outlive the request that began it, and what the request
 * points to with it.  So it carries a copy: the fixed struct, and with it
 * tracestate and baggage as they would be passed on, in one piece of memory.
 * Timers, and tasks that begin with the server, carry one of their own.
 *
 * Knows no coroutines.
 */
#ifndef PL_VM_CARRIED_H
#define PL_VM_CARRIED_H

#include "http/request.h"
#include "vm/trace.h"

struct pl_random;

struct pl_carried {
  struct pl_context context;
  struct pl_header fields[2]; /* tracestate and baggage, as far as they are */
  uint32_t field_count;
  struct pl_trace trace; /* what is noted of it; owned by the VM's pool */
  double began;          /* monotonic seconds */
  uint8_t what; /* PL_SPAN_TASK, PL_SPAN_TIMER; 0: it has no span of its
                            own but works in that of who has spawned it */
  uint8_t kept; /* PL_KEPT_*: why something of it was */
  char text[];  /* of the fields */
};

/* A copy of a context.
 *
 *   from     the context; NULL: one of its own is made
 *   headers  where its tracestate and baggage are
 *
 * Freed with pl__free.  NULL: no memory. */
struct pl_carried *pl__carried_new(const struct pl_context *from,
                                   const struct pl_header *headers,
                                   uint32_t header_count,
                                   struct pl_random *random);

/* It goes on as work of its own within the same trace: another span, whose
 * parent is the one so far. */
void pl__carried_branch(struct pl_carried *c, struct pl_random *random);

/* It goes on with something new, which belongs to nobody. */
void pl__carried_renew(struct pl_carried *c, struct pl_random *random);

#endif /* PL_VM_CARRIED_H */
