/* base/alloc.c - counts, and the seam that makes allocations fail. */
#include "base/alloc.h"

#include "base/check.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifndef PL_ALLOC_LIBC
#include <jemalloc/jemalloc.h>

#define STRING_OF(x) #x
#define NUMBER_TEXT(x) STRING_OF(x)
#define ARENAS_ALL NUMBER_TEXT(MALLCTL_ARENAS_ALL)
#endif

static _Thread_local uint64_t count;
static _Thread_local uint64_t lua_count;

/* The seam.  `left` is 0 while it is off, so that the usual price is one load
 * of a variable that nobody writes. */
static _Atomic uint64_t left;
static _Atomic uint64_t failed_count;
static bool fail_for_good;

void pl__alloc_fail_after(uint64_t n, bool for_good) {
  fail_for_good = for_good;
  atomic_store(&failed_count, 0);
  atomic_store(&left, n);
}

uint64_t pl__alloc_fail_count(void) { return atomic_load(&failed_count); }

uint64_t pl__alloc_count(void) { return count; }

uint64_t pl__alloc_lua_count(void) { return lua_count; }

/* Counts one allocation down; true when it is one that fails. */
static bool countdown(void) {
  uint64_t n = atomic_load(&left);
  do {
    if (n == 0)
      return false;
    if (n == 1 && fail_for_good)
      break;
  } while (!atomic_compare_exchange_weak(&left, &n, n - 1));
  if (n != 1)
    return false;
  atomic_fetch_add(&failed_count, 1);
  return true;
}

static inline bool fails_now(void) {
  if (PL_LIKELY(atomic_load_explicit(&left, memory_order_relaxed) == 0))
    return false;
  return countdown();
}

static inline size_t at_least_one(size_t bytes) { return bytes ? bytes : 1; }

void *pl__alloc(size_t bytes) {
  count++;
  if (fails_now())
    return NULL;
#ifdef PL_ALLOC_LIBC
  return malloc(at_least_one(bytes));
#else
  return mallocx(at_least_one(bytes), 0);
#endif
}

void *pl__alloc_zero(size_t bytes) {
  count++;
  if (fails_now())
    return NULL;
#ifdef PL_ALLOC_LIBC
  return calloc(1, at_least_one(bytes));
#else
  return mallocx(at_least_one(bytes), MALLOCX_ZERO);
#endif
}

void *pl__realloc(void *p, size_t bytes) {
  if (!p)
    return pl__alloc(bytes);
  count++;
  if (fails_now())
    return NULL;
#ifdef PL_ALLOC_LIBC
  return realloc(p, at_least_one(bytes));
#else
  return rallocx(p, at_least_one(bytes), 0);
#endif
}

void pl__free(void *p) {
#ifdef PL_ALLOC_LIBC
  free(p);
#else
  if (p)
    dallocx(p, 0);
#endif
}

void pl__alloc_trim(void) {
#ifndef PL_ALLOC_LIBC
  mallctl("arena." ARENAS_ALL ".decay", NULL, NULL, NULL, 0);
#endif
}

#ifdef PL_ALLOC_LIBC
bool pl__alloc_totals(struct pl_alloc_totals *out) {
  *out = (struct pl_alloc_totals){0};
  return false;
}
#else
static uint64_t total_of(const char *name) {
  size_t value = 0, bytes = sizeof value;

  return mallctl(name, &value, &bytes, NULL, 0) ? 0 : value;
}

bool pl__alloc_totals(struct pl_alloc_totals *out) {
  uint64_t epoch = 1;
  size_t bytes = sizeof epoch;

  if (mallctl("epoch", &epoch, &bytes, &epoch, bytes))
    return false;
  out->allocated = total_of("stats.allocated");
  out->active = total_of("stats.active");
  out->resident = total_of("stats.resident");
  out->mapped = total_of("stats.mapped");
  return true;
}
#endif

void *pl__alloc_lua(void *p, size_t old_bytes, size_t new_bytes) {
  if (new_bytes == 0) {
    pl__free(p);
    return NULL;
  }
  lua_count++;
  if ((!p || new_bytes > old_bytes) && fails_now())
    return NULL;
#ifdef PL_ALLOC_LIBC
  void *moved = realloc(p, new_bytes);
#else
  void *moved = p ? rallocx(p, new_bytes, 0) : mallocx(new_bytes, 0);
#endif
  /* A block that cannot shrink stays as it is.  That is why it is not freed by
   * its size: sdallocx would be told a smaller one than it has. */
  return moved || !p || new_bytes > old_bytes ? moved : p;
}

#ifdef PL_ALLOC_LIBC
const char *pl__alloc_version(void) { return "libc"; }
#else
const char *pl__alloc_version(void) {
  return "jemalloc " NUMBER_TEXT(JEMALLOC_VERSION_MAJOR) "." NUMBER_TEXT(
      JEMALLOC_VERSION_MINOR) "." NUMBER_TEXT(JEMALLOC_VERSION_BUGFIX);
}
#endif
