/* test/server/test_dispatch.c - requests from bytes to handlers and back:
 * waits, deadlines, tasks, clients that go away, the collector.
 */
#include "test/server/serving.h"

static const char app[] =
    "local P = require 'perilune'\n"
    "local app = P.app()\n"
    "local ffi = require 'ffi'\n"
    "local seen, kept = {}, nil\n"
    "app:get('/', function() return 'hello' end)\n"
    "app:get('/seen', function() return table.concat(seen, ' ') end)\n"
    "app:get('/sleep', function(c)\n"
    "  P.sleep(tonumber(c:query('s')) or 1) return 'slept'\n"
    "end)\n"
    "app:get('/short', { timeout = '1s' }, function()\n"
    "  P.sleep(100) return 'never'\n"
    "end)\n"
    "app:get('/caught', { timeout = '1s' }, function()\n"
    "  pcall(P.sleep, 100) pcall(P.sleep, 100)\n"
    "  seen[#seen + 1] = 'both' return 'late'\n"
    "end)\n"
    "app:get('/error', function() error('boom') end)\n"
    "app:get('/stale', function(c)\n"
    "  if not kept then kept = c return 'kept' end\n"
    "  local ok, err = pcall(function() return kept.path end)\n"
    "  return tostring(ok) .. ' ' .. tostring(err)\n"
    "end)\n"
    "app:get('/tasks', function(c)\n"
    "  local a = P.spawn(function(n) P.sleep(0.2) return n * 2 end, 21)\n"
    "  local b = P.spawn(function() P.sleep(1000) return 'b' end)\n"
    "  b = b and nil\n"
    "  return tostring((a:wait()))\n"
    "end)\n"
    "app:get('/gone', function(c)\n"
    "  seen[#seen + 1] = 'begun'\n"
    "  local ok, err = pcall(P.sleep, 1000)\n"
    "  seen[#seen + 1] = (ok and 'woken' or 'ended') .. tostring(c:aborted())\n"
    "  P.sleep(1000)\n"
    "  seen[#seen + 1] = 'never'\n"
    "end)\n"
    "app:get('/defer', function(c)\n"
    "  c:defer(function(x) P.sleep(1) seen[#seen + 1] = x end, 'deferred')\n"
    "  return 'first'\n"
    "end)\n"
    "app:post('/echo', function(c) return c:body() end)\n"
    "app:get('/big', function(c)\n"
    "  local s = ('%d'):format(c:query('n')):rep(150000)\n"
    "  return s\n"
    "end)\n"
    "app:get('/wrap', function(c)\n"
    "  local next = coroutine.wrap(function()\n"
    "    for i = 1, 3 do P.sleep(0.01) coroutine.yield(i) end\n"
    "  end)\n"
    "  return next() .. next() .. next()\n"
    "end)\n"
    "app:get('/garbage', function()\n"
    "  local t = {}\n"
    "  for i = 1, 20000 do t[i] = { i } end\n"
    "  return 'made'\n"
    "end)\n"
    "app:get('/finalizer', function()\n"
    "  for i = 1, 10 do\n"
    "    ffi.gc(ffi.new('int[4]'), function()\n"
    "      seen[#seen + 1] = 'finalized' error('in a finalizer')\n"
    "    end)\n"
    "  end\n"
    "  return 'laid'\n"
    "end)\n"
    "app:get('/detach', function()\n"
    "  P.detach('later', function() P.sleep(5) seen[#seen + 1] = 'later' end)\n"
    "  return 'started'\n"
    "end)\n"
    "return app\n";

#define GET(target) "GET " target " HTTP/1.1\r\nHost: h\r\n\r\n"

static int set_up(void **state) {
  *state = serving_start(app, NULL);
  return 0;
}

static int tear_down(void **state) {
  serving_stop(*state);
  return 0;
}

/* Turns for so many seconds of the serving's own time. */
static void pass(struct serving *s, double seconds) {
  double end = s->dispatch.time_offset + seconds;

  while (s->dispatch.time_offset < end)
    serving_turn(s);
}

