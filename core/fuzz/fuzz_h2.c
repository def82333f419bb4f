/* fuzz/fuzz_h2.c - HTTP/2 sessions that answer gRPC health, fed with anything.
 *
 * The input is what a client sends; its first byte says in which pieces.  A
 * byte 0xa5 put before the preface leaves the preface to the fuzzer, else it is
 * sent first, with empty settings, so that frames are reached.  Between pieces
 * what the session says is taken, or not, and health changes.
 */
#include "net/h2.h"
#include "server/grpc_health.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

struct run {
  struct pl_h2 *h;
  struct pl_grpc_health health;
  int64_t now_ms;
  int status;
  uint32_t open;
};

static int source_status(void *arg, struct pl_slice service) {
  struct run *r = arg;

  return service.bytes > 4 ? PL_GRPC_SERVICE_UNKNOWN : r->status;
}

static uint32_t source_list(void *arg, struct pl_grpc_health_entry *to,
                            uint32_t max) {
  (void)arg;
  CHECK(max > 1);
  to[0] = (struct pl_grpc_health_entry){PL_SLICE(""), PL_GRPC_SERVING};
  to[1] = (struct pl_grpc_health_entry){PL_SLICE("db"), PL_GRPC_NOT_SERVING};
  return 2;
}

static void on_request(void *arg, struct pl_h2_stream *s) {
  struct run *r = arg;

  r->open++;
  pl__grpc_health_on_request(&r->health, s, r->now_ms);
}

static void on_drained(void *arg, struct pl_h2_stream *s) {
  pl__grpc_health_on_drained(&((struct run *)arg)->health, s);
}

static void on_closed(void *arg, struct pl_h2_stream *s) {
  struct run *r = arg;

  r->open--;
  pl__grpc_health_on_closed(&r->health, s);
}

static void on_output(void *arg) { (void)arg; }

static const struct pl_h2_events events = {on_request, on_drained, on_closed,
                                           on_output};

static void take_all(struct run *r) {
  while (pl__h2_take(r->h).bytes)
    continue;
}

static void turn(struct run *r, uint32_t seed) {
  r->now_ms += seed % 64 ? seed % 50 : PL_H2_REQUEST_MS;
  if (seed & 0x100) {
    r->status =
        r->status == PL_GRPC_SERVING ? PL_GRPC_NOT_SERVING : PL_GRPC_SERVING;
    pl__grpc_health_changed(&r->health);
  }
  pl__grpc_health_expire(&r->health, r->now_ms);
  pl__h2_expire(r->h, r->now_ms);
  if (seed & 0x600)
    take_all(r);
}

static void feed(struct run *r, const char *at, uint32_t bytes,
                 uint32_t piece_max) {
  uint32_t seed = 2166136261u;

  while (bytes) {
    seed = (seed ^ (uint8_t)*at) * 16777619u;
    uint32_t n = 1 + (seed >> 13) % piece_max;
    n = n < bytes ? n : bytes;
    if (pl__h2_feed(r->h, pl__slice(at, n), r->now_ms))
      return;
    turn(r, seed);
    CHECK(r->open <= pl__h2_stream_count(r->h));
    CHECK(pl__h2_stream_count(r->h) <= PL_H2_STREAM_COUNT);
    at += n;
    bytes -= n;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  static const char begin[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                              "\0\0\0\4\0\0\0\0\0";
  struct run r = {.now_ms = 1000, .status = PL_GRPC_SERVING};
  struct pl_grpc_health_source source = {source_status, source_list, NULL, NULL,
                                         &r};
  const char *text = (const char *)at;

  if (!bytes || bytes > 131072)
    return 0;
  pl__grpc_health_init(&r.health, &source);
  r.h = pl__h2_open(&events, &r);
  CHECK(r.h);
  if (at[0] != 0xa5)
    feed(&r, begin, sizeof begin - 1, 64);
  feed(&r, text + 1, (uint32_t)bytes - 1, at[0] ? 1024u : 1u);
  take_all(&r);
  pl__grpc_health_close(&r.health);
  take_all(&r);
  pl__h2_free(r.h);
  CHECK(r.open == 0);
  CHECK(pl__list_is_empty(&r.health.watchers));
  return 0;
}
