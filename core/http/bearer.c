/* http/bearer.c - see bearer.h. */
#include "http/bearer.h"

bool pl__bearer_allows(struct pl_slice authorization, struct pl_slice token) {
  struct pl_slice scheme = PL_SLICE("Bearer "), given = authorization;
  unsigned char differs = 0;

  if (!token.bytes)
    return true;
  if (given.bytes != scheme.bytes + token.bytes ||
      !pl__slice_equal_nocase(pl__slice(given.at, scheme.bytes), scheme))
    return false;
  for (uint32_t i = 0; i < token.bytes; i++)
    differs |= (unsigned char)(given.at[scheme.bytes + i] ^ token.at[i]);
  return differs == 0;
}
