/* test/server/test_generation.c - two versions of an app in one dispatch. */
#include "test/server/serving.h"

#include "base/err.h"

#define ASK(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

#define APP(version)                                                           \
  "local P = require 'perilune'\n"                                             \
  "local app = P.app()\n"                                                      \
  "app:get('/', function() return '" version "' end)\n"                        \
  "app:get('/slow', function() P.sleep(0.1) return 'slow " version "' end)\n"  \
  "app:get('/never', { timeout = '100s' }, function()\n"                       \
  "  P.sleep(100) return 'never'\n"                                            \
  "end)\n"                                                                     \
  "app:get('/loop', { timeout = '300ms' }, function() while true do end "      \
  "end)\n"                                                                     \
  "app:get('/sum', function()\n"                                               \
  "  local n = 0\n"                                                            \
  "  for i = 1, 3e7 do n = (n * 31 + i) % 1000003 end\n"                       \
  "  return 'sum " version " ' .. n\n"                                         \
  "end)\n"                                                                     \
  "app:get('/deaf', { timeout = '100s' }, function()\n"                        \
  "  while true do pcall(P.sleep, 100) end\n"                                  \
  "end)\n"                                                                     \
  "app:get('/tasks', { timeout = '100s' }, function()\n"                       \
  "  for _ = 1, 3 do P.spawn(P.sleep, 100) end\n"                              \
  "  P.sleep(100)\n"                                                           \
  "end)\n"                                                                     \
  "app:get('/half', { timeout = '100s' }, function(c)\n"                       \
  "  return c:stream(function(out) out:write('half') P.sleep(100) end)\n"      \
  "end)\n"                                                                     \
  "app:post('/body', function(c) return '" version "' .. c:body() end)\n"      \
  "P.detach('task', function() while true do P.sleep(0.01) end end)\n"         \
  "return app\n"

/* Loads the next version and swaps. */
static struct pl_generation *succeed(struct serving *s, const char *text) {
  struct pl_generation_options options = {.dispatch = &s->dispatch,
                                          .config = &s->config};
  struct pl_generation *g;

  serving_write(s, "app.lua", text);
  if (pl__generation_open(&g, &options, s->err) ||
      pl__generation_load(g, s->err))
    fail_msg("%s", s->err);
  pl__dispatch_succeed(&s->dispatch, g);
  assert_int_equal(pl__vm_start(&g->vm, g->site, s->err), 0);
  s->site = g->site;
  return g;
}

static void close_old(struct serving *s) {
  struct pl_generation *old = NULL;

  for (int i = 0; i < 4000 && !old; i++) {
    serving_turn(s);
    old = pl__dispatch_take_old(&s->dispatch);
  }
  assert_non_null(old);
  pl__generation_close(old);
}

static void answers_new_requests_with_the_new_one(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);

  (void)state;
  assert_holds(serving_ask(s, ASK("/")), "\r\n\r\none");
  succeed(s, APP("two"));
  assert_holds(serving_ask(s, ASK("/")), "\r\n\r\ntwo");
  close_old(s);
  assert_holds(serving_ask(s, ASK("/")), "\r\n\r\ntwo");
  serving_stop(s);
}

static void ends_requests_on_the_one_they_began_on(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int conn = serving_connect(s, ASK("/slow") ASK("/slow"));

  (void)state;
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  assert_int_equal(s->dispatch.now->request_count, 1);
  succeed(s, APP("two"));
  assert_int_equal(s->dispatch.old->request_count, 1);
  assert_null(pl__dispatch_take_old(&s->dispatch));
  serving_run(s, 4000);
  assert_holds(serving_sent(s, conn), "slow one");
  assert_holds(serving_sent(s, conn), "slow two"); /* the pipelined one */
  close_old(s);
  serving_hang_up(s, conn);
  serving_stop(s);
}

