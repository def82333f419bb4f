/* server/recording.h - the flight recorder of a server: which rings there are,
 * opened as one trace.
 */
#ifndef PL_SERVER_RECORDING_H
#define PL_SERVER_RECORDING_H

#include <stdint.h>

#include "log/timeline.h"

struct pl_fabric;

/* A trace of all workers and the master.  See pl__timeline_open.
 *
 *   pid  of the master
 *   ago  seconds that it goes back; what is older is left out */
int pl__recording_open(struct pl_timeline **out, const struct pl_fabric *f,
                       const char *name, int pid, double ago);

/* Deadlines that requests of all workers have missed since the server's start;
 * as far as what they have left can be believed. */
uint64_t pl__recording_deadlines(const struct pl_fabric *f);

#endif /* PL_SERVER_RECORDING_H */
