/* server/grpc_health.h - the service grpc.health.v1.Health: Check, Watch, List.
 *
 *   call    answers with
 *   Check   the status of a service; NOT_FOUND if it is unknown
 *   Watch   its status now and after each change, SERVICE_UNKNOWN if it is
 *           unknown now; open until the client or its deadline ends it
 *   List    the status of all; RESOURCE_EXHAUSTED for more than 100
 *
 * A client that reads slowly is told the latest status, not each one between.
 * Where there is a token, Watch and List need it; Check does not, as those who
 * probe (Kubernetes) can show none.  Every answer to who may know has the
 * trailer x-health-state, if the source tells a state.
 * Source: grpc/grpc-proto grpc/health/v1/health.proto.
 *
 * What services there are is the source's business.  Knows no socket; all calls
 * are made on one thread.
 */
#ifndef PL_SERVER_GRPC_HEALTH_H
#define PL_SERVER_GRPC_HEALTH_H

#include "base/list.h"
#include "net/h2.h"

#define PL_GRPC_HEALTH_LIST_COUNT 100u

/* HealthCheckResponse.ServingStatus. */
enum pl_grpc_serving {
  PL_GRPC_UNKNOWN = 0,
  PL_GRPC_SERVING = 1,
  PL_GRPC_NOT_SERVING = 2,
  PL_GRPC_SERVICE_UNKNOWN = 3
};

struct pl_grpc_health_entry {
  struct pl_slice service; /* valid until the source is asked again */
  int status;              /* enum pl_grpc_serving */
};

/* Where the status of services comes from. No function may wait. */
struct pl_grpc_health_source {
  /* Of the service of that name, "" for the whole. An enum pl_grpc_serving. */
  int (*status)(void *arg, struct pl_slice service);
  /* Writes `max` entries at most; returns how many there are. */
  uint32_t (*list)(void *arg, struct pl_grpc_health_entry *to, uint32_t max);
  /* A word for x-health-state, static; NULL: none. The function may be NULL. */
  const char *(*state)(void *arg);
  /* The bearer token that calls must bring, valid until the source is asked
   * again; no bytes: none. The function may be NULL. */
  struct pl_slice (*token)(void *arg);
  void *arg;
};

struct pl_grpc_health {
  struct pl_grpc_health_source source;
  struct pl_list watchers;
};

void pl__grpc_health_init(struct pl_grpc_health *h,
                          const struct pl_grpc_health_source *source);

/* What the owner of the sessions passes on from their events. */
void pl__grpc_health_on_request(struct pl_grpc_health *h,
                                struct pl_h2_stream *s, int64_t now_ms);
void pl__grpc_health_on_drained(struct pl_grpc_health *h,
                                struct pl_h2_stream *s);
void pl__grpc_health_on_closed(struct pl_grpc_health *h,
                               struct pl_h2_stream *s);

/* What the source says has changed, or may have: tells the watchers. */
void pl__grpc_health_changed(struct pl_grpc_health *h);
/* Ends what is over its deadline. Returns the ms until the next deadline, -1
 * when there is none. */
int64_t pl__grpc_health_expire(struct pl_grpc_health *h, int64_t now_ms);
/* Ends every Watch with UNAVAILABLE. */
void pl__grpc_health_close(struct pl_grpc_health *h);

#endif /* PL_SERVER_GRPC_HEALTH_H */
