/* server/worker.h - a worker process: serves requests from the sockets that
 * the master has made.
 */
#ifndef PL_SERVER_WORKER_H
#define PL_SERVER_WORKER_H

#include <stdint.h>

struct pl_config;
struct pl_fabric;
struct pl_listeners;

/* What the master hands to a worker; everything outlives it. */
struct pl_worker_args {
  uint32_t index;
  const struct pl_config *config;
  struct pl_fabric *fabric;
  const int *listen_fds; /* one per address, non-blocking */
  uint32_t listen_count;
  /* Of all workers, in this process; NULL: there are only our own. */
  struct pl_listeners *listeners;
  int channel_fd;  /* to the master */
  int log_wake_fd; /* the eventfd of the log's reader */
};

/* Loads the generation that is committed, says so (or why not), serves until TERM and drains. Returns
 * the exit code of the process. */
int pl__worker_main(const struct pl_worker_args *args);

#endif /* PL_SERVER_WORKER_H */
