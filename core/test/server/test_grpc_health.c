/* test/server/test_grpc_health.c - grpc.health.v1 asked by a client in memory:
 * Check, Watch, List, and what is not a call.
 */
#include "base/alloc.h"
#include "server/grpc.h"
#include "server/grpc_health.h"
#include "test/net/h2_client.h"

#define SERVICES 120u

struct fixture {
  struct h2_client client;
  struct pl_h2 *h;
  struct pl_grpc_health health;
  struct pl_grpc_health_entry services[SERVICES];
  uint32_t service_count;
  const char *state;
  const char *token;
  uint32_t outputs;
};

static int source_status(void *arg, struct pl_slice service) {
  struct fixture *f = arg;

  for (uint32_t i = 0; i < f->service_count; i++)
    if (pl__slice_equal(f->services[i].service, service))
      return f->services[i].status;
  return PL_GRPC_SERVICE_UNKNOWN;
}

static uint32_t source_list(void *arg, struct pl_grpc_health_entry *to,
                            uint32_t max) {
  struct fixture *f = arg;

  for (uint32_t i = 0; i < f->service_count && i < max; i++)
    to[i] = f->services[i];
  return f->service_count;
}

static const char *source_state(void *arg) {
  return ((struct fixture *)arg)->state;
}

static struct pl_slice source_token(void *arg) {
  const char *token = ((struct fixture *)arg)->token;

  return pl__slice(token, token ? strlen(token) : 0);
}

static void on_request(void *arg, struct pl_h2_stream *s) {
  struct fixture *f = arg;

  pl__grpc_health_on_request(&f->health, s, f->client.now_ms);
}

static void on_drained(void *arg, struct pl_h2_stream *s) {
  pl__grpc_health_on_drained(&((struct fixture *)arg)->health, s);
}

static void on_closed(void *arg, struct pl_h2_stream *s) {
  pl__grpc_health_on_closed(&((struct fixture *)arg)->health, s);
}

static void on_output(void *arg) { ((struct fixture *)arg)->outputs++; }

static const struct pl_h2_events events = {on_request, on_drained, on_closed,
                                           on_output};

static void set_service(struct fixture *f, uint32_t i, const char *name,
                        int status) {
  f->services[i] =
      (struct pl_grpc_health_entry){pl__slice(name, strlen(name)), status};
  if (i >= f->service_count)
    f->service_count = i + 1;
}

static int set_up(void **state) {
  struct fixture *f = pl__alloc_zero(sizeof *f);
  struct pl_grpc_health_source source = {source_status, source_list,
                                         source_state, source_token, f};

  pl__grpc_health_init(&f->health, &source);
  f->h = pl__h2_open(&events, f);
  assert_non_null(f->h);
  h2_client_open(&f->client, f->h);
  set_service(f, 0, "", PL_GRPC_SERVING);
  set_service(f, 1, "db", PL_GRPC_NOT_SERVING);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;

  pl__h2_free(f->h);
  assert_true(pl__list_is_empty(&f->health.watchers));
  h2_client_close(&f->client);
  pl__free(f);
  return 0;
}

/* --- asking ------------------------------------------------------------- */

#define HEALTH "/grpc.health.v1.Health/"

static const char *const plain[] = {"content-type", "application/grpc", "te",
                                    "trailers", NULL};

/* Calls with bytes as they are. */
static struct h2_answer *call_raw(struct fixture *f, const char *path,
                                  const char *const *fields, const char *body,
                                  uint32_t bytes) {
  struct h2_upload u = {.at = body, .bytes = bytes, .total = bytes};
  uint32_t i = h2_client_submit(&f->client, path, fields, u);

  h2_client_pump(&f->client);
  return &f->client.answers[i];
}

/* A message in its prefix, in `to`. Returns its bytes. */
static uint32_t prefixed(char *to, const char *message, uint32_t bytes) {
  char prefix[5] = {0, 0, 0, (char)(bytes >> 8), (char)bytes};

  memcpy(to, prefix, 5);
  if (bytes)
    memcpy(to + 5, message, bytes);
  return bytes + 5;
}

