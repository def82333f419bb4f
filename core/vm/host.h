/* vm/host.h - what a VM needs of the server around it.
 *
 * vm knows no sockets and no loop: the server fills in this table.  All
 * functions are called on the VM's thread, most of them from inside a running
 * handler, so none may call back into the VM but to wake coroutines.
 */
#ifndef PL_VM_HOST_H
#define PL_VM_HOST_H

#include "base/buf.h"
#include "base/peer.h"
#include "base/slice.h"
#include "http/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct pl_vm_host {
  void *arg; /* handed to every function */

  /* Sends what was written so far, before one that was preempted goes on.
   * NULL: nothing is sent by itself. */
  void (*send)(void *arg);
  /* Whether the run queue holds a request. */
  bool (*has_next)(void *arg);
  /* Takes a request off the run queue; NULL when it is empty. */
  struct pl_req *(*next)(void *arg);
  /* The request is handled; `req` is no longer valid when it returns. */
  void (*end)(void *arg, struct pl_req *req);
  /* req->out has bytes: they leave at the end of the tick. */
  void (*touch)(void *arg, struct pl_req *req);
  /* Sends what is in req->out now. 0: all; 1: some waits; PL_EGONE. */
  int (*flush)(void *arg, struct pl_req *req);
  /* Sends req->out and then `bytes` from where they lie; as flush. With 1 the
   * bytes stay in place until pl__vm_on_writable or pl__vm_on_gone. */
  int (*pin)(void *arg, struct pl_req *req, const char *at, size_t bytes);
  /* Sends req->out and then a part of `fd`, which it takes over; as pin. */
  int (*send_file)(void *arg, struct pl_req *req, int fd, off_t offset,
                   size_t bytes);
  /* Whether the output is below its limit and nothing is pinned. */
  bool (*has_room)(void *arg, struct pl_req *req);
  /* Closes the connection without finishing the response. */
  void (*abort)(void *arg, struct pl_req *req);
  /* The first `bytes` of req->body are consumed. */
  void (*take_body)(void *arg, struct pl_req *req, uint32_t bytes);
  /* A handler is about to wait for more of the body. */
  void (*await_body)(void *arg, struct pl_req *req);
  /* Who sent the request. */
  const struct pl_peer *(*peer)(void *arg, struct pl_req *req);

  /* The admin plane only; NULL elsewhere.  Appends to `out` what the server knows
   * of a topic, or takes the argument in.  Returns 0; PL_EINVAL: there is no such
   * topic; PL_ENOMEM, PL_EFULL. */
  int (*report)(void *arg, struct pl_slice topic, struct pl_slice argument,
                struct pl_buf *out);

  /* Tools only (specs, `perilune request`); NULL in a serving worker.
   * A connection without a socket for requests to `site`: its number, or a
   * negative code. */
  int (*inject_open)(void *arg, uint32_t site);
  int (*inject_feed)(void *arg, int conn, const char *at, uint32_t bytes);
  /* Bytes sent to the client so far, valid until inject_drop or the next
   * call; *closed: the server has closed. */
  struct pl_slice (*inject_peek)(void *arg, int conn, bool *closed);
  void (*inject_drop)(void *arg, int conn, uint32_t bytes);
  void (*inject_eof)(void *arg, int conn);
  void (*inject_stall)(void *arg, int conn, bool stalled);
  void (*inject_close)(void *arg, int conn); /* the client goes away */
  /* Moves all clocks of the worker forward. */
  void (*advance)(void *arg, double seconds);
  /* Text for the user: results, or with `message` what is said about them. */
  void (*output)(void *arg, bool message, const char *text, size_t bytes);
  /* Waits for a line of the user's, without its end, valid until the next
   * call. 1; 0: there are no more; -1: it was dropped, by Ctrl-C. */
  int (*read_line)(void *arg, const char *prompt, struct pl_slice *out);
  /* Ends the tool with this code. */
  void (*quit)(void *arg, int code);
};

#endif /* PL_VM_HOST_H */
