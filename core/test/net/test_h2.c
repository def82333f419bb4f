/* test/net/test_h2.c - HTTP/2 sessions against a client in memory: requests,
 * responses, limits, floods.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "test/net/h2_client.h"

struct fixture {
  struct h2_client client;
  struct pl_h2 *h;
  struct pl_h2_stream *streams[H2_CLIENT_ANSWERS]; /* told, still open */
  uint32_t told, closed, outputs, drained;
  bool holds;    /* does not answer */
  bool is_cut;   /* the last one told */
  char seen[64]; /* the body of the last one told */
};

static const struct pl_h2_field ok[] = {{{":status", 7}, {"200", 3}}};
static const char *const none[] = {NULL};

static void on_request(void *arg, struct pl_h2_stream *s) {
  struct fixture *f = arg;
  struct pl_slice body = pl__h2_body(s);
  struct pl_h2_field trailer = {PL_SLICE("done"), PL_SLICE("yes")};

  f->streams[f->told++] = s;
  f->is_cut = pl__h2_is_cut(s);
  snprintf(f->seen, sizeof f->seen, "%.*s", (int)body.bytes,
           body.bytes ? body.at : "");
  if (f->holds)
    return;
  assert_int_equal(0, pl__h2_respond(s, ok, 1, false));
  assert_int_equal(0, pl__h2_push(s, pl__h2_field(s, ":path")));
  assert_int_equal(0, pl__h2_end(s, &trailer, 1));
}

static void on_drained(void *arg, struct pl_h2_stream *s) {
  struct fixture *f = arg;

  (void)s;
  f->drained++;
}

static void on_closed(void *arg, struct pl_h2_stream *s) {
  struct fixture *f = arg;

  for (uint32_t i = 0; i < f->told; i++)
    if (f->streams[i] == s)
      f->streams[i] = NULL;
  f->closed++;
}

static void on_output(void *arg) {
  struct fixture *f = arg;

  f->outputs++;
}

static const struct pl_h2_events events = {on_request, on_drained, on_closed,
                                           on_output};

static int set_up(void **state) {
  struct fixture *f = pl__alloc_zero(sizeof *f);

  f->h = pl__h2_open(&events, f);
  assert_non_null(f->h);
  h2_client_open(&f->client, f->h);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;

  if (f->h)
    pl__h2_free(f->h);
  assert_int_equal(f->told, f->closed);
  h2_client_close(&f->client);
  pl__free(f);
  return 0;
}

static struct h2_upload body_of(const char *text) {
  return (struct h2_upload){.at = text,
                            .bytes = (uint32_t)strlen(text),
                            .total = (uint32_t)strlen(text)};
}

static struct h2_answer *ask(struct fixture *f, const char *path,
                             struct h2_upload u) {
  uint32_t i = h2_client_submit(&f->client, path, none, u);

  h2_client_pump(&f->client);
  return &f->client.answers[i];
}

/* --- the preface -------------------------------------------------------- */

static void tells_the_preface_byte_by_byte(void **state) {
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more";

  (void)state;
  for (uint32_t n = 0; n < 24; n++)
    assert_int_equal(PL_H2_PREFACE_MORE, pl__h2_preface(pl__slice(preface, n)));
  assert_int_equal(PL_H2_PREFACE_YES, pl__h2_preface(pl__slice(preface, 24)));
  assert_int_equal(PL_H2_PREFACE_YES, pl__h2_preface(pl__slice(preface, 30)));
}

