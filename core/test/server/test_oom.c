/* test/server/test_oom.c - the 1st, 2nd, n-th allocation fails, once or for
 * good: while everything starts, and during one request of each kind.  Nothing
 * crashes, hangs or leaks (the build with sanitizers looks at that), and with
 * memory there is an answer again.
 *
 * Each sweep runs in a process of its own, because LuaJIT 2.1 of March 2022
 * does not always survive this: its error path may write over a frame of the
 * stack when memory runs out between two bytecodes, and it crashes in compiled
 * code (its authors' fixes: ca8d3257, 2d8300c1, b8b49bf3).  A crash inside
 * libluajit ends that process; it is counted, the sweep goes on behind it, and
 * there must be few of them.  Requests are swept with the compiler off.
 */
#define _GNU_SOURCE /* dladdr, REG_RIP */
#include "test/server/serving.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

static const char app[] =
    "local P = require 'perilune'\n"
    "local app = P.app()\n"
    "local big = ('0123456789'):rep(20000)\n"
    "app:use(function(c, next) next(c) c:set('x-after', 'yes') end)\n"
    "app:get('/plain', function() return 'hello' end)\n"
    "app:get('/json', function(c)\n"
    "  return { id = 7, list = { 1, 2, { deep = true } }, text = 'a\\nb' }\n"
    "end)\n"
    "app:get('/items/:id<int>', function(c, id) return 'item ' .. id end)\n"
    "app:post('/body', function(c) return c:body() end)\n"
    "app:post('/decode', function(c) return c:json() end)\n"
    "app:post('/chunks', function(c)\n"
    "  local n = 0\n"
    "  for piece in c:chunks() do n = n + #piece end\n"
    "  return tostring(n)\n"
    "end)\n"
    "app:get('/stream', function(c)\n"
    "  return c:stream(function(out)\n"
    "    for i = 1, 10 do out:write(('x'):rep(5000)) end\n"
    "  end)\n"
    "end)\n"
    "app:get('/query', function(c) return c:query('b') .. #c:queries('a') "
    "end)\n"
    "app:get('/cookie', function(c)\n"
    "  c:set_cookie('seen', 'yes', { max_age = 60 })\n"
    "  return c:cookie('b')\n"
    "end)\n"
    "app:get('/big', function(c) return big end)\n"
    "app:get('/error', function(c) error('boom') end)\n"
    "app:get('/sleep', function(c) P.sleep(0.01) return 'slept' end)\n"
    "app:get('/tasks', function(c)\n"
    "  local task = P.spawn(function(a) P.sleep(0.01) return a end, 'task')\n"
    "  P.spawn(function() P.sleep(100) end)\n"
    "  c:defer(function() P.sleep(0.01) end)\n"
    "  return (task:wait())\n"
    "end)\n"
    "app:get('/context', function(c)\n"
    "  c.tenant = c:baggage('a')\n"
    "  local task = assert(P.detach('later', function()\n"
    "    return P.context.current().tenant .. P.context.headers().baggage\n"
    "  end))\n"
    "  return (task:wait())\n"
    "end)\n"
    "app:get('/file', function(c) return c:file('app.lua') end)\n"
    "app:get('/off', function() require('jit').off() return 'off' end)\n"
    "app:get('/problem', function(c) return c:problem(409, 'why') end)\n"
    "return app\n";

static const struct {
  const char *bytes, *answer; /* a piece of the answer when memory suffices */
} requests[] = {
    {"GET /plain HTTP/1.1\r\nHost: h\r\n\r\n", "hello"},
    {"GET /json HTTP/1.1\r\nHost: h\r\n\r\n", "\"deep\":true"},
    {"GET /items/42 HTTP/1.1\r\nHost: h\r\n\r\n", "item 42"},
    {"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nbytes",
     "bytes"},
    {"POST /decode HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
     "Content-Length: 21\r\n\r\n{\"a\":[1,2,{\"b\":\"x\"}]}",
     "\"b\":\"x\""},
    {"POST /chunks HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
     "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
     "7"},
    {"POST /body HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
     "Content-Length: 5\r\n\r\nbytes",
     "bytes"},
    {"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n0\r\n\r\n"},
    {"GET /query?a=1&a=2&b=%41 HTTP/1.1\r\nHost: h\r\n\r\n", "A2"},
    {"GET /cookie HTTP/1.1\r\nHost: h\r\nCookie: a=1; b=two\r\n\r\n", "two"},
    {"GET /big HTTP/1.1\r\nHost: h\r\n\r\n", "Content-Length: 200000"},
    {"GET /error HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 500 "},
    {"GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n", "slept"},
    {"GET /tasks HTTP/1.1\r\nHost: h\r\n\r\n", "task"},
    {"GET /context HTTP/1.1\r\nHost: h\r\nTraceparent: "
     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
     "Tracestate: s=1\r\nBaggage: a=acme\r\n\r\n",
     "acmea=acme"},
    {"GET /file HTTP/1.1\r\nHost: h\r\n\r\n", "return app"},
    {"GET /problem HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 409 "},
    {"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 404 "},
    {"PUT /plain HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 405 "},
    {"BAD\r\n\r\n", "HTTP/1.1 "},
};

