/* server/console.h - what a person types at a tool: lines, and Ctrl-C.
 *
 * On a terminal there is a prompt, and lines can be edited: by libedit where
 * the build has found it, else as the terminal itself allows.  From a pipe or
 * a file lines come as they are.
 *
 *   SIGINT while a line is read: on a terminal that line is dropped; else the
 *     process ends, as all do that read a pipe
 *   SIGINT at other times: on_interrupt, on the loop
 *   SIGINT before that has happened: the process ends; what computes in C
 *     never comes back to the loop
 *
 * At most one in a process, as signals are the process's.
 */
#ifndef PL_SERVER_CONSOLE_H
#define PL_SERVER_CONSOLE_H

#include "base/buf.h"
#include "base/slice.h"

#include <signal.h>
#include <stdbool.h>
#include <uv.h>

#define PL_CONSOLE_LINE_BYTES_MAX 1048576u /* past it the input ends */

/* Runs on the loop; must not close the console. */
typedef void (*pl_console_interrupt_fn)(void *arg);

struct pl_console_editor; /* NULL: lines are not edited */

struct pl_console {
  struct pl_buf line; /* the one that was read last */
  struct pl_console_editor *editor;
  uv_async_t async; /* from the signal to the loop */
  struct sigaction before;
  pl_console_interrupt_fn on_interrupt;
  void *arg;
};

/* Takes SIGINT. Returns 0, UV_E*, or PL_ENOMEM; then nothing has changed. */
int pl__console_open(struct pl_console *c, uv_loop_t *loop,
                     pl_console_interrupt_fn on_interrupt, void *arg);
/* Gives SIGINT back; a handle is left for the loop to close. */
void pl__console_close(struct pl_console *c);

enum pl_console_line {
  PL_CONSOLE_INTERRUPTED = -1, /* one was dropped */
  PL_CONSOLE_END = 0,          /* there are no more */
  PL_CONSOLE_TEXT = 1          /* one was read */
};
/* Waits for a line; blocks all else. `out`: without its end, valid until the
 * next call; untouched where there is none. */
enum pl_console_line pl__console_read(struct pl_console *c, const char *prompt,
                                      struct pl_slice *out);

#endif /* PL_SERVER_CONSOLE_H */
