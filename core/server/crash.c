/* server/crash.c - see crash.h.
 *
 * The handler calls what POSIX does not list as safe (backtrace, dladdr,
 * snprintf), since what it has already published stays: a fault in one of them
 * leads to the next stage, and a lock that is never given back to the end of
 * its patience.  backtrace is called once at the start, because its first call
 * loads a library.
 *
 * libgcc's unwinder knows C, and LuaJIT's interpreter, but no compiled Lua:
 * there the list of frames ends.
 *
 * Under AddressSanitizer the handlers are ours too, or the specs that crash
 * workers would test something else than what is installed.  What ASan finds by
 * itself ends, with abort_on_error=1, by SIGABRT behind its own report: that
 * one is reported here as well.  For its report of plain faults set
 * ASAN_OPTIONS=handle_segv=2, which keeps ours from being installed.
 */
#define _GNU_SOURCE /* dladdr, gettid, ucontext's registers */
#include "server/crash.h"

#include "base/clock.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_BYTES 262144 /* a sanitizer's frames are large */
#define OWN_FRAMES_MAX 8   /* of the handler and its steps */

static const int FATAL[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                            SIGABRT, SIGTRAP, SIGSYS};
#define FATAL_COUNT (sizeof(FATAL) / sizeof(FATAL[0]))

/* Signals have no argument. */
static struct {
  struct pl_crash *crash;
  pl__crash_traceback_fn lua_traceback;
  void *arg;
  _Atomic pid_t owner;            /* the thread that reports; 0: none */
  volatile sig_atomic_t stepping; /* `step` can be jumped to */
  sigjmp_buf step;
  uint64_t stack_top; /* the word there, as seen by who crashed */
} self;

static _Alignas(16) char stack[STACK_BYTES];

/* --- the stages -------------------------------------------------------- */

static void publish(enum pl_crash_stage stage) {
  atomic_store_explicit(&self.crash->stage, (uint32_t)stage,
                        memory_order_release);
}

