/* fabric/flights.c - what the master does with flights: it begins them anew;
 * and the names of phases. */
#include "fabric/flights.h"

#include "fabric/map.h"

#include <string.h>

const char *pl__phase_name(uint32_t phase) {
  static const char *const names[PL_PHASES] = {"core",  "lua",   "collect",
                                               "poll",  "read",  "parse",
                                               "route", "write", "log"};

  return names[phase < PL_PHASES ? phase : PL_PHASE_CORE];
}

/* Zeroes a section.  Whole pages of a fabric go back to the system instead of
 * being written to: most slots are never used. */
static void zero(char *at, uint64_t bytes) {
  uint64_t page = PL_FABRIC_PAGE_BYTES;
  uint64_t front = (page - (uintptr_t)at % page) % page;

  if (front > bytes || pl__fabric_punch(at, bytes)) {
    memset(at, 0, bytes); /* small, or no fabric */
    return;
  }
  memset(at, 0, front);
  memset(at + bytes - (bytes - front) % page, 0, (bytes - front) % page);
}

void pl__flights_init(struct pl_flights *f, uint32_t slot_count) {
  zero((char *)f, pl__flights_bytes(slot_count));
  atomic_init(&f->running, PL_FLIGHT_NONE);
  atomic_init(&f->last, PL_FLIGHT_NONE);
  atomic_init(&f->phase, PL_PHASE_CORE);
  f->slot_count = slot_count;
}
