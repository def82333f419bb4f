/* server/services.h - what gRPC's clients are told: services and whether they
 * serve.
 *
 * The health rules of the admin plane's VM give it as lines, whenever something
 * has changed:
 *
 *   =healthy     the state of the whole: healthy, degraded, unhealthy; first
 *   +            the service "" serves: requests should come here
 *   -db          the service "db" does not
 *
 * So a question is answered without Lua, however long a check computes.
 */
#ifndef PL_SERVER_SERVICES_H
#define PL_SERVER_SERVICES_H

#include "base/buf.h"
#include "server/grpc_health.h"

#define PL_SERVICES_BYTES 65536u /* of all lines */

struct pl_services {
  struct pl_buf lines;
};

/* Before it is told anything, nothing is ready: "" and "ready" do not serve,
 * "live" does. 0, PL_ENOMEM. */
int pl__services_init(struct pl_services *s);
void pl__services_deinit(struct pl_services *s);

/* Takes over what is told. 0; PL_EFULL, PL_ENOMEM: it goes on as it was. */
int pl__services_set(struct pl_services *s, struct pl_slice lines);

/* For a pl_grpc_health_source, with `s` for arg. */
int pl__services_status(void *s, struct pl_slice service);
uint32_t pl__services_list(void *s, struct pl_grpc_health_entry *to,
                           uint32_t max);
/* HEALTHY, DEGRADED, UNHEALTHY; NULL: not known. */
const char *pl__services_state(void *s);

#endif /* PL_SERVER_SERVICES_H */
