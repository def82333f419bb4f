/* fabric/lock.c - waits for a lock, and finds out whether its owner is dead. */
#include "fabric/lock.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PID_BITS 22                /* pid_max is at most 2^22 */
#define SPINS 200                  /* before others are let run */
#define LOOK_NS (PL_NS_PER_MS / 5) /* between two looks at the owner */

/* What /proc tells of a process. */
struct life {
  char state;           /* 'Z' or 'X': it runs no more */
  unsigned threads;     /* that are left */
  unsigned long starts; /* ticks since boot */
};

/* The 20th and the 22nd field of /proc/PID/stat, counted behind the name, which
 * may hold spaces and parentheses. */
static bool life_parse(const char *text, struct life *out) {
  const char *at = strrchr(text, ')');

  return at && sscanf(at + 1,
                      " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
                      " %*s %*s %*s %*s %u %*s %lu",
                      &out->state, &out->threads, &out->starts) == 3;
}

static bool life_read(pid_t pid, struct life *out) {
  char path[40], text[1024];
  ssize_t bytes;
  int fd;

  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return false;
  bytes = read(fd, text, sizeof text - 1);
  close(fd);
  if (bytes <= 0)
    return false;
  text[bytes] = '\0';
  return life_parse(text, out);
}

static uint64_t owner_of(pid_t pid, const struct life *life) {
  return (uint64_t)life->starts << PID_BITS | (uint64_t)pid;
}

uint64_t pl__lock_self(void) {
  struct life life = {0};

  if (!life_read(getpid(), &life))
    life.starts = 0; /* no /proc: a pid that is used again looks alive */
  return owner_of(getpid(), &life);
}

/* A process is dead when none of its threads can run any more: its first one
 * may be a zombie while others still do. */
static bool is_dead(uint64_t owner) {
  pid_t pid = (pid_t)(owner & ((1u << PID_BITS) - 1));
  struct life life;

  if (kill(pid, 0) && errno == ESRCH)
    return true;
  if (owner >> PID_BITS == 0 || !life_read(pid, &life))
    return false;
  if (owner_of(pid, &life) != owner)
    return true;
  return (life.state == 'Z' || life.state == 'X') && life.threads <= 1;
}

static bool try_take(struct pl_lock *l, uint64_t from, uint64_t self) {
  return atomic_compare_exchange_strong_explicit(
      &l->owner, &from, self, memory_order_acquire, memory_order_relaxed);
}

static void relax(unsigned turn) {
  if (turn > SPINS)
    sched_yield();
  else
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

enum pl_lock_taken pl__lock_take_slow(struct pl_lock *l, uint64_t self) {
  int64_t begin = 0, looked = 0;

  for (unsigned turn = 0;; turn++) {
    uint64_t owner = atomic_load_explicit(&l->owner, memory_order_relaxed);
    int64_t now;

    if (owner == 0 && try_take(l, 0, self))
      return PL_LOCK_TAKEN;
    relax(turn);
    if (owner == 0 || turn < SPINS)
      continue;
    now = pl__clock_monotonic_ns();
    begin = begin ? begin : now;
    if (now - looked < LOOK_NS)
      continue;
    looked = now;
    if (owner != self && is_dead(owner) && try_take(l, owner, self))
      return PL_LOCK_INHERITED;
    if (now - begin > (int64_t)PL_LOCK_WAIT_MS * PL_NS_PER_MS)
      return PL_LOCK_BUSY;
  }
}