/* Calls about a service. The body must live as long as the call is sent. */
static struct h2_answer *call_with(struct fixture *f, const char *path,
                                   const char *const *fields,
                                   const char *service) {
  char message[128], body[160];
  uint32_t n = (uint32_t)strlen(service);

  message[0] = 0x0a;
  message[1] = (char)n;
  memcpy(message + 2, service, n);
  return call_raw(f, path, fields, body,
                  prefixed(body, message, n ? n + 2 : 0));
}

static struct h2_answer *call(struct fixture *f, const char *path,
                              const char *service) {
  return call_with(f, path, plain, service);
}

/* --- what is answered --------------------------------------------------- */

#define BEGIN                                                                  \
  ":status: 200\ncontent-type: application/grpc\n"                             \
  "grpc-accept-encoding: identity\n"

static void assert_refused(const struct h2_answer *a, const char *end) {
  char wanted[512];

  snprintf(wanted, sizeof wanted, BEGIN "%s", end);
  assert_string_equal(wanted, a->fields); /* one block: trailers only */
  assert_int_equal(0, a->body_bytes);
  assert_true(a->closed);
  assert_int_equal(0, a->code);
}

/* The answer's body is these messages of one status each. */
static void assert_statuses(const struct h2_answer *a, const char *statuses) {
  uint32_t n = (uint32_t)strlen(statuses);

  assert_int_equal(n * 7, a->body_bytes);
  for (uint32_t i = 0; i < n; i++) {
    char wanted[7] = {0, 0, 0, 0, 2, 8, (char)(statuses[i] - '0')};
    assert_memory_equal(wanted, a->body + 7 * i, 7);
  }
}

/* --- Check -------------------------------------------------------------- */

static void check_tells_the_status_of_the_whole(void **state) {
  struct h2_answer *a = call(*state, HEALTH "Check", "");

  assert_statuses(a, "1");
  assert_string_equal(BEGIN "--\ngrpc-status: 0\n", a->fields);
  assert_true(a->closed);
}

static void check_tells_the_status_of_a_service(void **state) {
  assert_statuses(call(*state, HEALTH "Check", "db"), "2");
}

static void check_tells_the_same_byte_by_byte(void **state) {
  struct fixture *f = *state;

  f->client.piece = 1;
  assert_statuses(call(f, HEALTH "Check", "db"), "2");
}

static void check_refuses_an_unknown_service(void **state) {
  assert_refused(call(*state, HEALTH "Check", "nobody"),
                 "grpc-status: 5\ngrpc-message: unknown service\n");
}

static void check_tells_the_state_of_the_whole_in_a_trailer(void **state) {
  struct fixture *f = *state;

  f->state = "DEGRADED";
  assert_string_equal(BEGIN "--\ngrpc-status: 0\nx-health-state: DEGRADED\n",
                      call(f, HEALTH "Check", "")->fields);
  assert_refused(call(f, HEALTH "Check", "nobody"),
                 "grpc-status: 5\ngrpc-message: unknown service\n"
                 "x-health-state: DEGRADED\n");
}

static void check_takes_the_last_of_two_and_skips_unknown_fields(void **state) {
  struct fixture *f = *state;
  char body[64];
  static const char message[] = "\x0a\x02xx"             /* service = "xx" */
                                "\x10\xff\x01"           /* 2: varint */
                                "\x19\1\2\3\4\5\6\7\x08" /* 3: 64 bits */
                                "\x22\x03yyy"            /* 4: bytes */
                                "\x2d\1\2\3\4"           /* 5: 32 bits */
                                "\x0a\x02"
                                "db";
  uint32_t n = prefixed(body, message, sizeof message - 1);

  assert_statuses(call_raw(f, HEALTH "Check", plain, body, n), "2");
}

/* --- List --------------------------------------------------------------- */

