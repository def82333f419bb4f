/* fabric/routes.h - the patterns of the routes, for those who only know ids.
 *
 * Log records carry a route's id; whoever shows them looks its pattern up
 * here.  A worker publishes the whole table once, when it has loaded the app.
 * All workers load the same app: the first one wins, and the others check that
 * theirs is the same.
 * Each generation of the app has a table of its own.
 *
 *     EMPTY --claim (pid)--> being written --release store--> PUBLISHED
 *                 ^                |
 *                 +--- the writer's process is gone: the next one claims
 */
#ifndef PL_FABRIC_ROUTES_H
#define PL_FABRIC_ROUTES_H

#include "base/limits.h"
#include "base/slice.h"

#include <stdatomic.h>

#define PL_ROUTES_VERSION 2u
#define PL_ROUTES_TABLES 4u /* generations whose routes are known */
#define PL_ROUTES_DATA_BYTES (PL_LIMIT_ROUTES_BYTES - 64u)

/* Lies in the section "routes", all zero at first. */
struct pl_routes {
  _Alignas(64) _Atomic uint64_t state; /* 0, the writer's pid, or UINT64_MAX */
  uint32_t generation;                 /* of the app that these are of */
  uint32_t count;                      /* ids 0 .. count - 1 */
  uint32_t kept; /* of them, those that found room: the first ones */
  uint64_t hash; /* of all patterns */
  _Alignas(64) char data[PL_ROUTES_DATA_BYTES]; /* offsets, then texts */
};

/* The table of a generation, among the PL_ROUTES_TABLES that lie at `tables`. */
static inline struct pl_routes *pl__routes_of(struct pl_routes *tables,
                                              uint32_t generation) {
  return &tables[generation % PL_ROUTES_TABLES];
}

/* By the master, before any worker loads that generation: empties its table,
 * which was that of the one PL_ROUTES_TABLES before it. */
void pl__routes_begin(struct pl_routes *tables, uint32_t generation);

/* Publishes `count` patterns; the index is the route id.  Patterns past the
 * capacity are left out.  Returns 0 (also when the same was published before,
 * or another process is just doing it), PL_ECONFLICT when something else was:
 * that stays. */
int pl__routes_publish(struct pl_routes *r, const struct pl_slice *patterns,
                       uint32_t count);

/* The pattern of a route, in the fabric and valid as long as its table; 0 bytes
 * when it is not known (yet). */
struct pl_slice pl__routes_find(const struct pl_routes *r, uint32_t route);
/* The same for a route of that generation, among all tables. */
struct pl_slice pl__routes_lookup(const struct pl_routes *tables,
                                  uint32_t generation, uint32_t route);

#endif /* PL_FABRIC_ROUTES_H */
