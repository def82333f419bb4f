/* server/ops.h - the control socket: a unix socket at which a running server
 * is asked and told things, in HTTP/1.1 with JSON, so that curl will do.
 *
 *   accept --> READING --whole head--> ASKED --pl__ops_answer--> WRITING --> end
 *                 |                      |  the client may go away meanwhile
 *                 +-- malformed, slow, too large: an answer, or the end
 *
 * Lives in the master's poll loop: no call waits, clients, requests and answers
 * have limits, and one that is slow or stuck is closed.  Only the server's own
 * user and root get an answer.  Does not know what the requests mean.
 */
#ifndef PL_SERVER_OPS_H
#define PL_SERVER_OPS_H

#include "base/buf.h"
#include "base/slice.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#define PL_OPS_CLIENTS_MAX 32u
#define PL_OPS_FDS_MAX (PL_OPS_CLIENTS_MAX + 1u)
#define PL_OPS_REQUEST_BYTES 8192u          /* of a request, a body included */
#define PL_OPS_ANSWER_BYTES_MAX (33u << 20) /* metrics may be many */
#define PL_OPS_CLIENT_S 10 /* to send a request, or to take an answer */
#define PL_OPS_PATH_BYTES 108
#define PL_OPS_ERROR_BYTES 256

/* One request; slices are valid during the call. */
struct pl_ops_request {
  uint64_t client; /* for pl__ops_answer */
  struct pl_slice method;
  struct pl_slice path;
  struct pl_slice query;
};

/* Answers at once, or later, or (the client goes away) never. */
typedef void (*pl__ops_fn)(void *arg, const struct pl_ops_request *request);

struct pl_ops_client;

struct pl_ops {
  int fd; /* listens; -1: closed */
  char path[PL_OPS_PATH_BYTES];
  struct pl_ops_client *clients; /* PL_OPS_CLIENTS_MAX of them */
  uint64_t serial;
  pl__ops_fn on_request;
  void *arg;
};

/* The place of the socket of a server whose lock file is at `lock_path`: there,
 * with .sock in the place of .pid, or behind it.  False: too long for one. */
bool pl__ops_place(const char *lock_path, char *out);

/* Listens at the path, with mode 0600; what is there is replaced: whoever holds
 * the lock of the server's name may do so.  Returns 0, or with a sentence in
 * error (PL_OPS_ERROR_BYTES) PL_ENOMEM or PL_EFAIL. */
int pl__ops_open(struct pl_ops *o, const char *path, pl__ops_fn on_request,
                 void *arg, char *error);
/* Closes all; `remove`: the file, too. */
void pl__ops_close(struct pl_ops *o, bool remove);
/* In a forked child. */
void pl__ops_forget(struct pl_ops *o);

/* Fills in what to poll for, at most PL_OPS_FDS_MAX; returns how many. */
nfds_t pl__ops_watch(const struct pl_ops *o, struct pollfd *fds);
/* Reads, asks and writes what can be: after each poll. */
void pl__ops_turn(struct pl_ops *o, int64_t now_ns);
/* When a client has had its time; 0: never. */
int64_t pl__ops_due(const struct pl_ops *o);

/* Answers a client; does nothing when it is gone.
 *
 *   status  of HTTP
 *   type    "application/json" or another
 */
void pl__ops_answer(struct pl_ops *o, uint64_t client, unsigned status,
                    const char *type, struct pl_slice body);
/* Sends what is left for at most so long: before the end. */
void pl__ops_finish(struct pl_ops *o, int wait_ms);

#endif /* PL_SERVER_OPS_H */