static void answers(void **state) {
  struct serving *s = *state;
  const char *text = serving_ask(s, GET("/"));

  assert_holds(text, "HTTP/1.1 200 OK\r\n");
  assert_holds(text, "\r\n\r\nhello");
  assert_int_equal(s->dispatch.request_count, 1);
}

static void goes_on_with_others_while_a_handler_waits(void **state) {
  struct serving *s = *state;
  int slow = serving_connect(s, GET("/sleep?s=1"));
  int fast = serving_connect(s, GET("/"));

  pass(s, 0.1);
  assert_holds(serving_sent(s, fast), "hello");
  assert_string_equal(serving_sent(s, slow), "");
  assert_int_equal(s->dispatch.running, 1);
  pass(s, 1);
  assert_holds(serving_sent(s, slow), "slept");
}

static void answers_pipelined_requests_in_order(void **state) {
  struct serving *s = *state;
  const char *text =
      serving_ask(s, GET("/sleep?s=0.1") GET("/") GET("/nothing"));
  const char *first = strstr(text, "slept"), *second = strstr(text, "hello");

  assert_non_null(first);
  assert_non_null(second);
  assert_true(first < second);
  assert_holds(second, "HTTP/1.1 404 ");
}

static void answers_503_at_the_deadline_of_a_route(void **state) {
  struct serving *s = *state;
  int conn = serving_connect(s, GET("/short"));

  pass(s, 0.9);
  assert_string_equal(serving_sent(s, conn), "");
  pass(s, 0.3);
  assert_holds(serving_sent(s, conn), "HTTP/1.1 503 ");
}

static void ends_every_wait_behind_a_deadline_that_was_caught(void **state) {
  struct serving *s = *state;
  int conn = serving_connect(s, GET("/caught"));

  pass(s, 1.3);
  assert_holds(serving_sent(s, conn), "HTTP/1.1 503 ");
  assert_holds(serving_ask(s, GET("/seen")), "both");
}

static void answers_an_error_without_its_text(void **state) {
  const char *text = serving_ask(*state, GET("/error"));

  assert_holds(text, "HTTP/1.1 500 ");
  assert_null(strstr(text, "boom"));
}

static void raises_on_a_context_that_outlives_its_request(void **state) {
  struct serving *s = *state;

  assert_holds(serving_ask(s, GET("/stale")), "kept");
  assert_holds(serving_ask(s, GET("/stale")), "false ");
  assert_holds(serving_ask(s, GET("/stale")),
               "context used after its request ended");
}

static void ends_the_tasks_of_a_request_with_it(void **state) {
  struct serving *s = *state;

  assert_holds(serving_ask(s, GET("/tasks")), "42");
  assert_int_equal(s->dispatch.now->vm.task_count, 0);
}

static void wakes_a_handler_whose_client_goes_away(void **state) {
  struct serving *s = *state;
  int conn = serving_connect(s, GET("/gone"));

  pass(s, 0.1);
  pl__inject_close(&s->inject, conn);
  pass(s, 0.1);
  assert_int_equal(s->dispatch.net.conn_count, 0);
  assert_holds(serving_ask(s, GET("/seen")), "begun endedtrue");
  assert_null(strstr(serving_ask(s, GET("/seen")), "never"));
}

static void runs_deferred_calls_behind_the_answer(void **state) {
  struct serving *s = *state;
  int conn = serving_connect(s, GET("/defer"));

  pass(s, 0.1);
  assert_holds(serving_sent(s, conn), "first");
  assert_null(strstr(serving_ask(s, GET("/seen")), "deferred"));
  pass(s, 1);
  assert_holds(serving_ask(s, GET("/seen")), "deferred");
}

