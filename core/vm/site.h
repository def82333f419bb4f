/* vm/site.h - the apps of a VM: a router each, and what their routes ask for.
 *
 * Route ids belong to the VM: they index the array of route functions in Lua,
 * and `routes` here.  A serving worker has one site; specs make one per app.
 */
#ifndef PL_VM_SITE_H
#define PL_VM_SITE_H

#include "vm/vm.h"

struct pl_router;

#define PL_LIMIT_SITES 4096u /* of one VM: specs load many apps */

struct pl_vm_site {
  struct pl_router *router;
  double timeout_s; /* of its requests, unless the route says otherwise */
  double body_max;
  uint32_t not_found; /* routes that answer what no pattern does */
  uint32_t not_allowed;
  uint32_t options;
  bool ready;
};

struct pl_vm_route {
  double timeout_s; /* 0: the site's */
  double body_max;  /* bytes; 0: the site's */
  char *pattern;    /* "GET /notes/:id", owned; NULL: none */
  uint32_t pattern_bytes;
};

/* A new site; its number (from 1) in *site. 0, PL_EFULL, PL_ENOMEM. */
int pl__site_new(struct pl_vm *vm, uint32_t *site);
/* NULL: there is no such site. */
struct pl_vm_site *pl__site_find(struct pl_vm *vm, uint32_t site);
/* The record of a route, made if need be. NULL: no memory, or an id past
 * PL_LIMIT_ROUTES of http/router.h. */
struct pl_vm_route *pl__site_route(struct pl_vm *vm, uint32_t route);
/* Copies the pattern's text. 0 or PL_ENOMEM. */
int pl__site_set_pattern(struct pl_vm_route *route, const char *at,
                         uint32_t bytes);
void pl__sites_deinit(struct pl_vm *vm);

#endif /* PL_VM_SITE_H */