/* The old one is preempted by counting, the new one by ticks. */
static void preempts_both(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int loop = serving_connect(s, ASK("/loop"));
  int sum = serving_connect(s, ASK("/sum"));

  (void)state;
  for (int i = 0; i < 3; i++)
    serving_turn(s);
  succeed(s, APP("two"));
  assert_true(s->dispatch.old->vm.preempt.is_counting);
  assert_true(s->dispatch.now->vm.preempt.is_on);
  assert_false(s->dispatch.now->vm.preempt.is_counting);
  assert_holds(serving_ask(s, ASK("/")), "\r\n\r\ntwo");
  assert_holds(serving_ask(s, ASK("/loop")), " 503 ");
  serving_run(s, 20000);
  assert_holds(serving_sent(s, loop), " 503 ");
  assert_holds(serving_sent(s, sum), "sum one ");
  assert_true(s->dispatch.old->vm.counts.preempted > 2);
  serving_hang_up(s, loop);
  serving_hang_up(s, sum);
  close_old(s);
  serving_stop(s);
}

static void ends_what_takes_too_long(void **state) {
  static const char *const overrides[] = {"timeouts.drain=50ms", NULL};
  struct serving *s = serving_start(APP("one"), overrides);
  int conn = serving_connect(s, ASK("/never"));

  (void)state;
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  succeed(s, APP("two"));
  serving_run(s, 4000);
  assert_holds(serving_sent(s, conn), " 503 ");
  close_old(s);
  serving_hang_up(s, conn);
  serving_stop(s);
}

static void cuts_what_is_left(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int conn = serving_connect(s, ASK("/never"));

  (void)state;
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  succeed(s, APP("two"));
  pl__vm_cut(&s->dispatch.old->vm);
  assert_int_equal(s->dispatch.old->request_count, 0);
  assert_int_equal(s->dispatch.old->vm.task_count, 0);
  close_old(s);
  serving_hang_up(s, conn);
  serving_stop(s);
}

/* Takes what has come, runs nothing. */
static void receive(struct serving *s) {
  pl__dispatch_tick(&s->dispatch);
  pl__inject_turn(&s->inject);
}

static void handles_what_is_queued_on_the_one_that_has_routed_it(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int conn = serving_connect(s, ASK("/"));

  (void)state;
  receive(s);
  assert_int_equal(s->dispatch.now->queue_count, 1);
  succeed(s, APP("two"));
  serving_run(s, 100);
  assert_holds(serving_sent(s, conn), "\r\n\r\none");
  serving_hang_up(s, conn);
  close_old(s);
  serving_stop(s);
}

static void gives_a_body_that_comes_later_to_the_one_that_waits(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int conn = serving_connect(
      s, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");

  (void)state;
  receive(s);
  assert_int_equal(s->dispatch.now->request_count, 1);
  succeed(s, APP("two"));
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  assert_null(pl__dispatch_take_old(&s->dispatch));
  assert_int_equal(pl__inject_feed(&s->inject, conn, "body", 4), 0);
  serving_run(s, 100);
  assert_holds(serving_sent(s, conn), "\r\n\r\nonebody");
  serving_hang_up(s, conn);
  close_old(s);
  serving_stop(s);
}

/* It was compiled long before, and the new one has the ticks. */
static void stops_a_loop_of_the_old_one_at_its_deadline(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int conn = serving_connect(s, ASK("/loop"));
  struct pl_generation *old = s->dispatch.now;

  (void)state;
  while (old->vm.counts.preempted < 2)
    serving_turn(s);
  succeed(s, APP("two"));
  assert_int_equal(old->vm.counts.overdue, 0);
  serving_run(s, 20000);
  assert_int_equal(old->vm.counts.overdue, 1);
  assert_int_equal(old->vm.counts.abandoned, 0);
  assert_holds(serving_sent(s, conn), " 503 ");
  serving_hang_up(s, conn);
  close_old(s);
  serving_stop(s);
}

/* Turns until the old one is over, or so much time has passed. */
static void run_old(struct serving *s, double seconds) {
  double end = s->dispatch.net.now + seconds;

  while (s->dispatch.net.now < end && !pl__generation_is_over(s->dispatch.old))
    serving_turn(s);
}

static void has_nothing_to_take_out_without_an_old_one(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);

  (void)state;
  assert_null(pl__dispatch_take_old(&s->dispatch));
  succeed(s, APP("two"));
  close_old(s);
  assert_null(pl__dispatch_take_old(&s->dispatch));
  serving_stop(s);
}

