/* test/http/test_router.c - patterns, precedence and conflicts. */
#include "http/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

#define UUID "123e4567-e89b-12d3-a456-4266141740aF"

static struct pl_router *router;
static struct pl_req req;

static int set_up(void **state) {
  (void)state;
  router = pl__router_new();
  return router ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  pl__router_free(router);
  return 0;
}

static int add(uint8_t method, const char *pattern, uint32_t route) {
  uint32_t conflict = 12345;
  int status = pl__router_add(
      router, method, pl__slice(pattern, strlen(pattern)), route, &conflict);
  return status == PL_ECONFLICT ? (int)conflict : status;
}

static void get(const char *pattern, uint32_t route) {
  if (add(PL_METHOD_GET, pattern, route))
    fail_msg("not added: %s (%s)", pattern, pl__router_error(router));
}

static enum pl_route_outcome match(uint8_t method, const char *path) {
  memset(&req, 0, sizeof(req));
  req.method = method;
  req.route = 99999;
  req.path = pl__slice(path, strlen(path));
  return pl__router_match(router, &req);
}

static void assert_route(const char *path, uint32_t route) {
  if (match(PL_METHOD_GET, path) != PL_ROUTE_FOUND)
    fail_msg("not found: %s", path);
  if (req.route != route)
    fail_msg("%s is route %u, not %u", path, req.route, route);
}

static void assert_none(const char *path) {
  if (match(PL_METHOD_GET, path) != PL_ROUTE_NOT_FOUND)
    fail_msg("found: %s", path);
  assert_int_equal(req.route, 99999);
}

static void assert_param(uint32_t i, const char *text) {
  assert_in_range(i, 0, req.param_count - 1);
  assert_int_equal(req.params[i].text.bytes, strlen(text));
  assert_memory_equal(req.params[i].text.at, text, strlen(text));
}

static void matches_static_patterns_exactly(void **state) {
  (void)state;
  get("/", 1);
  get("/a", 2);
  get("/a/", 3);
  get("/a/b", 4);
  get("/abcdefgh", 5);
  get("/abcdefghi", 6);
  get("/a.b:c*d", 7);
  assert_route("/", 1);
  assert_route("/a", 2);
  assert_route("/a/", 3);
  assert_route("/a/b", 4);
  assert_route("/abcdefgh", 5);
  assert_route("/abcdefghi", 6);
  assert_route("/a.b:c*d", 7);
  assert_int_equal(req.param_count, 0);
  assert_none("/A");
  assert_none("//");
  assert_none("/a//");
  assert_none("/a/b/");
  assert_none("/abcdefgx");
  assert_none("/abcdefghx");
  assert_none("/abcdefghij");
  assert_none("/abcdefg");
}

static void hands_out_parameters_in_order(void **state) {
  (void)state;
  get("/:a/x/:b", 1);
  assert_route("/hello world/x/\xc3\xa4", 1);
  assert_int_equal(req.param_count, 2);
  assert_param(0, "hello world");
  assert_param(1, "\xc3\xa4");
  assert_ptr_equal(req.params[0].text.at, req.path.at + 1);
  assert_none("//x/b");
  assert_none("/a/x/");
  assert_none("/a/x/b/");
}

static void takes_integers_in_their_shortest_form(void **state) {
  (void)state;
  get("/:n<int>", 1);
  assert_route("/7", 1);
  assert_true(req.params[0].number == 7);
  assert_param(0, "7");
  assert_route("/-12", 1);
  assert_true(req.params[0].number == -12);
  assert_route("/0", 1);
  assert_route("/9007199254740992", 1);
  assert_true(req.params[0].number == 9007199254740992.0);
  assert_route("/-9007199254740992", 1);
  assert_none("/9007199254740993");
  assert_none("/18446744073709551617");
  assert_none("/-");
  assert_none("/-0");
  assert_none("/007");
  assert_none("/+7");
  assert_none("/7.0");
  assert_none("/7a");
  assert_none("/ 7");
  assert_none("/");
}

static void takes_uuids_and_slugs(void **state) {
  (void)state;
  get("/u/:id<uuid>", 1);
  get("/s/:id<slug>", 2);
  assert_route("/u/" UUID, 1);
  assert_true(req.params[0].number == 0);
  assert_none("/u/" UUID "0");
  assert_none("/u/123e4567-e89b-12d3-a456_426614174000");
  assert_none("/u/123e4567-e89b-12d3-a456-42661417400g");
  assert_route("/s/a-b_C9", 2);
  assert_none("/s/a.b");
  assert_none("/s/a b");
  assert_none("/s/");
}