#define REQUEST_COUNT (sizeof requests / sizeof *requests)

/* Every allocation of the first 200, then ever fewer of the thousands more that
 * loading takes: about 40 for each doubling. */
static uint64_t after(uint64_t n) { return n < 200 ? n + 1 : n + n / 56; }

static void assert_answers(struct serving *s) {
  assert_holds(serving_ask(s, requests[0].bytes), "hello");
}

/* --- a process of its own ---------------------------------------------- */

#define ENGINE_CRASHED 77
#define LEAKED 78

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
__attribute__((visibility("default"))) const char *
__lsan_default_suppressions(void);

/* What LuaJIT forgets itself when its libraries cannot be opened. */
const char *__lsan_default_suppressions(void) { return "leak:libluajit"; }

static bool leaks(void) { return __lsan_do_recoverable_leak_check() != 0; }
#else
static bool leaks(void) { return false; }
#endif

/* Where a sweep is; shared with the process that runs it. */
struct progress {
  uint32_t kind;
  uint64_t n;
  uint32_t steps;
};

typedef void (*sweep_fn)(struct progress *at, bool for_good);

static void on_crash(int number, siginfo_t *info, void *context) {
  const ucontext_t *where = context;
  Dl_info object;
  void *pc = NULL;

  (void)info;
#ifdef REG_RIP
  pc = (void *)where->uc_mcontext.gregs[REG_RIP];
#endif
  if (dladdr(pc, &object) && strstr(object.dli_fname, "libluajit"))
    _exit(ENGINE_CRASHED);
  signal(number, SIG_DFL); /* the instruction is run once more */
}

static void run_child(sweep_fn sweep, struct progress *at, bool for_good) {
  struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};

  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  setenv("CMOCKA_TEST_ABORT", "1", 1); /* not back into the parent's tests */
  sweep(at, for_good);
  _exit(leaks() ? LEAKED : 0);
}

/* Runs a sweep to its end, however often the engine crashes under it. */
static void run_sweep(sweep_fn sweep, bool for_good) {
  struct progress *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  uint32_t crashes = 0;
  int status;

  assert_true(at != MAP_FAILED);
  at->n = 1;
  do {
    pid_t pid = fork();
    if (pid == 0)
      run_child(sweep, at, for_good);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == ENGINE_CRASHED) {
      crashes++;
      at->n = after(at->n);
      continue;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status))
      fail_msg("request %d, allocation %d: ended with status %d", (int)at->kind,
               (int)at->n, status);
    break;
  } while (crashes * 20 < at->steps + 60);
  if (crashes)
    print_message("%d of %d ended in a crash of LuaJIT\n", (int)crashes,
                  (int)at->steps);
  assert_true(at->steps > 50);
  assert_true(crashes * 20 < at->steps + 60);
  munmap(at, sizeof *at);
}

/* --- starting ---------------------------------------------------------- */

static void sweep_start(struct progress *at, bool for_good) {
  struct serving *s = serving_new(app, NULL);
  uint64_t failures = 1;
  int failed = 1;

  for (; failures; at->n = after(at->n)) {
    at->steps++;
    pl__alloc_fail_after(at->n, for_good);
    failed = serving_open(s);
    failures = pl__alloc_fail_count();
    pl__alloc_fail_after(0, false);
    if (failed) {
      if (!s->err[0])
        fail_msg("no text for %d at %d", failed, (int)at->n);
      assert_true(failures > 0);
      continue;
    }
    assert_answers(s);
    serving_close(s);
  }
  assert_int_equal(failed, 0); /* the last one, which lacked nothing */
  serving_free(s);
}

static void starts_or_says_why_not_when_one_allocation_fails(void **state) {
  (void)state;
  run_sweep(sweep_start, false);
}

static void starts_or_says_why_not_when_memory_has_run_out(void **state) {
  (void)state;
  run_sweep(sweep_start, true);
}

/* --- requests ---------------------------------------------------------- */

