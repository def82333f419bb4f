/* log/otlp_request.h - attributes that say whose a span or a record is: the
 * request, its tenant and route, the process. */
#ifndef PL_LOG_OTLP_REQUEST_H
#define PL_LOG_OTLP_REQUEST_H

#include "fabric/routes.h"
#include "log/otlp.h"

/* perilune.request_id: the one that a peer has given, else 16 hex digits; not
 * there for neither. */
void pl__otlp_request_id(struct pl_pb *p, uint32_t field, uint64_t id,
                         struct pl_slice caller_id);
/* perilune.tenant, if there is one. */
void pl__otlp_tenant(struct pl_pb *p, uint32_t field, struct pl_slice tenant);
/* http.route, without the method, if the pattern is known. */
void pl__otlp_route(struct pl_pb *p, uint32_t field,
                    const struct pl_routes *routes, uint32_t generation,
                    uint32_t route);
/* perilune.worker, or perilune.process of one that is none; and
 * perilune.generation unless it is 0. */
void pl__otlp_process(struct pl_pb *p, uint32_t field, uint16_t worker,
                      uint32_t generation);

/* The pattern of a route as people write it, "GET /users/:id", and behind its
 * method; both empty when it is not known.  Valid as long as its table. */
struct pl_slice pl__otlp_pattern(const struct pl_routes *routes,
                                 uint32_t generation, uint32_t route,
                                 struct pl_slice *path);

#endif /* PL_LOG_OTLP_REQUEST_H */