static void prefers_the_more_special_whatever_came_first(void **state) {
  static const char *const patterns[] = {
      "/a/*rest", "/a/:x", "/a/:x<slug>", "/a/:x<uuid>", "/a/:x<int>", "/a/b"};
  (void)state;
  for (int round = 0; round < 2; round++) {
    for (uint32_t i = 0; i < 6; i++) {
      uint32_t k = round ? 5 - i : i;
      get(patterns[k], k);
    }
    assert_route("/a/b", 5);
    assert_route("/a/7", 4);
    assert_route("/a/" UUID, 3);
    assert_route("/a/x-y", 2);
    assert_route("/a/x.y", 1);
    assert_route("/a/x/y", 0);
    assert_param(0, "x/y");
    tear_down(NULL);
    set_up(NULL);
  }
}

static void goes_back_where_a_choice_leads_nowhere(void **state) {
  (void)state;
  get("/:a/b/c", 1);
  get("/x/:b/d", 2);
  get("/x/b/:c<int>/e", 3);
  get("/*all", 4);
  assert_route("/x/b/c", 1);
  assert_param(0, "x");
  assert_int_equal(req.param_count, 1);
  assert_route("/x/b/d", 2);
  assert_param(0, "b");
  assert_route("/x/b/7/e", 3);
  assert_route("/x/b/7/f", 4);
  assert_param(0, "x/b/7/f");
  assert_int_equal(req.param_count, 1);
}

static void a_wildcard_takes_the_rest_even_nothing(void **state) {
  (void)state;
  get("/files/*path", 1);
  assert_route("/files/a/b//c/", 1);
  assert_param(0, "a/b//c/");
  assert_route("/files/", 1);
  assert_int_equal(req.param_count, 1);
  assert_param(0, "");
  assert_none("/files");
  get("/files/", 2);
  assert_route("/files/", 2);
  get("/*", 3);
  assert_route("/", 3);
}

static void tells_methods_apart(void **state) {
  (void)state;
  get("/x", 1);
  assert_int_equal(add(PL_METHOD_POST, "/x", 2), 0);
  assert_int_equal(match(PL_METHOD_POST, "/x"), PL_ROUTE_FOUND);
  assert_int_equal(req.route, 2);
  assert_int_equal(match(PL_METHOD_PUT, "/x"), PL_ROUTE_NOT_ALLOWED);
  assert_true(req.allow == (1 << PL_METHOD_GET | 1 << PL_METHOD_HEAD |
                            1 << PL_METHOD_POST | 1 << PL_METHOD_OPTIONS));
  assert_int_equal(match(PL_METHOD_OPTIONS, "/x"), PL_ROUTE_NOT_ALLOWED);
  assert_int_equal(match(PL_METHOD_PUT, "/y"), PL_ROUTE_NOT_FOUND);
  assert_int_equal(match(PL_METHOD_CONNECT, "/x"), PL_ROUTE_NOT_ALLOWED);
  assert_int_equal(match(200, "/x"), PL_ROUTE_NOT_ALLOWED);
}

static void answers_head_from_get_unless_it_has_its_own(void **state) {
  (void)state;
  get("/a", 1);
  get("/b", 2);
  assert_int_equal(add(PL_METHOD_HEAD, "/b", 3), 0);
  assert_int_equal(match(PL_METHOD_HEAD, "/a"), PL_ROUTE_FOUND);
  assert_int_equal(req.route, 1);
  assert_int_equal(match(PL_METHOD_HEAD, "/b"), PL_ROUTE_FOUND);
  assert_int_equal(req.route, 3);
}

static void any_stands_for_what_has_no_route_of_its_own(void **state) {
  (void)state;
  assert_int_equal(add(PL_METHOD_ANY, "/x", 1), 0);
  get("/x", 2);
  assert_route("/x", 2);
  assert_int_equal(match(PL_METHOD_HEAD, "/x"), PL_ROUTE_FOUND);
  assert_int_equal(req.route, 2);
  assert_int_equal(match(PL_METHOD_PATCH, "/x"), PL_ROUTE_FOUND);
  assert_int_equal(req.route, 1);
  assert_int_equal(match(PL_METHOD_OPTIONS, "/x"), PL_ROUTE_FOUND);
  assert_int_equal(match(PL_METHOD_CONNECT, "/x"), PL_ROUTE_NOT_ALLOWED);
}