static bool is_over(struct serving *s, int conn) {
  bool closed;
  struct pl_slice sent = pl__inject_peek(&s->inject, conn, &closed);

  return closed ||
         (sent.bytes && !s->dispatch.running && !s->dispatch.now->queue_count);
}

/* One request with the n-th allocation failing. True: one did. */
static bool starve(struct serving *s, uint32_t kind, uint64_t n,
                   bool for_good) {
  int conn = serving_connect(s, requests[kind].bytes);
  uint64_t failures;
  int turns = 0;

  pl__alloc_fail_after(n, for_good);
  while (!is_over(s, conn) && turns++ < 6000) {
    s->dispatch.time_offset += 0.01; /* deadlines end what has lost its waker */
    serving_turn(s);
  }
  failures = pl__alloc_fail_count();
  pl__alloc_fail_after(0, false);
  if (!is_over(s, conn))
    fail_msg("%.30s hangs at %d (%s)", requests[kind].bytes, (int)n,
             for_good ? "for good" : "once");
  if (!failures)
    assert_holds(serving_sent(s, conn), requests[kind].answer);
  serving_hang_up(s, conn);
  assert_int_equal(s->dispatch.net.conn_count, 0);
  assert_int_equal(s->dispatch.slabs.in_use, 0);
  assert_int_equal(s->dispatch.running, 0);
  assert_int_equal(s->dispatch.now->vm.task_count, 0);
  return failures > 0;
}

static void sweep_requests(struct progress *at, bool for_good) {
  struct serving *s = serving_start(app, NULL);

  assert_holds(serving_ask(s, "GET /off HTTP/1.1\r\nHost: h\r\n\r\n"), "off");
  for (; at->kind < REQUEST_COUNT; at->kind++, at->n = 1)
    for (bool more = true; more; at->n = after(at->n)) {
      at->steps++;
      more = starve(s, at->kind, at->n, for_good);
      assert_answers(s);
    }
  serving_stop(s);
}

static void survives_one_failing_allocation_of_a_request(void **state) {
  (void)state;
  run_sweep(sweep_requests, false);
}

static void survives_requests_without_any_memory(void **state) {
  (void)state;
  run_sweep(sweep_requests, true);
}

/* The very first request of a VM: threads and pools are being made. */
static void sweep_first_requests(struct progress *at, bool for_good) {
  for (; at->kind < REQUEST_COUNT; at->kind += 3, at->n = 1)
    for (bool more = true; more && at->n < 60; at->n += 3) {
      struct serving *s = serving_start(app, NULL);
      at->steps++;
      more = starve(s, at->kind, at->n, for_good);
      assert_answers(s);
      serving_stop(s);
    }
}

static void survives_one_failing_allocation_of_its_first_request(void **state) {
  (void)state;
  run_sweep(sweep_first_requests, false);
}

static void survives_a_first_request_without_any_memory(void **state) {
  (void)state;
  run_sweep(sweep_first_requests, true);
}

static void makes_no_allocation_for_a_warm_plain_request(void **state) {
  struct serving *s = serving_start(app, NULL);
  int conn = serving_connect(s, requests[0].bytes);
  uint64_t before = 0, lua_before = 0, heap_before = 0;
  bool closed;

  (void)state;
  for (int i = 0; i < 3000; i++) {
    if (i == 2000) {
      before = pl__alloc_count();
      lua_before = pl__alloc_lua_count();
      heap_before = s->dispatch.now->vm.heap_bytes;
    }
    while (!is_over(s, conn))
      serving_turn(s);
    assert_holds(serving_sent(s, conn), "hello");
    pl__inject_drop(&s->inject, conn,
                    pl__inject_peek(&s->inject, conn, &closed).bytes);
    pl__inject_feed(&s->inject, conn, requests[0].bytes,
                    (uint32_t)strlen(requests[0].bytes));
  }
  assert_int_equal(pl__alloc_count() - before, 0);
  print_message("of Lua, in 1000 requests: %d allocations, %d bytes\n",
                (int)(pl__alloc_lua_count() - lua_before),
                (int)(s->dispatch.now->vm.heap_bytes - heap_before));
  assert_true(pl__alloc_lua_count() - lua_before <= 3000);
  serving_stop(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(makes_no_allocation_for_a_warm_plain_request),
      cmocka_unit_test(survives_one_failing_allocation_of_a_request),
      cmocka_unit_test(survives_requests_without_any_memory),
      cmocka_unit_test(survives_one_failing_allocation_of_its_first_request),
      cmocka_unit_test(survives_a_first_request_without_any_memory),
      cmocka_unit_test(starts_or_says_why_not_when_one_allocation_fails),
      cmocka_unit_test(starts_or_says_why_not_when_memory_has_run_out),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
