/* server/child.c - see child.h. */
#include "server/child.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

void pl__child_init(struct pl_child *c) {
  *c = (struct pl_child){.channel_fd = -1};
}

int pl__child_start(struct pl_child *c, pl__child_fn run, void *arg) {
  int fds[2], status;
  pid_t pid;

  c->due_ns = 0;
  status = pl__channel_open(fds);
  if (status)
    return status;
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
  c->restarts += c->started_ns != 0;
  c->channel_fd = fds[0];
  c->ready = c->failed = c->silent = c->stuck = false;
  c->ready_ns = c->kill_ns = 0;
  c->started_ns = pl__clock_monotonic_ns();
  return 0;
}

static void channel_close(struct pl_child *c) {
  if (c->channel_fd >= 0)
    close(c->channel_fd);
  c->channel_fd = -1;
}

int pl__child_hear(struct pl_child *c, struct pl_message *out, int64_t now_ns) {
  int status = pl__channel_read(c->channel_fd, out);

  if (status == PL_EGONE)
    channel_close(c); /* it is dead; waitpid knows more */
  if (status || out->kind != PL_NEWS_STARTED)
    return status;
  c->ready = out->code == 0;
  c->failed = !c->ready;
  c->ready_ns = c->ready ? now_ns : 0;
  c->generation = out->generation;
  return 0;
}

void pl__child_bury(struct pl_child *c) {
  channel_close(c);
  c->pid = 0;
  c->kill_ns = 0;
  c->ready = c->silent = false;
  c->generation = 0;
  c->step = 0;
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
