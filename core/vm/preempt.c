/* vm/preempt.c - see preempt.h.
 *
 * Verified on LuaJIT 2.1.0-beta3 of Debian 12, with no patch: lua_sethook may
 * be called from a signal handler, and the hook may yield.  What else one must
 * know of LuaJIT:
 *
 *  - a hook that is set while LuaJIT's profiler runs its callback is lost: so
 *    every tick arms again as long as there is a reason;
 *  - a tick that lands inside LuaJIT's own update of its dispatch table (at the
 *    beginning and the end of each recording) leaves that table without hooks
 *    although LuaJIT believes it has them: its flag HOOK_PROFILE then stays
 *    set, nothing changes the table any more, and compiled code that calls no
 *    new function runs for ever.  Seen about once a minute with a tick every
 *    0.5 ms on two busy cores.  A tick that finds the flag of the one before it
 *    still set therefore clears it, which makes LuaJIT write the table anew.
 *    The API has no way to that flag; its place is found by watching which
 *    byte of the state follows lua_sethook (hook_flags_find);
 *  - CPU clocks of Linux advance with the kernel's ticks (4 ms at 250 Hz).
 *    Slices below two of those are counted by the wall clock instead: finer,
 *    and the timer runs on while the worker sleeps;
 *  - stopping the profiler puts back the handler that was there before it: ours
 *    must be, as a late signal would end the process otherwise. It stays.
 */
#define _GNU_SOURCE /* SIGEV_THREAD_ID, gettid */
#include "vm/preempt.h"
#include "base/clock.h"
#include "base/err.h"
#include "vm/coro.h"
#include "vm/sample.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define CPU_CLOCK_SLICE_NS_MIN (8 * PL_NS_PER_MS)
#define TICKS_PER_SLICE 2
/* Deadlines and memory wait for one.  A tick of a kernel at 250 Hz: timers in
 * between would come late, by up to as much again. */
#define TICK_NS_MAX (4 * PL_NS_PER_MS)
#define RETRY_INSTRUCTIONS                                                     \
  1000 /* until Lua is asked again where it can't yield */
#define RETRIES_PER_TICK_MAX 16u
#define COUNT_INSTRUCTIONS 1000 /* between looks at the clock, without ticks */

/* What a timer is for: whether to stop Lua, or that and where time goes. */
enum { TICK_LOOKS = 1, TICK_SAMPLES };

/* Of LuaJIT's internals (lj_obj.h), checked by hook_flags_find. */
#define LUAJIT_HOOK_PROFILE 0x80u /* of the flags: a tick is to be served */
#define LUAJIT_HOOK_ACTIVE 0x10u  /* of the flags: a hook runs, so none may */
#define LUAJIT_HOOK_EVENTS 0x0fu  /* of the flags: the mask of lua_sethook */
#define LUAJIT_STATE_OFFSET 16  /* in lua_State: a pointer to what all share */
#define LUAJIT_STATE_BYTES 1024 /* of that, among which the flags are */

/* The VM that is preempted. Set and cleared while no Lua runs; the handler runs
 * on the VM's thread, but it is not thread-local: such a variable may have to
 * be allocated on first use, which a handler must not do. */
static struct pl_vm *volatile ticking;
static struct sigaction luajit_action;
static volatile sig_atomic_t is_setting_hook; /* no tick may do so, too */

static void on_hook(lua_State *L, lua_Debug *where);

static bool is_over_slice(const struct pl_vm *vm, int64_t now) {
  const struct pl_preempt *p = &vm->preempt;

  /* It had run for half a tick on average when it was seen; and ticks come a
   * little early, too. */
  return p->seen_stretch == vm->stretch &&
         now - p->seen_ns >= p->slice_ns - p->tick_ns * 3 / 4;
}

static void hook_set(lua_State *L, int count) {
  is_setting_hook = 1;
  lua_sethook(L, count ? on_hook : NULL, count ? LUA_MASKCOUNT : 0, count);
  is_setting_hook = 0;
}

