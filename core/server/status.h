/* server/status.h - what a child tells its master when it has started, or why
 * it has not.
 *
 * One message per child through a pipe of its own, in one write that the
 * kernel does not split.  A pipe that ends without a message means that the
 * child died.
 */
#ifndef PL_SERVER_STATUS_H
#define PL_SERVER_STATUS_H

#define PL_STATUS_TEXT_BYTES 3840 /* NUL included; all fits in PIPE_BUF */

struct pl_status {
  int code;                        /* 0: ready; else a PL_E* or UV_E* */
  char text[PL_STATUS_TEXT_BYTES]; /* why: `file:line: what`, a traceback */
};

/* Tells the master once, then closes `fd`. `text` may be NULL; it is cut when
 * it is too long. Returns 0, or a negated errno, as when nobody listens. */
int pl__status_send(int fd, int code, const char *text);

/* Reads the message of a child. Returns 0 with *out filled, -EAGAIN when there
 * is none yet, PL_EGONE when the child is gone without one. */
int pl__status_read(int fd, struct pl_status *out);

#endif /* PL_SERVER_STATUS_H */
