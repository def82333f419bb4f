/* server/standing.h - how the server stands, as its master knows it: what
 * status answers, here, on the admin plane and in metrics.
 *
 * The master writes it into the fabric whenever something has changed; whoever
 * reads gets a copy.  The writer never waits, and a reader that meets it again
 * and again takes what there is: all texts end, all counts are in bounds.  What
 * workers say of themselves is in their beats (server/layout.h).
 */
#ifndef PL_SERVER_STANDING_H
#define PL_SERVER_STANDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "server/address.h"
#include "server/config.h"
#include "server/reload.h"

#define PL_STANDING_VERSION 1u
#define PL_STANDING_WORKERS_MAX (PL_LIMIT_WORKER_COUNT * 2u)
#define PL_STANDING_ADDRESS_BYTES (PL_ADDRESS_TEXT_BYTES + 16)

struct pl_standing_worker {
  int32_t pid; /* 0: not running */
  uint32_t generation;
  uint32_t restarts;
  bool is_shown;    /* it is wanted, or still lives */
  char state[24];   /* "serving", "stuck", ... */
  int64_t ready_ns; /* monotonic, since when; 0: not ready */
};

struct pl_standing_facts {
  char name[PL_CONFIG_NAME_BYTES];
  char app[PL_CONFIG_PATH_BYTES];
  char state[16]; /* "starting", "serving", "draining", ... */
  int32_t pid;    /* of the master */
  bool is_upgrading;
  bool is_reloading;
  bool has_admin; /* the admin plane's sockets are this server's, not those of
                     one that it replaces or is replaced by */
  int64_t started_ns; /* realtime */
  uint32_t generation;
  uint32_t committed; /* reloads so far, without the first load */
  uint32_t rejected;
  uint32_t crashes; /* of workers */
  struct pl_reload_result last;
  uint32_t address_count;
  char addresses[PL_CONFIG_LISTEN_MAX][PL_STANDING_ADDRESS_BYTES];
  char admin[PL_STANDING_ADDRESS_BYTES]; /* empty: there is no admin plane */
  uint32_t worker_count;                 /* entries, those not shown too */
  struct pl_standing_worker workers[PL_STANDING_WORKERS_MAX];
};

struct pl_standing {
  _Alignas(64) _Atomic uint32_t serial; /* odd: it is being written */
  struct pl_standing_facts facts;
};

/* By the master, which alone writes. All zero is a fact as well: what was
 * cleared before it was filled in is compared byte for byte. */
void pl__standing_write(struct pl_standing *s,
                        const struct pl_standing_facts *facts);
void pl__standing_read(const struct pl_standing *s,
                       struct pl_standing_facts *out);

#endif /* PL_SERVER_STANDING_H */
