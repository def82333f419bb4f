/* base/err.h - the error codes of Perilune.
 *
 * A function returns 0 or a negative code.  Codes of libuv and of errno
 * (negated) pass through unchanged; ours begin at -20000.  Knows no libuv:
 * pl_strerror, which names both, lives in server/.
 */
#ifndef PL_BASE_ERR_H
#define PL_BASE_ERR_H

#define PL_ERRORS(X)                                                           \
  X(PL_ENOMEM, -20000, "out of memory")                                        \
  X(PL_EFULL, -20001, "a limit is reached")                                    \
  X(PL_EINVAL, -20002, "invalid argument")                                     \
  X(PL_EBAD, -20003, "malformed bytes")                                        \
  X(PL_ECONFLICT, -20004, "already registered")                                \
  X(PL_ESCRIPT, -20005, "a script failed")                                     \
  X(PL_ECONFIG, -20006, "invalid configuration")                               \
  X(PL_EBIND, -20007, "cannot bind")                                           \
  X(PL_ENOTRUNNING, -20008, "not running")                                     \
  X(PL_EVERSION, -20009, "built for another version")                          \
  X(PL_EGONE, -20010, "the peer is gone")                                      \
  X(PL_ETIMEOUT, -20011, "timed out")                                          \
  X(PL_EUSAGE, -20012, "wrong usage")                                          \
  X(PL_EFAIL, -20013, "failed")

enum pl_error_code {
#define PL_ERROR_ENUM(name, number, text) name = (number),
  PL_ERRORS(PL_ERROR_ENUM)
#undef PL_ERROR_ENUM
};

#endif /* PL_BASE_ERR_H */