static void list_tells_all(void **state) {
  struct fixture *f = *state;
  static const char wanted[] = "\0\0\0\0\x12"
                               "\x0a\x06\x0a\x00\x12\x02\x08\x01"
                               "\x0a\x08\x0a\x02"
                               "db\x12\x02\x08\x02";
  struct h2_answer *a = call(f, HEALTH "List", "");

  assert_int_equal(sizeof wanted - 1, a->body_bytes);
  assert_memory_equal(wanted, a->body, sizeof wanted - 1);
  assert_string_equal(BEGIN "--\ngrpc-status: 0\n", a->fields);
}

static void list_tells_a_hundred_and_no_more(void **state) {
  struct fixture *f = *state;
  static char names[SERVICES][200];

  for (uint32_t i = 0; i < 100; i++) {
    snprintf(names[i], sizeof names[i], "a name of some length %080u", i);
    set_service(f, i, names[i], PL_GRPC_SERVING);
  }
  assert_int_equal(5 + 100 * (102 + 8), call(f, HEALTH "List", "")->body_bytes);
  set_service(f, 100, "one more", PL_GRPC_SERVING);
  assert_refused(call(f, HEALTH "List", ""),
                 "grpc-status: 8\ngrpc-message: more than 100 services\n");
}

static void list_of_nothing_is_an_empty_message(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a;

  f->service_count = 0;
  a = call(f, HEALTH "List", "");
  assert_int_equal(5, a->body_bytes);
  assert_memory_equal("\0\0\0\0\0", a->body, 5);
}

/* --- Watch -------------------------------------------------------------- */

static void change(struct fixture *f, const char *name, int status) {
  for (uint32_t i = 0; i < f->service_count; i++)
    if (pl__slice_equal(f->services[i].service, pl__slice(name, strlen(name))))
      f->services[i].status = status;
  pl__grpc_health_changed(&f->health);
  h2_client_pump(&f->client);
}

static void watch_tells_the_status_and_its_changes(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = call(f, HEALTH "Watch", "db");

  assert_statuses(a, "2");
  change(f, "db", PL_GRPC_SERVING);
  assert_int_equal(2, f->outputs); /* the prefix, the message */
  assert_statuses(a, "21");
  change(f, "db", PL_GRPC_NOT_SERVING);
  assert_statuses(a, "212");
  assert_string_equal(BEGIN, a->fields);
  assert_false(a->closed);
}

static void watch_says_nothing_of_other_services(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = call(f, HEALTH "Watch", "db");

  change(f, "", PL_GRPC_NOT_SERVING);
  change(f, "db", PL_GRPC_NOT_SERVING);
  assert_statuses(a, "2");
  assert_int_equal(0, f->outputs);
}

static void watch_waits_for_a_service_that_is_unknown(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = call(f, HEALTH "Watch", "later");

  assert_statuses(a, "3");
  assert_false(a->closed);
  set_service(f, 2, "later", PL_GRPC_SERVING);
  change(f, "later", PL_GRPC_SERVING);
  assert_statuses(a, "31");
  f->service_count = 2;
  change(f, "later", 0);
  assert_statuses(a, "313");
}

static void watch_tells_a_slow_client_the_latest_only(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = call(f, HEALTH "Watch", "db");

  f->services[1].status = PL_GRPC_SERVING;
  pl__grpc_health_changed(&f->health); /* not taken */
  for (int i = 0; i < 1000; i++) {
    f->services[1].status = i % 2 ? PL_GRPC_SERVING : PL_GRPC_NOT_SERVING;
    pl__grpc_health_changed(&f->health);
  }
  f->services[1].status = PL_GRPC_NOT_SERVING;
  pl__grpc_health_changed(&f->health);
  h2_client_pump(&f->client);
  assert_statuses(a, "212");
}

