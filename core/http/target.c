#include "http/target.h"

#include "base/err.h"
#include "http/chars.h"

/* ---- the host ---- */

static int is_port(struct pl_slice s) {
  uint32_t port = 0;
  if (s.bytes > 5) /* an empty one is valid (RFC 3986 3.2.3) */
    return 0;
  for (uint32_t i = 0; i < s.bytes; i++) {
    if (!pl__char_is_digit(s.at[i]))
      return 0;
    port = port * 10 + (uint32_t)(s.at[i] - '0');
  }
  return port <= 65535;
}

/* What may stand between brackets, without counting the groups: whoever
 * connects to it will. No zone, as that means nothing to another machine. */
static int is_bracketed(struct pl_slice s) {
  int colons = 0;
  for (uint32_t i = 0; i < s.bytes; i++) {
    if (s.at[i] == ':')
      colons++;
    else if (pl__char_hex(s.at[i]) < 0 && s.at[i] != '.')
      return 0;
  }
  return colons >= 2 && s.bytes <= 45;
}

static int is_host(struct pl_slice s) {
  uint32_t i = 0;

  if (!s.bytes)
    return 0;
  if (s.at[0] == '[') {
    const char *end = memchr(s.at, ']', s.bytes);
    if (!end || !is_bracketed(pl__slice(s.at + 1, (size_t)(end - s.at - 1))))
      return 0;
    i = (uint32_t)(end - s.at) + 1;
  } else {
    while (i < s.bytes && s.at[i] != ':') {
      if (s.at[i] == '%') {
        if (i + 2 >= s.bytes || pl__char_hex(s.at[i + 1]) < 0 ||
            pl__char_hex(s.at[i + 2]) < 0)
          return 0;
        i += 2;
      } else if (!pl__char_is(s.at[i], PL_CHAR_HOST)) {
        return 0;
      }
      i++;
    }
    if (i == 0)
      return 0;
  }
  if (i == s.bytes)
    return 1;
  return s.at[i] == ':' && is_port(pl__slice(s.at + i + 1, s.bytes - i - 1));
}

/* Clients name the same few hosts again and again: the last good one of this
 * thread is known by its bytes. */
int pl__target_is_host(struct pl_slice s) {
  static _Thread_local struct {
    uint32_t bytes;
    char at[60];
  } last;

  if (s.bytes == last.bytes && s.bytes && memcmp(s.at, last.at, s.bytes) == 0)
    return 1;
  if (!is_host(s))
    return 0;
  if (s.bytes <= sizeof last.at) {
    memcpy(last.at, s.at, s.bytes);
    last.bytes = s.bytes;
  }
  return 1;
}

/* ---- the path ---- */

/* Decodes escapes into `to`. Returns the bytes, or -1. */
static int64_t decode_path(struct pl_slice raw, char *to) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < raw.bytes; i++) {
    char c = raw.at[i];
    if (c == '%') {
      if (i + 2 >= raw.bytes)
        return -1;
      int hi = pl__char_hex(raw.at[i + 1]), lo = pl__char_hex(raw.at[i + 2]);
      if (hi < 0 || lo < 0 || (hi | lo) == 0)
        return -1;
      char decoded = (char)(hi << 4 | lo);
      if (decoded != '/') { /* which stays an escape */
        c = decoded;
        i += 2;
      }
    }
    to[n++] = c;
  }
  return n;
}

/* Removes "." and ".." segments in place (RFC 3986 5.2.4; `path` begins with
 * "/"), but refuses to go above the root. Returns the bytes, or -1. */
static int64_t remove_dots(char *path, uint32_t bytes) {
  uint32_t n = 0; /* kept; always a whole number of "/segment" */
  for (uint32_t i = 0; i < bytes;) {
    const char *segment = path + i + 1;
    const char *slash = memchr(segment, '/', bytes - i - 1);
    uint32_t end = slash ? (uint32_t)(slash - path) : bytes;
    uint32_t length = end - i - 1;
    int is_dot = length == 1 && segment[0] == '.';
    int is_up = length == 2 && segment[0] == '.' && segment[1] == '.';

    if (is_up) {
      if (n == 0)
        return -1;
      while (path[--n] != '/')
        ;
    }
    if (!is_dot && !is_up) {
      memmove(path + n, path + i, end - i);
      n += end - i;
    } else if (end == bytes) {
      path[n++] = '/'; /* "/a/." is the folder "/a/" */
    }
    i = end;
  }
  return n;
}

