/* test/server/test_crash.c - processes that die, and what they leave written. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "server/crash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct pl_crash *crash;

static int make_shared(void **state) {
  struct rlimit none = {0, 0};

  (void)state;
  setrlimit(RLIMIT_CORE, &none);
  crash = mmap(NULL, sizeof *crash, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return crash == MAP_FAILED ? -1 : 0;
}

static int drop_shared(void **state) {
  (void)state;
  return munmap(crash, sizeof *crash);
}

/* --- ways to die, and what Lua says then -------------------------------- */

static volatile uintptr_t bad_address = 8;

static void write_to_nowhere(void) { *(volatile int *)bad_address = 1; }

static void call_nowhere(void) { ((void (*)(void))bad_address)(); }

static volatile bool goes_on = true; /* or the compiler would object */

static int recurse(volatile char *above) {
  volatile char room[4096];

  room[0] = above ? above[0] : 0;
  return goes_on ? recurse(room) + room[0] : 0; /* not a tail call */
}

static void overflow_the_stack(void) { recurse(NULL); }

static void stop(void) { raise(SIGSTOP); }

static void *write_to_nowhere_in_a_thread(void *arg) {
  (void)arg;
  write_to_nowhere();
  return NULL;
}

static void crash_in_a_thread(void) {
  pthread_t thread;

  pthread_create(&thread, NULL, write_to_nowhere_in_a_thread, NULL);
  pthread_join(thread, NULL);
}

static size_t say(void *arg, char *out, size_t bytes) {
  return (size_t)snprintf(out, bytes, "%s", (const char *)arg);
}

static size_t say_and_fault(void *arg, char *out, size_t bytes) {
  size_t n = say(arg, out, bytes);

  write_to_nowhere();
  return n;
}

_Noreturn static size_t say_and_hang(void *arg, char *out, size_t bytes) {
  say(arg, out, bytes);
  for (;;)
    continue;
}

/* --- a process ---------------------------------------------------------- */

static pid_t start(void (*body)(void), pl__crash_traceback_fn traceback) {
  pid_t pid = fork();

  if (pid == 0) {
    if (pl__crash_install(crash, traceback, "app.lua:7"))
      _exit(9);
    body();
    _exit(0);
  }
  return pid;
}

/* The signal that has ended it. */
static int ended_by(pid_t pid) {
  int status = 0;

  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status));
  return WTERMSIG(status);
}

static uint32_t stage(void) { return atomic_load(&crash->stage); }

/* --- tests -------------------------------------------------------------- */

static void reports_a_fault_with_its_address(void **state) {
  pid_t pid = start(write_to_nowhere, say);

  (void)state;
  assert_int_equal(ended_by(pid), SIGSEGV);
  assert_int_equal(stage(), PL_CRASH_LUA);
  assert_int_equal(crash->pid, pid);
  assert_int_equal(crash->signal, SIGSEGV);
  assert_int_equal(crash->code, SEGV_MAPERR);
  assert_int_equal(crash->address, 8);
  assert_int_equal(crash->sender, 0);
  assert_true(crash->time_ns > 0 && crash->time_ns <= pl__clock_monotonic_ns());
  assert_string_equal(crash->traceback, "app.lua:7");
}

static void names_module_and_offset_of_each_frame(void **state) {
  char first[64];

  (void)state;
  assert_int_equal(ended_by(start(write_to_nowhere, NULL)), SIGSEGV);
  assert_true(crash->frame_count >= 3); /* the fault, its caller, main */
  snprintf(first, sizeof first, "#0 0x%llx server_test_crash+0x",
           (unsigned long long)crash->frames[0]);
  assert_memory_equal(crash->backtrace, first, strlen(first));
  assert_non_null(strstr(crash->backtrace, "\n#1 0x"));
  assert_non_null(strstr(crash->backtrace, "libc.so.6+0x"));
  assert_string_equal(crash->traceback, "");
}

static void reports_an_abort(void **state) {
  pid_t pid = start(abort, say);

  (void)state;
  assert_int_equal(ended_by(pid), SIGABRT);
  assert_int_equal(stage(), PL_CRASH_LUA);
  assert_int_equal(crash->sender, pid);
  assert_int_equal(crash->address, 0);
  assert_non_null(strstr(crash->backtrace, "(abort+0x"));
}

static void reports_a_stack_that_overflows(void **state) {
  (void)state;
  assert_int_equal(ended_by(start(overflow_the_stack, say)), SIGSEGV);
  assert_int_equal(stage(), PL_CRASH_LUA);
  assert_int_equal(crash->frame_count, PL_CRASH_FRAMES_MAX);
  assert_string_equal(crash->traceback, "app.lua:7");
}

static void names_who_called_nowhere(void **state) {
  (void)state;
  assert_int_equal(ended_by(start(call_nowhere, NULL)), SIGSEGV);
  assert_int_equal(crash->frames[0], 8);
  assert_memory_equal(crash->backtrace, "#0 0x8\n#1 0x", 12);
  assert_non_null(strstr(crash->backtrace, "server_test_crash+0x"));
}

static void tells_who_sent_the_signal(void **state) {
  pid_t pid = start(stop, say);

  (void)state;
  assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid); /* it is installed */
  kill(pid, SIGSEGV);
  kill(pid, SIGCONT);
  assert_int_equal(ended_by(pid), SIGSEGV);
  assert_int_equal(crash->sender, getpid());
  assert_int_equal(crash->code, SI_USER);
}

static void keeps_what_it_has_when_the_traceback_faults(void **state) {
  (void)state;
  assert_int_equal(ended_by(start(abort, say_and_fault)), SIGABRT);
  assert_int_equal(stage(), PL_CRASH_LUA);
  assert_int_equal(crash->signal, SIGABRT);
  assert_string_equal(crash->traceback, "app.lua:7");
}

static void ends_although_the_traceback_never_does(void **state) {
  (void)state;
  assert_int_equal(ended_by(start(abort, say_and_hang)), SIGALRM);
  assert_int_equal(stage(), PL_CRASH_SYMBOLS);
  assert_int_equal(crash->signal, SIGABRT);
  assert_string_equal(crash->traceback, "app.lua:7");
}

static void reports_a_fault_in_another_thread(void **state) {
  (void)state;
  assert_int_equal(ended_by(start(crash_in_a_thread, say)), SIGSEGV);
  assert_int_equal(stage(), PL_CRASH_LUA);
  assert_int_equal(crash->address, 8);
}

int main(void) {
#define CASE(name)                                                             \
  cmocka_unit_test_setup_teardown(name, make_shared, drop_shared)
  const struct CMUnitTest tests[] = {
      CASE(reports_a_fault_with_its_address),
      CASE(names_module_and_offset_of_each_frame),
      CASE(reports_an_abort),
      CASE(reports_a_stack_that_overflows),
      CASE(names_who_called_nowhere),
      CASE(tells_who_sent_the_signal),
      CASE(keeps_what_it_has_when_the_traceback_faults),
      CASE(ends_although_the_traceback_never_does),
      CASE(reports_a_fault_in_another_thread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
