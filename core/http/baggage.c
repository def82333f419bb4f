/* http/baggage.c - see baggage.h. */
#include "http/baggage.h"

#include "base/utf8.h"
#include "http/chars.h"
#include "http/headers.h"

/* Takes what lies before the next `mark` off *rest, and the mark. */
static struct pl_slice take_until(struct pl_slice *rest, char mark) {
  const char *end = rest->bytes ? memchr(rest->at, mark, rest->bytes) : NULL;
  uint32_t bytes = end ? (uint32_t)(end - rest->at) : rest->bytes;
  struct pl_slice taken = pl__slice(rest->at, bytes);

  rest->at += end ? bytes + 1 : bytes;
  rest->bytes -= end ? bytes + 1 : bytes;
  return pl__slice_trim(taken);
}

/* baggage-octet, which is cookie-octet: visible ASCII without quotes, commas,
 * semicolons and backslashes. */
static int is_value(struct pl_slice s) {
  for (uint32_t i = 0; i < s.bytes; i++)
    if (!pl__char_is(s.at[i], PL_CHAR_COOKIE))
      return 0;
  return 1;
}

/* key [ "=" value ], white space around both. */
static int is_property(struct pl_slice s) {
  struct pl_slice key = take_until(&s, '=');

  return pl__field_name_is_valid(key) && is_value(pl__slice_trim(s));
}

/* Splits a member; 0: it is malformed. */
static int read_member(struct pl_slice rest, struct pl_header *pair) {
  struct pl_slice head = take_until(&rest, ';');
  const char *eq = head.bytes ? memchr(head.at, '=', head.bytes) : NULL;

  if (!eq)
    return 0;
  pair->name = take_until(&head, '=');
  pair->value = pl__slice_trim(head);
  if (!pl__field_name_is_valid(pair->name) || !is_value(pair->value))
    return 0;
  while (rest.bytes)
    if (!is_property(take_until(&rest, ';')))
      return 0;
  return 1;
}

/* The walk over the members that count. */
struct walk {
  struct pl_members members;
  uint32_t left;  /* members that may still come */
  uint32_t bytes; /* of those so far, with a comma behind each */
};

static struct walk begin_walk(const struct pl_header *headers, uint32_t count) {
  return (struct walk){.members = {.headers = headers,
                                   .count = count,
                                   .name = PL_SLICE("baggage")},
                       .left = PL_LIMIT_BAGGAGE_MEMBERS};
}

static int next_member(struct walk *w, struct pl_slice *member,
                       struct pl_header *pair) {
  while (w->left && pl__members_take(&w->members, member)) {
    if (!read_member(*member, pair))
      continue;
    if (w->bytes + member->bytes > PL_LIMIT_BAGGAGE_BYTES)
      return 0;
    w->bytes += member->bytes + 1;
    w->left--;
    return 1;
  }
  return 0;
}

uint32_t pl__baggage_put(const struct pl_header *headers, uint32_t count,
                         char *out) {
  struct walk w = begin_walk(headers, count);
  struct pl_slice member;
  struct pl_header pair;
  char *to = out;

  while (next_member(&w, &member, &pair)) {
    if (to > out)
      *to++ = ',';
    memcpy(to, member.at, member.bytes);
    to += member.bytes;
  }
  return (uint32_t)(to - out);
}

/* Percent-decodes into `to`; a "%" without two digits stands for itself. */
static uint32_t unescape(struct pl_slice s, char *to) {
  uint32_t n = 0;

  for (uint32_t i = 0; i < s.bytes; i++) {
    char c = s.at[i];
    if (c == '%' && i + 2 < s.bytes) {
      int high = pl__char_hex(s.at[i + 1]), low = pl__char_hex(s.at[i + 2]);
      if ((high | low) >= 0) {
        c = (char)(high << 4 | low);
        i += 2;
      }
    }
    to[n++] = c;
  }
  return n;
}

/* Never longer than the escaped text: a byte that has to be replaced by three
 * came as three. */
static uint32_t decode(struct pl_slice s, char *out) {
  char bytes[PL_LIMIT_BAGGAGE_BYTES];
  struct pl_slice text = pl__slice(bytes, unescape(s, bytes));
  char *to = out;

  for (uint32_t i = 0; i < text.bytes;) {
    uint32_t n = pl__utf8_bytes(text, i);
    memcpy(to, n ? text.at + i : PL_UTF8_REPLACEMENT, n ? n : 3);
    to += n ? n : 3;
    i += n ? n : 1;
  }
  return (uint32_t)(to - out);
}

int pl__baggage_get(const struct pl_header *headers, uint32_t count,
                    struct pl_slice key, char *out) {
  struct walk w = begin_walk(headers, count);
  struct pl_slice member;
  struct pl_header pair;

  while (next_member(&w, &member, &pair))
    if (pl__slice_equal(pair.name, key))
      return (int)decode(pair.value, out);
  return -1;
}
