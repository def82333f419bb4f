/* server/upgrade.c - see upgrade.h. */
#define _GNU_SOURCE /* pipe2, sigabbrev_np */
#include "server/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "server/inherit.h"
#include "server/listeners.h"

#define SOCKETS_BYTES 65536
#define ARGUMENTS_MAX 1024

void pl__upgrade_init(struct pl_upgrade *u) {
  ssize_t n = readlink("/proc/self/exe", u->program, sizeof u->program - 1);
  int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);

  u->pid = 0;
  u->ready_fd = -1;
  u->due_ns = 0;
  u->is_replaced = false;
  u->argument_bytes = 0;
  u->error[0] = '\0';
  u->program[n > 0 ? n : 0] = '\0';
  if (fd < 0)
    return;
  n = read(fd, u->arguments, sizeof u->arguments);
  if (n > 0 && (size_t)n < sizeof u->arguments && u->arguments[n - 1] == '\0')
    u->argument_bytes = (uint32_t)n;
  close(fd);
}

/* --- in the new process -------------------------------------------------------- */

static void keep_open(int fd) { fcntl(fd, F_SETFD, 0); }

/* The lines of one set of sockets, behind `used` bytes; how many there are
 * then, SOCKETS_BYTES or more: too many.  `listening` NULL: all do. */
static size_t describe_set(char *out, size_t used, const char *kind,
                           const struct pl_listeners *l,
                           const bool *listening) {
  for (uint32_t a = 0; a < l->address_count && used < SOCKETS_BYTES; a++) {
    used += (size_t)snprintf(out + used, SOCKETS_BYTES - used, "%s %s %d", kind,
                             l->addresses[a].text, l->is_foreign[a]);
    for (uint32_t w = 0; w < l->worker_count && used < SOCKETS_BYTES; w++) {
      int fd = pl__listeners_of(l, w)[a];
      if (fd < 0 || (listening && !listening[w]))
        continue;
      keep_open(fd);
      used += (size_t)snprintf(out + used, SOCKETS_BYTES - used, " %d", fd);
      if (l->is_shared[a])
        break;
    }
    if (used < SOCKETS_BYTES)
      used += (size_t)snprintf(out + used, SOCKETS_BYTES - used, "\n");
  }
  return used;
}

/* What server/inherit.c reads; false: too long. */
static bool describe(char *out, const struct pl_upgrade_handed *h,
                     int ready_fd) {
  size_t used = (size_t)snprintf(out, SOCKETS_BYTES, "lock %d\nready %d\n",
                                 h->lock_fd, ready_fd);

  used = describe_set(out, used, "listen", h->serving, h->listening);
  if (used < SOCKETS_BYTES)
    used = describe_set(out, used, "admin", h->admin, NULL);
  return used < SOCKETS_BYTES;
}

/* As if started by a shell: nothing blocked, nothing ignored. */
static void signals_reset(void) {
  sigset_t none;

  for (int i = 1; i < NSIG; i++)
    signal(i, SIG_DFL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void become(struct pl_upgrade *u,
                             const struct pl_upgrade_handed *handed,
                             int ready_fd) {
  static char sockets[SOCKETS_BYTES];
  char *argv[ARGUMENTS_MAX + 1];
  uint32_t count = 0;

  for (uint32_t at = 0; at < u->argument_bytes && count < ARGUMENTS_MAX;
       at += (uint32_t)strlen(u->arguments + at) + 1)
    argv[count++] = u->arguments + at;
  argv[count] = NULL;
  keep_open(handed->lock_fd);
  keep_open(ready_fd);
  if (!describe(sockets, handed, ready_fd) ||
      setenv(PL_INHERIT_ENV, sockets, 1))
    _exit(126);
  if (getenv("WATCHDOG_PID")) { /* whose signs of life it will give */
    snprintf(sockets, sizeof sockets, "%ld", (long)getpid());
    setenv("WATCHDOG_PID", sockets, 1);
  }
  signals_reset();
  execv(u->program, argv);
  fprintf(stderr, "perilune: cannot execute %s: %s\n", u->program,
          strerror(errno));
  _exit(127);
}

/* --- in the old one ------------------------------------------------------------ */

static int fail(struct pl_upgrade *u, const char *why) {
  snprintf(u->error, sizeof u->error, "%s", why);
  return PL_EFAIL;
}

int pl__upgrade_begin(struct pl_upgrade *u,
                      const struct pl_upgrade_handed *handed, double seconds) {
  int fds[2];

  if (getpid() == 1)
    return fail(u, "the first process of a container cannot be replaced: its "
                   "end is the container's; start another container");
  if (u->pid > 0)
    return fail(u, "it is being replaced already");
  if (!u->argument_bytes || !u->program[0])
    return fail(u, "how it was started is not known (is /proc there?)");
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
    return fail(u, strerror(errno));
  fflush(NULL);
  u->pid = fork();
  if (u->pid == 0) {
    close(fds[0]);
    become(u, handed, fds[1]);
  }
  close(fds[1]);
  if (u->pid < 0) {
    u->pid = 0;
    close(fds[0]);
    return fail(u, "no process to be had");
  }
  u->ready_fd = fds[0];
  u->due_ns = pl__clock_monotonic_ns() + (int64_t)(seconds * PL_NS_PER_S);
  return 0;
}

static void forget(struct pl_upgrade *u) {
  if (u->ready_fd >= 0)
    close(u->ready_fd);
  u->ready_fd = -1;
  u->due_ns = 0;
}

bool pl__upgrade_hear(struct pl_upgrade *u) {
  char word;
  ssize_t n;

  if (u->ready_fd < 0)
    return false;
  n = read(u->ready_fd, &word, 1);
  if (n < 0)
    return false;
  forget(u); /* an end without a word: its death says more */
  u->is_replaced = n == 1;
  return u->is_replaced;
}

void pl__upgrade_on_death(struct pl_upgrade *u, int status) {
  if (WIFSIGNALED(status))
    snprintf(u->error, sizeof u->error,
             "the new program was ended by SIG%s before it served",
             sigabbrev_np(WTERMSIG(status)));
  else
    snprintf(u->error, sizeof u->error,
             "the new program ended with code %d before it served; its "
             "messages say why",
             WEXITSTATUS(status));
  forget(u);
  u->pid = 0;
}

void pl__upgrade_cancel(struct pl_upgrade *u) {
  if (u->pid > 0 && !u->is_replaced)
    kill(u->pid, SIGKILL);
}

bool pl__upgrade_on_time(struct pl_upgrade *u, int64_t now_ns) {
  if (!u->due_ns || now_ns < u->due_ns || u->pid <= 0)
    return false;
  kill(u->pid, SIGKILL);
  u->due_ns = 0;
  return true;
}
