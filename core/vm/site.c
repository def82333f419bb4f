/* vm/site.c - see site.h. */
#include "vm/site.h"
#include "base/alloc.h"
#include "base/err.h"
#include "fabric/record.h"
#include "http/router.h"

#define SITE_ROUTES_MAX (PL_LIMIT_ROUTES * 4)

int pl__site_new(struct pl_vm *vm, uint32_t *site) {
  struct pl_vm_site *more;

  if (vm->site_count == PL_LIMIT_SITES)
    return PL_EFULL;
  more = pl__realloc(vm->sites, (vm->site_count + 1) * sizeof *more);
  if (!more)
    return PL_ENOMEM;
  vm->sites = more;
  struct pl_vm_site *s = &more[vm->site_count];
  *s = (struct pl_vm_site){.router = pl__router_new(),
                           .timeout_s = vm->options.timeout_s,
                           .body_max = vm->options.body_max};
  if (!s->router)
    return PL_ENOMEM;
  *site = ++vm->site_count;
  return 0;
}

struct pl_vm_site *pl__site_find(struct pl_vm *vm, uint32_t site) {
  return site >= 1 && site <= vm->site_count ? &vm->sites[site - 1] : NULL;
}

struct pl_vm_route *pl__site_route(struct pl_vm *vm, uint32_t route) {
  if (route > SITE_ROUTES_MAX)
    return NULL;
  if (route >= vm->route_cap) {
    uint32_t cap = vm->route_cap ? vm->route_cap : 64;
    while (cap <= route)
      cap *= 2;
    struct pl_vm_route *more = pl__realloc(vm->routes, cap * sizeof *more);
    if (!more)
      return NULL;
    memset(more + vm->route_cap, 0, (cap - vm->route_cap) * sizeof *more);
    vm->routes = more;
    vm->route_cap = cap;
  }
  if (route >= vm->route_count)
    vm->route_count = route + 1;
  return &vm->routes[route];
}

int pl__site_set_pattern(struct pl_vm_route *route, const char *at,
                         uint32_t bytes) {
  char *copy = pl__alloc(bytes + 1);

  if (!copy)
    return PL_ENOMEM;
  memcpy(copy, at, bytes);
  copy[bytes] = '\0';
  pl__free(route->pattern);
  route->pattern = copy;
  route->pattern_bytes = bytes;
  return 0;
}

void pl__sites_deinit(struct pl_vm *vm) {
  for (uint32_t i = 0; i < vm->site_count; i++)
    pl__router_free(vm->sites[i].router);
  for (uint32_t i = 0; i < vm->route_cap; i++)
    pl__free(vm->routes[i].pattern);
  pl__free(vm->sites);
  pl__free(vm->routes);
  vm->sites = NULL;
  vm->routes = NULL;
  vm->site_count = vm->route_count = vm->route_cap = 0;
}

struct pl_slice pl__vm_route_pattern(const struct pl_vm *vm, uint32_t route) {
  if (route >= vm->route_count || !vm->routes[route].pattern)
    return PL_SLICE("");
  return pl__slice(vm->routes[route].pattern, vm->routes[route].pattern_bytes);
}

uint32_t pl__vm_route_in_log(const struct pl_vm *vm, const struct pl_req *req) {
  if (req->route && pl__vm_route_pattern(vm, req->route).bytes)
    return req->route;
  return PL_RECORD_NO_ROUTE;
}

void pl__vm_route(struct pl_vm *vm, struct pl_req *req) {
  struct pl_vm_site *s = &vm->sites[req->site - 1];

  switch (pl__router_match(s->router, req)) {
  case PL_ROUTE_FOUND:
    break;
  case PL_ROUTE_NOT_FOUND:
    req->route = s->not_found;
    break;
  case PL_ROUTE_NOT_ALLOWED:
    req->route = req->method == PL_METHOD_OPTIONS ? s->options : s->not_allowed;
    break;
  }
  const struct pl_vm_route *r = &vm->routes[req->route];
  req->body_max = r->body_max > 0 ? r->body_max : s->body_max;
  req->deadline =
      req->received + (r->timeout_s > 0 ? r->timeout_s : s->timeout_s);
}