static void looks_for_the_method_in_less_special_patterns(void **state) {
  (void)state;
  assert_int_equal(add(PL_METHOD_POST, "/notes/new", 1), 0);
  get("/notes/:id", 2);
  assert_route("/notes/new", 2);
  assert_int_equal(match(PL_METHOD_POST, "/notes/new"), PL_ROUTE_FOUND);
  assert_int_equal(req.route, 1);
  assert_int_equal(match(PL_METHOD_PUT, "/notes/new"), PL_ROUTE_NOT_ALLOWED);
  assert_true(req.allow == (1 << PL_METHOD_GET | 1 << PL_METHOD_HEAD |
                            1 << PL_METHOD_POST | 1 << PL_METHOD_OPTIONS));
}

static void tells_what_all_routes_have_for_an_asterisk(void **state) {
  (void)state;
  get("/", 1);
  assert_int_equal(add(PL_METHOD_DELETE, "/x", 2), 0);
  memset(&req, 0, sizeof(req));
  req.method = PL_METHOD_OPTIONS;
  req.flags = PL_REQ_ASTERISK;
  req.path = PL_SLICE("/");
  assert_int_equal(pl__router_match(router, &req), PL_ROUTE_NOT_ALLOWED);
  assert_true(req.allow == (1 << PL_METHOD_GET | 1 << PL_METHOD_HEAD |
                            1 << PL_METHOD_DELETE | 1 << PL_METHOD_OPTIONS));
}

static void refuses_equal_patterns_and_names_the_earlier(void **state) {
  (void)state;
  get("/:a/b", 7);
  assert_int_equal(add(PL_METHOD_GET, "/:other/b", 8), 7);
  get("/:a<int>/b", 9);
  assert_int_equal(add(PL_METHOD_GET, "/:other<int>/b", 10), 9);
  get("/f/*", 11);
  assert_int_equal(add(PL_METHOD_GET, "/f/*x", 12), 11);
  assert_int_equal(add(PL_METHOD_ANY, "/f/*x", 13), 0);
  assert_int_equal(add(PL_METHOD_ANY, "/f/*y", 14), 13);
  assert_route("/x/b", 7);
}

static void refuses_malformed_patterns(void **state) {
  static const char *const bad[] = {
      "",          "a",          "a/b",        ":x",    "/:",     "/:a<",
      "/:a<int",   "/:a<float>", "/:<int>",    "/:1a",  "/:a-b",  "/:a.json",
      "/:a<int>x", "/*a/b",      "/*/",        "/*a.b", "/:a/:a", "/:a/*a",
      "/a/../b",   "/.",         "/:a<int>/:a"};
  (void)state;
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    if (add(PL_METHOD_GET, bad[i], 1) != PL_EINVAL)
      fail_msg("taken: %s", bad[i]);
    assert_true(strlen(pl__router_error(router)) > 10);
  }
  assert_int_equal(pl__router_add(router, PL_METHOD_GET, pl__slice("/a\0", 3),
                                  1, &(uint32_t){0}),
                   PL_EINVAL);
  assert_int_equal(add(PL_METHOD_CONNECT, "/", 1), PL_EINVAL);
  assert_int_equal(add(200, "/", 1), PL_EINVAL);
}

static void bounds_patterns(void **state) {
  static char pattern[PL_LIMIT_PATTERN_BYTES + 2];
  char params[256];
  (void)state;
  memset(pattern, 'a', sizeof(pattern) - 1);
  pattern[0] = '/';
  assert_int_equal(add(PL_METHOD_GET, pattern, 1), PL_EINVAL);
  pattern[PL_LIMIT_PATTERN_BYTES] = 0;
  get(pattern, 1);
  assert_route(pattern, 1);

  uint32_t n = 0;
  for (uint32_t i = 0; i <= PL_REQ_PARAMS_MAX; i++)
    n += (uint32_t)snprintf(params + n, sizeof(params) - n, "/:p%u", i);
  assert_int_equal(add(PL_METHOD_GET, params, 2), PL_EINVAL);
  *strrchr(params, '/') = 0;
  get(params, 2);
  assert_route("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", 2);
  assert_int_equal(req.param_count, PL_REQ_PARAMS_MAX);
  assert_param(15, "16");

  memset(pattern, '/', PL_LIMIT_PATTERN_SEGMENTS + 1);
  pattern[PL_LIMIT_PATTERN_SEGMENTS + 1] = 0;
  assert_int_equal(add(PL_METHOD_GET, pattern, 3), PL_EINVAL);
  pattern[PL_LIMIT_PATTERN_SEGMENTS] = 0;
  get(pattern, 3);
  assert_route(pattern, 3);
}