static void keeps_a_pinned_string_until_it_has_been_sent(void **state) {
  struct serving *s = *state;
  int conn = serving_connect(s, GET("/big?n=7") GET("/"));
  const char *text, *body;

  pl__inject_stall(&s->inject, conn, true);
  pass(s, 0.05);
  for (int i = 0; i < 60; i++) { /* what could be freed is used again */
    int other = serving_connect(s, i % 2 ? GET("/big?n=8") : GET("/garbage"));
    s->dispatch.now->vm.collecting = true;
    pass(s, 0.02);
    pl__inject_close(&s->inject, other);
  }
  assert_string_equal(serving_sent(s, conn), "");
  pl__inject_stall(&s->inject, conn, false);
  serving_run(s, 100);
  text = serving_sent(s, conn);
  body = strstr(text, "\r\n\r\n");
  assert_non_null(body);
  for (int i = 4; i < 150004; i++)
    assert_int_equal(body[i], '7');
  assert_holds(body + 150004, "hello");
}

static void reads_a_body_that_comes_in_pieces(void **state) {
  struct serving *s = *state;
  int conn = serving_connect(s, "POST /echo HTTP/1.1\r\nHost: h\r\n"
                                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc");

  pass(s, 0.5); /* the handler has been started by now */
  assert_int_equal(s->dispatch.running, 1);
  pl__inject_feed(&s->inject, conn, "\r\n3\r\ndef\r\n0\r\n\r\n", 15);
  serving_run(s, 100);
  assert_holds(serving_sent(s, conn), "\r\n\r\nabcdef");
}

static void waits_inside_coroutines_of_the_app(void **state) {
  assert_holds(serving_ask(*state, GET("/wrap")), "\r\n\r\n123");
}

static void runs_and_cancels_detached_tasks(void **state) {
  struct serving *s = *state;

  assert_holds(serving_ask(s, GET("/detach")), "started");
  assert_int_equal(s->dispatch.now->vm.task_count, 1);
  pass(s, 5.1);
  assert_int_equal(s->dispatch.now->vm.task_count, 0);
  assert_holds(serving_ask(s, GET("/seen")), "later");
  serving_ask(s, GET("/detach"));
  pl__vm_cancel_detached(&s->dispatch.now->vm);
  pass(s, 0.1);
  assert_int_equal(s->dispatch.now->vm.task_count, 0);
}

static void reuses_its_runners(void **state) {
  struct serving *s = *state;

  for (int i = 0; i < 200; i++)
    serving_ask(s, GET("/sleep?s=0.01"));
  assert_true(s->dispatch.now->vm.coro_count <= 4);
}

static void collects_what_requests_have_left(void **state) {
  struct serving *s = *state;
  uint64_t most = 0;

  for (int i = 0; i < 400; i++) {
    serving_ask(s, GET("/garbage"));
    if (s->dispatch.now->vm.heap_bytes > most)
      most = s->dispatch.now->vm.heap_bytes;
  }
  /* 400 requests of more than a megabyte each; how soon the collector gets its
   * turn depends on the machine, so the bound is far from what is usual. */
  print_message("at most %u KiB\n", (unsigned)(most >> 10));
  assert_true(most < 160u << 20);
}

static void survives_errors_of_finalizers(void **state) {
  struct serving *s = *state;

  assert_holds(serving_ask(s, GET("/finalizer")), "laid");
  for (int i = 0; i < 100; i++) { /* several cycles, between requests */
    s->dispatch.now->vm.collecting = true;
    pl__dispatch_tick(&s->dispatch);
    pl__dispatch_turn(&s->dispatch, true);
  }
  assert_holds(serving_ask(s, GET("/seen")), "finalized");
  assert_holds(serving_ask(s, GET("/")), "hello");
}

static void
ends_requests_still_queued_when_their_client_has_gone(void **state) {
  struct serving *s = *state;
  int conn = serving_connect(s, GET("/"));

  pl__dispatch_tick(&s->dispatch);
  pl__inject_turn(&s->inject); /* received, and in the queue */
  assert_int_equal(s->dispatch.now->queue_count, 1);
  pl__inject_close(&s->inject, conn);
  pl__inject_turn(&s->inject);
  serving_run(s, 10);
  assert_int_equal(s->dispatch.running, 0);
  assert_int_equal(s->dispatch.net.conn_count, 0);
}

static void frees_all_of_the_heap_at_its_end(void **state) {
  struct serving *s = serving_start(app, NULL);

  (void)state;
  serving_ask(s, GET("/garbage"));
  pl__vm_close(&s->dispatch.now->vm); /* and once more with the rest */
  assert_int_equal(s->dispatch.now->vm.heap_bytes, 0);
  serving_stop(s);
}

static void says_where_an_app_does_not_load(void **state) {
  static const struct {
    const char *text, *said;
  } broken[] = {
      {"return nil", "app.lua:1: the file returns a nil"},
      {"local x = = 1", "app.lua:1: "},
      {"\n\nerror('why')", "app.lua:3: why"},
      {"require 'no.such.module'", "no.such.module"},
      {"while true do end", "vm.load_timeout"},
  };

  (void)state;
  for (uint32_t i = 0; i < sizeof broken / sizeof *broken; i++) {
    struct serving *s = serving_new(broken[i].text, NULL);
    struct pl_dispatch_options options = {.config = &s->config,
                                          .slabs = s->slabs,
                                          .slab_count = SERVING_SLABS,
                                          .slab_bytes = s->slab_bytes,
                                          .log = s->ring,
                                          .log_wake_fd = -1,
                                          .inject = &s->inject};
    assert_int_equal(pl__dispatch_open(&s->dispatch, &options, s->err), 0);
    pl__inject_init(&s->inject, &s->dispatch);
    assert_true(pl__vm_load(&s->dispatch.now->vm, s->config.app_file, 0.3,
                            &s->site, s->err) < 0);
    assert_holds(s->err, broken[i].said);
    serving_close(s);
    serving_free(s);
  }
}

static void keeps_to_its_limit_of_memory(void **state) {
  static const char hungry[] =
      "local P = require 'perilune'\n"
      "local app = P.app()\n"
      "app:get('/', function() return 'hello' end)\n"
      "app:get('/eat', function() return #('x'):rep(1e9) .. '' end)\n"
      "return app\n";
  static const char *const overrides[] = {"vm.memory_hard=32M",
                                          "vm.memory_soft=16M", NULL};
  struct serving *s = serving_start(hungry, overrides);

  (void)state;
  assert_holds(serving_ask(s, GET("/eat")), "HTTP/1.1 500 ");
  assert_true(s->dispatch.now->vm.heap_bytes < 32u << 20);
  assert_holds(serving_ask(s, GET("/")), "hello");
  serving_stop(s);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(answers),
      CASE(goes_on_with_others_while_a_handler_waits),
      CASE(answers_pipelined_requests_in_order),
      CASE(answers_503_at_the_deadline_of_a_route),
      CASE(ends_every_wait_behind_a_deadline_that_was_caught),
      CASE(answers_an_error_without_its_text),
      CASE(raises_on_a_context_that_outlives_its_request),
      CASE(ends_the_tasks_of_a_request_with_it),
      CASE(wakes_a_handler_whose_client_goes_away),
      CASE(runs_deferred_calls_behind_the_answer),
      CASE(keeps_a_pinned_string_until_it_has_been_sent),
      CASE(reads_a_body_that_comes_in_pieces),
      CASE(waits_inside_coroutines_of_the_app),
      CASE(runs_and_cancels_detached_tasks),
      CASE(reuses_its_runners),
      CASE(collects_what_requests_have_left),
      CASE(survives_errors_of_finalizers),
      CASE(ends_requests_still_queued_when_their_client_has_gone),
      cmocka_unit_test(frees_all_of_the_heap_at_its_end),
      cmocka_unit_test(says_where_an_app_does_not_load),
      cmocka_unit_test(keeps_to_its_limit_of_memory),
  };

  return cmocka_run_group_tests(tests, NULL, NULL);
}