/* What a walk over path and query found. */
struct walk {
  uint32_t path_bytes;
  int is_plain; /* nothing to decode or remove */
};

/* Looks at all bytes once. Returns -1 on one that may not be there. */
static int walk(struct pl_slice s, struct walk *w) {
  uint32_t i = 0;
  char before = 0;

  w->is_plain = 1;
  for (; i < s.bytes; i++) {
    char c = s.at[i];
    if (!pl__char_is(c, PL_CHAR_PLAIN)) {
      if (c == '?')
        break;
      if (c != '/' && c != '%')
        return -1;
      if (c == '%')
        w->is_plain = 0;
    } else if (c == '.' && before == '/') {
      w->is_plain = 0; /* perhaps: ".well-known" is found not to be later */
    }
    before = c;
  }
  w->path_bytes = i;
  for (; i < s.bytes; i++)
    if (!pl__char_is(s.at[i], PL_CHAR_TARGET))
      return -1;
  return 0;
}

/* Sets path and query from "path[?query]" (path empty or with a "/" first). */
static int split(struct pl_req *req, struct pl_slice s, char *scratch,
                 uint32_t scratch_bytes) {
  struct pl_slice path, query = PL_SLICE("");
  struct walk w;

  if (walk(s, &w))
    return PL_EBAD;
  path = pl__slice(s.at, w.path_bytes);
  if (w.path_bytes < s.bytes)
    query = pl__slice(s.at + w.path_bytes + 1, s.bytes - w.path_bytes - 1);
  if (!path.bytes)
    path = PL_SLICE("/"); /* "http://host" */
  if (!w.is_plain) {
    if (scratch_bytes < path.bytes)
      return PL_EFULL;
    int64_t n = decode_path(path, scratch);
    if (n >= 0)
      n = remove_dots(scratch, (uint32_t)n);
    if (n < 0)
      return PL_EBAD;
    path = pl__slice(scratch, (size_t)n);
  }
  req->path = path;
  req->query = query;
  return 0;
}

/* Bytes of "http://" or "https://" that `s` begins with, or 0. */
static uint32_t scheme_bytes(struct pl_slice s) {
  if (s.bytes > 7 &&
      pl__slice_equal_nocase(pl__slice(s.at, 4), PL_SLICE("http"))) {
    if (memcmp(s.at + 4, "://", 3) == 0)
      return 7;
    if (s.bytes > 8 && (s.at[4] | 0x20) == 's' &&
        memcmp(s.at + 5, "://", 3) == 0)
      return 8;
  }
  return 0;
}

static int parse_absolute(struct pl_req *req, char *scratch,
                          uint32_t scratch_bytes) {
  const struct pl_slice t = req->target;
  uint32_t from = scheme_bytes(t), end = from;

  if (!from)
    return PL_EBAD;
  while (end < t.bytes && t.at[end] != '/' && t.at[end] != '?')
    end++;
  struct pl_slice host = pl__slice(t.at + from, end - from);
  if (!pl__target_is_host(host))
    return PL_EBAD;
  int status =
      split(req, pl__slice(t.at + end, t.bytes - end), scratch, scratch_bytes);
  if (!status)
    req->host = host;
  return status;
}

int pl__target_parse(struct pl_req *req, char *scratch,
                     uint32_t scratch_bytes) {
  const struct pl_slice t = req->target;

  if (!t.bytes)
    return PL_EBAD;
  if (t.at[0] == '/')
    return split(req, t, scratch, scratch_bytes);
  if (t.bytes == 1 && t.at[0] == '*') {
    if (req->method != PL_METHOD_OPTIONS)
      return PL_EBAD;
    req->flags |= PL_REQ_ASTERISK;
    req->path = PL_SLICE("/");
    req->query = PL_SLICE("");
    return 0;
  }
  return parse_absolute(req, scratch, scratch_bytes);
}