static void finds_each_of_many_routes(void **state) {
  char text[64];
  (void)state;
  for (uint32_t i = 0; i < 3000; i++) {
    snprintf(text, sizeof(text), "/r%u/:id<int>/part-%u", i % 100, i);
    get(text, i);
  }
  for (uint32_t i = 0; i < 3000; i++) {
    snprintf(text, sizeof(text), "/r%u/%u/part-%u", i % 100, i, i);
    assert_route(text, i);
    assert_true(req.params[0].number == i);
  }
  assert_none("/r0/1/part-3000");
  assert_none("/r100/1/part-1");
}

static void tries_every_choice_before_it_gives_up(void **state) {
  char text[256];
  (void)state;
  for (uint32_t bits = 0; bits < 4096; bits++) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < 12; i++)
      n += (uint32_t)(bits >> i & 1
                          ? snprintf(text + n, sizeof(text) - n, "/:p%u", i)
                          : snprintf(text + n, sizeof(text) - n, "/a"));
    get(text, bits);
  }
  assert_route("/a/a/a/a/a/a/a/a/a/a/a/a", 0);
  assert_route("/b/b/b/b/b/b/b/b/b/b/b/b", 4095);
  assert_none("/a/a/a/a/a/a/a/a/a/a/a/a/a");
  assert_none("/a/a/a/a/a/a/a/a/a/a/a");
}

static void allocates_nothing_to_match(void **state) {
  (void)state;
  get("/a/:b<int>", 1);
  uint64_t before = pl__alloc_count();
  for (int i = 0; i < 100; i++)
    assert_route("/a/7", 1);
  assert_true(pl__alloc_count() == before);
}

static void a_failing_allocation_leaves_the_routes_that_were(void **state) {
  (void)state;
  get("/a/:b", 1);
  for (uint64_t n = 1;; n++) {
    static const char *const pattern = "/b/longer-than-eight/:c<int>/d/*e";
    uint32_t conflict;
    pl__router_free(router);
    router = pl__router_new();
    get("/a/:b", 1);
    pl__alloc_fail_after(n, false);
    int status =
        pl__router_add(router, PL_METHOD_GET,
                       pl__slice(pattern, strlen(pattern)), 2, &conflict);
    uint64_t failed = pl__alloc_fail_count();
    pl__alloc_fail_after(0, false);
    assert_route("/a/x", 1);
    if (!failed) {
      assert_int_equal(status, 0);
      assert_true(n > 2);
      break;
    }
    assert_int_equal(status, PL_ENOMEM);
    assert_none("/b/longer-than-eight/7/d/x");
    get(pattern, 2);
    assert_route("/b/longer-than-eight/7/d/x", 2);
  }
}

static void making_one_can_fail(void **state) {
  (void)state;
  for (uint64_t n = 1; n <= 2; n++) {
    pl__alloc_fail_after(n, false);
    struct pl_router *r = pl__router_new();
    pl__alloc_fail_after(0, false);
    assert_null(r);
  }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(matches_static_patterns_exactly),
      TEST(hands_out_parameters_in_order),
      TEST(takes_integers_in_their_shortest_form),
      TEST(takes_uuids_and_slugs),
      TEST(prefers_the_more_special_whatever_came_first),
      TEST(goes_back_where_a_choice_leads_nowhere),
      TEST(a_wildcard_takes_the_rest_even_nothing),
      TEST(tells_methods_apart),
      TEST(answers_head_from_get_unless_it_has_its_own),
      TEST(any_stands_for_what_has_no_route_of_its_own),
      TEST(looks_for_the_method_in_less_special_patterns),
      TEST(tells_what_all_routes_have_for_an_asterisk),
      TEST(refuses_equal_patterns_and_names_the_earlier),
      TEST(refuses_malformed_patterns),
      TEST(bounds_patterns),
      TEST(finds_each_of_many_routes),
      TEST(tries_every_choice_before_it_gives_up),
      TEST(allocates_nothing_to_match),
      TEST(a_failing_allocation_leaves_the_routes_that_were),
      TEST(making_one_can_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