static void watch_ends_at_its_deadline(void **state) {
  struct fixture *f = *state;
  const char *const fields[] = {"content-type", "application/grpc",
                                "grpc-timeout", "2S", NULL};
  struct h2_answer *a = call_with(f, HEALTH "Watch", fields, "");

  assert_int_equal(500,
                   pl__grpc_health_expire(&f->health, f->client.now_ms + 1500));
  h2_client_pump(&f->client);
  assert_false(a->closed);
  assert_int_equal(-1,
                   pl__grpc_health_expire(&f->health, f->client.now_ms + 2000));
  h2_client_pump(&f->client);
  assert_string_equal(
      BEGIN "--\ngrpc-status: 4\ngrpc-message: deadline exceeded\n", a->fields);
  assert_true(a->closed);
}

static void watch_refuses_a_malformed_timeout(void **state) {
  static const char *const bad[] = {"S",    "1",          "1s",  "-1S",
                                    "1.5S", "999999999S", "1 S", "0x1S"};
  struct fixture *f = *state;

  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *const fields[] = {"content-type", "application/grpc",
                                  "grpc-timeout", bad[i], NULL};
    assert_refused(call_with(f, HEALTH "Watch", fields, ""),
                   "grpc-status: 3\ngrpc-message: malformed grpc-timeout\n");
  }
}

static void watch_reads_every_unit_of_timeouts(void **state) {
  static const struct {
    const char *text;
    int64_t ms;
  } good[] = {{"1H", 3600000}, {"2M", 120000},
              {"3S", 3000},    {"4m", 4},
              {"5001u", 6},    {"7n", 1},
              {"0S", 0},       {"99999999H", 359999996400000}};
  struct fixture *f = *state;

  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    const char *const fields[] = {"content-type", "application/grpc",
                                  "grpc-timeout", good[i].text, NULL};
    struct h2_answer *a = call_with(f, HEALTH "Watch", fields, "");
    if (good[i].ms)
      pl__grpc_health_expire(&f->health, f->client.now_ms + good[i].ms - 1);
    h2_client_pump(&f->client);
    assert_true(!good[i].ms || !a->closed);
    pl__grpc_health_expire(&f->health, f->client.now_ms + good[i].ms);
    h2_client_pump(&f->client);
    assert_true(a->closed);
  }
}

static void watch_ends_when_the_client_cancels(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = call(f, HEALTH "Watch", "db");

  nghttp2_submit_rst_stream(f->client.session, 0, a->id, NGHTTP2_CANCEL);
  h2_client_pump(&f->client);
  assert_true(pl__list_is_empty(&f->health.watchers));
}

static void watch_ends_at_shutdown(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = call(f, HEALTH "Watch", "db");

  pl__grpc_health_close(&f->health);
  pl__h2_finish(f->h);
  h2_client_pump(&f->client);
  assert_string_equal(
      BEGIN "--\ngrpc-status: 14\ngrpc-message: shutting down\n", a->fields);
  assert_true(pl__h2_is_over(f->h));
}

/* --- what is no call ---------------------------------------------------- */

static void refuses_methods_that_are_not_there(void **state) {
  assert_refused(call(*state, HEALTH "Reset", ""),
                 "grpc-status: 12\ngrpc-message: unknown method\n");
  assert_refused(call(*state, "/other.Service/Check", ""),
                 "grpc-status: 12\ngrpc-message: unknown method\n");
}

static void refuses_what_is_not_posted(void **state) {
  static const char *const fields[] = {":method", "GET", "content-type",
                                       "application/grpc", NULL};

  assert_string_equal(":status: 405\nallow: POST\n",
                      call_raw(*state, HEALTH "Check", fields, "", 0)->fields);
}

static void refuses_other_types_of_content(void **state) {
  static const char *const json[] = {"content-type", "application/json", NULL};
  static const char *const near[] = {"content-type", "application/grpc-web",
                                     NULL};
  static const char *const none[] = {NULL};

  assert_string_equal(":status: 415\n",
                      call_with(*state, HEALTH "Check", json, "")->fields);
  assert_string_equal(":status: 415\n",
                      call_with(*state, HEALTH "Check", near, "")->fields);
  assert_string_equal(":status: 415\n",
                      call_with(*state, HEALTH "Check", none, "")->fields);
}

