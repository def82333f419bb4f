/* server/dumper.h - writes what the flight recorder has into files.
 *
 * In control, whose loop gives it a turn between two batches of the log: each
 * turn writes one piece, so that neither the log nor the master ever waits for
 * a whole record.  Told by the master (a crash, a worker that is stuck,
 * SIGQUIT, `perilune trace`, an action), and by itself when too many requests
 * miss their deadlines.
 *
 *   FOLDER/perilune-NAME-WHY-TIME.json    mode 0600; the newest ones are kept
 *
 * What actions save (profiles) lies beside them, and counts with them.
 *
 * The folder is recorder.folder; without that $STATE_DIRECTORY, as systemd sets
 * it, or else /tmp/perilune-UID, which is made.  A file has the suffix ".part"
 * until it is complete.  A disk that is full ends a record, not the server.
 *
 * How it went is told to the master, which logs it: PL_NEWS_RECORDED.
 */
#ifndef PL_SERVER_DUMPER_H
#define PL_SERVER_DUMPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "server/channel.h"

struct pl_config;
struct pl_fabric;
struct pl_timeline;

#define PL_DUMPER_QUEUE_MAX 8u    /* records that wait; others are refused */
#define PL_DUMPER_SECONDS_MAX 300 /* longest that one follows what comes */
#define PL_DUMPER_WHY_BYTES 48u
#define PL_DUMPER_PATH_BYTES 1024u
#define PL_DUMPER_WINDOW_S 10u /* of a storm of deadlines */
#define PL_DUMPER_STORM_S 60   /* least time between two records of storms */

struct pl_dumper_order {
  char why[PL_DUMPER_WHY_BYTES]; /* letters, digits and dashes */
  uint32_t asker;                /* handed back with the news; 0: nobody */
  int seconds; /* to follow what comes; 0: what there is now */
};

struct pl_dumper {
  const struct pl_config *config; /* borrowed, as the following */
  const struct pl_fabric *fabric;
  int channel_fd; /* to the master */
  int master_pid;
  struct pl_dumper_order queue[PL_DUMPER_QUEUE_MAX];
  uint32_t queue_count;
  /* the one that is being written: queue[0] */
  struct pl_timeline *timeline; /* NULL: none */
  bool is_ending;
  int fd;
  int64_t until_ns; /* monotonic */
  char path[PL_DUMPER_PATH_BYTES];
  struct pl_buf piece;
  /* storms */
  uint64_t missed[PL_DUMPER_WINDOW_S]; /* deadlines, by second */
  uint32_t samples;
  int64_t sampled_ns, stormed_ns;
};

/* Everything is borrowed. */
void pl__dumper_init(struct pl_dumper *d, const struct pl_config *config,
                     const struct pl_fabric *fabric, int channel_fd);
/* What is being written is given up. */
void pl__dumper_deinit(struct pl_dumper *d);

/* Takes PL_ORDER_RECORD: text is why, code the seconds, generation the asker.
 */
void pl__dumper_order(struct pl_dumper *d, const struct pl_message *order);

/* One piece.  Returns in how many ms the next turn is due, 0: at once; at most
 * `most`. */
int pl__dumper_turn(struct pl_dumper *d, int most);

/* Where records go, made if it is not there.  Returns 0, or a negated errno
 * with the path in `out` all the same. */
int pl__dumper_folder(const struct pl_config *config, char *out, size_t bytes);

/* Writes bytes into such a file, NAME standing for WHY, with the suffix that it
 * has after its first dot.  Blocks for as long as the disk takes.  Any thread.
 *
 *   path  PL_DUMPER_PATH_BYTES; the file, or when it failed why
 *
 * Returns 0 or a negated errno. */
int pl__dumper_save(const struct pl_config *config, struct pl_slice name,
                    struct pl_slice bytes, char *path);

#endif /* PL_SERVER_DUMPER_H */
