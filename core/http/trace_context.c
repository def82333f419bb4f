/* http/trace_context.c - see trace_context.h.
 *
 *     traceparent: version "-" trace-id "-" parent-id "-" trace-flags
 *     00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *     0  3                                36               53
 */
#include "http/trace_context.h"

#include "base/err.h"
#include "base/hex.h"
#include "http/chars.h"
#include "http/headers.h"

enum { TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53 };

#define KEY_BYTES_MAX 256u
#define VALUE_BYTES_MAX 256u
#define MEMBER_BYTES_LARGE 128u /* go first when not all can stay */

_Static_assert(PL_TENANT_BYTES_MAX == PL_LIMIT_TENANT_BYTES &&
                   PL_CALLER_ID_BYTES_MAX == PL_LIMIT_REQUEST_ID_BYTES,
               "Lua is told the same");

/* --- traceparent -------------------------------------------------------- */

/* Two lower-case hex digits, or -1. */
static int parse_byte(const char *at) {
  int high = pl__char_hex(at[0]), low = pl__char_hex(at[1]);

  if ((high | low) < 0 || (at[0] >= 'A' && at[0] <= 'F') ||
      (at[1] >= 'A' && at[1] <= 'F'))
    return -1;
  return high << 4 | low;
}

int pl__traceparent_parse(struct pl_slice text, struct pl_context *c) {
  uint64_t high, low, parent;
  const char *at;
  int version, flags;

  text = pl__slice_trim(text);
  at = text.at;
  if (text.bytes < PL_TRACEPARENT_BYTES || at[TRACE_AT - 1] != '-' ||
      at[PARENT_AT - 1] != '-' || at[FLAGS_AT - 1] != '-')
    return PL_EBAD;
  version = parse_byte(at);
  flags = parse_byte(at + FLAGS_AT);
  if (version < 0 || version == 0xff || flags < 0 ||
      !(pl__hex_get(at + TRACE_AT, &high) &
        pl__hex_get(at + TRACE_AT + 16, &low) &
        pl__hex_get(at + PARENT_AT, &parent)) ||
      !(high | low) || !parent)
    return PL_EBAD;
  if (text.bytes > PL_TRACEPARENT_BYTES &&
      (version == 0 || at[PL_TRACEPARENT_BYTES] != '-'))
    return PL_EBAD;
  c->trace_id[0] = high;
  c->trace_id[1] = low;
  c->parent_id = parent;
  c->trace_flags = (uint8_t)(flags & (PL_TRACE_SAMPLED | PL_TRACE_RANDOM));
  return 0;
}

void pl__traceparent_put(const struct pl_context *c, char *out) {
  memcpy(out, "00-", 3);
  pl__hex_put(out + TRACE_AT, c->trace_id[0]);
  pl__hex_put(out + TRACE_AT + 16, c->trace_id[1]);
  out[PARENT_AT - 1] = '-';
  pl__hex_put(out + PARENT_AT, c->span_id);
  out[FLAGS_AT - 1] = '-';
  out[FLAGS_AT] = '0';
  out[FLAGS_AT + 1] = (char)('0' + c->trace_flags);
}

uint32_t pl__request_id_put(const struct pl_context *c, char *out) {
  if (!c->caller_id_bytes) {
    pl__hex_put(out, c->request_id);
    return 16;
  }
  memcpy(out, c->caller_id, c->caller_id_bytes);
  return c->caller_id_bytes;
}

/* --- what comes in ------------------------------------------------------ */

static void begin_trace(struct pl_context *c, struct pl_random *random) {
  c->trace_id[0] = pl__random_next(random);
  c->trace_id[1] = pl__random_id(random);
  c->parent_id = 0;
  c->trace_flags = PL_TRACE_RANDOM;
}

void pl__context_begin(struct pl_context *c, struct pl_random *random) {
  begin_trace(c, random);
  c->span_id = pl__random_id(random);
}

/* The fields of a trace, in one walk over all of them. */
struct trace_fields {
  struct pl_slice parent; /* the last one */
  uint32_t parent_count;
  int passes; /* PL_PASSES_* */
};

static void look_at(struct trace_fields *f, const struct pl_header *h) {
  switch (h->name.bytes) {
  case sizeof("traceparent") - 1:
    if (!pl__slice_equal_nocase(h->name, PL_SLICE("traceparent")))
      return;
    f->parent = h->value;
    f->parent_count++;
    return;
  case sizeof("tracestate") - 1:
    if (pl__slice_equal_nocase(h->name, PL_SLICE("tracestate")))
      f->passes |= PL_PASSES_STATE;
    return;
  case sizeof("baggage") - 1:
    if (pl__slice_equal_nocase(h->name, PL_SLICE("baggage")))
      f->passes |= PL_PASSES_BAGGAGE;
    return;
  }
}

static void extract_trace(struct pl_req *req, struct pl_random *random) {
  struct pl_context *c = &req->context;
  struct trace_fields f = {.passes = 0};

  for (uint32_t i = 0; i < req->header_count; i++)
    look_at(&f, &req->headers[i]);
  if (f.parent_count != 1 || pl__traceparent_parse(f.parent, c)) {
    begin_trace(c, random);
    f.passes &= ~PL_PASSES_STATE; /* it is of a trace that this one isn't */
  }
  c->passes = (uint8_t)f.passes;
}

/* The value of the only field of that name; empty when there is none, or more
 * than one. */
static struct pl_slice single(const struct pl_req *req, struct pl_slice name) {
  int i = name.bytes ? pl__headers_find(req, name, 0) : -1;

