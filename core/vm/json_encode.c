/* vm/json_encode.c - writes JSON: the pl_json_* functions of bind_json.h, which
 * Lua calls by FFI for what lies in the tables it walks.
 */
#include "vm/bind_json.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/check.h"
#include "vm/decimal.h"
#include "vm/json_bytes.h"

static const char hex_digits[] = "0123456789abcdef";

/* The letter of a two-character escape; 0: \u is needed. */
static char escape_letter(unsigned char c) {
  switch (c) {
  case '"':
  case '\\':
    return (char)c;
  case '\b':
    return 'b';
  case '\f':
    return 'f';
  case '\n':
    return 'n';
  case '\r':
    return 'r';
  case '\t':
    return 't';
  default:
    return 0;
  }
}

static char *put_escape(char *out, unsigned char c) {
  char letter = escape_letter(c);

  *out++ = '\\';
  if (letter) {
    *out++ = letter;
    return out;
  }
  memcpy(out, "u00", 3);
  out[3] = hex_digits[c >> 4];
  out[4] = hex_digits[c & 15];
  return out + 5;
}

/* Copies plain bytes to *out, 16 at a time, and returns where the first other
 * one lies.  There is room for 16 bytes more than are copied. */
static const unsigned char *copy_plain(const unsigned char *at,
                                       const unsigned char *end, char **out) {
#ifdef __SSE2__
  while (end - at >= 16) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    unsigned bits = pl__json_special_bits(bytes);
    _mm_storeu_si128((__m128i *)(void *)*out, bytes);
    if (bits) {
      *out += __builtin_ctz(bits);
      return at + __builtin_ctz(bits);
    }
    *out += 16;
    at += 16;
  }
#endif
  while (at < end && pl__json_is_plain(*at))
    *(*out)++ = (char)*at++;
  return at;
}

/* Escapes [at, end) to `out`; NULL when it is not UTF-8. */
static char *put_escaped(char *out, const unsigned char *at,
                         const unsigned char *end) {
  while ((at = copy_plain(at, end, &out)) < end) {
    if (*at < 0x80) {
      out = put_escape(out, *at++);
      continue;
    }
    unsigned bytes = pl__json_sequence_bytes(at, end);
    if (bytes == 0)
      return NULL;
    memcpy(out, at, bytes);
    out += bytes;
    at += bytes;
  }
  return out;
}

/* Bytes that [at, end) has when it is escaped. */
static uint64_t count_escaped(const unsigned char *at,
                              const unsigned char *end) {
  uint64_t count = (uint64_t)(end - at);

  while ((at = pl__json_skip_plain(at, end)) < end) {
    if (*at < 0x80)
      count += escape_letter(*at) ? 1 : 5;
    at++;
  }
  return count;
}

/* Quotes, lead, colon, and the 16 bytes that copy_plain may run over. */
#define STRING_SPARE 20
#define NUMBER_SPARE (1 + PL_DECIMAL_BYTES_MAX)
#define WORD_SPARE 9    /* lead, and the 8 bytes that are stored at once */
#define BRACKET_SPARE 2 /* of an empty container both are written at its end */

static bool has_room(const struct pl_json_out *out, uint64_t bytes) {
  return out->cap - out->pos >= bytes;
}

/* Writes what is due in front of a value; returns where it goes. */
static char *put_lead(struct pl_json_out *out) {
  char *to = out->at + out->pos;

  if (out->lead)
    *to++ = (char)out->lead;
  return to;
}

/* Counts what lies up to `end` as written. */
static int32_t finish(struct pl_json_out *out, const char *end, uint32_t lead) {
  out->pos = (uint32_t)(end - out->at);
  out->lead = lead;
  return 0;
}

static int32_t put_quoted(struct pl_json_out *out, const char *text,
                          uint32_t bytes, bool key) {
  const unsigned char *at = (const unsigned char *)text;

  if (bytes > PL_JSON_TEXT_BYTES_MAX)
    return PL_JSON_REFUSED;
  /* Six bytes for each is the worst case.  Only when that has no room it is
   * worth a pass over the text to know better. */
  uint64_t need = (uint64_t)bytes * 6 + STRING_SPARE;
  if (!has_room(out, need)) {
    need = count_escaped(at, at + bytes) + STRING_SPARE;
    if (!has_room(out, need))
      return (int32_t)need;
  }
  char *to = put_lead(out);
  *to++ = '"';
  to = put_escaped(to, at, at + bytes);
  if (!to)
    return PL_JSON_REFUSED;
  *to++ = '"';
  if (!key)
    return finish(out, to, ',');
  *to++ = ':';
  return finish(out, to, 0);
}

int32_t pl_json_put_string(struct pl_json_out *out, const char *at,
                           uint32_t bytes) {
  return put_quoted(out, at, bytes, false);
}

int32_t pl_json_put_key(struct pl_json_out *out, const char *at,
                        uint32_t bytes) {
  return put_quoted(out, at, bytes, true);
}

int32_t pl_json_put_number(struct pl_json_out *out, double number) {
  if (!isfinite(number))
    return PL_JSON_REFUSED;
  if (!has_room(out, NUMBER_SPARE))
    return NUMBER_SPARE;
  char *to = put_lead(out);
  return finish(out, to + pl__decimal_encode(number, to), ',');
}

int32_t pl_json_put_i64(struct pl_json_out *out, int64_t number) {
  if (!has_room(out, NUMBER_SPARE))
    return NUMBER_SPARE;
  char *to = put_lead(out);
  return finish(out, to + pl__decimal_encode_i64(number, to), ',');
}

int32_t pl_json_put_u64(struct pl_json_out *out, uint64_t number) {
  if (!has_room(out, NUMBER_SPARE))
    return NUMBER_SPARE;
  char *to = put_lead(out);
  return finish(out, to + pl__decimal_encode_u64(number, to), ',');
}

int32_t pl_json_put_word(struct pl_json_out *out, uint32_t word) {
  static const char words[][8] = {"null", "false", "true"};

  if (PL_NEVER(word > PL_JSON_WORD_TRUE))
    return PL_JSON_REFUSED;
  if (!has_room(out, WORD_SPARE))
    return WORD_SPARE;
  char *to = put_lead(out);
  memcpy(to, words[word], sizeof words[word]); /* one store */
  return finish(out, to + (word == PL_JSON_WORD_FALSE ? 5 : 4), ',');
}

int32_t pl_json_open(struct pl_json_out *out, int32_t count) {
  if (out->depth >= PL_JSON_DEPTH_MAX)
    return PL_JSON_REFUSED;
  if (!has_room(out, BRACKET_SPARE))
    return BRACKET_SPARE;
  out->depth++;
  out->count[out->depth] = count;
  out->index[out->depth] = 0;
  /* The bracket is the lead of the first value: so no comma must go. */
  return finish(out, put_lead(out), count == PL_JSON_OBJECT ? '{' : '[');
}

int32_t pl_json_close(struct pl_json_out *out) {
  if (PL_NEVER(out->depth == 0 || out->depth > PL_JSON_DEPTH_MAX))
    return PL_JSON_REFUSED;
  if (!has_room(out, BRACKET_SPARE))
    return BRACKET_SPARE;
  if (out->lead == ',')
    out->lead = 0;
  char *to = put_lead(out);
  *to++ = out->count[out->depth] == PL_JSON_OBJECT ? '}' : ']';
  out->depth--;
  return finish(out, to, ',');
}

uint32_t pl_json_take(struct pl_json_out *out) {
  uint32_t was = out->busy;

  out->busy = 1;
  return was;
}