static void takes_the_type_with_proto_and_parameters(void **state) {
  static const char *const proto[] = {"content-type", "application/grpc+proto",
                                      NULL};
  static const char *const more[] = {"content-type",
                                     "application/grpc; charset=utf-8", NULL};

  assert_statuses(call_with(*state, HEALTH "Check", proto, ""), "1");
  assert_statuses(call_with(*state, HEALTH "Check", more, ""), "1");
}

static void refuses_malformed_messages(void **state) {
  static const struct {
    const char *body;
    uint32_t bytes;
  } bad[] = {
      {"\0\0\0\0\2\x0a\x05", 7},     /* a string past the end */
      {"\0\0\0\0\2\x0b\x0c", 7},     /* a group */
      {"\0\0\0\0\1\x0a", 6},         /* no length */
      {"\0\0\0\0\2\x00\x01", 7},     /* field 0 */
      {"\0\0\0\0\3\x19\x01\x01", 8}, /* 64 bits past the end */
      {"\0\0\0\0\2\x10\x80", 7},     /* a varint past the end */
      {"\0\0\0\0\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16},
  };

  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_refused(
        call_raw(*state, HEALTH "Check", plain, bad[i].body, bad[i].bytes),
        "grpc-status: 3\ngrpc-message: malformed message\n");
}

static void refuses_bodies_that_are_not_one_message(void **state) {
  assert_refused(call_raw(*state, HEALTH "Check", plain, "", 0),
                 "grpc-status: 3\ngrpc-message: the message is not complete\n");
  assert_refused(call_raw(*state, HEALTH "Check", plain, "\0\0\0\0", 4),
                 "grpc-status: 3\ngrpc-message: the message is not complete\n");
  assert_refused(call_raw(*state, HEALTH "Check", plain, "\0\0\0\0\2x", 6),
                 "grpc-status: 3\ngrpc-message: not one message\n");
  assert_refused(
      call_raw(*state, HEALTH "Check", plain, "\0\0\0\0\0\0\0\0\0\0", 10),
      "grpc-status: 3\ngrpc-message: not one message\n");
  assert_refused(call_raw(*state, HEALTH "Check", plain, "\7\0\0\0\0", 5),
                 "grpc-status: 3\ngrpc-message: not one message\n");
}

static void refuses_compressed_messages(void **state) {
  static const char *const gzip[] = {"content-type", "application/grpc",
                                     "grpc-encoding", "gzip", NULL};

  assert_refused(call_raw(*state, HEALTH "Check", gzip, "\1\0\0\0\1x", 6),
                 "grpc-status: 12\ngrpc-message: the message is compressed\n");
  assert_refused(call_raw(*state, HEALTH "Check", plain, "\1\0\0\0\1x", 6),
                 "grpc-status: 13\ngrpc-message: the message is compressed\n");
  assert_statuses(call_with(*state, HEALTH "Check", gzip, ""), "1");
}

static void refuses_messages_that_are_too_large(void **state) {
  struct fixture *f = *state;
  struct h2_upload u = {.at = "\0\0\2\0\0", .bytes = 5, .total = 131077};
  uint32_t i = h2_client_submit(&f->client, HEALTH "Check", plain, u);

  h2_client_pump(&f->client);
  assert_string_equal(BEGIN "grpc-status: 8\ngrpc-message: the message is too "
                            "large\n",
                      f->client.answers[i].fields);
  assert_true(f->client.answers[i].closed);
}

#define UNAUTHENTICATED                                                        \
  "grpc-status: 16\ngrpc-message: a bearer token is needed\n"

static void watch_and_list_ask_for_the_token_where_one_is_set(void **state) {
  struct fixture *f = *state;
  static const char *const good[] = {"content-type", "application/grpc",
                                     "authorization", "bearer s3cret", NULL};
  static const char *const values[] = {"Bearer s3creT",  "Bearer s3cre",
                                       "Bearer s3crets", "Basic s3cret",
                                       "s3cret",         ""};

  f->token = "s3cret";
  assert_statuses(call_with(f, HEALTH "Watch", good, "db"), "2");
  assert_int_equal(23, call_with(f, HEALTH "List", good, "")->body_bytes);
  assert_refused(call(f, HEALTH "Watch", ""), UNAUTHENTICATED);
  assert_refused(call(f, HEALTH "List", ""), UNAUTHENTICATED);
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    const char *const fields[] = {"content-type", "application/grpc",
                                  "authorization", values[i], NULL};
    assert_refused(call_with(f, HEALTH "Watch", fields, ""), UNAUTHENTICATED);
    assert_refused(call_with(f, HEALTH "Reset", fields, ""), UNAUTHENTICATED);
  }
}

