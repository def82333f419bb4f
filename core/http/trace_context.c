/* http/trace_context.c - see trace_context.h.
 *
 *     traceparent: version "-" trace-id "-" parent-id "-" trace-flags
 *     00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *     0  3                                36               53
 */
#include "http/trace_context.h"

#include "base/err.h"
#include "base/hex.h"
#include "base/utf8.h"
#include "http/baggage.h"
#include "http/chars.h"
#include "http/headers.h"
#include "http/words.h"

enum { TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53 };

#define KEY_BYTES_MAX 256u
#define VALUE_BYTES_MAX 256u
#define MEMBER_BYTES_LARGE 128u /* go first when not all can stay */

_Static_assert(PL_TENANT_BYTES_MAX == PL_LIMIT_TENANT_BYTES &&
                   PL_CALLER_ID_BYTES_MAX == PL_LIMIT_REQUEST_ID_BYTES,
               "Lua is told the same");

/* --- names -------------------------------------------------------------- */

/* The names are letters only, and of a letter the bit 0x20 is its case. */
static uint64_t lower8(const char *at) {
  return pl__word(at) | 0x2020202020202020u;
}

static int is_same(const char *at, const char *name, uint32_t bytes) {
  return lower8(at) == lower8(name) &&
         lower8(at + bytes - 8) == lower8(name + bytes - 8);
}

static int is_traceparent(struct pl_slice name) {
  return name.bytes == 11 && is_same(name.at, "traceparent", 11);
}

static int is_tracestate(struct pl_slice name) {
  return name.bytes == 10 && is_same(name.at, "tracestate", 10);
}

/* --- traceparent -------------------------------------------------------- */

/* Version and flags, as one number: vvff0000. 0: they are none. */
static int parse_ends(const char *at, uint32_t *ends) {
  const char digits[8] = {at[0], at[1], at[FLAGS_AT], at[FLAGS_AT + 1],
                          '0',   '0',   '0',          '0'};

  return pl__hex_get32(digits, ends);
}