static void tells_http_1_from_the_preface(void **state) {
  (void)state;
  assert_int_equal(PL_H2_PREFACE_NO, pl__h2_preface(PL_SLICE("G")));
  assert_int_equal(PL_H2_PREFACE_NO, pl__h2_preface(PL_SLICE("PROPFIND / ")));
  assert_int_equal(PL_H2_PREFACE_NO,
                   pl__h2_preface(PL_SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r.")));
}

/* --- requests and responses --------------------------------------------- */

static void answers_a_request_with_body_and_trailers(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = ask(f, "/a", body_of("hello"));

  assert_string_equal("hello", f->seen);
  assert_string_equal(":status: 200\n--\ndone: yes\n", a->fields);
  assert_memory_equal("/a", a->body, 2);
  assert_int_equal(2, a->body_bytes);
  assert_true(a->closed);
  assert_int_equal(0, a->code);
}

static void answers_the_same_however_the_bytes_are_cut(void **state) {
  struct fixture *f = *state;

  f->client.piece = 1;
  struct h2_answer *a = ask(f, "/a", body_of("hello"));
  assert_string_equal("hello", f->seen);
  assert_string_equal(":status: 200\n--\ndone: yes\n", a->fields);
  assert_true(a->closed);
}

static void answers_a_request_without_a_body(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = ask(f, "/b", (struct h2_upload){0});

  assert_string_equal("", f->seen);
  assert_true(a->closed);
}

static void answers_many_at_once(void **state) {
  struct fixture *f = *state;

  for (int i = 0; i < 80; i++)
    h2_client_submit(&f->client, "/many", none, body_of("x"));
  h2_client_pump(&f->client);
  assert_int_equal(80, f->told);
  assert_int_equal(80, f->closed);
  for (int i = 0; i < 80; i++)
    assert_true(f->client.answers[i].closed);
}

static void pushes_later_and_says_that_there_is_output(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a;

  f->holds = true;
  a = ask(f, "/", body_of("x"));
  assert_int_equal(0, f->outputs);
  assert_int_equal(0, pl__h2_respond(f->streams[0], ok, 1, false));
  assert_int_equal(1, f->outputs);
  h2_client_pump(&f->client);
  assert_string_equal(":status: 200\n", a->fields);
  assert_int_equal(0, pl__h2_push(f->streams[0], PL_SLICE("one")));
  h2_client_pump(&f->client);
  assert_int_equal(3, a->body_bytes);
  assert_true(f->drained > 0);
  assert_false(a->closed);
  assert_int_equal(0, pl__h2_end(f->streams[0], NULL, 0));
  h2_client_pump(&f->client);
  assert_true(a->closed);
  assert_int_equal(3, f->outputs);
}

static void stops_the_output_at_its_limit(void **state) {
  struct fixture *f = *state;
  static char bytes[PL_H2_OUTPUT_BYTES];

  f->holds = true;
  ask(f, "/", body_of("x"));
  assert_int_equal(0, pl__h2_respond(f->streams[0], ok, 1, false));
  assert_int_equal(0,
                   pl__h2_push(f->streams[0], pl__slice(bytes, sizeof bytes)));
  assert_int_equal(PL_EFULL, pl__h2_push(f->streams[0], PL_SLICE("x")));
}

static void finds_fields_by_their_name(void **state) {
  struct fixture *f = *state;
  const char *const fields[] = {"x-a", "1", "x-b", "", "x-a", "2", NULL};

  f->holds = true;
  h2_client_submit(&f->client, "/p", fields, body_of("x"));
  h2_client_pump(&f->client);
  struct pl_h2_stream *s = f->streams[0];
  assert_true(pl__slice_equal(PL_SLICE("1"), pl__h2_field(s, "x-a")));
  assert_true(pl__slice_equal(PL_SLICE("POST"), pl__h2_field(s, ":method")));
  assert_non_null(pl__h2_field(s, "x-b").at);
  assert_int_equal(0, pl__h2_field(s, "x-b").bytes);
  assert_null(pl__h2_field(s, "x-c").at);
}

static void frees_streams_that_the_client_resets(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a;

  f->holds = true;
  a = ask(f, "/", body_of("x"));
  assert_int_equal(1, pl__h2_stream_count(f->h));
  nghttp2_submit_rst_stream(f->client.session, 0, a->id, NGHTTP2_CANCEL);
  h2_client_pump(&f->client);
  assert_int_equal(0, pl__h2_stream_count(f->h));
  assert_int_equal(1, f->closed);
}

static void tells_of_open_streams_when_it_is_freed(void **state) {
  struct fixture *f = *state;

  f->holds = true;
  ask(f, "/", body_of("x"));
  pl__h2_free(f->h);
  f->h = NULL;
  assert_int_equal(1, f->closed);
}

/* --- the end ------------------------------------------------------------ */

static void finishes_once_the_open_streams_have_ended(void **state) {
  struct fixture *f = *state;

  f->holds = true;
  ask(f, "/", body_of("x"));
  pl__h2_finish(f->h);
  h2_client_pump(&f->client);
  assert_true(f->client.told_goaway);
  assert_int_equal(NGHTTP2_NO_ERROR, f->client.goaway_code);
  assert_false(pl__h2_is_over(f->h));
  assert_int_equal(0, pl__h2_respond(f->streams[0], ok, 1, true));
  h2_client_pump(&f->client);
  assert_true(pl__h2_is_over(f->h));
}

static void resets_a_request_that_does_not_become_complete(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a =
      ask(f, "/", (struct h2_upload){.at = "x", .total = 1, .open = true});

  pl__h2_expire(f->h, f->client.now_ms + PL_H2_REQUEST_MS - 1);
  h2_client_pump(&f->client);
  assert_false(a->closed);
  pl__h2_expire(f->h, f->client.now_ms + PL_H2_REQUEST_MS);
  h2_client_pump(&f->client);
  assert_true(a->closed);
  assert_int_equal(NGHTTP2_CANCEL, a->code);
  assert_int_equal(0, f->told);
}

static void refuses_bytes_that_are_not_http_2(void **state) {
  struct fixture *f = *state;

  h2_client_feed(&f->client, "GET / HTTP/1.1\r\n\r\n", 18);
  assert_int_equal(PL_EBAD, f->client.status);
}

/* --- limits ------------------------------------------------------------- */

static void tells_a_body_at_its_limit_whole(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a =
      ask(f, "/", (struct h2_upload){.total = PL_H2_BODY_BYTES});

  assert_false(f->is_cut);
  assert_true(a->closed);
  assert_int_equal(0, a->code);
}

static void tells_a_larger_body_as_cut_and_wants_no_more_of_it(void **state) {
  struct fixture *f = *state;
  struct h2_answer *a = ask(
      f, "/", (struct h2_upload){.total = PL_H2_BODY_BYTES + 1, .open = true});

  assert_int_equal(1, f->told);
  assert_true(f->is_cut);
  assert_string_equal(":status: 200\n--\ndone: yes\n", a->fields);
  assert_true(a->closed);
  assert_int_equal(NGHTTP2_NO_ERROR, a->code);
  assert_int_equal(0, pl__h2_stream_count(f->h));
}

static void refuses_a_head_that_is_too_large(void **state) {
  struct fixture *f = *state;
  static char value[4001];
  const char *const fields[] = {"x-1", value, "x-2", value, "x-3", value,
                                "x-4", value, "x-5", value, NULL};

  memset(value, 'v', sizeof value - 1);
  h2_client_submit(&f->client, "/", fields, body_of("x"));
  h2_client_pump(&f->client);
  assert_int_equal(0, f->told);
  assert_string_equal(":status: 431\n", f->client.answers[0].fields);
  assert_true(f->client.answers[0].closed);
  assert_string_equal(":status: 200\n--\ndone: yes\n",
                      ask(f, "/", body_of("x"))->fields);
}

static void refuses_streams_that_would_hold_too_much(void **state) {
  struct fixture *f = *state;
  uint32_t refused = 0;

  for (int i = 0; i < 8; i++)
    ask(f, "/", (struct h2_upload){.total = 60000, .open = true});
  for (uint32_t i = 0; i < 8; i++)
    refused += f->client.answers[i].code == NGHTTP2_REFUSED_STREAM;
  assert_int_equal(4, refused); /* of 480,000 bytes 262,144 may be held */
  assert_int_equal(4, pl__h2_stream_count(f->h));
  assert_false(f->client.told_goaway);
}

static void tells_the_client_how_many_streams_there_may_be(void **state) {
  struct fixture *f = *state;

  f->holds = true;
  for (int i = 0; i < 120; i++)
    h2_client_submit(&f->client, "/", none, body_of("x"));
  h2_client_pump(&f->client);
  /* The client of nghttp2 keeps the limit by itself, once it knows it. */
  assert_int_equal(
      PL_H2_STREAM_COUNT,
      nghttp2_session_get_remote_settings(
          f->client.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS));
  assert_true(pl__h2_stream_count(f->h) <= PL_H2_STREAM_COUNT);
}

/* --- floods ------------------------------------------------------------- */

static void assert_calmed(struct fixture *f) {
  while (h2_client_hear(&f->client))
    continue;
  assert_true(f->client.told_goaway);
  assert_int_equal(NGHTTP2_ENHANCE_YOUR_CALM, f->client.goaway_code);
  assert_true(pl__h2_is_over(f->h));
}

/* Sends a frame with that many zeros for payload, `times`. */
static void flood(struct fixture *f, uint8_t type, uint8_t flags,
                  uint8_t stream, uint8_t payload_bytes, int times) {
  char frame[9 + 255] = {0, 0, (char)payload_bytes, (char)type, (char)flags, 0,
                         0, 0, (char)stream};

  h2_client_pump(&f->client);
  for (int i = 0; i < times && !f->client.status; i++) {
    h2_client_feed(&f->client, frame, 9u + payload_bytes);
    h2_client_hear(&f->client); /* what it makes the server say is taken */
  }
}

static void closes_on_a_flood_of_pings(void **state) {
  flood(*state, NGHTTP2_PING, 0, 0, 8, PL_H2_TOKENS + 10);
  assert_calmed(*state);
}

static void closes_on_a_flood_of_settings(void **state) {
  flood(*state, NGHTTP2_SETTINGS, 0, 0, 0, PL_H2_TOKENS + 10);
  assert_calmed(*state);
}

static void closes_on_a_flood_of_unknown_frames(void **state) {
  /* They are ignored, so what they cost is their bytes. */
  flood(*state, 0xbe, 0, 0, 247, 4 * PL_H2_TOKENS + 10);
  assert_calmed(*state);
}

static void closes_on_a_flood_of_empty_data(void **state) {
  struct fixture *f = *state;

  ask(f, "/", (struct h2_upload){.at = "x", .total = 1, .open = true});
  flood(f, NGHTTP2_DATA, 0, 1, 0, PL_H2_TOKENS + 10);
  assert_calmed(f);
}

static void bears_pings_that_time_allows(void **state) {
  struct fixture *f = *state;

  for (int i = 0; i < 60; i++) {
    flood(f, NGHTTP2_PING, 0, 0, 8, PL_H2_TOKENS_PER_S);
    f->client.now_ms += 1000;
  }
  assert_false(f->client.told_goaway);
}

static void refuses_to_gather_answers_nobody_takes(void **state) {
  struct fixture *f = *state;
  static const char ping[17] = {0, 0, 8, NGHTTP2_PING};

  h2_client_pump(&f->client);
  for (int i = 0; i < PL_H2_TOKENS && !f->client.status; i++)
    h2_client_feed(&f->client, ping, sizeof ping);
  assert_int_equal(PL_EBAD, f->client.status);
}

/* CVE-2023-44487. */
static void closes_on_streams_opened_to_be_reset(void **state) {
  struct fixture *f = *state;

  for (uint32_t i = 0; i < PL_H2_RESET_BURST + 10 && !f->client.told_goaway;
       i++) {
    uint32_t n = h2_client_submit(&f->client, "/", none, body_of("x"));
    h2_client_say(&f->client);
    nghttp2_submit_rst_stream(f->client.session, 0, f->client.answers[n].id,
                              NGHTTP2_CANCEL);
    h2_client_pump(&f->client);
  }
  assert_true(f->client.told_goaway);
  assert_true(pl__h2_is_over(f->h));
}

/* CVE-2025-8671: a window that grows too far is a fault of the stream. */
static void closes_on_streams_that_it_is_made_to_reset(void **state) {
  struct fixture *f = *state;

  f->holds = true;
  h2_client_pump(&f->client);
  for (int i = 0; i < 100 && !f->client.told_goaway; i++) {
    uint32_t n = h2_client_submit(&f->client, "/", none, body_of("x"));
    char frame[13] = {0, 0, 4, NGHTTP2_WINDOW_UPDATE, 0};
    int32_t id = f->client.answers[n].id;
    frame[7] = (char)(id >> 8);
    frame[8] = (char)id;
    memcpy(frame + 9, "\x7f\xff\xff\xff", 4);
    while (h2_client_say(&f->client))
      continue;
    h2_client_feed(&f->client, frame, sizeof frame);
    h2_client_pump(&f->client);
  }
  assert_calmed(f);
}

/* CVE-2024-28182. */
static void closes_on_a_head_of_endless_frames(void **state) {
  struct fixture *f = *state;
  static const char head[] = {0, 0, 1, NGHTTP2_HEADERS, 0, 0,
                              0, 0, 1, (char)0x82};
  static const char more[] = {0, 0, 0, NGHTTP2_CONTINUATION, 0, 0, 0, 0, 1};

  h2_client_pump(&f->client);
  h2_client_feed(&f->client, head, sizeof head);
  for (int i = 0; i < 20 && !f->client.status; i++)
    h2_client_feed(&f->client, more, sizeof more);
  assert_int_equal(PL_EBAD, f->client.status);
}

/* --- memory ------------------------------------------------------------- */

/* With the n-th allocation failing: no crash, and all is freed (the sanitizers
 * look). */
static void survives_each_allocation_that_fails(void **state) {
  (void)state;
  for (uint64_t n = 1;; n++) {
    struct fixture *f = pl__alloc_zero(sizeof *f);
    uint64_t failed;
    pl__alloc_fail_after(n, false);
    f->h = pl__h2_open(&events, f);
    if (f->h) {
      f->holds = true; /* its asserts are for those that do not fail */
      h2_client_open(&f->client, f->h);
      h2_client_submit(&f->client, "/", none, body_of("hello"));
      h2_client_pump(&f->client);
      if (f->told && f->streams[0]) {
        struct pl_h2_stream *s = f->streams[0];
        struct pl_h2_field t = {PL_SLICE("done"), PL_SLICE("yes")};
        if (pl__h2_respond(s, ok, 1, false) || pl__h2_push(s, PL_SLICE("hi")) ||
            pl__h2_end(s, &t, 1))
          pl__h2_reset(s, PL_H2_INTERNAL_ERROR);
        h2_client_pump(&f->client);
      }
      pl__h2_free(f->h);
      h2_client_close(&f->client);
    }
    failed = pl__alloc_fail_count();
    pl__alloc_fail_after(0, false);
    assert_int_equal(f->told, f->closed);
    pl__free(f);
    if (!failed)
      break;
    assert_true(n < 1000);
  }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tells_the_preface_byte_by_byte),
      cmocka_unit_test(tells_http_1_from_the_preface),
      TEST(answers_a_request_with_body_and_trailers),
      TEST(answers_the_same_however_the_bytes_are_cut),
      TEST(answers_a_request_without_a_body),
      TEST(answers_many_at_once),
      TEST(pushes_later_and_says_that_there_is_output),
      TEST(stops_the_output_at_its_limit),
      TEST(finds_fields_by_their_name),
      TEST(frees_streams_that_the_client_resets),
      TEST(tells_of_open_streams_when_it_is_freed),
      TEST(finishes_once_the_open_streams_have_ended),
      TEST(resets_a_request_that_does_not_become_complete),
      TEST(refuses_bytes_that_are_not_http_2),
      TEST(tells_a_body_at_its_limit_whole),
      TEST(tells_a_larger_body_as_cut_and_wants_no_more_of_it),
      TEST(refuses_a_head_that_is_too_large),
      TEST(refuses_streams_that_would_hold_too_much),
      TEST(tells_the_client_how_many_streams_there_may_be),
      TEST(closes_on_a_flood_of_pings),
      TEST(closes_on_a_flood_of_settings),
      TEST(closes_on_a_flood_of_unknown_frames),
      TEST(closes_on_a_flood_of_empty_data),
      TEST(bears_pings_that_time_allows),
      TEST(refuses_to_gather_answers_nobody_takes),
      TEST(closes_on_streams_opened_to_be_reset),
      TEST(closes_on_streams_that_it_is_made_to_reset),
      TEST(closes_on_a_head_of_endless_frames),
      cmocka_unit_test(survives_each_allocation_that_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
