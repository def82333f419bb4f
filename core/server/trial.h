/* server/trial.h - a process that tries a generation out before any worker
 * loads it.
 *
 * It resolves the configuration, loads the app from disk, and records every
 * file that it reads into the generation's bundle; then it says how that went,
 * and ends.  Whatever a script can do while it loads, it does to this process
 * alone: exit, crash, block, take all memory, never end (the master kills it
 * then).
 */
#ifndef PL_SERVER_TRIAL_H
#define PL_SERVER_TRIAL_H

#include <stdint.h>

struct pl_config;
struct pl_config_input;
struct pl_fabric;

struct pl_trial_args {
  const struct pl_config *config; /* that serves; what is fixed stays so */
  /* To resolve a new one from; NULL: `config` as it is. */
  const struct pl_config_input *input;
  struct pl_fabric *fabric;
  uint32_t generation;
  int channel_fd; /* gets PL_NEWS_TRIED; its text is what could not change, or
                     why the generation does not load */
  int log_wake_fd;
};

/* Returns the exit code of the process. */
int pl__trial_main(const struct pl_trial_args *args);

#endif /* PL_SERVER_TRIAL_H */
