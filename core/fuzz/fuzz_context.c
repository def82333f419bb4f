/* fuzz/fuzz_context.c - traceparent, tracestate, baggage and what trusted peers
 * claim.
 *
 * Each line of the input is a field: its first byte stands for the name, the
 * rest is the value.  Whatever comes in, a valid context comes out; and what
 * would be sent on is read by the same rules without a change.
 */
#include "http/trace_context.h"

#include <stdio.h>
#include <stdlib.h>

#include "http/baggage.h"
#include "http/headers.h"

#define BYTES_MAX 20000u
#define FIELDS_MAX 40u

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

static struct pl_header fields[FIELDS_MAX];

static struct pl_slice name_of(char c) {
  switch (c) {
  case 't':
    return PL_SLICE("TraceParent");
  case 's':
    return PL_SLICE("tracestate");
  case 'b':
    return PL_SLICE("baggage");
  case 'i':
    return PL_SLICE("X-Request-Id");
  case 'n':
    return PL_SLICE("x-tenant");
  case 'r':
    return PL_SLICE("X-Tier");
  default:
    return PL_SLICE("tracestatf");
  }
}

/* Values without control characters, as the parser lets them through. */
static uint32_t read_fields(struct pl_slice input) {
  uint32_t count = 0;

  while (input.bytes && count < FIELDS_MAX) {
    const char *end = memchr(input.at, '\n', input.bytes);
    uint32_t bytes = end ? (uint32_t)(end - input.at) : input.bytes;
    struct pl_slice value =
        bytes ? pl__slice_trim(pl__slice(input.at + 1, bytes - 1)) : input;
    if (bytes && pl__field_value_is_valid(value))
      fields[count++] = (struct pl_header){name_of(*input.at), value};
    input.at += end ? bytes + 1 : bytes;
    input.bytes -= end ? bytes + 1 : bytes;
  }
  return count;
}

static void check_context(const struct pl_context *c) {
  char parent[PL_TRACEPARENT_BYTES], id[PL_LIMIT_REQUEST_ID_BYTES];
  struct pl_context again = {0};

  CHECK(c->trace_id[0] | c->trace_id[1]);
  CHECK(c->span_id && c->request_id);
  CHECK(c->trace_flags <= (PL_TRACE_SAMPLED | PL_TRACE_RANDOM));
  CHECK(c->tier <= PL_TIER_LOW);
  CHECK(c->tenant_bytes <= PL_LIMIT_TENANT_BYTES);
  CHECK(c->caller_id_bytes <= PL_LIMIT_REQUEST_ID_BYTES);
  CHECK(!c->tenant_bytes ||
        pl__tenant_is_valid(pl__slice(c->tenant, c->tenant_bytes)));
  pl__traceparent_put(c, parent);
  CHECK(!pl__traceparent_parse(pl__slice(parent, sizeof parent), &again));
  CHECK(again.trace_id[0] == c->trace_id[0] &&
        again.trace_id[1] == c->trace_id[1] && again.parent_id == c->span_id &&
        again.trace_flags == c->trace_flags);
  uint32_t bytes = pl__request_id_put(c, id);
  for (uint32_t i = 0; i < bytes; i++)
    CHECK(id[i] > ' ' && id[i] < 0x7f);
}

/* What was written is written again as it is. */
static void check_state(uint32_t count) {
  static char out[PL_LIMIT_TRACESTATE_BYTES], again[PL_LIMIT_TRACESTATE_BYTES];
  uint32_t bytes = pl__tracestate_put(fields, count, out), commas = 0;
  struct pl_header h = {PL_SLICE("tracestate"), pl__slice(out, bytes)};

  CHECK(bytes <= sizeof out);
  for (uint32_t i = 0; i < bytes; i++) {
    CHECK(out[i] >= ' ' && out[i] <= '~');
    commas += out[i] == ',';
  }
  CHECK(commas < PL_LIMIT_TRACESTATE_MEMBERS);
  CHECK(pl__tracestate_put(&h, 1, again) == bytes);
  CHECK(!memcmp(out, again, bytes));
}

static void check_baggage(uint32_t count) {
  static char out[PL_LIMIT_BAGGAGE_BYTES], again[PL_LIMIT_BAGGAGE_BYTES];
  uint32_t bytes = pl__baggage_put(fields, count, out);
  struct pl_header h = {PL_SLICE("Baggage"), pl__slice(out, bytes)};
  struct pl_slice rest = h.value, member;
  uint32_t members = 0;

  CHECK(bytes <= sizeof out);
  CHECK(pl__baggage_put(&h, 1, again) == bytes);
  CHECK(!memcmp(out, again, bytes));
  while (pl__list_take(&rest, &member)) {
    const char *equal = memchr(member.at, '=', member.bytes);
    CHECK(equal);
    struct pl_slice key =
        pl__slice_trim(pl__slice(member.at, (size_t)(equal - member.at)));
    int value = pl__baggage_get(fields, count, key, again);
    CHECK(value >= 0 && (uint32_t)value <= sizeof again);
    members++;
  }
  CHECK(members <= PL_LIMIT_BAGGAGE_MEMBERS);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  struct pl_random random = {{1, 2, 3, 4}};
  struct pl_context_rules rules = {.request_id = PL_SLICE("x-request-id"),
                                   .tenant = PL_SLICE("X-Tenant"),
                                   .tier = PL_SLICE("X-Tier")};
  struct pl_peer peer = {.family = PL_PEER_UNIX};
  struct pl_req req = {.context = {.request_id = 1}};

  if (bytes > BYTES_MAX)
    return 0;
  req.headers = fields;
  req.header_count = read_fields(pl__slice((const char *)at, bytes));
  pl__networks_parse(&rules.trusted, "unix");
  pl__context_extract(&req, &rules, &peer, &random);
  check_context(&req.context);
  check_state(req.header_count);
  check_baggage(req.header_count);
  return 0;
}