/* In the signal handler. */
static void arm(struct pl_vm *vm, int number) {
  volatile uint8_t *flags = vm->preempt.hook_flags;

  if (flags && (*flags & LUAJIT_HOOK_PROFILE)) {
    *flags = (uint8_t)(*flags & ~LUAJIT_HOOK_PROFILE);
    hook_set(vm->L, 0);
  }
  luajit_action.sa_handler(number);
  hook_set(vm->L, 1);
}

/* What ticks see of the stretch that runs, seen now. */
static void look(struct pl_preempt *p, uint32_t stretch, int64_t now) {
  if (p->seen_stretch != stretch) {
    p->seen_stretch = stretch;
    p->seen_ns = now;
  }
  p->retries = 0;
}

/* In the signal handler. */
static bool is_wanted(struct pl_vm *vm) {
  int64_t now = pl__clock_monotonic_ns();

  look(&vm->preempt, vm->stretch, now);
  return !vm->preempt.passing &&
         (is_over_slice(vm, now) || pl__coro_is_over(vm->current, now) ||
          vm->heap_bytes > vm->shed_bytes);
}

/* In the signal handler: has LuaJIT call on_sample.  Its flag is still set when
 * it could not since the tick before: in C, or as the hook was lost. */
static void ask_for_sample(struct pl_vm *vm, int number) {
  volatile uint8_t *flags = vm->preempt.hook_flags;

  if (flags && (*flags & LUAJIT_HOOK_PROFILE))
    arm(vm, number);
  else
    luajit_action.sa_handler(number);
}

/* In the signal handler: reads and writes words, sets the hook, no more. */
static void on_tick(int number, siginfo_t *info, void *context) {
  struct pl_vm *vm = ticking;
  int saved = errno;
  bool samples;

  (void)context;
  if (!vm || is_setting_hook)
    return;
  samples = info->si_value.sival_int == TICK_SAMPLES && pl__sample_tick(vm);
  if (!vm->current) /* the core's own time, or a finalizer between requests */
    ;
  else if (is_wanted(vm))
    arm(vm, number);
  else if (samples)
    ask_for_sample(vm, number);
  errno = saved;
}

void pl__preempt_look(struct pl_vm *vm) {
  if (vm->preempt.is_on)
    hook_set(vm->L, 1);
}

void pl__preempt_look_once(struct pl_vm *vm) { hook_set(vm->L, 1); }

/* Here it must not be parked: asks again in a moment, and at the next tick
 * anyway.  Not for ever: while a hook is set, interpreted code runs slowly. */
static void wait_for_a_chance(lua_State *L, struct pl_vm *vm) {
  struct pl_coro *c = vm->current;

  if (pl__shed_is_urgent(vm) && !c->is_condemned) {
    pl__shed_running(vm);
    hook_set(L, 1);
  } else if (pl__clock_monotonic_ns() - vm->preempt.seen_ns >
             (int64_t)(vm->options.hold_s_max * PL_NS_PER_S)) {
    c->has_overstayed = true;
    hook_set(L, 1);
  } else if (vm->preempt.retries++ < RETRIES_PER_TICK_MAX) {
    hook_set(L, RETRY_INSTRUCTIONS);
  }
}

/* Whether the main function of a task or a runner is at work, outside of the
 * xpcall that catches what is raised in the app's code (task.lua, runner.lua):
 * an error there would end the coroutine before it has answered or told those
 * that wait for it. */
static bool is_outermost(const struct pl_coro *c, lua_State *L) {
  lua_Debug caller;

  return L == c->co && !lua_getstack(L, c->is_task ? 2 : 3, &caller);
}

/* Raises what is on the stack, outside of the hook.  LuaJIT takes an error that
 * is raised inside for one in a hook: message handlers of xpcall would run with
 * hooks off, and where C catches it (lua_load) they would stay off for good. */
static void leave_and_raise(lua_State *L, const struct pl_preempt *p) {
  if (p->hook_flags)
    *p->hook_flags = (uint8_t)(*p->hook_flags & ~LUAJIT_HOOK_ACTIVE);
  lua_error(L);
}

