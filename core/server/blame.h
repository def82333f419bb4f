/* server/blame.h - routes whose handlers killed workers, and what follows.
 *
 * Kept by the master.  PL_BLAME_KILLS of them within PL_BLAME_WINDOW_S, and the
 * route is refused (fabric/quarantine.h); who then tries it out and kills again
 * has it refused again.  Only what a handler did counts: neither a worker that
 * somebody killed nor one that died between handlers.
 */
#ifndef PL_SERVER_BLAME_H
#define PL_SERVER_BLAME_H

#include "server/casualty.h"

#include <stdint.h>

struct pl_quarantine;

#define PL_BLAME_KILLS 3u
#define PL_BLAME_WINDOW_S 10
#define PL_BLAME_ROUTES_MAX 64u /* remembered; of more, the latest to kill */

struct pl_blame_row {
  uint32_t generation; /* of the app, which the route's id is of */
  uint32_t route;
  uint32_t count;                /* kills noted, at most PL_BLAME_KILLS */
  int64_t at_ns[PL_BLAME_KILLS]; /* of the latest, the oldest first */
};

struct pl_blame {
  struct pl_quarantine *quarantines; /* borrowed; in the fabric: two */
  int64_t quarantine_ns;             /* vm.quarantine; 0: off */
  struct pl_blame_row rows[PL_BLAME_ROUTES_MAX];
};

void pl__blame_init(struct pl_blame *b, struct pl_quarantine *quarantines,
                    double quarantine_s);
/* A worker has died. Returns the route, of the generation that ran it, that is
 * refused because of it from now on, or PL_RECORD_NO_ROUTE. */
uint32_t pl__blame_death(struct pl_blame *b, const struct pl_casualty *c);

#endif /* PL_SERVER_BLAME_H */
