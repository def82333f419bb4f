/* server/overview.h - a running server at a glance: what GET /status of the
 * control socket answers, as JSON or for people; and how a reload went.
 */
#ifndef PL_SERVER_OVERVIEW_H
#define PL_SERVER_OVERVIEW_H

#include "base/buf.h"
#include "server/reload.h"

#include <stdbool.h>
#include <stdint.h>

struct pl_config;
struct pl_listeners;
struct pl_watch;

/* All borrowed. */
struct pl_overview {
  const struct pl_config *config;
  const char *state;  /* "serving", ... */
  int64_t started_ns; /* realtime */
  int64_t now_ns;     /* monotonic */
  const struct pl_listeners *listeners;
  const struct pl_child *workers;
  uint32_t worker_count; /* entries; those that are not wanted are left out */
  const struct pl_watch *watch;
  const struct pl_reload *reload;
  bool is_upgrading;
};

/* Append to `out`; 0 or what pl__buf_append returns. */
int pl__overview_json(const struct pl_overview *o, struct pl_buf *out);
int pl__overview_text(const struct pl_overview *o, struct pl_buf *out);
int pl__overview_reload_json(const struct pl_reload_result *r,
                             struct pl_buf *out);
/* Rejected: the reason alone, as the loader gave it. */
int pl__overview_reload_text(const struct pl_reload_result *r,
                             struct pl_buf *out);

#endif /* PL_SERVER_OVERVIEW_H */