/* At a bytecode of the coroutine L, which is the one that the core resumed, or
 * one that user code made on top of it.  May yield or raise as its last act. */
static void on_hook(lua_State *L, lua_Debug *where) {
  struct pl_vm *vm = pl__vm_running;
  struct pl_coro *c = vm ? vm->current : NULL;
  int64_t now;

  hook_set(L, vm && vm->preempt.is_counting ? COUNT_INSTRUCTIONS : 0);
  if (vm && pl__allocations_wait(&vm->allocations))
    pl__allocations_attribute(vm, L, where);
  else if (vm && vm->preempt.is_counting)
    pl__sample_take(vm, L, 'I');
  if (!c || !vm->preempt.is_on || vm->preempt.passing || pl__coro_is_waiting(c))
    return;
  now = pl__clock_monotonic_ns();
  if (vm->preempt.is_counting)
    look(&vm->preempt, vm->stretch, now);
  if (pl__coro_is_over(c, now) && !is_outermost(c, L)) {
    switch (pl__coro_stop(c, L, where, now)) {
    case PL_STOP_LATER: /* until then it takes turns like any other */
      break;
    case PL_STOP_AT_ONCE: /* and again, as whatever catches this cannot wait */
      hook_set(L, 1);
      leave_and_raise(L, &vm->preempt);
      return;
    case PL_STOP_RAISE:
      leave_and_raise(L, &vm->preempt);
      return;
    case PL_STOP_PARK:
      vm->preempt.passing = true;
      lua_yield(L, 0);
      return;
    }
  }
  if (vm->heap_bytes <= vm->shed_bytes && !is_over_slice(vm, now))
    return;
  if (c->holds || !lua_isyieldable(L)) {
    wait_for_a_chance(L, vm);
    return;
  }
  pl__coro_preempted(c, L, now - vm->preempt.seen_ns);
  vm->preempt.passing = true;
  lua_yield(L, 0);
}

static void no_hook(lua_State *L, lua_Debug *where) {
  (void)L;
  (void)where;
}

/* Where LuaJIT keeps its hook flags: the one byte of its state whose lower half
 * is the mask of lua_sethook, whatever that is.  NULL when there is none, or
 * more than one: then a lost hook stays lost until LuaJIT records something. */
static volatile uint8_t *hook_flags_find(lua_State *L) {
  static const int masks[] = {0, 1, 2, 4, 8, 15, 6, 9, 0};
  volatile uint8_t *state =
      *(volatile uint8_t **)(void *)((char *)L + LUAJIT_STATE_OFFSET);
  bool follows[LUAJIT_STATE_BYTES];
  volatile uint8_t *found = NULL;

  memset(follows, true, sizeof follows);
  for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
    lua_sethook(L, masks[i] ? no_hook : NULL, masks[i], 77);
    for (size_t at = 0; at < LUAJIT_STATE_BYTES; at++)
      follows[at] =
          follows[at] && (state[at] & LUAJIT_HOOK_EVENTS) == (unsigned)masks[i];
  }
  for (size_t at = 0; at < LUAJIT_STATE_BYTES; at++) {
    if (follows[at] && found)
      return NULL;
    if (follows[at])
      found = state + at;
  }
  return found;
}

/* LuaJIT's count of ticks is of no use: it has not seen those in the core. */
static void on_sample(void *arg, lua_State *L, int samples, int vmstate) {
  (void)samples;
  pl__sample_take(arg, L, (char)vmstate);
}

/* --- switching on and off ---------------------------------------------- */

