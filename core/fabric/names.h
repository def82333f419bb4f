/* fabric/names.h - the names behind the numbers of stacks, in two banks.
 *
 * Tables of symbols and stacks only grow, and code that was changed has other
 * lines: so a worker has each table twice.  It writes into one bank; when that is
 * more than half full at a reload, it begins the other one afresh, and the number
 * of a stack tells in which it lies.  What was written before keeps its names
 * until that bank is begun again, which is PL_NAMES_KEEP_MS later at the earliest:
 * by then no profile reaches back to its samples, and the generation that had
 * them is gone.  What counts for longer than that (sums of allocations, of waits,
 * leaks) is told to forget the bank first.
 *
 *   bank 0: written ------------+              begun anew: written ...
 *   bank 1:                     begun: written +
 *           reload              reload         reload, half an hour later or more
 *
 * When a bank was begun stands in its stacks, stored last; the one that is written
 * is the one begun last.  Whoever is killed before that store leaves the other
 * one in use, and a bank without anything in it.
 */
#ifndef PL_FABRIC_NAMES_H
#define PL_FABRIC_NAMES_H

#include "fabric/samples.h"
#include "fabric/stacks.h"
#include "fabric/symbols.h"

#define PL_NAMES_BANKS 2u
#define PL_NAMES_BANK_SHIFT 18 /* of the number of a stack */
/* As long as profiles reach back, and a minute to make one. */
#define PL_NAMES_KEEP_MS (UINT64_C(1000) * (2 * PL_SAMPLES_S_MAX + 60))

/* Both tables, PL_NAMES_BANKS of each. Borrowed. */
struct pl_names {
  const struct pl_symbols *symbols;
  const struct pl_stacks *stacks;
};

static inline uint32_t pl__names_bank(uint32_t stack) {
  return stack >> PL_NAMES_BANK_SHIFT;
}

/* Stacks of the bank are those below pl__names_first of the next one. */
static inline uint32_t pl__names_first(uint32_t bank) {
  return bank << PL_NAMES_BANK_SHIFT;
}

/* The symbols of that stack, the innermost first, into `out`
 * (PL_STACKS_DEPTH_MAX): 1 or more.
 *
 *   asked_ms  monotonic, before the number was read: if its bank was begun anew
 *             since then, it is "(other)", as is a number that is none. */
uint32_t pl__names_find(const struct pl_names *names, uint32_t stack,
                        uint64_t asked_ms, struct pl_symbol *out);

#endif /* PL_FABRIC_NAMES_H */
