/* server/master.h - the master process: it starts, watches and replaces the
 * others, and owns what outlives them.
 *
 * One thread, no Lua, no loop library: signalfd and poll.  It serves no client
 * and writes no log but through its own ring, so that nothing but the kernel
 * can make it wait.
 */
#ifndef PL_SERVER_MASTER_H
#define PL_SERVER_MASTER_H

#include <stddef.h>

struct pl_config;
struct pl_error;
struct pl_config_input;
struct pl_trial_args;
struct pl_worker_args;

struct pl_master_options {
  const struct pl_config *config; /* to begin with; borrowed */
  /* What a reload makes the next one from; NULL: it stays as it is. */
  const struct pl_config_input *input;
  /* What a worker process does; its result is the process's exit code. */
  int (*worker_main)(const struct pl_worker_args *args);
  /* What a process does that tries a generation out, likewise. */
  int (*trial_main)(const struct pl_trial_args *args);
  /* Gets one line of text for people, with its newline. */
  void (*on_message)(void *arg, const char *text, size_t bytes);
  void *arg;
};

/* Serves until TERM or INT. Contract: pl_server_run in perilune.h. */
int pl__master_run(const struct pl_master_options *options,
                   struct pl_error *error);

#endif /* PL_SERVER_MASTER_H */
