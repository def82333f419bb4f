/* bench/context/host.c - what the context of a request costs: reading it from
 * the fields of a real head (extract), writing what goes out (inject).
 *
 * Usage: context ROUNDS
 *
 * Prints for each kind of head "name=... extract_ns=... inject_ns=...", medians
 * over ROUNDS of a million requests each, by the CPU time of the thread.  The
 * head is read by the server's own parser, once.
 */
#define _GNU_SOURCE
#include "base/clock.h"
#include "http/baggage.h"
#include "http/parser.h"
#include "http/trace_context.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REQUESTS 1000000
#define ROUNDS_MAX 99

#define USUAL                                                                  \
  "GET /notes/7 HTTP/1.1\r\nHost: notes.example\r\nUser-Agent: curl/8.5.0\r\n" \
  "Accept: application/json\r\nAccept-Encoding: gzip, br\r\n"                  \
  "Accept-Language: en\r\nConnection: keep-alive\r\nX-Forwarded-For: "         \
  "203.0.113.9\r\n"
#define PARENT                                                                 \
  "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
#define REST                                                                   \
  "tracestate: rojo=00f067aa0ba902b7,congo=t61rcWkgMzE\r\n"                    \
  "baggage: userId=alice,serverNode=DF%2028,isProduction=false\r\n"
#define CLAIMS                                                                 \
  "X-Request-Id: 7b44cdcf-9d1e-4a5c-8d7e-0a1b2c3d4e5f\r\nX-Tenant: acme\r\n"   \
  "X-Tier: high\r\n"

static const struct {
  const char *name, *head, *trusted;
} kinds[] = {
    {"none", USUAL "\r\n", ""},
    {"traceparent", USUAL PARENT "\r\n", ""},
    {"all_three", USUAL PARENT REST "\r\n", ""},
    {"trusted", USUAL PARENT REST CLAIMS "\r\n", "10.0.0.0/8"},
};

static struct pl_header headers[100];
static struct pl_req req;
static struct pl_random random_numbers;
static char text[4096];

static void parse(const char *head) {
  static union pl_parser_room room;
  static const struct pl_parser_limits limits = {8192, 32768, 100};
  struct pl_parser *p = (struct pl_parser *)&room;
  uint32_t used;

  memset(&req, 0, sizeof req);
  req.headers = headers;
  strcpy(text, head);
  pl__parser_init(p, &limits);
  if (pl__parser_run(p, &req, text, (uint32_t)strlen(text), &used) !=
      PL_PARSE_HEAD)
    exit(1);
}

static double cpu_ns(void) {
  struct timespec t;

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint32_t inject(char *out) {
  const struct pl_header *fields = req.headers + req.context.passes_at;
  uint32_t count = req.header_count - req.context.passes_at;
  uint32_t bytes = PL_TRACEPARENT_BYTES;

  pl__traceparent_put(&req.context, out);
  if (req.context.passes & PL_PASSES_STATE)
    bytes += pl__tracestate_put(fields, count, out + bytes);
  if (req.context.passes & PL_PASSES_BAGGAGE)
    bytes += pl__baggage_put(fields, count, out + bytes);
  return bytes;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;

  return (x > y) - (x < y);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, by_value);
  return values[count / 2];
}

static void measure(const char *name, const char *trusted, int rounds) {
  static char out[16384];
  struct pl_context_rules rules = {.request_id = PL_SLICE("X-Request-Id"),
                                   .tenant = PL_SLICE("X-Tenant"),
                                   .tier = PL_SLICE("X-Tier")};
  struct pl_peer peer = {.family = PL_PEER_IPV4, .address = {10, 1, 2, 3}};
  double reads[ROUNDS_MAX], writes[ROUNDS_MAX];
  volatile uint64_t sink = 0;

  pl__networks_parse(&rules.trusted, trusted);
  for (int round = 0; round < rounds; round++) {
    double start = cpu_ns();
    for (int i = 0; i < REQUESTS; i++) {
      memset(&req.context, 0, offsetof(struct pl_context, tenant));
      pl__context_extract(&req, &rules, &peer, &random_numbers);
      sink += req.context.span_id;
    }
    reads[round] = (cpu_ns() - start) / REQUESTS;
    start = cpu_ns();
    for (int i = 0; i < REQUESTS; i++)
      sink += inject(out) + (uint64_t)out[40];
    writes[round] = (cpu_ns() - start) / REQUESTS;
  }
  printf("name=%s fields=%u extract_ns=%.1f inject_ns=%.1f\n", name,
         req.header_count, median(reads, rounds), median(writes, rounds));
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 9;

  if (rounds < 1 || rounds > ROUNDS_MAX)
    return 2;
  pl__random_seed(&random_numbers);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    parse(kinds[i].head);
    measure(kinds[i].name, kinds[i].trusted, rounds);
  }
  return 0;
}