/* Signals to this thread, every so often by that clock. */
static int timer_open(timer_t *timer, clockid_t clock, int64_t every_ns,
                      int what) {
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                           .sigev_signo = SIGPROF,
                           .sigev_value = {.sival_int = what}};
  struct timespec tick = {.tv_sec = every_ns / PL_NS_PER_S,
                          .tv_nsec = every_ns % PL_NS_PER_S};
  struct itimerspec times = {.it_interval = tick, .it_value = tick};

  event.sigev_notify_thread_id = gettid();
  if (timer_create(clock, &event, timer))
    return -errno;
  if (timer_settime(*timer, 0, &times, NULL)) {
    int code = errno;
    timer_delete(*timer);
    return -code;
  }
  return 0;
}

/* Samples are of CPU time: where slices are counted by the wall clock they have
 * a timer of their own. */
static int timers_open(struct pl_preempt *p) {
  int failed;

  p->has_two_timers = p->slice_ns < CPU_CLOCK_SLICE_NS_MIN;
  if (!p->has_two_timers)
    return timer_open(&p->timer, CLOCK_THREAD_CPUTIME_ID, p->tick_ns,
                      TICK_SAMPLES);
  failed = timer_open(&p->timer, CLOCK_MONOTONIC, p->tick_ns, TICK_LOOKS);
  if (failed)
    return failed;
  failed = timer_open(&p->sample_timer, CLOCK_THREAD_CPUTIME_ID, TICK_NS_MAX,
                      TICK_SAMPLES);
  if (failed)
    timer_delete(p->timer);
  return failed;
}

static void timers_close(struct pl_preempt *p) {
  timer_delete(p->timer);
  if (p->has_two_timers)
    timer_delete(p->sample_timer);
}

/* LuaJIT's handler goes behind ours, and its timer, which counts the CPU time
 * of all threads and interrupts any of them, is switched off. */
static void profiler_start(struct pl_vm *vm, const struct sigaction *ours) {
  struct itimerval none = {0};

  sigaction(SIGPROF, ours, NULL); /* what stopping the profiler puts back */
  luaJIT_profile_start(vm->L, "li10", on_sample, vm);
  sigaction(SIGPROF, ours, &luajit_action);
  setitimer(ITIMER_PROF, &none, NULL);
}

int pl__preempt_start(struct pl_vm *vm) {
  struct pl_preempt *p = &vm->preempt;
  struct sigaction ours = {.sa_sigaction = on_tick,
                           .sa_flags = SA_RESTART | SA_SIGINFO};
  sigset_t set;
  int failed;

  if (ticking)
    return PL_EFULL;
  memset(p, 0, sizeof *p);
  p->slice_ns = (int64_t)(vm->options.slice_s * PL_NS_PER_S);
  p->hook_flags = hook_flags_find(vm->L);
  p->tick_ns = p->slice_ns / TICKS_PER_SLICE;
  if (p->tick_ns > TICK_NS_MAX)
    p->tick_ns = TICK_NS_MAX;
  profiler_start(vm, &ours);
  pl__sample_begin();
  failed = timers_open(p);
  if (failed) {
    luaJIT_profile_stop(vm->L);
    return failed;
  }
  sigemptyset(&set);
  sigaddset(&set, SIGPROF);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  p->is_on = true;
  ticking = vm;
  return 0;
}

bool pl__preempt_heals(const struct pl_vm *vm) {
  return vm->preempt.hook_flags != NULL;
}

void pl__preempt_stop(struct pl_vm *vm) {
  struct pl_preempt *p = &vm->preempt;

  if (!p->is_on)
    return;
  if (!p->is_counting) {
    ticking = NULL;
    timers_close(p);
    luaJIT_profile_stop(vm->L);
  }
  lua_sethook(vm->L, NULL, 0, 0);
  p->is_on = p->is_counting = false;
}

/* Compiled code calls no count hook, and what is compiled stays so when the
 * compiler is only switched off. */
void pl__preempt_hand_over(struct pl_vm *vm) {
  if (!vm->preempt.is_on || vm->preempt.is_counting)
    return;
  pl__preempt_stop(vm);
  luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
  vm->preempt.tick_ns = 0;
  vm->preempt.is_on = vm->preempt.is_counting = true;
  hook_set(vm->L, COUNT_INSTRUCTIONS);
}
