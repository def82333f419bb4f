/* fuzz/fuzz_router.c - patterns and paths against a plain matcher.
 *
 * The router against a search through the list of patterns.
 *
 * The input is lines: one that begins with "/" after a method's letter adds a
 * pattern, and one that begins with "=" asks for a path:
 *
 *   G/notes/:id<int>
 *   P/notes
 *   =G/notes/7
 *
 * The plain search tries all patterns, so the trie must find whatever it
 * finds, and of several the one with the better segments.
 */
#include "http/router.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#define PATTERN_COUNT_MAX 24u
#define LINE_BYTES_MAX 200u

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

struct known {
  uint8_t method;
  struct pl_slice pattern;
};

static struct known known[PATTERN_COUNT_MAX];
static uint32_t known_count;

static int method_of(char letter) {
  switch (letter) {
  case 'G':
    return PL_METHOD_GET;
  case 'P':
    return PL_METHOD_POST;
  case 'H':
    return PL_METHOD_HEAD;
  case 'O':
    return PL_METHOD_OPTIONS;
  case 'A':
    return (int)PL_METHOD_ANY;
  default:
    return -1;
  }
}

/* Takes the next segment off the front of *rest (which begins with "/"). */
static struct pl_slice take_segment(struct pl_slice *rest) {
  struct pl_slice s = pl__slice(rest->at + 1, 0);
  while (s.bytes + 1 < rest->bytes && s.at[s.bytes] != '/')
    s.bytes++;
  *rest = pl__slice(s.at + s.bytes, rest->bytes - 1 - s.bytes);
  return s;
}

static int all_in(struct pl_slice s, const char *set) {
  for (uint32_t i = 0; i < s.bytes; i++)
    if (!s.at[i] || !strchr(set, s.at[i]))
      return 0;
  return 1;
}

#define DIGITS "0123456789"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int is_int(struct pl_slice s) {
  char text[24] = {0};
  if (!s.bytes || s.bytes > 17)
    return 0;
  memcpy(text, s.at, s.bytes);
  char again[32];
  long long n = strtoll(text, NULL, 10);
  snprintf(again, sizeof(again), "%lld", n);
  return strcmp(text, again) == 0 && strlen(text) == s.bytes &&
         n <= 1ll << 53 && n >= -(1ll << 53);
}

static int is_uuid(struct pl_slice s) {
  if (s.bytes != 36)
    return 0;
  for (uint32_t i = 0; i < 36; i++) {
    int dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (!all_in(pl__slice(s.at + i, 1), dash ? "-" : DIGITS "abcdefABCDEF"))
      return 0;
  }
  return 1;
}

static int ends_in(struct pl_slice s, const char *tail) {
  size_t n = strlen(tail);
  return s.bytes >= n && memcmp(s.at + s.bytes - n, tail, n) == 0;
}

/* How good a pattern's segment is for a path's: '0' static to '5' wildcard;
 * 0 when it does not fit. */
static char grade(struct pl_slice pattern, struct pl_slice segment) {
  if (pattern.bytes && pattern.at[0] == '*')
    return '5';
  if (!pattern.bytes || pattern.at[0] != ':')
    return pl__slice_equal(pattern, segment) ? '0' : 0;
  if (!segment.bytes)
    return 0;
  if (ends_in(pattern, "<int>"))
    return is_int(segment) ? '1' : 0;
  if (ends_in(pattern, "<uuid>"))
    return is_uuid(segment) ? '2' : 0;
  if (ends_in(pattern, "<slug>"))
    return all_in(segment, DIGITS LOWER UPPER "-_") ? '3' : 0;
  return '4';
}

/* The grades of all segments as a string, smaller is better; empty if the
 * pattern does not match. */
static void grade_all(struct pl_slice pattern, struct pl_slice path,
                      char *grades) {
  uint32_t n = 0;
  while (pattern.bytes && path.bytes) {
    char g = grade(take_segment(&pattern), take_segment(&path));
    if (!g) {
      grades[0] = 0;
      return;
    }
    grades[n++] = g;
    if (g == '5')
      path.bytes = 0;
  }
  grades[pattern.bytes || path.bytes ? 0 : n] = 0;
}

/* 3: the method itself, 2: HEAD by GET, 1: any, 0: not. */
static int method_rank(const struct known *k, uint8_t method) {
  if (k->method == method)
    return 3;
  if (method == PL_METHOD_HEAD && k->method == PL_METHOD_GET)
    return 2;
  return k->method == PL_METHOD_ANY;
}

static void ask(struct pl_router *r, uint8_t method, struct pl_slice path) {
  char best[LINE_BYTES_MAX + 1] = "", grades[LINE_BYTES_MAX + 1];
  int best_rank = 0, exists = 0;
  uint32_t best_route = 0;
  struct pl_req req = {.method = method, .path = path};

  for (uint32_t i = 0; i < known_count; i++) {
    grade_all(known[i].pattern, path, grades);
    if (!grades[0])
      continue;
    exists = 1;
    int rank = method_rank(&known[i], method);
    int order = best[0] ? strcmp(grades, best) : -1;
    if (rank && (order < 0 || (order == 0 && rank > best_rank))) {
      memcpy(best, grades, sizeof(best));
      best_rank = rank;
      best_route = i;
    }
  }
  switch (pl__router_match(r, &req)) {
  case PL_ROUTE_FOUND:
    CHECK(best[0]);
    CHECK(req.route == best_route);
    for (uint32_t i = 0; i < req.param_count; i++) {
      struct pl_slice text = req.params[i].text;
      CHECK(text.at >= path.at && text.at + text.bytes <= path.at + path.bytes);
    }
    break;
  case PL_ROUTE_NOT_ALLOWED:
    CHECK(exists && !best[0] && req.allow > 0);
    break;
  case PL_ROUTE_NOT_FOUND:
    CHECK(!exists);
    break;
  }
}

static void add(struct pl_router *r, uint8_t method, struct pl_slice pattern) {
  uint32_t conflict = UINT32_MAX;
  if (known_count == PATTERN_COUNT_MAX)
    return;
  int status = pl__router_add(r, method, pattern, known_count, &conflict);
  if (status == 0)
    known[known_count++] = (struct known){method, pattern};
  else if (status == PL_ECONFLICT)
    CHECK(conflict < known_count && known[conflict].method == method);
  else
    CHECK(status == PL_EINVAL && pl__router_error(r)[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  struct pl_router *r = pl__router_new();
  const char *text = (const char *)at, *end = text + bytes;

  CHECK(r);
  known_count = 0;
  while (text < end) {
    const char *stop = memchr(text, '\n', (size_t)(end - text));
    struct pl_slice line =
        pl__slice(text, (size_t)((stop ? stop : end) - text));
    text += line.bytes + 1;
    int asks = line.bytes && line.at[0] == '=';
    if (asks)
      line = pl__slice(line.at + 1, line.bytes - 1);
    if (line.bytes < 2 || line.bytes > LINE_BYTES_MAX)
      continue;
    int method = method_of(line.at[0]);
    line = pl__slice(line.at + 1, line.bytes - 1);
    if (method < 0 ||
        (asks && (method == (int)PL_METHOD_ANY || line.at[0] != '/')))
      continue;
    if (asks)
      ask(r, (uint8_t)method, line);
    else
      add(r, (uint8_t)method, line);
    if (!stop)
      break;
  }
  pl__router_free(r);
  return 0;
}
