/* http/baggage.c - see baggage.h. */
#include "http/baggage.h"

#include "base/utf8.h"
#include "http/chars.h"
#include "http/headers.h"
#include "http/words.h"

/* baggage-octet is cookie-octet: visible ASCII without quotes, commas,
 * semicolons and backslashes. */
#define VALUE_CHAR PL_CHAR_COOKIE

/* Scanners take a place and give the one behind what they have read.  By value,
 * as bytes that are read through a pointer to a place could be the place. */
static inline const char *skip_blanks(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t'))
    at++;
  return at;
}

static inline const char *skip_class(const char *at, const char *end,
                                     int class_bits) {
  while (end - at >= 4 &&
         (pl__chars[(unsigned char)at[0]] & pl__chars[(unsigned char)at[1]] &
          pl__chars[(unsigned char)at[2]] & pl__chars[(unsigned char)at[3]] &
          class_bits))
    at += 4;
  while (at < end && pl__char_is(*at, class_bits))
    at++;
  return at;
}

/* Likewise of VALUE_CHAR, which most bytes are. */
static inline const char *skip_value(const char *at, const char *end) {
  for (; end - at >= 8; at += 8) {
    uint64_t w = pl__word(at);
    uint64_t ends = pl__word_outside(w, '!') | pl__word_find(w, '"') |
                    pl__word_find(w, ',') | pl__word_find(w, ';') |
                    pl__word_find(w, '\\');
    if (ends)
      return at + pl__word_first(ends);
  }
  return skip_class(at, end, VALUE_CHAR);
}

/* A member as it is read: where it begins and ends, white space aside. */
struct member {
  const char *from, *to;
  struct pl_slice key, value;
};

/* The properties behind a value, each with the ";" before it: key [ "=" value ],
 * or nothing.  Stops at what is none. */
static const char *scan_properties(const char *at, const char *end,
                                   struct member *m) {
  while (at < end && *at == ';') {
    const char *key = skip_blanks(at + 1, end);
    m->to = at + 1;
    at = skip_class(key, end, PL_CHAR_TOKEN);
    if (at > key)
      m->to = at;
    at = skip_blanks(at, end);
    if (m->to <= key || at == end || *at != '=')
      continue;
    m->to = at + 1;
    key = skip_blanks(at + 1, end);
    at = skip_value(key, end);
    if (at > key)
      m->to = at;
    at = skip_blanks(at, end);
  }
  return at;
}

/* key "=" value and its properties.  NULL: it does not begin like one; else
 * where it stops, which is at a comma or the end if it is one. */
static const char *scan_member(const char *at, const char *end,
                               struct member *m) {
  m->from = at = skip_blanks(at, end);
  at = skip_class(at, end, PL_CHAR_TOKEN);
  m->key = pl__slice(m->from, (size_t)(at - m->from));
  at = skip_blanks(at, end);
  if (!m->key.bytes || at == end || *at != '=')
    return NULL;
  m->to = at + 1;
  m->value.at = at = skip_blanks(at + 1, end);
  at = skip_value(at, end);
  m->value.bytes = (uint32_t)(at - m->value.at);
  if (m->value.bytes)
    m->to = at;
  return scan_properties(skip_blanks(at, end), end, m);
}

/* The walk over the members that count. */
struct walk {
  const struct pl_header *next, *last; /* fields that were not looked at yet */
  const char *at, *end;                /* what is left of the one in hand */
  uint32_t left;                       /* members that may still come */
  uint32_t bytes; /* of those so far, with a comma behind each */
};

static struct walk begin_walk(const struct pl_header *headers, uint32_t count) {
  return (struct walk){.next = headers,
                       .last = headers + count,
                       .left = PL_LIMIT_BAGGAGE_MEMBERS};
}

/* Whether there is something left to scan. */
static int has_more(struct walk *w) {
  const struct pl_header *h = w->next;

  if (w->at < w->end)
    return 1;
  for (; h < w->last; h++)
    if (pl__baggage_is(h->name) && h->value.bytes) {
      w->at = h->value.at;
      w->end = w->at + h->value.bytes;
      w->next = h + 1;
      return 1;
    }
  w->next = h;
  return 0;
}

static int next_member(struct walk *w, struct member *m) {
  while (w->left && has_more(w)) {
    const char *stop = scan_member(w->at, w->end, m);
    const char *comma = stop ? stop : w->at;
    int is_one = stop && (stop == w->end || *stop == ',');

    if (!is_one)
      comma = memchr(comma, ',', (size_t)(w->end - comma));
    w->at = comma && comma < w->end ? comma + 1 : w->end;
    if (!is_one)
      continue;
    w->bytes += (uint32_t)(m->to - m->from);
    if (w->bytes > PL_LIMIT_BAGGAGE_BYTES)
      return 0;
    w->bytes++;
    w->left--;
    return 1;
  }
  return 0;
}

uint32_t pl__baggage_put(const struct pl_header *headers, uint32_t count,
                         char *out) {
  struct walk w = begin_walk(headers, count);
  struct pl_join join = {.out = out};
  struct member m;

  while (next_member(&w, &m))
    pl__join(&join, m.from, m.to);
  return pl__join_end(&join);
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
  struct member m;

  while (next_member(&w, &m))
    if (pl__slice_equal(m.key, key))
      return (int)decode(m.value, out);
  return -1;
}
