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
      cmocka_unit_test(keeps_no_memory_over_many_generations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
