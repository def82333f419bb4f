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

/* The index of the first comma outside of quoted strings, or the end. */
static uint32_t find_comma(struct pl_slice s) {
  int quoted = 0;
  uint32_t i;
  for (i = 0; i < s.bytes; i++) {
    char c = s.at[i];
    if (quoted && c == '\\' && i + 1 < s.bytes)
      i++;
    else if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      break;
  }
  return i;
}

int pl__list_take(struct pl_slice *rest, struct pl_slice *element) {
  while (rest->bytes) {
    uint32_t end = find_comma(*rest);
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
