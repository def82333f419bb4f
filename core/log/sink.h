/* log/sink.h - where log lines go: a file, a pipe, a terminal, a socket.
 *
 * A write never waits for a slow reader of a pipe, and never ends the process.
 * The sink keeps no bytes: it says how many it took, and what it did not take
 * stays with the caller (log/drain.h), so nothing is lost in between.
 *
 * The process must ignore SIGPIPE: writes to a pipe have no flag for that.
 */
#ifndef PL_LOG_SINK_H
#define PL_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PL_SINK_PATH_BYTES 1024 /* longest path, NUL included */

enum pl_sink_kind {
  PL_SINK_CLOSED,
  PL_SINK_FILE,    /* a regular file, or what never makes one wait */
  PL_SINK_NOBLOCK, /* own description with O_NONBLOCK: pipe, terminal */
  PL_SINK_POLLED,  /* shared description: poll first, then a little */
  PL_SINK_SOCKET   /* send with MSG_DONTWAIT and MSG_NOSIGNAL */
};

struct pl_sink {
  int fd;
  enum pl_sink_kind kind;
  bool owned;                    /* fd is closed with the sink */
  char path[PL_SINK_PATH_BYTES]; /* "" when it was opened by descriptor */
};

/* Opens "stdout", "stderr" or a path (made with mode 0640, appended to).
 * Returns 0, PL_EINVAL for an empty or too long path, or a negated errno. */
int pl__sink_open(struct pl_sink *s, const char *output);

/* Uses a descriptor of the caller's, which stays open and its flags as they
 * are.  Returns 0 or a negated errno. */
int pl__sink_open_fd(struct pl_sink *s, int fd);

void pl__sink_close(struct pl_sink *s);

/* Writes what can be written now.  *taken of the bytes are gone (also on
 * failure: those before it).  Returns 0 (all of them are), -EAGAIN (later),
 * or the negated errno of what stands in the way: ENOSPC, EPIPE, EIO, ... */
int pl__sink_write(struct pl_sink *s, const char *at, size_t bytes,
                   size_t *taken);

/* Opens the path again, after the file was moved away.  Nothing happens to
 * sinks without a path.  On failure the old file stays in use.  Returns 0 or a
 * negated errno. */
int pl__sink_reopen(struct pl_sink *s);

/* True for a terminal: console format and colour make sense there. */
bool pl__sink_is_tty(const struct pl_sink *s);

#endif /* PL_LOG_SINK_H */
