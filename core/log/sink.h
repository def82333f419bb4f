/* log/sink.h - where log lines go: a file, a pipe, a terminal, a socket, syslog.
 *
 * A write never waits for a slow reader of a pipe, and never ends the process.
 * The sink keeps no bytes: it says how many it took, and what it did not take
 * stays with the caller (log/outlet.h), so nothing is lost in between.
 *
 * The process must ignore SIGPIPE: writes to a pipe have no flag for that.
 */
#ifndef PL_LOG_SINK_H
#define PL_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PL_SINK_PATH_BYTES 1024 /* longest path, NUL included */

enum pl_sink_kind {
  PL_SINK_CLOSED,
  PL_SINK_FILE,    /* a regular file, or what never makes one wait */
  PL_SINK_NOBLOCK, /* own description with O_NONBLOCK: pipe, terminal */
  PL_SINK_POLLED,  /* shared description: poll first, then a little */
  PL_SINK_SOCKET,  /* send with MSG_DONTWAIT and MSG_NOSIGNAL */
  PL_SINK_SYSLOG   /* the same, one datagram for each message */
};

/* What it is that is written to, which says how one can find out what it has
 * got (log/outlet.h). */
enum pl_sink_medium {
  PL_MEDIUM_OTHER, /* a terminal, a device, a socket of datagrams */
  PL_MEDIUM_FILE,
  PL_MEDIUM_PIPE,
  PL_MEDIUM_STREAM,  /* a socket */
  PL_MEDIUM_MESSAGES /* syslog: each ends with a NUL, which is not sent */
};

struct pl_sink {
  int fd;
  enum pl_sink_kind kind;
  enum pl_sink_medium medium;
  bool owned;                    /* fd is closed with the sink */
  uint64_t refused_count;        /* UDP: messages that nobody took */
  struct sockaddr_storage to;    /* syslog's */
  socklen_t to_bytes;            /* of it; 0: no syslog */
  char path[PL_SINK_PATH_BYTES]; /* "" when it was opened by descriptor */
};

/* Opens "stdout", "stderr", what pl__syslog_address understands, or a path
 * (made with mode 0640, appended to).  That there is no syslog daemon is no
 * error: each write looks for it again.  Returns 0, PL_EINVAL for a path that
 * is empty or too long or an address that is none, or a negated errno. */
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

/* Moves a file's predecessors up, FILE.1 to FILE.2 and so on, the file itself to
 * FILE.1, and begins a new one of the same mode.  At most `keep` old ones are
 * left.  Should somebody else have moved the file, it is only opened again.
 * Can be repeated after it was killed at any point.  On failure the old file
 * stays in use.  Returns 0 or a negated errno. */
int pl__sink_rotate(struct pl_sink *s, unsigned keep);

/* Bytes in the file; 0 when it is none. */
uint64_t pl__sink_bytes(const struct pl_sink *s);

/* Opens the path again, after the file was moved away.  Nothing happens to
 * sinks without a path.  On failure the old file stays in use.  Returns 0 or a
 * negated errno. */
int pl__sink_reopen(struct pl_sink *s);

/* True for a terminal: console format and colour make sense there. */
bool pl__sink_is_tty(const struct pl_sink *s);

#endif /* PL_LOG_SINK_H */