static void expires_requests_that_wait_at_once(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int never = serving_connect(s, ASK("/never"));
  int tasks = serving_connect(s, ASK("/tasks"));

  (void)state;
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  succeed(s, APP("two"));
  pl__vm_expire(&s->dispatch.old->vm);
  run_old(s, 1);
  assert_holds(serving_sent(s, never), " 503 ");
  assert_holds(serving_sent(s, tasks), " 503 ");
  assert_int_equal(s->dispatch.old->vm.counts.abandoned, 0);
  close_old(s);
  serving_hang_up(s, never);
  serving_hang_up(s, tasks);
  serving_stop(s);
}

static void expires_nothing_of_the_new_one(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int old = serving_connect(s, ASK("/slow")), now;

  (void)state;
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  succeed(s, APP("two"));
  now = serving_connect(s, ASK("/slow"));
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  pl__vm_expire(&s->dispatch.old->vm);
  serving_run(s, 4000);
  assert_holds(serving_sent(s, old), " 503 ");
  assert_holds(serving_sent(s, now), "slow two");
  close_old(s);
  serving_hang_up(s, old);
  serving_hang_up(s, now);
  serving_stop(s);
}

static void gives_up_a_handler_that_goes_on_when_it_is_expired(void **state) {
  static const char *const overrides[] = {"timeouts.drain=50ms", NULL};
  struct serving *s = serving_start(APP("one"), overrides);
  int conn = serving_connect(s, ASK("/deaf"));

  (void)state;
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  succeed(s, APP("two"));
  run_old(s, 1);
  assert_true(pl__generation_is_over(s->dispatch.old));
  assert_int_equal(s->dispatch.old->vm.counts.abandoned, 1);
  assert_holds(serving_sent(s, conn), " 503 ");
  close_old(s);
  serving_hang_up(s, conn);
  serving_stop(s);
}

/* Its handler has not begun: only the connection can be ended. */
static void closes_on_a_body_that_does_not_come(void **state) {
  static const char *const overrides[] = {"timeouts.drain=50ms", NULL};
  struct serving *s = serving_start(APP("one"), overrides);
  bool closed = false;
  int conn = serving_connect(
      s, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");

  (void)state;
  receive(s);
  succeed(s, APP("two"));
  run_old(s, 1);
  assert_false(pl__generation_is_over(s->dispatch.old));
  run_old(s, 3);
  assert_true(pl__generation_is_over(s->dispatch.old));
  pl__inject_peek(&s->inject, conn, &closed);
  assert_true(closed);
  close_old(s);
  serving_hang_up(s, conn);
  serving_stop(s);
}

static void cuts_half_a_response_and_all_tasks(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);
  int half = serving_connect(s, ASK("/half"));
  int tasks = serving_connect(s, ASK("/tasks"));
  bool closed = false;

  (void)state;
  for (int i = 0; i < 5; i++)
    serving_turn(s);
  assert_holds(serving_sent(s, half), "half");
  assert_true(s->dispatch.now->vm.task_count >= 3);
  succeed(s, APP("two"));
  pl__vm_cut(&s->dispatch.old->vm);
  assert_int_equal(s->dispatch.old->vm.task_count, 0);
  serving_turn(s);
  assert_int_equal(s->dispatch.old->request_count, 0);
  pl__inject_peek(&s->inject, half, &closed);
  assert_true(closed);
  assert_null(strstr(serving_sent(s, half), "\r\n0\r\n")); /* no last chunk */
  assert_holds(serving_ask(s, ASK("/")), "\r\n\r\ntwo");
  close_old(s);
  serving_hang_up(s, half);
  serving_hang_up(s, tasks);
  serving_stop(s);
}

