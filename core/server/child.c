/* server/child.c - see child.h. */
#define _GNU_SOURCE /* pipe2 */
#include "server/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

void pl__child_init(struct pl_child *c) {
  *c = (struct pl_child){.status_fd = -1};
}

int pl__child_start(struct pl_child *c, pl__child_fn run, void *arg) {
  int fds[2];
  pid_t pid;

  c->due_ns = 0;
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
    return -errno;
  fflush(NULL); /* or what is buffered would be written by every child too */
  pid = fork();
  if (pid < 0) {
    int code = errno;
    close(fds[0]);
    close(fds[1]);
    return -code;
  }
  if (pid == 0) {
    int code;
    close(fds[0]);
    code = run(arg, fds[1]);
    fflush(NULL); /* what the app printed */
    _exit(code);
  }
  close(fds[1]);
  c->pid = pid;
  c->status_fd = fds[0];
  c->ready = c->failed = c->silent = c->stuck = false;
  c->ready_ns = c->kill_ns = 0;
  c->started_ns = pl__clock_monotonic_ns();
  return 0;
}

int pl__child_hear(struct pl_child *c, struct pl_status *out, int64_t now_ns) {
  int status = pl__status_read(c->status_fd, out);

  if (status == -EAGAIN)
    return status;
  close(c->status_fd);
  c->status_fd = -1;
  if (status)
    return status; /* it is dead; waitpid knows more */
  c->ready = out->code == 0;
  c->failed = !c->ready;
  c->ready_ns = c->ready ? now_ns : 0;
  return 0;
}

void pl__child_bury(struct pl_child *c) {
  if (c->status_fd >= 0)
    close(c->status_fd);
  c->status_fd = -1;
  c->pid = 0;
  c->kill_ns = 0;
  c->ready = c->silent = false;
}

void pl__child_schedule(struct pl_child *c, int64_t now_ns) {
  int64_t wait_ms = PL_CHILD_BACKOFF_MS_MIN;

  if (c->ready_ns &&
      now_ns - c->ready_ns >= (int64_t)PL_CHILD_LIFE_MS_MIN * PL_NS_PER_MS) {
    c->deaths = 0;
    c->due_ns = now_ns;
    return;
  }
  for (uint32_t i = 0; i < c->deaths && wait_ms < PL_CHILD_BACKOFF_MS_MAX; i++)
    wait_ms *= 2;
  if (wait_ms > PL_CHILD_BACKOFF_MS_MAX)
    wait_ms = PL_CHILD_BACKOFF_MS_MAX;
  c->deaths++;
  c->due_ns = now_ns + wait_ms * PL_NS_PER_MS;
}
