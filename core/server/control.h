/* server/control.h - the control process: it writes the logs, keeps rules and
 * health checks, and has the admin plane.
 *
 * A fork of the master, beside the workers.  Takes the records of all
 * processes out of their rings and writes them as lines; the admin plane is a
 * thread of it (server/admin.h), also without a socket, and so is what goes to
 * a collector (server/exporter.h).  It ends after the others, so that the last
 * records come out: on TERM from the master, or by itself when the master is
 * gone.
 */
#ifndef PL_SERVER_CONTROL_H
#define PL_SERVER_CONTROL_H

#include <stdint.h>

struct pl_config;
struct pl_fabric;

/* At the end: for the last records, for what goes to a collector, and for what
 * that has said. */
#define PL_CONTROL_FINISH_MS 2000
#define PL_CONTROL_FLUSH_MS 3000
#define PL_CONTROL_REST_MS 500
#define PL_CONTROL_RECORDS_MS 1000 /* for records that are being written */
#define PL_CONTROL_END_MS                                                      \
  (PL_CONTROL_FINISH_MS + PL_CONTROL_FLUSH_MS + PL_CONTROL_REST_MS +           \
   PL_CONTROL_RECORDS_MS)

struct pl_control_args {
  const struct pl_config *config;
  const struct pl_fabric *fabric;
  uint32_t worker_count; /* that there is room for */
  int channel_fd;        /* to the master */
  int transit[2];        /* a pipe of the master's; see log/outlet.h */
  int wake_fd;           /* the eventfd that writers of rings wake us by */
  int lifeline_fd;       /* end of file: the master is gone */
  int admin_fd;          /* listening, of the admin plane; -1: nobody asks */
};

/* Runs until it is told to end. Returns the exit code of the process: 0, or 1
 * when it could not start or records were left over. */
int pl__control_main(const struct pl_control_args *args);

#endif /* PL_SERVER_CONTROL_H */
