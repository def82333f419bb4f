/* server/wish.h - what rules of the admin plane (lua/perilune/admin/actions.lua)
 * want the master to do: PL_NEWS_WISH by control's channel, whose `generation` is
 * one of these.
 *
 * Lua says it by core.report("wish", ...) as a line, and gets a number, under
 * which the master's answer comes: PL_ORDER_GRANTED, whose `generation` is that
 * number, `code` 0 or why not, and `text` what was done, or a sentence that says
 * why nothing was.
 *
 *   worker MOST            one more, if there are fewer than so many
 *   collect                workers begin a cycle of the collector
 *   level NAME SECONDS     of the log, for so long; then the configured one
 *   record RULE            what the flight recorder has is written down; the
 *                          answer, a file's path, comes when it is
 */
#ifndef PL_SERVER_WISH_H
#define PL_SERVER_WISH_H

#include "base/slice.h"

#include <stdint.h>

enum pl_wish {
  PL_WISH_WORKER = 1, /* code: the most there may be */
  PL_WISH_COLLECT,
  PL_WISH_LEVEL, /* code: seconds, text: the level's name */
  PL_WISH_RECORD /* text: the rule */
};

#define PL_WISH_SECONDS_MAX 86400 /* of a level */

/* `generation` of PL_NEWS_WISH: which, and under which number. */
#define PL_WISH_NUMBER_MAX 0xffffffu
static inline uint32_t pl__wish_word(enum pl_wish which, uint32_t number) {
  return number << 8 | (uint32_t)which;
}
static inline enum pl_wish pl__wish_which(uint32_t word) {
  return (enum pl_wish)(word & 0xff);
}
static inline uint32_t pl__wish_number(uint32_t word) { return word >> 8; }

/* Who asks for a record, as struct pl_dumper has it: a wish, not the desk. */
#define PL_WISH_ASKER 0x80000000u

/* Says the line to the master, under that number, 1 to PL_WISH_NUMBER_MAX.
 * Returns 0, PL_EINVAL (it is none of these), or what pl__channel_say returns.
 */
int pl__wish_say(int channel_fd, uint32_t number, struct pl_slice line);

/* The level of that name, enum pl_level; -1: there is none. */
int pl__wish_level(const char *name);

#endif /* PL_SERVER_WISH_H */