static void where(const ucontext_t *context, uint64_t *pc, uint64_t *sp) {
#if defined(__x86_64__)
  *pc = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
  *sp = (uint64_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
  *pc = context->uc_mcontext.pc;
  *sp = context->uc_mcontext.sp;
#else
  (void)context;
  *pc = *sp = 0;
#endif
}

static void write_raw(int number, const siginfo_t *info, const void *context) {
  struct pl_crash *c = self.crash;
  bool is_sent = info->si_code <= 0;

  c->pid = getpid();
  c->signal = number;
  c->code = info->si_code;
  c->sender = is_sent ? info->si_pid : 0;
  c->address = is_sent ? 0 : (uint64_t)(uintptr_t)info->si_addr;
  c->time_ns = pl__clock_monotonic_ns();
  where(context, &c->frames[0], &self.stack_top);
  c->frame_count = 1;
  publish(PL_CRASH_RAW);
}

/* What follows in the list on the place of the fault; before it stand frames of
 * our own. */
static void write_frames(void) {
  void *list[OWN_FRAMES_MAX + PL_CRASH_FRAMES_MAX];
  struct pl_crash *c = self.crash;
  int count = backtrace(list, (int)(sizeof list / sizeof *list));
  int at = 0;

  while (at < count && (uint64_t)(uintptr_t)list[at] != c->frames[0])
    at++;
  for (at++; at < count && c->frame_count < PL_CRASH_FRAMES_MAX; at++)
    c->frames[c->frame_count++] = (uint64_t)(uintptr_t)list[at];
}

/* A call to nowhere cannot be unwound, but has just left where it came from. */
static void write_caller(void) {
  struct pl_crash *c = self.crash;
  Dl_info found;

  if (c->frame_count == 1 && !dladdr((void *)(uintptr_t)c->frames[0], &found) &&
      self.stack_top)
    c->frames[c->frame_count++] =
        *(const volatile uint64_t *)(uintptr_t)self.stack_top;
}

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* One line; returns its length, were there room. */
static int put_frame(char *out, size_t bytes, uint32_t index,
                     uint64_t address) {
  /* A return address lies behind its call, perhaps in the next function. */
  uint64_t at = index ? address - 1 : address;
  Dl_info found;

  if (!dladdr((void *)(uintptr_t)at, &found) || !found.dli_fname)
    return snprintf(out, bytes, "#%u 0x%llx\n", index,
                    (unsigned long long)address);
  if (!found.dli_sname)
    return snprintf(out, bytes, "#%u 0x%llx %s+0x%llx\n", index,
                    (unsigned long long)address, base_name(found.dli_fname),
                    (unsigned long long)(address - (uintptr_t)found.dli_fbase));
  return snprintf(out, bytes, "#%u 0x%llx %s+0x%llx (%s+0x%llx)\n", index,
                  (unsigned long long)address, base_name(found.dli_fname),
                  (unsigned long long)(address - (uintptr_t)found.dli_fbase),
                  found.dli_sname,
                  (unsigned long long)(address - (uintptr_t)found.dli_saddr));
}

static void write_symbols(void) {
  struct pl_crash *c = self.crash;
  size_t used = 0;

  for (uint32_t i = 0; i < c->frame_count; i++) {
    size_t left = sizeof c->backtrace - used;
    int n = put_frame(c->backtrace + used, left, i, c->frames[i]);

    if (n < 0 || (size_t)n >= left) { /* whole lines only */
      c->backtrace[used] = '\0';
      return;
    }
    used += (size_t)n;
  }
}

static void write_traceback(void) {
  struct pl_crash *c = self.crash;

  if (self.lua_traceback)
    self.lua_traceback(self.arg, c->traceback, sizeof c->traceback);
}

/* Runs one stage; a fault in it ends it. */
static void guarded(void (*stage)(void)) {
  if (sigsetjmp(self.step, 0) == 0) {
    self.stepping = 1;
    stage();
  }
  self.stepping = 0;
}

/* --- the handler ------------------------------------------------------- */

static void watchdog_start(void) {
  struct itimerval patience = {
      .it_value = {.tv_usec = PL_CRASH_PATIENCE_MS * 1000}};
  struct sigaction act = {.sa_handler = SIG_DFL};
  sigset_t set;

  sigaction(SIGALRM, &act, NULL);
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  setitimer(ITIMER_REAL, &patience, NULL);
}

/* By the same signal, so that who waits for us sees it, and a core is left
 * where that is wanted. */
_Noreturn static void die(int number) {
  struct sigaction act = {.sa_handler = SIG_DFL};
  sigset_t set;

  sigaction(number, &act, NULL);
  sigemptyset(&set);
  sigaddset(&set, number);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  syscall(SYS_tgkill, getpid(), gettid(), number);
  _exit(128 + number);
}

static void on_fatal(int number, siginfo_t *info, void *context) {
  pid_t owner = 0;

  if (!atomic_compare_exchange_strong(&self.owner, &owner, gettid())) {
    while (owner != gettid()) /* the other one ends us all */
      pause();
    if (self.stepping)
      siglongjmp(self.step, 1);
    die(number);
  }
  watchdog_start();
  write_raw(number, info, context);
  guarded(write_frames);
  guarded(write_caller);
  publish(PL_CRASH_FRAMES);
  guarded(write_symbols);
  publish(PL_CRASH_SYMBOLS);
  guarded(write_traceback);
  publish(PL_CRASH_LUA);
  die(number);
}

int pl__crash_install(struct pl_crash *crash,
                      pl__crash_traceback_fn lua_traceback, void *arg) {
  struct sigaction act = {.sa_sigaction = on_fatal,
                          .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
  void *first[1];

  self.crash = crash;
  self.lua_traceback = lua_traceback;
  self.arg = arg;
  backtrace(first, 1);
  if (sigaltstack(&own, NULL))
    return -errno;
  /* Faults of the handler itself come through, and so does its watchdog. */
  sigfillset(&act.sa_mask);
  sigdelset(&act.sa_mask, SIGALRM);
  for (size_t i = 0; i < FATAL_COUNT; i++)
    sigdelset(&act.sa_mask, FATAL[i]);
  for (size_t i = 0; i < FATAL_COUNT; i++)
    if (sigaction(FATAL[i], &act, NULL))
      return -errno;
  return 0;
}
