/* fabric/names.c - see names.h. */
#include "fabric/names.h"

_Static_assert(PL_STACKS_WORDS <= 1u << PL_NAMES_BANK_SHIFT, "has room");
_Static_assert(PL_NAMES_BANKS << PL_NAMES_BANK_SHIFT <=
                   1u << PL_SAMPLES_STACK_BITS,
               "samples have room");

/* Asked behind all that was read of it. */
static bool is_of(const struct pl_stacks *stacks, uint64_t asked_ms) {
  atomic_thread_fence(memory_order_acquire);
  return atomic_load_explicit(&stacks->begun_ms, memory_order_acquire) <=
         asked_ms;
}

uint32_t pl__names_find(const struct pl_names *names, uint32_t stack,
                        uint64_t asked_ms, struct pl_symbol *out) {
  uint32_t bank = pl__names_bank(stack), ids[PL_STACKS_DEPTH_MAX], depth;
  uint32_t number = stack - pl__names_first(bank);
  const struct pl_symbols *symbols;
  const struct pl_stacks *stacks;

  if (bank >= PL_NAMES_BANKS)
    bank = number = 0;
  symbols = &names->symbols[bank];
  stacks = &names->stacks[bank];
  depth = pl__stacks_find(stacks, number, ids);
  for (uint32_t i = 0; i < depth; i++)
    pl__symbols_find(symbols, ids[i], &out[i]);
  if (is_of(stacks, asked_ms))
    return depth;
  pl__symbols_find(symbols, PL_SYMBOLS_MAX, &out[0]); /* none: "(other)" */
  return 1;
}
