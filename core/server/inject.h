/* server/inject.h - connections without sockets: specs, `perilune request`.
 *
 * Their bytes go through the same parser, limits, router, handlers and encoder
 * as those of sockets; only the transport is another (net/memory.h).
 */
#ifndef PL_SERVER_INJECT_H
#define PL_SERVER_INJECT_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_dispatch;
struct pl_injected;

#define PL_INJECT_CONNS_MAX 16384u /* open at once in one tool */

struct pl_inject {
  struct pl_dispatch *dispatch; /* borrowed */
  struct pl_injected **conns;   /* by number; NULL: free */
  uint32_t count;               /* numbers given out so far */
};

void pl__inject_init(struct pl_inject *i, struct pl_dispatch *d);
/* Frees all; their connections must be closed. */
void pl__inject_deinit(struct pl_inject *i);
/* Delivers what was fed and sent. True: something happened. */
bool pl__inject_turn(struct pl_inject *i);

/* As in struct pl_vm_host. */
int pl__inject_open(struct pl_inject *i, uint32_t site);
int pl__inject_feed(struct pl_inject *i, int conn, const char *at,
                    uint32_t bytes);
struct pl_slice pl__inject_peek(struct pl_inject *i, int conn, bool *closed);
void pl__inject_drop(struct pl_inject *i, int conn, uint32_t bytes);
void pl__inject_eof(struct pl_inject *i, int conn);
void pl__inject_stall(struct pl_inject *i, int conn, bool stalled);
void pl__inject_close(struct pl_inject *i, int conn);

/* For the owner pointer of a connection. */
uint32_t pl__inject_site(const void *owner);
void pl__inject_on_closed(void *owner);

#endif /* PL_SERVER_INJECT_H */
