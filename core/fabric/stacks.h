/* fabric/stacks.h - call stacks by number: rows of symbols, each kept once.
 *
 * One table per worker, in the section "stacks.N".  A stack's number is its
 * place in `words`, where its length stands, and behind that its symbols (see
 * fabric/symbols.h), the innermost first.  Number 0 is a stack that could not
 * be kept: its one symbol is PL_SYMBOL_OTHER.
 *
 * Rows are only ever added, and published by a release store of the count.
 * When the table is nearly full only the innermost frames of new stacks are
 * kept, of which there are far fewer; so lines are still told apart.
 *
 * One writer, the worker's loop thread; any reader, also when the writer is
 * dead, who checks every number.
 */
#ifndef PL_FABRIC_STACKS_H
#define PL_FABRIC_STACKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_STACKS_VERSION 2u
#define PL_STACKS_WORDS 262000u       /* about 1 MiB */
#define PL_STACKS_WORDS_WHOLE 196000u /* up to there stacks are kept whole */
#define PL_STACKS_MAX 49152u          /* stacks */
#define PL_STACKS_DEPTH_MAX 64u       /* symbols of one */
#define PL_STACKS_DEPTH_WHEN_NEARLY_FULL 2u

#define PL_STACK_OTHER 0u

/* Lies in the section, all zero at first. */
struct pl_stacks {
  _Alignas(64) _Atomic uint32_t count; /* words in use */
  _Atomic uint64_t refused;            /* stacks that became PL_STACK_OTHER */
  _Atomic uint64_t begun_ms; /* monotonic: when it was begun (fabric/names.h) */
  _Alignas(64) uint32_t words[PL_STACKS_WORDS];
};

/* --- the writer -------------------------------------------------------- */

struct pl_stacks_writer {
  struct pl_stacks *table;
  uint32_t *index; /* open addressing: numbers */
  uint32_t index_count;
};

/* Goes on with what is there; a table that makes no sense is emptied.
 * 0 or PL_ENOMEM. */
int pl__stacks_writer_open(struct pl_stacks_writer *w, struct pl_stacks *table);
void pl__stacks_writer_close(struct pl_stacks_writer *w);
/* Nothing is in it; what was refused stays counted.  Before a writer opens. */
void pl__stacks_clear(struct pl_stacks *table);
/* Whether more than half is in use of anything that there is a limit of. */
bool pl__stacks_is_half_full(const struct pl_stacks_writer *w);

/* The number of a stack of `depth` symbols (1 to PL_STACKS_DEPTH_MAX), the
 * innermost first; added if it is new. PL_STACK_OTHER: there is no room. */
uint32_t pl__stacks_add(struct pl_stacks_writer *w, const uint32_t *symbols,
                        uint32_t depth);

/* --- readers ----------------------------------------------------------- */

/* Copies the symbols of stack `id` into `out` (PL_STACKS_DEPTH_MAX) and returns
 * how many, 1 or more; PL_SYMBOL_OTHER alone of a number that is none. */
uint32_t pl__stacks_find(const struct pl_stacks *table, uint32_t id,
                         uint32_t *out);

#endif /* PL_FABRIC_STACKS_H */
