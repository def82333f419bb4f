#include "http/headers.h"

#include "http/chars.h"

/* Case-insensitive comparison of eight and more bytes at once does not pay:
 * nearly all names differ in length or in the first byte. */
int pl__headers_find(const struct pl_req *req, struct pl_slice name,
                     uint32_t from) {
  for (uint32_t i = from; i < req->header_count; i++) {
    const struct pl_slice have = req->headers[i].name;
    if (have.bytes == name.bytes && pl__slice_equal_nocase(have, name))
      return (int)i;
  }
  return -1;
}

struct pl_slice pl__headers_get(const struct pl_req *req,
                                struct pl_slice name) {
  int i = pl__headers_find(req, name, 0);
  return i < 0 ? (struct pl_slice){0} : req->headers[i].value;
}

static int all_are(struct pl_slice s, int class_bits) {
  for (uint32_t i = 0; i < s.bytes; i++)
    if (!pl__char_is(s.at[i], class_bits))
      return 0;
  return 1;
}

int pl__field_name_is_valid(struct pl_slice name) {
  return name.bytes && all_are(name, PL_CHAR_TOKEN);
}

int pl__field_value_is_valid(struct pl_slice value) {
  return all_are(value, PL_CHAR_FIELD);
}

static int is_blank(char c) { return c == ' ' || c == '\t'; }

struct pl_slice pl__slice_trim(struct pl_slice s) {
  while (s.bytes && is_blank(*s.at))
    s.at++, s.bytes--;
  while (s.bytes && is_blank(s.at[s.bytes - 1]))
    s.bytes--;
  return s;
}

/* The index of the next `mark` outside of quoted strings from `i` on, or the
 * end. */
static uint32_t find_unquoted(struct pl_slice s, uint32_t i, char mark) {
  int quoted = 0;
  for (; i < s.bytes; i++) {
    char c = s.at[i];
    if (quoted && c == '\\' && i + 1 < s.bytes)
      i++;
    else if (c == '"')
      quoted = !quoted;
    else if (c == mark && !quoted)
      break;
  }
  return i;
}

int pl__list_take(struct pl_slice *rest, struct pl_slice *element) {
  while (rest->bytes) {
    uint32_t end = find_unquoted(*rest, 0, ',');
    struct pl_slice e = pl__slice_trim(pl__slice(rest->at, end));
    uint32_t gone = end < rest->bytes ? end + 1 : end;
    rest->at += gone;
    rest->bytes -= gone;
    if (e.bytes) {
      *element = e;
      return 1;
    }
  }
  return 0;
}

int pl__list_has(struct pl_slice value, struct pl_slice token) {
  struct pl_slice element;
  if (pl__slice_equal_nocase(value, token))
    return 1;
  while (pl__list_take(&value, &element))
    if (pl__slice_equal_nocase(element, token))
      return 1;
  return 0;
}

int pl__headers_have_token(const struct pl_req *req, struct pl_slice name,
                           struct pl_slice token) {
  for (int i = pl__headers_find(req, name, 0); i >= 0;
       i = pl__headers_find(req, name, (uint32_t)i + 1))
    if (pl__list_has(req->headers[i].value, token))
      return 1;
  return 0;
}

struct pl_slice pl__media_type_essence(struct pl_slice value) {
  const char *end = value.bytes ? memchr(value.at, ';', value.bytes) : NULL;
  if (end)
    value.bytes = (uint32_t)(end - value.at);
  return pl__slice_trim(value);
}

int pl__media_type_is(struct pl_slice value, struct pl_slice type) {
  return pl__slice_equal_nocase(pl__media_type_essence(value), type);
}

int pl__media_type_is_json(struct pl_slice value) {
  struct pl_slice e = pl__media_type_essence(value);
  if (pl__slice_equal_nocase(e, PL_SLICE("application/json")) ||
      pl__slice_equal_nocase(e, PL_SLICE("text/json")))
    return 1;
  if (e.bytes < sizeof("a/b+json") - 1 || !memchr(e.at, '/', e.bytes))
    return 0;
  return pl__slice_equal_nocase(pl__slice(e.at + e.bytes - 5, 5),
                                PL_SLICE("+json"));
}

struct pl_slice pl__media_type_parameter(struct pl_slice value,
                                         struct pl_slice name) {
  uint32_t i = find_unquoted(value, 0, ';');
  while (i < value.bytes) {
    uint32_t end = find_unquoted(value, ++i, ';');
    struct pl_slice piece = pl__slice_trim(pl__slice(value.at + i, end - i));
    const char *eq = piece.bytes ? memchr(piece.at, '=', piece.bytes) : NULL;
    i = end;
    if (!eq || !pl__slice_equal_nocase(
                   pl__slice(piece.at, (size_t)(eq - piece.at)), name))
      continue;
    struct pl_slice v =
        pl__slice(eq + 1, (size_t)(piece.at + piece.bytes - eq - 1));
    if (v.bytes >= 2 && v.at[0] == '"' && v.at[v.bytes - 1] == '"')
      v = pl__slice(v.at + 1, v.bytes - 2);
    return v;
  }
  return (struct pl_slice){0};
}

static const struct pl_slice METHODS[PL_METHOD_COUNT] = {
#define METHOD_NAME(number, name) [number] = {#name, sizeof(#name) - 1},
    PL_METHODS(METHOD_NAME)
#undef METHOD_NAME
};

struct pl_slice pl__method_name(uint8_t method) {
  return method < PL_METHOD_COUNT ? METHODS[method] : (struct pl_slice){0};
}

int pl__method_find(struct pl_slice name) {
  for (int i = 0; i < PL_METHOD_COUNT; i++)
    if (METHODS[i].bytes && pl__slice_equal(METHODS[i], name))
      return i;
  return -1;
}
