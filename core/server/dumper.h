/* server/dumper.h - writes records: what the flight recorder has, and what
 * actions save.
 *
 * A thread of control, so that a disk that hangs holds up nobody else: not the
 * log, which control's main thread drains, and not the admin plane.  What is to
 * be written waits in two queues with room for so many; what finds none is
 * dropped, counted, and told like a record that has failed.
 *
 *   orders  of the master (a crash, a worker that is stuck, SIGQUIT,
 *           `perilune trace`, an action), and when too many requests miss their
 *           deadlines.  How it went is told to the master, which logs it, once
 *           the file has its name: PL_NEWS_RECORDED.
 *   saves   bytes of the admin plane's (profiles).  Who has ordered one asks
 *           for its end with its ticket.
 *
 * They are taken up in their order, one at a time; but while an order follows
 * what comes, saves are written in between.  Where files lie, and what they are
 * called, says server/archive.h.
 */
#ifndef PL_SERVER_DUMPER_H
#define PL_SERVER_DUMPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "server/archive.h"
#include "server/channel.h"

struct pl_dumper;
struct pl_fabric;

#define PL_DUMPER_ORDERS_MAX 8u /* that wait, beside the one being written */
#define PL_DUMPER_SAVES_MAX 8u  /* with those that nobody has asked for yet */
#define PL_DUMPER_SAVES_BYTES_MAX (32u << 20) /* of all that wait */
#define PL_DUMPER_SECONDS_MAX 300 /* longest that one follows what comes */
#define PL_DUMPER_WINDOW_S 10u    /* of a storm of deadlines */
#define PL_DUMPER_STORM_S 60      /* least time between two records of storms */
#define PL_DUMPER_HANGS_S 10      /* silence of the disk that is told */
/* Of a path, or of one and why it was not written. */
#define PL_DUMPER_TEXT_BYTES (PL_ARCHIVE_PATH_BYTES + 128u)

/* Starts the thread.  All is borrowed.  channel_fd: to the master.  Returns 0,
 * PL_ENOMEM, a negated errno, or what pl__layout_state returns. */
int pl__dumper_start(struct pl_dumper **out, const struct pl_config *config,
                     const struct pl_fabric *fabric, int channel_fd);

/* Has it write what there is to be written, for so long at most (whole seconds);
 * what follows is complete now.  False: the disk hangs, and the thread is left
 * alone; then nothing of it may be freed.  The process is about to end. */
bool pl__dumper_stop(struct pl_dumper *d, int ms);
/* After it was stopped, when nobody has it any more. */
void pl__dumper_free(struct pl_dumper *d);

/* Takes PL_ORDER_RECORD: text is why, code the seconds, generation the asker.
 * Only by control's main thread, as the next. */
void pl__dumper_order(struct pl_dumper *d, const struct pl_message *order);

/* To be called once a second or more often: looks for storms, and whether the
 * disk hangs, which the master is told once. */
void pl__dumper_look(struct pl_dumper *d);

/* Orders that bytes, which are copied, are written into a file.  Any thread.
 *
 *   why, suffix  as in pl__archive_begin; why is made of it by
 *                pl__archive_word
 *
 * Returns 0 with a number in *ticket, PL_EINVAL (too long for a name),
 * PL_EFULL or PL_ENOMEM: it was dropped. */
int pl__dumper_save(struct pl_dumper *d, struct pl_slice why,
                    struct pl_slice suffix, struct pl_slice bytes,
                    uint32_t *ticket);

/* How that went.  Any thread.  Returns 1: it is not written yet; 0: it is, and
 * its path is in `text` (PL_DUMPER_TEXT_BYTES); negative: it has failed, and
 * `text` says why.  Then its ticket is no longer known: PL_EGONE. */
int pl__dumper_saved(struct pl_dumper *d, uint32_t ticket, char *text);

#endif /* PL_SERVER_DUMPER_H */
