/* base/check.h - what must be true.
 *
 * PL_ASSERT is for what a caller of ours did wrong: it is looked at in debug
 * builds (PL_DEBUG) and costs nothing in others.  PL_NEVER is for what is
 * believed impossible, and is handled all the same: write
 *
 *     if (PL_NEVER(index >= count))
 *       return PL_EFAIL;
 *
 * What the world can do is neither: that is an error code.
 */
#ifndef PL_BASE_CHECK_H
#define PL_BASE_CHECK_H

#define PL_LIKELY(cond) __builtin_expect(!!(cond), 1)
#define PL_UNLIKELY(cond) __builtin_expect(!!(cond), 0)

/* Prints what failed to stderr and aborts; only debug builds call it. */
_Noreturn void pl__check_failed(const char *what, const char *file, int line);

#ifdef PL_DEBUG
#define PL_ASSERT(cond)                                                        \
  (PL_LIKELY(cond) ? (void)0 : pl__check_failed(#cond, __FILE__, __LINE__))
#define PL_NEVER(cond)                                                         \
  (PL_UNLIKELY(cond)                                                           \
       ? (pl__check_failed("never: " #cond, __FILE__, __LINE__), 1)            \
       : 0)
#else
#define PL_ASSERT(cond) ((void)sizeof(!(cond)))
#define PL_NEVER(cond) PL_UNLIKELY(cond)
#endif

#endif /* PL_BASE_CHECK_H */
