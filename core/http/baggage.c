/* http/baggage.c - see baggage.h. */
#include "http/baggage.h"

#include "base/utf8.h"
#include "http/chars.h"

/* baggage-octet is cookie-octet: visible ASCII without quotes, commas,
 * semicolons and backslashes. */
#define VALUE_CHAR PL_CHAR_COOKIE

/* What is left of a field. */
struct scan {
  const char *at;
  const char *end;
};

/* The loops keep their place in a register, not in *s: its bytes could be those
 * that are read. */
static void skip_blanks(struct scan *s) {
  const char *at = s->at, *end = s->end;

  while (at < end && (*at == ' ' || *at == '\t'))
    at++;
  s->at = at;
}

static struct pl_slice take_span(struct scan *s, int class_bits) {
  const char *from = s->at, *at = from, *end = s->end;

  while (at < end && pl__char_is(*at, class_bits))
    at++;
  s->at = at;
  return pl__slice(from, (size_t)(at - from));
}

static int take_char(struct scan *s, char c) {
  if (s->at == s->end || *s->at != c)
    return 0;
  s->at++;
  return 1;
}

/* key "=" value, or for a property the key alone; *end is set behind it. 0: it
 * is none. */
static int take_pair(struct scan *s, struct pl_header *pair, int is_property,
                     const char **end) {
  skip_blanks(s);
  pair->name = take_span(s, PL_CHAR_TOKEN);
  *end = s->at;
  skip_blanks(s);
  if (!pair->name.bytes)
    return 0;
  if (!take_char(s, '='))
    return is_property;
  *end = s->at;
  skip_blanks(s);
  pair->value = take_span(s, VALUE_CHAR);
  if (pair->value.bytes)
    *end = s->at;
  skip_blanks(s);
  return 1;
}

/* Takes a member with its properties and the comma behind it; *end is set
 * behind it. 0: it is malformed, and was skipped. */
static int take_member(struct scan *s, struct pl_header *pair,
                       const char **end) {
  struct pl_header property;
  const char *comma;
  int ok = take_pair(s, pair, 0, end);

  while (ok && take_char(s, ';')) {
    *end = s->at;
    skip_blanks(s);
    if (s->at < s->end && *s->at != ';' && *s->at != ',')
      ok = take_pair(s, &property, 1, end);
  }
  if (ok && (s->at == s->end || take_char(s, ',')))
    return 1;
  comma = memchr(s->at, ',', (size_t)(s->end - s->at));
  s->at = comma ? comma + 1 : s->end;
  return 0;
}

/* The walk over the members that count. */
struct walk {
  const struct pl_header *headers;
  uint32_t count; /* of headers */
  uint32_t next;  /* index of the one after the one in hand */
  struct scan scan;
  uint32_t left;  /* members that may still come */
  uint32_t bytes; /* of those so far, with a comma behind each */
};

static struct walk begin_walk(const struct pl_header *headers, uint32_t count) {
  return (struct walk){
      .headers = headers, .count = count, .left = PL_LIMIT_BAGGAGE_MEMBERS};
}

/* Whether there is something left to scan. */
static int has_more(struct walk *w) {
  while (w->scan.at == w->scan.end) {
    const struct pl_header *h;
    if (w->next == w->count)
      return 0;
    h = &w->headers[w->next++];
    if (pl__baggage_is(h->name) && h->value.bytes)
      w->scan = (struct scan){h->value.at, h->value.at + h->value.bytes};
  }
  return 1;
}

static int next_member(struct walk *w, struct pl_slice *member,
                       struct pl_header *pair) {
  const char *from, *end;

  while (w->left && has_more(w)) {
    skip_blanks(&w->scan);
    from = w->scan.at;
    if (!take_member(&w->scan, pair, &end))
      continue;
    *member = pl__slice(from, (size_t)(end - from));
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