static void ends_tasks_of_no_request_with_their_generation(void **state) {
  struct serving *s = serving_start(APP("one"), NULL);

  (void)state;
  serving_turn(s);
  assert_int_equal(s->dispatch.now->vm.task_count, 1);
  succeed(s, APP("two"));
  run_old(s, 1);
  assert_int_equal(s->dispatch.old->vm.task_count, 0);
  assert_int_equal(s->dispatch.now->vm.task_count, 1);
  close_old(s);
  serving_stop(s);
}

static void serves_routes_with_the_limits_of_the_new_one(void **state) {
  static const char *const overrides[] = {"limits.body=10", NULL};
  struct serving *s = serving_start(APP("one"), overrides);

  (void)state;
  s->config.limit_body_bytes = 3;
  succeed(s, APP("two"));
  assert_holds(serving_ask(s, "POST /body HTTP/1.1\r\nHost: a\r\n"
                              "Content-Length: 4\r\n\r\nbody"),
               " 413 ");
  close_old(s);
  serving_stop(s);
}

static void serves_open_connections_with_the_limits_of_the_new_one(void **st) {
  struct serving *s = serving_start(APP("one"), NULL);
  int conn = serving_connect(s, ASK("/"));
  bool closed = false;

  (void)st;
  serving_run(s, 10);
  s->config.limit_requests_per_connection = 2;
  succeed(s, APP("two"));
  pl__inject_peek(&s->inject, conn, &closed);
  assert_false(closed);
  assert_int_equal(
      pl__inject_feed(&s->inject, conn, ASK("/"), sizeof ASK("/") - 1), 0);
  serving_run(s, 10);
  assert_holds(serving_sent(s, conn), "Connection: close");
  serving_hang_up(s, conn);
  close_old(s);
  serving_stop(s);
}

static void keeps_no_memory_over_many_generations(void **state) {
  struct serving *s = serving_start(APP("0"), NULL);
  uint64_t first = 0;

  (void)state;
  for (int i = 0; i < 20; i++) {
    succeed(s, i % 2 ? APP("odd") : APP("even"));
    assert_holds(serving_ask(s, ASK("/")), i % 2 ? "odd" : "even");
    close_old(s);
    if (i == 4)
      first = s->dispatch.now->vm.heap_bytes;
  }
  assert_true(s->dispatch.now->vm.heap_bytes < first + first / 4);
  serving_stop(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answers_new_requests_with_the_new_one),
      cmocka_unit_test(ends_requests_on_the_one_they_began_on),
      cmocka_unit_test(preempts_both),
      cmocka_unit_test(ends_what_takes_too_long),
      cmocka_unit_test(cuts_what_is_left),
      cmocka_unit_test(handles_what_is_queued_on_the_one_that_has_routed_it),
      cmocka_unit_test(gives_a_body_that_comes_later_to_the_one_that_waits),
      cmocka_unit_test(stops_a_loop_of_the_old_one_at_its_deadline),
      cmocka_unit_test(has_nothing_to_take_out_without_an_old_one),
      cmocka_unit_test(expires_requests_that_wait_at_once),
      cmocka_unit_test(expires_nothing_of_the_new_one),
      cmocka_unit_test(gives_up_a_handler_that_goes_on_when_it_is_expired),
      cmocka_unit_test(closes_on_a_body_that_does_not_come),
      cmocka_unit_test(cuts_half_a_response_and_all_tasks),
      cmocka_unit_test(ends_tasks_of_no_request_with_their_generation),
      cmocka_unit_test(serves_routes_with_the_limits_of_the_new_one),
      cmocka_unit_test(serves_open_connections_with_the_limits_of_the_new_one),
      cmocka_unit_test(keeps_no_memory_over_many_generations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
