/* server/operate.h - asks or tells a running server something by its control
 * socket (server/ops.h): the other end of it.
 */
#ifndef PL_SERVER_OPERATE_H
#define PL_SERVER_OPERATE_H

#include "base/buf.h"

/* Sends one request and waits for the whole answer, which is appended to
 * `body`.
 *
 *   lock_path  of the server's lock file
 *   target     "/status?format=text"
 *   seconds    how long the answer may take
 *
 * Returns the HTTP status, PL_ENOTRUNNING (nobody listens), PL_ETIMEOUT, or
 * PL_EGONE (the server has ended without an answer, or refused us). */
int pl__operate(const char *lock_path, const char *method, const char *target,
                double seconds, struct pl_buf *body);

#endif /* PL_SERVER_OPERATE_H */
