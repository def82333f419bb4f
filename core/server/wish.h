/* server/wish.h - what rules of the admin plane (lua/perilune/admin/actions.lua)
 * want the master to do: PL_NEWS_WISH by control's channel, whose `generation` is
 * one of these.
 *
 * Lua says it by core.report("wish", ...) as a line:
 *
 *   worker MOST            one more, if there are fewer than so many
 *   collect                workers begin a cycle of the collector
 *   level NAME SECONDS     of the log, for so long; then the configured one
 *   record RULE            what the flight recorder has is written down
 */
#ifndef PL_SERVER_WISH_H
#define PL_SERVER_WISH_H

#include "base/slice.h"

enum pl_wish {
  PL_WISH_WORKER = 1, /* code: the most there may be */
  PL_WISH_COLLECT,
  PL_WISH_LEVEL, /* code: seconds, text: the level's name */
  PL_WISH_RECORD /* text: the rule */
};

#define PL_WISH_SECONDS_MAX 86400 /* of a level */

/* Says the line to the master.  Returns 0, PL_EINVAL (it is none of these), or
 * what pl__channel_say returns. */
int pl__wish_say(int channel_fd, struct pl_slice line);

/* The level of that name, enum pl_level; -1: there is none. */
int pl__wish_level(const char *name);

#endif /* PL_SERVER_WISH_H */