  if (i < 0 || pl__headers_find(req, name, (uint32_t)i + 1) >= 0)
    return PL_SLICE("");
  return req->headers[i].value;
}

/* Visible ASCII: fit for a log line and a field of a response. */
static int is_visible(struct pl_slice s) {
  for (uint32_t i = 0; i < s.bytes; i++)
    if (s.at[i] <= ' ' || s.at[i] >= 0x7f)
      return 0;
  return 1;
}

static void take_request_id(struct pl_context *c, struct pl_slice text) {
  uint64_t number;

  if (text.bytes == 16 && pl__hex_get(text.at, &number) && number) {
    c->request_id = number; /* of the same make as ours */
  } else if (text.bytes && text.bytes <= sizeof c->caller_id &&
             is_visible(text)) {
    memcpy(c->caller_id, text.at, text.bytes);
    c->caller_id_bytes = (uint8_t)text.bytes;
  }
}

static void extract_trusted(struct pl_req *req,
                            const struct pl_context_rules *rules) {
  struct pl_context *c = &req->context;
  struct pl_slice tenant = single(req, rules->tenant);
  int tier = pl__tier_parse(single(req, rules->tier));

  take_request_id(c, single(req, rules->request_id));
  if (pl__tenant_is_valid(tenant)) {
    memcpy(c->tenant, tenant.at, tenant.bytes);
    c->tenant_bytes = (uint8_t)tenant.bytes;
  }
  if (tier >= 0)
    c->tier = (uint8_t)tier;
}

void pl__context_extract(struct pl_req *req,
                         const struct pl_context_rules *rules,
                         const struct pl_peer *peer, struct pl_random *random) {
  int is_trusted =
      rules->trusted.count && pl__networks_have(&rules->trusted, peer);

  if (is_trusted || !rules->trace_trusted_only)
    extract_trace(req, random);
  else
    begin_trace(&req->context, random);
  req->context.span_id = pl__random_id(random);
  if (is_trusted)
    extract_trusted(req, rules);
}

int pl__tenant_is_valid(struct pl_slice text) {
  return text.bytes && text.bytes <= PL_LIMIT_TENANT_BYTES &&
         !memchr(text.at, '\t', text.bytes) && pl__field_value_is_valid(text);
}

static const char *const tiers[] = {[PL_TIER_NORMAL] = "normal",
                                    [PL_TIER_HIGH] = "high",
                                    [PL_TIER_LOW] = "low"};

int pl__tier_parse(struct pl_slice name) {
  for (int i = 0; i < 3; i++)
    if (pl__slice_equal_nocase(name, pl__slice(tiers[i], strlen(tiers[i]))))
      return i;
  return -1;
}

const char *pl__tier_name(unsigned tier) {
  return tiers[tier <= PL_TIER_LOW ? tier : PL_TIER_NORMAL];
}

/* --- tracestate --------------------------------------------------------- */

static int is_key_char(char c, int is_first) {
  if ((c >= 'a' && c <= 'z') || pl__char_is_digit(c))
    return 1;
  return !is_first &&
         (c == '_' || c == '-' || c == '*' || c == '/' || c == '@');
}

/* key "=" value (3.3.1.3); white space around it is gone already. */
static int is_state_member(struct pl_slice m) {
  uint32_t key = 0, value;

  while (key < m.bytes && is_key_char(m.at[key], key == 0))
    key++;
  if (!key || key > KEY_BYTES_MAX || key == m.bytes || m.at[key] != '=')
    return 0;
  value = m.bytes - key - 1;
  if (!value || value > VALUE_BYTES_MAX)
    return 0;
  for (uint32_t i = key + 1; i < m.bytes; i++)
    if (m.at[i] < ' ' || m.at[i] > '~' || m.at[i] == '=')
      return 0;
  return 1;
}

/* Takes one out; `at` is its index. Returns what that saves. */
static uint32_t drop_member(struct pl_slice *list, uint32_t *count,
                            uint32_t at) {
  uint32_t saved = list[at].bytes + 1;

  --*count;
  memmove(list + at, list + at + 1, (*count - at) * sizeof *list);
  return saved;
}

/* Drops members until the rest fits; `bytes` is what they take now, with a
 * comma behind each. */
static void fit_state(struct pl_slice *list, uint32_t *count, uint32_t bytes) {
  for (uint32_t i = *count; i-- && bytes - 1 > PL_LIMIT_TRACESTATE_BYTES;)
    if (list[i].bytes > MEMBER_BYTES_LARGE)
      bytes -= drop_member(list, count, i);
  while (*count && bytes - 1 > PL_LIMIT_TRACESTATE_BYTES)
    bytes -= drop_member(list, count, *count - 1);
}

uint32_t pl__tracestate_put(const struct pl_header *headers, uint32_t count,
                            char *out) {
  struct pl_slice list[PL_LIMIT_TRACESTATE_MEMBERS], member;
  struct pl_members members = {
      .headers = headers, .count = count, .name = PL_SLICE("tracestate")};
  uint32_t n = 0, bytes = 0;
  char *to = out;

  while (pl__members_take(&members, &member)) {
    if (n == PL_LIMIT_TRACESTATE_MEMBERS || !is_state_member(member))
      return 0;
    list[n++] = member;
    bytes += member.bytes + 1;
  }
  if (n)
    fit_state(list, &n, bytes);
  for (uint32_t i = 0; i < n; i++) {
    if (i)
      *to++ = ',';
    memcpy(to, list[i].at, list[i].bytes);
    to += list[i].bytes;
  }
  return (uint32_t)(to - out);
}
