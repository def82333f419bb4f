#include "http/query.h"

#include "base/arena.h"
#include "base/err.h"
#include "http/chars.h"

enum { QUERIES_PARSED = 1 };

/* Counts the pieces between "&", empty ones aside; stops past `max`. */
static uint32_t count_pieces(struct pl_slice s, uint32_t max) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < s.bytes && count <= max; i++)
    if (s.at[i] != '&' && (i == 0 || s.at[i - 1] == '&'))
      count++;
  return count;
}

/* Decodes `s`, into the arena if there is anything to decode. Returns -1 when
 * that is full. */
static int decode(struct pl_slice *s, struct pl_arena *arena) {
  uint32_t i = 0, n = 0;

  while (i < s->bytes && s->at[i] != '+' && s->at[i] != '%')
    i++;
  if (i == s->bytes)
    return 0;
  char *to = pl__arena_take(arena, s->bytes, 1);
  if (!to)
    return -1;
  for (i = 0; i < s->bytes; i++) {
    char c = s->at[i];
    if (c == '+') {
      c = ' ';
    } else if (c == '%' && i + 2 < s->bytes) {
      int hi = pl__char_hex(s->at[i + 1]), lo = pl__char_hex(s->at[i + 2]);
      if (hi >= 0 && lo >= 0) {
        c = (char)(hi << 4 | lo);
        i += 2;
      }
    }
    to[n++] = c;
  }
  *s = pl__slice(to, n);
  return 0;
}

int pl__query_parse(struct pl_slice text, struct pl_arena *arena,
                    uint32_t count_max, struct pl_header **fields,
                    uint32_t *count) {
  uint32_t pieces = count_pieces(text, count_max), n = 0;
  struct pl_header *made;

  if (pieces > count_max)
    return PL_EFULL;
  if (!pieces) {
    *fields = NULL;
    *count = 0;
    return 0;
  }
  made = pl__arena_take(arena, pieces * (uint32_t)sizeof(*made),
                        _Alignof(struct pl_header));
  if (!made)
    return PL_ENOMEM;
  for (uint32_t i = 0; i < text.bytes;) {
    const char *at = text.at + i;
    const char *amp = memchr(at, '&', text.bytes - i);
    uint32_t bytes = amp ? (uint32_t)(amp - at) : text.bytes - i;
    i += bytes + 1;
    if (!bytes)
      continue;
    const char *eq = memchr(at, '=', bytes);
    const char *end = at + bytes;
    struct pl_header f = {
        pl__slice(at, eq ? (size_t)(eq - at) : bytes),
        pl__slice(eq ? eq + 1 : end, eq ? (size_t)(end - eq - 1) : 0)};
    if (decode(&f.name, arena) || decode(&f.value, arena))
      return PL_ENOMEM;
    made[n++] = f;
  }
  *fields = made;
  *count = n;
  return 0;
}

int pl__req_queries(struct pl_req *req) {
  int status;

  if (req->parsed & QUERIES_PARSED)
    return 0;
  req->query_count = 0;
  status = pl__query_parse(req->query, req->arena, PL_LIMIT_QUERY_FIELDS,
                           &req->queries, &req->query_count);
  if (!status)
    req->parsed |= QUERIES_PARSED;
  return status;
}

int pl__fields_find(const struct pl_header *fields, uint32_t count,
                    struct pl_slice name, uint32_t from) {
  for (uint32_t i = from; i < count; i++)
    if (pl__slice_equal(fields[i].name, name))
      return (int)i;
  return -1;
}