static void check_is_open_but_for_the_state_of_the_whole(void **state) {
  struct fixture *f = *state;
  static const char *const good[] = {"content-type", "application/grpc",
                                     "authorization", "Bearer s3cret", NULL};
  struct h2_answer *a;

  f->token = "s3cret";
  f->state = "HEALTHY";
  a = call(f, HEALTH "Check", "db");
  assert_statuses(a, "2");
  assert_string_equal(BEGIN "--\ngrpc-status: 0\n", a->fields);
  assert_string_equal(BEGIN "--\ngrpc-status: 0\nx-health-state: HEALTHY\n",
                      call_with(f, HEALTH "Check", good, "")->fields);
}

/* --- memory ------------------------------------------------------------- */

static void survives_each_allocation_that_fails(void **state) {
  (void)state;
  for (uint64_t n = 1;; n++) {
    struct fixture *f;
    uint64_t failed;

    set_up((void **)&f);
    pl__alloc_fail_after(n, false);
    call(f, HEALTH "Check", "db");
    call(f, HEALTH "Watch", "db");
    call(f, HEALTH "List", "db");
    change(f, "db", PL_GRPC_SERVING);
    pl__grpc_health_close(&f->health);
    h2_client_pump(&f->client);
    failed = pl__alloc_fail_count();
    pl__alloc_fail_after(0, false);
    tear_down((void **)&f);
    if (!failed)
      break;
    assert_true(n < 1000);
  }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(check_tells_the_status_of_the_whole),
      TEST(check_tells_the_status_of_a_service),
      TEST(check_tells_the_same_byte_by_byte),
      TEST(check_refuses_an_unknown_service),
      TEST(check_tells_the_state_of_the_whole_in_a_trailer),
      TEST(check_takes_the_last_of_two_and_skips_unknown_fields),
      TEST(list_tells_all),
      TEST(list_tells_a_hundred_and_no_more),
      TEST(list_of_nothing_is_an_empty_message),
      TEST(watch_tells_the_status_and_its_changes),
      TEST(watch_says_nothing_of_other_services),
      TEST(watch_waits_for_a_service_that_is_unknown),
      TEST(watch_tells_a_slow_client_the_latest_only),
      TEST(watch_ends_at_its_deadline),
      TEST(watch_refuses_a_malformed_timeout),
      TEST(watch_reads_every_unit_of_timeouts),
      TEST(watch_ends_when_the_client_cancels),
      TEST(watch_ends_at_shutdown),
      TEST(refuses_methods_that_are_not_there),
      TEST(refuses_what_is_not_posted),
      TEST(refuses_other_types_of_content),
      TEST(takes_the_type_with_proto_and_parameters),
      TEST(refuses_malformed_messages),
      TEST(refuses_bodies_that_are_not_one_message),
      TEST(refuses_compressed_messages),
      TEST(refuses_messages_that_are_too_large),
      TEST(watch_and_list_ask_for_the_token_where_one_is_set),
      TEST(check_is_open_but_for_the_state_of_the_whole),
      cmocka_unit_test(survives_each_allocation_that_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