int pl__traceparent_parse(struct pl_slice text, struct pl_context *c) {
  uint64_t high, low, parent;
  uint32_t ends, version;
  const char *at;

  text = pl__slice_trim(text);
  at = text.at;
  if (text.bytes < PL_TRACEPARENT_BYTES || at[TRACE_AT - 1] != '-' ||
      at[PARENT_AT - 1] != '-' || at[FLAGS_AT - 1] != '-')
    return PL_EBAD;
  if (!(parse_ends(at, &ends) & pl__hex_get(at + TRACE_AT, &high) &
        pl__hex_get(at + TRACE_AT + 16, &low) &
        pl__hex_get(at + PARENT_AT, &parent)) ||
      !(high | low) || !parent)
    return PL_EBAD;
  version = ends >> 24;
  if (version == 0xff)
    return PL_EBAD;
  if (text.bytes > PL_TRACEPARENT_BYTES &&
      (version == 0 || at[PL_TRACEPARENT_BYTES] != '-'))
    return PL_EBAD;
  c->trace_id[0] = high;
  c->trace_id[1] = low;
  c->parent_id = parent;
  c->trace_flags = ends >> 16 & (PL_TRACE_SAMPLED | PL_TRACE_RANDOM);
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

/* A bit by the length of a name: most fields are none of those looked for. */
static uint64_t length_bit(uint32_t bytes) {
  return bytes ? UINT64_C(1) << bytes % 64 : 0;
}

/* The fields of a trace, in one walk over all of them. */
struct trace_fields {
  struct pl_slice parent; /* the last one */
  uint32_t parent_count;
  int passes; /* PL_PASSES_* */
  uint32_t passes_at;
};

static void look_at(struct trace_fields *f, const struct pl_header *h) {
  if (!((length_bit(11) | length_bit(10) | length_bit(7)) &
        length_bit(h->name.bytes)))
    return;
  if (is_traceparent(h->name)) {
    f->parent = h->value;
    f->parent_count++;
  } else if (is_tracestate(h->name)) {
    f->passes |= PL_PASSES_STATE;
  } else if (pl__baggage_is(h->name)) {
    f->passes |= PL_PASSES_BAGGAGE;
  }
}

static void extract_trace(struct pl_req *req, struct pl_random *random) {
  struct pl_context *c = &req->context;
  struct trace_fields f = {.passes = 0};

  for (uint32_t i = 0; i < req->header_count; i++) {
    look_at(&f, &req->headers[i]);
    f.passes_at += !f.passes;
  }
  if (f.parent_count != 1 || pl__traceparent_parse(f.parent, c)) {
    begin_trace(c, random);
    f.passes &= ~PL_PASSES_STATE; /* it is of a trace that this one isn't */
  }
  c->passes = (uint8_t)f.passes;
  c->passes_at = f.passes_at < UINT8_MAX ? (uint8_t)f.passes_at : UINT8_MAX;
}

/* A field that counts only when it comes once. */
struct single {
  struct pl_slice name; /* empty: it is not looked for */
  struct pl_slice value;
  uint32_t count;
};

static void look_for(struct single *s, const struct pl_header *h) {
  if (h->name.bytes == s->name.bytes &&
      pl__slice_equal_nocase(h->name, s->name)) {
    s->value = h->value;
    s->count++;
  }
}

/* Empty when there is none, or more than one. */
static struct pl_slice value_of(const struct single *s) {
  return s->count == 1 ? s->value : PL_SLICE("");
}

/* Visible ASCII: fit for a log line and a field of a response. */
static int is_visible(struct pl_slice s) {
  uint32_t i = 0;

  for (; s.bytes - i >= 8; i += 8)
    if (pl__word_outside(pl__word(s.at + i), '!'))
      return 0;
  for (; i < s.bytes; i++)
    if (s.at[i] < '!' || s.at[i] > '~')
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

static const struct pl_slice tiers[] = {[PL_TIER_NORMAL] = {"normal", 6},
                                        [PL_TIER_HIGH] = {"high", 4},
                                        [PL_TIER_LOW] = {"low", 3}};

/* PL_TIER_* by its name in any case, or -1. */
static int tier_parse(struct pl_slice name) {
  for (int i = 0; i < 3; i++)
    if (pl__slice_equal_nocase(name, tiers[i]))
      return i;
  return -1;
}

static void extract_trusted(struct pl_req *req,
                            const struct pl_context_rules *rules) {
  struct pl_context *c = &req->context;
  struct single id = {.name = rules->request_id};
  struct single tenant = {.name = rules->tenant};
  struct single tier = {.name = rules->tier};
  uint64_t lengths = length_bit(id.name.bytes) | length_bit(tenant.name.bytes) |
                     length_bit(tier.name.bytes);
  int number;

  for (uint32_t i = 0; i < req->header_count; i++) {
    if (!(lengths & length_bit(req->headers[i].name.bytes)))
      continue;
    look_for(&id, &req->headers[i]);
    look_for(&tenant, &req->headers[i]);
    look_for(&tier, &req->headers[i]);
  }
  take_request_id(c, value_of(&id));
  if (pl__tenant_is_valid(value_of(&tenant))) {
    memcpy(c->tenant, tenant.value.at, tenant.value.bytes);
    c->tenant_bytes = (uint8_t)tenant.value.bytes;
  }
  number = tier_parse(value_of(&tier));
  if (number >= 0)
    c->tier = (uint8_t)number;
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
  if (is_visible(text)) /* as most are */
    return text.bytes && text.bytes <= PL_LIMIT_TENANT_BYTES;
  for (uint32_t i = 0, n; i < text.bytes; i += n)
    if (!(n = pl__utf8_bytes(text, i)))
      return 0;
  return text.bytes && text.bytes <= PL_LIMIT_TENANT_BYTES &&
         !memchr(text.at, '\t', text.bytes) && pl__field_value_is_valid(text);
}

/* --- tracestate --------------------------------------------------------- */

/* a-z 0-9 _ - * / @, of 64 characters each. */
static int is_key_char(char c) {
  static const uint64_t keys[4] = {UINT64_C(0x3ff) << '0' | UINT64_C(1) << '-' |
                                       UINT64_C(1) << '*' | UINT64_C(1) << '/',
                                   UINT64_C(0x3ffffff) << ('a' - 64) |
                                       UINT64_C(1) << ('_' - 64) |
                                       UINT64_C(1) << ('@' - 64)};
  unsigned char byte = (unsigned char)c;

  return keys[byte / 64] >> byte % 64 & 1;
}

/* How many bytes from `at` on are of a value: 0x20 to 0x7e without "," and "=".
 */
static uint32_t span_value(const char *at, uint32_t bytes) {
  uint32_t n = 0;

  for (; bytes - n >= 8; n += 8) {
    uint64_t w = pl__word(at + n);
    uint64_t ends = pl__word_outside(w, ' ') | pl__word_find(w, ',') |
                    pl__word_find(w, '=');
    if (ends)
      return n + pl__word_first(ends);
  }
  while (n < bytes && at[n] >= ' ' && at[n] < 0x7f && at[n] != ',' &&
         at[n] != '=')
    n++;
  return n;
}

static uint32_t skip_blanks(struct pl_slice s, uint32_t i) {
  while (i < s.bytes && (s.at[i] == ' ' || s.at[i] == '\t'))
    i++;
  return i;
}

/* Takes key "=" value (3.3.1.3) and the comma behind it off the front of *rest;
 * an empty member has no bytes.  0, or PL_EBAD: it is neither. */
static int take_state(struct pl_slice *rest, struct pl_slice *member) {
  struct pl_slice s = *rest;
  uint32_t first = skip_blanks(s, 0), key = first, value, end;

  while (key < s.bytes && is_key_char(s.at[key]))
    key++;
  end = key;
  if (key > first) {
    if (key == s.bytes || s.at[key] != '=' || key - first > KEY_BYTES_MAX ||
        !(s.at[first] >= 'a' || pl__char_is_digit(s.at[first])))
      return PL_EBAD;
    value = key + 1;
    end = value + span_value(s.at + value, s.bytes - value);
    while (end > value && s.at[end - 1] == ' ')
      end--;
    if (end == value || end - value > VALUE_BYTES_MAX)
      return PL_EBAD;
  }
  *member = pl__slice(s.at + first, end - first);
  end = skip_blanks(s, end);
  if (end < s.bytes && s.at[end] != ',')
    return PL_EBAD;
  end += end < s.bytes;
  *rest = pl__slice(s.at + end, s.bytes - end);
  return 0;
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

/* Those of one field, behind the *count that there are. */
static int list_field(struct pl_slice rest, struct pl_slice *list,
                      uint32_t *count, uint32_t *bytes) {
  struct pl_slice member;

  while (rest.bytes) {
    if (take_state(&rest, &member))
      return PL_EBAD;
    if (!member.bytes)
      continue;
    if (*count == PL_LIMIT_TRACESTATE_MEMBERS)
      return PL_EBAD;
    list[(*count)++] = member;
    *bytes += member.bytes + 1;
  }
  return 0;
}

uint32_t pl__tracestate_put(const struct pl_header *headers, uint32_t count,
                            char *out) {
  struct pl_slice list[PL_LIMIT_TRACESTATE_MEMBERS];
  struct pl_join join = {.out = out};
  uint32_t n = 0, bytes = 0;

  for (uint32_t i = 0; i < count; i++)
    if (is_tracestate(headers[i].name) &&
        list_field(headers[i].value, list, &n, &bytes))
      return 0;
  if (n)
    fit_state(list, &n, bytes);
  for (uint32_t i = 0; i < n; i++)
    pl__join(&join, list[i].at, list[i].at + list[i].bytes);
  return pl__join_end(&join);
}
